"""flashfm: foundation models for managing cloud systems by learning, after FLASH (Qiu et al., 2023).

The names below are imported from their modules when first used, so that importing the package loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flashfm.act import Declined, LambdaPrice, Nodes, Recommendation, ScalingDecision, Terms, load_prices
    from flashfm.adapt.agent import FlashAgent, Trajectory
    from flashfm.adapt.fewshot import FlashRegressor
    from flashfm.adapt.trajectories import TrajectoryBuffer
    from flashfm.api import pretrain
    from flashfm.datasets.table import MeasurementTable

__version__ = "0.1.0"

__all__ = [
    "Declined",
    "FlashAgent",
    "FlashRegressor",
    "LambdaPrice",
    "MeasurementTable",
    "Nodes",
    "Recommendation",
    "ScalingDecision",
    "Terms",
    "Trajectory",
    "TrajectoryBuffer",
    "__version__",
    "load_prices",
    "pretrain",
]

_HOMES = {
    "act": ("Declined", "LambdaPrice", "Nodes", "Recommendation", "ScalingDecision", "Terms", "load_prices"),
    "adapt.agent": ("FlashAgent", "Trajectory"),
    "adapt.fewshot": ("FlashRegressor",),
    "adapt.trajectories": ("TrajectoryBuffer",),
    "api": ("pretrain",),
    "datasets.table": ("MeasurementTable",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"flashfm.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
