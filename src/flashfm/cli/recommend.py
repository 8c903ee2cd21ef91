"""`flashfm recommend`: which configuration an application should use, and why; or each of a whole table of them.

Exit code 0 with a recommendation, `DECLINED` where none can be given: a refusal is an answer, but a script must see it.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from flashfm.cli import adapted as shared
from flashfm.cli import fleet
from flashfm.cli.adapt import next_measurement, summarise
from flashfm.cli.predict import configuration
from flashfm.cli.printing import print_json, print_table
from flashfm.errors import DataError, ModelError

if TYPE_CHECKING:
    from flashfm.act import Choice, Declined, Price, Recommendation

EXAMPLE = """Example: flashfm recommend shots.csv --max-slowdown 1.2 --today memory_mb=1024

  A whole fleet: flashfm recommend --data fleet.parquet --out plan.parquet --workers 2

  Exit code 9: no recommendation can be given; the reason and what would help are printed."""
DECLINED = 9
"""Exit code where no recommendation can be given."""


class Objective(StrEnum):
    """What is to be small."""

    COST = "cost"
    RUNTIME = "runtime"


def command(
    shots: Path | None = typer.Argument(
        None,
        metavar="SHOTS|FOLDER",
        help="A .csv or .parquet file with the measured rows of one application, or a folder from `flashfm adapt`.",
        show_default=False,
    ),
    data: Path | None = typer.Option(
        None,
        "--data",
        metavar="FILE",
        help="A .parquet or .csv file with the rows of many applications, those of one after each other, in place of"
        " SHOTS; columns `today_COLUMN` say what runs today.",
        show_default=False,
    ),
    out: Path | None = typer.Option(
        None, "--out", metavar="FILE", help="With --data: the plan, .parquet, a row an application.", show_default=False
    ),
    patch: list[str] = typer.Option(
        [],
        "--patch",
        metavar="KIND:PATH",
        help="With --data: what to apply, as sam:FILE (AWS SAM, CloudFormation), kustomize:FOLDER (Kubernetes) or"
        " csv:FILE (a spreadsheet); may be repeated.",
        show_default=False,
    ),
    names: Path | None = typer.Option(
        None,
        metavar="FILE",
        help="With --patch: a .csv file with app, perhaps platform, and resource for SAM, or namespace, deployment and"
        " container for kustomize [called like the application].",
        show_default=False,
    ),
    page: Path | None = typer.Option(
        None, "--page", metavar="FILE", help="With --data: an .html page of the whole plan.", show_default=False
    ),
    fine_tune: bool | None = typer.Option(
        None,
        "--fine-tune/--no-fine-tune",
        help="With --data: gradient steps for applications [where one is novel and has three shots]; without them it"
        " takes less than half the time.",
        show_default=False,
    ),
    engine: str | None = typer.Option(
        None,
        metavar="local|ray",
        help="With --data: where applications are answered for, this machine or a cluster of Ray [local].",
        show_default=False,
    ),
    workers: int | None = typer.Option(
        None,
        "--workers",
        help="With --data: parts that are worked on at a time [1; on Ray, its cores].",
        show_default=False,
    ),
    address: str | None = typer.Option(
        None,
        metavar="HOST:PORT",
        help="With --engine ray: of the cluster [one is started on this machine].",
        show_default=False,
    ),
    device: str | None = typer.Option(
        None,
        metavar="cpu|cuda|auto",
        help="With --data: what the model computes on [cpu]; a GPU's figures differ in their last digits.",
        show_default=False,
    ),
    model: str | None = shared.Model,
    app: str | None = shared.App,
    platform: str | None = shared.Platform,
    objective: Objective = typer.Option(Objective.COST, help="What is to be small."),
    max_slowdown: float | None = typer.Option(
        None, metavar="TIMES", help="The longest run time, in times of the fastest: 1.2 is 20 % over it."
    ),
    max_runtime_ms: float | None = typer.Option(None, metavar="MS", help="The longest run time in ms, instead."),
    sure: bool = typer.Option(False, "--sure", help="The upper end of the interval must meet the limit as well."),
    prices: str | None = typer.Option(
        None, metavar="NAME|FILE", help="aws-lambda, aws-lambda-arm, or a .csv, .parquet or .json file [aws-lambda]."
    ),
    today: str | None = typer.Option(
        None, metavar="COLUMN=VALUE,…", help="The configuration in use [that of the file's first row]."
    ),
    target: str = shared.Target,
    pair_column: str = shared.PairColumn,
    platform_column: str = shared.PlatformColumn,
    check_units: bool = shared.CheckUnits,
    as_json: bool = shared.Json,
) -> None:
    """Recommend a configuration, with reasons, or say why none can be given."""
    if data is not None:
        from flashfm.act import load_prices
        from flashfm.engine.choose import LOCAL, engine_of
        from flashfm.fleet import FleetSettings

        _fleet_alone(shots=shots, app=app, platform=platform, today=today)
        settings = FleetSettings(
            objective=objective.value,
            price=None if prices is None else load_prices(prices),
            max_slowdown=max_slowdown,
            max_runtime_ms=max_runtime_ms,
            strict=sure,
            fine_tune=fine_tune,
            check_units=check_units,
            target=target,
            app_column=pair_column,
            platform_column=platform_column,
        )
        asked = fleet.Asked(
            data,
            out or Path("out/plan.parquet"),
            model or shared.DEFAULT_MODEL,
            device or "cpu",
            tuple(patch),
            names,
            page,
            as_json,
        )
        fleet.run(asked, settings, engine_of(LOCAL if engine is None else engine, workers, address))
        return
    of_many = (out, fine_tune, names, page, engine, workers, address, device)
    if shots is None or any(of is not None for of in of_many) or patch:
        raise DataError(
            "give the measured rows of one application as SHOTS; or --data FILE for many, which takes --out, --patch,"
            " --names, --page, --fine-tune, --engine, --workers, --address and --device"
        )
    given = shared.ShotsFile(shots, app, platform, target, pair_column, platform_column, check_units)
    answer = shared.answering(given, model)
    decision = answer.adapted.recommend(
        objective.value,
        price=_prices(prices, objective, "memory_mb" in answer.model.config_columns),
        max_slowdown=max_slowdown,
        max_runtime_ms=max_runtime_ms,
        strict=sure,
        today=_today(today, answer),
    )
    from flashfm.act import Declined

    if as_json:
        print_json({**summarise(answer), **decision.to_dict()})
    elif isinstance(decision, Declined):
        _print_declined(decision, answer)
    else:
        _print(decision, answer)
    if isinstance(decision, Declined):
        raise typer.Exit(DECLINED)


def _fleet_alone(**given: object) -> None:
    """Refuse what is said of one application beside --data.

    Raises:
        DataError: something is.
    """
    for name, value in given.items():
        if value is not None:
            word = "SHOTS" if name == "shots" else f"--{name}"
            raise DataError(f"{word} {value}: is of one application, --data of many; leave one of them out")


def _today(text: str | None, answer: shared.Answering) -> dict[str, Any] | None:
    """The configuration in use: what was said, else that of the file's first row."""
    import pandas as pd

    space = answer.model.model.space
    if text is not None:
        asked = pd.DataFrame([configuration(text, answer.model, "--today")], dtype=object)
    elif answer.rows is not None and len(answer.adapted.shots):
        asked = answer.rows[answer.rows["outcome"] == "ok"][:1]
    else:
        return None
    checked = space.check(asked.reset_index(drop=True), "--today")
    return {str(name): value for name, value in checked.iloc[0].items()}


def _prices(prices: str | None, objective: Objective, by_memory: bool) -> Price | None:
    from flashfm.act import load_prices

    if prices is not None:
        return load_prices(prices)
    if by_memory:
        return load_prices("aws-lambda")
    if objective is Objective.COST:
        raise ModelError(
            "the objective is cost, and this model's configurations have no price known here; give --prices FILE,"
            " or --objective runtime"
        )
    return None


def _print_declined(decision: Declined, answer: shared.Answering) -> None:
    print(f"No recommendation: {decision.reason}.")
    print(f"What would help: {decision.mend}.")
    _print_next(answer)


def _print(decision: Recommendation, answer: shared.Answering) -> None:
    from flashfm.act.words import label

    verb = "Stay with" if decision.stay else "Use"
    print(f"{verb} {label(decision.config)} ({decision.confidence}), since")
    for sentence in decision.why:
        print(f"  - {sentence}")
    print()
    rows = [_row("recommended" if not decision.stay else "in use, recommended", decision.choice)]
    if decision.today is not None and not decision.stay:
        rows.append(_row("in use", decision.today))
    known = [decision.config, decision.today.config if decision.today else None]
    rows += [_row("alternative", choice) for choice in decision.alternatives if choice.config not in known]
    print_table(("", "configuration", "run time", "times the fastest", "USD per million runs", ""), rows)
    _print_next(answer)


def _row(kind: str, choice: Choice) -> tuple[str, ...]:
    from flashfm.act.words import label, ratio, span, usd

    cost = choice.usd_per_million
    money = f"{usd(cost.expected)} ({usd(cost.lower)} to {usd(cost.upper)})" if cost else "-"
    measured = "measured" if choice.measured else ""
    return kind, label(choice.config), span(choice.runtime_ms), ratio(choice.slowdown), money, measured


def _print_next(answer: shared.Answering) -> None:
    from flashfm.act.words import label

    following: dict[str, Any] | None = next_measurement(answer)
    if following is not None:
        print(f"\nMeasure next: {label(following['config'])}; {following['why']}")
