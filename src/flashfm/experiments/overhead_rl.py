"""What the embedding costs in autoscaling: a decision, embedding a trajectory, an update, beside the paper's figures.

All arms run back to back in one process, warm and on one thread, five repetitions, as in `overhead_sl`. Decisions and
embeddings are those of the agent that ships; what is read is drawn at random and what is trained is as initialised,
since times depend on neither. The paper's own way stands beside ours: its GRU, run at each decision and trained through
the critic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flashfm.adapt.agent import AdaptedAgent, FlashAgent, Trajectory
from flashfm.datasets.files import write_whole
from flashfm.experiments import overhead_sl, results
from flashfm.experiments.overhead_sl import QUICK_SECONDS, REPETITIONS, SECONDS, measure, ratio
from flashfm.experiments.results import Row
from flashfm.models.agent_state import TOKEN
from flashfm.models.ddpg import Batch, Ddpg
from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.models.replay import Replay
from flashfm.models.threads import one_thread
from flashfm.models.trajectories import TrajectoryEncoder
from flashfm.pretraining.autoscaling import AutoscalingConfig
from flashfm.pretraining.end_to_end import EndToEndConfig, ThroughCritic
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS

PAIRS, QUICK_PAIRS = 32, 4
"""Pairs that the transitions of an update come from, each with one trajectory."""
DECISION, EMBEDDING, UPDATE = "one decision", f"embedding, {EPISODE_STEPS} steps", "one update"
GROUPS = (DECISION, EMBEDDING, UPDATE)
FIRM, CACHED = "FIRM: no embedding", "FLASH: cached embedding"
EACH_TIME = "FLASH, the paper's: GRU at each decision"
SET, GRU, ADAPT = "set encoder", "the paper's bidirectional GRU", "set encoder, FlashAgent.adapt"
THROUGH_SET, THROUGH_GRU = "set encoder, through the critic", "FLASH, the paper's: GRU through the critic"
PAPERS = MetaLearnerConfig()
"""The paper's meta-learner at its size; an embedding is as wide as that of the agent."""
BASES = {DECISION: FIRM, EMBEDDING: GRU, UPDATE: FIRM}
"""The arm by whose time the others of a group are divided."""
PRINTED = {DECISION: overhead_sl.PRINTED[overhead_sl.ONE], UPDATE: overhead_sl.PRINTED[overhead_sl.UPDATE]}
"""Without and with FLASH, in ms, and the printed ratio; on another machine."""
PRINTED_AS = {DECISION: (FIRM, EACH_TIME), UPDATE: (FIRM, THROUGH_GRU)}
"""The arms that do what was printed."""
TARGETS_MS = {(DECISION, CACHED): 0.5, (EMBEDDING, ADAPT): 5.0}
"""What this project is to reach."""

Calls = Mapping[str, Callable[[], object]]


def run(
    out: Path,
    folder: Path,
    *,
    quick: bool = False,
    on_step: Callable[[int, int], object] = lambda *_: None,
    model: str = "autoscaling",
) -> Path:
    """Time all arms, and write `overhead-rl.json` and its table.

    Args:
        out: times of each repetition; those of the same model are not taken again.
        folder: of the result file.
        quick: a tenth of the time for each arm, and updates of fewer pairs.
        on_step: told of the repetitions that are done and of all of them.
        model: name or folder of the agent.

    Returns:
        The result file.

    Raises:
        ArtifactError: no such model.
        DataError: a result cannot be written.
    """
    agent = FlashAgent.from_pretrained(model)
    out.mkdir(parents=True, exist_ok=True)
    pairs = QUICK_PAIRS if quick else PAIRS
    path = out / f"times-{pairs}-{agent.digest}.json"
    if not path.exists():
        with one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            arms = {**acting(agent), UPDATE: _updates(agent, pairs)}
            text = json.dumps(measure(arms, QUICK_SECONDS if quick else SECONDS, on_step)).encode()
        write_whole(path, lambda file: file.write(text))
    return _write(folder, json.loads(path.read_text()), pairs, quick=quick)


def acting(agent: FlashAgent) -> dict[str, Calls]:
    """Decisions for one pair, from NumPy to NumPy, and embeddings of one trajectory."""
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> Float[np.ndarray, "*shape"]:
        return rng.uniform(-1, 1, shape).astype(np.float32)

    steps, reward = EPISODE_STEPS, rng.random((EPISODE_STEPS, 1)).astype(np.float32)
    trajectory = Trajectory(drawn(steps + 1, 1, len(OBSERVATION)), drawn(steps, 1, len(ACTION)), reward)
    observation, tokens = drawn(1, len(OBSERVATION)), torch.from_numpy(drawn(1, 1, steps, TOKEN))
    adapted, encoder = agent.adapt(trajectory), agent.model.encoder
    gru = TrajectoryEncoder(TOKEN, replace(PAPERS, embed=encoder.meta.config.embed)).eval()
    embed = partial(_embed, gru, tokens)

    def each_time() -> Float[np.ndarray, "env action"]:
        return agent.model.act(torch.from_numpy(observation), embed()).numpy()

    return {
        DECISION: {
            FIRM: partial(AdaptedAgent(agent.model, None).act, observation),
            CACHED: partial(adapted.act, observation),
            EACH_TIME: each_time,
        },
        EMBEDDING: {GRU: embed, SET: partial(_embed, encoder, tokens), ADAPT: partial(agent.adapt, trajectory)},
    }


@torch.no_grad()
def _embed(
    encoder: TrajectoryEncoder, tokens: Float[Tensor, "env trajectory step token"]
) -> Float[Tensor, "env embed"]:
    embedding: Tensor = encoder(tokens)
    return embedding


def _updates(agent: FlashAgent, pairs: int) -> Calls:
    """One update of critic, actor and targets on a batch as in pretraining, with the encoder's where it is trained."""
    config, meta = AutoscalingConfig().agent, agent.model.encoder.meta.config
    gru = replace(PAPERS, embed=meta.embed)
    states, actions = (
        [torch.rand(1, config.batch, width) * 2 - 1 for _ in range(2)] for width in (len(OBSERVATION), len(ACTION))
    )
    batch = Batch(states[0], actions[0], torch.rand(1, config.batch), states[1], torch.zeros(1, config.batch, 0))
    cached = batch._replace(embedding=torch.rand(1, config.batch, meta.embed + 1))
    lived = Replay(1, EPISODE_STEPS, pairs, len(OBSERVATION), len(ACTION))
    lived.put({name: torch.rand(values.shape) * 2 - 1 for name, values in lived.newest().items()})

    def firm(embed: int) -> Ddpg:
        return Ddpg(1, len(OBSERVATION), len(ACTION), embed, config.ddpg)

    def through(kind: MetaLearnerConfig) -> Callable[[], object]:
        trained = ThroughCritic(EndToEndConfig(kind, pairs, every=1), seed=0)
        of = torch.arange(config.batch) % pairs
        shown = trained.shown(lived, torch.Generator())[of][None]
        return partial(trained.learn, firm(trained.width), batch._replace(embedding=shown), of[None], lived)

    return {
        FIRM: partial(firm(0).learn, batch),
        CACHED: partial(firm(meta.embed + 1).learn, cached),
        THROUGH_SET: through(meta),
        THROUGH_GRU: through(gru),
    }


def _write(folder: Path, found: Mapping[str, Mapping[str, Sequence[float]]], pairs: int, *, quick: bool) -> Path:
    rows, ratios = [], []
    for group, arms in found.items():
        n = pairs if group == UPDATE else 1
        for arm, times in arms.items():
            spread = float(np.std(times, ddof=1))
            rows.append(
                Row("simulated", arm, f"{group}, ms", float(np.mean(times)), float(np.median(times)), spread, n, n)
            )
            middle, low, high = ratio(times, arms[BASES[group]])
            ratios.append({"group": group, "arm": arm, "base": BASES[group], "ratio": middle, "low": low, "high": high})
    config = AutoscalingConfig().agent
    path = folder / "overhead-rl.json"
    results.write(
        path,
        command="flashfm reproduce overhead-rl" + (" --quick" if quick else ""),
        protocol=("quick: a tenth of the time; " if quick else "")
        + f"{REPETITIONS} repetitions back to back in one process, one thread, warm; each a median of calls over"
        f" {QUICK_SECONDS if quick else SECONDS:g} s; mean, median and sd over repetitions; a decision: one pair,"
        f" from a NumPy observation to an action; an embedding: one trajectory of {EPISODE_STEPS} steps; an update:"
        f" critic, actor and targets on {config.batch} transitions, through the critic with the encoder on one"
        f" trajectory of each of {pairs} pairs; the GRU has the paper's size, 2 x 256 in both directions; the paper's"
        " figures are of another machine (V100), and it does not say what one update holds",
        seeds=[0],
        rows=[*rows, *_printed()],
        more={"ratios": ratios, "times_ms": found},
        markdown_of=_page,
    )
    return path


def _printed() -> list[Row]:
    nan = float("nan")
    return [
        Row("paper's", arm, f"{group}, ms", value, nan, nan, 0, 0)
        for group, values in PRINTED.items()
        for arm, value in zip(PRINTED_AS[group], values, strict=False)
    ]


def _page(path: Path) -> str:
    """One line an arm, the paper's figures and this project's targets beside it."""
    content = json.loads(path.read_text())
    times = {(one["group"], one["arm"]): one for one in content["ratios"]}
    lines = ["| | arm | ms | range | ratio | the paper, ms | the paper, ratio | target, ms |", "|---|---|" + "---|" * 6]
    for group, arms in content["times_ms"].items():
        for arm, of in arms.items():
            figures = [f"{np.median(of):.3g}", f"{min(of):.3g} to {max(of):.3g}", f"{times[group, arm]['ratio']:.3g}"]
            lines.append("| " + " | ".join([group, arm, *figures, *_beside(group, arm)]) + " |")
    lines += ["", "Median and range of the repetitions. Ratio: over the first arm of the same kind."]
    return "\n".join(lines) + "\n"


def _beside(group: str, arm: str) -> tuple[str, str, str]:
    """What the paper prints for an arm, its ratio there, and this project's target."""
    target = TARGETS_MS.get((group, arm))
    words = "–" if target is None else f"{target:g}"
    base, with_flash = PRINTED_AS.get(group, ("", ""))
    if arm not in (base, with_flash):
        return "–", "–", words
    values = PRINTED[group]
    return f"{values[arm == with_flash]:g}", f"{values[2] if arm == with_flash else 1:g}", words
