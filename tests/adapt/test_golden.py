"""A committed model must still load and say what it said; `make_golden.py` made it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashfm.adapt.fewshot import FlashRegressor

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def golden() -> Any:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("make_golden", HERE / "make_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(golden: Any) -> FlashRegressor:
    return FlashRegressor.from_pretrained(golden.MODEL)


@pytest.mark.parametrize("k", ["0", "1", "2", "3"])
def test_the_committed_model_says_what_it_said(golden: Any, model: FlashRegressor, k: str) -> None:
    expected = json.loads(golden.ANSWERS.read_text())[k]
    found = golden.all_answers(model)[k]
    assert list(found) == list(expected)
    assert found["next"] == expected["next"]
    for name in ("grid", "queries"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, err_msg=name)
    if k != "0":
        np.testing.assert_allclose(found["embedding"], expected["embedding"], rtol=1e-4, atol=1e-5)
        assert found["distance"] == pytest.approx(expected["distance"], rel=1e-3)
        assert found["p_value"] == pytest.approx(expected["p_value"], abs=0.02)
        assert [near[:2] for near in found["nearest"]] == [near[:2] for near in expected["nearest"]]


def test_the_network_has_a_say_in_it(model: FlashRegressor) -> None:
    assert model.model.nets
    assert model.model.calibration.mix.max() > 0
    assert {platform for _, platform in model.pairs} == {"lambda", "openwhisk"}


def test_the_committed_files_are_small(golden: Any) -> None:
    files = [*golden.MODEL.iterdir(), golden.ANSWERS]
    assert sum(file.stat().st_size for file in files) < 200_000
