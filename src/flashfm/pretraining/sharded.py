"""Pretrains the autoscaling agent by several workers, each with its share of the pairs.

Enters: an engine, and what `autoscaling.pretrain` takes. Leaves: the model that all ranks made. Each rank simulates its
pairs and keeps their episodes, draws its part of each batch from them, and steps on the gradient that is the mean over
the pairs of all ranks, so that weights are the same everywhere. A rank whose worker is lost begins again with all
others, from the last episode that every one of them has kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from flashfm.engine.base import Engine, Told
from flashfm.engine.group import Group, run_together
from flashfm.engine.inline import Inline
from flashfm.models.agent import AgentModel
from flashfm.models.device import CPU
from flashfm.pretraining import autoscaling
from flashfm.pretraining.autoscaling import AutoscalingConfig
from flashfm.pretraining.checkpoints import INDEX, Checkpoints
from flashfm.pretraining.lived import Rules
from flashfm.pretraining.shares import least
from flashfm.tasks.autoscaling.scenario import Scenario


@dataclass(frozen=True)
class _Folder:
    """Where the run is kept, and what shows a rank that it sees that very folder."""

    path: Path
    index: bytes

    def seen(self) -> bool:
        """Whether this machine sees it."""
        try:
            return (self.path / INDEX).read_bytes() == self.index
        except OSError:
            return False


def pretrain(
    engine: Engine,
    scenario: Scenario,
    config: AutoscalingConfig | None = None,
    *,
    seed: int = 0,
    on_step: Callable[[int, int], object] = lambda *_: None,
    checkpoints: Checkpoints | None = None,
    rules: Mapping[str, Rules] | None = None,
    device: torch.device = CPU,
) -> tuple[AgentModel, float]:
    """Pretrain on all pairs of a scenario.

    Same seed and same number of workers, same model, bit for bit, on machines of one kind. Another number is another
    training, whose chance differs as that of another seed does. The engine of this very process does what
    `autoscaling.pretrain` does.

    Args:
        engine: where the ranks work; each of its workers is one.
        scenario: the pairs.
        config: settings.
        seed: of everything that chance decides.
        on_step: told of progress, in episodes.
        checkpoints: what a stopped run goes on from. Each rank has its own below that folder, where all machines see
            it; where one does not, nothing is kept.
        rules: as of `autoscaling.pretrain`; they can be pickled.
        device: of one worker alone; several take the CPU.

    Returns:
        The model, and the seconds worked on it, those of earlier processes included.

    Raises:
        ArtifactError: the checkpoints are damaged, or of another run.
        DataError: a checkpoint cannot be written.
        EngineError: workers are lost again and again, or there are too few.
        ModelError: there are more workers than can share the work.
    """
    config, checkpoints, rules = config or AutoscalingConfig(), checkpoints or Checkpoints(), rules or {}
    if isinstance(engine, Inline):
        model = autoscaling.pretrain(
            scenario, config, seed=seed, on_step=on_step, checkpoints=checkpoints, rules=rules, device=device
        )
        return model, checkpoints.seconds
    autoscaling.check_workers(scenario, config, engine.workers)
    checkpoints.belong(autoscaling.run_of(scenario, config, seed, list(rules), device, engine.workers))
    folder = None
    if checkpoints.folder is not None:
        path = checkpoints.folder.resolve()
        folder = _Folder(path, (path / INDEX).read_bytes())
    work = partial(_rank, scenario, config, seed, rules, device, folder)
    first = run_together(engine, work, engine.workers, on_step)[0]
    assert first is not None
    return first


def _rank(
    scenario: Scenario,
    config: AutoscalingConfig,
    seed: int,
    rules: Mapping[str, Rules],
    device: torch.device,
    folder: _Folder | None,
    group: Group,
    told: Told,
) -> tuple[AgentModel, float] | None:
    """One rank's work; the model comes back from the first."""
    seen = folder is not None and folder.seen()
    of_run = Checkpoints(folder.path if folder is not None and least(group, seen) else None)
    with of_run.of_rank(group.rank) as checkpoints:
        model = autoscaling.pretrain(
            scenario,
            config,
            seed=seed,
            on_step=told,
            checkpoints=checkpoints,
            rules=rules,
            device=device,
            group=group,
        )
        return (model, checkpoints.seconds) if group.rank == 0 else None
