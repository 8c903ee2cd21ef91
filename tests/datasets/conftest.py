"""Fixtures of the data set tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flashfm.datasets.sources import find, locate


@pytest.fixture
def public() -> Callable[[str], Path]:
    """The file of a public data set; skips the test, with a reason, where it is absent."""

    def file_of(name: str) -> Path:
        if find(name) is None:
            pytest.skip(
                f"data set {name!r} is not on this machine: set FLASHFM_DATA, or run: flashfm data fetch {name}"
            )
        return locate(name)

    return file_of
