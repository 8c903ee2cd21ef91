"""Runs every benchmark, each as a process of its own, and puts what they found together: `make bench`.

Enters: the scripts beside this one whose names do not begin with an underscore; whatever prints `_form.py`'s form with
`--json` is a benchmark, and needs no entry anywhere. Leaves: what each of them found, its time and its peak memory, for
people; with `--write` results/bench.json, bench.md, made from that file alone, and bench.png. Peak memory is the
largest of the benchmark and of the processes that it waited for. A benchmark that fails is named with its last line,
the others go on, and the exit code is 1. One that needs what this machine has not says so and is left out.

    python benchmarks/_run.py [--write] [--only NAME] [--without NAME] [--quick] [--out FOLDER] [--folder FOLDER]

What a small process starts has no smaller a peak than that process: nothing but the standard library is imported before
all of them are over.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _form import AGAINST, PARTS, SkippedError, Told, lines, met, read, rows, short, target_words

HERE = Path(__file__).resolve().parent
LIMIT_S = 1800.0
"""After which a benchmark is killed."""
QUICK: dict[str, tuple[str, ...]] = {
    "operator_scale": ("--targets", "2", "--periods", "1", "--period", "2"),
    "control_loop": (),
    "embedded_scan": (),
    "harness_overhead": (),
}
"""What makes a benchmark quick where `--quick` does not; those that take seconds as they are have nothing."""
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}


@dataclass(frozen=True)
class Ran:
    """One benchmark that ended."""

    name: str
    wall_s: float
    peak_mib: float
    told: Told = field(default_factory=dict)
    error: str = ""
    """Why there is nothing told; empty where there is."""
    skipped: str = ""
    """What this machine lacks; empty where nothing."""


def run(script: Path, options: Sequence[str] = (), limit_s: float = LIMIT_S) -> Ran:
    """Run one benchmark to its end.

    Args:
        script: its file.
        options: beside `--json`.
        limit_s: seconds after which it is killed.
    """
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        command = [sys.executable, str(script), "--json", *options]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=os.environ | ONE_THREAD,
            start_new_session=True,
        )
        timer = threading.Timer(limit_s, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            timer.cancel()
            if process.returncode is None:  # this process was interrupted
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
        wall_s, peak_mib = time.perf_counter() - begun, used.ru_maxrss / 1024
        printed, said = (_content(file) for file in (out, err))
    if process.returncode != 0:
        last = ([line for line in said.splitlines() if line.strip()] or ["it said nothing"])[-1]
        late = f", after {limit_s:g} s, which is all that it has" if wall_s >= limit_s else ""
        return Ran(script.stem, wall_s, peak_mib, error=f"ended with {process.returncode}{late}: {last.strip()}")
    try:
        return Ran(script.stem, wall_s, peak_mib, read(script.stem, printed))
    except SkippedError as why:
        return Ran(script.stem, wall_s, peak_mib, skipped=str(why))
    except ValueError as error:
        return Ran(script.stem, wall_s, peak_mib, error=f"no figures: {error}")


def _content(file: Any) -> str:
    file.seek(0)
    return str(file.read())


def chosen(folder: Path, only: Sequence[str], without: Sequence[str]) -> list[Path]:
    """The benchmarks to run, by name.

    Raises:
        ValueError: there is none of a name, or none at all.
    """
    there = {path.stem: path for path in sorted(folder.glob("[a-z]*.py"))}
    if not there:
        raise ValueError(f"{folder}: no benchmark there; expected scripts whose names begin with a small letter")
    for name in (*only, *without):
        if name not in there:
            raise ValueError(f"no benchmark is called {name!r}; there are {', '.join(there)}")
    return [path for name, path in there.items() if (not only or name in only) and name not in without]


def page(path: Path) -> str:
    """The Markdown of a result file."""
    content = json.loads(path.read_text())
    found: dict[str, Any] = content["benchmarks"]
    parts = [
        _table(
            ("benchmark", "ours against its rival", "times as fast", "range", "target"),
            ([name, *_cells(of["told"], "ratios", one)] for name, of in found.items() for one in of["told"]["ratios"]),
        ),
        _table(
            ("benchmark", "what grows with what", "exponent", "range", "target"),
            (
                [name, *_cells(of["told"], "exponents", one)]
                for name, of in found.items()
                for one in of["told"]["exponents"]
            ),
        ),
        _table(
            ("benchmark", "figure", "median", "range", "target"),
            (
                [name, *_cells(of["told"], "figures", one)]
                for name, of in found.items()
                for one in of["told"]["figures"]
            ),
        ),
        _table(
            ("benchmark", "time, s", "peak memory, MiB"),
            ([name, f"{of['wall_s']:.0f}", f"{of['peak_mib']:.0f}"] for name, of in found.items()),
        ),
    ]
    return "\n".join(parts)


def _cells(told: Told, part: str, name: str) -> list[str]:
    one = told[part][name]
    unit = f" {one['unit']}" if one.get("unit") else ""
    span = f"{short(one['low'])} to {short(one['high'])}"
    return [name, short(one["median"]) + unit, span, target_words(told, name) or "–"]


def _table(titles: Sequence[str], cells: Iterator[Sequence[str]]) -> str:
    written = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |\n" for row in cells]
    head = "| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|\n"
    return head + "".join(written)


def write(folder: Path, ran: Sequence[Ran], command: str, *, quick: bool) -> Path:
    """Write bench.json, its Markdown and its picture.

    Args:
        folder: where they go.
        ran: the benchmarks that ended well.
        command: what to type to get it again.
        quick: whether the figures are without weight.

    Raises:
        DataError: a file cannot be written.
    """
    import pandas as pd

    from flashfm.experiments import results
    from flashfm.reporting.bench import ratio_ranges

    path = folder / "bench.json"
    results.write(
        path,
        command=command,
        protocol=("quick; " if quick else "")
        + "each benchmark as a process of its own, one thread; median and range over its rounds, in which all that is"
        " compared has its turn; ratios above 1: ours is faster",
        seeds=[0],
        rows=[row for one in ran for row in rows(one.told, one.name)],
        more={
            "benchmarks": {
                one.name: {"wall_s": round(one.wall_s, 2), "peak_mib": round(one.peak_mib, 1), "told": one.told}
                for one in ran
            }
        },
        markdown_of=page,
    )
    drawn = [
        {
            "group": one.name.replace("_", " "),
            "what": name.replace(AGAINST, " / "),
            "ratio": ratio["median"],
            "low": ratio["low"],
            "high": ratio["high"],
            "target": one.told["targets"].get(name, {}).get("at_least"),
        }
        for one in ran
        for name, ratio in one.told["ratios"].items()
    ]
    if drawn:
        note = "median and range over rounds" + ("; quick: without weight" if quick else "")
        ratio_ranges(pd.DataFrame(drawn), folder / "bench.png", title="Beside their rivals", note=note)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; gives the exit code."""
    parser = argparse.ArgumentParser(description="Run every benchmark, each as a process of its own.")
    parser.add_argument("--write", action="store_true", help="write bench.json, bench.md and bench.png")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="these alone; may be repeated")
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="not these; may be repeated")
    parser.add_argument("--quick", action="store_true", help="less of everything: figures without weight")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results", metavar="FOLDER", help="for --write")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the benchmarks are")
    args = parser.parse_args(arguments)
    try:
        scripts = chosen(args.folder, args.only, args.without)
    except ValueError as error:
        parser.error(str(error))
    ran: list[Ran] = []
    for script in scripts:
        print(script.stem, flush=True)
        options = QUICK.get(script.stem, ("--quick",)) if args.quick else ()
        one = run(script, options)
        if one.skipped:
            print(f"  skipped: {one.skipped}\n", flush=True)
            continue
        ran.append(one)
        for line in lines(one.told) if not one.error else [f"  FAILED: {one.error}"]:
            print(line)
        print(f"  {one.wall_s:.0f} s, {one.peak_mib:.0f} MiB at most\n", flush=True)
    good, bad = [one for one in ran if not one.error], [one for one in ran if one.error]
    print("\n".join(_summary(good, bad)))
    if args.write and good:
        words = [*(f"--only {name}" for name in args.only), *(f"--without {name}" for name in args.without)]
        command = " ".join(["python benchmarks/_run.py", *words, *(["--quick"] if args.quick else []), "--write"])
        from flashfm.errors import FlashError

        try:
            print(write(args.out, good, command, quick=args.quick))
        except FlashError as error:
            print(f"bench: {error}", file=sys.stderr)
            return error.exit_code
    return 1 if bad else 0


def _summary(good: Sequence[Ran], bad: Sequence[Ran]) -> Iterator[str]:
    wall_s = sum(one.wall_s for one in (*good, *bad))
    yield f"{len(good) + len(bad)} benchmarks in {wall_s:.0f} s"
    asked = [(one, name) for one in good for part in PARTS for name in one.told[part] if name in one.told["targets"]]
    missed = [f"  {one.name}, {name}: {target_words(one.told, name)}" for one, name in asked if not met(one.told, name)]
    yield f"{len(asked) - len(missed)} of {len(asked)} targets are met" + (", and not:" if missed else "")
    yield from missed
    for one in bad:
        yield f"FAILED {one.name}: {one.error}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    print("stopped", file=sys.stderr)
    sys.exit(130)
