"""Few-shot adaptation: a pretrained model and the shots of a new pair give a new object that answers for that pair.

Enters: DataFrames of measurements. Leaves: DataFrames of predictions, recommendations, or errors of one line. Nothing
is changed in place: `adapt` returns a new object, in milliseconds, by embedding alone; gradient steps are taken where
asked for, or where the pair is novel and has enough shots.
"""

from __future__ import annotations

import math
import os
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
from flashfm.act.recommend import ENOUGH_SHOTS
from flashfm.act.words import label
from flashfm.adapt.design import designed_shots, expected_improvement, most_informative
from flashfm.adapt.finetune import fine_tune as tune
from flashfm.adapt.shots import PairShots, read_many, read_shots
from flashfm.artifact import checkpoint, registry
from flashfm.errors import ModelError, ShotsError
from flashfm.models import state
from flashfm.models.flash import FlashModel, Forecast
from flashfm.models.novelty import LEVEL
from flashfm.records import Outcome
from flashfm.tasks.config_search import Pair, Shots

BATCHED = ("config", "log_runtime", "metrics")


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


class FlashRegressor:
    """A pretrained model for configuration search."""

    def __init__(self, model: FlashModel, card: str = "") -> None:
        """Wrap a pretrained model; `flashfm.pretrain` and `from_pretrained` make one."""
        self._model = model
        self.card = card

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str]) -> FlashRegressor:
        """Load a model: a name that ships with the package, such as `serverless-memory`, or a folder.

        Raises:
            ArtifactError: no such model, or it is damaged, foreign or of a later version.
        """
        saved = checkpoint.load(registry.resolve(name_or_path), kind=state.KIND)
        return cls(state.from_state(saved.config, saved.tensors), saved.card)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the model and its card to a folder, whole or not at all.

        Raises:
            ArtifactError: the folder holds something else or cannot be written.
        """
        config, tensors = state.to_state(self._model)
        checkpoint.save(
            os.fspath(folder), kind=state.KIND, config=config, tensors=tensors, card=self.card or "# Model\n"
        )

    @property
    def model(self) -> FlashModel:
        """The tensors; free to change between versions."""
        return self._model

    @property
    def config_columns(self) -> tuple[str, ...]:
        """Columns that make a configuration."""
        return tuple(self._model.space.names)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Metrics that shots may have, as columns `NAME_mean`."""
        return self._model.metric_names

    @property
    def grid(self) -> pd.DataFrame:
        """The configurations that were pretrained on; numbers between them can be asked for as well."""
        return self._model.grid.copy()

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """<application, platform> pairs whose embeddings the model knows."""
        return self._model.known

    def adapt(
        self, shots: pd.DataFrame | None = None, *, fine_tune: bool | None = None, check_units: bool = True
    ) -> AdaptedRegressor:
        """Adapt to one pair.

        Args:
            shots: its K measured rows: the configuration columns, `runtime_ms`, and where there are `app`, `platform`,
                `outcome` and metrics `NAME_mean`. None or no rows is K = 0, the prior alone.
            fine_tune: take gradient steps; by default where the pair is novel and has at least three shots.
            check_units: refuse run times that look like another unit.

        Raises:
            ShotsError: rows of two pairs, an unknown value, a run time that is not above 0, or another unit.
        """
        frame = shots if shots is not None else self._model.grid[:0]
        model, read = read_shots(self._model, frame, check_units=check_units)
        adapted = AdaptedRegressor(model, read)
        novelty = adapted.novelty if fine_tune is None and read.shots.count >= ENOUGH_SHOTS else None
        wanted = (
            novelty is not None and novelty.novel and read.shots.count >= ENOUGH_SHOTS
            if fine_tune is None
            else fine_tune
        )
        if not wanted:
            return adapted
        tuned = tune(model, read.shots)
        return AdaptedRegressor(tuned, read, fine_tuned=tuned is not model)

    def predict(self, shots: pd.DataFrame, queries: pd.DataFrame | None = None) -> pd.DataFrame:
        """Predict for many pairs at once: `shots` holds rows of several, told apart by `app` and `platform`.

        Args:
            shots: as for `adapt`, with `app` and perhaps `platform`; the same number of shots for all pairs is fastest.
            queries: configurations to ask of every pair; by default those that belong to its shots.

        Returns:
            `app`, `platform` where there is one, the configuration columns, `runtime_ms`, `lower_ms`, `upper_ms`.

        Raises:
            ShotsError: as `adapt`, or there is no column `app`.
        """
        if "app" not in shots:
            raise ShotsError("shots of many pairs: no column 'app' to tell them apart; for one pair use adapt(shots)")
        if not len(shots):
            raise ShotsError("shots of many pairs: no rows; for the prior alone use adapt()")
        model, read = read_many(self._model, shots)
        if queries is not None:
            checked = model.space.check(queries, "queries")
            if (model.space.locate(checked, model.places) < 0).any():
                model = model.extended(checked[model.space.locate(checked, model.places) < 0].drop_duplicates())
            asked = model.space.locate(checked, model.places)
        columns: dict[str, list[np.ndarray]] = {name: [] for name in ("task", "place", "point", "lower", "upper")}
        for k in sorted({one.count for _, one in read}):
            tasks = [i for i, (_, one) in enumerate(read) if one.count == k]
            batch = Shots(*(np.concatenate([getattr(read[i][1], name) for i in tasks]) for name in BATCHED))
            forecast = model.forecast(batch)
            for row, i in enumerate(tasks):
                places = asked if queries is not None else candidates(model, read[i][1])
                columns["task"].append(np.full(places.size, i))
                columns["place"].append(places)
                for name in ("point", "lower", "upper"):
                    columns[name].append(getattr(forecast, name)[row, places])
        joined = {name: np.concatenate(parts) for name, parts in columns.items()}
        order = np.argsort(joined["task"], kind="stable")
        task, place = joined["task"][order], joined["place"][order]
        pairs = [read[i][0] for i in task]
        found: dict[str, Any] = {"app": [app for app, _ in pairs]}
        if "platform" in shots:
            found["platform"] = [platform for _, platform in pairs]
        found |= {name: model.grid[name].to_numpy()[place] for name in model.space.names}
        found |= {f"{name}_ms": np.exp(joined[name][order]) for name in ("point", "lower", "upper")}
        return pd.DataFrame(found).rename(columns={"point_ms": "runtime_ms"})

    def designed(self, n: int = 3) -> list[Config]:
        """The `n` configurations to measure first of any new pair, chosen on pretraining pairs."""
        prior = self._model.prior
        return [self._config(i) for i in designed_shots(prior.gp, prior.observed, n)]

    def _config(self, i: int) -> Config:
        return plain_config(self._model.grid.iloc[i].to_dict())

    def __repr__(self) -> str:
        return f"FlashRegressor({len(self.pairs)} pairs, configuration {', '.join(self.config_columns)})"


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
        p_value, distance = self._model.judge(self._read.shots, self._forecast.embedding)
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
            table = pd.concat([table, self.predict(apart)], ignore_index=True)
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
    config = shots.config[0]
    if not config.size:
        return np.arange(len(model.grid))
    known = model.together[config].all(axis=0)
    if not known.any():
        known = model.together[config].any(axis=0)
    known[config] = True
    return np.flatnonzero(known)


def _percent(nats: float) -> str:
    """A deviation of the logarithm as a percentage."""
    return f"{100 * math.expm1(nats):.0f} %"
