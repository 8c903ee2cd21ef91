"""What tests of the controller share: the agent that ships, unseen applications, and rigs of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kube_rig import Managing, managing
from rig import Rig

from flashfm.adapt.agent import FlashAgent
from flashfm.tasks.autoscaling.scenario import Scenario, default, split


@pytest.fixture(scope="session")
def agent() -> FlashAgent:
    return FlashAgent.from_pretrained("autoscaling")


@pytest.fixture(scope="session")
def unseen() -> Scenario:
    return split(default(0))[1]


@pytest.fixture
def rig(agent: FlashAgent, unseen: Scenario, tmp_path: Path) -> Iterator[Callable[[int], Rig]]:
    made: list[Rig] = []

    def make(pair: int) -> Rig:
        made.append(Rig(agent, unseen, tmp_path / f"state-{len(made)}.db", pair))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Managing]]:
    """Starts doubles of the Kubernetes API, each with a backend."""
    with ExitStack() as stack:
        yield lambda **how: stack.enter_context(managing(tmp_path, **how))


@pytest.fixture
def one(start: Callable[..., Managing]) -> Managing:
    """A double with `shop/web` deployed."""
    made = start()
    made.cluster.deploy()
    return made
