"""The Grafana dashboard: what a real Prometheus that scrapes an operator answers to each of its queries."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_server import PrometheusServer, job, needs_prometheus, prometheus, until
from rig import Rig

from flashfm.controller.kube.pages import Pages
from flashfm.controller.kube.telemetry import Telemetry
from flashfm.controller.loop import Stepped
from flashfm.errors import BackendError

Make = Callable[[int], Rig]
DASHBOARD = json.loads((Path(__file__).parents[2] / "deploy" / "grafana" / "flashfm.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
VARIABLES = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
QUERIES = {(panel["title"], of["refId"]): of["expr"] for panel in PANELS for of in panel["targets"]}
SHOWN = {"$__rate_interval": "1m", "$__range": "1h"}
"""What Grafana puts in place of its variables."""


def asked(query: str, target: str = ".*") -> str:
    for name, value in {**SHOWN, "$target": target}.items():
        query = query.replace(name, value)
    assert "$" not in query, "a variable that nobody replaces"
    return query


class Told:
    """Steps of two deployments, one that may act and one in shadow, and what an operator tells of them."""

    def __init__(self, rig: Make) -> None:
        self.telemetry, self.steps = Telemetry(), list[Stepped]()
        self.acting, self.shadow = rig(3), rig(5)
        self.shadow.target = replace(self.shadow.target, acting=False)
        self.telemetry.objects(3, 2)

    def live(self, steps: int, *, every: int = 7) -> None:
        """Live on; one sample in `every` misses a figure, and the first setting is refused."""
        refused = iter([True])

        def refuse(_: object) -> None:
            if next(refused, False):
                raise BackendError("no room")

        self.acting.acting = refuse
        for i in range(steps):
            for one in (self.acting, self.shadow):
                one.observing = (lambda sample: replace(sample, used_cores=None)) if i % every == 3 else lambda s: s
                (stepped,) = one.steps(1)
                self.steps.append(stepped)
                self.telemetry.step(one.target.name, stepped, one.loop.keeper(one.target).p_value)

    def page(self) -> str:
        return generate_latest(self.telemetry.registry).decode()

    @property
    def names(self) -> list[str]:
        return [self.acting.target.name, self.shadow.target.name]


@pytest.fixture
def told(rig: Make) -> Told:
    return Told(rig)


@pytest.fixture
def scraped(told: Told, tmp_path: Path) -> Iterator[PrometheusServer]:
    told.live(120)
    telemetry = told.telemetry
    with (
        Pages("127.0.0.1", 0, alive=lambda: None, ready=lambda: None, registry=telemetry.registry) as pages,
        prometheus(tmp_path, [job("flashfm", f"127.0.0.1:{pages.port}", ["/metrics"])]) as server,
    ):
        until(lambda: server.scrapes("flashfm_phase") >= 1, "a first scrape")
        told.live(21)
        seen = server.scrapes("flashfm_phase")
        until(lambda: server.scrapes("flashfm_phase") >= seen + 2, "two more")
        yield server


@needs_prometheus
def test_every_query_is_answered_with_figures(told: Told, scraped: PrometheusServer) -> None:
    for (title, ref), query in QUERIES.items():
        answer = scraped.query(asked(query))
        assert answer, f"{title} {ref}: no answer to {query}"
        figures = [float(series["value"][1]) for series in answer]
        assert all(map(math.isfinite, figures)), f"{title} {ref}: {figures}"
        assert all(0 <= of <= 1 for of in figures) or "percentunit" not in unit(title), f"{title} {ref}: {figures}"

    one = {title: scraped.query(asked(query, told.names[0])) for (title, _), query in QUERIES.items()}
    assert [series["metric"] for series in one["Phase"]] == [{"target": told.names[0]}]
    mappings = next(panel for panel in PANELS if panel["title"] == "Phase")["fieldConfig"]["defaults"]["mappings"]
    last = next(step for step in reversed(told.steps) if step.target == told.names[0])
    assert mappings[0]["options"][one["Phase"][0]["value"][1]]["text"] == last.decision.phase

    label = re.fullmatch(r"label_values\((\w+), target\)", VARIABLES["target"]["query"]["query"])
    assert label is not None
    found = scraped.query(f"count by (target) ({label[1]})")
    assert sorted(series["metric"]["target"] for series in found) == sorted(told.names)

    counted = Counter[tuple[str, str]]()
    for step in told.steps:
        counted["violated_steps", step.target] += bool(step.decision.violated)
        counted["unread_samples", step.target] += step.decision.by == "nobody"
        counted["done_actions", step.target] += step.status == "done"
        counted["failed_actions", step.target] += step.status == "failed"
        counted["clipped_decisions", step.target] += bool(step.decision.clipped)
        counted["phase_changes", step.target] += step.decision.turned is not None
    for (counter, target), times in counted.items():
        (series,) = scraped.query(f'flashfm_{counter}_total{{target="{target}"}}')
        assert float(series["value"][1]) == times, (counter, target)
    assert counted["unread_samples", told.names[1]] == 20
    assert counted["failed_actions", told.names[0]] >= 1
    assert counted["phase_changes", told.names[0]] >= 1


def unit(title: str) -> set[str]:
    return {panel["fieldConfig"]["defaults"]["unit"] for panel in PANELS if panel["title"] == title}


def test_the_dashboard_shows_all_that_is_counted_and_nothing_else(told: Told) -> None:
    told.live(1)
    families = set(re.findall(r"^# TYPE (flashfm_\w+?)(?:_total)? (?:gauge|counter|histogram)$", told.page(), re.M))
    counted = {name for name in families if not name.endswith("_created")}
    asked_for = set(re.findall(r"flashfm_\w+", " ".join(QUERIES.values())))
    assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in asked_for} == counted


def test_panels_lie_side_by_side_and_ask_the_chosen_server() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken = Counter[tuple[int, int]]()
    for panel in PANELS:
        at = panel["gridPos"]
        taken.update((at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"]))
        assert at["x"] + at["w"] <= 24
        assert panel["description"]
        for one in (panel, *panel["targets"]):
            assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert max(taken.values()) == 1
    assert VARIABLES["datasource"]["type"] == "datasource"


def test_what_is_controlled_no_more_or_no_longer_known_is_not_shown(told: Told) -> None:
    told.live(2)
    (gone, stays), (step, *_) = told.names, told.steps
    told.telemetry.step(gone, step, 0.25)
    assert f'flashfm_novelty_p_value{{target="{gone}"}} 0.25' in told.page()
    told.telemetry.step(gone, step, None)
    assert f'flashfm_novelty_p_value{{target="{gone}"}}' not in told.page()
    told.telemetry.step(gone, step, None, "a pod cannot be resized")
    assert f'flashfm_failed_actions_total{{target="{gone}"}} 1.0' in told.page()
    told.telemetry.forget(gone)
    assert gone not in told.page()
    assert stays in told.page()
