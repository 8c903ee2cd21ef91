"""Fleets: recommendations for a whole table of pairs, in batches, in memory that does not grow."""

from flashfm.fleet.answer import recommend_many
from flashfm.fleet.patches import Patched, write_patches
from flashfm.fleet.plan import STATUSES, FleetSummary, Plan
from flashfm.fleet.run import recommend
from flashfm.fleet.settings import FleetSettings

__all__ = [
    "STATUSES",
    "FleetSettings",
    "FleetSummary",
    "Patched",
    "Plan",
    "recommend",
    "recommend_many",
    "write_patches",
]
