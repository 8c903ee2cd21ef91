"""Campaigns that are shared out: who measures what, what the journal holds, and going on after a stop."""

from __future__ import annotations

import json
import socket
from collections import Counter
from pathlib import Path

import pytest
from unlimited import Unlimited, naps

from flashfm.engine.inline import INLINE
from flashfm.engine.node import on_node, tidy
from flashfm.errors import LimitsError, MeasureError
from flashfm.measurements import limits
from flashfm.measurements.campaign import Campaign
from flashfm.measurements.cluster import Plan, Spread, measure_share
from flashfm.measurements.harness import Sample
from flashfm.measurements.journal import Journal


def spread(campaign: Campaign, journal: Journal) -> Spread:
    """On this machine; a share is over when its first application is done."""
    return Spread(Plan(campaign, pack=0.0, backend=Unlimited(), share_s=0.0), journal, INLINE)


def lines(path: Path) -> Counter[tuple[str, int]]:
    """How often a journal holds each visit."""
    entries = [json.loads(line) for line in path.read_bytes().splitlines()[1:]]
    return Counter((entry["app"], entry["memory_mb"]) for entry in entries)


def test_what_a_node_had_no_time_for_is_measured_later_and_all_once(tmp_path: Path) -> None:
    campaign = naps(3)
    with Journal(tmp_path / "j", campaign.settings()) as journal:
        on_all = spread(campaign, journal)
        seen: list[str] = []
        on_all.on_visit = lambda app, _: seen.append(app)
        on_all.run()
        measured = on_all.measurements()
    assert on_all.left == 0
    assert Counter(seen) == {f"nap-{i}": 2 for i in range(3)}
    assert set(lines(tmp_path / "j").values()) == {1}
    assert {m.platform for m in measured} == {f"lambda@{tidy(socket.gethostname())}"}
    assert len(measured) == 6
    assert all(m.runtime_ms is not None and m.runtime_ms >= 5 for m in measured)


def test_a_stopped_campaign_goes_on_on_another_node(tmp_path: Path) -> None:
    campaign = naps(2)

    def stop(_app: str, _sample: Sample) -> None:
        raise KeyboardInterrupt

    with Journal(tmp_path / "j", campaign.settings()) as journal, on_node("one/with\nodd letters"):
        first = spread(campaign, journal)
        first.on_visit = stop
        with pytest.raises(KeyboardInterrupt):
            first.run()
        assert {(m.app, m.platform) for m in first.measurements()} == {("nap-0", "lambda@one-with-odd-letters")}
    with Journal(tmp_path / "j", campaign.settings()) as journal, on_node("two"):
        second = spread(campaign, journal)
        second.run()
        where = {m.app: m.platform for m in second.measurements()}
    assert where == {"nap-0": "lambda@one-with-odd-letters", "nap-1": "lambda@two"}
    assert set(lines(tmp_path / "j").values()) == {1}


def test_an_application_that_is_torn_is_measured_anew_on_one_node(tmp_path: Path) -> None:
    campaign = naps(1)
    path = tmp_path / "j"
    with Journal(path, campaign.settings()) as journal, on_node("one"):
        spread(campaign, journal).run()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 20])
    with Journal(path, campaign.settings()) as journal, on_node("two"):
        again = spread(campaign, journal)
        assert again.left == 1
        again.run()
        (small, large) = again.measurements()
    assert {small.platform, large.platform} == {"lambda@two"}
    with Journal(path, campaign.settings()) as read:
        assert read.nodes == {"nap-0": "two"}
        assert len(read.samples) == 2


def test_a_node_that_cannot_measure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = naps(1)
    with on_node("far"):
        with pytest.raises(MeasureError, match=r"^node far: core 999 is not one of this process's"):
            measure_share(Plan(campaign, core=999, backend=Unlimited()), campaign.apps, print)
        monkeypatch.setattr(limits, "backends", list)
        with pytest.raises(LimitsError, match=r"^node far: CPU and memory limits cannot be set here\."):
            measure_share(Plan(campaign), campaign.apps, print)
