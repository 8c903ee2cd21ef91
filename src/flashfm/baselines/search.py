"""Searchers: which configuration to measure next when the fastest one is wanted, and how far from it they stay.

Enters: Observations of training pairs (some need none), then what was measured of one pair so far. Leaves: a position
in the grid, and regret curves. scikit-learn is imported when a Gaussian process is fitted.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from flashfm.adapt.design import expected_improvement
from flashfm.baselines.ratio import additive_effects
from flashfm.errors import ModelError
from flashfm.tasks.config_search import Observations

PICKS = (1, 2, 3, 5)
"""Measurements after which regret is reported."""


@runtime_checkable
class FittedSearcher(Protocol):
    """A search strategy after training."""

    def next(
        self,
        measured_config: Int[np.ndarray, " measured"],
        measured_log_runtime: Float[np.ndarray, " measured"],
        candidates: Int[np.ndarray, " candidate"],
        rng: np.random.Generator,
    ) -> int:
        """The candidate to measure next.

        Args:
            measured_config: positions in the grid of what was measured, in that order; none at first.
            measured_log_runtime: natural logarithm of their run times in ms.
            candidates: positions in the grid that may be measured; those measured already are passed over.
            rng: for strategies that draw.

        Raises:
            ModelError: every candidate was measured.
        """


@runtime_checkable
class Searcher(Protocol):
    """A strategy that looks for the fastest configuration of a pair by measuring one after the other."""

    @property
    def name(self) -> str:
        """What results call it."""

    def fit(self, train: Observations, seed: int) -> FittedSearcher:
        """Learn from training pairs where the strategy does."""


@dataclass(frozen=True)
class RandomSearch:
    """Any configuration, none twice."""

    name: str = "random search"

    def fit(self, train: Observations, seed: int) -> FittedRandom:  # noqa: ARG002
        """Nothing is learnt."""
        return FittedRandom()


@dataclass(frozen=True)
class FittedRandom:
    """`RandomSearch` after training."""

    def next(
        self,
        measured_config: Int[np.ndarray, " measured"],
        measured_log_runtime: Float[np.ndarray, " measured"],  # noqa: ARG002
        candidates: Int[np.ndarray, " candidate"],
        rng: np.random.Generator,
    ) -> int:
        """Draw one that was not measured."""
        return int(rng.choice(_left(measured_config, candidates)))


@dataclass(frozen=True)
class BestAverageList:
    """One list for all pairs: configurations by their run time relative to others, averaged over the training pairs."""

    name: str = "best-average list"

    def fit(self, train: Observations, seed: int) -> FittedList:  # noqa: ARG002
        """Order the configurations by effect; those that no training pair has come last."""
        effect = additive_effects(train.log_runtime)[1]
        never = np.isnan(train.log_runtime).all(axis=0)
        return FittedList(np.argsort(np.where(never, np.inf, effect), kind="stable"))


@dataclass(frozen=True)
class BestPortfolio:
    """One list for all pairs whose first n entries leave the training pairs the least mean regret, chosen greedily.

    Stronger than `BestAverageList` from the second entry on: it adds what is fast where those before are slow.
    """

    name: str = "best-portfolio list"

    def fit(self, train: Observations, seed: int) -> FittedList:  # noqa: ARG002
        """Choose entry after entry; where a pair lacks a configuration, its additive fit stands in."""
        level, effect = additive_effects(train.log_runtime)
        filled = np.where(np.isnan(train.log_runtime), level[:, None] + effect, train.log_runtime)
        ratio = np.exp(filled - np.nanmin(train.log_runtime, axis=1, keepdims=True))
        never = np.isnan(train.log_runtime).all(axis=0)
        order: list[int] = []
        least = np.full(len(ratio), np.inf)
        for _ in range(ratio.shape[1]):
            mean = np.minimum(least[:, None], ratio).mean(axis=0) + 1e-9 * effect
            mean[order] = np.inf
            mean[never] += 1e9
            order.append(int(mean.argmin()))
            least = np.minimum(least, ratio[:, order[-1]])
        return FittedList(np.array(order))


@dataclass(frozen=True, eq=False)
class FittedList:
    """Configurations in the order in which they are to be measured."""

    order: Int[np.ndarray, " config"]

    def next(
        self,
        measured_config: Int[np.ndarray, " measured"],
        measured_log_runtime: Float[np.ndarray, " measured"],  # noqa: ARG002
        candidates: Int[np.ndarray, " candidate"],
        rng: np.random.Generator,  # noqa: ARG002
    ) -> int:
        """The first of the list that the pair has and that was not measured."""
        left = set(_left(measured_config, candidates).tolist())
        return next(int(c) for c in self.order if int(c) in left)


@dataclass(frozen=True)
class BayesianOptimisation:
    """Gaussian process on the pair's own measurements, expected improvement of the log run time.

    Matern 5/2 and a noise term, hyper-parameters by marginal likelihood, as CherryPick and its successors do. There is
    one length scale for all features until there are more measurements than features, and one for each from then on:
    with fewer, the likelihood picks relevant features by chance (regret on CloudBandit after 5 picks .34, not .31).
    Other applications are not used unless `start` says so.
    """

    start: str = "random"
    """First configuration: `random`, or `average` for the head of the best-average list."""
    length_scales: tuple[float, float] = (1.0, 10.0)
    """Bounds, in standard deviations of a numeric feature."""
    noise: tuple[float, float] = (1e-4, 0.05)
    """Bounds of the noise variance, relative to the variance of what was measured."""
    least_sd: float = 0.5
    """Standard deviation of log run time over configurations, at least; the first few measurements tell too little."""

    @property
    def name(self) -> str:
        """What results call it."""
        return "Bayesian optimisation" + (" from the best average" if self.start == "average" else "")

    def fit(self, train: Observations, seed: int) -> FittedBayesian:
        """Take the features of the grid, and the head of the list where the search starts there.

        Raises:
            ModelError: `start` is unknown.
        """
        if self.start not in ("random", "average"):
            raise ModelError(f"a search starts at 'random' or 'average', got {self.start!r}")
        head = BestAverageList().fit(train, seed) if self.start == "average" else FittedRandom()
        return FittedBayesian(self, train.features, head)


@dataclass(frozen=True, eq=False)
class FittedBayesian:
    """`BayesianOptimisation` on a grid."""

    config: BayesianOptimisation
    features: Float[np.ndarray, "config feature"]
    head: FittedRandom | FittedList

    def next(
        self,
        measured_config: Int[np.ndarray, " measured"],
        measured_log_runtime: Float[np.ndarray, " measured"],
        candidates: Int[np.ndarray, " candidate"],
        rng: np.random.Generator,
    ) -> int:
        """The candidate with the largest expected improvement; ties are drawn.

        Raises:
            ModelError: scikit-learn is not installed, or every candidate was measured.
        """
        left = _left(measured_config, candidates)
        if not measured_config.size:
            return self.head.next(measured_config, measured_log_runtime, candidates, rng)
        mean, sd = self._posterior(measured_config, measured_log_runtime, left)
        gain = expected_improvement(mean, sd**2, float(measured_log_runtime.min()))
        return int(rng.choice(left[gain >= gain.max() * (1 - 1e-9)]))

    def _posterior(
        self,
        measured_config: Int[np.ndarray, " measured"],
        measured_log_runtime: Float[np.ndarray, " measured"],
        asked: Int[np.ndarray, " asked"],
    ) -> tuple[Float[np.ndarray, " asked"], Float[np.ndarray, " asked"]]:
        try:
            from sklearn.exceptions import ConvergenceWarning
            from sklearn.gaussian_process import GaussianProcessRegressor
            from sklearn.gaussian_process.kernels import Matern, WhiteKernel
        except ImportError:
            raise ModelError(
                "Bayesian optimisation needs scikit-learn; install it with: pip install 'flashfm[baselines]'"
            ) from None
        scale = max(float(measured_log_runtime.std()), self.config.least_sd)
        centre = float(measured_log_runtime.mean())
        varying = np.ptp(self.features, axis=0) > 0
        each = np.full(int(varying.sum()), 2.0)
        kernel = Matern(each if len(measured_config) > len(each) else 2.0, self.config.length_scales, nu=2.5)
        process = GaussianProcessRegressor(kernel + WhiteKernel(0.01, self.config.noise), random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            process.fit(self.features[measured_config][:, varying], (measured_log_runtime - centre) / scale)
        mean, sd = process.predict(self.features[asked][:, varying], return_std=True)
        return centre + scale * mean, scale * sd


def regret_curve(
    searcher: FittedSearcher, data: Observations, pair: int, *, picks: Sequence[int] = PICKS, seed: int = 0
) -> Float[np.ndarray, " pick"]:
    """How much slower than the fastest observed configuration the best measured one is, after so many measurements.

    Args:
        searcher: a trained strategy.
        data: holds the pair's run times; only its observed configurations may be picked.
        pair: position of the pair.
        picks: numbers of measurements, each at least 1; with more than there are configurations, all are measured.
        seed: of the strategy's draws, for this pair.

    Returns:
        (best so far - best observed) / best observed, in [0, inf), one for each of `picks`.

    Raises:
        ModelError: a number of picks is below 1.
    """
    if min(picks, default=0) < 1:
        raise ModelError(f"regret is after 1 measurement or more, got {', '.join(map(str, picks)) or 'none'}")
    candidates = np.flatnonzero(~np.isnan(data.log_runtime[pair]))
    runtime = data.log_runtime[pair]
    rng = np.random.default_rng([seed, pair])
    measured = np.empty(0, dtype=np.int64)
    for _ in range(min(max(picks), candidates.size)):
        chosen = searcher.next(measured, runtime[measured], candidates, rng)
        measured = np.append(measured, chosen)
    best = np.minimum.accumulate(runtime[measured])
    at = np.minimum(np.array(picks), measured.size) - 1
    return np.asarray(np.expm1(best[at] - runtime[candidates].min()))


def _left(
    measured_config: Int[np.ndarray, " measured"], candidates: Int[np.ndarray, " candidate"]
) -> Int[np.ndarray, " left"]:
    left = np.setdiff1d(candidates, measured_config)
    if not left.size:
        raise ModelError("every configuration that may be measured was; there is none to measure next")
    return left
