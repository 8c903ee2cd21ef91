"""Pretraining: the same seed gives the same model, applications are never parted, and rare tables do not break it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from flashfm.errors import ModelError
from flashfm.models import hierarchical_gp, local
from flashfm.models.calibration import MAX_SHOTS, Held
from flashfm.models.flash import FlashModel
from flashfm.models.hierarchical_gp import PriorConfig
from flashfm.models.local import LocalProcess
from flashfm.models.novelty import LEVEL
from flashfm.pretraining import supervised
from flashfm.pretraining.supervised import PretrainConfig, interactions_of, pretrain
from flashfm.tasks.config_search import Observations, Shots
from flashfm.tasks.space import ConfigSpace

Make = Callable[..., pd.DataFrame]
Observe = Callable[..., Observations]


@pytest.fixture(scope="module")
def quick(small: PretrainConfig) -> PretrainConfig:
    """Shorter still, for tests that train many models."""
    return replace(
        small,
        prior=PriorConfig(steps=3, em_steps=2),
        members=1,
        least_steps=4,
        most_steps=4,
        batch=16,
        likeness_steps=2,
        likeness_tasks=15,
        sets=2,
        inner_folds=2,
        cross_folds=3,
    )


@pytest.fixture(scope="module")
def held_out(quick: PretrainConfig) -> PretrainConfig:
    """Calibration on applications that are held out once."""
    return replace(quick, hold_out_from=12)


def tensors(model: FlashModel) -> dict[str, np.ndarray]:
    """All numbers of a model but its calibration."""
    gp, found = model.prior.gp, {}
    found |= {f"gp.{name}": getattr(gp, name) for name in ("mean", "covariance", "profiles", "residual")}
    found |= {f"likeness.{name}": value for name, value in vars(model.prior.likeness).items()}
    for i, net in enumerate(model.nets):
        found |= {f"net.{i}.{name}": value.numpy() for name, value in net.state_dict().items()}
    for part in ("novelty", "bare", "environment"):
        if (record := getattr(model, part)) is not None:
            found |= {f"{part}.{name}": value for name, value in vars(record).items() if isinstance(value, np.ndarray)}
    return found


def all_numbers(model: FlashModel) -> dict[str, np.ndarray]:
    return tensors(model) | {f"calibration.{name}": value for name, value in vars(model.calibration).items()}


def assert_usable(model: FlashModel, data: Observations) -> None:
    """Forecasts for any number of shots are finite and ordered, and so is the calibration."""
    for name, value in all_numbers(model).items():
        assert np.isfinite(value).all(), name
    seen = data.observed[0]
    for k in range(seen.size + 1):
        forecast = model.forecast(data.shots(np.array([0]), seen[None, :k]))
        assert np.isfinite(forecast.point).all()
        assert (forecast.lower <= forecast.point).all()
        assert (forecast.point <= forecast.upper).all()


@pytest.mark.parametrize("mode", ["quick", "held_out"])
def test_the_same_seed_gives_the_same_model_and_another_another(
    synthetic: Make, observe: Observe, mode: str, request: pytest.FixtureRequest
) -> None:
    data, config = observe(synthetic(14)), request.getfixturevalue(mode)
    first = all_numbers(pretrain(data, config, seed=3))
    torch.manual_seed(99)
    np.random.seed(99)
    again, other = all_numbers(pretrain(data, config, seed=3)), all_numbers(pretrain(data, config, seed=4))
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)
    assert not np.array_equal(other["net.0.head.0.weight"], first["net.0.head.0.weight"])


def test_the_order_of_applications_in_the_table_does_not_choose_who_is_held_out(
    synthetic: Make, observe: Observe, held_out: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = synthetic(14)
    parts: list[set[str]] = []
    real = supervised._folds

    def spy(*args: Any) -> list[set[str]]:
        parts.extend(real(*args))
        return parts[-1:]

    monkeypatch.setattr(supervised, "_folds", spy)
    for order in (True, False):
        pretrain(observe(frame.sort_values("app", ascending=order)), held_out, seed=0)
    assert parts[0] == parts[1]
    assert 1 <= len(parts[0]) <= 3


def spoiled(data: Observations, apps: set[str], by: float = 2.0) -> Observations:
    """The same with other run times, of other shapes, and other metrics, for some applications."""
    chosen = np.array([app in apps for app, _ in data.pairs])
    rng = np.random.default_rng(9)
    runtime, metrics = data.log_runtime.copy(), data.metrics.copy()
    runtime[chosen] += by * rng.normal(size=runtime[chosen].shape)
    metrics[chosen] *= 7
    return replace(data, log_runtime=runtime, metrics=metrics)


def test_calibration_applications_do_not_reach_the_network(
    synthetic: Make, observe: Observe, held_out: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = observe(synthetic(14))
    parts: list[set[str]] = []
    real = supervised._folds
    monkeypatch.setattr(supervised, "_folds", lambda *args: parts.extend(real(*args)) or parts[-1:])
    clean = pretrain(data, held_out, seed=0)
    dirty = pretrain(spoiled(data, parts[0]), held_out, seed=0)
    assert parts[0] == parts[1]
    assert len(clean.nets) == held_out.members
    for one, other in zip(clean.nets, dirty.nets, strict=True):
        for name, value in one.state_dict().items():
            assert torch.equal(other.state_dict()[name], value), name
    assert not np.array_equal(dirty.calibration.above, clean.calibration.above)


def test_each_application_calibrates_a_model_that_has_not_seen_it(
    synthetic: Make, observe: Observe, quick: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = observe(synthetic(13, platforms=("fast", "slow")))
    judged: list[tuple[set[str], set[str]]] = []
    real = supervised.forecasts

    def spy(model: FlashModel, unseen: Observations, *args: Any) -> dict[int, Held]:
        judged.append(({app for app, _ in model.known}, set(unseen.apps)))
        assert len(model.prior.gp.profiles) == len(model.known)
        return real(model, unseen, *args)

    monkeypatch.setattr(supervised, "forecasts", spy)
    pretrain(data, quick, seed=0)
    assert sorted(app for _, unseen in judged for app in unseen) == sorted(data.apps)
    for known, unseen in judged:
        assert not known & unseen
        assert known | unseen == set(data.apps)


class Fitted:
    """Remembers which applications each process was fitted on, by its moments."""

    def __init__(self, data: Observations, monkeypatch: pytest.MonkeyPatch) -> None:
        self.apps: dict[int, set[str]] = {}
        self._kept: list[object] = []
        rows = zip(data.pairs, data.log_runtime, strict=True)
        self._app_of = {float(value): app for (app, _), row in rows for value in row}
        real_fit = hierarchical_gp.fit

        def fit(features: Any, log_runtime: Any, *args: Any, **options: Any) -> Any:
            gp = real_fit(features, log_runtime, *args, **options)
            self.apps[id(gp)] = self.of(log_runtime)
            self._kept.append(gp)
            return gp

        monkeypatch.setattr(hierarchical_gp, "fit", fit)

    def of(self, log_runtime: np.ndarray) -> set[str]:
        """Applications of these run times; no two are the same."""
        return {self._app_of[float(value)] for value in log_runtime.ravel()}


def test_the_prior_of_an_episode_was_fitted_without_its_application(
    synthetic: Make, observe: Observe, quick: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = observe(synthetic(13, platforms=("fast", "slow")))
    fitted = Fitted(data, monkeypatch)
    asked: list[set[str]] = []
    inside: list[bool] = [False]
    real_posterior, real_episodes = LocalProcess.posterior, supervised._episodes

    def posterior(self: LocalProcess, shots: Shots) -> Any:
        if inside[0]:
            asked.append(fitted.of(shots.log_runtime))
            known = fitted.apps[id(self.gp)]
            assert len(known) > 2
            assert not known & asked[-1]
        return real_posterior(self, shots)

    def episodes(*args: Any) -> Any:
        inside[0] = True
        found = real_episodes(*args)
        inside[0] = False
        return found

    monkeypatch.setattr(LocalProcess, "posterior", posterior)
    monkeypatch.setattr(supervised, "_episodes", episodes)
    pretrain(data, quick, seed=0)
    assert set().union(*asked) == set(data.apps)


def test_likeness_is_learned_on_pairs_that_the_process_has_not_seen(
    synthetic: Make, observe: Observe, quick: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = observe(synthetic(6))
    fitted = Fitted(data, monkeypatch)
    real, seen = local.learn, []

    def spy(tasks: Any, **options: Any) -> Any:
        for of_k in tasks.values():
            for process, shots, observed in of_k:
                seen.append(fitted.of(shots.log_runtime))
                assert fitted.apps[id(process.gp)]
                assert not fitted.apps[id(process.gp)] & seen[-1]
                assert np.isnan(np.take_along_axis(observed, shots.config, axis=1)).all()
        return real(tasks, **options)

    monkeypatch.setattr(local, "learn", spy)
    pretrain(data, quick, seed=0)
    assert set().union(*seen) == set(data.apps)


def test_shots_are_never_among_what_is_asked_of_them(synthetic: Make, observe: Observe, quick: PretrainConfig) -> None:
    data = observe(synthetic(6))
    held: dict[int, Held] = {}
    pretrain(data, quick, seed=0, on_held=held.update)
    assert sorted(held) == list(range(MAX_SHOTS + 1))
    for k, found in held.items():
        _, counts = np.unique(found.pair, return_counts=True)
        assert counts.size == 6
        assert (counts % (6 - k) == 0).all()


def test_a_held_out_application_is_unknown_to_the_model(
    synthetic: Make, observe: Observe, quick: PretrainConfig
) -> None:
    frame = synthetic(16)
    left = sorted(set(frame["app"]))[:3]
    data = observe(frame)
    model = pretrain(data.of_apps(set(data.apps) - set(left)), quick, seed=0)
    dirty = spoiled(data, set(left)).of_apps(set(data.apps) - set(left))
    for name, value in all_numbers(pretrain(dirty, quick, seed=0)).items():
        np.testing.assert_array_equal(value, all_numbers(model)[name], err_msg=name)
    assert not {app for app, _ in model.known} & set(left)


@pytest.mark.parametrize("mode", ["quick", "held_out"])
def test_every_pair_is_known_in_the_end(
    synthetic: Make, observe: Observe, mode: str, request: pytest.FixtureRequest
) -> None:
    data = observe(synthetic(14))
    model = pretrain(data, request.getfixturevalue(mode), seed=0)
    assert set(model.known) == set(data.pairs)
    assert len(model.prior.gp.profiles) == len(data)


@pytest.mark.parametrize("mode", ["quick", "held_out"])
def test_references_are_embeddings_of_the_final_model(
    synthetic: Make, observe: Observe, mode: str, request: pytest.FixtureRequest
) -> None:
    data = observe(synthetic(14))
    model = pretrain(data, request.getfixturevalue(mode), seed=0)
    assert model.novelty is not None
    every = [model.embed(data.shots(np.full(6, i), np.arange(6)[:, None])) for i in range(len(data))]
    for i in range(len(data)):
        at = model.known.index(data.pairs[i])
        singles = model.novelty.reference[model.novelty.pair == at]
        apart = np.abs(singles[:, None] - every[i][None]).max(axis=-1).min(axis=1)
        assert apart.min() < 1e-5  # its references of one shot are among those of each configuration


@pytest.mark.parametrize("apps", [3, 13])
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("mode", ["quick", "held_out"])
def test_progress_ends_with_all_steps(
    synthetic: Make, observe: Observe, apps: int, members: int, mode: str, request: pytest.FixtureRequest
) -> None:
    told: list[tuple[int, int]] = []
    config = replace(request.getfixturevalue(mode), members=members)
    pretrain(observe(synthetic(apps)), config, seed=0, on_step=lambda *at: told.append(at))
    assert [done for done, _ in told] == list(range(1, len(told) + 1))
    assert {total for _, total in told} == {len(told)}


def test_a_network_needs_enough_applications(synthetic: Make, observe: Observe, quick: PretrainConfig) -> None:
    few = pretrain(observe(synthetic(11)), quick, seed=0)
    assert few.nets == ()
    assert few.novelty is None
    enough = pretrain(observe(synthetic(12)), quick, seed=0)
    assert len(enough.nets) == quick.members
    assert enough.novelty is not None
    assert not any(net.training for net in enough.nets)


def test_many_distances_are_kept_for_each_number_of_shots(
    synthetic: Make, observe: Observe, quick: PretrainConfig
) -> None:
    """One pair with more configurations than all others must not thin out what is known of them."""
    frame = synthetic(24)
    few = frame[frame["memory_mb"].isin([256.0, 1024.0]) | (frame["app"] == frame["app"].iloc[0])]
    model = pretrain(observe(few), quick, seed=0)
    assert model.novelty is not None
    assert model.novelty.held.shape[1] >= 24
    far = model.novelty.distance(model.novelty.reference[:1] + 1e3)
    assert model.novelty.p_value(far, 1)[0] < LEVEL


def test_torch_draws_on_as_if_nothing_had_happened(synthetic: Make, observe: Observe, quick: PretrainConfig) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    pretrain(observe(synthetic(12)), quick, seed=0)
    assert torch.equal(torch.rand(3), expected)


def rare(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    first = frame["app"] == frame["app"].iloc[0]
    rng = np.random.default_rng(0)
    match kind:
        case "no metrics":
            return frame.drop(columns=["user_cpu_ms_mean", "net_in_bytes_mean"])
        case "pairs without metrics":
            return frame.assign(user_cpu_ms_mean=frame["user_cpu_ms_mean"].where(rng.random(len(frame)) < 0.5))
        case "a metric that is never there":
            return frame.assign(net_in_bytes_mean=np.nan)
        case "a metric that never varies":
            return frame.assign(net_in_bytes_mean=3.0)
        case "run times that never vary":
            return frame.assign(runtime_ms=100.0)
        case "a column that never varies":
            return frame.assign(region=1.0)
        case "texts":
            return frame.assign(region=np.where(frame["memory_mb"] > 600, "big", "small"))
        case "holes":
            return frame[rng.random(len(frame)) < 0.7]
        case "two configurations each":
            return frame[frame.groupby("app").cumcount().isin([0, 3])]
        case "two random configurations each":
            return frame.sample(frac=1.0, random_state=0).groupby("app").head(2)
        case "failures":
            failed = rng.random(len(frame)) < 0.2
            outcome = np.where(failed, "timeout", "ok")
            return frame.assign(outcome=outcome, runtime_ms=frame["runtime_ms"].where(~failed))
        case "one application with six configurations":
            return frame[first | frame["memory_mb"].isin([128.0, 512.0])]
    raise AssertionError(kind)


@pytest.mark.parametrize("apps", [3, 13])
@pytest.mark.parametrize(
    "kind",
    [
        "no metrics",
        "pairs without metrics",
        "a metric that is never there",
        "a metric that never varies",
        "run times that never vary",
        "a column that never varies",
        "texts",
        "holes",
        "two configurations each",
        "two random configurations each",
        "failures",
        "one application with six configurations",
    ],
)
def test_rare_tables_give_models_that_can_be_used(
    synthetic: Make, observe: Observe, quick: PretrainConfig, kind: str, apps: int
) -> None:
    frame = rare(synthetic(apps), kind)
    columns = ["memory_mb", *(["region"] if "region" in frame else [])]
    data = observe(frame, config_columns=columns)
    assert_usable(pretrain(data, quick, seed=0), data)


@pytest.mark.parametrize("apps", [3, 5, 13])
@pytest.mark.parametrize("with_two", [0, 1])
def test_too_little_to_learn_from_is_refused_in_one_line(
    synthetic: Make, observe: Observe, quick: PretrainConfig, apps: int, with_two: int
) -> None:
    frame = synthetic(apps)
    two = frame["app"].isin(sorted(set(frame["app"]))[:with_two]) & (frame["memory_mb"] == 1024.0)
    with pytest.raises(ModelError) as caught:
        pretrain(observe(frame[two | (frame["memory_mb"] == 512.0)]), quick, seed=0)
    assert "\n" not in str(caught.value)


def test_two_applications_are_too_few(synthetic: Make, observe: Observe, quick: PretrainConfig) -> None:
    with pytest.raises(ModelError, match="2 applications"):
        pretrain(observe(synthetic(2)), quick, seed=0)


def test_intervals_cover_unseen_applications(synthetic: Make, observe: Observe, quick: PretrainConfig) -> None:
    """Calibration in turns on 300 applications, measured on 500 others; the prior alone, which the claim is about."""
    config = replace(quick, least_for_network=10_000, hold_out_from=10_000, likeness_steps=5, sets=6)
    model = pretrain(observe(synthetic(300)), config, seed=0)
    unseen = observe(synthetic(500, seed=1))
    rng = np.random.default_rng(0)
    shares = []
    for k in (0, 1, 2, 3):
        chosen = np.stack([rng.permutation(6)[:k] for _ in range(len(unseen))])
        forecast = model.forecast(unseen.shots(np.arange(len(unseen)), chosen))
        inside = (forecast.lower <= unseen.log_runtime) & (unseen.log_runtime <= forecast.upper)
        asked = np.ones_like(inside)
        np.put_along_axis(asked, chosen, False, axis=1)
        shares.append(float(inside[asked].mean()))
    # the quantiles of 300 pairs alone move each share by 1.7 points
    assert all(0.86 <= share <= 0.94 for share in shares), shares
    assert 0.87 <= np.mean(shares) <= 0.93, shares


def test_products_are_of_levels_and_numbers() -> None:
    grid = pd.DataFrame({"cpus": [1.0, 2.0], "family": ["a", "b"], "memory": [1.0, 3.0]})
    space = ConfigSpace.fit(grid)
    names = space.feature_names
    found = {(names[i], names[j]) for i, j in interactions_of(space)}
    assert found == {(f"family={level}", number) for level in "ab" for number in ("cpus", "memory")}
    assert interactions_of(ConfigSpace.fit(grid[["cpus"]])).shape == (0, 2)


def test_hyper_parameters_are_fitted_once_for_all_folds(
    synthetic: Make, observe: Observe, quick: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[bool] = []
    real = hierarchical_gp.fit

    def spy(*args: Any, **options: Any) -> Any:
        fits.append(len(args) < 5 or args[4] is None)
        return real(*args, **options)

    monkeypatch.setattr(hierarchical_gp, "fit", spy)
    pretrain(observe(synthetic(4)), quick, seed=0)
    assert sum(fits) == 4  # once for each of three folds, once for the final model


def test_steps_follow_the_pairs_within_limits() -> None:
    config = PretrainConfig(steps_per_pair=2.0, least_steps=100, most_steps=300)
    assert [config.steps(n) for n in (1, 100, 1000)] == [100, 200, 300]
