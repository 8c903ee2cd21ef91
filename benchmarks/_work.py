"""Work that a benchmark gives out; workers import this module as they cannot import the script that runs."""

from __future__ import annotations

import torch

from flashfm.adapt.fewshot import FlashRegressor
from flashfm.engine.base import Told
from flashfm.pretraining.supervised import PretrainConfig, pretrain
from flashfm.tasks.config_search import Observations


def loaded(_item: object, _told: Told) -> None:
    """Load what pretraining needs: this module, and what torch loads with the first optimiser."""
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])


def trained(data: Observations, config: PretrainConfig, seed: int, _told: Told) -> float:
    """Pretrain a model for configuration search; the run time in ms that it expects of its first pair."""
    model = FlashRegressor(pretrain(data, config, seed=seed))
    shot = data.grid[:1].assign(runtime_ms=100.0)
    return float(model.adapt(shot, check_units=False).predict(data.grid[:1])["runtime_ms"].iloc[0])
