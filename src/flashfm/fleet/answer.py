"""Recommendations for many pairs in memory: rows in, a plan with one row a pair out.

Enters: a model and rows of any number of pairs. Leaves: a `Plan`. A pair that cannot be read is a row that says why;
every other row says what `AdaptedRegressor.recommend` says of that pair alone. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Bool, Int

from flashfm.act.choose import Aim
from flashfm.adapt.fewshot import FlashRegressor
from flashfm.adapt.many import adapt_each
from flashfm.adapt.rows import check_columns
from flashfm.adapt.shots import read_each
from flashfm.errors import DataFormatError, ModelError
from flashfm.fleet.filling import fill, fill_unmeasured
from flashfm.fleet.plan import BAD, PLACE, Draft, Plan
from flashfm.fleet.plane import plane_of
from flashfm.fleet.settings import FleetSettings
from flashfm.fleet.today import read_today
from flashfm.models.flash import FlashModel
from flashfm.models.threads import one_thread
from flashfm.tasks.config_search import Pair
from flashfm.tasks.space import ConfigSpace


def recommend_many(
    model: FlashRegressor,
    rows: pd.DataFrame,
    settings: FleetSettings | None = None,
    *,
    pairs: Sequence[Pair] = (),
) -> Plan:
    """Recommend a configuration for each of many pairs.

    Args:
        model: pretrained.
        rows: measured rows of the pairs, in any order, as `FlashRegressor.adapt` takes them of one, with a column of
            the application and perhaps of the platform. A row without configuration, run time and outcome only names
            its pair.
        settings: the aim, and what the columns are called.
        pairs: pairs that the plan has a row of even where `rows` has none.

    Raises:
        DataFormatError: a column that the settings name is missing.
        ShotsError: a column is missing, doubled or in another unit.
        ModelError: prices that know nothing of any configuration.
    """
    settings = settings or FleetSettings()
    frame = renamed(rows, settings, "rows")
    check_columns(frame.columns, needed=False)
    named = [frame[c].tolist() if c in frame else [None] * len(frame) for c in ("app", "platform")]
    texts = [[None if pd.isna(value) else str(value) for value in column] for column in named]
    listed = dict.fromkeys([*zip(*texts, strict=True), *pairs])
    number = {pair: i for i, pair in enumerate(listed)}
    owner = np.array([number[pair] for pair in zip(*texts, strict=True)], dtype=np.int64)
    apps, platforms = (pa.array([pair[j] for pair in listed], pa.string()) for j in (0, 1))
    with one_thread():
        return answer(model.model, frame, owner, apps, platforms, settings)


def renamed(frame: pd.DataFrame, settings: FleetSettings, what: str) -> pd.DataFrame:
    """Rows under our column names.

    Raises:
        DataFormatError: a column that the settings name is missing.
    """
    return frame.rename(columns=names_of(list(map(str, frame.columns)), settings, what)).drop(
        columns=[""], errors="ignore"
    )


def names_of(columns: Sequence[str], settings: FleetSettings, what: str) -> dict[str, str]:
    """What columns are called here, where that differs; the empty text for those that others take the place of.

    Raises:
        DataFormatError: a column that the settings name is missing, or there is none of the application.
    """
    names: dict[str, str] = {}
    got = ", ".join(columns[:12])
    for field, ours, column in (
        ("target", "runtime_ms", settings.target),
        ("app_column", "app", settings.app_column),
        ("platform_column", "platform", settings.platform_column),
    ):
        if column == ours:
            continue
        if column not in columns:
            raise DataFormatError(f"{what}: no column {column!r} as you named it ({field}), got {got}")
        names |= {ours: "", column: ours}
    if settings.app_column not in columns:
        raise DataFormatError(f"{what}: no column {settings.app_column!r} to tell applications apart, got {got}")
    return names


def answer(
    model: FlashModel,
    frame: pd.DataFrame,
    owner: Int[np.ndarray, " row"],
    apps: pa.Array,
    platforms: pa.Array,
    settings: FleetSettings,
    *,
    bad: Mapping[int, str] | None = None,
) -> Plan:
    """The plan of pairs whose rows are told by numbers.

    Args:
        model: pretrained.
        frame: rows under our column names.
        owner: number of the pair of each row.
        apps: name of the application of each pair.
        platforms: name of the platform of each pair, null where there is none.
        settings: the aim, and how rows are read.
        bad: pairs that are known to have a problem, and which.

    Raises:
        ShotsError, ModelError: as `recommend_many`.
    """
    aim = settings.aim_for(model)
    _check_prices(model, aim)
    problems = {**_unnamed(apps, platforms, settings), **(bad or {})}
    today = read_today(model.space, frame, owner, len(apps), settings.today_prefix)
    problems = {**today.problems, **problems}
    told = ~_without_measurement(model.space, frame)
    read = read_each(
        model,
        frame[told].reset_index(drop=True),
        owner[told],
        len(apps),
        check_units=settings.check_units,
        bad=problems,
    )
    config = today.among(model.space, read.configurations)
    draft, plane = Draft(model.space, len(apps)), plane_of(model)
    draft.shots[:] = read.count
    for batch in adapt_each(model, read, fine_tune=settings.fine_tune):
        fill(draft, batch, today, config, aim)
        if plane is not None and batch.embedding is not None:
            draft.several(PLACE, batch.pair, plane.project(batch.embedding))
    fill_unmeasured(draft, model, read, today, aim)
    for pair, words in read.problems.items():
        draft.refuse(pair, BAD, words)
    return draft.plan(apps, platforms)


def _check_prices(model: FlashModel, aim: Aim) -> None:
    """Refuse prices that know nothing of any configuration, before anything is worked out."""
    if aim.price is None:
        return
    reasons: list[str] = []
    for i in range(len(model.grid)):
        try:
            aim.price.per_run(model.grid.iloc[[i]].reset_index(drop=True), np.ones(1))
        except ModelError as error:
            reasons.append(str(error))
        else:
            return
    raise ModelError(reasons[0])


def _unnamed(apps: pa.Array, platforms: pa.Array, settings: FleetSettings) -> dict[int, str]:
    problems = {i: f"no name in column {settings.app_column!r}" for i, app in enumerate(apps.to_pylist()) if not app}
    if settings.platforms:
        for i, platform in enumerate(platforms.to_pylist()):
            if platform not in settings.platforms:
                got = "no platform" if platform is None else f"platform {platform[:60]!r}"
                problems.setdefault(i, f"{got}: expected one of {', '.join(settings.platforms)}")
    return problems


def _without_measurement(space: ConfigSpace, frame: pd.DataFrame) -> Bool[np.ndarray, " row"]:
    """Rows that only name their pair."""
    columns = [name for name in (*space.names, "runtime_ms", "outcome") if name in frame]
    return np.asarray(frame[columns].isna().to_numpy().all(axis=1))
