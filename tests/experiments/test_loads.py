"""Generated loads beside real ones: the statistics, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flashfm.datasets.rate_trace import RateTrace
from flashfm.datasets.traces import load_trace
from flashfm.errors import DataError, DataMissingError
from flashfm.experiments import loads
from flashfm.experiments.loads import ALL, COMPARED, GENERATED, distance, sample, spread, statistics, typical
from flashfm.reporting.loads import load_panels
from flashfm.tasks.autoscaling.parameters import STEP_S


def test_statistics_of_known_windows() -> None:
    rng = np.random.default_rng(0)
    flat = np.ones((100, 1))
    white = 1 + 0.2 * rng.choice([-1.0, 1.0], (100, 4000))
    saw = np.tile([[0.5], [1.5]], (50, 1))
    slow = 1 + 0.5 * np.sin(np.linspace(0, 2 * np.pi, 100))[:, None]
    assert {key: float(of[0]) for key, of in statistics(flat).items()} == dict.fromkeys(statistics(flat), 0.0) | {
        "p99 / mean": 1.0
    }
    of_white = statistics(white)
    assert of_white["coefficient of variation"].mean() == pytest.approx(0.2, rel=0.02)
    for m in ("1 step", "4 steps", "16 steps"):
        assert of_white[f"dispersion, {m}"].mean() == pytest.approx(0.04, rel=0.05), "independent: the same for every m"
    of_saw = statistics(saw)
    assert of_saw["lag-1 autocorrelation"][0] == pytest.approx(-1.0)
    assert of_saw["share of jumps"][0] == 1.0
    assert of_saw["dispersion, 4 steps"][0] == pytest.approx(0.0)
    of_slow = statistics(slow)
    assert of_slow["lag-1 autocorrelation"][0] > 0.95
    assert of_slow["dispersion, 16 steps"][0] > 10 * of_slow["dispersion, 1 step"][0]
    assert of_slow["share of jumps"][0] == 0.0


def test_the_distance_of_distributions() -> None:
    same = np.arange(10.0)
    assert distance(same, same) == pytest.approx(0.0)
    assert distance(same, same + 100) == 1.0
    assert distance(np.array([0.0, 1.0]), np.array([1.0, 1.0])) == 0.5
    assert distance(np.zeros(3), np.array([0.0, 5.0]), np.array([3.0, 1.0])) == pytest.approx(0.25)


def test_windows_come_evenly_from_the_traces_that_have_any() -> None:
    rng = np.random.default_rng(0)
    calm, empty = RateTrace("a", np.full(150, 9), STEP_S), RateTrace("b", np.zeros(150, dtype=np.int64), STEP_S)
    rising = RateTrace("c", np.arange(150), STEP_S)
    windows = sample((calm, empty, rising), 10, rng)
    assert windows.shape == (100, 10)
    np.testing.assert_allclose(windows.mean(axis=0), 1.0)
    assert (windows.std(axis=0) < 1e-9).tolist() == [True] * 5 + [False] * 5
    with pytest.raises(DataError, match="'b': none of its"):
        sample((empty,), 10, rng)


def test_examples_are_typical_and_spread() -> None:
    windows = np.stack([1 + size * np.sin(np.arange(100.0)) for size in (0.9, 0.1, 0.5, 0.3, 0.7)], axis=1)
    np.testing.assert_array_equal(typical(windows), windows[:, 2])
    assert [float(of.std()) for of in spread(windows, 3)] == sorted(of.std() for of in windows.T[[1, 2, 0]])


def made(name: str, *, by: str) -> tuple[RateTrace, ...]:
    assert by == COMPARED[name]
    rng = np.random.default_rng(0)
    if name == "nasa":
        return (RateTrace(name, rng.poisson(50, 3 * 2880), STEP_S),)
    if name == "twitter":
        return (RateTrace(name, rng.negative_binomial(2, 0.02, 400), STEP_S),)
    if name == "aws-elb":
        return (RateTrace(name, rng.poisson(50, 20), STEP_S),)
    raise DataMissingError(name)


def test_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loads, "load_trace", made)
    steps: list[tuple[int, int]] = []
    path = loads.run(tmp_path / "out", tmp_path, quick=True, on_step=lambda *step: steps.append(step))
    content = json.loads(path.read_text())
    rows = {(row["dataset"], row["metric"]): row for row in content["rows"]}
    assert rows["nasa", "coefficient of variation"]["mean"] == pytest.approx(50**-0.5, rel=0.05)
    both = [rows[name, "p99 / mean"]["mean"] for name in ("nasa", "twitter")]
    assert rows[ALL, "p99 / mean"]["mean"] == pytest.approx(np.mean(both))
    assert 0 < content["ks_distance"]["p99 / mean"] <= 1
    assert rows[GENERATED, "share of jumps"]["n_queries"] == loads.QUICK_WINDOWS
    assert "too short" in content["left_out"]["aws-elb"]
    assert content["left_out"]["azure-llm-code"] == "not on this machine"
    days = {day["trace"]: (day["higher_days"], day["lower_days"]) for day in content["days"]}
    assert days == {"nasa": (3, 0), "twitter": (0, 0), "aws-elb": (0, 0)}
    assert steps[-1] == (len(COMPARED), len(COMPARED))
    assert "twitter" in path.with_suffix(".md").read_text()
    assert (tmp_path / "loads.png").stat().st_size > 20_000
    with np.load(tmp_path / "out" / "windows.npz", allow_pickle=False) as kept:
        assert set(kept) == {"nasa", "twitter", GENERATED}
    monkeypatch.setattr(loads, "load_panels", lambda *_, **__: None)
    again = json.loads(loads.run(tmp_path / "out", tmp_path, quick=True).read_text())
    assert again["rows"] == content["rows"]


def test_no_trace_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, *, by: str) -> tuple[RateTrace, ...]:
        raise DataMissingError(f"{name} by {by}")

    monkeypatch.setattr(loads, "load_trace", absent)
    with pytest.raises(DataError, match="no trace to compare with; run: flashfm data fetch nasa"):
        loads.run(tmp_path, tmp_path)


def test_panels_that_cannot_be_drawn(tmp_path: Path) -> None:
    window = np.ones(100)
    found = statistics(np.ones((100, 3)))
    for real, generated in [({}, []), ({"a": window}, [window, window])]:
        with pytest.raises(DataError, match=f"{len(real)} real and {len(generated)} generated windows"):
            load_panels(real, generated, {"a": found}, found, tmp_path / "a.png", step_s=30.0)
    load_panels({"a": window}, [window], {"a": found}, found, tmp_path / "flat.png", step_s=30.0)


@pytest.mark.data
def test_the_generator_resembles_the_traces(tmp_path: Path) -> None:
    for name in COMPARED:
        if name != "azure-functions-2021":  # the full trace, which few have
            try:
                load_trace(name, by=COMPARED[name])
            except DataMissingError as error:
                pytest.skip(str(error))
    content = json.loads(loads.run(tmp_path, tmp_path, quick=True).read_text())
    assert len([row for row in content["rows"] if row["metric"] == "p99 / mean" and row["method"] == "real"]) >= 7
    for key, value in content["ks_distance"].items():
        assert value < 0.3, key
