"""`flashfm demo`: three fresh applications, measured under limits on this machine, as a table and a picture."""

from __future__ import annotations

import json
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flashfm.errors import MeasureError

if TYPE_CHECKING:
    from flashfm.applications.spec import ApplicationSpec
    from flashfm.records import Measurement

EXAMPLE = "Example: flashfm demo --seed 7 --picture curves.png"
KINDS = ("CPU-bound", "mixed", "I/O-bound")
POOL_SIZE = 300


def command(
    seed: int = typer.Option(-1, help="Seed of the applications [a new one each time]."),
    picture: Path = typer.Option(Path("out/demo.png"), help="Where to draw the curves, .png or .svg."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Measure three fresh applications and draw their curves."""
    from flashfm.cli.measure import measure_with_progress
    from flashfm.datasets.table import MeasurementTable
    from flashfm.measurements.campaign import Campaign, Runner
    from flashfm.measurements.journal import Journal
    from flashfm.measurements.limits import detect
    from flashfm.measurements.platforms import Lambda
    from flashfm.measurements.sandbox import InvokePlan
    from flashfm.reporting import runtime_curves

    if picture.suffix not in (".png", ".svg"):
        raise MeasureError(f"--picture is {picture}; expected a name that ends in .png or .svg")
    seed = secrets.randbelow(1_000_000) if seed < 0 else seed
    chosen = choose(seed)
    plan = InvokePlan(count=8, least_ms=800.0)
    campaign = Campaign(tuple(chosen.values()), Lambda(), tuple(Lambda().configs(None, None)), plan, passes=1)
    backend = detect()
    with (
        tempfile.TemporaryDirectory(prefix="flashfm-demo-") as folder,
        Journal(Path(folder) / "journal", campaign.settings()) as journal,
    ):
        runner = Runner(campaign, journal, backend)
        measure_with_progress(campaign, runner, journal.path, quiet=as_json)
        measured = runner.measurements()
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MeasureError(f"--picture {picture}: cannot make its folder: {error.strerror}") from None
    table = MeasurementTable.from_measurements(measured)
    runtime_curves(table.frame, {kind: app.name for kind, app in chosen.items()}, picture)
    if as_json:
        rows = [{"app": m.app, "memory_mb": m.config.memory_mb, "runtime_ms": m.runtime_ms} for m in measured]
        print(json.dumps({"seed": seed, "rows": rows, "picture": str(picture)}))
        return
    _print(chosen, measured)
    print(f"\nPicture: {picture}. The same applications again: flashfm demo --seed {seed}")
    print("Your own function: flashfm measure --function handler.py:main --out data.parquet")


def choose(seed: int) -> dict[str, ApplicationSpec]:
    """One application of each of `KINDS` among the first generated from `seed`, by what its segments wait for."""
    from flashfm.applications.generator import generate_many
    from flashfm.applications.segments import segment_class

    found: dict[str, ApplicationSpec] = {}
    for app in generate_many(seed, POOL_SIZE):
        waits = [segment_class(part.kind).bound for part in app.segments]
        busy = waits.count("cpu")
        if busy == len(waits):
            found.setdefault("CPU-bound", app)
        elif not busy and "time" in waits:
            found.setdefault("I/O-bound", app)
        elif len(waits) == 2 and "time" in waits:
            found.setdefault("mixed", app)
    return {kind: found[kind] for kind in KINDS if kind in found}


def _print(chosen: dict[str, ApplicationSpec], measured: list[Measurement]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Mean run time under limits, ms", caption="CPU quota: memory / 1769 vCPU")
    table.add_column("application")
    table.add_column("kind")
    sizes = sorted({m.config.memory_mb for m in measured})
    for size in sizes:
        table.add_column(f"{size} MB", justify="right")
    table.add_column("128 to 3008 MB", justify="right")
    for kind, app in chosen.items():
        of = {m.config.memory_mb: m for m in measured if m.app == app.name}
        cells = [f"{m.runtime_ms:.1f}" if m.runtime_ms else str(m.outcome) for m in map(of.__getitem__, sizes)]
        first, last = of[sizes[0]].runtime_ms, of[sizes[-1]].runtime_ms
        table.add_row(app.name, kind, *cells, f"{first / last:.1f}x faster" if first and last else "")
    Console(width=max(120, Console().width)).print(table)
