"""The paper's two systems for configuration search, Sizeless without and with FLASH, as faithful as the paper allows.

Enters: observations of training pairs. Leaves: a trained method that answers shots. What the paper leaves open:

- **L2 acts on percent.** Sizeless's published code is Keras: the loss `mean_absolute_percentage_error` is in percent,
  and `L2(0.01)` adds 0.01 times the sum of squared weights of the hidden layers (no bias, no output layer). On a
  fractional loss the same 0.01 is a hundred times as strong and the network hardly learns: on CloudBandit with one
  shot the mean error is .47 against .39. It acts on the base-learner alone; Table 6 gives the meta-learner dropout.
- **Features** are those of Table 2: configuration, run time and six metrics of the shot, and the target configuration.
  CloudBandit has no metrics; metrics that a table lacks are left out. K shots stand side by side in the order in which
  they were drawn. Both systems read these features, and FLASH its embedding of the same shots as well: the embedding,
  and the learning rate that Table 6 has for it, are all that differs.
- **Scaling**: z-scores of raw run times and metrics, the configuration as `ConfigSpace` has it. The paper does not say;
  Sizeless's code takes ranks. On held-out training pairs (one shot, two hold-outs each) raw values, ranks and
  logarithms gave .145 .161, .142 .147, .139 .127 on measured `lambda`, .202 .335, .198 .246, .200 .281 on `openwhisk`,
  and .252 .397, .268 .388, .262 .372 on CloudBandit: the raw values do not fail, so they stay.
- **Label**: the run time under the target (Table 2; Sizeless itself predicts a ratio), in units of the training median,
  so that the linear output starts at the right order.
- **x_t, y_t** of a shot are its configuration and metrics, and its run time.
- **An epoch** draws random shots for each (pair, first configuration), at most `sets_per_epoch` of these, and asks each
  set `queries` other configurations of its pair; the embedding is computed once a set. Both limits are there for the
  cost alone: on CloudBandit an epoch would have some 1,700 sets with up to 81 configurations to ask, on measured
  `lambda` 1,920 with 5.
- **Learning rates**: Table 6's for FLASH; for Sizeless, where none is given, Adam's default, as in its code, from which
  the batch of 32 is as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flashfm.errors import ModelError, ShotsError
from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.models.regressor import FlashSizeless, RegressorConfig, SizelessRegressor
from flashfm.tasks.config_search import Observations, Shots

METRICS = ("heap_used_mb", "user_cpu_ms", "system_cpu_ms", "voluntary_switches", "fs_write_bytes", "net_rx_bytes")
"""The six metrics of Table 2."""
FLOOR = 1e-3
"""Smallest prediction in units of the training median: a linear output may be negative, a run time not."""


@dataclass(frozen=True)
class PaperConfig:
    """Hyper-parameters of both systems; the defaults are the paper's where it has one."""

    epochs: int = 200
    """Table 3."""
    learning_rate: float = 1e-3
    """Of Sizeless: Adam's default."""
    flash_learning_rate: float = 3e-4
    """Of FLASH, base-learner and meta-learner alike: Table 6."""
    l2: float = 0.01
    """Weight of the squared kernels beside the loss in percent: Table 3."""
    base: RegressorConfig = field(default_factory=RegressorConfig)
    """Base-learner: Table 3."""
    meta: MetaLearnerConfig = field(default_factory=MetaLearnerConfig)
    """Meta-learner: Table 6."""
    batch: int = 32
    """Shot sets in a gradient step, as in Sizeless's code."""
    queries: int = 8
    """Configurations that a shot set is asked in an epoch, at most."""
    sets_per_epoch: int = 512
    """Shot sets in an epoch, at most."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Standardises what the networks read; all statistics are those of the training pairs."""

    metrics: tuple[int, ...]
    """Positions of the chosen metrics."""
    centre: Float[np.ndarray, " column"]
    """Of each chosen metric and, last, of the run time in ms."""
    scale: Float[np.ndarray, " column"]
    unit_ms: float
    """Median run time, the unit of the label."""
    configs: Float[np.ndarray, "config feature"]
    """Features of the grid's configurations."""

    @classmethod
    def fit(cls, train: Observations) -> Inputs:
        """Take mean and standard deviation over the observed cells."""
        metrics = tuple(train.metric_names.index(name) for name in METRICS if name in train.metric_names)
        columns = _columns(train.log_runtime, train.metrics, metrics)[~np.isnan(train.log_runtime)]
        seen = ~np.isnan(columns)
        count = np.maximum(seen.sum(axis=0), 1)
        centre = np.where(seen, columns, 0.0).sum(axis=0) / count
        scale = np.sqrt(np.where(seen, (columns - centre) ** 2, 0.0).sum(axis=0) / count)
        unit = float(np.exp(np.nanmedian(train.log_runtime)))
        return cls(metrics, centre, np.where(scale > 1e-12, scale, 1.0), unit, train.features)

    def shots(
        self,
        config: Int[np.ndarray, "*rows"],
        log_runtime: Float[np.ndarray, "*rows"],
        metrics: Float[np.ndarray, "*rows metric"],
    ) -> Float[np.ndarray, "*rows shot_feature"]:
        """X_t = [x_t, y_t] of each shot; a metric that is missing stands at its mean."""
        values = (_columns(log_runtime, metrics, self.metrics) - self.centre) / self.scale
        return np.concatenate([self.configs[config], np.nan_to_num(values)], axis=-1).astype(np.float32)


def _columns(
    log_runtime: Float[np.ndarray, "*rows"], metrics: Float[np.ndarray, "*rows metric"], chosen: tuple[int, ...]
) -> Float[np.ndarray, "*rows column"]:
    return np.concatenate([metrics[..., list(chosen)], np.exp(log_runtime)[..., None]], axis=-1)


@dataclass(frozen=True, eq=False)
class Batch:
    """Shot sets, and what each is asked."""

    features: Float[Tensor, "task query feature"]
    """Of all shots side by side, and of the target configuration."""
    shots: Float[Tensor, "task shot shot_feature"]
    runtime: Float[Tensor, "task query"]
    """In units of the training median."""
    asked: Float[Tensor, "task query"]
    """1 where there is a query, 0 where the pair has no more configurations."""


def draw(
    observed: Bool[np.ndarray, "pair config"], shots: int, queries: int, limit: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " task"], Int[np.ndarray, "task shot"], Int[np.ndarray, "task query"]]:
    """Shot sets of one epoch: each observed configuration is the first shot of one set, the rest is random.

    Args:
        observed: cells with a run time.
        shots: K; pairs with no more configurations than that are left out.
        queries: other configurations asked of each set, at most.
        limit: sets, at most.
        rng: where chance comes from.

    Returns:
        Pair, shots and queries of each set in random order; -1 where a pair has no more to ask.
    """
    pair, first = np.nonzero(observed & (observed.sum(axis=1, keepdims=True) > shots))
    chosen = rng.permutation(pair.size)[:limit]
    pair, first = pair[chosen], first[chosen]
    order = rng.random((pair.size, observed.shape[1]), dtype=np.float32)
    order[~observed[pair]] = 2.0
    np.put_along_axis(order, first[:, None], -1.0, axis=1)
    ranked = np.argsort(order, axis=1)[:, : shots + queries]
    known = np.take_along_axis(order, ranked, axis=1) < 2.0
    return pair, ranked[:, :shots], np.where(known, ranked, -1)[:, shots:]


def pretrain(
    train: Observations, shots: int, seed: int, config: PaperConfig, *, flash: bool
) -> tuple[SizelessRegressor | FlashSizeless, Inputs, list[float]]:
    """Train one of the two systems with Adam on the mean absolute percentage error.

    Args:
        train: pairs to train on.
        shots: K.
        seed: of the initial weights, the shot sets and dropout.
        config: hyper-parameters.
        flash: with the embedding.

    Returns:
        The network, its standardisation, and the mean error of each epoch in percent.

    Raises:
        ModelError: no pair has more than `shots` configurations.
    """
    inputs = Inputs.fit(train)
    observed = ~np.isnan(train.log_runtime)
    if not (observed.sum(axis=1) > shots).any():
        raise ModelError(f"no training pair has more than {shots} measured configurations; ask for fewer shots")
    every = np.broadcast_to(np.arange(observed.shape[1]), observed.shape)
    table = torch.from_numpy(inputs.shots(every, train.log_runtime, train.metrics))
    runtime = torch.from_numpy((np.exp(np.nan_to_num(train.log_runtime)) / inputs.unit_ms).astype(np.float32))
    configs = torch.from_numpy(inputs.configs.astype(np.float32))
    rng = np.random.default_rng(seed)
    history = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _build(shots, table.shape[-1], configs.shape[1], config, flash=flash).train()
        rate = config.flash_learning_rate if flash else config.learning_rate
        optimiser = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
        for _ in range(config.epochs):
            drawn = draw(observed, shots, config.queries, config.sets_per_epoch, rng)
            pair, chosen, asked = (torch.from_numpy(part) for part in drawn)
            total = 0.0
            for rows in torch.split(torch.arange(len(pair)), config.batch):
                measured = table[pair[rows, None], chosen[rows]]
                there = asked[rows] >= 0
                truth = runtime[pair[rows, None], asked[rows]]
                answer = _ask(model, measured, configs[asked[rows]])
                error = 100 * ((answer - truth).abs() / truth)[there].mean()
                optimiser.zero_grad()
                torch.autograd.backward(error + config.l2 * model.kernel_penalty())
                optimiser.step()
                total += float(error.detach()) * len(rows)
            history.append(total / len(pair))
    return model.eval(), inputs, history


def _build(
    shots: int, shot_features: int, config_features: int, config: PaperConfig, *, flash: bool
) -> SizelessRegressor | FlashSizeless:
    features = shots * shot_features + config_features
    if flash:
        return FlashSizeless(features, shot_features, config.base, config.meta)
    return SizelessRegressor(features, config.base)


def _ask(
    model: SizelessRegressor | FlashSizeless,
    shots: Float[Tensor, "task shot shot_feature"],
    configs: Float[Tensor, "task query config_feature"],
) -> Float[Tensor, "task query"]:
    """Run time of each query in units of the training median."""
    known = shots.flatten(1)[:, None].expand(-1, configs.shape[1], -1)
    features = torch.cat([known, configs], dim=-1)
    if isinstance(model, FlashSizeless):
        answer: Tensor = model(features, shots, torch.ones(shots.shape[:2], dtype=torch.bool))
    else:
        answer = model(features)
    return answer


@dataclass(frozen=True, eq=False)
class FittedPaper:
    """One of the two systems after training."""

    model: SizelessRegressor | FlashSizeless
    inputs: Inputs
    shots: int
    """K that it was trained for."""

    def predict(self, shots: Shots) -> Float[np.ndarray, "task config"]:
        """Run time in ms of every configuration of the grid, for each task.

        Raises:
            ShotsError: another number of shots than it was trained for.
        """
        if shots.count != self.shots:
            raise ShotsError(f"{shots.count} shots, expected {self.shots}: the network was trained for these alone")
        measured = torch.from_numpy(self.inputs.shots(shots.config, shots.log_runtime, shots.metrics))
        configs = torch.from_numpy(self.inputs.configs.astype(np.float32)).expand(len(shots), -1, -1)
        with torch.no_grad():
            answer = _ask(self.model, measured, configs)
        return answer.clamp(min=FLOOR).numpy().astype(np.float64) * self.inputs.unit_ms


@dataclass(frozen=True)
class SizelessMethod:
    """Sizeless as the paper describes it: Tables 2 and 3."""

    config: PaperConfig = field(default_factory=PaperConfig)
    name: str = "Sizeless"
    per_shots: bool = True

    def fit(self, train: Observations, *, shots: int, seed: int) -> FittedPaper:
        """Train; see `pretrain` for what may be raised."""
        model, inputs, _ = pretrain(train, shots, seed, self.config, flash=False)
        return FittedPaper(model, inputs, shots)


@dataclass(frozen=True)
class FlashMethod:
    """Sizeless with FLASH's embedding: Table 6."""

    config: PaperConfig = field(default_factory=PaperConfig)
    name: str = "FLASH-Sizeless"
    per_shots: bool = True

    def fit(self, train: Observations, *, shots: int, seed: int) -> FittedPaper:
        """Train; see `pretrain` for what may be raised."""
        model, inputs, _ = pretrain(train, shots, seed, self.config, flash=True)
        return FittedPaper(model, inputs, shots)
