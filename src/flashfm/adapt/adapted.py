"""A model adapted to one pair: what it predicts, recommends, and would have measured next.

Enters: a pretrained model and the shots of one pair, as `flashfm.adapt.shots` reads them. Leaves: DataFrames of
predictions, recommendations with reasons, or errors of one line. Nothing is changed in place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from flashfm.act import Candidates, Declined, LambdaPrice, Price, Recommendation
from flashfm.act import recommend as decide
from flashfm.act.decisions import Config, plain_config
from flashfm.act.words import label
from flashfm.adapt.design import expected_improvement, most_informative
from flashfm.adapt.many import offered
from flashfm.adapt.shots import PairShots
from flashfm.errors import ModelError
from flashfm.models.flash import FlashModel, Forecast
from flashfm.models.novelty import LEVEL
from flashfm.records import Outcome
from flashfm.tasks.config_search import Pair, Shots


@dataclass(frozen=True)
class Novelty:
    """How unlike a pair is to those of pretraining."""

    p_value: float
    """Share of pairs like those of pretraining that lie at least as far out, in (0, 1]."""
    distance: float
    """Mahalanobis distance of the embedding to its nearest neighbours."""

    @property
    def novel(self) -> bool:
        """Whether fewer than 5 % of pairs like those of pretraining lie as far out."""
        return self.p_value < LEVEL


@dataclass(frozen=True)
class NextMeasurement:
    """What to measure next, and why."""

    config: Config
    why: str


class AdaptedRegressor:
    """A model adapted to one pair; it answers for that pair and never changes."""

    def __init__(self, model: FlashModel, read: PairShots, *, fine_tuned: bool = False) -> None:
        """Wrap what `FlashRegressor.adapt` read; call that instead."""
        self._model, self._read, self.fine_tuned = model, read, fine_tuned

    @property
    def model(self) -> FlashModel:
        """The tensors, fine-tuned where steps were taken; free to change between versions."""
        return self._model

    @property
    def pair(self) -> Pair:
        """<application, platform>; an empty name where the shots had none."""
        return self._read.pair

    @property
    def shots(self) -> pd.DataFrame:
        """Configuration columns and `runtime_ms` of each shot, in the order in which they were given."""
        shots = self._read.shots
        rows = self._model.grid.iloc[shots.config[0]].reset_index(drop=True)
        table: pd.DataFrame = rows.assign(runtime_ms=np.exp(shots.log_runtime[0]))
        return table

    @cached_property
    def _forecast(self) -> Forecast:
        return self._model.forecast(self._read.shots)

    @property
    def embedding(self) -> Float[np.ndarray, " embed"] | None:
        """The pair's embedding; None without a network or without shots."""
        found = self._forecast.embedding
        return None if found is None else found[0]

    @cached_property
    def novelty(self) -> Novelty | None:
        """How unlike the pair is to those of pretraining; None where there is no embedding."""
        model = self._model.novelty
        if model is None or self._forecast.embedding is None:
            return None
        p_value, distance = self._model.judge(
            self._read.shots, self._model.compared(self._read.shots, self._forecast.embedding)
        )
        return Novelty(float(p_value[0]), float(distance[0]))

    def nearest(self, n: int = 3) -> list[tuple[str, str | None, float]]:
        """The `n` pretraining pairs whose embeddings lie nearest, and how far; empty where there is no embedding."""
        model, embedding = self._model, self.embedding
        if model.novelty is None or embedding is None:
            return []
        shots = self._read.shots
        if model.bare is None or model.complete(shots)[0]:
            near = model.novelty.nearest(embedding, n)
        else:
            bare = replace(shots, metrics=np.full_like(shots.metrics, np.nan))
            near = model.bare.nearest(model.embed(bare)[0], n)
        return [(*model.known[pair], distance) for pair, distance in near]

    def predict(self, queries: pd.DataFrame | None = None) -> pd.DataFrame:
        """Run time in ms with its 90 % interval, for each asked configuration.

        Args:
            queries: rows with the configuration columns; numbers between those of the grid are interpolated. None asks
                for the configurations that belong to those of the shots, or for the whole grid where K = 0.

        Returns:
            The configuration columns, `runtime_ms`, `lower_ms`, `upper_ms`, in the order asked.

        Raises:
            ShotsError: an unknown value, or a number outside of the range that was pretrained on.
        """
        if queries is None:
            places = self._candidates
            return self._answer(self._model.grid.iloc[places].reset_index(drop=True), self._forecast, places)
        checked = self._model.space.check(queries, "queries")
        model, forecast = self._model, self._forecast
        places = model.space.locate(checked, model.places)
        if (places < 0).any():
            model = model.extended(checked[places < 0].drop_duplicates())
            forecast = model.forecast(self._read.shots)
            places = model.space.locate(checked, model.places)
        return self._answer(checked, forecast, places)

    def recommend(
        self,
        objective: str = "cost",
        *,
        price: Price | None = None,
        max_slowdown: float | None = None,
        max_runtime_ms: float | None = None,
        strict: bool = False,
        today: Mapping[str, Any] | None = None,
        candidates: pd.DataFrame | None = None,
    ) -> Recommendation | Declined:
        """Choose a configuration, with reasons.

        Args:
            objective: `cost` or `runtime`.
            price: what a run costs; for `cost` on configurations with `memory_mb`, AWS Lambda's prices by default.
            max_slowdown: the most times the fastest expected run time, at least 1.
            max_runtime_ms: the longest run time in ms, instead.
            strict: the upper end of the interval must meet the limit.
            today: the configuration in use; by default the first shot.
            candidates: configurations to choose from; by default those that `predict` answers for.

        Raises:
            ModelError, ShotsError: arguments that are none; see `flashfm.act.recommend`.
        """
        failed = self._read.failed
        if not self._read.shots.count and len(failed) < len(self._candidates):
            what = (
                "what was measured of this application failed"
                if len(failed)
                else "nothing was measured of this application"
            )
            try:
                mend = f"measure it once, in {label(self.next_measurement().config)} for example, and adapt"
            except ModelError:
                mend = "measure a larger configuration, or mend the application first"
            return Declined(f"{what}; the prior alone fits any", mend)
        space, shots = self._model.space, self.shots
        table = self.predict(candidates)
        keys, shot_keys, bad_keys = (space.keys(frame) for frame in (table, shots, failed))
        known = set(keys)
        apart = failed.drop(columns="outcome") if len(failed) else failed
        apart = apart[[key not in known for key in bad_keys]] if len(failed) else apart
        if len(apart):
            table = pd.concat([table, self.predict(apart.drop_duplicates())], ignore_index=True)
            keys = space.keys(table)
        bad = dict(zip(bad_keys, failed["outcome"], strict=True)) if len(failed) else {}
        table["measured"] = [key in shot_keys for key in keys]
        table["outcome"] = [bad.get(key, "ok") for key in keys]
        if today is None and self._read.shots.count and shot_keys[0] in known:
            today = plain_config(shots[space.names].iloc[0].to_dict())
        if price is None and objective == "cost" and "memory_mb" in space.names:
            price = LambdaPrice()
        return decide(
            Candidates.from_frame(table, space.names),
            objective=objective,
            price=price,
            max_slowdown=max_slowdown,
            max_runtime_ms=max_runtime_ms,
            strict=strict,
            today=today,
            nearest=self.nearest(),
            novelty=self.novelty,
        )

    def next_measurement(self, goal: str = "learn") -> NextMeasurement:
        """The configuration most worth measuring next.

        Args:
            goal: `learn` lowers the uncertainty about all configurations most; `fastest` looks for the least run time,
                by expected improvement.

        Raises:
            ModelError: an unknown goal, or every configuration has been measured.
        """
        if goal not in ("learn", "fastest"):
            raise ModelError(f"goal: expected learn or fastest, got {goal!r}")
        asked, space = self._candidates, self._model.space
        tried = {*self._read.shots.config[0].tolist(), *space.locate(self._read.failed, self._model.places).tolist()}
        left = np.array([i for i in asked if i not in tried and not self._hopeless(int(i))], dtype=np.int64)
        if not left.size:
            raise ModelError(
                "every configuration of the model was measured, or is bound to fail; none is left to measure"
            )
        prior = self._model.prior
        if goal == "learn":
            best, before, after = most_informative(prior.covariance(self._read.shots), prior.gp.noise, left, asked)
            why = (
                f"it lowers the typical uncertainty of all configurations from {_percent(before)} to {_percent(after)}"
            )
            return NextMeasurement(self._config(best), why)
        forecast = self._forecast
        if self._read.shots.count:
            reached = float(self._read.shots.log_runtime.min())
            gain = expected_improvement(forecast.mean[0], forecast.variance[0], reached)
            best = int(left[int(gain[left].argmax())])
            return NextMeasurement(
                self._config(best), f"its run time is expected to undercut the best by {_percent(float(gain[best]))}"
            )
        best = int(left[int(forecast.mean[0][left].argmin())])
        return NextMeasurement(self._config(best), "it is the fastest for pretraining pairs on average")

    def _hopeless(self, i: int) -> bool:
        """Whether a configuration with at least its memory, all else equal, ran out of it."""
        failed = self._read.failed
        if not len(failed) or "memory_mb" not in self._model.space.names:
            return False
        others = [name for name in self._model.space.names if name != "memory_mb"]
        row = self._model.grid.iloc[i]
        for other in failed[failed["outcome"] == Outcome.OUT_OF_MEMORY.value].to_dict("records"):
            same = all(other[name] == row[name] or (pd.isna(other[name]) and pd.isna(row[name])) for name in others)
            if same and other["memory_mb"] >= row["memory_mb"]:
                return True
        return False

    @cached_property
    def _candidates(self) -> Int[np.ndarray, " config"]:
        return candidates(self._model, self._read.shots)

    def _answer(
        self, configurations: pd.DataFrame, forecast: Forecast, places: Int[np.ndarray, " query"]
    ) -> pd.DataFrame:
        columns: dict[str, Any] = {name: configurations[name].to_numpy() for name in self._model.space.names}
        told = {"runtime_ms": forecast.point, "lower_ms": forecast.lower, "upper_ms": forecast.upper}
        return pd.DataFrame(columns | {name: np.exp(values[0, places]) for name, values in told.items()})

    def _config(self, i: int) -> Config:
        return plain_config(self._model.grid.iloc[i].to_dict())

    def __repr__(self) -> str:
        app, platform = self.pair
        named = f" of {app!r}" if app else ""
        return f"AdaptedRegressor({self._read.shots.count} shots{named}{f' on {platform!r}' if platform else ''})"


def candidates(model: FlashModel, shots: Shots) -> Int[np.ndarray, " config"]:
    """Configurations that some pretraining pair was observed in together with those of one task's shots, and these."""
    if not shots.count:
        return np.arange(len(model.grid))
    return np.flatnonzero(offered(model, shots, len(model.grid))[0])


def _percent(nats: float) -> str:
    """A deviation of the logarithm as a percentage."""
    return f"{100 * math.expm1(nats):.0f} %"
