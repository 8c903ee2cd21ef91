"""Pretraining for configuration search: the prior, then the network on top of it, then calibration on unseen pairs.

Enters: observations of many pairs. Leaves: a `FlashModel`. Applications are never parted: the prior that the network
sees of a training pair is fitted on other applications (out of fold), and everything that says how far the model can be
trusted is found on applications that neither the prior nor the network saw. With `hold_out_from` applications or more
these are held out once; with fewer, folds take turns and the final model is trained on all. Where several workers
pretrain together, each does all of it but for the training of networks, which they share out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Int

from flashfm.engine.base import Engine
from flashfm.engine.group import ALONE, Group, run_together
from flashfm.engine.inline import INLINE, Inline
from flashfm.errors import ModelError
from flashfm.models import flash, hierarchical_gp, local
from flashfm.models.calibration import Held, calibrate
from flashfm.models.device import CPU
from flashfm.models.flash import NORMAL, SHIFT, FlashModel, FlashNet
from flashfm.models.local import LocalProcess
from flashfm.models.threads import one_thread
from flashfm.pretraining.held_out import Apart, distances, forecasts, joined, with_held, with_novelty
from flashfm.pretraining.network import Episodes, check_workers, train_networks, turns
from flashfm.pretraining.settings import OnStep as OnStep
from flashfm.pretraining.settings import PretrainConfig as PretrainConfig
from flashfm.tasks.config_search import Observations, draw
from flashfm.tasks.features import ShotScaler
from flashfm.tasks.space import ConfigSpace

OnHeld = Callable[[dict[int, Held]], object]
"""Told, for each K, what was forecast of the pairs that calibration rests on, and what was observed."""


def pretrain(
    data: Observations,
    config: PretrainConfig | None = None,
    *,
    seed: int = 0,
    on_step: OnStep = lambda *_: None,
    on_held: OnHeld = lambda _: None,
    engine: Engine = INLINE,
    device: torch.device = CPU,
) -> FlashModel:
    """Pretrain one model over all pairs, whatever their platforms.

    Args:
        data: pairs to learn from.
        config: settings.
        seed: of the folds, the draws and the weights; the same seed gives the same model on the same machine.
        on_step: told of progress.
        on_held: told of the calibration pairs, so that a card can say how well intervals cover.
        engine: whose workers pretrain together, all of them; by default this process does alone.
        device: where the prior's weights and the networks are trained, with one worker; the model comes back to the
            CPU. Models differ between devices, as between seeds.

    Raises:
        ModelError: fewer than three applications, or none with two configurations; or more workers than tasks in a
            batch.
        EngineError: workers are lost again and again.
    """
    config = config or PretrainConfig()
    if isinstance(engine, Inline):
        with one_thread():
            model, held = _pretrain(data, config, seed, device, ALONE, on_step)
    else:
        check_workers(config, engine.workers)
        work = partial(_pretrain, data, config, seed, device)
        model, held = run_together(engine, work, engine.workers, on_step)[0]
    on_held(held)
    return model


def _pretrain(
    data: Observations, config: PretrainConfig, seed: int, device: torch.device, group: Group, on_step: OnStep
) -> tuple[FlashModel, dict[int, Held]]:
    """The model, and what was forecast of the pairs that calibrate it."""
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
    networks = turns(config.members, group.size)
    progress = _Progress(on_step, networks * sum(config.steps(n) for n in sizes) if with_network else len(sizes))
    held: dict[int, list[Held]] = {}
    apart: Apart = {}
    model: FlashModel | None = None
    for part in parts:
        model = _fit(data.of_apps(set(apps) - part), config, rng, with_network, progress, group, device)
        unseen = data.of_apps(part)
        for k, told in forecasts(model, unseen, config.sets, rng).items():
            held.setdefault(k, []).append(told)
        for part_name, of_k in distances(model, unseen, rng).items():
            for k, found in of_k.items():
                apart.setdefault(part_name, {}).setdefault(k, []).append(found)
    if len(parts) > 1 or model is None:
        model = _fit(data, config, rng, with_network, progress, group, device)
    else:
        model = replace(model, prior=_refitted(model.prior, data, config), known=data.pairs)
        model = with_novelty(model, data, rng) if model.nets else model
    unseen_pairs = {k: joined(found) for k, found in held.items()}
    calibration = calibrate(unseen_pairs, NORMAL)
    model = replace(model, calibration=calibration, together=flash.observed_together(data.log_runtime))
    return with_held(model, apart).to(CPU), unseen_pairs


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
    data: Observations,
    config: PretrainConfig,
    rng: np.random.Generator,
    with_network: bool,
    progress: _Progress,
    group: Group,
    device: torch.device,
) -> FlashModel:
    """Prior and network on these pairs, not calibrated yet."""
    prior, priors = _prior(data, config, rng, device)
    nets: tuple[FlashNet, ...] = ()
    if with_network:
        episodes = _episodes(data, priors, config, rng)
        features, steps = data.features.shape[1], config.steps(len(data))
        nets = train_networks(episodes, features, config, steps, rng, progress, group=group, device=device)
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
    data: Observations, config: PretrainConfig, rng: np.random.Generator, device: torch.device
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
        priors.append((LocalProcess.of(apart, scaler, rest).to(device), np.flatnonzero(fold == f)))
    steps = min(config.likeness_steps, 40 + len(data))
    likeness = local.learn(_likeness_tasks(data, priors, config, rng), shift=SHIFT, steps=steps)
    own = LocalProcess.of(gp, scaler, data, likeness).to(device)
    return own, [(prior.learned(likeness), pairs) for prior, pairs in priors]


def _refitted(prior: LocalProcess, data: Observations, config: PretrainConfig) -> LocalProcess:
    """The same process with all pairs, those that calibrated it as well: more of them are more likely to be alike."""
    kernel = prior.gp.kernel
    gp = hierarchical_gp.fit(data.features, data.log_runtime, kernel.interactions, config.prior, kernel)
    return LocalProcess.of(gp, prior.scaler, data, prior.likeness).to(prior.device)


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
