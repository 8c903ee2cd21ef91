"""`flashfm demo`: four real applications, measured in one size each; the rest is predicted and set beside the truth."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from flashfm.cli import adapted as shared
from flashfm.cli.printing import percent, print_json, print_table
from flashfm.errors import DataError, ModelError

if TYPE_CHECKING:
    import pandas as pd

    from flashfm.act import Declined, Price, Recommendation
    from flashfm.adapt.fewshot import FlashRegressor
    from flashfm.reporting import Section

EXAMPLE = "Example: flashfm demo --memory 1024 --out demo.html"
PLATFORM = "lambda"
TITLE = "One measurement each: predicted and measured run times of four applications"


@dataclass(frozen=True)
class Shown:
    """One application: what was predicted from one size, what was measured, and what is recommended."""

    app: str
    rows: pd.DataFrame
    """One a size: `memory_mb`, `runtime_ms`, `lower_ms`, `upper_ms`, `measured_ms`, `shot`, and costs of a million runs
    in USD: `usd_per_million`, `usd_lower`, `usd_upper`, `usd_measured`."""
    decision: Recommendation | Declined
    known: bool
    """Whether the model was pretrained on it."""

    @property
    def use_mb(self) -> int | None:
        """The recommended size; None where none is."""
        config = getattr(self.decision, "config", None)
        return None if config is None else int(config["memory_mb"])

    @property
    def saved(self) -> float | None:
        """Share of the cost of the size in use that the recommended one saves, by the measurements of both."""
        if self.use_mb is None:
            return None
        cost = self.rows.set_index("memory_mb")["usd_measured"]
        return float(1 - cost[self.use_mb] / cost[self.rows.loc[self.rows["shot"], "memory_mb"].iloc[0]])


def command(
    model: str | None = shared.Model,
    memory: int = typer.Option(3008, help="Size in MB that each application is in, and was measured in."),
    max_slowdown: float = typer.Option(1.2, help="Longest run time of a recommended size, in times of the fastest."),
    out: Path = typer.Option(Path("out/demo.html"), help="The page with pictures, .html."),
    as_json: bool = shared.Json,
) -> None:
    """Predict and recommend for four real applications from one measurement each, and compare with the truth."""
    from flashfm.act import load_prices
    from flashfm.adapt.fewshot import FlashRegressor

    start = time.perf_counter()
    if out.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"--out is {out}; expected a name that ends in .html")
    reference = model or shared.DEFAULT_MODEL
    loaded = FlashRegressor.from_pretrained(reference)
    if "memory_mb" not in loaded.config_columns:
        columns = ", ".join(loaded.config_columns)
        raise ModelError(f"model {reference}: expected the configuration column memory_mb, got {columns}")
    measured, price = _measured(memory), load_prices("aws-lambda")
    shown = [_show(app, rows, loaded, memory, max_slowdown, price) for app, rows in measured.items()]
    scores = _scores(shown)
    page = _write(out, shown, scores, memory, max_slowdown, reference)
    summary = {
        "model": reference,
        "memory_mb": memory,
        "max_slowdown": max_slowdown,
        **scores,
        "applications": [_plain(one) for one in shown],
        "page": str(page),
        "seconds": round(time.perf_counter() - start, 2),
    }
    if as_json:
        print_json(summary)
        return
    print_table(_SIZES, _size_rows(shown))
    print()
    print_table(_USES, _use_rows(shown))
    print(f"\n{_verdict(scores, shown)}")
    print(f"Page with pictures: {page} ({summary['seconds']} s)")
    print("Your own function: flashfm measure --function handler.py:main --out shots.csv; flashfm recommend shots.csv")


def _measured(memory: int) -> dict[str, pd.DataFrame]:
    """Rows of each real application on `PLATFORM` that ended well, by size."""
    from flashfm.applications.segments import REAL
    from flashfm.datasets.sources import load_measured

    frame = load_measured().ok().frame
    frame = frame[frame["platform"] == PLATFORM].sort_values("memory_mb")
    found = {app: frame[frame["app"] == app].reset_index(drop=True) for app in REAL}
    sizes = sorted(set.intersection(*(set(rows["memory_mb"].astype(int)) for rows in found.values())))
    if memory not in sizes:
        raise ModelError(f"--memory {memory}: expected a measured size, {', '.join(map(str, sizes))} MB")
    return found


def _show(app: str, rows: pd.DataFrame, model: FlashRegressor, memory: int, max_slowdown: float, price: Price) -> Shown:
    """Give the model one row, and ask for all sizes."""
    shot = rows["memory_mb"] == memory
    adapted = model.adapt(rows[shot], fine_tune=False)
    sizes = rows[[column for column in model.config_columns if column in rows]]
    found = adapted.predict(sizes).reset_index(drop=True)
    ms = rows["runtime_ms"].to_numpy()
    costs = {"runtime_ms": "usd_per_million", "lower_ms": "usd_lower", "upper_ms": "usd_upper"}
    priced = {name: 1e6 * price.per_run(sizes, found[column].to_numpy()) for column, name in costs.items()}
    found = found.assign(measured_ms=ms, shot=shot.to_numpy(), usd_measured=1e6 * price.per_run(sizes, ms), **priced)
    decision = adapted.recommend("cost", price=price, max_slowdown=max_slowdown, candidates=sizes)
    return Shown(app, found, decision, app in {name for name, _ in model.pairs})


def _scores(shown: list[Shown]) -> dict[str, float | int]:
    """Errors over the sizes that the model was not given."""
    import pandas as pd

    asked = pd.concat([one.rows[~one.rows["shot"]] for one in shown])
    errors = (asked["runtime_ms"] / asked["measured_ms"] - 1).abs()
    inside = (asked["lower_ms"] <= asked["measured_ms"]) & (asked["measured_ms"] <= asked["upper_ms"])
    return {"predictions": len(asked), "mean_ape": float(errors.mean()), "inside": int(inside.sum())}


def _plain(one: Shown) -> dict[str, Any]:
    """For machines."""
    columns = ["memory_mb", "runtime_ms", "lower_ms", "upper_ms", "measured_ms", "shot"]
    rows = one.rows[columns].astype({"memory_mb": int, "shot": bool}).to_dict("records")
    return {
        "app": one.app,
        "pretrained_on": one.known,
        "sizes": [{str(name): value for name, value in row.items()} for row in rows],
        "decision": one.decision.to_dict(),
        "measured_saving": one.saved,
    }


_SIZES = ("application", "size", "predicted", "90 % interval", "measured", "error", "")
_USES = ("application", "use", "predicted there", "measured", "predicted saving", "measured", "confidence")


def _size_rows(shown: list[Shown]) -> list[tuple[str, ...]]:
    from flashfm.act.words import millis

    table: list[tuple[str, ...]] = []
    for one in shown:
        for i, row in enumerate(one.rows.to_dict("records")):
            inside = row["lower_ms"] <= row["measured_ms"] <= row["upper_ms"]
            error = row["runtime_ms"] / row["measured_ms"] - 1
            table.append(
                (
                    one.app if i == 0 else "",
                    f"{row['memory_mb']:g} MB",
                    millis(row["runtime_ms"]),
                    f"{millis(row['lower_ms'])} to {millis(row['upper_ms'])}",
                    millis(row["measured_ms"]),
                    f"{100 * error:+.0f} %",
                    "given to it" if row["shot"] else "inside" if inside else "outside",
                )
            )
    return table


def _use_rows(shown: list[Shown]) -> list[tuple[str, ...]]:
    from flashfm.act import Recommendation
    from flashfm.act.words import millis, share, span

    table: list[tuple[str, ...]] = []
    for one in shown:
        decision = one.decision
        if not isinstance(decision, Recommendation):
            table.append((one.app, "none", "-", "-", "-", "-", decision.reason))
            continue
        measured = float(one.rows.loc[one.rows["memory_mb"] == one.use_mb, "measured_ms"].iloc[0])
        saving = decision.saving
        bounds = f"{share(saving.expected)} ({share(saving.lower)} to {share(saving.upper)})" if saving else "-"
        table.append(
            (
                one.app,
                f"{one.use_mb} MB" + ", as now" * decision.stay,
                span(decision.choice.runtime_ms),
                millis(measured),
                "nothing to change" if decision.stay else bounds,
                "-" if decision.stay else share(one.saved or 0.0),
                decision.confidence,
            )
        )
    return table


def _verdict(scores: dict[str, float | int], shown: list[Shown]) -> str:
    known = [one.app for one in shown if one.known]
    said = (
        f"Mean error over the {scores['predictions']} sizes that the model was not given:"
        f" {100 * scores['mean_ape']:.1f} %; {scores['inside']} of {scores['predictions']}"
        f" ({percent(scores['inside'] / scores['predictions'])}) lie inside their 90 % interval."
    )
    return said + (f" The model was pretrained on {', '.join(known)}, so this is no test of it." if known else "")


def _write(
    out: Path, shown: list[Shown], scores: dict[str, float | int], memory: int, max_slowdown: float, reference: str
) -> Path:
    """The page, with its pictures inside."""
    from flashfm.reporting import write_page

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--out {out}: cannot make its folder: {error.strerror or error}") from None
    intro = (
        f"Each application was measured in one size, {memory} MB, under a CPU quota as on AWS Lambda. The model"
        f" {reference} has seen none of their other measurements; it says how they would run in every other size, with"
        " intervals that are to hold nine times of ten, and which size to use. Circles are measurements that it was not"
        " given."
    )
    return write_page(out, TITLE, intro, _sections(shown, scores, memory, max_slowdown))


def _sections(shown: list[Shown], scores: dict[str, float | int], memory: int, max_slowdown: float) -> list[Section]:
    import pandas as pd

    from flashfm.act import Recommendation
    from flashfm.reporting import Section, Table

    frame = pd.concat([one.rows.assign(app=one.app) for one in shown], ignore_index=True)
    uses = {one.app: one.use_mb for one in shown if one.use_mb is not None}
    notes = {one.app: _note(one, memory) for one in shown}
    times = frame.drop(columns=["usd_per_million", "usd_lower", "usd_upper"])
    limit = (
        f"The cheapest size that is expected to take at most {max_slowdown:g} times the fastest, at the prices of AWS"
        " Lambda (x86, us-east-1). The measured saving is what the measurements of both sizes say."
    )
    reasons = "\n\n".join(
        f"{one.app}: {'; '.join(one.decision.why)}."
        if isinstance(one.decision, Recommendation)
        else f"{one.app}: no recommendation, since {one.decision.reason}; {one.decision.mend}."
        for one in shown
    )
    return [
        Section(
            "Predicted beside measured",
            _verdict(scores, shown),
            picture=_picture(times, uses, notes, "Run time by size, from one measurement"),
            alt="Predicted run time of each application by memory size with its interval, and measured run times",
        ),
        Section("Which size to use", limit, table=Table(_USES, tuple(_use_rows(shown)))),
        Section(
            "What it costs",
            "Predicted cost of a million runs below each run time; the dashed line is the recommended size.",
            picture=_picture(frame, uses, {}, "Run time and cost by size"),
            alt="Predicted run time and cost of each application by memory size",
        ),
        Section("Why", reasons),
        Section("All figures", table=Table(_SIZES, tuple(_size_rows(shown)))),
    ]


def _note(one: Shown, memory: int) -> str:
    from flashfm.act import Recommendation
    from flashfm.act.words import share

    decision = one.decision
    if not isinstance(decision, Recommendation):
        return "no recommendation"
    if decision.stay or decision.saving is None:
        return f"stay with {memory} MB"
    expected, measured = decision.saving.expected, one.saved or 0.0
    if expected < 0:
        return f"costs {share(-expected)} more; measured: {share(-measured)}"
    return f"saves {share(expected)} of the cost; measured: {share(measured)}"


def _picture(frame: pd.DataFrame, uses: dict[str, int], notes: dict[str, str], title: str) -> bytes:
    from flashfm.reporting import predicted_curves

    with tempfile.TemporaryDirectory(prefix="flashfm-demo-") as folder:
        path = Path(folder) / "curves.png"
        return predicted_curves(frame, path, recommended=uses, notes=notes, title=title).read_bytes()
