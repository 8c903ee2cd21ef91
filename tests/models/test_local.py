"""The process near a pair: likeness, the re-estimated moments against plain loops, and learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.models import hierarchical_gp, local
from flashfm.models.hierarchical_gp import PriorConfig
from flashfm.models.local import DISTINCT, NEIGHBOURS, OWN_KINDS, Likeness, LocalProcess
from flashfm.tasks.config_search import Observations, Shots
from flashfm.tasks.features import ShotScaler

NONE = np.empty((0, 2), dtype=np.int64)
PAIRS = 30


def holed(frame: pd.DataFrame, share: float = 0.2) -> pd.DataFrame:
    """With some rows and some metrics missing, but no pair below three rows."""
    rng = np.random.default_rng(5)
    frame = frame[(rng.random(len(frame)) >= share) | frame["memory_mb"].isin([128.0, 512.0, 3008.0])].copy()
    frame.loc[rng.random(len(frame)) < share, "user_cpu_ms_mean"] = np.nan
    return frame


@pytest.fixture(scope="module")
def data(synthetic: Callable[..., pd.DataFrame], observe: Callable[..., Observations]) -> Observations:
    return observe(holed(synthetic(PAIRS)))


@pytest.fixture(scope="module")
def process(data: Observations) -> LocalProcess:
    gp = hierarchical_gp.fit(data.features, data.log_runtime, NONE, PriorConfig(steps=15, em_steps=5))
    likeness = Likeness.initial(4, 1)
    # no two numbers of shots alike, so that taking the parameters of another shows
    varied = {f.name: getattr(likeness, f.name) + 0.3 * np.arange(DISTINCT)[:, None] for f in fields(Likeness)[:1]}
    varied |= {f.name: getattr(likeness, f.name) + 0.3 * np.arange(DISTINCT) for f in fields(Likeness)[1:]}
    scaler = ShotScaler.fit(data.metrics, data.log_runtime, data.metric_names)
    return LocalProcess.of(gp, scaler, data, Likeness(**varied))


def shots_of(unseen: Observations, k: int, *, tasks: int = 12, seed: int = 0) -> Shots:
    rng = np.random.default_rng(seed)
    pair = rng.integers(len(unseen), size=tasks)
    return unseen.shots(pair, np.stack([rng.permutation(6)[:k] for _ in range(tasks)]))


def plain(process: LocalProcess, shots: Shots) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, noisy variance and noise-free covariance of one task, by loops over training pairs."""
    gp, k = process.gp, min(shots.count, DISTINCT) - 1
    of = {f.name: np.exp(getattr(process.likeness, f.name)[k]) for f in fields(Likeness)}
    at = shots.config[0]
    values, known = np.split(process.scaler.transform(shots.metrics, shots.log_runtime)[0], 2, axis=-1)
    distance = np.zeros(len(gp.profiles))
    for pair in range(len(distance)):
        gap = shots.log_runtime[0] - gp.profiles[pair, at]
        kinds = [gap.mean() ** 2, gap.var(), 1 - process.observed[pair, at].mean()]
        for value in range(values.shape[1]):
            both = (known[:, value] * process.known[pair, at, value]) > 0
            off = (values[:, value] - process.values[pair, at, value])[both]
            kinds.append(float((off**2).mean()) if both.any() else 0.0)
        distance[pair] = of["weight"] @ np.array(kinds)
    bandwidth = np.sort(distance)[min(NEIGHBOURS, len(distance)) - 1] + 1e-9
    weight = np.exp(-0.5 * (distance - distance.min()) / (bandwidth * of["fade"] ** 2))
    mean = (of["own"] * gp.mean + weight @ gp.profiles) / (of["own"] + weight.sum())
    covariance = of["own_covariance"] * of["scale"] * gp.covariance
    for pair, w in enumerate(weight):
        away = gp.profiles[pair] - mean
        covariance = covariance + w * (np.outer(away, away) + gp.residual[gp.pattern[pair]])
    covariance = covariance / (of["own_covariance"] + weight.sum()) + of["broad"]
    noise = of["noise"] * gp.noise
    gain = np.linalg.inv(covariance[np.ix_(at, at)] + noise * np.eye(at.size)) @ covariance[at]
    off = shots.log_runtime[0] - mean[at]
    share = of["align"] / (1 + of["align"])
    after = covariance - covariance[:, at] @ gain
    posterior = (1 - share) * (mean + off @ gain) + share * (mean + off.mean())
    return posterior, np.diag(after) + noise, after


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_the_posterior_is_that_of_plain_loops(process: LocalProcess, unseen: Observations, k: int) -> None:
    shots = shots_of(unseen, k)
    found = process.posterior(shots)
    for task in range(len(shots)):
        one = shots.part(slice(task, task + 1))
        mean, variance, covariance = plain(process, one)
        np.testing.assert_allclose(found.mean[task], mean, rtol=1e-8)
        np.testing.assert_allclose(found.variance[task], variance, rtol=1e-6)
        np.testing.assert_allclose(process.covariance(one), covariance, atol=1e-9)


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_the_covariance_has_the_posterior_variance_without_noise(
    process: LocalProcess, unseen: Observations, k: int
) -> None:
    shots = shots_of(unseen, k, tasks=1)
    noise = process.gp.noise * np.exp(process.likeness.noise[min(k, DISTINCT) - 1])
    covariance = process.covariance(shots)
    np.testing.assert_allclose(np.diag(covariance) + noise, process.posterior(shots).variance[0], rtol=1e-6)
    np.testing.assert_allclose(covariance, covariance.T, atol=1e-12)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 20), st.integers(0, 1000))
def test_distances_are_the_differences_weighed_and_summed(
    process: LocalProcess, unseen: Observations, k: int, tasks: int, seed: int
) -> None:
    shots = shots_of(unseen, k, tasks=tasks, seed=seed)
    metrics = np.where(np.random.default_rng(seed).random(shots.metrics.shape) < 0.3, np.nan, shots.metrics)
    shots = Shots(shots.config % 3 if k == 1 else shots.config, shots.log_runtime, metrics)
    parameters = local._at(process.likeness, k)
    order, group = process._alike(shots)
    found = process._distances(shots, group, parameters)
    expected = process._differences(shots) @ parameters["weight"].exp()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert sorted(order.tolist()) == list(range(tasks))
    assert (np.diff(group[order]) >= 0).all()


def test_without_shots_it_is_the_shared_process(process: LocalProcess) -> None:
    none = Shots(np.empty((2, 0), dtype=np.int64), np.empty((2, 0)), np.empty((2, 0, 2)))
    mean, variance = process.gp.posterior(none.config, none.log_runtime)
    np.testing.assert_array_equal(process.posterior(none).mean, mean)
    np.testing.assert_array_equal(process.posterior(none).variance, variance)
    np.testing.assert_array_equal(process.covariance(none), process.gp.covariance)


@pytest.mark.parametrize("pair", range(0, PAIRS, 3))
@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_training_pair_is_most_like_itself(
    process: LocalProcess, data: Observations, monkeypatch: pytest.MonkeyPatch, pair: int, k: int
) -> None:
    weights = []
    real = LocalProcess._weights

    def spy(self: LocalProcess, *args: object) -> object:
        weights.append(real(self, *args))  # type: ignore[arg-type]
        return weights[-1]

    monkeypatch.setattr(LocalProcess, "_weights", spy)
    process.posterior(data.shots(np.array([pair]), data.observed[pair][None, :k]))
    assert int(weights[0][0].argmax()) == pair
    assert float(weights[0][0, pair]) == 1.0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 1000))
def test_a_batch_is_as_many_singles(process: LocalProcess, unseen: Observations, k: int, tasks: int, seed: int) -> None:
    shots = shots_of(unseen, k, tasks=tasks, seed=seed)
    batch = process.posterior(shots)
    singles = [process.posterior(shots.part(slice(i, i + 1))) for i in range(tasks)]
    for name in ("mean", "variance"):
        np.testing.assert_allclose(
            getattr(batch, name), np.concatenate([getattr(one, name) for one in singles]), rtol=1e-9
        )


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(6)), st.integers(1, 6), st.integers(0, 1000))
def test_the_order_of_shots_changes_nothing(
    process: LocalProcess, unseen: Observations, order: list[int], k: int, seed: int
) -> None:
    chosen = np.array([i for i in order if i < k])
    shots = shots_of(unseen, k, tasks=2, seed=seed)
    turned = Shots(shots.config[:, chosen], shots.log_runtime[:, chosen], shots.metrics[:, chosen])
    for name in ("mean", "variance"):
        np.testing.assert_allclose(
            getattr(process.posterior(turned), name), getattr(process.posterior(shots), name), rtol=1e-8
        )


def test_many_tasks_are_taken_in_parts(
    process: LocalProcess, unseen: Observations, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots = shots_of(unseen, 2, tasks=11)
    whole = process.posterior(shots)
    monkeypatch.setattr(local, "AT_ONCE", 4)
    parts = process.posterior(shots)
    assert parts.mean.shape == (11, 6)
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-10)
    np.testing.assert_allclose(parts.variance, whole.variance, rtol=1e-10)


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_the_variance_is_never_below_the_noise_of_a_shot(process: LocalProcess, unseen: Observations, k: int) -> None:
    noise = process.gp.noise * np.exp(process.likeness.noise[min(k, DISTINCT) - 1])
    assert process.posterior(shots_of(unseen, k, tasks=60)).variance.min() >= noise * (1 - 1e-12)


@pytest.mark.parametrize("off", [-6.0, 6.0])
def test_a_level_far_from_all_known_ones_is_followed(process: LocalProcess, unseen: Observations, off: float) -> None:
    shots = shots_of(unseen, 1)
    far = replace(shots, log_runtime=shots.log_runtime + off)
    found = process.posterior(far)
    assert np.isfinite(found.mean).all()
    assert np.abs(np.take_along_axis(found.mean, far.config, axis=1) - far.log_runtime).max() < 0.3 * abs(off)


def test_metrics_tell_alike_pairs_apart(process: LocalProcess, unseen: Observations) -> None:
    shots = shots_of(unseen, 1)
    without = replace(shots, metrics=np.full_like(shots.metrics, np.nan))
    assert np.isfinite(process.posterior(without).mean).all()
    assert np.abs(process.posterior(without).mean - process.posterior(shots).mean).max() > 1e-3


def test_pairs_without_any_metric_can_be_trained_on(observe: Callable[..., Observations], data: Observations) -> None:
    bare = replace(data, metrics=np.where(np.arange(PAIRS)[:, None, None] % 2 == 0, data.metrics, np.nan))
    gp = hierarchical_gp.fit(bare.features, bare.log_runtime, NONE, PriorConfig(steps=5, em_steps=2))
    scaler = ShotScaler.fit(bare.metrics, bare.log_runtime, bare.metric_names)
    process = LocalProcess.of(gp, scaler, bare)
    assert not process.known[1::2].any()
    found = process.posterior(bare.shots(np.array([0, 1]), np.array([[0], [0]])))
    assert np.isfinite(found.mean).all()


def test_without_metrics_run_times_alone_are_compared(data: Observations) -> None:
    bare = replace(data, metrics=np.empty((PAIRS, 6, 0)), metric_names=())
    gp = hierarchical_gp.fit(bare.features, bare.log_runtime, NONE, PriorConfig(steps=5, em_steps=2))
    process = LocalProcess.of(gp, ShotScaler.fit(bare.metrics, bare.log_runtime, ()), bare)
    assert process.likeness.weight.shape == (DISTINCT, OWN_KINDS)
    assert np.isfinite(process.posterior(bare.shots(np.array([0]), np.array([[0]]))).mean).all()


def percentage_error(tasks: list[local.Task], likeness: Likeness) -> float:
    errors = []
    for process, shots, observed in tasks:
        found = process.learned(likeness).posterior(shots)
        off = np.abs(np.exp(found.mean - 0.8 * found.variance - observed) - 1)
        errors.append(off[~np.isnan(observed)])
    return float(np.concatenate(errors).mean())


@pytest.mark.parametrize("k", [1, 2])
def test_learning_lowers_the_error(process: LocalProcess, unseen: Observations, k: int) -> None:
    rng = np.random.default_rng(0)
    pair = np.repeat(np.arange(len(unseen)), 2)
    shots = unseen.shots(pair, np.stack([rng.permutation(6)[:k] for _ in pair]))
    observed = unseen.log_runtime[pair].copy()
    np.put_along_axis(observed, shots.config, np.nan, axis=1)
    tasks = [(process.learned(Likeness.initial(4, 1)), shots, observed)]
    learned = local.learn(dict.fromkeys({1, k}, tasks), shift=0.8, steps=20)
    assert percentage_error(tasks, learned) < 0.98 * percentage_error(tasks, Likeness.initial(4, 1))


def test_numbers_of_shots_without_tasks_take_the_parameters_of_fewer(
    process: LocalProcess, unseen: Observations
) -> None:
    shots = shots_of(unseen, 1, tasks=20)
    observed = unseen.log_runtime[:20]
    learned = local.learn({1: [(process, shots, observed)]}, shift=0.8, steps=3)
    for part in fields(Likeness):
        values = getattr(learned, part.name)
        np.testing.assert_array_equal(values[1:], np.stack([values[0]] * 2))


def test_learning_changes_no_process(process: LocalProcess, unseen: Observations) -> None:
    before = {part.name: getattr(process.likeness, part.name).copy() for part in fields(Likeness)}
    local.learn({1: [(process, shots_of(unseen, 1, tasks=24), unseen.log_runtime)]}, shift=0.8, steps=3)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(process.likeness, name), value)


def test_extending_leaves_the_grid_as_it_was(process: LocalProcess, unseen: Observations) -> None:
    wider = process.extended(np.array([[0.1], [0.7]]))
    shots = shots_of(unseen, 2)
    np.testing.assert_allclose(wider.posterior(shots).mean[:, :6], process.posterior(shots).mean, rtol=1e-9)
    np.testing.assert_allclose(wider.posterior(shots).variance[:, :6], process.posterior(shots).variance, rtol=1e-9)


def test_a_shot_in_a_new_configuration_is_followed(process: LocalProcess, unseen: Observations) -> None:
    at = (process.gp.features[2] + process.gp.features[3]) / 2
    wider = process.extended(at[None])
    level = unseen.log_runtime[:, 2:4].mean(axis=1, keepdims=True)
    shots = Shots(np.full((24, 1), 6), level, np.full((24, 1, 2), np.nan))
    found = wider.posterior(shots)
    assert np.abs(found.mean[:, 2:4] - unseen.log_runtime[:, 2:4]).mean() < 0.2
    assert np.abs(found.mean[:, 6] - level[:, 0]).max() < 0.2


def test_no_gradient_is_kept(process: LocalProcess, unseen: Observations) -> None:
    assert torch.is_grad_enabled()
    process.posterior(shots_of(unseen, 1))
    assert torch.is_grad_enabled()
