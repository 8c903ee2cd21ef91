"""Few-shot adaptation: a pretrained model and the shots of a new pair give a new object that answers for that pair.

Enters: DataFrames of measurements. Leaves: adapted models, DataFrames of predictions for many pairs, or errors of one
line. Nothing is changed in place: `adapt` returns a new object, in milliseconds, by embedding alone; gradient steps are
taken where asked for, or where the pair is novel and has enough shots.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd

from flashfm.act.decisions import Config, plain_config
from flashfm.act.recommend import ENOUGH_SHOTS
from flashfm.adapt.adapted import AdaptedRegressor
from flashfm.adapt.design import designed_shots
from flashfm.adapt.finetune import fine_tune as tune
from flashfm.adapt.many import offered
from flashfm.adapt.shots import read_many, read_shots
from flashfm.artifact import checkpoint, registry
from flashfm.errors import ShotsError
from flashfm.models import state
from flashfm.models.device import device_of
from flashfm.models.flash import FlashModel
from flashfm.tasks.config_search import Pair, Shots

BATCHED = ("config", "log_runtime", "metrics")


class FlashRegressor:
    """A pretrained model for configuration search."""

    def __init__(self, model: FlashModel, card: str = "") -> None:
        """Wrap a pretrained model; `flashfm.pretrain` and `from_pretrained` make one."""
        self._model = model
        self.card = card

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str], *, device: str = "cpu") -> FlashRegressor:
        """Load a model: a name that ships with the package, such as `serverless-memory`, or a folder.

        Args:
            name_or_path: which.
            device: what it computes on: `cpu`, `cuda`, or `auto` for the GPU where there is one.

        Raises:
            ArtifactError: no such model, or it is damaged, foreign or of a later version.
            ModelError: no such device.
        """
        there = device_of(device)
        saved = checkpoint.load(registry.resolve(name_or_path), kind=state.KIND)
        return cls(state.from_state(saved.config, saved.tensors).to(there), saved.card)

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
            grid = len(self._model.grid)
            known = offered(model, batch, grid) if k else np.ones((len(tasks), grid), dtype=np.bool_)
            for row, i in enumerate(tasks):
                places = asked if queries is not None else np.flatnonzero(known[row])
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
