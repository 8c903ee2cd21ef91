"""What limits growth: the share of work that one process does for all workers, and what grows with pretraining's pairs.

A fleet is answered by an engine that keeps two times apart: that of the process that hands chunks out, which reads,
packs, unpacks and writes, and that of the work, which is shared. From both follow, by arithmetic alone, the most that
one such process can hand out, the cores at which it is the limit, and the time of a million applications on so many
cores; a network's time is not in it, what would travel is told in bytes.

Pretraining is timed on 100 to 3,000 applications made like those of pretraining, with few steps of its networks, whose
number is bounded: what is left is what grows. Of each model: inference for one pair, and the size of its artefact.

    python benchmarks/how_far.py [--json] [--write] [--quick]

`--write` keeps the figures in results/how-far.json.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from _figures import Asked, Found, asked
from fleet import rows

from flashfm.adapt.fewshot import FlashRegressor
from flashfm.engine.base import OnTold, R, T, Told, named
from flashfm.engine.task import pack, perform, result_of
from flashfm.experiments import evaluation
from flashfm.experiments.overhead_sl import TINY
from flashfm.fleet import FleetSettings, recommend
from flashfm.models.threads import one_thread
from flashfm.pretraining.supervised import pretrain
from flashfm.tasks.config_search import Observations

PAIRS, QUICK_PAIRS = 20_000, 1_000
KNOWN, QUICK_KNOWN = (100, 300, 1_000, 3_000), (5, 10)
"""Applications to pretrain on."""
MANY, CORES = 1_000_000, (1, 2, 16, 1_600)
"""Applications, and cores, of the model."""
ASKED, SHOTS, SECONDS = 100, 3, 0.3


class Apart:
    """An engine that works here as one with workers does, and keeps the time of the work apart."""

    workers = 1

    def __init__(self) -> None:
        self.work_s, self.bytes = 0.0, 0

    def run(
        self,
        work: Callable[[T, Told], R],
        items: Mapping[str, T] | Iterable[tuple[str, T]],
        on_told: OnTold = lambda *_: None,
        *,
        ordered: bool = False,
    ) -> Iterator[tuple[str, R]]:
        """Work on one item after the other; see `flashfm.engine.base.Engine.run`."""
        del on_told, ordered
        call = pack(work, "the work")
        for name, item in named(items):
            packed = pack(item, name)
            begun_s = time.perf_counter()
            made = perform(call, packed, lambda *_: None)
            self.work_s += time.perf_counter() - begun_s
            self.bytes += len(packed) + len(made)
            yield name, result_of(name, made)


def fleets(found: Found, how: Asked) -> None:
    """The two times of a fleet, and what follows from them."""
    pairs = QUICK_PAIRS if how.quick else PAIRS
    model, settings = FlashRegressor.from_pretrained("serverless-memory"), FleetSettings(fine_tune=False)
    alone: list[float] = []
    shared: list[float] = []
    sent: list[float] = []
    with tempfile.TemporaryDirectory(prefix="how-far-") as folder:
        data, out = Path(folder) / "fleet.parquet", Path(folder) / "plan.parquet"
        rows(model, pairs).to_parquet(data)
        for _ in range(how.rounds):
            engine, begun_s = Apart(), time.perf_counter()
            recommend(data, out, model, settings, engine=engine)
            whole_s = time.perf_counter() - begun_s
            shared.append(engine.work_s / pairs)
            alone.append((whole_s - engine.work_s) / pairs)
            sent.append(engine.bytes / pairs)
    found.add({"a fleet: work that is shared": [1e3 * 1e3 * s for s in shared]}, "ms per 1,000")
    found.add({"a fleet: work of the one process": [1e3 * 1e3 * s for s in alone]}, "ms per 1,000")
    found.add({"a fleet: sent there and back": sent}, "bytes per application")
    found.add({"a fleet: the most that one process hands out": [1 / s for s in alone]}, "applications/s")
    found.add({"a fleet: cores that it keeps busy": [w / s for w, s in zip(shared, alone, strict=True)]}, "cores")
    for cores in CORES:
        took = [MANY * max(s, (s + w) / cores) for w, s in zip(shared, alone, strict=True)]
        found.add({f"a fleet of {MANY:,}, reckoned: {cores:,} cores": took}, "s")


def like(data: Observations, pairs: int) -> Observations:
    """So many applications like those that were measured, with a level and noise of their own."""
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(data), size=pairs)
    level = rng.normal(0, 0.3, (pairs, 1))
    noise = rng.normal(0, 0.05, (pairs, data.log_runtime.shape[1]))
    names = tuple((f"function-{i:07d}", data.pairs[j][1]) for i, j in enumerate(chosen))
    runtime, metrics = data.log_runtime[chosen] + level + noise, data.metrics[chosen]
    return Observations(data.space, data.grid, names, runtime, metrics, data.metric_names)


def models(found: Found, how: Asked) -> None:
    """Pretraining on more and more applications, and what its models cost."""
    measured, known = evaluation.load("lambda"), QUICK_KNOWN if how.quick else KNOWN
    places = np.linspace(0, len(measured.grid) - 1, SHOTS).astype(int)
    shots = measured.shots(np.arange(ASKED), np.tile(places, (ASKED, 1)))
    trained: dict[int, list[float]] = {}
    asked_ms: dict[int, list[float]] = {}
    size: dict[int, list[float]] = {}
    for pairs in known:
        data = like(measured, pairs)
        begun_s = time.perf_counter()
        model = pretrain(data, TINY, seed=0)
        trained[pairs] = [time.perf_counter() - begun_s]
        asked_ms[pairs] = how.time({"": partial(model.forecast, shots)}, SECONDS)[""]
        with tempfile.TemporaryDirectory() as folder:
            FlashRegressor(model).save_pretrained(Path(folder) / "model")
            size[pairs] = [sum(path.stat().st_size for path in (Path(folder) / "model").iterdir()) / 2**20]
    for what, unit, of in (
        ("pretraining, few steps, once", "s", trained),
        (f"inference for {ASKED} pairs", "ms", asked_ms),
        ("artefact", "MiB", size),
    ):
        found.add({f"{pairs:,} applications": values for pairs, values in of.items()}, unit, what)
        found.grows(f"{what}, over pretraining's applications", of)


def main() -> None:
    how, found = asked(__doc__), Found()
    with one_thread():
        fleets(found, how)
        models(found, how)
    found.tell(__file__, how, f"{SHOTS} shots each, no fine-tuning, one thread; cores are reckoned, not used")


if __name__ == "__main__":
    main()
