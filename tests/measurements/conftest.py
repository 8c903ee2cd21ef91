"""Real limits for the tests that need them, and proof after each that nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flashfm.errors import LimitsError
from flashfm.measurements.limits import Backend, Watchdog, detect


@pytest.fixture(scope="session")
def backend() -> Backend:
    try:
        return detect()
    except LimitsError as error:
        pytest.skip(str(error))


@pytest.fixture
def dog() -> Iterator[Watchdog]:
    dog = Watchdog()
    yield dog
    dog.close()
