"""Both arms on real processes beside the simulator: what is served, ratios, pages, and one short real run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashfm.adapt.agent import FlashAgent
from flashfm.baselines.scaling import HpaVpaConfig
from flashfm.controller import twin
from flashfm.controller.arms import FLASH, HPA
from flashfm.controller.replica import START_CORES
from flashfm.controller.twin import Room
from flashfm.errors import DataError, LimitsError
from flashfm.experiments import live_page
from flashfm.experiments.live import CPU_MS, KINDS, Runs, SideBySideConfig, chosen, fitting, run
from flashfm.experiments.live_page import agreement, figures, medians, ratios
from flashfm.experiments.live_tuning import AgentSetting
from flashfm.measurements.limits import detect
from flashfm.tasks.autoscaling.calibration import ApplicationCosts
from flashfm.tasks.autoscaling.scenario import default, split

TINY = SideBySideConfig(1, ("CPU bound",), 1, 3, 1.0, tuned_on=2, targets=(0.5,), least_cores=(0.5,), alphas=(0.9,))
TUNED: dict[str, Any] = {
    "rules": vars(HpaVpaConfig(target=0.3, vertical="both", least_cpu_cores=1.0)),
    "alpha": 0.9,
    "least_cores": 0.5,
    "tried": [
        {"target": 0.3, "vertical": "both", "least_cpu_cores": 1.0, "violated_s": 5.0, "core_s": 200.0},
        {"target": 0.5, "vertical": "both", "least_cpu_cores": 1.0, "violated_s": 10.0, "core_s": 100.0},
    ],
    "agent": [
        {"alpha": 0.9, "least_cores": 0.1, "violated_s": 9.0, "core_s": 90.0},
        {"alpha": 0.9, "least_cores": 0.5, "violated_s": 6.0, "core_s": 150.0},
    ],
    "applications": 30,
}


def record(app: str, repeat: int = 0, **changes: dict[str, float]) -> dict[str, Any]:
    """Of an application for which all is the same in both arms, live and simulated, but for some figures of one."""
    same = {"median_p99_s": 0.1, "violated_s": 20.0, "core_s": 100.0, "gib_s": 50.0, "kills": 0, "late_s": 0.001}
    same |= {"sent": 500, "failed": 5}
    told = {"app": app, "kind": "waiting", "repeat": repeat, "slo_s": 0.2, "room": "a room", "load": "a load"}
    for source in ("live", "simulated"):
        told[source] = {FLASH: {**same, **changes.get(source, {})}, HPA: same}
    return {**told, "steps": {}}


def test_applications_are_chosen_by_their_costs_from_those_that_pretraining_did_not_see() -> None:
    train_on, test_on = split(default(0))
    costs = fitting(test_on.apps)
    kinds = chosen(costs, 2)
    assert list(kinds.values()) == [kind for kind in KINDS for _ in range(2)]
    assert kinds.keys() <= set(test_on.apps)
    assert not kinds.keys() & set(train_on.apps)
    for one in costs:
        assert CPU_MS[0] <= 1e3 * one.cpu_s <= CPU_MS[1]
    with pytest.raises(DataError, match="too few"):
        chosen(costs[:5], 2)


@given(
    st.lists(st.tuples(st.floats(0.002, 0.008), st.floats(0.0, 1.0), st.floats(10.0, 90.0)), min_size=6, max_size=12)
)
def test_each_kind_has_most_of_what_makes_it_of_those_left(drawn: list[tuple[float, float, float]]) -> None:
    costs = [ApplicationCosts(f"app{i}", cpu, wait, 1.5, mib, 0.1) for i, (cpu, wait, mib) in enumerate(drawn)]
    kinds, left = chosen(costs, 2), {one.name: one for one in costs}
    assert len(kinds) == 6
    for name, kind in kinds.items():
        assert KINDS[kind](left[name]) == max(map(KINDS[kind], left.values()))
        del left[name]


def test_ratios_count_only_where_the_other_figure_is_no_larger() -> None:
    few = {"live": {"violated_s": 5.0, "core_s": 90.0}}
    dear = {"live": {"violated_s": 5.0, "core_s": 110.0}}
    cheap = {"live": {"core_s": 70.0}}
    frame = figures([record("few", **few), record("dear", **dear), record("cheap", **cheap)])
    live = ratios(frame).set_index(["source", "app"]).loc["live"]
    assert live["violations_at_no_more_cores"].tolist() == [0.25, math.inf, 1.0]
    assert live["cores_at_no_more_violations"].tolist() == [0.9, 1.1, 0.7]
    assert live["kept"].tolist() == [True, False, True]
    found = medians(ratios(frame))
    assert found["live"] == {
        "violations": 0.25,
        "cores": 0.9,
        "violations_at_no_more_cores": 1.0,
        "cores_at_no_more_violations": 0.9,
        "kept": 2,
        "applications": 3,
    }
    assert found["simulated"]["violations_at_no_more_cores"] == 1.0
    worse = medians(ratios(figures([record("few", **few), record("dear", **dear)])))["live"]
    assert worse["violations_at_no_more_cores"] is None, "of two the worse counts"


def test_no_violations_on_either_side_are_level_and_means_are_over_repeats() -> None:
    none = record("none")
    for arm in (FLASH, HPA):
        none["live"][arm] = {**none["live"][arm], "violated_s": 0.0}
    some = [record("some", repeat, live={"violated_s": 10.0 * repeat}) for repeat in range(3)]
    live = ratios(figures([none, *some])).set_index(["source", "app"]).loc["live"]
    assert live["violations"].to_dict() == {"none": 1.0, "some": 0.5}


def test_the_simulator_is_held_against_what_was_live() -> None:
    exact = [record(app) for app in "abc"]
    assert set(agreement(figures(exact), 280.0).values()) == {0.0, 1.0}
    off = {"core_s": 80.0, "violated_s": 48.0, "median_p99_s": 0.05}
    found = agreement(figures([record(app, simulated=off) for app in "abc"]), 280.0)
    assert found["cheaper_arm_right"] == 0.0
    assert found["violated_share"] == pytest.approx(28 / 280 / 2)
    assert found["p99_over_slo"] == pytest.approx(0.25), "the median of one half that is off by a half"


def test_a_page_shows_every_application_and_what_nothing_was_answered_in(tmp_path: Path) -> None:
    silent = record("silent", live={"median_p99_s": None})  # type: ignore[dict-item]
    records = [silent, *(record("a", repeat, live={"core_s": 70.0 + repeat}) for repeat in range(2))]
    rules, of_agent = HpaVpaConfig(**TUNED["rules"]), AgentSetting(0.9, 0.5)
    path = live_page.write(tmp_path, records, rules, of_agent, TUNED, replace(SideBySideConfig(), repeats=2))
    data = json.loads(path.read_text())
    assert data["command"] == "flashfm reproduce live --quick"
    assert (data["rules"]["target"], data["alpha"], data["least_cores"]) == (0.3, 0.9, 0.5)
    assert data["tuning"]["level"]["target"] == 0.5, "the other takes more core-seconds than the agent"
    assert len(data["rows"]) == 2 * 2 * 2 * 5
    text = path.with_suffix(".md").read_text()
    assert "| a | waiting | FLASH | live | 20 ± 0 | 70 ± 1 | 50.0 ± 0.0 | 0.50 ± 0.00 | 0.0 ± 0.0 |" in text
    assert "| silent | waiting | FLASH | live | 20 | 100 | 50.0 | – | 0.0 |" in text
    assert "| HPA + VPA, mean: SLO-violating seconds and core-seconds | 20.0 s and 100 | 20.0 s and 100 |" in text
    assert "Machine: a room. HPA + VPA: target 0.3," in text
    assert "FLASH 6.0 s and 150; HPA + VPA 5.0 s and 200; the best of its settings that takes no more" in text
    assert "10.0 s and 100." in text
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_what_is_damaged_or_of_other_settings_is_refused(tmp_path: Path) -> None:
    agent = FlashAgent.from_pretrained("autoscaling")
    runs = Runs(tmp_path, TINY, agent)
    (name,) = runs.missing
    runs.write(name, record("a"))
    assert runs.missing == []
    assert runs.read(name) == record("a")
    with pytest.raises(DataError, match="of other settings"):
        Runs(tmp_path, replace(TINY, steps=4), agent).read(name)
    (tmp_path / f"{name}.json").write_text("{}")
    with pytest.raises(DataError, match="not what this experiment writes"):
        runs.read(name)
    runs.write("rules", {"setting": {"no such": 1}})
    with pytest.raises(DataError, match=r"rules\.json: not what this experiment writes"):
        runs.tuned()


@pytest.mark.limits
@pytest.mark.slow
def test_a_short_run_serves_both_arms_and_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        detect()
    except LimitsError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(twin, "CALLS", (5, 20))
    monkeypatch.setattr(twin, "EPISODES", 1)
    steps: list[tuple[int, int]] = []
    path = run(tmp_path / "out", tmp_path / "res", TINY, on_step=lambda *at: steps.append(at))
    assert steps[0] == (0, 6)
    assert steps[-1] == (6, 6)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    assert len(before) == 2
    assert run(tmp_path / "out", tmp_path / "res", TINY) == path
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()} == before
    (one,) = json.loads(path.read_text())["served"]
    for arm in (FLASH, HPA):
        live, simulated = one["live"][arm], one["simulated"][arm]
        assert abs(simulated["sent"] - live["sent"]) < 5 * simulated["sent"] ** 0.5, "the same rates"
        assert live["sent"] == one["live"][FLASH]["sent"] > 0
        for of in (live, simulated):
            assert 0.3 < of["core_s"] < 4 * (Room.here(TINY.core).cores + 32 * START_CORES)
            assert 0 <= of["violated_s"] <= 3
    assert one["simulated"][HPA]["acted"].keys() == {"rules"}
    assert one["simulated"][FLASH]["acted"].get("agent", 0) >= 1
