"""Our model as a method of the comparison, and the parts of it that have to earn their place.

One model is pretrained for each split and kept as an artefact; the variants read the same one, so what a part gives is
the difference between two rows. Enters: observations. Leaves: fitted methods.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from flashfm.adapt.fewshot import FlashRegressor
from flashfm.models.flash import SHIFT, FlashModel
from flashfm.pretraining.supervised import PretrainConfig, pretrain
from flashfm.tasks.config_search import Observations, Shots

Variant = Literal["flashfm", "flashfm without network", "hierarchical GP"]
VARIANTS: tuple[Variant, ...] = ("flashfm", "flashfm without network", "hierarchical GP")
"""The whole model; its prior with learned likeness of pairs, but no network; the plain process, no likeness either."""


@dataclass(frozen=True)
class Ours:
    """Our model, or a variant of it."""

    name: Variant = "flashfm"
    store: Path | None = None
    """Folder of pretrained models, one for each seed; None keeps none."""
    config: PretrainConfig = field(default_factory=PretrainConfig)
    given: FlashModel | None = None
    """What was pretrained for the one seed that is asked about; it is not pretrained again."""
    per_shots: bool = False

    def fit(self, train: Observations, *, shots: int, seed: int) -> FittedOurs:
        """Pretrain, or read what was pretrained for this seed; one model serves any number of shots."""
        del shots
        return FittedOurs(self.model(train, seed), self.name)

    def model(self, train: Observations, seed: int) -> FlashModel:
        """The pretrained model behind all variants."""
        if self.given is not None:
            return self.given
        if self.store is None:
            return pretrain(train, self.config, seed=seed)
        folder = self.store / f"{seed:02d}"
        if not (folder / "config.json").exists():
            FlashRegressor(pretrain(train, self.config, seed=seed)).save_pretrained(folder)
        return FlashRegressor.from_pretrained(folder).model


@dataclass(frozen=True, eq=False)
class FittedOurs:
    """A pretrained model, or what is left of it in a variant."""

    model: FlashModel
    variant: Variant

    def predict(self, shots: Shots) -> Float[np.ndarray, "task config"]:
        """Run time in ms of every configuration of the grid, for each task."""
        if self.variant == "hierarchical GP":
            mean, variance = self.model.prior.gp.posterior(shots.config, shots.log_runtime)
            return np.exp(mean - SHIFT * variance)
        if self.variant == "flashfm without network":
            return np.asarray(np.exp(replace(self.model, nets=()).forecast(shots).point))
        return np.asarray(np.exp(self.model.forecast(shots).point))
