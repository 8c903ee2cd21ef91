"""A model as JSON and arrays: what comes back answers alike, and whatever is damaged is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jaxtyping
import numpy as np
import pandas as pd
import pytest

from flashfm.errors import ArtifactError
from flashfm.models import state
from flashfm.models.flash import FlashModel
from flashfm.tasks.config_search import Observations

State = tuple[dict[str, Any], dict[str, np.ndarray]]


@pytest.fixture(autouse=True)
def unchecked() -> Iterator[None]:
    """Without the type checks of tests, which users do not have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def saved(pretrained: FlashModel) -> State:
    config, tensors = state.to_state(pretrained)
    return json.loads(json.dumps(config, allow_nan=False)), tensors


def answers(model: FlashModel, unseen: Observations, k: int) -> list[np.ndarray]:
    pair = np.arange(len(unseen))
    shots = unseen.shots(pair, np.tile(np.arange(k)[::-1] + (6 - k) // 2, (len(pair), 1)))
    shots = replace(shots, metrics=shots.metrics[..., : len(model.metric_names)])
    wider = model.extended(model.space.check(model.grid.iloc[:1].assign(memory_mb=300.0)))
    found = [getattr(m.forecast(shots), part) for m in (model, wider) for part in ("point", "lower", "upper")]
    if model.novelty is not None and k:
        embedding = model.embed(shots)
        found += [
            embedding,
            model.novelty.distance(embedding),
            model.novelty.p_value(model.novelty.distance(embedding), k),
        ]
        found += [np.array(model.novelty.nearest(embedding[0], 5))]
    return found


@pytest.mark.parametrize("name", ["pretrained", "mixed"])
@pytest.mark.parametrize("k", [0, 1, 3, 6])
def test_what_comes_back_answers_bit_for_bit(
    name: str, k: int, request: pytest.FixtureRequest, unseen: Observations
) -> None:
    model = request.getfixturevalue(name)
    config, tensors = state.to_state(model)
    again = state.from_state(json.loads(json.dumps(config, allow_nan=False)), tensors)
    for new, old in zip(answers(again, unseen, k), answers(model, unseen, k), strict=True):
        np.testing.assert_array_equal(new, old)
    assert again.known == model.known
    assert again.metric_names == model.metric_names
    pd.testing.assert_frame_equal(again.grid, model.grid)
    np.testing.assert_array_equal(again.together, model.together)


@pytest.mark.parametrize("name", ["pretrained", "mixed"])
def test_saving_what_came_back_gives_the_same(name: str, request: pytest.FixtureRequest) -> None:
    config, tensors = state.to_state(request.getfixturevalue(name))
    config = json.loads(json.dumps(config, allow_nan=False))
    again, tensors_again = state.to_state(state.from_state(config, tensors))
    assert json.loads(json.dumps(again)) == config
    assert list(tensors_again) == list(tensors)
    for key, value in tensors.items():
        assert tensors_again[key].dtype == value.dtype
        np.testing.assert_array_equal(tensors_again[key], value, err_msg=key)


def test_networks_come_back_ready_for_use(saved: State) -> None:
    model = state.from_state(*saved)
    assert len(model.nets) == 2
    assert not any(net.training for net in model.nets)


def refused(config: Any, tensors: dict[str, np.ndarray]) -> str | None:
    """None where it is refused as it should be, else what happened."""
    try:
        state.from_state(config, tensors)
    except ArtifactError as error:
        return None if "\n" not in str(error) else "a message of two lines"
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"
    return "accepted"


def not_refused(cases: dict[str, tuple[Any, dict[str, np.ndarray]]]) -> dict[str, str]:
    """What happened to the cases that were not refused as they should be."""
    assert cases
    found = {name: refused(*case) for name, case in cases.items()}
    return {name: what for name, what in found.items() if what}


def test_a_missing_or_unknown_tensor_is_refused(saved: State) -> None:
    config, tensors = saved
    cases = {f"without {name}": (config, {k: v for k, v in tensors.items() if k != name}) for name in tensors}
    cases |= {
        f"with {name}": (config, {**tensors, name: np.zeros(3)})
        for name in ("foo", "net.0.foo", "net.2.decode.bias", "gp.foo")
    }
    assert not_refused(cases) == {}


def test_a_tensor_of_another_shape_is_refused(saved: State) -> None:
    config, tensors = saved
    cases = {}
    # Numbers of references and of held-out distances, and residual patterns that nobody uses, are free.
    free = {("gp.residual", 0), ("environment.reference", 1)}
    free |= {(f"{part}.held", axis) for part in ("novelty", "bare", "environment") for axis in (0, 1)}
    for name, value in tensors.items():
        shapes = {"with another axis": value[None]}
        if value.ndim > 1:
            shapes["flat"] = value.ravel()
        for axis in range(value.ndim):
            if (name, axis) not in free:
                shapes[f"longer along {axis}"] = np.concatenate(
                    [
                        value,
                        np.zeros_like(value.take([0], axis)) if value.shape[axis] else np.zeros((1, 2), value.dtype),
                    ],
                    axis,
                )
            if value.shape[axis] and (name, axis) not in free:
                shapes[f"shorter along {axis}"] = np.delete(value, -1, axis)
        cases |= {f"{name} {how}": (config, {**tensors, name: other}) for how, other in shapes.items()}
    assert not_refused(cases) == {}


def test_a_tensor_of_another_type_is_refused(saved: State) -> None:
    config, tensors = saved
    types = ("float32", "float64", "int64")
    cases = {
        f"{name} as {dtype}": (config, {**tensors, name: value.astype(dtype)})
        for name, value in tensors.items()
        for dtype in types
        if value.dtype != dtype
    }
    assert not_refused(cases) == {}


def test_indices_out_of_range_are_refused(saved: State) -> None:
    config, tensors = saved
    names = ("gp.pattern", "novelty.pair", "bare.pair")
    cases = {f"{n} {by}": (config, {**tensors, n: tensors[n] + by}) for n in names for by in (-(10**6), -1, 10**6)}
    grown = np.array([[0, 5]]), np.array([[-3, 0]])
    cases |= {
        f"interactions {value}": (config, {**tensors, "kernel.interactions": value}) for value in map(np.asarray, grown)
    }
    assert not_refused(cases) == {}


def test_numbers_that_are_none_are_refused(saved: State) -> None:
    config, tensors = saved
    cases = {}
    for name, value in tensors.items():
        if value.dtype.kind == "f" and value.size:
            for bad in (np.nan, np.inf):
                damaged = value.copy()
                damaged.flat[-1] = bad
                cases[f"{name} {bad}"] = (config, {**tensors, name: damaged})
    assert not_refused(cases) == {}


def nodes(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value of a JSON tree and where it is; of a list its first two items alone."""
    yield path, node
    items = node.items() if isinstance(node, dict) else enumerate(node[:2]) if isinstance(node, list) else ()
    for key, value in items:
        yield from nodes(value, (*path, key))


def put(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    tree = copy.deepcopy(tree)
    if not path:
        return value
    at = tree
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return tree


OTHERS: tuple[Any, ...] = (None, True, 7, -2.5, "x", [], {}, [1], {"a": 1})


def alike(a: Any, b: Any) -> bool:
    """Whether a JSON value may stand for another: both are numbers, or of the same type."""
    number = isinstance(a, int | float) and not isinstance(a, bool)
    return type(a) is type(b) or (number and isinstance(b, int | float) and not isinstance(b, bool))


@pytest.mark.parametrize("name", ["pretrained", "mixed"])
def test_json_of_another_type_is_refused(name: str, request: pytest.FixtureRequest) -> None:
    config, tensors = state.to_state(request.getfixturevalue(name))
    config = json.loads(json.dumps(config))
    cases = {}
    for path, value in nodes(config):
        # a platform may be there or not, and an empty cell stands in the grid for what does not apply
        absent = path[:1] == ("known",) and len(path) == 3 and path[2] == 1
        absent |= path[:2] == ("grid", "shares")
        for other in OTHERS:
            if not alike(other, value) and not (absent and (other is None or alike(other, "") or alike(other, 0.5))):
                cases[f"{path}: {other!r}"] = (put(config, path, other), tensors)
    assert not_refused(cases) == {}


def test_a_missing_or_unknown_key_is_refused(saved: State) -> None:
    config, tensors = saved
    cases = {}
    for path, value in nodes(config):
        if isinstance(value, dict):
            cases[f"{path} with another key"] = (put(config, path, {**value, "foo": 1}), tensors)
            for key in value:
                rest = {name: kept for name, kept in value.items() if name != key}
                cases[f"{path} without {key}"] = (put(config, path, rest), tensors)
    assert not_refused(cases) == {}


def test_parts_that_do_not_fit_together_are_refused(saved: State) -> None:
    config, tensors = saved
    cases: dict[str, tuple[Any, dict[str, np.ndarray]]] = {
        "another number of metrics": ({**config, "metrics": config["metrics"][:1]}, tensors),
        "a time that is no metric": ({**config, "timed": [5]}, tensors),
        "a time before the first metric": ({**config, "timed": [-1]}, tensors),
        "one pair too few": ({**config, "known": config["known"][:-1]}, tensors),
        "no network but its weights": ({**config, "network": None}, tensors),
        "no novelty but its tensors": ({**config, "novelty": False}, tensors),
        "one network too few": ({**config, "members": 1}, tensors),
        "one network too many": ({**config, "members": 3}, tensors),
        "less than no network": ({**config, "members": -1}, tensors),
        "another network": (put(config, ("network", "head"), 17), tensors),
        "a deeper network": (put(config, ("network", "meta", "layers"), 3), tensors),
        "another kind": (put(config, ("network", "meta", "kind"), "set"), tensors),
        "an unknown kind": (put(config, ("network", "meta", "kind"), "mamba"), tensors),
        "a shorter grid": (put(config, ("grid", "memory_mb"), config["grid"]["memory_mb"][:-1]), tensors),
        "a grid outside of the space": (put(config, ("grid", "memory_mb", 0), 1.0), tensors),
        "a configuration twice": (put(config, ("grid", "memory_mb", 0), 256.0), tensors),
        "another column": ({**config, "grid": {"cpus": config["grid"]["memory_mb"]}}, tensors),
        "negative noise": (config, {**tensors, "kernel.scalars": -tensors["kernel.scalars"]}),
        "a scale below 0": (config, {**tensors, "scaler.scale": -tensors["scaler.scale"]}),
    }
    assert not_refused(cases) == {}


def test_what_is_no_state_at_all_is_refused() -> None:
    assert not_refused({repr(config): (config, {}) for config in ({}, {"space": 1})}) == {}


def test_the_message_says_what_to_do(saved: State) -> None:
    config, tensors = saved
    with pytest.raises(ArtifactError, match="get or write"):
        state.from_state(config, {name: value for name, value in tensors.items() if name != "gp.mean"})
