"""Pretraining as a user's script calls it: a table of measurements in, a model with its card out.

The other stages are methods of what this returns: `FlashRegressor.adapt`, `predict`, `recommend`, `save_pretrained`.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from flashfm.adapt.fewshot import FlashRegressor
from flashfm.artifact.card import Calibration, CardData, DataPart, render
from flashfm.datasets.table import MeasurementTable
from flashfm.engine.base import Engine
from flashfm.engine.inline import INLINE
from flashfm.errors import DataFormatError, ModelError
from flashfm.measurements.machine import describe
from flashfm.models import calibration as margins
from flashfm.models.calibration import NOMINAL, Held
from flashfm.models.device import device_of
from flashfm.models.flash import NORMAL, FlashModel
from flashfm.pretraining import supervised
from flashfm.pretraining.supervised import OnStep, PretrainConfig
from flashfm.tasks.config_search import Observations

TASKS = ("config-search",)
SUMMARY = (
    "Predicts the run time of an application in every configuration, with 90 % intervals, from none to a few of its"
    " measurements, and recommends a configuration."
)
USE = (
    "Choosing a configuration for an application of the kind that was pretrained on, on platforms that were pretrained"
    " on. A recommendation is advice: measure the chosen configuration before relying on it."
)


@dataclass(frozen=True)
class Run:
    """A pretrained model, and what its card says in figures."""

    model: FlashRegressor
    card: CardData


def pretrain(
    table: MeasurementTable | pd.DataFrame,
    *,
    task: str = "config-search",
    config_columns: Sequence[str] | None = None,
    target: str = "runtime_ms",
    pair_column: str = "app",
    platform_column: str = "platform",
    config: PretrainConfig | None = None,
    seed: int = 0,
    on_step: OnStep | None = None,
    card: CardData | None = None,
    engine: Engine = INLINE,
    device: str = "cpu",
) -> FlashRegressor:
    """Pretrain a model on measurements of many applications.

    Args:
        table: one row for each application, platform and configuration; repeated rows are averaged.
        task: `config-search`, the only one so far.
        config_columns: the columns that make a configuration, numeric or categorical; absent, those of the table, or
            `memory_mb` and `cpu_shares` where a DataFrame has them.
        target: column of the run time in milliseconds.
        pair_column: column of the application's name.
        platform_column: column of the platform's name; it may be absent.
        config: settings.
        seed: the same seed gives the same model on the same machine.
        on_step: told of the steps done and of all steps.
        card: what the model card is to say beyond the run, such as scores; what it leaves empty the run fills in.
        engine: whose workers pretrain together (`flashfm.engine.choose.engine_of` makes one); absent, this process does
            alone.
        device: `cpu`, `cuda`, or `auto` for the GPU where there is one; what comes back computes on the CPU.

    Raises:
        DataFormatError: the table breaks the schema.
        ModelError: an unknown task, too few applications, more workers than tasks in a batch, or no such device.
        EngineError: workers are lost again and again.
    """
    if isinstance(table, MeasurementTable):
        if config_columns is not None and tuple(config_columns) != table.config_columns:
            table = MeasurementTable.from_frame(
                table.frame, config_columns=config_columns, average_repeats=True, card=table.card
            )
    else:
        if platform_column != "platform" and platform_column not in table:
            got = ", ".join(map(str, table.columns[:12]))
            raise DataFormatError(f"table: no column {platform_column!r} as you named it, got {got}")
        table = MeasurementTable.from_frame(
            table,
            config_columns=config_columns,
            target=target,
            app_column=pair_column,
            platform_column=platform_column,
            average_repeats=True,
        )
    return run(
        table, task=task, config=config, seed=seed, on_step=on_step, card=card, engine=engine, device=device
    ).model


def run(
    table: MeasurementTable,
    *,
    task: str = "config-search",
    config: PretrainConfig | None = None,
    seed: int = 0,
    on_step: OnStep | None = None,
    card: CardData | None = None,
    engine: Engine = INLINE,
    device: str = "cpu",
) -> Run:
    """Pretrain on a checked table; arguments and errors are those of `pretrain`."""
    if task not in TASKS:
        raise ModelError(f"task: expected {', '.join(TASKS)}, got {task!r}")
    start = time.perf_counter()
    held: dict[int, Held] = {}
    model = supervised.pretrain(
        Observations.from_table(table),
        config,
        seed=seed,
        on_step=on_step or (lambda *_: None),
        on_held=held.update,
        engine=engine,
        device=device_of(device, workers=engine.workers),
    )
    seconds = time.perf_counter() - start
    written = _card(card or CardData("model", TASKS[0], SUMMARY), table, model, held, seed, seconds)
    return Run(FlashRegressor(model, render(written)), written)


def coverage(held: dict[int, Held]) -> dict[int, float]:
    """Share of run times inside their 90 % interval, for each K, on pairs that neither model nor margins saw.

    Margins are found on half of the calibration pairs and judged on the other half, and the other way round; pairs
    weigh alike. A K with fewer than two pairs is left out.
    """
    found = {}
    for k, of in held.items():
        numbers = np.unique(of.pair)
        if numbers.size < 2:
            continue
        half = np.isin(of.pair, np.random.default_rng(0).permutation(numbers)[::2])
        shares = []
        for chosen in (half, ~half):
            model = margins.calibrate({k: _of(of, chosen)}, NORMAL)
            rest = _of(of, ~chosen)
            deviation, mix = np.sqrt(rest.variance), model.of("mix", k)
            lower = rest.mean + deviation * (NORMAL[0] + mix * rest.correction[:, 1] - model.of("below", k))
            upper = rest.mean + deviation * (NORMAL[2] + mix * rest.correction[:, 3] + model.of("above", k))
            shares.append((float(rest.weight @ ((lower <= rest.observed) & (rest.observed <= upper))), rest))
        sizes = [np.unique(rest.pair).size for _, rest in shares]
        found[k] = float(np.average([share for share, _ in shares], weights=sizes))
    return found


def _of(held: Held, chosen: np.ndarray) -> Held:
    names = ("pair", "observed", "mean", "variance", "correction")
    return replace(held, **{name: getattr(held, name)[chosen] for name in names})


def _card(
    card: CardData, table: MeasurementTable, model: FlashModel, held: dict[int, Held], seed: int, seconds: float
) -> CardData:
    """What is known of the run, where the card says nothing yet."""
    about, network = table.card, bool(model.nets)
    taken = len(np.unique(held[0].pair)) if 0 in held else 0
    named = tuple(str(limit) for limit in about.get("limits", []) if isinstance(limit, str))
    run: dict[str, Any] = {
        "intended_use": USE,
        "date": datetime.datetime.now(datetime.UTC).date(),
        "machine": {**describe(), "seed": seed},
        "seconds": round(seconds, 1),
        "data": _parts(table),
        "splits": (
            f"Applications are never parted. {'Prior and network' if network else 'The prior'} and the margins of the"
            f" intervals rest on different applications; {taken} pairs served for the margins."
        ),
        "protocol": (
            "Coverage of the intervals: margins found on half of those pairs, judged on the other half, both ways."
        ),
        "calibration": tuple(Calibration(k, NOMINAL, share) for k, share in sorted(coverage(held).items())),
        "limits": (*_limits(table, model), *named),
        "licence": str(about.get("licence", "")),
    }
    return replace(card, **{name: value for name, value in run.items() if not getattr(card, name)})


def _parts(table: MeasurementTable) -> tuple[DataPart, ...]:
    """What each platform gave."""
    ok = table.ok().frame
    title, licence = str(table.card.get("title", "measurements")), str(table.card.get("licence", ""))
    platforms = [(str(name), rows) for name, rows in ok.groupby("platform")] if "platform" in ok else [("", ok)]
    return tuple(
        DataPart(title, licence, name, rows["app"].nunique(), rows["app"].nunique(), len(rows))
        for name, rows in platforms
    )


def _limits(table: MeasurementTable, model: FlashModel) -> list[str]:
    said = []
    for column in model.space.columns:
        known = ", ".join(column.levels) if column.levels else f"{column.low:g} to {column.high:g}"
        said.append(f"{column.name}: {known}; other values are refused.")
    if not model.metric_names:
        said.append("Pretrained without system metrics: only run times of shots are read.")
    if not model.nets:
        apps = len(table.apps)
        said.append(f"{apps} applications are too few for a network: the prior stands alone, and novelty is not told.")
    platforms = sorted({platform for _, platform in model.known if platform is not None})
    if platforms:
        said.append(f"Platforms: {', '.join(platforms)}; on another one errors are larger than the intervals say.")
    said.append("Intervals hold for applications of the pretraining kind, on average over them, not for each.")
    return said
