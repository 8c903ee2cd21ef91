"""Configuration search as a few-shot task: a table of measurements as dense arrays, and shots drawn from them.

Enters: a MeasurementTable. Leaves: `Observations` over the grid of all configurations that the table knows, `Shots`
that index into it, and the interface that every method of the comparison has.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from flashfm.datasets.table import MeasurementTable
from flashfm.errors import DataFormatError
from flashfm.tasks.space import ConfigSpace

MAX_CONFIGURATIONS = 1_000
"""Different configurations of a table; their full covariance is kept."""

Pair = tuple[str, str | None]
"""<application, platform>; the platform is None where there is none."""


@dataclass(frozen=True)
class Shots:
    """Labelled measurements of a batch of pairs, the same number of each."""

    config: Int[np.ndarray, "task shot"]
    """Positions in the grid, distinct within a task."""
    log_runtime: Float[np.ndarray, "task shot"]
    """Natural logarithm of the run time in ms."""
    metrics: Float[np.ndarray, "task shot metric"]
    """Raw units, NaN where missing."""

    @property
    def count(self) -> int:
        """K, the shots of each task."""
        return int(self.config.shape[1])

    def part(self, tasks: slice) -> Shots:
        """Some of the tasks."""
        return Shots(self.config[tasks], self.log_runtime[tasks], self.metrics[tasks])

    def __len__(self) -> int:
        return len(self.config)


@dataclass(frozen=True, eq=False)
class Observations:
    """What was observed of many pairs, over one grid of configurations; rows that did not end well are left out."""

    space: ConfigSpace
    grid: pd.DataFrame
    """The known configurations in sorted order, shape (config, configuration column), canonical types."""
    pairs: tuple[Pair, ...]
    log_runtime: Float[np.ndarray, "pair config"]
    """Natural logarithm of the mean run time in ms, NaN where not observed."""
    metrics: Float[np.ndarray, "pair config metric"]
    """Mean of each metric in its own unit, NaN where not observed."""
    metric_names: tuple[str, ...]

    @classmethod
    def from_table(cls, table: MeasurementTable, *, like: Observations | None = None) -> Observations:
        """Lay out the rows of a table that ended well.

        Args:
            table: one row per (pair, configuration).
            like: take its space, grid and metrics instead of the table's own, as for testing on other applications.

        Raises:
            DataFormatError: no row ended well, or there are more than `MAX_CONFIGURATIONS` configurations.
            ShotsError: a configuration that `like` does not know.
        """
        ok = table.ok()
        if not len(ok):
            raise DataFormatError("no row of the table ended well (outcome ok); a model needs run times")
        frame = ok.frame
        if like is None:
            configurations = ok.configurations
            if len(configurations) > MAX_CONFIGURATIONS:
                raise DataFormatError(
                    f"{len(configurations)} different configurations, expected at most {MAX_CONFIGURATIONS};"
                    " round their values, or declare fewer configuration columns"
                )
            space = ConfigSpace.fit(configurations)
            grid, names = space.check(configurations), ok.metric_names
        else:
            space, grid, names = like.space, like.grid, like.metric_names
        places = {key: i for i, key in enumerate(space.keys(grid))}
        config = space.locate(space.check(frame, "table"), places)
        if (config < 0).any():
            row = int(np.flatnonzero(config < 0)[0])
            raise DataFormatError(f"row {row + 1} has a configuration that is not in the grid")
        pairs = ok.pairs
        order = {pair: i for i, pair in enumerate(pairs)}
        platforms = frame["platform"].tolist() if "platform" in frame else [None] * len(frame)
        pair = np.array([order[key] for key in zip(frame["app"].tolist(), platforms, strict=True)])
        runtime = np.full((len(pairs), len(grid)), np.nan)
        runtime[pair, config] = np.log(frame["runtime_ms"].to_numpy(dtype=np.float64))
        metrics = np.full((len(pairs), len(grid), len(names)), np.nan)
        for j, name in enumerate(names):
            if f"{name}_mean" in frame:
                metrics[pair, config, j] = frame[f"{name}_mean"].to_numpy(dtype=np.float64)
        return cls(space, grid, pairs, runtime, metrics, names)

    @cached_property
    def features(self) -> Float[np.ndarray, "config feature"]:
        """Features of the grid's configurations."""
        return self.space.features(self.grid)

    @property
    def apps(self) -> tuple[str, ...]:
        """Applications, in order of first appearance."""
        return tuple(dict.fromkeys(app for app, _ in self.pairs))

    @property
    def observed(self) -> list[Int[np.ndarray, " config"]]:
        """Positions of each pair's observed configurations, in sorted order."""
        return [np.flatnonzero(~np.isnan(row)) for row in self.log_runtime]

    def of_apps(self, apps: Collection[str]) -> Observations:
        """Only the pairs of these applications; the grid stays."""
        chosen = set(apps)
        return self.of_pairs(np.array([i for i, (app, _) in enumerate(self.pairs) if app in chosen], dtype=np.int64))

    def of_pairs(self, index: Int[np.ndarray, " chosen"]) -> Observations:
        """Only these pairs, in this order; the grid stays."""
        pairs = tuple(self.pairs[i] for i in index)
        return replace(self, pairs=pairs, log_runtime=self.log_runtime[index], metrics=self.metrics[index])

    def shots(self, pair: Int[np.ndarray, " task"], config: Int[np.ndarray, "task shot"]) -> Shots:
        """What was measured of pair `pair[t]` in the configurations `config[t]`."""
        return Shots(config, self.log_runtime[pair[:, None], config], self.metrics[pair[:, None], config])

    def __len__(self) -> int:
        return len(self.pairs)


def draw(
    data: Observations, pairs: Int[np.ndarray, " pair"], k: int, sets: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " task"], Int[np.ndarray, "task shot"]]:
    """Random sets of K shots, sorted by configuration, of each pair that has more than K configurations."""
    observed = data.observed
    able = [int(i) for i in pairs if observed[i].size > k]
    drawn = [np.sort(rng.permutation(observed[i])[:k]) for i in able for _ in range(sets)]
    return np.repeat(np.array(able, dtype=np.int64), sets), np.array(drawn, dtype=np.int64).reshape(-1, k)


@runtime_checkable
class Fitted(Protocol):
    """A method after training."""

    def predict(self, shots: Shots) -> Float[np.ndarray, "task config"]:
        """Run time in ms of every configuration of the grid, for each task."""


@runtime_checkable
class Method(Protocol):
    """A way to predict run times from shots, as the experiments compare them."""

    @property
    def name(self) -> str:
        """What results call it."""

    @property
    def per_shots(self) -> bool:
        """Whether it has to be trained anew for each number of shots."""

    def fit(self, train: Observations, *, shots: int, seed: int) -> Fitted:
        """Train on some applications, to be asked with `shots` shots of others."""
