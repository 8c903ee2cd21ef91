"""What the embedding costs in configuration search: latency of inference and of an update, with it and without.

All arms run back to back in one process and on one thread, five repetitions, so that the machine's mood hits them
alike; weights are as initialised, since times do not depend on them, and our model is trained for a few steps only.
Both systems of the paper read the measured data set with one shot, ours its whole prior over all of that data.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from flashfm.adapt.fewshot import FlashRegressor
from flashfm.datasets.files import write_whole
from flashfm.experiments import evaluation, results
from flashfm.experiments.ours import Ours
from flashfm.experiments.results import Row
from flashfm.models.flash import FlashConfig, FlashModel, FlashNet
from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.models.regressor import FlashSizeless, RegressorConfig, SizelessRegressor
from flashfm.models.threads import one_thread
from flashfm.pretraining.paper import FittedPaper, Inputs
from flashfm.pretraining.supervised import PretrainConfig
from flashfm.reporting.comparisons import time_ranges
from flashfm.tasks.config_search import Observations

REPETITIONS = 5
BATCH, QUERIES, SHOTS, MANY = 64, 8, 3, 20
"""Tasks a step, configurations asked of each, shots of each in a step; pairs of a large call."""
SECONDS, QUICK_SECONDS = 1.0, 0.1
"""Each repetition calls each arm for so long, but 5 times at least."""
ONE, TWENTY, UPDATE = "inference, one pair", f"inference, {MANY} pairs", "update"
GROUPS = (ONE, TWENTY, UPDATE)
SIZELESS, FLASH = "Sizeless", "FLASH-Sizeless"
GRU = "FLASH-Sizeless, its GRU alone"
TENSORS, PUBLIC, NET = "flashfm, tensors", "flashfm, adapt and predict", "flashfm, one of its networks"
BASES = {FLASH: SIZELESS, GRU: FLASH, TENSORS: SIZELESS, PUBLIC: SIZELESS, NET: SIZELESS}
"""What each arm's time is divided by."""
PRINTED = {ONE: (2.3, 8.1, 3.5), UPDATE: (1210.0, 4950.0, 4.1)}
"""Of FIRM, the autoscaling agent, on the paper's machine, in ms: without and with FLASH, and the printed ratio."""
PRINTED_GRU = 0.75
TINY = PretrainConfig(least_steps=40, most_steps=40, likeness_steps=3, likeness_tasks=50, sets=2)

Arms = Mapping[str, Mapping[str, Callable[[], object]]]
"""Group -> arm -> what is timed."""


def run(
    folder: Path, results_folder: Path, *, quick: bool = False, on_step: Callable[[int, int], object] = lambda *_: None
) -> Path:
    """Time what is missing below `folder`, then write `overhead-sl.json`, its table and its picture.

    Args:
        folder: times of each repetition, and our model.
        results_folder: where results go.
        quick: a tenth of the time for each arm.
        on_step: told of the repetitions that are done and of all of them.

    Returns:
        Path of `overhead-sl.json`.

    Raises:
        DataError: a file there is damaged, or a result cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "times.json"
    if not path.exists():
        data = evaluation.load("measured")
        model = Ours(store=folder / "model", config=TINY).model(data, 0)
        with one_thread():
            arms = {**inference(data, model), UPDATE: _updates(data, model)}
            found = measure(arms, QUICK_SECONDS if quick else SECONDS, on_step)
        text = json.dumps(found).encode()
        write_whole(path, lambda file: file.write(text))
    return _write(results_folder, json.loads(path.read_text()), quick)


def measure(
    arms: Arms, seconds: float, on_step: Callable[[int, int], object] = lambda *_: None
) -> dict[str, dict[str, list[float]]]:
    """Median time of a call in ms, for each group, arm and repetition; in a repetition all arms take turns."""
    found: dict[str, dict[str, list[float]]] = {group: {arm: [] for arm in of} for group, of in arms.items()}
    for calls in arms.values():
        for call in calls.values():
            call()
    for repetition in range(REPETITIONS):
        for group, calls in arms.items():
            for arm, call in calls.items():
                found[group][arm].append(_median_ms(call, seconds))
        on_step(repetition + 1, REPETITIONS)
    return found


def ratio(arm: Sequence[float], base: Sequence[float]) -> tuple[float, float, float]:
    """Ratio of the medians of two arms, with the smallest and largest ratio of a repetition."""
    each = np.array(arm) / np.array(base)
    return float(np.median(arm) / np.median(base)), float(each.min()), float(each.max())


def _median_ms(call: Callable[[], object], seconds: float) -> float:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def _paper(inputs: Inputs, shots: int) -> tuple[SizelessRegressor, FlashSizeless]:
    """Both systems of the paper with its shapes, as initialised."""
    shot = inputs.configs.shape[1] + len(inputs.metrics) + 1
    features = shots * shot + inputs.configs.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flash = FlashSizeless(features, shot, RegressorConfig(), MetaLearnerConfig())
        return SizelessRegressor(features, RegressorConfig()), flash


def inference(data: Observations, model: FlashModel) -> dict[str, dict[str, Callable[[], object]]]:
    """One shot each of pairs of one platform, asked for every configuration."""
    inputs = Inputs.fit(data)
    sizeless, flash = _paper(inputs, 1)
    systems = {SIZELESS: FittedPaper(sizeless.eval(), inputs, 1), FLASH: FittedPaper(flash.eval(), inputs, 1)}
    regressor = FlashRegressor(model)
    pairs = np.array([i for i, (_, platform) in enumerate(data.pairs) if platform == "lambda"][:MANY])
    place = np.array([[data.observed[i][0]] for i in pairs])
    found: dict[str, dict[str, Callable[[], object]]] = {}
    for group, n in ((ONE, 1), (TWENTY, MANY)):
        shots = data.shots(pairs[:n], place[:n])
        frame = frame_of(data, pairs[:n], place[:n, 0])
        arms: dict[str, Callable[[], object]] = {
            name: partial(system.predict, shots) for name, system in systems.items()
        }
        arms[TENSORS] = partial(model.forecast, shots)
        arms[PUBLIC] = partial(_adapt_and_predict, regressor, frame) if n == 1 else partial(regressor.predict, frame)
        found[group] = arms
    return found


def _adapt_and_predict(regressor: FlashRegressor, frame: pd.DataFrame) -> pd.DataFrame:
    return regressor.adapt(frame).predict()


def frame_of(data: Observations, pairs: np.ndarray, place: np.ndarray) -> pd.DataFrame:
    """Rows as a user has them."""
    frame = data.grid.iloc[place].reset_index(drop=True)
    frame.insert(0, "platform", [data.pairs[i][1] for i in pairs])
    frame.insert(0, "app", [data.pairs[i][0] for i in pairs])
    frame["runtime_ms"] = np.exp(data.log_runtime[pairs, place])
    for j, name in enumerate(data.metric_names):
        frame[f"{name}_mean"] = data.metrics[pairs, place, j]
    return frame


def _updates(data: Observations, model: FlashModel) -> dict[str, Callable[[], object]]:
    """One step of Adam each: forward, backward and weights, on `BATCH` tasks of `SHOTS` shots and `QUERIES` queries."""
    inputs = Inputs.fit(data)
    sizeless, flash = _paper(inputs, SHOTS)
    shot = inputs.configs.shape[1] + len(inputs.metrics) + 1
    features = SHOTS * shot + inputs.configs.shape[1]
    rng = torch.Generator().manual_seed(0)
    seen = torch.ones(BATCH, SHOTS, dtype=torch.bool)

    def drawn(*sizes: int) -> Float[Tensor, "*shape"]:
        return torch.randn(*sizes, generator=rng)

    asked, shots = drawn(BATCH, QUERIES, features), drawn(BATCH, SHOTS, shot)
    hidden = drawn(BATCH, SHOTS, flash.meta_learner.config.hidden)
    gru = flash.meta_learner.body
    token, configs = model.tokens(data.shots(np.array([0]), data.observed[0][None, :1])).shape[-1], len(model.grid)
    query = model.features.shape[1] + 4
    net = FlashNet(token, query, model.nets[0].config if model.nets else FlashConfig())
    tokens, queries = drawn(BATCH, SHOTS, token), drawn(BATCH, configs, query)
    return {
        SIZELESS: _step(sizeless, lambda: sizeless(asked).abs().mean() + 0.01 * sizeless.kernel_penalty()),
        FLASH: _step(flash, lambda: flash(asked, shots, seen).abs().mean() + 0.01 * flash.kernel_penalty()),
        GRU: _step(gru, lambda: gru(hidden)[0].abs().mean()),
        NET: _step(net, lambda: net(tokens, seen, queries)[0].abs().mean()),
    }


def _step(network: nn.Module, loss: Callable[[], Float[Tensor, ""]]) -> Callable[[], object]:
    network.train()
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        torch.autograd.backward(loss())
        optimiser.step()

    return step


@dataclass(frozen=True)
class _Ratio:
    group: str
    arm: str
    base: str
    ratio: float
    low: float
    high: float


def _write(folder: Path, found: Mapping[str, Mapping[str, Sequence[float]]], quick: bool) -> Path:
    rows, ratios, drawn = [], [], []
    for group, arms in found.items():
        pairs, queries = {ONE: (1, 1), TWENTY: (MANY, MANY), UPDATE: (BATCH, BATCH * QUERIES)}[group]
        for arm, times in arms.items():
            middle, low, high = float(np.median(times)), min(times), max(times)
            spread = float(np.std(times, ddof=1))
            k = SHOTS if group == UPDATE else 1
            rows.append(Row("measured", arm, f"{group}, ms", float(np.mean(times)), middle, spread, pairs, queries, k))
            words = f"{middle:.2g} ms"
            if arm in BASES and BASES[arm] in arms:
                several = ratio(times, arms[BASES[arm]])
                ratios.append(_Ratio(group, arm, BASES[arm], *several))
                metric = f"{group}, times {BASES[arm]}"
                each = np.array(times) / np.array(arms[BASES[arm]])
                spread = float(each.std(ddof=1))
                rows.append(Row("measured", arm, metric, float(each.mean()), several[0], spread, pairs, queries, k))
                words += f" ({several[0]:.2g} x)" if arm != GRU else f" ({100 * several[0]:.0f} % of it)"
            drawn.append({"group": group, "arm": arm, "ms": middle, "low": low, "high": high, "words": words})
    path = folder / "overhead-sl.json"
    results.write(
        path,
        command="flashfm reproduce overhead-sl" + (" --quick" if quick else ""),
        protocol=("quick: a tenth of the time; " if quick else "")
        + f"{REPETITIONS} repetitions back to back in one process, one thread; each a median of calls over"
        f" {QUICK_SECONDS if quick else SECONDS:g} s; mean, median and sd over repetitions; inference: one shot, every"
        f" configuration; update: one step of Adam on {BATCH} tasks of {SHOTS} shots and {QUERIES} queries (flashfm:"
        " every configuration; it trains several networks in turn); the paper's figures are those of FIRM, its"
        " autoscaling agent, on another machine",
        seeds=[0],
        rows=[*rows, *_printed()],
        more={"ratios": [vars(r) for r in ratios], "times_ms": found},
    )
    time_ranges(
        pd.DataFrame(drawn),
        folder / "overhead-sl.png",
        title="What the embedding costs",
        note=f"median and range of {REPETITIONS} repetitions; in brackets: times Sizeless",
    )
    return path


def _printed() -> list[Row]:
    nan = float("nan")
    rows = []
    for group, (base, flash, times) in PRINTED.items():
        for arm, value in (("FIRM, as printed", base), ("FLASH-FIRM, as printed", flash)):
            rows.append(Row("paper's", arm, f"{group}, ms", value, nan, nan, 0, 0))
        rows.append(Row("paper's", "FLASH-FIRM, as printed", f"{group}, times FIRM", times, nan, nan, 0, 0))
    rows.append(Row("paper's", "its GRU, as printed", "update, share of FLASH-FIRM", PRINTED_GRU, nan, nan, 0, 0))
    return rows
