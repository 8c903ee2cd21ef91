"""Novelty: p-values of pairs like those of pretraining are uniform, and those far out are small."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.experiments import evaluation
from flashfm.models import novelty
from flashfm.models.novelty import LEVEL, EnvironmentModel, NoveltyModel
from flashfm.tasks.config_search import draw


def embeddings(rng: np.random.Generator, n: int) -> np.ndarray:
    """In a few clusters, correlated, not negative and with one dimension that is never used, as ReLU makes them."""
    centre = np.array([[1.0, 0, 2, 0], [0, 3, 0, 1], [2, 2, 0, 0]])[rng.integers(3, size=n)]
    shared = rng.normal(size=(n, 1))
    made = centre + 0.3 * rng.normal(size=(n, 4)) + shared * np.array([0.5, 0.4, 0.0, 0.0])
    return np.maximum(np.concatenate([made, np.zeros((n, 1))], axis=1), 0.0)


def fitted(seed: int = 0, references: int = 300, held: int = 400) -> NoveltyModel:
    rng = np.random.default_rng(seed)
    of_pair = np.repeat(np.arange(references // 3), 3)
    return novelty.fit(embeddings(rng, references), of_pair, {k: embeddings(rng, held) for k in (1, 2)})


def p_values(model: NoveltyModel, embedding: np.ndarray, k: int = 1) -> np.ndarray:
    return model.p_value(model.distance(embedding), k)


def test_five_percent_of_pairs_like_those_of_pretraining_are_novel() -> None:
    fresh = embeddings(np.random.default_rng(1), 20_000)
    for k in (1, 2, 7):
        assert 0.03 < float((p_values(fitted(), fresh, k) < LEVEL).mean()) < 0.07


def test_p_values_are_no_smaller_than_chance_on_average() -> None:
    rng = np.random.default_rng(2)
    reference = embeddings(rng, 200)
    found = []
    for _ in range(300):  # over draws of the held-out pairs too, for the claim is about both
        model = novelty.fit(reference, np.arange(200), {1: embeddings(rng, 19)})
        found.append(p_values(model, embeddings(rng, 50), 1))
    p_value = np.concatenate(found)
    assert (p_value > 0).all()
    assert (p_value <= 1).all()
    for level in (0.05, 0.1, 0.25, 0.5, 0.9):
        assert float((p_value <= level).mean()) < level + 0.03


def test_what_lies_far_out_is_novel() -> None:
    fresh = embeddings(np.random.default_rng(1), 50)
    assert (p_values(fitted(), fresh + np.array([9.0, 0, 0, 9, 0]), 1) < LEVEL).all()


def test_a_dimension_that_pretraining_never_used_counts() -> None:
    fresh = embeddings(np.random.default_rng(1), 50)
    assert (p_values(fitted(), fresh + np.array([0.0, 0, 0, 0, 9]), 1) < LEVEL).all()


@settings(max_examples=20, deadline=None)
@given(st.floats(1.0, 30.0), st.floats(0.1, 20.0))
def test_farther_is_never_less_novel(near: float, more: float) -> None:
    away = np.array([[3.0 + near, 3 + near, 3 + near, 3 + near, 0]])
    model = fitted()
    farther = away + more * np.array([1.0, 1, 1, 1, 0])
    assert model.distance(farther)[0] >= model.distance(away)[0]
    assert p_values(model, farther, 1)[0] <= p_values(model, away, 1)[0]


def test_the_scale_of_a_dimension_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    reference, held, fresh = (embeddings(rng, n) for n in (200, 200, 60))
    scale = np.array([2.0, 0.5, 1.0, 2.0, 1.0])
    plain = novelty.fit(reference, np.arange(200), {1: held})
    scaled = novelty.fit(reference * scale, np.arange(200), {1: held * scale})
    np.testing.assert_allclose(p_values(scaled, fresh * scale, 1), p_values(plain, fresh, 1), atol=0.05)


def test_distances_come_in_a_batch_as_one_by_one() -> None:
    fresh = embeddings(np.random.default_rng(1), 20)
    model = fitted()
    np.testing.assert_allclose(model.distance(fresh), [model.distance(fresh[[i]])[0] for i in range(20)], rtol=1e-9)
    np.testing.assert_array_equal(p_values(model, fresh, 1), [p_values(model, fresh[[i]], 1)[0] for i in range(20)])


@pytest.mark.parametrize("references", [3, 30, 33, 300, 3000])
def test_distances_are_those_to_each_reference_in_turn(references: int) -> None:
    model, fresh = fitted(references=references, held=50), embeddings(np.random.default_rng(4), 70)
    plain = [np.sort(np.linalg.norm((model.reference - one) @ model.whiten, axis=1))[:5].mean() for one in fresh]
    np.testing.assert_allclose(model.distance(fresh), plain, rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 12), st.integers(1, 5), st.integers(0, 1000))
def test_the_least_are_found_by_blocks(tasks: int, blocks: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 50, (tasks, blocks * novelty.BLOCK)).astype(np.float64)
    found = np.sort(novelty._least(values, n), axis=1)
    np.testing.assert_array_equal(found, np.sort(values, axis=1)[:, :n])


def test_the_nearest_pairs_come_in_order_and_once_each() -> None:
    model = fitted()
    for n in (1, 5, 100):
        nearest = model.nearest(model.reference[7], n)
        assert len(nearest) == min(n, 100)
        assert nearest[0][0] == model.pair[7]
        assert nearest[0][1] == pytest.approx(0, abs=1e-5)
        assert len({pair for pair, _ in nearest}) == len(nearest)
        distances = [distance for _, distance in nearest]
        assert distances == sorted(distances)


@pytest.mark.parametrize("references", [2, 3, 10])
def test_few_references_are_enough_to_go_on(references: int) -> None:
    model = fitted(references=3 * references, held=5)
    fresh = embeddings(np.random.default_rng(1), 10)
    assert np.isfinite(model.distance(fresh)).all()
    assert (p_values(model, fresh, 1) > 0).all()


def test_embeddings_that_are_all_the_same_are_not_novel() -> None:
    same = np.ones((20, 4))
    model = novelty.fit(same, np.arange(20), {1: same[:10]})
    assert p_values(model, same[:1], 1)[0] == 1.0


def told(rng: np.random.Generator, pairs: int, *, shift: float = 0.0) -> np.ndarray:
    """What tells an environment: two values in each of four configurations, as a pair has them."""
    of_pair = rng.normal(0, 1, (pairs, 1, 2))
    return np.arange(4)[:, None] * 0.3 + of_pair + 0.1 * rng.normal(size=(pairs, 4, 2)) + shift


def draws(rng: np.random.Generator, pairs: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    pair = np.repeat(np.arange(pairs), 2)
    return {k: (pair, np.stack([rng.permutation(4)[:k] for _ in pair])) for k in (1, 2)}


def environment(seed: int = 0, pairs: int = 150) -> EnvironmentModel:
    rng = np.random.default_rng(seed)
    return novelty.fit_environment(told(rng, pairs), [f"app-{i}" for i in range(pairs)], draws(rng, pairs))


def judged(model: EnvironmentModel, values: np.ndarray, k: int, seed: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    config = np.stack([rng.permutation(4)[:k] for _ in values])
    return model.p_value(model.distance(config, np.take_along_axis(values, config[..., None], axis=1)), k)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_five_percent_of_pairs_in_the_same_environment_are_novel(k: int) -> None:
    shares = []
    for seed in range(8):  # over draws of the pretraining pairs too
        fresh = told(np.random.default_rng(100 + seed), 500)
        shares.append(float((judged(environment(seed), fresh, min(k, 2)) < LEVEL).mean()))
    assert 0.02 < np.mean(shares) < 0.08


def test_another_environment_is_told() -> None:
    fresh = told(np.random.default_rng(1), 60, shift=9.0)
    assert (judged(environment(), fresh, 1) < LEVEL).all()
    assert (judged(environment(), fresh, 2) < LEVEL).all()


def test_an_environment_that_cannot_be_told_counts_as_typical() -> None:
    fresh = told(np.random.default_rng(1), 20, shift=9.0)
    assert (judged(environment(), np.full_like(fresh, np.nan), 1) > 0.5).all()
    few = environment(pairs=novelty.LEAST_PAIRS - 1)
    assert (judged(few, fresh, 1) == 1).all()


def test_environments_come_in_a_batch_as_one_by_one() -> None:
    model, fresh = environment(), told(np.random.default_rng(1), 12)
    config = np.tile([[2, 0]], (12, 1))
    values = fresh[:, [2, 0]]
    single = [model.distance(config[[i]], values[[i]])[0] for i in range(12)]
    np.testing.assert_allclose(model.distance(config, values), single, rtol=1e-12)
    np.testing.assert_allclose(model.distance(config[:, ::-1], values[:, ::-1]), single, rtol=1e-12)


def test_pairs_that_were_not_observed_are_no_references() -> None:
    rng = np.random.default_rng(0)
    values = told(rng, 60)
    values[30:, :2] = np.nan
    model = novelty.fit_environment(
        values, [f"app-{i}" for i in range(len(values))], {1: (np.arange(60), np.full((60, 1), 3))}
    )
    assert np.isfinite(model.held).all()
    assert np.isfinite(model.distance(np.zeros((5, 1), dtype=np.int64), values[:5, :1])).all()


@pytest.mark.data
@pytest.mark.slow
def test_measured_pairs_of_unseen_applications_are_seldom_novel() -> None:
    from flashfm.pretraining.supervised import PretrainConfig, pretrain

    data = evaluation.load("lambda")
    config = PretrainConfig(members=1, least_steps=200, most_steps=200, sets=5, likeness_steps=15, likeness_tasks=150)
    rng = np.random.default_rng(0)
    novel = []
    for split in evaluation.splits(data, 2):
        model = pretrain(data.of_apps(split.train), config, seed=0)
        test = data.of_apps(split.test)
        for k in (1, 2, 3):
            pair, chosen = draw(test, np.arange(len(test)), k, 1, rng)
            shots = test.shots(pair, chosen)
            novel.append(model.judge(shots, model.compared(shots, model.embed(shots)))[0] < LEVEL)
    # 2 x 3 x 30 pairs or so, in part the same: a share of 5 % comes out between 0 and 12 %
    assert float(np.concatenate(novel).mean()) < 0.12


def test_an_application_on_other_platforms_is_no_reference_of_its_own() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(0, 1, (40, 1, 2)), 4, axis=0)
    draws = {1: (np.arange(160), np.zeros((160, 1), dtype=np.int64))}
    known_apart = novelty.fit_environment(values, [f"app-{i // 4}" for i in range(160)], draws)
    known_alike = novelty.fit_environment(values, [f"app-{i}" for i in range(160)], draws)
    # every pair has three others of its application with the very same values
    assert np.exp(known_alike.held).max() < 0.01
    assert np.exp(known_apart.held).min() > 0.01
