"""Autoscalers of today that learn nothing: static limits, Kubernetes' HPA and VPA, both, and a queueing planner.

All are batched over pairs, on NumPy or torch arrays, and see what monitoring shows (`controller.usage`); only `Planner`
knows the application. Nothing here reads or writes files.
"""

from flashfm.baselines.scaling.controller import Controller, Usage, usage
from flashfm.baselines.scaling.hpa import Hpa, HpaConfig
from flashfm.baselines.scaling.hpa_vpa import HpaVpa, HpaVpaConfig, in_use
from flashfm.baselines.scaling.planner import Planner, PlannerConfig
from flashfm.baselines.scaling.static import Static, StaticConfig
from flashfm.baselines.scaling.tuning import GRIDS, Trial, by_reward, by_violations, play, tune
from flashfm.baselines.scaling.vpa import Vpa, VpaConfig

__all__ = [
    "GRIDS",
    "Controller",
    "Hpa",
    "HpaConfig",
    "HpaVpa",
    "HpaVpaConfig",
    "Planner",
    "PlannerConfig",
    "Static",
    "StaticConfig",
    "Trial",
    "Usage",
    "Vpa",
    "VpaConfig",
    "by_reward",
    "by_violations",
    "in_use",
    "play",
    "tune",
    "usage",
]
