"""`flashfm recommend --data`: a plan for a whole table of applications, from file to file, and what comes of it.

The plan is written first; patches and page are made from it alone.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flashfm.cli.printing import print_json, print_table
from flashfm.errors import DataError

if TYPE_CHECKING:
    from flashfm.engine.base import Engine
    from flashfm.fleet import FleetSettings, FleetSummary, Patched

PAGES = (".html", ".htm")


@dataclass(frozen=True)
class Asked:
    """What is wanted of a fleet, beside its settings."""

    data: Path
    out: Path
    model: str
    device: str
    patches: tuple[str, ...]
    """As KIND:PATH."""
    names: Path | None
    page: Path | None
    as_json: bool


def run(asked: Asked, settings: FleetSettings, engine: AbstractContextManager[Engine]) -> None:
    """Write the plan and what is made of it, and say what it comes to.

    Args:
        asked: what is wanted.
        settings: the aim, and how rows are read.
        engine: where applications are answered for; it is entered here.

    Raises:
        FlashError: what concerns all pairs; what is wrong with one is in its row.
    """
    from flashfm.adapt.fewshot import FlashRegressor
    from flashfm.cli.progress import progress_bar
    from flashfm.cli.stopping import kept
    from flashfm.fleet import recommend, write_patches
    from flashfm.models.device import device_of

    wanted = _checked(asked)
    words = f"what was done is kept in {asked.out}.parts, and the same command goes on"
    with kept(words), engine as where, progress_bar(asked.data.name, quiet=asked.as_json) as on_step:
        model = FlashRegressor.from_pretrained(asked.model, device=device_of(asked.device, workers=where.workers).type)
        summary = recommend(asked.data, asked.out, model, settings, on_step, where)
    patched = [write_patches(asked.out, path, kind, None if kind == "csv" else asked.names) for kind, path in wanted]
    if asked.page is not None:
        from flashfm.reporting.fleet import page

        page(asked.out, asked.page)
    if asked.as_json:
        more = {"patches": [one.to_dict() for one in patched], "page": None if asked.page is None else str(asked.page)}
        print_json({"plan": str(asked.out), **summary.to_dict(), **more})
        return
    tell(summary, patched, asked)


def tell(summary: FleetSummary, patched: list[Patched], asked: Asked) -> None:
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
    print(f"\nEach application's row, with intervals, reasons and what would help: {asked.out}")
    for one in patched:
        print(f"{one.kind}: {one.written} application{'s' * (one.written != 1)} in {one.out}")
        for reason, count in one.skipped.items():
            print(f"  {count} left out: {reason}")
    if asked.page is not None:
        print(f"page: {asked.page}")


def _checked(asked: Asked) -> list[tuple[str, Path]]:
    """Kinds of patches and where they go; folders are made before the work begins, and not after.

    Raises:
        DataError: a word that is no patch, another suffix, names for nothing, or a folder that cannot be made.
    """
    from flashfm.fleet.patches import KINDS

    if asked.out.suffix.lower() != ".parquet":
        raise DataError(f"--out {asked.out}: expected a file ending in .parquet")
    if asked.page is not None and asked.page.suffix.lower() not in PAGES:
        raise DataError(f"--page {asked.page}: expected a file ending in .html")
    wanted: list[tuple[str, Path]] = []
    for word in asked.patches:
        kind, colon, where = word.partition(":")
        if kind not in KINDS or not colon or not where:
            raise DataError(f"--patch {word}: expected KIND:PATH, where KIND is one of {', '.join(KINDS)}")
        wanted.append((kind, Path(where)))
    if asked.names is not None and not any(kind != "csv" for kind, _ in wanted):
        raise DataError(f"--names {asked.names}: is for --patch sam:FILE and kustomize:FOLDER; give one of them")
    for path in (asked.out, *(path for _, path in wanted), *([] if asked.page is None else [asked.page])):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{path}: its folder cannot be made: {error.strerror or error}; choose another") from None
    return wanted
