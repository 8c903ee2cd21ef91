"""How long the command and the package take to start, and their peak memory, beside Python alone and two rivals.

Each is a process of its own; the first start of each is not counted, since it fills the disk cache. Rivals are what a
user would otherwise wait for: `import torch`, and `import stable_baselines3`. Prints milliseconds and MiB as the median
over five starts with their range, and how many heavy libraries `import flashfm` brings in. A process inherits the peak
of the one that starts it: what stays near the peak of this small one is not told.

    python benchmarks/start_up.py [--json] [--write] [--quick]

`--write` keeps the figures in results/start-up.json.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from _figures import Found, asked

PYTHON, HELP, PACKAGE, STATUS = "python -c pass", "flashfm --help", "import flashfm", "flashfm autoscale status"
AGENT = "the agent loaded"
TORCH, SB3 = "import torch", "import stable_baselines3"
HEAVY = ("torch", "ray", "kubernetes", "matplotlib")
LOADED = "heavy libraries with import flashfm"
TARGETS = {HELP: {"at_most": 300.0}, LOADED: {"at_most": 0.0}}
ABSENT = 10
"""What `flashfm autoscale status` ends with where there is no such file."""


def commands(folder: Path) -> dict[str, tuple[list[str], int]]:
    """Name -> the command, and what it is to end with."""
    flashfm, python = [str(Path(sys.executable).parent / "flashfm")], [sys.executable, "-c"]
    if not Path(flashfm[0]).exists():
        flashfm = [sys.executable, "-m", "flashfm"]
    agent = "import flashfm; flashfm.FlashAgent.from_pretrained('autoscaling')"
    return {
        PYTHON: ([*python, "pass"], 0),
        PACKAGE: ([*python, "import flashfm"], 0),
        HELP: ([*flashfm, "--help"], 0),
        STATUS: ([*flashfm, "autoscale", "status", "--state", str(folder / "absent.db")], ABSENT),
        AGENT: ([*python, agent], 0),
        TORCH: ([*python, "import torch"], 0),
        SB3: ([*python, "import stable_baselines3"], 0),
    }


def start(command: Sequence[str], code: int) -> tuple[float, float]:
    """Milliseconds until it ended, and its peak memory in MiB, which is no less than that of this process."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    ms = 1e3 * (time.perf_counter() - begun)
    process.stderr.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != code:
        raise SystemExit(
            f"{' '.join(command)}: ended with {process.returncode}, expected {code}: {said.strip()[-300:]}"
        )
    return ms, used.ru_maxrss / 1024


def loaded() -> int:
    """Of the heavy libraries, how many `import flashfm` brings in."""
    script = f"import sys, flashfm; print(sum(name in sys.modules for name in {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return int(done.stdout)


def main() -> None:
    how = asked(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        of = commands(Path(folder))
        for command, code in of.values():
            start(command, code)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in of}
        for _ in range(how.rounds):
            for name, (command, code) in of.items():
                found[name].append(start(command, code))
    figures = Found(targets=TARGETS)
    figures.add({name: [ms for ms, _ in each] for name, each in found.items()}, "ms")
    own_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peaks = {f"{name}, peak memory": [mib for _, mib in each] for name, each in found.items()}
    figures.add({name: each for name, each in peaks.items() if min(each) > 1.1 * own_mib}, "MiB")
    figures.add({LOADED: [float(loaded())] * how.rounds}, "libraries")
    for ours, rival in ((HELP, PYTHON), (HELP, TORCH), (PACKAGE, TORCH), (STATUS, TORCH), (AGENT, SB3)):
        figures.compare(ours, rival)
    figures.tell(__file__, how, "one start of each in a round, after one that is not counted")


if __name__ == "__main__":
    main()
