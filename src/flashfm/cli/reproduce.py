"""`flashfm reproduce`: the project's data sets, tables and figures, each by one command."""

from __future__ import annotations

import datetime
import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flashfm.cli.printing import print_json, split_names
from flashfm.cli.progress import progress_bar
from flashfm.cli.stopping import kept
from flashfm.errors import DataError, MeasureError
from flashfm.models.threads import one_thread

if TYPE_CHECKING:
    from flashfm.experiments.measured import Part

app = typer.Typer(help="Reproduce data sets, tables and figures.")

RESULTS = typer.Option(Path("out/results"), help="Folder for the result file, its table and its picture.")
QUICK_OPTION = typer.Option(False, "--quick", help="The same columns in minutes, from far less training.")
AS_JSON = typer.Option(False, "--json", help="Print JSON.")
ENGINE = typer.Option("local", metavar="local|ray", help="Where the work runs: this machine, or a cluster of Ray.")
WORKERS = typer.Option(None, "--workers", min=1, help="Parts that are worked on at a time [1; on Ray, its cores].")
ADDRESS = typer.Option(None, metavar="HOST:PORT", help="Of the cluster [one is started on this machine].")
SPREAD = ("ablation-rl", "fig4", "fig6")
SIMPLE = {
    "fig5": "Figure 5: error distributions on known and new applications and in a new environment.",
    "overhead-sl": "What FLASH costs: inference and update of configuration search against the base model.",
    "ablation-sl": "What each part of the model for configuration search gives.",
    "ablation-rl": "What knowing an application is worth to an autoscaler: no embedding, embedding, true parameters.",
    "fig4": "Figure 4: reward lost on unseen applications, and what adapting costs, against moved agents.",
    "fig6": "Figure 6: reward, utilisation and latency of autoscaling agents on unseen applications and on updates.",
    "frontier": "SLO violations against core-hours: the agent over its trade-offs, controllers over their settings.",
    "overhead-rl": "What the embedding costs in autoscaling: a decision, an embedding, an update, beside the paper's.",
    "autoscaling": "Pretrain and judge the autoscaling agent that ships with the package.",
    "live": "FLASH and tuned HPA + VPA on real processes, beside the simulator; 70 minutes, with --quick 3.",
    "reality": "The dynamics held against real processes: latency, throughput, utilisation under real limits.",
    "loads": "Generated loads of autoscaling beside real traces: how much they vary and how bursty they are.",
    "environment": "Error with the platform hidden, given and wrong, with and without the embedding.",
    "serverless-memory": "Pretrain and judge the model that ships with the package.",
}
"""Command -> its line in the help; `flashfm.experiments.<command>.run` does it."""
GOES_ON = "what was done is kept in {}, and the same command goes on"
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
    with kept(GOES_ON.format(out)):
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


@app.command(epilog="Example: flashfm reproduce table1 --quick")
def table1(
    out: Path = typer.Option(Path("out/table1"), help="Folder for the scores; a stopped run goes on there."),
    models: Path = typer.Option(Path("out/models"), help="Folder for our models, one for each data set and split."),
    results: Path = RESULTS,
    datasets: str | None = typer.Option(None, metavar="A,B", help="Data sets [all that are on this machine]."),
    splits: int | None = typer.Option(None, min=1, max=20, help="Splits by application [20; with --quick, 1]."),
    only_assemble: bool = typer.Option(
        False, "--only-assemble", help="Train nothing; make the table of what is there."
    ),
    quick: bool = QUICK_OPTION,
    engine: str = ENGINE,
    workers: int | None = WORKERS,
    address: str | None = ADDRESS,
    as_json: bool = AS_JSON,
) -> None:
    """Table 1: error on unseen applications of all methods, on all data sets."""
    from flashfm.engine.choose import engine_of
    from flashfm.experiments.table1 import Table1Config, run

    _check_folders(out=out, models=models, results=results)
    config = Table1Config.of(quick=quick, datasets=split_names(datasets), splits=splits)
    folder, store = (out / "quick", models / "quick") if quick else (out, models)
    with (
        kept(GOES_ON.format(out)),
        one_thread(),
        engine_of(engine, workers, address) as where,
        progress_bar("table 1", quiet=as_json or only_assemble) as on_step,
    ):
        path = run(folder, results, config, models=store, on_step=on_step, only_assemble=only_assemble, engine=where)
    _say(path, as_json=as_json)


@app.command(epilog="Example: flashfm reproduce search --quick")
def search(
    out: Path = typer.Option(
        Path("out"),
        help="Folder of what `reproduce table1` left (table1, models), for the rest; a stopped run goes on.",
    ),
    results: Path = RESULTS,
    splits: int | None = typer.Option(None, min=1, max=20, help="Splits by application [20; with --quick, 1]."),
    groups: int | None = typer.Option(
        None, min=0, help="Data sets and algorithms to leave out [all; with --quick, 1]."
    ),
    only_assemble: bool = typer.Option(False, "--only-assemble", help="Train nothing; make the page of what is there."),
    quick: bool = QUICK_OPTION,
    as_json: bool = AS_JSON,
) -> None:
    """Search on CloudBandit: designed shots, regret after a few measurements, intervals, unseen data and algorithms."""
    from flashfm.experiments.search import SearchConfig, run

    _check_folders(out=out, results=results)
    config = SearchConfig.of(quick=quick, splits=splits, groups=groups)
    with kept(GOES_ON.format(out)), one_thread(), progress_bar("search", quiet=as_json or only_assemble) as on_step:
        path = run(out, results, config, on_step=on_step, only_assemble=only_assemble)
    _say(path, as_json=as_json)


def _simple(name: str, module: str, line: str) -> None:
    """A command that calls `flashfm.experiments.<module>.run`."""

    def done(out: Path, results: Path, quick: bool, as_json: bool, **more: object) -> None:
        _check_folders(out=out, results=results)
        run = importlib.import_module(f"flashfm.experiments.{module}").run
        folder = out / "quick" if quick else out
        with kept(GOES_ON.format(out)), one_thread(), progress_bar(name, quiet=as_json) as on_step:
            path = run(folder, results, quick=quick, on_step=on_step, **more)
        _say(path, as_json=as_json)

    out_option = typer.Option(Path("out") / name, help="Folder for what the run keeps; a stopped one goes on.")

    def command(
        out: Path = out_option, results: Path = RESULTS, quick: bool = QUICK_OPTION, as_json: bool = AS_JSON
    ) -> None:
        done(out, results, quick, as_json)

    def spread(
        out: Path = out_option,
        results: Path = RESULTS,
        quick: bool = QUICK_OPTION,
        engine: str = ENGINE,
        workers: int | None = WORKERS,
        address: str | None = ADDRESS,
        as_json: bool = AS_JSON,
    ) -> None:
        from flashfm.engine.choose import engine_of

        with engine_of(engine, workers, address) as where:
            done(out, results, quick, as_json, engine=where)

    example = f"Example: flashfm reproduce {name} --quick" + (" --workers 2" if name in SPREAD else "")
    app.command(name, help=line, epilog=example)(spread if name in SPREAD else command)


for _name, _line in SIMPLE.items():
    _simple(_name, _name.replace("-", "_"), _line)


def _check_folders(**folders: Path) -> None:
    for name, folder in folders.items():
        taken = next((part for part in (folder, *folder.parents) if part.is_file()), None)
        if taken is not None:
            raise DataError(f"--{name} {folder}: expected a folder, but {taken} is a file")
        try:  # now and not after hours of work
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"--{name} {folder}: cannot be made: {error.strerror or error}; choose another") from None


def _say(path: Path, *, as_json: bool) -> None:
    content = json.loads(path.read_text())
    left_out = content.get("left_out", {})
    if as_json:
        print_json({"results": str(path), "rows": len(content["rows"]), "left_out": left_out})
        return
    print(path.with_suffix(".md").read_text())
    for name, reason in left_out.items():
        print(f"{name} is left out: {reason}", file=sys.stderr)
    beside = [other.name for other in sorted(path.parent.glob(f"{path.stem}*")) if other != path]
    print(f"{path}, beside it {', '.join(beside)}")


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
