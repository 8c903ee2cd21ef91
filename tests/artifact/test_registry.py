"""Names and paths of models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flashfm.artifact import registry, swap
from flashfm.artifact.checkpoint import load, save
from flashfm.artifact.registry import resolve, shipped
from flashfm.errors import ArtifactError


@pytest.fixture
def ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that ships two models, and a working directory of its own."""
    folder = tmp_path / "pretrained"
    for name in ("serverless-memory", "multi-cloud"):
        save(folder / name, kind="config-search", config={}, tensors={"x": np.ones(2)}, card="")
    (folder / "__pycache__").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(registry, "_pretrained", lambda: folder)
    return folder


def refusal(name: str) -> str:
    with pytest.raises(ArtifactError) as refused:
        resolve(name)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_shipped_models_are_found_by_name(ships: Path) -> None:
    assert shipped() == ("multi-cloud", "serverless-memory")
    assert resolve("serverless-memory") == ships / "serverless-memory"
    assert load(resolve("serverless-memory"), kind="config-search").tensors["x"].sum() == 2


def test_every_model_that_is_in_this_package_stands() -> None:
    for name in shipped():
        assert (resolve(name) / "config.json").is_file()


def test_paths_are_taken_as_such(ships: Path) -> None:
    assert resolve("./absent") == Path("absent")
    assert resolve("/no/such/folder") == Path("/no/such/folder")
    assert resolve(Path("serverless-memory")) == Path("serverless-memory")
    Path("mine").mkdir()
    assert resolve("mine") == Path("mine")
    Path("serverless-memory").mkdir()
    assert resolve("serverless-memory") == Path("serverless-memory"), "a folder of the user's own comes first"


def test_a_model_set_aside_is_still_a_path(ships: Path) -> None:
    Path("mine").mkdir()
    Path("mine").rename(swap._aside(Path("mine")))
    assert resolve("mine") == Path("mine")


@pytest.mark.parametrize("name", ["serverles-memory", "Serverless-Memory", "serverless_memory", "memory"])
def test_a_name_spelt_wrongly(name: str, ships: Path) -> None:
    message = refusal(name)
    assert f"no model {name!r}" in message
    assert "flashfm ships 'multi-cloud', 'serverless-memory'" in message
    assert "did you mean 'serverless-memory'?" in message


@pytest.mark.parametrize("name", ["", "zzz", "x" * 5000, "nul\0", "two\nlines", ".. "])
def test_a_name_like_none(name: str, ships: Path) -> None:
    message = refusal(name)
    assert "did you mean" not in message
    assert "as ./NAME" in message
    assert len(message) < 400


def test_a_package_without_models(ships: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_pretrained", lambda: ships / "absent")
    assert shipped() == ()
    assert "ships no model" in refusal("serverless-memory")
