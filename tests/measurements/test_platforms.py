"""How configurations become limits."""

from __future__ import annotations

import pytest

from flashfm.errors import MeasureError
from flashfm.measurements.platforms import LAMBDA_MB, Lambda, OpenWhisk
from flashfm.records import ResourceConfig


def test_lambda_gives_cpu_in_proportion_to_memory() -> None:
    limits = Lambda().limits(ResourceConfig(1769))
    assert (limits.cpu_quota, limits.memory_mb, limits.period_us) == (1.0, 1769, 20_000)
    assert Lambda().limits(ResourceConfig(128)).cpu_quota == pytest.approx(0.0724, abs=1e-4)
    assert [c.memory_mb for c in Lambda().configs(None, None)] == list(LAMBDA_MB)
    assert Lambda().cores(ResourceConfig(3008)) == 1.0


def test_openwhisk_crosses_memory_and_shares_and_names_its_neighbours() -> None:
    platform = OpenWhisk(3)
    assert platform.name == "openwhisk-3"
    configs = platform.configs((128, 256), (100, 200, 300))
    assert len(configs) == 6
    limits = platform.limits(configs[0])
    assert (limits.cpu_quota, limits.memory_mb, limits.cpu_shares) == (None, 128, 100)


@pytest.mark.parametrize(
    ("memory", "shares", "says"),
    [((8,), None, "memory is 8"), ((128, 128), None, "twice"), ((128,), (5,), "no CPU shares")],
)
def test_senseless_configurations(memory: tuple[int, ...], shares: tuple[int, ...] | None, says: str) -> None:
    with pytest.raises(MeasureError, match=says):
        Lambda().configs(memory, shares)


def test_senseless_neighbours() -> None:
    with pytest.raises(MeasureError, match="expected 0 to 64"):
        OpenWhisk(-1)
    with pytest.raises(MeasureError, match="shares is 1"):
        OpenWhisk().configs(None, (1,))
