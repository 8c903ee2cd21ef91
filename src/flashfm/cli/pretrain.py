"""`flashfm pretrain`: many applications, measured or simulated -> a model in a folder."""

from __future__ import annotations

import shlex
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from flashfm.cli.printing import percent, print_json, print_table, split_names
from flashfm.cli.progress import progress_bar
from flashfm.cli.reproduce import ADDRESS, ENGINE, GOES_ON
from flashfm.cli.stopping import kept
from flashfm.errors import ArtifactError, DataError, DataFormatError, ModelError

if TYPE_CHECKING:
    from flashfm.api import Run
    from flashfm.datasets.table import MeasurementTable
    from flashfm.experiments.autoscaling import ShippedConfig
    from flashfm.pretraining.supervised import PretrainConfig

app = typer.Typer(rich_markup_mode=None)

QUICK_STEPS = 100
GOES_ON_SHARED = "what was done is kept in {}, if all machines see it, and then the same command goes on"
WORKERS = typer.Option(None, "--workers", min=1, help="Workers that train together [1; on Ray, its cores].")
DEVICE = typer.Option("cpu", metavar="cpu|cuda|auto", help="What networks are trained on, with one worker.")


class Encoder(StrEnum):
    """What reads the shots."""

    GRU = "gru"
    LSTM = "lstm"
    TRANSFORMER = "transformer"
    SET = "set"


@app.callback()
def group() -> None:
    """Pretrain a model on many applications."""


@app.command(
    "config-search",
    epilog="Example: flashfm pretrain config-search --data my.csv --config-columns memory_mb --target runtime_ms"
    " --pair-column app --out my-model",
)
def config_search(
    data: str = typer.Option("measured", help="A .csv or .parquet file, or a name from `flashfm data list`."),
    out: Path = typer.Option(..., help="Folder for the model; a model that is there is replaced."),
    config_columns: str | None = typer.Option(
        None, metavar="A,B", help="Columns that make a configuration, numeric or categorical [memory_mb, cpu_shares]."
    ),
    target: str = typer.Option("runtime_ms", help="Column of the run time in milliseconds."),
    pair_column: str = typer.Option("app", help="Column of the application's name."),
    platform_column: str = typer.Option("platform", help="Column of the platform's name; it may be absent."),
    leave_out: str | None = typer.Option(
        None, metavar="A,B", help="Applications to leave out, so that the model can be judged on them."
    ),
    seed: int = typer.Option(0, min=0, help="The same seed gives the same model on the same machine."),
    encoder: Encoder = typer.Option(Encoder.GRU, help="What reads the shots."),
    engine: str = ENGINE,
    workers: int | None = WORKERS,
    address: str | None = ADDRESS,
    device: str = DEVICE,
    quick: bool = typer.Option(False, "--quick", help="Few steps: seconds instead of minutes, and a worse model."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Pretrain a model that predicts run times in all configurations from a few measurements."""
    from flashfm.engine.choose import RAY, engine_of

    _check_place(out)
    chosen = engine_of(engine, workers, address)
    table = _table(data, split_names(config_columns), target, pair_column, platform_column)
    table = _without(table, split_names(leave_out) or [])
    from flashfm import api
    from flashfm.artifact.card import CardData

    words: dict[str, str | None] = {
        "--data": data,
        "--config-columns": config_columns,
        "--target": None if target == "runtime_ms" else target,
        "--pair-column": None if pair_column == "app" else pair_column,
        "--platform-column": None if platform_column == "platform" else platform_column,
        "--leave-out": leave_out,
        "--seed": str(seed),
        "--encoder": None if encoder is Encoder.GRU else encoder.value,
        "--engine": engine if engine == RAY else None,
        "--device": None if device == "cpu" else device,
    }
    with kept("no model was written"), chosen as where, progress_bar("pretraining", quiet=as_json) as told:
        words["--workers"] = str(where.workers) if where.workers > 1 else None
        command = _command("config-search", words | {"--out": out.name}, quick)
        card = CardData(out.resolve().name, "config-search", api.SUMMARY, command=command)
        run = api.run(
            table, config=_settings(encoder, quick), seed=seed, on_step=told, card=card, engine=where, device=device
        )
    run.model.save_pretrained(out)
    summary = _summary(run, table, out)
    if as_json:
        print_json(summary)
    else:
        _print(summary)


@app.command("autoscaling", epilog="Example: flashfm pretrain autoscaling --quick --out my-agent")
def autoscaling(
    out: Path = typer.Option(..., help="Folder for the model; a model that is there is replaced."),
    pairs: int | None = typer.Option(
        None, help="Simulated applications to pretrain on, 2 to 800 [800; with --quick, 100]."
    ),
    seed: int = typer.Option(0, min=0, help="The same seed gives the same model on the same machine."),
    checkpoints: Path | None = typer.Option(
        None, help="Folder in which a stopped run goes on; it is gone once the model is saved [OUT.partial]."
    ),
    engine: str = ENGINE,
    workers: int | None = WORKERS,
    address: str | None = ADDRESS,
    device: str = DEVICE,
    quick: bool = typer.Option(
        False, "--quick", help="Few episodes: half a minute instead of minutes, and a worse model."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Pretrain an agent that sets replicas, CPU and memory of applications under load, in simulation."""
    from flashfm.engine.choose import RAY, engine_of
    from flashfm.tasks.autoscaling.scenario import TRAINING, training_pairs

    place = out.resolve()
    folder = place.with_name(f"{place.name}.partial") if checkpoints is None else checkpoints
    _check_place(out)
    chosen = engine_of(engine, workers, address)
    if place in (folder.resolve(), *folder.resolve().parents):
        raise ArtifactError(f"--checkpoints {folder}: lies in --out {out}, which holds the model alone; choose another")
    if pairs is not None and not 2 <= pairs <= TRAINING:
        raise ModelError(f"--pairs {pairs}: expected 2 to {TRAINING}; the other applications stay unseen, to judge on")

    from flashfm.adapt.agent import FlashAgent
    from flashfm.artifact.card import render
    from flashfm.baselines.scaling import in_use
    from flashfm.experiments.autoscaling import card
    from flashfm.models.device import device_of
    from flashfm.pretraining.autoscaling import check_workers
    from flashfm.pretraining.checkpoints import Checkpoints
    from flashfm.pretraining.sharded import pretrain

    settings = _agent_settings(quick)
    words = {"--pairs": None if pairs is None else str(pairs), "--seed": str(seed)}
    pairs = settings.training if pairs is None else pairs
    scenario = training_pairs(pairs, settings.environments, seed)
    goes_on = (GOES_ON_SHARED if engine == RAY else GOES_ON).format(folder)
    with kept(goes_on), chosen as where:
        there = device_of(device, workers=where.workers)
        check_workers(scenario, settings.pretraining, where.workers)
        words["--engine"] = engine if engine == RAY else None
        words["--workers"] = str(where.workers) if where.workers > 1 else None
        words["--device"] = None if there.type == "cpu" else there.type
        command = _command("autoscaling", words | {"--out": out.name}, quick)
        with Checkpoints(folder) as partial, progress_bar("pretraining", quiet=as_json) as told:
            model, seconds = pretrain(
                where,
                scenario,
                settings.pretraining,
                seed=seed,
                on_step=told,
                checkpoints=partial,
                rules=in_use(),
                device=there,
            )
            known = card(place.name, model, pairs=pairs, seed=seed, seconds=seconds, command=command)
            FlashAgent(model, render(known)).save_pretrained(out)
            partial.remove()
    size = sum(path.stat().st_size for path in out.iterdir())
    if as_json:
        print_json(
            {"model": str(out), "pairs": pairs, "actions": model.actions, "seconds": known.seconds, "bytes": size}
        )
        return
    rows = [
        ("pairs", f"{pairs} simulated applications"),
        ("actions", model.actions),
        ("pretraining", f"{known.seconds} s"),
        ("size", f"{size / 2**20:.2f} MiB"),
    ]
    print_table(("model", str(out)), rows)
    print(f"Its card: {out}/README.md. Next: flashfm simulate --model {shlex.quote(_path(str(out)))}")


def _check_place(out: Path) -> None:
    """Say at once, not after minutes, that the folder cannot take a model."""
    if out.is_file():
        raise ArtifactError(f"--out {out}: is a file, expected a folder to save into; choose another name")
    if out.is_dir() and any(out.iterdir()) and not (out / "config.json").is_file():
        raise ArtifactError(f"--out {out}: is neither empty nor a flashfm model, and is left alone; choose another")


def _table(
    data: str, config_columns: list[str] | None, target: str, pair_column: str, platform_column: str
) -> MeasurementTable:
    """A data set by name, or a file."""
    from flashfm.datasets.catalogue import SOURCES
    from flashfm.datasets.sources import load_table
    from flashfm.datasets.table import MeasurementTable

    named = (target, pair_column, platform_column) != ("runtime_ms", "app", "platform")
    if data == "measured" or data in SOURCES:
        if named:
            raise DataError(
                f"--data {data} has columns of its own; leave out --target, --pair-column, --platform-column"
            )
        table = load_table(data)
        if config_columns is None or tuple(config_columns) == table.config_columns:
            return table
        return MeasurementTable.from_frame(
            table.frame, config_columns=config_columns, average_repeats=True, card=table.card
        )
    if not Path(data).exists() and Path(data).suffix.lower() not in (".csv", ".parquet"):
        tables = [name for name, source in SOURCES.items() if source.kind == "table"]
        raise DataError(
            f"--data {data!r} is neither a file nor a table; expected a path, measured, {', '.join(tables)}"
        )
    table = MeasurementTable.read(
        data,
        config_columns=config_columns,
        target=target,
        app_column=pair_column,
        platform_column=platform_column,
        average_repeats=True,
    )
    if platform_column != "platform" and "platform" not in table.pair_columns:
        raise DataFormatError(f"{data}: no column {platform_column!r} as you named it in --platform-column")
    return table


def _without(table: MeasurementTable, apps: list[str]) -> MeasurementTable:
    if not apps:
        return table
    table.of_apps(apps)
    rest = [app for app in table.apps if app not in apps]
    if not rest:
        raise ModelError("--leave-out names every application; nothing is left to pretrain on")
    return table.of_apps(rest)


def _settings(encoder: Encoder, quick: bool) -> PretrainConfig:
    from flashfm.models.flash import FlashConfig
    from flashfm.pretraining.supervised import PretrainConfig

    network = FlashConfig()
    config = PretrainConfig(network=replace(network, meta=replace(network.meta, kind=encoder.value)))
    return replace(config, least_steps=QUICK_STEPS, most_steps=QUICK_STEPS, likeness_steps=30) if quick else config


def _agent_settings(quick: bool) -> ShippedConfig:
    from flashfm.experiments.autoscaling import ShippedConfig

    return ShippedConfig.of(quick=quick)


def _command(task: str, options: dict[str, str | None], quick: bool) -> str:
    """What was typed, without options that say nothing."""
    given = [word for name, value in options.items() if value is not None for word in (name, value)]
    return shlex.join(["flashfm", "pretrain", task, *given, *["--quick"] * quick])


def _summary(run: Run, table: MeasurementTable, out: Path) -> dict[str, Any]:
    model = run.model
    return {
        "model": str(out),
        "applications": len(table.apps),
        "pairs": len(model.pairs),
        "platforms": sorted({platform for _, platform in model.pairs if platform is not None}),
        "rows": len(table.ok()),
        "config_columns": list(model.config_columns),
        "configurations": len(model.grid),
        "metrics": list(model.metric_names),
        "network": bool(model.model.nets),
        "coverage": {str(c.shots): c.covered for c in run.card.calibration},
        "seconds": run.card.seconds,
        "bytes": sum(path.stat().st_size for path in out.iterdir()),
    }


def _print(summary: dict[str, Any]) -> None:
    on = f" on {', '.join(summary['platforms'])}" if summary["platforms"] else ""
    covered = ", ".join(f"K={k} {percent(share)}" for k, share in summary["coverage"].items())
    rows = [
        ("pairs", f"{summary['pairs']}: {summary['applications']} applications{on}"),
        ("configurations", f"{summary['configurations']}, by {', '.join(summary['config_columns'])}"),
        ("metrics", f"{len(summary['metrics'])}" if summary["metrics"] else "none; run times alone are read"),
        ("network", "yes" if summary["network"] else "no: too few applications, the prior stands alone"),
        ("90 % intervals cover", covered or "not judged: too few pairs"),
        ("pretraining", f"{summary['seconds']:.1f} s"),
        ("size", f"{summary['bytes'] / 2**20:.2f} MiB"),
    ]
    print_table(("model", summary["model"]), rows)
    print(f"Its card: {summary['model']}/README.md. Next: flashfm predict SHOTS.csv --model {_path(summary['model'])}")


def _path(out: str) -> str:
    return out if "/" in out else f"./{out}"
