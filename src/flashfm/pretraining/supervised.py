"""Pretraining for configuration search: the prior, then the network on top of it, then calibration on unseen pairs.

Enters: observations of many pairs. Leaves: a `FlashModel`. Applications are never parted: the prior that the network
sees of a training pair is fitted on other applications (out of fold), and everything that says how far the model can be
trusted is found on applications that neither the prior nor the network saw. With `hold_out_from` applications or more
these are held out once; with fewer, folds take turns and the final model is trained on all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from flashfm.errors import ModelError
from flashfm.models import flash, hierarchical_gp, local
from flashfm.models.calibration import Held, calibrate
from flashfm.models.flash import NORMAL, QUANTILES, SHIFT, FlashConfig, FlashModel, FlashNet
from flashfm.models.hierarchical_gp import PriorConfig
from flashfm.models.local import LocalProcess
from flashfm.models.threads import one_thread
from flashfm.pretraining.held_out import Apart, distances, forecasts, joined, with_held, with_novelty
from flashfm.tasks.config_search import Observations, draw
from flashfm.tasks.features import ShotScaler
from flashfm.tasks.space import ConfigSpace

OnStep = Callable[[int, int], object]
"""Told of the steps that are done and of all of them."""
OnHeld = Callable[[dict[int, Held]], object]
"""Told, for each K, what was forecast of the pairs that calibration rests on, and what was observed."""


@dataclass(frozen=True)
class PretrainConfig:
    """How a model for configuration search is pretrained."""

    prior: PriorConfig = field(default_factory=PriorConfig)
    network: FlashConfig = field(default_factory=FlashConfig)
    likeness_steps: int = 150
    """Steps of learning which training pairs are alike; fewer with few pairs."""
    likeness_tasks: int = 400
    """Tasks of each K that it is learned on, at most."""
    inner_folds: int = 5
    """Folds for priors out of fold."""
    hold_out: float = 0.15
    """Share of the applications that calibration takes where there are many."""
    hold_out_from: int = 100
    """Applications from which they are held out once instead of in turns."""
    cross_folds: int = 4
    """Folds that take turns where there are few."""
    least_for_network: int = 12
    """Applications below which the prior stands alone: a network would learn them by heart."""
    members: int = 3
    """Networks that are trained alike, from other draws, and averaged."""
    steps_per_pair: float = 6.0
    """Optimisation steps for each training pair, within the two limits below; with few pairs it soon overfits."""
    least_steps: int = 300
    most_steps: int = 2500
    batch: int = 64
    """Tasks a step."""
    learning_rate: float = 2e-3
    """Peak of a one-cycle schedule, for AdamW."""
    weight_decay: float = 1e-3
    sets: int = 12
    """Random shot sets drawn of each pair and K."""
    shot_weights: tuple[float, ...] = (0.3, 0.25, 0.2, 0.125, 0.125)
    """How often a step is on K = 1, 2, … shots."""
    token_noise: float = 0.1
    """Standard deviation of noise added to standardised labels and metrics: what is measured twice differs, and a pair
    must not be told by its exact values."""
    metric_dropout: float = 0.1
    """Chance that a task's shots come without any metric, and that one metric is missing from all of them."""
    decode_weight: float = 0.1
    """Weight of the loss by which the embedding has to tell what the shots were."""

    def steps(self, pairs: int) -> int:
        """Optimisation steps for so many training pairs."""
        return int(min(max(self.steps_per_pair * pairs, self.least_steps), self.most_steps))


def pretrain(
    data: Observations,
    config: PretrainConfig | None = None,
    *,
    seed: int = 0,
    on_step: OnStep = lambda *_: None,
    on_held: OnHeld = lambda _: None,
) -> FlashModel:
    """Pretrain one model over all pairs, whatever their platforms.

    Args:
        data: pairs to learn from.
        config: settings.
        seed: of the folds, the draws and the weights; the same seed gives the same model on the same machine.
        on_step: told of progress.
        on_held: told of the calibration pairs, so that a card can say how well intervals cover.

    Raises:
        ModelError: fewer than three applications, or none with two configurations.
    """
    with one_thread():
        return _pretrain(data, config or PretrainConfig(), seed, on_step, on_held)


def _pretrain(data: Observations, config: PretrainConfig, seed: int, on_step: OnStep, on_held: OnHeld) -> FlashModel:
    apps = sorted(data.apps)
    if len(apps) < 3 or max(len(seen) for seen in data.observed) < 2:
        raise ModelError(
            f"{len(apps)} applications, at most {max(len(seen) for seen in data.observed)} configurations each: a model"
            " needs at least 3 applications, and 2 configurations of one of them; add measurements"
        )
    rng = np.random.default_rng(seed)
    parts = list(_folds(apps, config, rng))
    final = data if len(parts) > 1 else data.of_apps(set(apps) - parts[0])
    sizes = [len(data.of_apps(set(apps) - part)) for part in parts] + [len(final)] * (len(parts) > 1)
    with_network = len(apps) >= config.least_for_network
    progress = _Progress(on_step, config.members * sum(config.steps(n) for n in sizes) if with_network else len(sizes))
    held: dict[int, list[Held]] = {}
    apart: Apart = {}
    model: FlashModel | None = None
    for part in parts:
        model = _fit(data.of_apps(set(apps) - part), config, rng, with_network, progress)
        unseen = data.of_apps(part)
        for k, told in forecasts(model, unseen, config.sets, rng).items():
            held.setdefault(k, []).append(told)
        for part_name, of_k in distances(model, unseen, rng).items():
            for k, found in of_k.items():
                apart.setdefault(part_name, {}).setdefault(k, []).append(found)
    if len(parts) > 1 or model is None:
        model = _fit(data, config, rng, with_network, progress)
    else:
        model = replace(model, prior=_refitted(model.prior, data, config), known=data.pairs)
        model = with_novelty(model, data, rng) if model.nets else model
    unseen_pairs = {k: joined(found) for k, found in held.items()}
    on_held(unseen_pairs)
    calibration = calibrate(unseen_pairs, NORMAL)
    model = replace(model, calibration=calibration, together=flash.observed_together(data.log_runtime))
    return with_held(model, apart)


def interactions_of(space: ConfigSpace) -> Int[np.ndarray, "interaction two"]:
    """Products of features that the prior has slopes for: each level of a small categorical column with each number."""
    names, found = space.feature_names, []
    numeric = [column.name for column in space.columns if not column.levels]
    for column in space.columns:
        if column.levels and not column.optional and len(column.levels) <= 4:
            found += [
                (names.index(f"{column.name}={level}"), names.index(n)) for level in column.levels for n in numeric
            ]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def train_network(
    data: Observations,
    episodes: dict[int, Episodes],
    config: PretrainConfig,
    rng: np.random.Generator,
    progress: Callable[[], object],
) -> FlashNet:
    """Train meta-learner and head on episodes: K shots of a pair, asked for all its other configurations.

    Loss: mean absolute percentage error of the point, pinball loss of the log quantiles, and a little of the error by
    which a linear map of the embedding misses the mean token of the shots.

    Args:
        data: training pairs.
        episodes: of these pairs, for each K.
        config: settings.
        rng: draws batches and weights.
        progress: called after each step.
    """
    ks = sorted(episodes)
    chance = np.array([config.shot_weights[k - 1] for k in ks])
    torch.manual_seed(int(rng.integers(2**31)))
    first = episodes[ks[0]]
    net = FlashNet(first.tokens.shape[-1], first.queries.shape[-1], config.network)
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    steps = config.steps(len(data))
    rising = max(0.1, 2 / steps)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=steps, pct_start=rising)
    normal, levels = torch.tensor(NORMAL), torch.tensor(QUANTILES)
    for _ in range(steps):
        episode = episodes[int(rng.choice(ks, p=chance / chance.sum()))]
        chosen = torch.from_numpy(rng.integers(len(episode.tokens), size=config.batch))
        read, asked, observed = episode.tokens[chosen], episode.queries[chosen], episode.observed[chosen]
        mean, deviation = episode.mean[chosen], episode.deviation[chosen]
        known = ~torch.isnan(observed)
        observed = observed.nan_to_num()
        noisy = _disturbed(read, data.features.shape[1], config)
        output, embedding = net(noisy, torch.ones(read.shape[:2], dtype=torch.bool), asked)
        point = mean - SHIFT * deviation**2 + output[..., 0]
        percentage = (torch.exp((point - observed).clamp(max=3.0)) - 1).abs()
        missed = observed[..., None] - (mean[..., None] + deviation[..., None] * (normal + output[..., 1:]))
        pinball = torch.maximum(levels * missed, (levels - 1) * missed).mean(dim=-1)
        loss = ((percentage + pinball) * known).sum() / known.sum()
        loss = loss + config.decode_weight * (net.decode(embedding) - read.mean(dim=1)).pow(2).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        progress()
    return net.eval()


@dataclass(frozen=True, eq=False)
class Episodes:
    """All episodes with the same K."""

    tokens: Float[Tensor, "episode shot token"]
    queries: Float[Tensor, "episode config feature"]
    observed: Float[Tensor, "episode config"]
    """Log run time; NaN where it is a shot or was not observed."""
    mean: Float[Tensor, "episode config"]
    deviation: Float[Tensor, "episode config"]


def _disturbed(
    read: Float[Tensor, "task shot token"], features: int, config: PretrainConfig
) -> Float[Tensor, "task shot token"]:
    """Tokens with noise on label and metrics, and some metrics missing."""
    values = (read.shape[-1] - features - 1) // 2
    label, shots = features + 1, read.shape[1]
    measured = read[..., features : label + values]
    measured = measured + config.token_noise * torch.randn_like(measured)
    kept = torch.rand(len(read), 1, values) >= config.metric_dropout
    kept &= torch.rand(len(read), 1, 1) >= config.metric_dropout
    mask = read[..., label + values :] * kept.expand(-1, shots, -1)
    parts = [read[..., :features], measured[..., :1], measured[..., 1:] * mask, mask]
    return torch.cat(parts, dim=-1)


class _Progress:
    """Counts steps."""

    def __init__(self, on_step: OnStep, total: int) -> None:
        self._on_step, self._total, self._done = on_step, total, 0

    def __call__(self) -> None:
        self._done += 1
        self._on_step(self._done, self._total)


def _folds(apps: list[str], config: PretrainConfig, rng: np.random.Generator) -> Iterator[set[str]]:
    """The applications that calibration takes: one part of many, or each fold of few."""
    order = rng.permutation(len(apps))
    if len(apps) >= config.hold_out_from:
        yield {apps[i] for i in order[: max(1, round(config.hold_out * len(apps)))]}
        return
    folds = min(max(config.cross_folds, 3), len(apps))
    for fold in range(folds):
        yield {apps[i] for i in order[fold::folds]}


def _fit(
    data: Observations, config: PretrainConfig, rng: np.random.Generator, with_network: bool, progress: _Progress
) -> FlashModel:
    """Prior and network on these pairs, not calibrated yet."""
    prior, priors = _prior(data, config, rng)
    nets: tuple[FlashNet, ...] = ()
    if with_network:
        episodes = _episodes(data, priors, config, rng)
        with torch.random.fork_rng(devices=[]):
            nets = tuple(train_network(data, episodes, config, rng, progress) for _ in range(config.members))
    else:
        progress()
    model = FlashModel(
        space=data.space,
        grid=data.grid,
        metric_names=data.metric_names,
        prior=prior,
        together=flash.observed_together(data.log_runtime),
        nets=nets,
        calibration=calibrate({}, NORMAL),
        known=data.pairs,
        novelty=None,
    )
    if not nets:
        return model
    return with_novelty(model, data, rng)


def _prior(
    data: Observations, config: PretrainConfig, rng: np.random.Generator
) -> tuple[LocalProcess, list[tuple[LocalProcess, Int[np.ndarray, " _"]]]]:
    """The prior of these pairs, and those out of fold with the pairs that each may be used for."""
    features, interactions = data.features, interactions_of(data.space)
    gp = hierarchical_gp.fit(features, data.log_runtime, interactions, config.prior)
    scaler = ShotScaler.fit(data.metrics, data.log_runtime, data.metric_names)
    folds = min(max(config.inner_folds, 2), len(data.apps))
    number = dict(zip(data.apps, rng.permutation(len(data.apps)) % folds, strict=True))
    fold = np.array([number[app] for app, _ in data.pairs])
    priors: list[tuple[LocalProcess, Int[np.ndarray, " _"]]] = []
    for f in range(folds):
        rest = data.of_pairs(np.flatnonzero(fold != f))
        apart = hierarchical_gp.fit(features, rest.log_runtime, interactions, config.prior, gp.kernel)
        priors.append((LocalProcess.of(apart, scaler, rest), np.flatnonzero(fold == f)))
    steps = min(config.likeness_steps, 40 + len(data))
    likeness = local.learn(_likeness_tasks(data, priors, config, rng), shift=SHIFT, steps=steps)
    own = LocalProcess.of(gp, scaler, data, likeness)
    return own, [(prior.learned(likeness), pairs) for prior, pairs in priors]


def _refitted(prior: LocalProcess, data: Observations, config: PretrainConfig) -> LocalProcess:
    """The same process with all pairs, those that calibrated it as well: more of them are more likely to be alike."""
    kernel = prior.gp.kernel
    gp = hierarchical_gp.fit(data.features, data.log_runtime, kernel.interactions, config.prior, kernel)
    return LocalProcess.of(gp, prior.scaler, data, prior.likeness)


def _likeness_tasks(
    data: Observations,
    priors: list[tuple[LocalProcess, Int[np.ndarray, " _"]]],
    config: PretrainConfig,
    rng: np.random.Generator,
) -> dict[int, list[local.Task]]:
    """Random shots of training pairs, each with the prior of its fold."""
    found: dict[int, list[local.Task]] = {}
    of_fold = -(-config.likeness_tasks // len(priors))
    for k in range(1, local.DISTINCT + 1):
        for prior, pairs in priors:
            pair, chosen = draw(data, pairs, k, max(1, of_fold // max(len(pairs), 1)), rng)
            if pair.size:
                some = rng.permutation(pair.size)[:of_fold]
                observed = data.log_runtime[pair[some]].copy()
                np.put_along_axis(observed, chosen[some], np.nan, axis=1)
                found.setdefault(k, []).append((prior, data.shots(pair[some], chosen[some]), observed))
    return found


def _episodes(
    data: Observations,
    priors: list[tuple[LocalProcess, Int[np.ndarray, " _"]]],
    config: PretrainConfig,
    rng: np.random.Generator,
) -> dict[int, Episodes]:
    found: dict[int, Episodes] = {}
    for k in range(1, len(config.shot_weights) + 1):
        columns: list[tuple[np.ndarray, ...]] = []
        for prior, pairs in priors:
            pair, chosen = draw(data, pairs, k, config.sets, rng)
            if not pair.size:
                continue
            shots = flash.in_order(data.features, data.shots(pair, chosen))
            posterior = prior.posterior(shots)
            read = flash.tokens(data.features, prior, shots)
            asked = flash.queries(data.features, shots, posterior)
            observed = data.log_runtime[pair].copy()
            np.put_along_axis(observed, chosen, np.nan, axis=1)
            columns.append((read, asked, observed, posterior.mean, np.sqrt(posterior.variance)))
        if columns:
            found[k] = Episodes(
                *(torch.from_numpy(np.concatenate(c).astype(np.float32)) for c in zip(*columns, strict=True))
            )
    return found
