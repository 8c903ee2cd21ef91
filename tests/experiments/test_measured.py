"""How the measured data set is planned, collected and assessed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.errors import LimitsError
from flashfm.experiments import results
from flashfm.experiments.measured import (
    Part,
    agreement,
    assess,
    collect,
    combine,
    cpu_bound,
    noise_of,
    parts,
    slowdowns,
)
from flashfm.measurements.campaign import Campaign
from flashfm.measurements.limits import detect
from flashfm.measurements.platforms import Lambda
from flashfm.measurements.sandbox import InvokePlan
from flashfm.records import ResourceConfig


def frame(cpu_ms: float, wait_ms: float, noise: float = 0.0, app: str = "a") -> pd.DataFrame:
    """An application that obeys the quota, at the six sizes."""
    rng = np.random.default_rng(0)
    sizes = np.array([128, 256, 512, 1024, 2048, 3008])
    runtime = (wait_ms + cpu_ms / np.minimum(1, sizes / 1769)) * np.exp(noise * rng.standard_normal(6))
    return pd.DataFrame(
        {
            "app": app,
            "platform": "lambda",
            "memory_mb": sizes,
            "runtime_ms": runtime,
            "outcome": "ok",
            "user_cpu_ms_mean": cpu_ms,
            "system_cpu_ms_mean": 0.0,
        }
    )


def test_the_plan_covers_what_the_data_set_promises() -> None:
    planned = {part.name: part for part in parts()}
    assert len(planned["lambda"].campaign.apps) == 400
    assert len(planned["real"].campaign.apps) == 4
    assert [c.memory_mb for c in planned["lambda"].campaign.configs] == [128, 256, 512, 1024, 2048, 3008]
    for name in ("openwhisk-1", "openwhisk-3"):
        assert len(planned[name].campaign.apps) == 150
        assert len(planned[name].campaign.configs) >= 8
        assert planned[name].campaign.apps == planned["lambda"].campaign.apps[:150]
    assert planned["alone"].pack == 0
    assert {p.name for p in planned.values() if not p.shipped} == {"repeat-soon", "repeat-late", "alone"}
    assert all(p.campaign.plan.count * p.campaign.passes >= 10 for p in planned.values())


def test_agreement_is_the_error_of_one_measurement_as_a_forecast_of_the_other() -> None:
    first = frame(10.0, 0.0)
    second = first.assign(runtime_ms=first.runtime_ms * 1.25)
    compared = agreement(first, second)
    assert len(compared) == 6
    assert compared.ape.tolist() == pytest.approx([0.2] * 6)
    assert compared["log"].tolist() == pytest.approx([np.log(1.25)] * 6)
    assert len(agreement(first, second.assign(outcome=["ok"] * 5 + ["timeout"]))) == 5


def test_slowdowns_are_of_cpu_bound_applications_only() -> None:
    rows = pd.concat([frame(20.0, 0.0, app="cpu"), frame(20.0, 50.0, app="io"), frame(2.0, 0.0, app="short")])
    found = slowdowns(rows, {"cpu", "short"})
    assert found.index.tolist() == ["cpu"]
    assert found.ratio["cpu"] == pytest.approx(8.0)
    assert found.ratio_at_equal_cpu["cpu"] == pytest.approx(8.0)


def test_cpu_bound_means_that_every_segment_is() -> None:
    def app(name: str, *kinds: str) -> ApplicationSpec:
        return ApplicationSpec(name, tuple(SegmentSpec(kind) for kind in kinds))

    assert cpu_bound([app("a", "compression", "image-resize"), app("b", "compression", "sleep")]) == {"a"}


@pytest.mark.limits
def test_collect_combine_and_assess(tmp_path: Path) -> None:
    try:
        detect()
    except LimitsError as error:
        pytest.skip(str(error))
    apps = tuple(
        ApplicationSpec(f"spin-{i}", (SegmentSpec("floating-point", {"operations": 120_000 * i}),)) for i in (1, 2)
    )
    campaign = Campaign(
        apps, Lambda(), tuple(map(ResourceConfig, (128, 1024, 3008))), InvokePlan(count=2, at_least=2), passes=1
    )
    chosen = [
        Part("lambda", campaign, None, True),
        Part("repeat-soon", campaign, None, False),
        Part("repeat-late", campaign, None, False),
        Part("alone", campaign, 0.0, False),
    ]
    seen: list[tuple[str, int]] = []
    collect(chosen, tmp_path, on_visit=lambda part, done, total: seen.append((part.name, done)))
    assert len(seen) == 24
    collect(chosen, tmp_path, on_visit=lambda part, done, total: seen.append((part.name, done)))
    assert len(seen) == 24, "a campaign whose table is there is not run again"
    rows, more = assess(chosen, tmp_path)
    assert {r.metric for r in rows} >= {"APE", "log ratio"}
    table = combine(chosen, tmp_path, date="2026-11-24", noise=noise_of(rows))
    assert len(table) == 6, "only what is shipped"
    assert table.card["seeds"] == [0]
    assert 0 <= table.card["noise"]["repeat_soon_shape_mape"] < 2
    path = tmp_path / "results" / "measured.json"
    results.write(path, command="c", protocol="p", seeds=[0], rows=rows, more=more)
    content = json.loads(path.read_text())
    assert {"name", "commit", "command", "machine", "protocol", "seeds", "rows"} <= set(content)
    assert results.markdown(path).count("\n") == len(rows) + 2
