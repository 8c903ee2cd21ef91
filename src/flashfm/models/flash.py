"""FLASH for configuration search: a prior over configurations, a meta-learner, and a head that it conditions.

Read this first. `FlashModel.forecast` is the whole of it: the hierarchical Gaussian process turns shots into a
posterior over the grid; the meta-learner turns the same shots, with their system metrics, into an embedding; the head
reads the posterior and the embedding and corrects the point and the quantiles; calibration, found on pairs that
neither saw, says how far to trust the head and how wide the interval has to be. Arrays in and out, no I/O.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flashfm.models.calibration import Calibration
from flashfm.models.local import LocalProcess, Posterior
from flashfm.models.meta_learner import MetaLearner, MetaLearnerConfig
from flashfm.models.novelty import EnvironmentModel, NoveltyModel
from flashfm.tasks.config_search import Pair, Shots
from flashfm.tasks.features import environment_values
from flashfm.tasks.space import ConfigSpace

QUANTILES = (0.05, 0.5, 0.95)
"""What the head's last three outputs are pretrained to be; the first is the point of least percentage error."""
NORMAL = (-1.6449, 0.0, 1.6449)
"""The same quantiles of a standard normal distribution."""
ENVIRONMENT = 0.9
"""Share of the false alarms that the environment part of novelty may make: it finds most of what is novel."""
ENOUGH_METRICS = 0.5
"""Share of the metrics that shots must have to be compared with pretraining pairs that have them."""
SHIFT = 0.8
"""The point starts from exp(mean - SHIFT * variance): with a log-normal run time, exp(mean - variance) has the least
mean absolute percentage error; 0.8 did best in trials on CloudBandit."""


@dataclass(frozen=True)
class FlashConfig:
    """Shape of the network on top of the prior."""

    meta: MetaLearnerConfig = field(default_factory=lambda: MetaLearnerConfig(hidden=64))
    """The meta-learner; narrower than the paper's 256, which gains nothing here and costs eight times as much."""
    head: int = 64
    """Width of the head's two hidden layers."""
    dropout: float = 0.05
    """Share of the embedding and of the head's hidden values dropped in training."""
    use_embedding: bool = True
    """Whether the head sees the embedding; switched off only to measure what it gives."""


class FlashNet(nn.Module):
    """Meta-learner and head; `decode` gives an embedding something to say of the shots themselves."""

    def __init__(self, token: int, query: int, config: FlashConfig) -> None:
        """Build for `token` features a shot and `query` features a query."""
        super().__init__()
        self.config = config
        self.meta = MetaLearner(token, config.meta)
        width = config.head
        last = nn.Linear(width, 1 + len(QUANTILES))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(
            nn.Linear(query + config.meta.embed, width),
            nn.SiLU(),
            nn.Dropout(config.dropout),
            nn.Linear(width, width),
            nn.SiLU(),
            last,
        )
        self.drop = nn.Dropout(config.dropout)
        self.decode = nn.Linear(config.meta.embed, token)

    def forward(
        self,
        shots: Float[Tensor, "task shot token"],
        seen: Bool[Tensor, "task shot"] | None,
        queries: Float[Tensor, "task query feature"],
    ) -> tuple[Float[Tensor, "task query output"], Float[Tensor, "task embed"]]:
        """Corrections of the point (nats) and of the quantiles (posterior deviations), and the embedding.

        Args:
            shots: what the meta-learner reads.
            seen: which of them are real; None where all are.
            queries: what is asked.
        """
        embedding = self.meta(shots, seen)
        given = self.drop(embedding) if self.config.use_embedding else torch.zeros_like(embedding)
        spread = given[:, None].expand(-1, queries.shape[1], -1)
        return self.head(torch.cat([queries, spread], dim=-1)), embedding


@dataclass(frozen=True, eq=False)
class Forecast:
    """What is expected of each task at each configuration of the grid, in log milliseconds."""

    point: Float[np.ndarray, "task config"]
    """Of least expected percentage error, a little below the median."""
    lower: Float[np.ndarray, "task config"]
    """Lower end of the 90 % interval."""
    upper: Float[np.ndarray, "task config"]
    mean: Float[np.ndarray, "task config"]
    """Posterior mean of the prior process."""
    variance: Float[np.ndarray, "task config"]
    """Its variance, noise included."""
    embedding: Float[np.ndarray, "task embed"] | None
    """None without a network or without shots."""


@dataclass(frozen=True, eq=False)
class FlashModel:
    """A pretrained model: everything that is saved."""

    space: ConfigSpace
    grid: pd.DataFrame
    metric_names: tuple[str, ...]
    prior: LocalProcess
    together: Bool[np.ndarray, "config config"]
    """Whether some pretraining pair was observed in both configurations."""
    nets: tuple[FlashNet, ...]
    """Networks whose outputs are averaged, and of which the first gives the embedding; none where there were too few
    applications to train one."""
    calibration: Calibration
    known: tuple[Pair, ...]
    """Pairs that were pretrained on."""
    novelty: NoveltyModel | None
    """Embeddings of shots with their metrics; None without networks."""
    bare: NoveltyModel | None = None
    """The same without any metric, for shots that have none; None where pretraining had none either."""
    environment: EnvironmentModel | None = None
    """None where pretraining had no metric that tells one."""

    @cached_property
    def features(self) -> Float[np.ndarray, "config feature"]:
        """Features of the grid."""
        return self.space.features(self.grid)

    @cached_property
    def places(self) -> dict[tuple[object, ...], int]:
        """Key of each configuration of the grid (see `ConfigSpace.keys`) -> its position."""
        return {key: i for i, key in enumerate(self.space.keys(self.grid))}

    @property
    def device(self) -> torch.device:
        """Where it computes; what enters and leaves are arrays of the CPU in any case."""
        return self.prior.device

    def to(self, device: torch.device) -> FlashModel:
        """The same model, which computes there; this one stays where it is."""
        if device == self.device:
            return self
        nets = tuple(copy.deepcopy(net).to(device) for net in self.nets)
        return replace(self, prior=self.prior.to(device), nets=nets)

    def tokens(self, shots: Shots) -> Float[np.ndarray, "task shot token"]:
        """What the meta-learner reads of each shot: X_t = [x_t, y_t], the label relative to the prior."""
        return tokens(self.features, self.prior, shots)

    def in_order(self, shots: Shots) -> Shots:
        """The same shots in the order in which networks read them."""
        return in_order(self.features, shots)

    def embed(self, shots: Shots) -> Float[np.ndarray, "task embed"]:
        """Embeddings of pairs from their shots, in whatever order those come; K >= 1."""
        with torch.inference_mode():
            read = torch.from_numpy(self.tokens(self.in_order(shots)).astype(np.float32)).to(self.device)
            return np.asarray(self.nets[0].meta(read).cpu().numpy())

    def raw(self, shots: Shots) -> tuple[Posterior, Any, Any]:
        """Posterior of the prior; the head's outputs and embeddings, None where there are none."""
        posterior = self.prior.posterior(shots)
        if not self.nets or shots.count == 0:
            return posterior, None, None
        read = torch.from_numpy(self.tokens(shots).astype(np.float32)).to(self.device)
        asked = torch.from_numpy(queries(self.features, shots, posterior).astype(np.float32)).to(self.device)
        with torch.inference_mode():
            outputs, embeddings = zip(*(net(read, None, asked) for net in self.nets), strict=True)
        mean = torch.stack(outputs).mean(dim=0).cpu().numpy().astype(np.float64)
        return posterior, mean, embeddings[0].cpu().numpy()

    def forecast(self, shots: Shots) -> Forecast:
        """Predict every configuration of the grid from K >= 0 shots; their order changes nothing."""
        k = shots.count
        (mean, variance, _), correction, embedding = self.raw(self.in_order(shots))
        deviation = np.sqrt(variance)
        point = mean - self.calibration.of("shift", k) * variance
        lower, upper = mean + NORMAL[0] * deviation, mean + NORMAL[2] * deviation
        if correction is not None:
            mix = self.calibration.of("mix", k)
            point = point + mix * correction[..., 0]
            lower = lower + mix * deviation * correction[..., 1]
            upper = upper + mix * deviation * correction[..., 3]
        lower = lower - self.calibration.of("below", k) * deviation
        upper = upper + self.calibration.of("above", k) * deviation
        return Forecast(point, np.minimum(lower, point), np.maximum(upper, point), mean, variance, embedding)

    def compared(self, shots: Shots, embedding: Float[np.ndarray, "task embed"]) -> Float[np.ndarray, "task embed"]:
        """Embeddings by which shots are compared with pretraining pairs; of those that lack most metrics, without any.

        Args:
            shots: what is known.
            embedding: of them as they are.
        """
        if self.bare is None:
            return embedding
        partly = np.flatnonzero(~self.complete(shots) & ~np.isnan(shots.metrics).all(axis=(1, 2)))
        if not partly.size:
            return embedding
        metrics = np.full_like(shots.metrics[partly], np.nan)
        found = embedding.copy()
        found[partly] = self.embed(Shots(shots.config[partly], shots.log_runtime[partly], metrics))
        return found

    def judge(
        self, shots: Shots, embedding: Float[np.ndarray, "task embed"]
    ) -> tuple[Float[np.ndarray, " task"], Float[np.ndarray, " task"]]:
        """How novel pairs are: p-value, and distance of their embeddings.

        Where shots have their metrics, embedding and environment are judged, and each has its share of the false alarms
        (Bonferroni, weighted by `ENVIRONMENT`). Shots without most of them are compared with references without any.

        Args:
            shots: what is known.
            embedding: as of `compared`.
        """
        assert self.novelty is not None
        k = shots.count
        p_value, distance = np.empty(len(shots)), np.empty(len(shots))
        complete = np.ones(len(shots), dtype=np.bool_) if self.bare is None else self.complete(shots)
        some = np.flatnonzero(complete)
        if some.size:
            told = Shots(shots.config[some], shots.log_runtime[some], shots.metrics[some])
            distance[some] = self.novelty.distance(embedding[some])
            p_value[some] = self.novelty.p_value(distance[some], k)
            if self.environment is not None:
                values = environment_values(told.metrics, told.log_runtime, self.metric_names)
                other = self.environment.p_value(self.environment.distance(told.config, values), k)
                p_value[some] = np.minimum(np.minimum(p_value[some] / (1 - ENVIRONMENT), other / ENVIRONMENT), 1.0)
        rest = np.flatnonzero(~complete)
        if self.bare is not None and rest.size:
            distance[rest] = self.bare.distance(embedding[rest])
            p_value[rest] = self.bare.p_value(distance[rest], k)
        return p_value, distance

    def complete(self, shots: Shots) -> Bool[np.ndarray, " task"]:
        """Whether shots have enough of their metrics to be compared with pretraining pairs that have them."""
        if not self.metric_names:
            return np.ones(len(shots), dtype=np.bool_)
        return np.asarray((~np.isnan(shots.metrics)).mean(axis=(1, 2)) >= ENOUGH_METRICS)

    def extended(self, configurations: pd.DataFrame) -> FlashModel:
        """The same model over the grid and further configurations after it, which the space has checked."""
        features = self.space.features(configurations)
        nearest = ((features[:, None] - self.features[None]) ** 2).sum(axis=-1).argmin(axis=1)
        places = np.concatenate([np.arange(len(self.grid)), nearest])
        return replace(
            self,
            grid=pd.concat([self.grid, configurations], ignore_index=True),
            prior=self.prior.extended(features),
            together=self.together[np.ix_(places, places)],
            environment=None
            if (known := self.environment) is None
            else replace(known, mean=known.mean[places], scale=known.scale[places], reference=known.reference[places]),
        )


def in_order(features: Float[np.ndarray, "config feature"], shots: Shots) -> Shots:
    """The same shots sorted by their configurations' features, which is how networks that read sequences get them."""
    rank = np.empty(len(features), dtype=np.int64)
    rank[np.lexsort(features.T[::-1])] = np.arange(len(features))
    order = np.argsort(rank[shots.config], axis=1, kind="stable")
    log_runtime = np.take_along_axis(shots.log_runtime, order, axis=1)
    metrics = np.take_along_axis(shots.metrics, order[..., None], axis=1)
    return Shots(np.take_along_axis(shots.config, order, axis=1), log_runtime, metrics)


def tokens(
    features: Float[np.ndarray, "config feature"], prior: LocalProcess, shots: Shots
) -> Float[np.ndarray, "task shot token"]:
    """Configuration, label relative to the prior in its deviations, and metrics of each shot."""
    gp = prior.gp
    label = (shots.log_runtime - gp.mean[shots.config]) / gp.level_deviation
    parts = [features[shots.config], label[..., None], prior.scaler.transform(shots.metrics, shots.log_runtime)]
    return np.concatenate(parts, axis=-1)


def queries(
    features: Float[np.ndarray, "config feature"], shots: Shots, posterior: Posterior
) -> Float[np.ndarray, "task config query"]:
    """What the head reads of each asked configuration: its features, log ratios to the shots, their spread, and K."""
    mean, variance, aligned = posterior
    tasks, configs = mean.shape
    level = shots.log_runtime.mean(axis=1, keepdims=True)
    columns = [mean - level, aligned - level, 0.5 * np.log(variance), np.full((tasks, configs), 1 / shots.count)]
    spread = np.broadcast_to(features, (tasks, configs, features.shape[1]))
    return np.concatenate([spread, np.stack(columns, axis=-1)], axis=-1)


def observed_together(log_runtime: Float[np.ndarray, "pair config"]) -> Bool[np.ndarray, "config config"]:
    """Whether some pair was observed in both of two configurations."""
    seen = (~np.isnan(log_runtime)).astype(np.float64)
    return np.asarray(seen.T @ seen > 0)
