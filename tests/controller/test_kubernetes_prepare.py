"""Figures of many deployments, asked for at a time before each is observed: what fails, fails alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import pytest
from kube_rig import Managing, Recorded

from flashfm.controller.keeper import Target
from flashfm.controller.kube.backend import AT_ONCE, KubernetesConfig
from flashfm.controller.kube.managed import ManySource, Source
from flashfm.controller.prometheus import PrometheusSource
from flashfm.controller.queries import SOURCES
from flashfm.controller.sample import Sample
from flashfm.errors import BackendError


class Many(Recorded):
    """Shows all but some, and takes its time."""

    def __init__(self, *, silent: str = "", seconds: float = 0.0) -> None:
        super().__init__()
        self.together: list[int] = []
        self._silent, self._seconds = silent, seconds

    def samples(self, of: Mapping[str, Mapping[str, str]], now_s: float) -> tuple[dict[str, Sample], dict[str, str]]:
        self.together.append(len(of))
        time.sleep(self._seconds)
        got = {name: self.sample(labels, now_s) for name, labels in of.items() if labels["name"] != self._silent}
        return got, {name: "it is silent" for name, labels in of.items() if labels["name"] == self._silent}


def several(one: Managing, source: Source, n: int) -> list[Target]:
    """So many deployments on the double, with one source."""
    (first,) = one.backend.managed.values()
    there = {}
    for i in range(n):
        name = f"web-{i}"
        if i < 3:
            one.cluster.deploy(name)
        target = replace(first.target, name=f"shop/{name}")
        there[target.name] = replace(first, target=target, deployment=name, source=source)
    one.backend.managed = there
    return [of.target for of in there.values()]


def test_what_was_asked_together_is_good_for_one_look(one: Managing) -> None:
    source = Many(silent="web-1")
    assert isinstance(source, ManySource)
    assert isinstance(PrometheusSource("http://nowhere:9090", SOURCES["kube"]), ManySource)
    assert not isinstance(Recorded(), ManySource)
    targets = several(one, source, 3)
    one.backend.prepare(targets)
    assert source.together == [3]
    asked = len(source.asked)
    samples = [one.backend.observe(targets[i]) for i in (0, 2)]
    assert [sample.replicas for sample in samples] == [2, 2]
    assert samples[0].used_cores != samples[1].used_cores
    with pytest.raises(BackendError, match="it is silent"):
        one.backend.observe(targets[1])
    assert len(source.asked) == asked, "nobody is asked twice"
    one.backend.observe(targets[1])
    assert len(source.asked) == asked + 1, "without preparation each look asks by itself"


def test_sources_that_take_one_question_at_a_time_are_left_for_later(one: Managing) -> None:
    source = Recorded()
    targets = several(one, source, 2)
    one.backend.prepare(targets)
    assert source.asked == []
    assert one.backend.observe(targets[0]).p99_s == pytest.approx(0.1)


def test_a_slow_source_does_not_hold_the_loop(one: Managing) -> None:
    source = Many(seconds=0.3)
    one.backend.config = KubernetesConfig(ask_s=0.2)
    targets = several(one, source, AT_ONCE + 2)
    one.backend.prepare(targets)
    assert source.together == [AT_ONCE], "there is no time for the last two"
    assert one.backend.observe(targets[0]).p99_s is not None
    one.cluster.deploy(f"web-{AT_ONCE + 1}")
    with pytest.raises(BackendError, match=r"no time for its figures: those of others took 0\.2 s"):
        one.backend.observe(targets[-1])
