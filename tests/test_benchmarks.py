"""Benchmarks: each runs and prints the one form; what runs them tells failures, time and memory, and writes results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # they import each other by their bare names

import _form  # noqa: E402
import _run  # noqa: E402
from _figures import Asked, Found  # noqa: E402

MINUTES = {"control_loop", "embedded_scan", "fleet", "operator_scale", "regressors", "workers"}
"""They take too long for a test, and have no quick way, or need half a minute and more in it."""
SECONDS = sorted(path.stem for path in BENCHMARKS.glob("[a-z]*.py") if path.stem not in MINUTES)
QUICK = Asked(as_json=True, write=False, quick=True)


def scripts(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def printing(told: object, before: str = "") -> str:
    return f"import json\n{before}\nprint(json.dumps({told!r}))\n"


def two_arms(ours: list[float], rival: list[float], unit: str) -> Found:
    found = Found()
    found.add({"ours": ours, "rival": rival}, unit)
    return found


# -- figures ---------------------------------------------------------------------------------------------------------


def test_times_and_rates_are_compared_so_that_above_one_is_faster() -> None:
    of_times = two_arms([1.0, 2.0, 4.0], [10.0, 10.0, 10.0], "ms")
    of_rates = two_arms([30.0, 20.0, 50.0], [10.0, 10.0, 10.0], "steps/s")
    for found, expected in ((of_times, [10.0, 5.0, 2.5]), (of_rates, [3.0, 2.0, 5.0])):
        name = found.compare("ours", "rival")
        assert found.ratios[name] == expected
        ratio = found.told()["ratios"]["ours against rival"]
        assert (ratio["median"], ratio["low"], ratio["high"]) == (sorted(expected)[1], min(expected), max(expected))


@given(st.floats(-2, 3), st.floats(0.01, 100), st.lists(st.integers(1, 10**6), min_size=2, max_size=6, unique=True))
def test_the_exponent_of_a_power_is_found(exponent: float, factor: float, sizes: list[int]) -> None:
    found = Found()
    name = found.grows("cost over size", {n: [factor * n**exponent, 2 * factor * n**exponent] for n in sizes})
    assert found.exponents[name] == pytest.approx([exponent, exponent], abs=1e-6)


def test_targets_are_met_or_not() -> None:
    found = two_arms([1.0, 2.0], [4.0, 4.0], "ms")
    ratio = found.compare("ours", "rival")
    found.targets |= {ratio: {"at_least": 5.0}, "rival": {"at_most": 4.0}}
    told = found.told()
    assert (_form.met(told, ratio), _form.met(told, "rival"), _form.met(told, "ours")) == (False, True, None)
    said = list(_form.lines(told))
    assert "  ours against rival: 3 (2 to 4), at least 5: MISSED" in said
    assert "  rival: 4 ms (4 to 4), at most 4: met" in said


def test_every_arm_has_its_turn_in_each_round() -> None:
    called: list[str] = []
    times = QUICK.time({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 0.0, least=2)
    assert called == ["a", "b"] + ["a", "a", "b", "b"] * QUICK.rounds
    assert {name: len(of) for name, of in times.items()} == {"a": QUICK.rounds, "b": QUICK.rounds}


def test_a_group_stands_before_its_arms() -> None:
    found = Found()
    found.add({"a": [1.0], "b": [2.0]}, "ms", "one pair")
    assert found.compare("a", "b", "one pair") == "one pair: a against b"
    assert list(found.figures) == ["one pair: a", "one pair: b"]


# -- the form --------------------------------------------------------------------------------------------------------


def test_what_is_printed_is_read_again() -> None:
    found = two_arms([1.0, 2.0], [4.0, 4.0], "ms")
    found.compare("ours", "rival")
    assert _form.read("anything", "some words\n" + json.dumps(found.told())) == found.told()
    rows = _form.rows(found.told(), "some benchmark", pairs=7)
    assert [(row.method, row.metric, row.median) for row in rows] == [
        ("ours", "ms", 1.5),
        ("rival", "ms", 4.0),
        ("ours against rival", "times as fast", 3.0),
    ]
    assert {(row.dataset, row.n_pairs, row.n_queries) for row in rows} == {("some benchmark", 7, 2)}


def test_the_older_forms_are_read() -> None:
    span = {"median": 2.0, "low": 1.0, "high": 4.0}
    loop = _form.read("control_loop", json.dumps({"the loop, ms": span, "ratio to rules alone": span}))
    assert loop["figures"] == {"the loop": {"unit": "ms", **span}}
    assert loop["ratios"] == {"the loop against rules alone": {"median": 0.5, "low": 0.25, "high": 1.0}}
    assert _form.met(loop, "the loop") is True
    scan = _form.read("embedded_scan", json.dumps({"fast_ms": 3.0, "moto_ms": 6.0, "ratio": span}))
    assert [(name, one["unit"], one["median"]) for name, one in scan["figures"].items()] == [
        ("fast path", "ms", 3.0),
        ("moto", "ms", 6.0),
    ]
    assert scan["ratios"] == {"fast path against moto": span}
    scale = {"figures": {"Act": {"CPU in a period, s": span}}, "target_ms": 20.0, "Act": {"late_periods": 0}}
    assert _form.read("operator_scale", json.dumps(scale))["figures"] == {"Act, CPU in a period": {"unit": "s", **span}}


@pytest.mark.parametrize("printed", ["", "words", "3", "{}", '{"ratios": {}, "exponents": {}, "figures": {}}'])
def test_what_is_no_form_is_refused(printed: str) -> None:
    with pytest.raises(ValueError, match=r"expected|Expecting|no figure"):
        _form.read("anything", printed)


# -- running ---------------------------------------------------------------------------------------------------------


TOLD = {
    "figures": {"ours": {"unit": "ms", "median": 1.0, "low": 0.5, "high": 2.0, "values": [0.5, 1.0, 2.0]}},
    "ratios": {"ours against theirs": {"median": 3.0, "low": 2.0, "high": 4.0, "values": [2.0, 3.0, 4.0]}},
    "exponents": {"time over size": {"median": 0.9, "low": 0.8, "high": 1.0, "values": [0.8, 0.9, 1.0]}},
    "targets": {"ours against theirs": {"at_least": 2.5}, "ours": {"at_most": 0.1}},
}
FAILING = "import sys\nprint('words', file=sys.stderr)\nsys.exit('it broke here')\n"


def test_one_that_fails_is_named_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scripts(tmp_path, alpha=FAILING, beta=printing(TOLD), _helper="raise SystemExit(9)")
    code = _run.main(["--folder", str(tmp_path), "--write", "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert code == 1
    assert "FAILED alpha: ended with 1: it broke here" in said
    assert "1 of 2 targets are met, and not:\n  beta, ours: at most 0.1: MISSED" in said
    content = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert list(content["benchmarks"]) == ["beta"]
    assert content["benchmarks"]["beta"]["told"] == TOLD
    assert {(row["dataset"], row["method"]) for row in content["rows"]} == {
        ("beta", "ours"),
        ("beta", "ours against theirs"),
        ("beta", "time over size"),
    }
    page = (tmp_path / "out" / "bench.md").read_text()
    assert "| beta | ours against theirs | 3 | 2 to 4 | at least 2.5: met |" in page
    assert "| beta | ours | 1 ms | 0.5 to 2 | at most 0.1: MISSED |" in page
    assert "| beta | time over size | 0.9 | 0.8 to 1 | – |" in page
    assert (tmp_path / "out" / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_one_that_needs_what_is_not_there_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scripts(tmp_path, alpha=printing({"skipped": "no GPU"}), beta=printing(TOLD))
    assert _run.main(["--folder", str(tmp_path), "--write", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("alpha\n  skipped: no GPU\n")
    assert "\n1 benchmarks in " in said
    assert list(json.loads((tmp_path / "bench.json").read_text())["benchmarks"]) == ["beta"]


def test_only_and_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scripts(tmp_path, alpha=FAILING, beta=printing(TOLD), gamma=printing(TOLD))
    for words in (["--only", "beta"], ["--without", "alpha", "--without", "gamma"]):
        assert _run.main(["--folder", str(tmp_path), *words]) == 0
        assert capsys.readouterr().out.startswith("beta\n")
    for option in ("--only", "--without"):
        with pytest.raises(SystemExit) as ended:
            _run.main(["--folder", str(tmp_path), option, "delta"])
        assert ended.value.code == 2
        assert "no benchmark is called 'delta'; there are alpha, beta, gamma" in capsys.readouterr().err


def test_where_there_is_nothing_to_run_or_to_write_one_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        _run.main(["--folder", str(tmp_path)])
    assert f"{tmp_path}: no benchmark there; expected scripts" in capsys.readouterr().err
    scripts(tmp_path, alpha=printing(TOLD))
    taken = tmp_path / "taken"
    taken.write_text("a file")
    assert _run.main(["--folder", str(tmp_path), "--write", "--out", str(taken)]) > 0
    assert capsys.readouterr().err.startswith(f"bench: {taken}")


def test_only_what_must_be_is_quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = "import sys\nassert sys.argv[1:] == {}, sys.argv\n"
    scripts(
        tmp_path,
        control_loop=printing(TOLD, given.format(["--json"])),
        other=printing(TOLD, given.format(["--json", "--quick"])),
    )
    assert _run.main(["--folder", str(tmp_path), "--quick"]) == 0, capsys.readouterr().out


def test_peak_memory_is_that_of_the_benchmark(tmp_path: Path) -> None:
    scripts(tmp_path, small=printing(TOLD), large=printing(TOLD, "held = b'x' * 300_000_000"))
    asked = [sys.executable, str(BENCHMARKS / "_run.py"), "--folder", str(tmp_path), "--write", "--out", str(tmp_path)]
    subprocess.run(asked, check=True, capture_output=True)  # of a process of its own: this one has a peak to pass on
    found = json.loads((tmp_path / "bench.json").read_text())["benchmarks"]
    assert found["large"]["peak_mib"] >= 286
    assert found["small"]["peak_mib"] < 100


def test_each_computes_on_one_thread(tmp_path: Path) -> None:
    asserted = "import os\nassert os.environ['OMP_NUM_THREADS'] == os.environ['OPENBLAS_NUM_THREADS'] == '1'"
    scripts(tmp_path, alpha=printing(TOLD, asserted))
    assert _run.run(tmp_path / "alpha.py").error == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise ValueError('of this')", "ended with 1: ValueError: of this"),
        ("import sys; sys.exit(3)", "ended with 3: it said nothing"),
        ("print('done')", "no figures: Expecting value"),
        ("print('{}')", "no figures: printed no figure"),
        ("import time; time.sleep(60)", "ended with -9, after 0.5 s, which is all that it has"),
    ],
)
def test_why_there_are_no_figures(text: str, said: str, tmp_path: Path) -> None:
    scripts(tmp_path, alpha=text)
    begun = time.monotonic()
    ran = _run.run(tmp_path / "alpha.py", limit_s=0.5 if "sleep" in text else 60.0)
    assert said in ran.error
    assert ran.told == {}
    assert time.monotonic() - begun < 30


def test_who_stops_it_stops_the_benchmark(tmp_path: Path) -> None:
    at = tmp_path / "pid"
    text = f"import os, time, pathlib\npathlib.Path({str(at)!r}).write_text(str(os.getpid()))\ntime.sleep(60)\n"
    scripts(tmp_path, alpha=text)
    process = subprocess.Popen([sys.executable, str(BENCHMARKS / "_run.py"), "--folder", str(tmp_path)])
    end = time.monotonic() + 30
    while not (at.exists() and at.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(at.read_text()), 0)


def test_what_runs_them_stays_small() -> None:
    script = "import sys, _run; print(*({'numpy', 'torch', 'pandas', 'flashfm'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# -- each of them ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", SECONDS)
def test_a_benchmark_runs(name: str) -> None:
    ran = _run.run(BENCHMARKS / f"{name}.py", _run.QUICK.get(name, ("--quick",)), limit_s=280.0)
    assert ran.error == ""
    if ran.skipped:
        pytest.skip(ran.skipped)
    assert ran.told["figures"], f"{name} has no figures"
    assert ran.told["ratios"] or ran.told["exponents"], f"{name} compares nothing"
    for part in _form.PARTS:
        for what, one in ran.told[part].items():
            assert one["low"] <= one["median"] <= one["high"], what
    names = {one for part in _form.PARTS for one in ran.told[part]}
    assert {*ran.told["targets"]} <= names
    assert f"python benchmarks/{name}.py" in (BENCHMARKS / f"{name}.py").read_text()


def test_the_benchmark_of_a_gpu_measures_all_on_any_two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu
    import torch

    small = {"QUICK_ENVS": (1, 4), "UPDATES": 2, "EPISODES": 1, "QUICK_PAIRS": 16, "QUICK_DECIDED": 5, "QUICK_FLEET": 4}
    for name, value in small.items():
        monkeypatch.setattr(gpu, name, value)
    told = gpu.found_by(QUICK, dict.fromkeys((gpu.HERE, gpu.THERE), torch.device("cpu"))).told()
    assert len(told["ratios"]) == 6
    assert len(told["figures"]) == 12
    assert {one["unit"] for one in told["figures"].values()} == {
        "environment steps/s",
        "updates/s",
        "decisions/s",
        "applications/s",
    }
    assert all(one["low"] > 0 for one in told["figures"].values())
