"""`flashfm reproduce`: the project's data sets, tables and figures, each by one command."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flashfm.errors import MeasureError

if TYPE_CHECKING:
    from flashfm.experiments.measured import Part

app = typer.Typer(help="Reproduce data sets, tables and figures.")

QUICK = {"generated": 4, "shared": 1, "repeated": 2}


@app.command(epilog="Example: flashfm reproduce measured --out campaign --results results")
def measured(
    out: Path = typer.Option(
        Path("out/measured"), help="Folder for the campaigns' tables; a stopped run goes on there."
    ),
    results: Path = typer.Option(Path("out/results"), help="Folder for measured.json."),
    date: str = typer.Option("", help="Date for the data card [today]."),
    quick: bool = typer.Option(False, "--quick", help="A few applications: minutes instead of hours."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Measure the data set that ships with the package, and assess its noise."""
    from flashfm.experiments import results as files
    from flashfm.experiments.measured import assess, combine, noise_of, parts

    if results.is_file() or out.is_file():
        raise MeasureError(f"--out {out}, --results {results}: expected folders, got a file")
    chosen = parts(**QUICK) if quick else parts()
    _collect(chosen, out, quiet=as_json)
    rows, more = assess(chosen, out)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    table = combine(chosen, out, date=date or today, noise=noise_of(rows))
    table.write(out / "measured.parquet")
    command = "flashfm reproduce measured" + (" --quick" if quick else "")
    path = results / "measured.json"
    protocol = (
        "APE of a run time against another measurement of the same pair and size; mean over sizes, then applications"
    )
    files.write(path, command=command, protocol=protocol, seeds=[0], rows=rows, more=more)
    if as_json:
        print(json.dumps({"table": str(out / "measured.parquet"), "rows": len(table), "results": str(path)}))
        return
    print(f"{len(table)} rows in {out / 'measured.parquet'}; {path}:\n")
    print(files.markdown(path))


def _collect(chosen: list[Part], out: Path, *, quiet: bool) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from flashfm.experiments.measured import collect

    with Progress(
        TextColumn("{task.description:18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    ) as progress:
        tasks = {
            part.name: progress.add_task(part.name, total=part.campaign.visits, completed=part.campaign.visits)
            if (out / f"{part.name}.parquet").exists()
            else progress.add_task(part.name, total=part.campaign.visits, start=False)
            for part in chosen
        }

        def visited(part: Part, done: int, total: int) -> None:
            progress.start_task(tasks[part.name])
            progress.update(tasks[part.name], completed=done, total=total)

        collect(chosen, out, on_visit=visited)
