import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashfm.baselines import AdditiveRatio, CopyNearest
from flashfm.baselines.ratio import additive_effects


@given(seed=st.integers(0, 2**32 - 1), missing=st.floats(0, 0.6))
def test_additive_data_with_gaps_are_recovered(seed, missing):
    rng = np.random.default_rng(seed)
    level, effect = rng.normal(5, 2, (12, 1)), rng.normal(0, 1, 7)
    table = level + effect
    gaps = rng.random(table.shape) < missing
    gaps[0] = gaps[:, 0] = False
    found_level, found_effect = additive_effects(np.where(gaps, np.nan, table))
    np.testing.assert_allclose(found_level[:, None] + found_effect, table, atol=1e-6)


def test_an_effect_that_nobody_saw_is_zero():
    table = np.array([[1.0, np.nan, 3.0], [2.0, np.nan, 4.0]])
    assert additive_effects(table)[1][1] == 0


@pytest.mark.parametrize("shots", [1, 2, 3])
def test_additive_ratio_is_exact_on_additive_data(build, shots):
    rng = np.random.default_rng(0)
    grid = pd.DataFrame({"size": [1.0, 2.0, 4.0, 8.0, 16.0]})
    runtime = np.exp(rng.normal(5, 1, (10, 1)) + rng.normal(0, 1, 5))
    data = build(grid, runtime)
    fitted = AdditiveRatio().fit(data.of_pairs(np.arange(8)), shots=shots, seed=0)
    config = np.stack([rng.permutation(5)[:shots] for _ in range(2)])
    np.testing.assert_allclose(fitted.predict(data.shots(np.array([8, 9]), config)), runtime[8:], rtol=1e-9)


def test_copy_takes_the_nearest_shot_and_the_mean_of_equally_near_ones(build):
    grid = pd.DataFrame({"size": [1.0, 2.0, 4.0], "kind": ["x", "x", "y"]})
    data = build(grid, np.array([[100.0, 400.0, 50.0]]))
    fitted = CopyNearest().fit(data, shots=2, seed=0)
    np.testing.assert_allclose(fitted.predict(data.shots(np.array([0]), np.array([[0, 2]])))[0], [100, 100, 50])
    levels = build(pd.DataFrame({"kind": ["x", "y", "z"]}), np.array([[100.0, 400.0, 50.0]]))
    tied = CopyNearest().fit(levels, shots=2, seed=0)
    np.testing.assert_allclose(tied.predict(levels.shots(np.array([0]), np.array([[0, 1]])))[0], [100, 400, 200])
