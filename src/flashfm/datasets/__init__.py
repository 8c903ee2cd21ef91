"""What is kept: the validated MeasurementTable, the public data sets by name, request-rate traces and splits.

The names below are imported from their modules when first used, so that importing the package loads no pandas.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flashfm.datasets.catalogue import SOURCES, Source
    from flashfm.datasets.rate_trace import RateTrace
    from flashfm.datasets.sources import fetch, load_cloudbandit, load_measured, load_sizeless, locate
    from flashfm.datasets.splits import Split, by_application, hold_out, leave_one_group_out, shot_sets
    from flashfm.datasets.table import MeasurementTable
    from flashfm.datasets.traces import load_trace

__all__ = [
    "SOURCES",
    "MeasurementTable",
    "RateTrace",
    "Source",
    "Split",
    "by_application",
    "fetch",
    "hold_out",
    "leave_one_group_out",
    "load_cloudbandit",
    "load_measured",
    "load_sizeless",
    "load_trace",
    "locate",
    "shot_sets",
]

_HOMES = {
    "catalogue": ("SOURCES", "Source"),
    "rate_trace": ("RateTrace",),
    "sources": ("fetch", "load_cloudbandit", "load_measured", "load_sizeless", "locate"),
    "splits": ("Split", "by_application", "hold_out", "leave_one_group_out", "shot_sets"),
    "table": ("MeasurementTable",),
    "traces": ("load_trace",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"flashfm.datasets.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
