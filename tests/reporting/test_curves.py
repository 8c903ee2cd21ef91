"""Pictures of measurements and traces: they are drawn, say what they should, and refuse what cannot be drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.datasets import RateTrace
from flashfm.errors import DataError
from flashfm.reporting import (
    PALETTE,
    curve_points,
    principal_platform,
    rate_curves,
    representative_apps,
    runtime_curves,
)

Words = Callable[[Path], list[str]]
Size = Callable[[Path], tuple[int, int]]
SIZES = [128, 256, 512, 1024, 2048, 3008]


def lambda_like(shares: dict[str, float]) -> pd.DataFrame:
    """Applications of 60 ms of which a share is CPU time, on a platform whose quota is memory / 1769."""
    rows = []
    for app, share in shares.items():
        for size in SIZES:
            cpu_ms = 60 * share
            runtime = 60 - cpu_ms + cpu_ms / min(1, size / 1769)
            row = {"app": app, "platform": "lambda", "memory_mb": size, "runtime_ms": runtime, "runtime_cov": 0.03}
            rows.append(row | {"user_cpu_ms_mean": 0.8 * cpu_ms, "system_cpu_ms_mean": 0.2 * cpu_ms, "outcome": "ok"})
    return pd.DataFrame(rows)


FRAME = lambda_like({"busy": 0.98, "half": 0.5, "most": 0.85, "waits": 0.02})


def test_representative_apps_are_the_extremes_and_the_middle() -> None:
    assert representative_apps(FRAME) == {"CPU-bound": "busy", "mixed": "half", "I/O-bound": "waits"}
    assert representative_apps(lambda_like({"a": 0.9})) == {"CPU-bound": "a"}
    assert representative_apps(lambda_like({"a": 0.4, "b": 0.3})) == {"mixed": "a"}
    with pytest.raises(DataError, match="'user_cpu_ms_mean'"):
        representative_apps(FRAME.drop(columns="user_cpu_ms_mean"))
    with pytest.raises(DataError, match="ended well"):
        representative_apps(FRAME.assign(outcome="error"))


def test_curves_as_png_have_the_size_asked_for(tmp_path: Path, png_size: Size) -> None:
    path = runtime_curves(FRAME, ["busy", "waits"], tmp_path / "a.png")
    assert png_size(path) == (1200, 700)
    assert png_size(runtime_curves(FRAME, ["busy"], tmp_path / "b.png", size_px=(800, 500))) == (800, 500)
    assert len(list(tmp_path.iterdir())) == 2


def test_curves_are_labelled_with_names_kinds_sizes_and_the_ideal(tmp_path: Path, words_of: Words) -> None:
    path = runtime_curves(FRAME, representative_apps(FRAME), tmp_path / "a.svg", title="A headline")
    shown = words_of(path)
    for words in ("A headline", "busy", "CPU-bound", "half", "mixed", "waits", "I/O-bound", "half the time"):
        assert any(words in line for line in shown), words
    assert {"128", "3008", "memory size (MB)", "100 ms"} <= set(shown)
    assert any("platform: lambda" in line for line in shown)
    text = path.read_text().upper()
    assert all(color in text for color in PALETTE[:3])
    again = runtime_curves(FRAME, representative_apps(FRAME), tmp_path / "b.svg", title="A headline")
    assert again.read_bytes() == path.read_bytes(), "the same picture is the same file"


def test_a_configuration_that_failed_is_shown(tmp_path: Path, words_of: Words) -> None:
    frame = FRAME.copy()
    frame.loc[(frame["app"] == "busy") & (frame["memory_mb"] == 128), ["runtime_ms", "outcome"]] = [
        None,
        "out_of_memory",
    ]
    assert "out of memory" in words_of(runtime_curves(frame, ["busy", "half"], tmp_path / "a.svg"))


def test_one_platform_is_drawn(tmp_path: Path, words_of: Words) -> None:
    both = pd.concat([FRAME, FRAME.assign(platform="openwhisk").head(3)])
    assert any("lambda" in words for words in words_of(runtime_curves(both, ["busy"], tmp_path / "a.svg")))
    other = words_of(runtime_curves(both, ["busy"], tmp_path / "a.svg", platform="openwhisk"))
    assert any("openwhisk" in words for words in other)


@pytest.mark.parametrize("n", [1, 6])
def test_few_points_and_many_curves(n: int, tmp_path: Path) -> None:
    frame = lambda_like({f"app-{i}": 0.1 + 0.001 * i for i in range(n)})
    runtime_curves(frame, [f"app-{i}" for i in range(n)], tmp_path / "a.png")
    single = frame[frame["memory_mb"] == 512].drop(columns=["platform", "runtime_cov"])
    runtime_curves(single, ["app-0"], tmp_path / "b.png")
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("a.png", "b.png"))


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    for call, said in [
        (lambda: runtime_curves(FRAME, ["nobody"], tmp_path / "a.png"), "'nobody' has no row that ended well"),
        (lambda: runtime_curves(FRAME, [], tmp_path / "a.png"), "0 applications"),
        (lambda: runtime_curves(FRAME, [f"{i}" for i in range(7)], tmp_path / "a.png"), "7 applications"),
        (lambda: runtime_curves(FRAME.drop(columns="memory_mb"), ["busy"], tmp_path / "a.png"), "'memory_mb'"),
        (lambda: runtime_curves(FRAME, ["busy"], tmp_path / "a.pdf"), "expected a .png or .svg file"),
        (lambda: runtime_curves(FRAME, ["busy"], tmp_path / "no" / "a.png"), "cannot be written"),
        (lambda: rate_curves([], tmp_path / "a.png"), "no trace"),
    ]:
        with pytest.raises(DataError, match=said):
            call()
    assert list(tmp_path.iterdir()) == []


def test_rates_short_and_long(tmp_path: Path, words_of: Words, png_size: Size) -> None:
    rng = np.random.default_rng(0)
    short = RateTrace("short", rng.poisson(3, 300), 1.0)
    long = RateTrace("long", rng.poisson(3, 400_000), 1.0)
    assert png_size(rate_curves([short], tmp_path / "a.png")) == (1200, 700)
    shown = words_of(rate_curves([long], tmp_path / "b.svg"))
    assert {"long", "requests/s", "days since the start"} <= set(shown)
    assert any(words.startswith("line: mean over") for words in shown)
    many = [RateTrace(f"trace-{i}" * 12, rng.poisson(3, 100), 60.0) for i in range(6)]
    assert any("2 more traces" in words for words in words_of(rate_curves(many, tmp_path / "c.svg")))
    assert "minutes since the start" in words_of(rate_curves(many[:1], tmp_path / "d.svg"))


def test_configurations_that_share_a_size_become_one_point() -> None:
    rows = [
        ("a", "whisk", memory, shares, 10.0 * 1024 / shares * factor, "ok")
        for shares in (256, 512, 1024)
        for memory, factor in ((128, 2.0), (512, 0.5))
    ]
    rows += [("a", "lambda", memory, None, 5.0, "ok") for memory in (128, 256, 512)]
    rows += [("b", "whisk", 128, 256, None, "timeout")]
    frame = pd.DataFrame(rows, columns=["app", "platform", "memory_mb", "cpu_shares", "runtime_ms", "outcome"])
    assert principal_platform(frame) == "lambda"
    points, axis = curve_points(frame, "whisk")
    assert axis == "cpu_shares"
    assert points.loc[points.app == "a", "runtime_ms"].tolist() == pytest.approx([40.0, 20.0, 10.0])
    assert points.loc[points.app == "b", "outcome"].tolist() == ["timeout"]
    assert curve_points(frame)[1] == "memory_mb"


def test_names_are_no_formulas_and_not_too_long(tmp_path: Path, words_of: Words) -> None:
    names = ["$\\frac{", "a$b$c", "line\nbreak", "x" * 200, "函数"]
    frame = lambda_like({name: 0.2 + 0.1 * i for i, name in enumerate(names)})
    shown = words_of(runtime_curves(frame, names, tmp_path / "a.svg"))
    assert {"$\\frac{", "a$b$c", "line break", "x" * 39 + "…", "函数"} <= set(shown)
    runtime_curves(frame, names, tmp_path / "a.png")
