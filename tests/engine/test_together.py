"""Pretraining by several workers together: the model is that of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from flashfm.engine.base import Engine
from flashfm.engine.threads import one_thread
from flashfm.errors import ModelError
from flashfm.models import state
from flashfm.models.calibration import Held
from flashfm.models.hierarchical_gp import PriorConfig
from flashfm.pretraining.supervised import PretrainConfig, pretrain
from flashfm.tasks.config_search import Observations

Make = Callable[..., pd.DataFrame]
CLOSE = 1e-5
"""Largest difference of weights and of the corrections of the prior, in nats, after few steps."""


@pytest.fixture(scope="module")
def data(synthetic: Make, observe: Callable[..., Observations]) -> Observations:
    return observe(synthetic(14))


@pytest.fixture(scope="module")
def few(small: PretrainConfig) -> PretrainConfig:
    """Three networks, so that of two workers each trains one, and both the third."""
    few = replace(small, prior=PriorConfig(steps=3, em_steps=2), members=3, likeness_steps=2, likeness_tasks=15)
    return replace(few, hold_out_from=12, least_steps=12, most_steps=12, batch=16, inner_folds=2, sets=2)


def test_networks_are_shared_out_and_the_rest_trained_by_all(
    workers: Engine, data: Observations, few: PretrainConfig
) -> None:
    told: list[tuple[int, int]] = []
    held: dict[int, Held] = {}
    with one_thread():
        expected = pretrain(data, few, seed=1)
    found = pretrain(data, few, seed=1, on_step=lambda *at: told.append(at), on_held=held.update, engine=workers)
    (known, ours), (also, theirs) = state.to_state(expected), state.to_state(found)
    assert also == known
    assert sum(name.startswith("net.2.") for name in ours) > 10
    for name, value in ours.items():
        if name.startswith("net.2."):
            np.testing.assert_allclose(theirs[name], value, rtol=0, atol=CLOSE, err_msg=name)
        elif not name.startswith("calibration."):  # which rests on all three
            np.testing.assert_array_equal(theirs[name], value, err_msg=name)
    shots = data.shots(np.arange(len(data)), np.tile(np.arange(3), (len(data), 1)))
    np.testing.assert_allclose(found.raw(shots)[1], expected.raw(shots)[1], rtol=0, atol=CLOSE)
    assert sorted(held) == list(range(6))
    assert all(0 < done <= total == 2 * few.least_steps for done, total in told)


def test_more_workers_than_tasks_in_a_batch_are_refused(local: Engine, data: Observations, few: PretrainConfig) -> None:
    with pytest.raises(ModelError, match=r"^2 workers: expected 1 to 1 \(--workers\), "):
        pretrain(data, replace(few, batch=1), engine=local)


def test_a_table_that_is_too_small_is_the_same_error(local: Engine, data: Observations, few: PretrainConfig) -> None:
    with pytest.raises(ModelError, match=r"^2 applications"):
        pretrain(data.of_apps(set(data.apps[:2])), few, engine=local)
