"""Training and inference of our regressor beside LightGBM and the Gaussian process, on one thread.

All learn from the same 100 applications of the measured data set on Lambda, 600 rows, with the settings that they have
elsewhere, and are asked for every size of applications that they have not seen. What differs:

- Ours is trained once for any number of shots, and holds applications out for its intervals; LightGBM gives no interval
  and is trained anew for each number of shots, here three.
- The process is the prior of ours by itself, without learned likeness and without the network.
- Only ours and the process are asked as K grows from 1 to 50: at sizes that nobody measured, with run times and metrics
  between those that somebody did. LightGBM knows the six sizes that it was trained on.

Prints seconds of training and milliseconds of inference as the median over five rounds with their range, and the
exponents of inference over K.

    python benchmarks/regressors.py [--json] [--write] [--quick]

`--write` keeps the figures in results/regressors.json.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch
from _figures import Asked, Found, asked

from flashfm.adapt.fewshot import FlashRegressor
from flashfm.adapt.shots import read_shots
from flashfm.baselines.boosting import Boosting
from flashfm.experiments import evaluation
from flashfm.experiments.ours import FittedOurs
from flashfm.experiments.overhead_sl import TINY
from flashfm.models import hierarchical_gp
from flashfm.models.flash import FlashModel
from flashfm.pretraining.supervised import PretrainConfig, interactions_of, pretrain
from flashfm.tasks.config_search import Fitted, Observations, Shots

APPS, ASKED = 100, 100
"""Applications to train on, and others to ask about."""
SHOTS = 3
KS, QUICK_KS = (1, 2, 5, 10, 20, 50), (1, 5, 20)
SECONDS = 0.3
OURS, BOOSTING, GP = "flashfm", "LightGBM", "hierarchical GP"
PUBLIC = "flashfm, adapt and predict"
TRAINING = "training"


def training(train: Observations, how: Asked) -> tuple[dict[str, Callable[[], object]], dict[str, Fitted]]:
    """What trains each, and what it has trained once it was called."""
    config = TINY if how.quick else PretrainConfig()
    fitted: dict[str, Fitted] = {}

    def ours() -> None:
        model = pretrain(train, config, seed=0)
        fitted[OURS], fitted[GP] = FittedOurs(model, "flashfm"), FittedOurs(model, "hierarchical GP")

    def boosting() -> None:
        fitted[BOOSTING] = Boosting().fit(train, shots=SHOTS, seed=0)

    def process() -> None:
        hierarchical_gp.fit(train.features, train.log_runtime, interactions_of(train.space))

    return {OURS: ours, BOOSTING: boosting, GP: process}, fitted


def shots_of(data: Observations, tasks: int) -> Shots:
    """The same three sizes of so many pairs."""
    places = np.linspace(0, len(data.grid) - 1, SHOTS).astype(int)
    return data.shots(np.arange(tasks), np.tile(places, (tasks, 1)))


def many_shots(data: Observations, k: int) -> pd.DataFrame:
    """Rows of one pair at `k` sizes, in random order, between those that were measured."""
    known = data.grid["memory_mb"].to_numpy(np.float64)
    sizes = np.random.default_rng(0).permutation(np.linspace(known[0], known[-1], k).round())
    rows = {"memory_mb": sizes, "runtime_ms": np.exp(np.interp(sizes, known, data.log_runtime[0]))}
    for j, name in enumerate(data.metric_names):
        rows[f"{name}_mean"] = np.interp(sizes, known, data.metrics[0, :, j])
    return pd.DataFrame(rows)


def growth(found: Found, how: Asked, model: FlashModel, data: Observations) -> None:
    """Inference for one pair with K shots, over one grid that has all the sizes."""
    ks = QUICK_KS if how.quick else KS
    frame = many_shots(data, max(ks))
    extended, read = read_shots(model, frame)
    regressor = FlashRegressor(model)
    parts = {k: Shots(*(x[:, :k] for x in (read.shots.config, read.shots.log_runtime, read.shots.metrics))) for k in ks}
    calls: dict[str, Callable[[int], object]] = {
        OURS: lambda k: extended.forecast(parts[k]),
        GP: lambda k: extended.prior.gp.posterior(parts[k].config, parts[k].log_runtime),
        PUBLIC: lambda k: regressor.adapt(frame[:k], fine_tune=False).predict(),
    }
    for name, call in calls.items():
        times = how.time({str(k): partial(call, k) for k in ks}, SECONDS / 2)
        found.add({f"inference, K = {k}: {name}": times[str(k)] for k in ks}, "ms")
        found.grows(f"time of inference over K, {name}", {k: times[str(k)] for k in ks})


def main() -> None:
    how = asked(__doc__)
    torch.set_num_threads(1)
    data = evaluation.load("lambda")
    apps = sorted(data.apps)
    train, unseen = data.of_apps(apps[:APPS]), data.of_apps(apps[APPS : APPS + ASKED])
    arms, fitted = training(train, how)
    found = Found()
    times = how.time(arms, 0.0, least=1, warm=False)
    found.add({name: [ms / 1e3 for ms in of] for name, of in times.items()}, "s", TRAINING)
    for tasks in (1, len(unseen)):
        words = f"inference, {tasks} pair" + "s" * (tasks > 1)
        shots = shots_of(unseen, tasks)
        times = how.time({name: partial(one.predict, shots) for name, one in fitted.items()}, SECONDS)
        found.add(times, "ms", words)
        for other in (BOOSTING, GP):
            found.compare(OURS, other, words)
    for other in (BOOSTING, GP):
        found.compare(OURS, other, TRAINING)
    ours = fitted[OURS]
    assert isinstance(ours, FittedOurs)
    growth(found, how, ours.model, unseen)
    found.tell(__file__, how, f"{APPS} applications on Lambda; inference with {SHOTS} shots; one thread", pairs=APPS)


if __name__ == "__main__":
    main()
