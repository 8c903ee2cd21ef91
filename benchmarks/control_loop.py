"""How many deployments one controller holds on one core, beside the rules of HPA and VPA alone.

Samples are recorded once, from a simulated deployment, and given to every deployment again under its own name;
decisions are kept in SQLite as always, and what is to be set goes to a double that does nothing. So this is the whole
loop without the network. Prints milliseconds a step as the median over five rounds with their range, the share of a
period of 15 s that 1,000 deployments take, and the ratio to the rules alone, whose turn comes in each round.

    python benchmarks/control_loop.py [--json] [--write]

`--write` keeps the figures in results/control-loop.json.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import flashfm
from flashfm.act.autoscale import Terms
from flashfm.act.guardrails import Past, Setting, guard
from flashfm.controller.keeper import Target
from flashfm.controller.loop import Loop
from flashfm.controller.rules import Rules
from flashfm.controller.sample import Sample
from flashfm.controller.seen import Seen, see
from flashfm.controller.simulated import SimulatedBackend
from flashfm.controller.store import Store
from flashfm.experiments.results import Row, write
from flashfm.tasks.autoscaling.scenario import default, split
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS

ROUNDS, DEPLOYMENTS, PERIOD_S = 5, 1_000, 15.0
OURS, RIVAL, RESTORED = "the loop", "rules alone", "a deployment taken over from the store"


def recorded(steps: int) -> tuple[Terms, list[Sample]]:
    pair = split(default(0))[1].take(np.array([3]))
    backend, terms = SimulatedBackend(pair, steps=steps + 1), Terms(float(pair.params.slo_s[0]), 0.7)
    target = Target(pair.apps[0], terms)
    return terms, [backend.observe(target) for _ in range(steps)]


class Recorded:
    """Gives every deployment the samples of one, and does nothing."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples, self.at = samples, 0

    def now_s(self) -> float:
        return self.samples[self.at].time_s or 0.0

    def observe(self, target: Target) -> Sample:  # noqa: ARG002
        return self.samples[self.at]

    def act(self, target: Target, setting: Setting) -> None:
        """Nothing is set."""


def main() -> None:
    torch.set_num_threads(1)
    agent = flashfm.FlashAgent.from_pretrained("autoscaling")
    terms, samples = recorded(EPISODE_STEPS + 20 + ROUNDS)
    targets = [replace(Target(f"deployment-{i}", terms), acting=True) for i in range(DEPLOYMENTS)]
    found: dict[str, list[float]] = {OURS: [], RIVAL: [], RESTORED: []}
    with tempfile.TemporaryDirectory() as folder:
        store, backend = Store(Path(folder) / "state.db"), Recorded(samples)
        loop = Loop(backend, agent, store, clock=backend.now_s)
        rules: dict[str, tuple[Rules, Seen | None]] = {target.name: (Rules(), None) for target in targets}
        # a few are lived through from the start, the others begin when it is measured
        for at in range(EPISODE_STEPS + 20):
            backend.at = at
            for target in targets[: DEPLOYMENTS // 100]:
                loop.step(target)
        for round_ in range(ROUNDS):
            backend.at = EPISODE_STEPS + 20 + round_
            begun = time.perf_counter()
            for target in targets:
                loop.step(target)
            found[OURS].append(1e3 * (time.perf_counter() - begun) / DEPLOYMENTS)
            begun = time.perf_counter()
            for target in targets:
                rule, before = rules[target.name]
                seen = see(samples[backend.at], before, terms)
                guard(rule.decide(seen), seen.setting, seen.used, Past(), backend.now_s())
                rules[target.name] = (rule, seen)
            found[RIVAL].append(1e3 * (time.perf_counter() - begun) / DEPLOYMENTS)
            begun = time.perf_counter()
            for target in targets[: DEPLOYMENTS // 100]:
                store.restored(target, agent, loop.config)
            found[RESTORED].append(1e3 * (time.perf_counter() - begun) / (DEPLOYMENTS // 100))
    ratio = [a / b for a, b in zip(found[OURS], found[RIVAL], strict=True)]
    share = [ms * DEPLOYMENTS / 1e3 / PERIOD_S for ms in found[OURS]]
    figures = {f"{name}, ms": of for name, of in found.items()}
    figures |= {f"ratio to {RIVAL}": ratio, f"share of {PERIOD_S:g} s that {DEPLOYMENTS} deployments take": share}
    if "--write" in sys.argv:
        keep(figures)
    told = {name: {"median": statistics.median(of), "low": min(of), "high": max(of)} for name, of in figures.items()}
    if "--json" in sys.argv:
        print(json.dumps(told))
        return
    for name, of in told.items():
        print(f"{name}: {of['median']:.3g} ({of['low']:.3g} to {of['high']:.3g})")


def keep(figures: dict[str, list[float]]) -> None:
    rows = [
        Row("none", OURS, name, statistics.mean(of), statistics.median(of), statistics.stdev(of), DEPLOYMENTS, ROUNDS)
        for name, of in figures.items()
    ]
    write(
        Path(__file__).parents[1] / "results" / "control-loop.json",
        command="python benchmarks/control_loop.py --write",
        protocol=f"{ROUNDS} rounds, all in turn; {DEPLOYMENTS} deployments, recorded samples, SQLite, one thread",
        seeds=[0],
        rows=rows,
        more={"target_ms": 20.0, "target_deployments": DEPLOYMENTS, "period_s": PERIOD_S},
    )


if __name__ == "__main__":
    main()
