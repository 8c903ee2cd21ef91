"""Two local workers against one, on work that does not depend on each other and on one training; one is this process.

- A fleet: recommendations for applications with three shots, from Parquet to Parquet, in parts. One process reads the
  rows and writes the plan for all workers.
- Experiments: models for configuration search, each pretrained from a seed of its own, as splits and seeds are.

- One training by both: a model for configuration search, whose networks are shared out and then trained by both, with
  the prior computed by each; and an agent, on as many pairs as the shipped one, each with its share of them. There is
  no target: how much of it can be shared out is what is asked.

Each round starts workers anew for each work. Their start, until both have loaded what it needs, is told apart: what a
run of any length pays once. Both ratios are given, without it and with it, which rests on how long the run is; the
target is of the first, and holds where the machine has two cores and nothing else to do. Plans, and models of
independent work, must be the same.

    python benchmarks/workers.py [--json] [--write] [--quick]

`--write` keeps the figures in results/workers.json.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from _figures import Asked, Found, asked
from _work import agent, loaded, trained
from fleet import rows

from flashfm.adapt.fewshot import FlashRegressor
from flashfm.engine.base import Engine
from flashfm.engine.choose import engine_of
from flashfm.engine.group import run_together
from flashfm.experiments import evaluation
from flashfm.experiments.overhead_sl import TINY
from flashfm.fleet import FleetSettings, recommend
from flashfm.models.hierarchical_gp import PriorConfig
from flashfm.pretraining.supervised import PretrainConfig, pretrain
from flashfm.tasks.config_search import Observations

PAIRS, QUICK_PAIRS = 100_000, 2_000
PART_PAIRS, QUICK_PART_PAIRS = 10_000, 250
MODELS, QUICK_MODELS = 8, 2
APPS, QUICK_APPS = 60, 12
"""That each model is pretrained on."""
QUICK_CONFIG = replace(TINY, prior=PriorConfig(steps=15, em_steps=5), members=1)
TOGETHER = PretrainConfig(least_steps=100, most_steps=100, likeness_steps=3, likeness_tasks=50, sets=2, cross_folds=3)
"""Few steps of networks as the shipped model has them."""
AGENT, QUICK_AGENT = (800, 4, 6), (8, 1, 2)
"""Applications, environments of each, and episodes."""
MODEL, AGENTS = "one model by both", "one agent by both"
ONE, TWO, STARTED = "one worker", "two workers", "two workers, their start counted"
FLEET, EXPERIMENTS, START = "a fleet", "experiments", "the start of two workers"
TARGET = {"at_least": 1.7}
Work = Callable[[Engine], object]


def answered(data: Path, model: FlashRegressor, settings: FleetSettings, engine: Engine) -> bytes:
    """The plan of a fleet."""
    with tempfile.TemporaryDirectory() as folder:
        recommend(data, Path(folder) / "plan.parquet", model, settings, engine=engine)
        return (Path(folder) / "plan.parquet").read_bytes()


def pretrained(data: Observations, config: PretrainConfig, models: int, engine: Engine) -> list[tuple[str, float]]:
    """What models expect that were pretrained from so many seeds."""
    return sorted(engine.run(partial(trained, data, config), {str(seed): seed for seed in range(models)}))


def timed(work: Work, engine: Engine) -> tuple[float, object]:
    """Seconds that it takes, and what comes of it."""
    begun_s = time.perf_counter()
    made = work(engine)
    return time.perf_counter() - begun_s, made


def together(found: Found, how: Asked, data: Observations) -> None:
    """One model, and one agent, by one worker and by two; of the agent the training alone."""
    config = QUICK_CONFIG if how.quick else TOGETHER
    rounds = range(how.rounds)
    seconds: dict[str, dict[str, list[float]]] = {of: {ONE: [], TWO: []} for of in (MODEL, AGENTS)}
    learn = partial(agent, *(QUICK_AGENT if how.quick else AGENT))
    for _ in rounds:
        for workers, name in ((1, ONE), (2, TWO)):
            with engine_of(workers=workers) as engine:
                list(engine.run(loaded, {str(i): None for i in range(workers)}))
                took, _model = timed(lambda engine: pretrain(data, config, engine=engine), engine)
                seconds[MODEL][name].append(took)
                seconds[AGENTS][name].append(max(run_together(engine, learn, workers)))
    for of, figures in seconds.items():
        found.add(figures, "s", of)
        found.compare(TWO, ONE, of)


def main() -> None:
    how = asked(__doc__)
    data, found = evaluation.load("lambda"), Found()
    pairs, models = (QUICK_PAIRS, QUICK_MODELS) if how.quick else (PAIRS, MODELS)
    apps = sorted(data.apps)[: QUICK_APPS if how.quick else APPS]
    settings = FleetSettings(fine_tune=False, part_pairs=QUICK_PART_PAIRS if how.quick else PART_PAIRS)
    model, config = FlashRegressor.from_pretrained("serverless-memory"), QUICK_CONFIG if how.quick else TINY
    took: dict[str, dict[str, list[float]]] = {of: {ONE: [], TWO: [], STARTED: []} for of in (FLEET, EXPERIMENTS)}
    start_s: dict[str, list[float]] = {FLEET: [], EXPERIMENTS: []}
    with tempfile.TemporaryDirectory(prefix="workers-") as folder, engine_of() as one:
        path, few = Path(folder) / "rows.parquet", Path(folder) / "few.parquet"
        rows(model, pairs).to_parquet(path)
        rows(model, 2).to_parquet(few)
        works: dict[str, Work] = {
            FLEET: partial(answered, path, model, settings),
            EXPERIMENTS: partial(pretrained, data.of_apps(apps), config, models),
        }
        loading: dict[str, Work] = {
            FLEET: partial(answered, few, model, FleetSettings(fine_tune=False, part_pairs=1)),
            EXPERIMENTS: lambda two: list(two.run(loaded, {"one": None, "other": None})),
        }
        for _ in range(how.rounds):
            for of, work in works.items():
                alone_s, expected = timed(work, one)
                with engine_of(workers=2) as two:
                    started_s, _ = timed(loading[of], two)
                    seconds, made = timed(work, two)
                if made != expected:
                    raise SystemExit(f"{of}: two workers made something else than one")
                start_s[of].append(started_s)
                for name, value in ((ONE, alone_s), (TWO, seconds), (STARTED, started_s + seconds)):
                    took[of][name].append(value)
    for of, number, unit in ((FLEET, pairs, "applications/s"), (EXPERIMENTS, models, "models/s")):
        found.add({name: [number / seconds for seconds in values] for name, values in took[of].items()}, unit, of)
        ratio = found.compare(TWO, ONE, of)
        found.compare(STARTED, ONE, of)
        found.add({START: start_s[of]}, "s", of)
        if len(os.sched_getaffinity(0)) > 1:
            found.targets[ratio] = TARGET
    together(found, how, data.of_apps(apps))
    words = f"{pairs:,} applications with three shots each in parts of {settings.part_pairs:,}; {models} models of"
    found.tell(__file__, how, f"{words} {len(apps)} applications; one thread a worker", pairs=pairs)


if __name__ == "__main__":
    main()
