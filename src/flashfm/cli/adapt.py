"""`flashfm adapt`: the shots of one application -> a folder that predicts and recommends for it later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from flashfm.cli import adapted as shared
from flashfm.cli.printing import print_json, print_table
from flashfm.errors import ModelError

EXAMPLE = "Example: flashfm adapt shots.csv --out my-app"


def command(
    shots: Path = shared.Shots,
    out: Path = typer.Option(..., help="Folder for the result; an earlier one that is there is replaced."),
    model: str | None = shared.Model,
    app: str | None = shared.App,
    platform: str | None = shared.Platform,
    fine_tune: bool | None = typer.Option(
        None,
        "--fine-tune/--no-fine-tune",
        help="Take gradient steps [where the application is novel and has three shots].",
        show_default=False,
    ),
    target: str = shared.Target,
    pair_column: str = shared.PairColumn,
    platform_column: str = shared.PlatformColumn,
    check_units: bool = shared.CheckUnits,
    as_json: bool = shared.Json,
) -> None:
    """Adapt a model to one application from its measurements, and keep the result."""
    if shots.is_dir():
        raise ModelError(f"{shots} is a folder; expected a .csv or .parquet file with the shots")
    given = shared.ShotsFile(shots, app, platform, target, pair_column, platform_column, check_units)
    answer = shared.answering(given, model, fine_tune=fine_tune)
    shared.save(out, answer, check_units=check_units)
    summary = {**summarise(answer), "out": str(out)}
    if as_json:
        print_json(summary)
        return
    print_summary(summary)
    print(f"Kept in {out}. Next: flashfm predict {out}, flashfm recommend {out}")


def summarise(answer: shared.Answering) -> dict[str, Any]:
    """What the shots told, in plain values."""
    adapted = answer.adapted
    novelty, (app, platform) = adapted.novelty, adapted.pair
    return {
        "model": answer.reference,
        "app": app or None,
        "platform": platform,
        "shots": len(adapted.shots),
        "fine_tuned": answer.fine_tuned,
        "novelty": {"p_value": novelty.p_value, "distance": novelty.distance, "novel": novelty.novel}
        if novelty
        else None,
        "nearest": [{"app": a, "platform": p, "distance": d} for a, p, d in adapted.nearest()],
        "next_measurement": next_measurement(answer),
    }


def next_measurement(answer: shared.Answering) -> dict[str, Any] | None:
    """The configuration most worth measuring next, and why; None where all have been."""
    try:
        found = answer.adapted.next_measurement()
    except ModelError:
        return None
    return {"config": found.config, "why": found.why}


def print_summary(summary: dict[str, Any]) -> None:
    """For people."""
    from flashfm.act.words import label

    named = (summary["app"] or "unnamed") + (f" on {summary['platform']}" if summary["platform"] else "")
    novelty, following = summary["novelty"], summary["next_measurement"]
    rows = [("shots", f"{summary['shots']}" + ", with gradient steps" * summary["fine_tuned"])]
    if novelty is not None:
        words = "novel: unlike all known ones" if novelty["novel"] else "not novel"
        rows.append(("novelty", f"p = {novelty['p_value']:.2g}, {words}"))
    for i, near in enumerate(summary["nearest"]):
        on = f" on {near['platform']}" if near["platform"] else ""
        rows.append(("most alike" if i == 0 else "", f"{near['app']}{on} (distance {near['distance']:.3g})"))
    if following is not None:
        rows.append(("measure next", f"{label(following['config'])}: {following['why']}"))
    print_table(("application", named), rows)
