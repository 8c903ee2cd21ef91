"""What benchmarks measure with: arms that take turns, and the figures, ratios and exponents that come of it.

Enters: what to call, or values of each round. Leaves: lines, JSON or a result file, in the form of `_form.py`. Medians
are over rounds, and in each round every arm has its turn, so that the machine's mood hits them alike. Only the standard
library is imported here: peak memory is that of what is measured.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from _form import AGAINST, PARTS, Told, lines, rows, spread

ROUNDS, QUICK_ROUNDS = 5, 2
QUICK = 0.1
"""Share of the time that an arm has in a round where it has to be quick."""
Arms = Mapping[str, Callable[[], object]]
Times = dict[str, list[float]]
"""Arm -> median time of a call in ms, of each round."""


@dataclass(frozen=True)
class Asked:
    """What the command line asks for."""

    as_json: bool
    write: bool
    quick: bool

    @property
    def rounds(self) -> int:
        """Rounds of all arms."""
        return QUICK_ROUNDS if self.quick else ROUNDS

    def time(self, arms: Arms, seconds: float, *, least: int = 5, warm: bool = True) -> Times:
        """Call every arm in each round.

        Args:
            arms: what is timed.
            seconds: that each arm has in a round.
            least: calls of each arm in a round, whatever they take.
            warm: call each arm once before.
        """
        for call in arms.values() if warm else ():
            call()
        found: Times = {name: [] for name in arms}
        for _ in range(self.rounds):
            for name, call in arms.items():
                found[name].append(_median_ms(call, seconds * (QUICK if self.quick else 1.0), least))
        return found


def asked(description: str | None) -> Asked:
    """Read the command line of a benchmark."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print all as one line of JSON")
    parser.add_argument("--write", action="store_true", help="keep the figures below results/")
    parser.add_argument("--quick", action="store_true", help="less of everything: figures without weight")
    args = parser.parse_args()
    return Asked(args.json, args.write, args.quick)


@dataclass
class Found:
    """What a benchmark found; the values are those of each round."""

    figures: dict[str, tuple[str, list[float]]] = field(default_factory=dict)
    """Name -> unit, values."""
    ratios: dict[str, list[float]] = field(default_factory=dict)
    exponents: dict[str, list[float]] = field(default_factory=dict)
    targets: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, values: Mapping[str, Sequence[float]], unit: str, group: str = "") -> None:
        """Figures in one unit, one for each arm, called `GROUP: ARM` where there is a group."""
        before = f"{group}: " if group else ""
        self.figures |= {before + name: (unit, list(of)) for name, of in values.items()}

    def compare(self, ours: str, rival: str, group: str = "") -> str:
        """How many times as fast one figure is as another, round by round: of times, or of what is done in a second.

        Args:
            ours: name of the figure, or of an arm.
            rival: likewise.
            group: of both arms, whose figures are called `GROUP: ARM`.

        Returns:
            The name of the ratio.
        """
        before = f"{group}: " if group else ""
        (unit, mine), (_, its) = self.figures[before + ours], self.figures[before + rival]
        above, below = (mine, its) if unit.endswith("/s") else (its, mine)
        name = f"{before}{ours}{AGAINST}{rival}"
        self.ratios[name] = [a / b for a, b in zip(above, below, strict=True)]
        return name

    def grows(self, name: str, costs: Mapping[int, Sequence[float]]) -> str:
        """The exponent that fits costs best as the work grows: the slope between their logarithms, round by round.

        Args:
            name: what grows with what.
            costs: size -> cost in each round, at least two sizes, all above 0.

        Returns:
            The name.
        """
        sizes = [math.log(size) for size in costs]
        self.exponents[name] = [
            statistics.linear_regression(sizes, [math.log(cost) for cost in of]).slope
            for of in zip(*costs.values(), strict=True)
        ]
        return name

    def told(self) -> Told:
        """All of it in the form of `_form.py`."""
        figures = {name: spread(values, unit) for name, (unit, values) in self.figures.items()}
        others = {part: {name: spread(values) for name, values in getattr(self, part).items()} for part in PARTS[:2]}
        return {"figures": figures, **others, "targets": self.targets}

    def tell(self, file: str, asked: Asked, protocol: str, *, pairs: int = 0) -> None:
        """Print all of it, and keep it where that is asked for.

        Args:
            file: of the benchmark.
            asked: how.
            protocol: how the figures were obtained.
            pairs: that they rest on.
        """
        told, path = self.told(), Path(file)
        if asked.write:
            from flashfm.experiments.results import write

            quick = " --quick" if asked.quick else ""
            write(
                path.resolve().parents[1] / "results" / f"{path.stem.replace('_', '-')}.json",
                command=f"python benchmarks/{path.name}{quick} --write",
                protocol=("quick: " if asked.quick else "") + f"{asked.rounds} rounds, all in turn in each; {protocol}",
                seeds=[0],
                rows=rows(told, "none", pairs),
                more={"targets": self.targets},
            )
        if asked.as_json:
            print(json.dumps(told))
            return
        for line in lines(told):
            print(line)


def _median_ms(call: Callable[[], object], seconds: float, least: int) -> float:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)
