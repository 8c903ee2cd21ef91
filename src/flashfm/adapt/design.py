"""Which configuration to measure next: by what it would tell of the others, or by how good it may turn out.

Enters: a posterior over configurations. Leaves: positions, or the list of shots designed on training pairs.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

from flashfm.models.hierarchical_gp import HierarchicalGP

FOR_MOST = 0.95
"""Share of training pairs that a designed configuration must have worked for."""


def most_informative(
    covariance: Float[np.ndarray, "config config"],
    noise: float,
    candidates: Int[np.ndarray, " candidate"],
    asked: Int[np.ndarray, " asked"],
) -> tuple[int, float, float]:
    """The candidate whose measurement lowers the summed variance of the asked configurations most.

    Args:
        covariance: posterior covariance of log run times, without noise.
        noise: variance of a measurement.
        candidates: positions that may be measured, at least one.
        asked: positions that matter.

    Returns:
        Its position, and the mean standard deviation over `asked` in nats, before and after.
    """
    gain = (covariance[np.ix_(candidates, asked)] ** 2).sum(axis=1) / (np.diag(covariance)[candidates] + noise)
    best = int(candidates[int(gain.argmax())])
    before = np.diag(covariance)[asked]
    after = before - covariance[best, asked] ** 2 / (covariance[best, best] + noise)
    return best, float(np.sqrt(np.maximum(before, 0)).mean()), float(np.sqrt(np.maximum(after, 0)).mean())


def designed_shots(prior: HierarchicalGP, observed: Float[np.ndarray, "pair config"], n: int) -> list[int]:
    """The first `n` configurations to measure of any new pair, chosen on training pairs before anything is known of it.

    Args:
        prior: fitted on the training pairs.
        observed: 1 where a training pair was observed; configurations that `FOR_MOST` of them have are considered.
        n: how many.
    """
    share = observed.mean(axis=0)
    candidates = np.flatnonzero(share >= min(FOR_MOST, float(share.max())))
    covariance, every, chosen = prior.covariance, np.arange(len(prior.mean)), list[int]()
    while len(chosen) < n and len(chosen) < candidates.size:
        left = np.setdiff1d(candidates, chosen)
        best, _, _ = most_informative(covariance, prior.noise, left, every)
        chosen.append(best)
        covariance = covariance - np.outer(covariance[:, best], covariance[best]) / (
            covariance[best, best] + prior.noise
        )
    return chosen


def expected_improvement(
    mean: Float[np.ndarray, " config"], variance: Float[np.ndarray, " config"], best: float
) -> Float[np.ndarray, " config"]:
    """By how much each log value is expected to fall below `best`, under a normal distribution; >= 0.

    Source: Jones, Schonlau and Welch, Efficient Global Optimization of Expensive Black-Box Functions, 1998.
    """
    deviation = np.sqrt(np.maximum(variance, 1e-12))
    z = (best - mean) / deviation
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    below = 0.5 * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))
    return np.asarray(np.maximum(deviation * (z * below + density), 0.0))
