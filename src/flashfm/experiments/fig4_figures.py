"""The figures of `reproduce fig4`: reward drops, how long arms take to adapt, and at what cost.

Enters: rewards of each arm in each pair, and what happened while arms adapted. Leaves: plain numbers with intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from flashfm.experiments.adapting import Lived, Rewards
from flashfm.experiments.guarded import EMBEDDED, TUNED, Guarded
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS

OTHER = "FIRM of another application"
SHARES = (0.95, 0.99)
"""Shares of the converged reward that are to be reached."""
COSTS = ("violations", "beyond", "deficit")
"""Sums over the steps of a pair while it adapts: steps that break the SLO, those of them beyond the converged agent's
share, and by how much the utilisation of CPU is below the converged agent's."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
DRAWS = 2000
"""Of the bootstrap over pairs."""

PerPair = Float[np.ndarray, " pair"]
Moved = Float[np.ndarray, "agent pair"]
"""Reward of the agent of each pair on each pair."""


def drop(rewards: Float[np.ndarray, "... pair"], converged: PerPair) -> Float[np.ndarray, "... pair"]:
    """(converged - reward) / converged, the paper's reward drop; below 0 where the reward is higher."""
    lost: Float[np.ndarray, "... pair"] = 1 - rewards / converged
    return lost


Tests = tuple[Int[np.ndarray, " test"], Int[np.ndarray, "test other"]]
"""The pair whose agent is moved in each test, and those that it then serves."""


def ab_tests(pairs: int, tests: int, others: int, seed: int) -> Tests:
    """The paper's scheme: in each test one pair whose agent is moved, and some others that it then serves.

    Args:
        pairs: how many there are, at least 2.
        tests: how many are drawn; a pair may be drawn again.
        others: of each test, all different; fewer where there are not as many.
        seed: of what is drawn.
    """
    rng, several = np.random.default_rng([seed, 7]), min(others, pairs - 1)
    one = rng.integers(pairs, size=tests)
    steps = np.stack([1 + rng.permutation(pairs - 1)[:several] for _ in range(tests)])
    return one, (one[:, None] + steps) % pairs


def drops(converged: PerPair, moved: Moved, arms: Mapping[str, PerPair], tests: Tests) -> list[dict[str, Any]]:
    """Reward drops of every arm without adaptation, in all pairs and in the paper's tests.

    Args:
        converged: reward of the agent of each pair in that pair.
        moved: rewards of agents in other pairs; the diagonal is not read.
        arms: reward of each arm that has nothing to do with the agents.
        tests: as `ab_tests`.

    Returns:
        For each arm the mean over pairs with an interval, `QUANTILES`, and the `tests` mean; of moved agents over all
        agents and pairs, where an interval draws pairs in both roles together.
    """
    n = len(converged)
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=DRAWS).astype(np.float64)
    one, others = tests
    off, lost = ~np.eye(n, dtype=bool), drop(moved, converged) * ~np.eye(n, dtype=bool)
    together = n**2 - (counts**2).sum(axis=1)
    drawn = np.einsum("da,ab,db->d", counts, lost, counts)[together > 0] / together[together > 0]
    found = [_drop(OTHER, lost[off], drawn, lost[one[:, None], others])]
    for name, rewards in arms.items():
        of = drop(rewards, converged)
        found.append(_drop(name, of, counts @ of / n, of[others]))
    return found


def _drop(name: str, values: np.ndarray, drawn: np.ndarray, tested: np.ndarray) -> dict[str, Any]:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {
        "method": name,
        "mean": float(values.mean()),
        "low": float(low),
        "high": float(high),
        "tests": float(tested.mean()),
        "quantiles": np.quantile(values, QUANTILES).tolist(),
    }


def reached(rewards: Rewards, wanted: PerPair, least: int) -> PerPair:
    """Episodes until the reward is at least what is wanted, for the first time; infinite where it never is.

    Args:
        rewards: after 0, 1, 2, ... episodes.
        wanted: of each pair.
        least: episodes that an arm has in any case.
    """
    there = rewards >= wanted
    return np.where(there.any(axis=0), np.maximum(there.argmax(axis=0), least).astype(np.float64), np.inf)


def costs(until: PerPair, lived: Lived, own: Mapping[str, PerPair]) -> dict[str, PerPair]:
    """`COSTS` of each pair, summed over the steps of its first episodes.

    An episode that is better than the converged agent's does not make up for one that is worse.

    Args:
        until: how many episodes count, at most as many as were lived through.
        lived: what happened in them.
        own: `violations` and `cpu_use` of the converged agents.
    """
    counts = EPISODE_STEPS * (np.arange(len(lived["violations"]))[:, None] < until)
    return {
        "violations": (lived["violations"] * counts).sum(axis=0),
        "beyond": ((lived["violations"] - own["violations"]).clip(min=0) * counts).sum(axis=0),
        "deficit": ((own["cpu_use"] - lived["cpu_use"]).clip(min=0) * counts).sum(axis=0),
    }


def adaptation(
    arms: Mapping[str, tuple[int, Sequence[tuple[Rewards, Lived]]]], own: Mapping[str, PerPair], horizon: int
) -> list[dict[str, Any]]:
    """How many episodes each arm takes to each of `SHARES` of the converged reward, and what that costs.

    Args:
        arms: the episodes that an arm has in any case, and for each of its draws rewards after 0, 1, ... episodes and
            what was lived through; the first arm is the one that others are compared with.
        own: `reward`, `violations` and `cpu_use` of the converged agents.
        horizon: episodes that a pair counts with that never gets there; arms that lived through fewer have no costs.

    Returns:
        For each share and arm: `median`, `mean` up to the horizon, the shares of pairs that `never` get there and that
        are there `at once`, `costs`, and under `times` how many times more the first arm has, with
        intervals: paired bootstrap over pairs, of means over draws.
    """
    found, first = [], next(iter(arms))
    for share in SHARES:
        spent: dict[str, dict[str, PerPair]] = {}
        for name, (least, drawn) in arms.items():
            wanted = share * own["reward"]
            episodes = np.stack([reached(rewards, wanted, least) for rewards, _ in drawn])
            counted = np.minimum(episodes, horizon)
            spent[name] = {"episodes": counted.mean(axis=0)}
            if all(len(lived["violations"]) >= horizon for _, lived in drawn):
                each = [costs(until, lived, own) for until, (_, lived) in zip(counted, drawn, strict=True)]
                spent[name] |= {cost: np.mean([one[cost] for one in each], axis=0) for cost in COSTS}
            entry: dict[str, Any] = {
                "share": share,
                "method": name,
                "median": float(np.median(counted)),
                "mean": float(counted.mean()),
                "never": float(np.isinf(episodes).mean()),
                "at once": float(np.mean([rewards[0] >= wanted for rewards, _ in drawn])),
                "costs": {cost: float(spent[name][cost].mean()) for cost in COSTS if cost in spent[name]},
            }
            if name != first:
                entry["times"] = {of: ratio(spent[first][of], spent[name][of]) for of in spent[name]}
            found.append(entry)
    return found


def ratio(above: PerPair, below: PerPair) -> dict[str, float | None]:
    """Ratio of means with a 95 % interval, pairs drawn together; None where the lower mean is 0."""
    n = len(above)
    at = np.random.default_rng(0).integers(n, size=(DRAWS, n))
    over, under = above[at].mean(axis=1), below[at].mean(axis=1)
    drawn = np.divide(over, under, out=np.full(DRAWS, np.inf), where=under > 0)
    # quantiles that are there: between infinite values there is nothing to interpolate
    low, high = np.quantile(drawn, (0.025, 0.975), method="closest_observation")
    mean = float(above.mean() / below.mean()) if below.mean() > 0 else None
    return {"mean": mean, "low": _finite(low), "high": _finite(high)}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def guard(of: Guarded, allowance: float) -> dict[str, Any]:
    """What gated fine-tuning earned beside the safe controller alone, in the same episodes.

    Args:
        of: what happened.
        allowance: of the gate.

    Returns:
        `gain` over all episodes and in the last quarter of them, as shares of the safe controller's reward; `behind`,
        the share of the pairs that are behind it at the end; `most`, the largest share of its cumulated reward that was
        missing in any pair after any episode, `most_reward` the same in episodes' rewards, and `beyond`, the share of
        the pairs in which more than the allowance was missing at some time; `served`, by whom, in the last quarter.
    """
    ours, safe = of.lived["reward"], of.safe["reward"]
    ahead, level, last = np.cumsum(ours - safe, axis=0), np.cumsum(safe, axis=0), -max(1, len(ours) // 4)
    missing = (-ahead / level).clip(min=0)
    return {
        "episodes": len(ours),
        "gain": float(ahead[-1].mean() / level[-1].mean()),
        "gain_last": float((ours - safe)[last:].mean() / safe[last:].mean()),
        "behind": float((ahead[-1] < 0).mean()),
        "most": float(missing.max()),
        "most_reward": float((-ahead).clip(min=0).max()),
        "allowance": allowance,
        "beyond": float((missing > allowance).any(axis=0).mean()),
        "served": {
            name: float((of.served[last:] == policy).mean())
            for name, policy in (("pretrained", EMBEDDED), ("fine-tuned", TUNED))
        },
        "judged": {"first": float(of.reward[0].mean()), "last": float(of.reward[-1].mean())},
    }
