"""How many applications a second a fleet is answered at, from Parquet to Parquet on one core, beside one by one.

Each application has three shots: run times like those of pretraining's pairs, with noise and a level of its own. The
rival is the same model asked application by application, `adapt` then `recommend`. Sizes run as processes of their own,
whose peak memory is told. Prints applications a second as the median over rounds with their range, without fine-tuning
and with it where an application is novel, as one alone is answered; and the exponents of time and memory over the size.

    python benchmarks/fleet.py [--json] [--write] [--quick]

`--write` keeps the figures in results/fleet.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _figures import Found, asked

from flashfm.adapt.fewshot import FlashRegressor
from flashfm.engine.threads import SINGLE_THREAD
from flashfm.fleet import FleetSettings, recommend
from flashfm.models.threads import one_thread

SIZES, QUICK_SIZES = (10_000, 100_000), (500, 2_000)
LARGEST = 1_000_000
"""Run once, and not where it has to be quick."""
SHOTS, ALONE = 3, 50
"""Of each application; applications that are asked one by one in a round."""
FLEET, TUNED, ONE = "a fleet, no fine-tuning", "a fleet, novel ones fine-tuned", "one by one, no fine-tuning"
UNIT = "applications/s"
TARGET = {"at_least": 5000.0}


def rows(model: FlashRegressor, pairs: int, seed: int = 0) -> pd.DataFrame:
    """Pairs like those of pretraining, with noise and a level of their own, three random configurations each."""
    rng, flash = np.random.default_rng(seed), model.model
    by_shares = flash.grid["cpu_shares"].notna().to_numpy()
    of_lambda = np.array([platform == "lambda" for _, platform in model.pairs])
    shares = rng.random(pairs) < 0.5
    config, pair = np.empty((pairs, SHOTS), dtype=np.int64), np.empty(pairs, dtype=np.int64)
    for kind in (False, True):
        at = np.flatnonzero(shares == kind)
        known = np.tile(np.flatnonzero(by_shares == kind), (len(at), 1))
        config[at] = rng.permuted(known, axis=1)[:, :SHOTS]
        pair[at] = rng.choice(np.flatnonzero(of_lambda != kind), len(at))
    log_runtime = flash.prior.gp.profiles[pair[:, None], config]
    log_runtime = log_runtime + rng.normal(0, 0.05, config.shape) + rng.normal(0, 0.3, (pairs, 1))
    frame = flash.grid.iloc[config.ravel()].reset_index(drop=True)
    names = np.repeat([f"function-{i:07d}" for i in range(pairs)], SHOTS)
    platforms = np.repeat(np.where(shares, "openwhisk-1", "lambda"), SHOTS)
    return frame.assign(app=names, platform=platforms, runtime_ms=np.exp(log_runtime.ravel()))


def answer(data: str, tuned: str) -> None:
    """Answer for one file, in a process of its own, and print what it took."""
    model = FlashRegressor.from_pretrained("serverless-memory")
    settings = FleetSettings(fine_tune=None if tuned == "tuned" else False)
    with tempfile.TemporaryDirectory() as folder:
        begun_s, cpu_s = time.perf_counter(), time.process_time()
        summary = recommend(Path(data), Path(folder) / "plan.parquet", model, settings)
        wall_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
    # not ru_maxrss, which a process has from the one that started it, and that one has made the file
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak_mib = int(status["VmHWM"].split()[0]) / 1024
    told = {"wall_s": wall_s, "cpu_s": cpu_s, "peak_mib": peak_mib}
    print(json.dumps({**told, "fine_tuned": summary.fine_tuned, "bad": summary.bad}))


def timed(data: Path, tuned: bool) -> dict[str, Any]:
    """What a process took that answered for a file, and its peak memory."""
    command = [sys.executable, __file__, "answer", str(data), "tuned" if tuned else "plain"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | SINGLE_THREAD, check=False)
    if done.returncode:
        raise SystemExit(f"answering for {data} ended with {done.returncode}")
    return dict(json.loads(done.stdout))


def main() -> None:
    how = asked(__doc__)
    sizes = QUICK_SIZES if how.quick else SIZES
    model, found = FlashRegressor.from_pretrained("serverless-memory"), Found()
    per_s: dict[str, list[float]] = {FLEET: [], TUNED: [], ONE: []}
    wall_s: dict[int, list[float]] = {size: [] for size in sizes}
    peak: dict[int, list[float]] = {size: [] for size in sizes}
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder, one_thread():
        files = {size: Path(folder) / f"{size}.parquet" for size in sizes}
        for size, file in files.items():
            rows(model, size).to_parquet(file)
        few = [one for _, one in rows(model, ALONE, seed=1).groupby("app")]
        for _ in range(how.rounds):
            for size, file in files.items():
                took = timed(file, tuned=False)
                wall_s[size].append(took["wall_s"])
                peak[size].append(took["peak_mib"])
            per_s[FLEET].append(sizes[-1] / wall_s[sizes[-1]][-1])
            per_s[TUNED].append(sizes[0] / timed(files[sizes[0]], tuned=True)["wall_s"])
            begun_s = time.perf_counter()
            for one in few:
                model.adapt(one, fine_tune=False).recommend()
            per_s[ONE].append(len(few) / (time.perf_counter() - begun_s))
        if not how.quick:
            file = Path(folder) / f"{LARGEST}.parquet"
            rows(model, LARGEST).to_parquet(file)
            largest = timed(file, tuned=False)
            found.add({f"{LARGEST:,} applications, once": [largest["wall_s"]]}, "s")
            found.add({f"peak memory, {LARGEST:,} applications": [largest["peak_mib"]]}, "MiB")
    found.add(per_s, UNIT)
    found.compare(FLEET, ONE)
    found.targets[FLEET] = TARGET
    found.add({f"peak memory, {size:,} applications": of for size, of in peak.items()}, "MiB")
    found.grows("time over applications", wall_s)
    found.grows("peak memory over applications", peak)
    found.tell(__file__, how, f"{SHOTS} shots each, Parquet to Parquet, one thread", pairs=sizes[-1])


if __name__ == "__main__":
    if sys.argv[1:2] == ["answer"]:
        answer(*sys.argv[2:4])
    else:
        main()
