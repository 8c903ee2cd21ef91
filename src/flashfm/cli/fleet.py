"""`flashfm recommend --data`: a plan for a whole table of applications, a row each, streamed from file to file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flashfm.cli.printing import print_json, print_table
from flashfm.errors import DataError

if TYPE_CHECKING:
    from flashfm.fleet import FleetSettings, FleetSummary


@dataclass(frozen=True)
class Asked:
    """What is wanted of a fleet, beside its settings."""

    data: Path
    out: Path
    model: str
    as_json: bool


def run(asked: Asked, settings: FleetSettings) -> None:
    """Write the plan, and say what it comes to.

    Raises:
        FlashError: what concerns all pairs; what is wrong with one is in its row.
    """
    from flashfm.adapt.fewshot import FlashRegressor
    from flashfm.cli.progress import progress_bar
    from flashfm.cli.stopping import kept
    from flashfm.fleet import recommend

    if asked.out.suffix.lower() != ".parquet":
        raise DataError(f"--out {asked.out}: expected a file ending in .parquet")
    try:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--out {asked.out}: its folder cannot be made: {error.strerror or error}") from None
    model = FlashRegressor.from_pretrained(asked.model)
    words = f"what was done is kept in {asked.out}.parts, and the same command goes on"
    with kept(words), progress_bar(asked.data.name, quiet=asked.as_json) as on_step:
        summary = recommend(asked.data, asked.out, model, settings, on_step)
    if asked.as_json:
        print_json({"plan": str(asked.out), **summary.to_dict()})
        return
    tell(summary, asked.out)


def tell(summary: FleetSummary, out: Path) -> None:
    """What a plan comes to, for people."""
    rows = [
        ("use another configuration", str(summary.recommended)),
        ("stay as they are", str(summary.stay)),
        ("no recommendation can be given", str(summary.declined)),
        ("rows that cannot be read", str(summary.bad)),
    ]
    print_table(("applications", f"of {summary.pairs}"), rows)
    if summary.priced:
        share = summary.saving_usd / summary.usd_today if summary.usd_today else 0.0
        print(
            f"\nA million runs of each of {summary.priced} applications that change: USD {summary.usd_planned:,.2f} in"
            f" place of {summary.usd_today:,.2f}, {share:.0%} less."
        )
    print(f"\nEach application's row, with intervals, reasons and what would help: {out}")
