import numpy as np
import pandas as pd
import pytest

from flashfm.baselines import Amdahl
from flashfm.errors import ModelError


@pytest.mark.parametrize("shots", [2, 3])
def test_two_terms_are_found_again_from_two_shots(two_term, shots):
    data = two_term(30)
    fitted = Amdahl().fit(data.of_pairs(np.arange(20)), shots=shots, seed=0)
    config = np.array([[0, 5, 3][:shots]] * 10)
    found = fitted.predict(data.shots(np.arange(20, 30), config))
    np.testing.assert_allclose(found, np.exp(data.log_runtime[20:]), rtol=1e-6)


def test_the_clip_is_learnt_from_the_training_pairs(two_term):
    data = two_term(30, cap=1769.0)
    fitted = Amdahl().fit(data.of_pairs(np.arange(20)), shots=2, seed=0)
    found = fitted.predict(data.shots(np.arange(20, 30), np.array([[0, 2]] * 10)))
    np.testing.assert_allclose(found, np.exp(data.log_runtime[20:]), rtol=0.03)
    assert fitted.slowness[4] == fitted.slowness[5] == 1


def test_neither_term_is_ever_negative(build):
    grid = pd.DataFrame({"size": [1.0, 2.0, 4.0, 8.0]})
    runtime = np.array([[100.0, 200.0, 400.0, 800.0], [800.0, 100.0, 10.0, 1.0], [8.0, 4.0, 2.0, 1.0]])
    data = build(grid, runtime)
    fitted = Amdahl().fit(data, shots=3, seed=0)
    fixed, shrinking = fitted.terms(data.log_runtime, np.broadcast_to(fitted.slowness, runtime.shape))
    assert (fixed >= 0).all()
    assert (shrinking >= 0).all()
    assert fixed[1] == 0
    assert shrinking[0] == 0


def test_one_shot_takes_the_average_share_and_so_do_shots_at_one_capacity(build):
    grid = pd.DataFrame({"size": [1.0, 2.0, 4.0, 4.0], "kind": ["x", "x", "x", "y"]})
    runtime = np.array([10.0, 50.0])[:, None] * np.array([2.5, 1.5, 1.0, 1.0])
    data = build(grid, runtime)
    fitted = Amdahl().fit(data, shots=1, seed=0)
    assert fitted.share == 0.5
    for config in ([[0]], [[3]], [[2, 3]]):
        found = fitted.predict(data.shots(np.array([1]), np.array(config)))
        np.testing.assert_allclose(found, runtime[[1]], rtol=1e-9)


def test_the_column_that_speeds_up_is_found_and_may_be_named(build):
    grid = pd.DataFrame([(a, b) for a in (1.0, 2.0, 8.0) for b in (3.0, 6.0, 12.0)], columns=["idle", "cores"])
    runtime = np.array([[5.0], [60.0]]) + 100 / grid["cores"].to_numpy()
    data = build(grid, runtime)
    chosen = Amdahl().fit(data, shots=2, seed=0)
    np.testing.assert_allclose(chosen.slowness, 12 / grid["cores"])
    named = Amdahl(capacity="idle").fit(data, shots=2, seed=0)
    assert named.slowness[0] == named.slowness[2] > named.slowness[-1]


def test_without_a_number_that_could_be_capacity_it_says_so(build, two_term):
    data = build(pd.DataFrame({"kind": ["x", "y"]}), np.array([[1.0, 2.0]]))
    with pytest.raises(ModelError, match="positive numeric configuration column"):
        Amdahl().fit(data, shots=1, seed=0)
    with pytest.raises(ModelError, match=r"'cores' with two values or more; .* are memory_mb"):
        Amdahl(capacity="cores").fit(two_term(3), shots=1, seed=0)
