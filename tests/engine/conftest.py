"""Engines that tests share, so that a cluster is started once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # workers import what this process can import

from ray_cluster import RayCluster, needs_ray

from flashfm.engine.base import Engine
from flashfm.engine.choose import engine_of

WITH_RAY = pytest.param("ray", marks=needs_ray)


@pytest.fixture(scope="session")
def local() -> Iterator[Engine]:
    """Two processes."""
    with engine_of("local", 2) as engine:
        yield engine


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayCluster]:
    """A head and a node, one core each."""
    running = RayCluster(health_check_period_ms=500, health_check_failure_threshold=3)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def ray(cluster: RayCluster) -> Iterator[Engine]:
    """Tasks on that cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", cluster.token)
        with engine_of("ray", address=cluster.address) as engine:
            yield engine


@pytest.fixture(scope="session", params=["local", WITH_RAY])
def workers(request: pytest.FixtureRequest) -> Engine:
    """Each engine whose workers can be killed."""
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session", params=["inline", "local", WITH_RAY])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine."""
    if request.param == "inline":
        with engine_of() as inline:
            yield inline
        return
    yield request.getfixturevalue(request.param)
