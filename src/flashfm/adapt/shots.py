"""The measurements that a user gives of one pair or of many, read and checked against a pretrained model.

Enters: a DataFrame of rows. Leaves: `PairShots` of one pair over the model's grid, or a ShotsError of one line that
names the row, the column, what was expected and how to mend it; or `ManyShots`, where each bad pair has its own such
line and stops no other. No file is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from flashfm.act.choose import OUTCOMES
from flashfm.adapt.rows import Rows, read_rows
from flashfm.errors import ShotsError
from flashfm.models.flash import FlashModel
from flashfm.tasks.config_search import Pair, Shots


@dataclass(frozen=True, eq=False)
class PairShots:
    """What was measured of one pair."""

    pair: Pair
    shots: Shots
    """One task; positions are those in the grid of the model that `read_shots` gives, in the order of the rows."""
    failed: pd.DataFrame
    """Configuration columns and `outcome` of measurements that did not end well, those that also did left out."""


@dataclass(frozen=True, eq=False)
class ManyShots:
    """What was measured of many pairs, which are told by their numbers."""

    configurations: pd.DataFrame
    """The model's grid, and after it what else was measured."""
    pair: Int[np.ndarray, " shot"]
    """Whose shot it is, in rising order; those of a pair are in the order of its rows."""
    config: Int[np.ndarray, " shot"]
    """Position in `configurations`, once in a pair."""
    log_runtime: Float[np.ndarray, " shot"]
    """Natural logarithm of ms."""
    metrics: Float[np.ndarray, "shot metric"]
    """Raw units, NaN where missing."""
    count: Int[np.ndarray, " pair"]
    """Shots of each pair; 0 for one that has a problem."""
    failed_pair: Int[np.ndarray, " failure"]
    """Whose measurement did not end well, in rising order; those that also did are left out."""
    failed_config: Int[np.ndarray, " failure"]
    failed_outcome: Int[np.ndarray, " failure"]
    """Position in `OUTCOMES`."""
    problems: dict[int, str]
    """Pairs that cannot be answered for, and why in one line."""

    @property
    def start(self) -> Int[np.ndarray, " pair"]:
        """Position of each pair's first shot."""
        return np.asarray(np.cumsum(self.count) - self.count)

    def of(self, pairs: Int[np.ndarray, " chosen"], k: int, places: Int[np.ndarray, " config"]) -> Shots:
        """Shots of pairs that have `k` each; `places` maps configurations to positions in a grid."""
        at = self.start[pairs][:, None] + np.arange(k)
        return Shots(places[self.config[at]], self.log_runtime[at], self.metrics[at])


def read_shots(model: FlashModel, frame: pd.DataFrame, *, check_units: bool = True) -> tuple[FlashModel, PairShots]:
    """Check the shots of one pair.

    Args:
        model: what is to be adapted.
        frame: the configuration columns, `runtime_ms`, and where there are `app`, `platform`, `outcome` and metrics
            `NAME_mean`; rows of the same configuration are averaged. No rows is K = 0.
        check_units: refuse run times that are far from all pretraining pairs and would be near in another unit.

    Returns:
        The model, extended by configurations of shots that its grid has not, and the shots.

    Raises:
        ShotsError: a column is missing, a value is no number or out of range, more than one pair, or another unit.
    """
    rows = _sound(model, frame, check_units)
    read = _gathered(rows, np.zeros(len(frame), dtype=np.int64), np.zeros(len(frame), dtype=np.bool_), 1)
    pair = _pair_of(frame)
    extended, places = _extended(model, read)
    failed = read.configurations.iloc[read.failed_config].reset_index(drop=True)
    outcome = [OUTCOMES[i] for i in read.failed_outcome]
    shots = read.of(np.array([0]), int(read.count[0]), places)
    return extended, PairShots(pair, shots, failed.assign(outcome=outcome) if outcome else failed)


def read_many(model: FlashModel, frame: pd.DataFrame) -> tuple[FlashModel, list[tuple[Pair, Shots]]]:
    """Check the shots of several pairs, told apart by `app` and `platform`; arguments and errors as `read_shots`."""
    rows = _sound(model, frame, check_units=True)
    names = [frame[c].tolist() if c in frame else [None] * len(frame) for c in ("app", "platform")]
    pairs = [(str(app), None if pd.isna(platform) else str(platform)) for app, platform in zip(*names, strict=True)]
    number = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
    owner = np.array([number[pair] for pair in pairs], dtype=np.int64)
    read = _gathered(rows, owner, np.zeros(len(frame), dtype=np.bool_), len(number))
    extended, places = _extended(model, read)
    return extended, [(pair, read.of(np.array([i]), int(read.count[i]), places)) for pair, i in number.items()]


def read_each(
    model: FlashModel,
    frame: pd.DataFrame,
    owner: Int[np.ndarray, " row"],
    pairs: int,
    *,
    check_units: bool = True,
    bad: dict[int, str] | None = None,
) -> ManyShots:
    """Check the shots of many pairs, each on its own.

    Args:
        model: what is to be adapted; its grid is not extended.
        frame: as for `read_shots`; names of pairs are not looked at.
        owner: number of the pair of each row, from 0.
        pairs: how many there are.
        check_units: as for `read_shots`.
        bad: pairs that are known to have a problem.

    Raises:
        ShotsError: what concerns the frame as a whole, such as a column that is missing.
    """
    rows = read_rows(model, frame, check_units=check_units)
    problems = dict(bad or {})
    if rows.problems:
        number = _number_within(owner)
        for problem in rows.problems:
            problems.setdefault(int(owner[problem.row]), problem.of(int(number[problem.row])))
    left_out = np.isin(owner, np.array(sorted(problems), dtype=np.int64))
    read = _gathered(rows, owner, left_out, pairs)
    read.problems.update(problems)
    return read


def _sound(model: FlashModel, frame: pd.DataFrame, check_units: bool) -> Rows:
    rows = read_rows(model, frame, check_units=check_units)
    for problem in rows.problems:
        raise ShotsError(problem.of(problem.row + 1))
    return rows


def _gathered(rows: Rows, owner: Int[np.ndarray, " row"], left_out: Bool[np.ndarray, " row"], pairs: int) -> ManyShots:
    """One shot for each configuration of a pair, and what failed; rows that are `left_out` do not count."""
    order = np.argsort(owner, kind="stable")
    order = order[~left_out[order]]
    ok, bad = (order[rows.ended[order] == ended] for ended in (True, False))
    key = owner * len(rows.configurations) + rows.config
    pair, config, log_runtime, metrics = _averaged(
        key[ok], owner[ok], rows.config[ok], rows.log_runtime[ok], rows.metrics[ok]
    )
    bad = bad[~np.isin(key[bad], key[ok])]
    return ManyShots(
        rows.configurations,
        pair,
        config,
        log_runtime,
        metrics,
        np.bincount(pair, minlength=pairs),
        owner[bad],
        rows.config[bad],
        rows.outcome[bad],
        {},
    )


def _averaged(
    key: Int[np.ndarray, " row"],
    pair: Int[np.ndarray, " row"],
    config: Int[np.ndarray, " row"],
    log_runtime: Float[np.ndarray, " row"],
    metrics: Float[np.ndarray, "row metric"],
) -> tuple[
    Int[np.ndarray, " shot"], Int[np.ndarray, " shot"], Float[np.ndarray, " shot"], Float[np.ndarray, "shot metric"]
]:
    """One shot for each key: geometric mean of run times, mean of the metrics that are there."""
    unique, first, number, counts = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    if len(unique) == len(key):
        return pair, config, log_runtime, metrics
    mean = np.bincount(number, log_runtime) / counts
    seen = ~np.isnan(metrics)
    merged = np.full((len(unique), metrics.shape[1]), np.nan)
    for j in range(metrics.shape[1]):
        n = np.bincount(number, seen[:, j], len(unique))
        total = np.bincount(number, np.where(seen[:, j], metrics[:, j], 0.0), len(unique))
        merged[:, j] = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    order = np.argsort(first)
    at = first[order]
    return pair[at], config[at], mean[order], merged[order]


def _extended(model: FlashModel, read: ManyShots) -> tuple[FlashModel, Int[np.ndarray, " config"]]:
    """The model over what was measured as well, and the position of each configuration in its grid."""
    grid = len(model.grid)
    return extended(model, read.configurations, np.unique(read.config[read.config >= grid]))


def extended(
    model: FlashModel, configurations: pd.DataFrame, others: Int[np.ndarray, " other"]
) -> tuple[FlashModel, Int[np.ndarray, " config"]]:
    """The model over some more configurations of `configurations`, and where each of them is; -1 where it is not."""
    grid = len(model.grid)
    places = np.full(len(configurations), -1, dtype=np.int64)
    places[:grid] = np.arange(grid)
    if not others.size:
        return model, places
    places[others] = np.arange(grid, grid + len(others))
    return model.extended(configurations.iloc[others].reset_index(drop=True)), places


def _number_within(owner: Int[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
    """Number of each row in its pair, from 1."""
    order = np.argsort(owner, kind="stable")
    _, first, counts = np.unique(owner[order], return_index=True, return_counts=True)
    number = np.empty(len(owner), dtype=np.int64)
    number[order] = np.arange(len(owner)) - np.repeat(first, counts) + 1
    return number


def _pair_of(frame: pd.DataFrame) -> Pair:
    found: list[str | None] = []
    for column, words in (("app", "applications"), ("platform", "platforms")):
        values = frame[column].tolist() if column in frame else []
        names = list(dict.fromkeys(str(value) for value in values if not pd.isna(value)))
        if len(names) > 1:
            raise ShotsError(
                f"shots: expected rows of one pair, got {len(names)} {words} ({', '.join(map(repr, names[:3]))});"
                " adapt to each on its own"
            )
        found.append(names[0] if names else None)
    return found[0] or "", found[1]
