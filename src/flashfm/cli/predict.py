"""`flashfm predict`: the run time of one application in all configurations, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from flashfm.cli import adapted as shared
from flashfm.cli.adapt import next_measurement, summarise
from flashfm.cli.printing import print_json, print_table
from flashfm.errors import DataError, ModelError, ShotsError

if TYPE_CHECKING:
    import pandas as pd

    from flashfm.adapt.adapted import AdaptedRegressor
    from flashfm.adapt.fewshot import FlashRegressor

EXAMPLE = "Example: flashfm predict shots.csv --at memory_mb=1536 --plot curve.png"
INTERVAL = ("runtime_ms", "lower_ms", "upper_ms")


def command(
    shots: Path | None = typer.Argument(
        None,
        metavar="[SHOTS|FOLDER]",
        help="A file with the measured rows of one application, or a folder from `flashfm adapt`; without it, what"
        " applications take on average.",
        show_default=False,
    ),
    model: str | None = shared.Model,
    app: str | None = shared.App,
    platform: str | None = shared.Platform,
    at: list[str] = typer.Option(
        [], "--at", metavar="COLUMN=VALUE,…", help="A configuration to ask for; may be given more than once [all]."
    ),
    queries: Path | None = typer.Option(None, help="A .csv or .parquet file of configurations to ask for."),
    plot: Path | None = typer.Option(None, help="Draw the curve, .png or .svg."),
    target: str = shared.Target,
    pair_column: str = shared.PairColumn,
    platform_column: str = shared.PlatformColumn,
    check_units: bool = shared.CheckUnits,
    as_json: bool = shared.Json,
) -> None:
    """Predict the run time of an application in all configurations, from none to a few measurements."""
    given = shared.ShotsFile(shots, app, platform, target, pair_column, platform_column, check_units)
    answer = shared.answering(given, model)
    asked = _asked(at, queries, answer.model)
    found = with_measured(answer.adapted.predict(asked), answer.adapted, answer.model)
    picture = None
    if plot is not None:
        name = answer.adapted.pair[0] or "application"
        picture = _draw(found, answer.model.config_columns, name, plot)
    rows = _records(found, answer.model.config_columns)
    if as_json:
        print_json({**summarise(answer), "predictions": rows, "picture": str(picture) if picture else None})
        return
    _print(rows, answer)
    if picture:
        print(f"Picture: {picture}")


def configuration(text: str, model: FlashRegressor, option: str) -> dict[str, Any]:
    """`memory_mb=512, cpu_shares=256` as column -> value.

    Raises:
        ShotsError: not of this form, or a column that is no configuration column.
    """
    found: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or not value:
            such = f"such as {model.config_columns[0]}=…"
            raise ShotsError(f"{option} {text!r}: expected COLUMN=VALUE, {such}, got {part!r}")
        if name not in model.config_columns:
            raise ShotsError(f"{option} {text!r}: expected columns {', '.join(model.config_columns)}, got {name!r}")
        if name in found:
            raise ShotsError(f"{option} {text!r}: {name} twice; repeat {option} for another configuration")
        found[name] = value
    return found


def with_measured(found: pd.DataFrame, adapted: AdaptedRegressor, model: FlashRegressor) -> pd.DataFrame:
    """Predictions with a column `measured_ms`, empty where the shots do not have the configuration."""
    space = model.model.space
    shots = adapted.shots
    known = dict(zip(space.keys(shots[space.names]), shots["runtime_ms"], strict=True))
    return found.assign(measured_ms=[known.get(key, float("nan")) for key in space.keys(found[space.names])])


def _asked(at: list[str], queries: Path | None, model: FlashRegressor) -> pd.DataFrame | None:
    import pandas as pd

    if at and queries is not None:
        raise ModelError("--at and --queries: give one of them")
    if at:
        return pd.DataFrame([configuration(text, model, "--at") for text in at], dtype=object)
    if queries is None:
        return None
    from flashfm.datasets.files import read_raw

    frame, _, _ = read_raw(queries)
    if not len(frame):
        raise ShotsError(f"{queries}: no data rows; expected one row for each configuration to ask for")
    return frame


def _records(found: pd.DataFrame, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows in plain values."""
    from flashfm.act.decisions import plain_config

    rows = []
    for row in found.to_dict("records"):
        times: dict[str, Any] = {name: float(row[name]) for name in INTERVAL}
        measured = float(row["measured_ms"])
        config = plain_config({name: row[name] for name in columns})
        rows.append({"config": config, **times, "measured_ms": None if measured != measured else measured})
    return rows


def _print(rows: list[dict[str, Any]], answer: shared.Answering) -> None:
    from flashfm.act.words import label, millis

    table = [
        (
            label(row["config"]),
            millis(row["runtime_ms"]),
            f"{millis(row['lower_ms'])} to {millis(row['upper_ms'])}",
            "" if row["measured_ms"] is None else millis(row["measured_ms"]),
        )
        for row in rows
    ]
    print_table(("configuration", "run time", "90 % interval", "measured"), table)
    novelty = answer.adapted.novelty
    if novelty is not None and novelty.novel:
        print(f"Caution: this application is unlike all known ones (p = {novelty.p_value:.2g}); measure more.")
    following = next_measurement(answer)
    if following is not None:
        print(f"Measure next: {label(following['config'])}; {following['why']}")


def _draw(found: pd.DataFrame, columns: tuple[str, ...], name: str, path: Path) -> Path:
    """The run time along the number that varies most, a panel for each combination of the others."""
    import pandas as pd

    from flashfm.reporting import predicted_curves
    from flashfm.reporting.predicted import MAX_PANELS

    numbers = [c for c in columns if pd.api.types.is_numeric_dtype(found[c]) and found[c].nunique() > 1]
    numbers = [c for c in numbers if (found[c].dropna() > 0).all()]
    if not numbers:
        raise DataError(
            f"--plot: expected a configuration column of numbers above 0 that varies, got {', '.join(columns)}"
        )
    axis = max(numbers, key=lambda c: found[c].nunique())
    rows = found[found[axis].notna()]
    others = [c for c in columns if c != axis and found[c].notna().any()]
    keys = rows[others].apply(_panel, axis=1) if others else pd.Series(name, rows.index)
    rows = rows.assign(app=keys, shot=rows["measured_ms"].notna()).drop_duplicates(["app", axis])
    best = rows.groupby("app", sort=False).agg(shots=("shot", "sum"), least=("runtime_ms", "min"))
    shown = best.sort_values(["shots", "least"], ascending=[False, True]).index[: MAX_PANELS[0]]
    title = f"{name}: predicted run time" if others else "Predicted run time"
    if len(best) > len(shown):
        title += f", {len(shown)} of {len(best)}"
    return predicted_curves(rows[rows["app"].isin(shown)], path, axis=axis, title=title)


def _panel(row: pd.Series) -> str:
    """A configuration without the axis, in few words: texts stand for themselves."""
    from flashfm.act.decisions import plain_config
    from flashfm.act.words import label

    plain = plain_config(row.to_dict())
    if all(not isinstance(value, str) for value in plain.values()):
        return label(plain)
    return " ".join(value if isinstance(value, str) else f"{name}={value:g}" for name, value in plain.items())
