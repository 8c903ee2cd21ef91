"""How a model for configuration search is pretrained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from flashfm.models.flash import FlashConfig
from flashfm.models.hierarchical_gp import PriorConfig

OnStep = Callable[[int, int], object]
"""Told of the steps that are done and of all of them."""


@dataclass(frozen=True)
class PretrainConfig:
    """How a model for configuration search is pretrained."""

    prior: PriorConfig = field(default_factory=PriorConfig)
    network: FlashConfig = field(default_factory=FlashConfig)
    likeness_steps: int = 150
    """Steps of learning which training pairs are alike; fewer with few pairs."""
    likeness_tasks: int = 400
    """Tasks of each K that it is learned on, at most."""
    inner_folds: int = 5
    """Folds for priors out of fold."""
    hold_out: float = 0.15
    """Share of the applications that calibration takes where there are many."""
    hold_out_from: int = 100
    """Applications from which they are held out once instead of in turns."""
    cross_folds: int = 4
    """Folds that take turns where there are few."""
    least_for_network: int = 12
    """Applications below which the prior stands alone: a network would learn them by heart."""
    members: int = 3
    """Networks that are trained alike, from other draws, and averaged."""
    steps_per_pair: float = 6.0
    """Optimisation steps for each training pair, within the two limits below; with few pairs it soon overfits."""
    least_steps: int = 300
    most_steps: int = 2500
    batch: int = 64
    """Tasks a step."""
    learning_rate: float = 2e-3
    """Peak of a one-cycle schedule, for AdamW."""
    weight_decay: float = 1e-3
    sets: int = 12
    """Random shot sets drawn of each pair and K."""
    shot_weights: tuple[float, ...] = (0.3, 0.25, 0.2, 0.125, 0.125)
    """How often a step is on K = 1, 2, … shots."""
    token_noise: float = 0.1
    """Standard deviation of noise added to standardised labels and metrics: what is measured twice differs, and a pair
    must not be told by its exact values."""
    metric_dropout: float = 0.1
    """Chance that a task's shots come without any metric, and that one metric is missing from all of them."""
    decode_weight: float = 0.1
    """Weight of the loss by which the embedding has to tell what the shots were."""

    def steps(self, pairs: int) -> int:
        """Optimisation steps for so many training pairs."""
        return int(min(max(self.steps_per_pair * pairs, self.least_steps), self.most_steps))
