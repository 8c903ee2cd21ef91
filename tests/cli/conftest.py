"""A small saved model and a way to call the command line, shared by the commands of configuration search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from flashfm.cli import main

if TYPE_CHECKING:
    from flashfm.models.flash import FlashModel


@pytest.fixture
def flashfm(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str, str]]:
    """Runs `flashfm …`; returns exit code, standard output and standard error."""

    def call(*words: str | Path) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return stopped.value.code or 0, said.out, said.err

    return call


@pytest.fixture(scope="session")
def model(pretrained: FlashModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model over 24 synthetic applications."""
    from flashfm.adapt.fewshot import FlashRegressor

    folder = tmp_path_factory.mktemp("models") / "small"
    FlashRegressor(pretrained, "# small\n").save_pretrained(folder)
    return folder


@pytest.fixture
def shots(tmp_path: Path, synthetic: Callable[..., pd.DataFrame]) -> Path:
    """Two measured rows of one unseen application, in a CSV file without its name."""
    frame = synthetic(1, seed=5)
    chosen = frame[frame["memory_mb"].isin([512, 2048])].drop(columns="app")
    chosen.to_csv(tmp_path / "shots.csv", index=False)
    return tmp_path / "shots.csv"


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows, a list of values for each column, to a CSV file."""

    def write(name: str = "file.csv", **columns: list[object]) -> Path:
        pd.DataFrame(columns).to_csv(tmp_path / name, index=False)
        return tmp_path / name

    return write
