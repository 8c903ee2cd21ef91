"""How the autoscaling agent does on pairs unlike those of pretraining, and whether it notices.

Enters: a pretrained agent. Leaves: for each kind of foreign pairs which share is called novel after one warm-up and
after three, and the reward without an embedding, with it, and with it only where a pair is not novel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from flashfm.experiments.scaling import EPISODES, judge, model_acts
from flashfm.models.agent import AgentModel
from flashfm.models.novelty import LEVEL
from flashfm.pretraining.lived import collect
from flashfm.tasks.autoscaling.pairs import PairDistribution
from flashfm.tasks.autoscaling.scenario import default, split

ALPHA = 0.5
USUAL = PairDistribution()
FOREIGN: Mapping[str, PairDistribution] = {
    "as in pretraining": USUAL,
    "p99 over p50 of 10 to 30": replace(USUAL, tail=(10.0, 30.0)),
    "nodes of speed 0.1 to 0.2": replace(USUAL, node_speed=(0.1, 0.2)),
    "200 to 1000 MiB a request": replace(USUAL, request_mib=(200.0, 1000.0)),
    "3 to 10 GB held": replace(USUAL, held_mib=(3000.0, 10_000.0)),
    "objectives out of reach (0.3 to 0.8 of the latency)": replace(USUAL, slack=(0.3, 0.8)),
    "objectives of 30 to 100 times the latency": replace(USUAL, slack=(30.0, 100.0)),
}
"""Distributions of which one range lies outside that of pretraining."""


def foreign(model: AgentModel, *, tested: int, seed: int) -> list[dict[str, Any]]:
    """Judge the agent on each of `FOREIGN`, on applications that it was not pretrained on.

    Args:
        model: the agent.
        tested: applications.
        seed: of the warm-up episodes.

    Returns:
        For each kind its name, shares that are novel, rewards, and `shared_novel` and `embedded_novel`: rewards of the
        pairs that are novel after one warm-up, None where there are none.
    """
    found = []
    for name, distribution in FOREIGN.items():
        pairs = split(default(0, pair_distribution=distribution))[1].take(np.arange(tested))
        warm = collect(pairs.simulator(actions=model.actions, seed=31), model.shared, 3, 0.1, seed, (ALPHA, ALPHA))
        one, three = model.embed(warm[:, :1]), model.embed(warm)
        novel = model.p_value(one, 1) < LEVEL
        shared, embedded = (
            judge(pairs, model_acts(model, of, EPISODES), alpha=ALPHA, actions=model.actions).reward
            for of in (None, one)
        )
        found.append(
            {
                "pairs": name,
                "novel, 1 warm-up": float(novel.mean()),
                "novel, 3 warm-ups": float((model.p_value(three, 3) < LEVEL).mean()),
                "shared": float(shared.mean()),
                "embedded": float(embedded.mean()),
                "gated": float(np.where(novel, shared, embedded).mean()),
                "shared_novel": float(shared[novel].mean()) if novel.any() else None,
                "embedded_novel": float(embedded[novel].mean()) if novel.any() else None,
            }
        )
    return found


def table(found: list[dict[str, Any]]) -> str:
    """What `foreign` found, as Markdown."""
    lines = [
        "| pairs, alpha 0.5 | novel after 1 / 3 warm-ups | reward without embedding | with it | with it unless novel |"
        " novel pairs without / with it |",
        "|---|---|---|---|---|---|",
    ]
    for of in found:
        novel = f"{of['novel, 1 warm-up']:.2f} / {of['novel, 3 warm-ups']:.2f}"
        rewards = f"{of['shared']:.3f} | {of['embedded']:.3f} | {of['gated']:.3f}"
        both = (of["shared_novel"], of["embedded_novel"])
        lines.append(
            f"| {of['pairs']} | {novel} | {rewards} | {' / '.join('–' if x is None else f'{x:.3f}' for x in both)} |"
        )
    return "\n".join(lines) + "\n"
