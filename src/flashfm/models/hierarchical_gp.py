"""A hierarchical Gaussian process over configurations: what is known of a pair before, and after, its shots.

Enters: log run times of many pairs over one grid of configurations. Leaves: a posterior over the grid for a new pair.
y = log run time of one pair is Gaussian with a mean and covariance shared by all pairs. Both start from a structured
prior over configuration features, fitted by marginal likelihood,

    mean = F b + offsets,   covariance = F diag(v) F' + u u' + RBF (one length a feature) + noise,

and are then re-estimated by MAP-EM over the full covariance of the grid, missing cells included, under an
inverse-Wishart prior centred on the structured one. A new pair is conditioned on its shots; `local` re-estimates the
moments near them first. NumPy in and out; torch only differentiates the marginal likelihood. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

JITTER = 1e-6
ROUGH = 0.01
"""Share of the level's variance that interpolation between configurations treats as rough."""


@dataclass(frozen=True)
class PriorConfig:
    """How the prior is fitted."""

    steps: int = 60
    """L-BFGS iterations on the marginal likelihood."""
    em_steps: int = 15
    """MAP-EM iterations."""
    nu: float = 8.0
    """Degrees of freedom of the inverse-Wishart prior: pairs that the structured covariance is worth."""
    mean_weight: float = 2.0
    """Pairs that the structured mean is worth."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """Hyper-parameters of the structured prior, over configuration features."""

    slope_variance: Float[np.ndarray, " basis"]
    loading: Float[np.ndarray, " basis"]
    """Rank-one loading that ties slopes to the level."""
    lengthscale: Float[np.ndarray, " feature"]
    rbf_variance: float
    noise: float
    offset_variance: float
    interactions: Int[np.ndarray, "interaction two"]
    """Pairs of features whose products are basis functions."""

    def basis(self, features: Float[np.ndarray, "config feature"]) -> Float[np.ndarray, "config basis"]:
        """Intercept, features and their declared products."""
        products = features[:, self.interactions[:, 0]] * features[:, self.interactions[:, 1]]
        return np.concatenate([np.ones((len(features), 1)), features, products], axis=1)

    def between(self, a: Float[np.ndarray, "a feature"], b: Float[np.ndarray, "b feature"]) -> Float[np.ndarray, "a b"]:
        """Prior covariance without noise."""
        fa, fb = self.basis(a), self.basis(b)
        distance = (((a[:, None] - b[None]) / self.lengthscale) ** 2).sum(axis=-1)
        rbf = self.rbf_variance * np.exp(-0.5 * distance)
        linear = (fa * self.slope_variance) @ fb.T + np.outer(fa @ self.loading, fb @ self.loading)
        return np.asarray(linear + rbf)


@dataclass(frozen=True, eq=False)
class HierarchicalGP:
    """Moments over the grid, and what is expected of each training pair."""

    config: PriorConfig
    kernel: Kernel
    features: Float[np.ndarray, "config feature"]
    mean: Float[np.ndarray, " config"]
    covariance: Float[np.ndarray, "config config"]
    """Of a pair's noise-free log run times."""
    profiles: Float[np.ndarray, "pair config"]
    """Each training pair: what was observed, and what is expected of it elsewhere."""
    pattern: Int[np.ndarray, " pair"]
    """Which of `residual` is the posterior covariance of each training pair."""
    residual: Float[np.ndarray, "pattern config config"]
    level_deviation: float
    """Typical standard deviation of a pair's log run time about `mean`, over the grid that was fitted."""

    @property
    def noise(self) -> float:
        """Variance of one measurement's log run time."""
        return self.kernel.noise

    def posterior(
        self, config: Int[np.ndarray, "task shot"], log_runtime: Float[np.ndarray, "task shot"]
    ) -> tuple[Float[np.ndarray, "task config"], Float[np.ndarray, "task config"]]:
        """Mean and variance, noise included, of the log run time at every configuration, after K >= 0 shots each."""
        tasks, k = config.shape
        if k == 0:
            variance = np.diag(self.covariance) + self.noise
            return np.tile(self.mean, (tasks, 1)), np.tile(variance, (tasks, 1))
        rows = self.covariance[config]
        at_shots = np.take_along_axis(rows, config[:, None, :], axis=2) + self.noise * np.eye(k)
        gain = np.linalg.solve(at_shots, rows)
        mean = self.mean + np.einsum("tk,tkc->tc", log_runtime - self.mean[config], gain)
        variance = np.diag(self.covariance) - np.einsum("tkc,tkc->tc", rows, gain)
        return mean, np.maximum(variance, 0.0) + self.noise

    def extended(self, features: Float[np.ndarray, "new feature"]) -> HierarchicalGP:
        """The same process over the grid and further configurations after it, by the structured prior's kriging."""
        grid = self._interpolating(self.features, self.features) + JITTER * np.eye(len(self.features))
        cross = self._interpolating(features, self.features)
        weights = np.linalg.solve(grid, cross.T).T
        basis, new = self.kernel.basis(self.features), self.kernel.basis(features)
        slopes = np.linalg.lstsq(basis, self.mean, rcond=None)[0]
        mean = new @ slopes + weights @ (self.mean - basis @ slopes)
        own = self._interpolating(features, features) - weights @ cross.T
        own = (own + own.T) / 2
        blend = np.concatenate([np.eye(len(self.features)), weights])
        extra = np.zeros((len(blend), len(blend)))
        extra[len(self.features) :, len(self.features) :] = own
        return replace(
            self,
            features=np.concatenate([self.features, features]),
            mean=np.concatenate([self.mean, mean]),
            covariance=blend @ self.covariance @ blend.T + extra,
            profiles=np.concatenate([self.profiles, mean + (self.profiles - self.mean) @ weights.T], axis=1),
            residual=blend @ self.residual @ blend.T + extra,
        )

    def _interpolating(
        self, a: Float[np.ndarray, "a feature"], b: Float[np.ndarray, "b feature"]
    ) -> Float[np.ndarray, "a b"]:
        """Prior covariance with a rough part, which EM may have found and the smooth kernel cannot pass through."""
        distance = np.sqrt(np.maximum(((a[:, None] - b[None]) ** 2).sum(axis=-1), 0.0))
        return np.asarray(self.kernel.between(a, b) + ROUGH * self.level_deviation**2 * np.exp(-distance))


def fit(
    features: Float[np.ndarray, "config feature"],
    log_runtime: Float[np.ndarray, "pair config"],
    interactions: Int[np.ndarray, "interaction two"],
    config: PriorConfig | None = None,
    kernel: Kernel | None = None,
) -> HierarchicalGP:
    """Fit to training pairs.

    Args:
        features: of the grid's configurations, standardised.
        log_runtime: NaN where not observed; each pair has at least one.
        interactions: pairs of features whose products are basis functions.
        config: settings.
        kernel: hyper-parameters found on a larger set of training pairs; absent, they are fitted.
    """
    config = config or PriorConfig()
    patterns, pattern = np.unique(~np.isnan(log_runtime), axis=0, return_inverse=True)
    groups = [
        (np.flatnonzero(seen), log_runtime[pattern == g][:, seen]) for g, seen in enumerate(patterns) if seen.any()
    ]
    if kernel is None:
        kernel = _fit_kernel(features, groups, interactions, config.steps)
    covariance = kernel.between(features, features) + JITTER * np.eye(len(features))
    mean = _structured_mean(kernel, features, covariance, groups)
    mean, covariance = _em(mean, covariance, kernel.noise, groups, config)
    profiles = np.empty(log_runtime.shape)
    residual = np.empty((len(groups), *covariance.shape))
    for g, (seen, values) in enumerate(groups):
        # what was observed stands as it is: smoothed profiles of training pairs foretold others less well
        gain = np.linalg.solve(covariance[np.ix_(seen, seen)] + JITTER * np.eye(seen.size), covariance[seen])
        filled = mean + (values - mean[seen]) @ gain
        filled[:, seen] = values
        profiles[pattern == g] = filled
        residual[g] = covariance - covariance[:, seen] @ gain
    level = float(np.sqrt(np.diag(covariance).mean()))
    return HierarchicalGP(config, kernel, features, mean, covariance, profiles, pattern, residual, level)


_Groups = list[tuple[Int[np.ndarray, " _"], Float[np.ndarray, "_ _"]]]
"""Training pairs with the same observed configurations: which, and their log run times."""


def _structured_mean(
    kernel: Kernel,
    features: Float[np.ndarray, "config feature"],
    covariance: Float[np.ndarray, "config config"],
    groups: _Groups,
) -> Float[np.ndarray, " config"]:
    """Posterior mean of the shared mean, under slopes of variance 100 and offsets of their own variance."""
    basis = kernel.basis(features)
    centre = float(np.mean(np.concatenate([values.ravel() for _, values in groups])))
    prior = np.linalg.inv(100.0 * basis @ basis.T + (kernel.offset_variance + JITTER) * np.eye(len(features)))
    precision, weighted = prior.copy(), prior @ np.full(len(features), centre)
    for seen, values in groups:
        inverse = np.linalg.inv(covariance[np.ix_(seen, seen)] + kernel.noise * np.eye(seen.size))
        precision[np.ix_(seen, seen)] += len(values) * inverse
        weighted[seen] += inverse @ values.sum(axis=0)
    return np.asarray(np.linalg.solve(precision, weighted))


def _em(
    mean: Float[np.ndarray, " config"],
    covariance: Float[np.ndarray, "config config"],
    noise: float,
    groups: _Groups,
    config: PriorConfig,
) -> tuple[Float[np.ndarray, " config"], Float[np.ndarray, "config config"]]:
    """MAP-EM of mean and covariance over the grid; the noise is kept."""
    prior_mean, prior = mean, covariance
    n = sum(len(values) for _, values in groups)
    for _ in range(config.em_steps):
        expected, spread = [], np.zeros_like(covariance)
        for seen, values in groups:
            gain = np.linalg.solve(covariance[np.ix_(seen, seen)] + noise * np.eye(seen.size), covariance[seen])
            expected.append(mean + (values - mean[seen]) @ gain)
            spread += len(values) * (covariance - covariance[:, seen] @ gain)
        profiles = np.concatenate(expected)
        mean = (config.mean_weight * prior_mean + profiles.sum(axis=0)) / (config.mean_weight + n)
        deviation = profiles - mean
        covariance = (config.nu * prior + deviation.T @ deviation + spread) / (config.nu + n)
    return mean, covariance


def _fit_kernel(
    features: Float[np.ndarray, "config feature"],
    groups: _Groups,
    interactions: Int[np.ndarray, "interaction two"],
    steps: int,
) -> Kernel:
    """Hyper-parameters that maximise the marginal likelihood, under weak priors that keep each of them in range."""
    import torch

    shape = {
        "slope_variance": torch.full((1 + features.shape[1] + len(interactions),), -3.0),
        "loading": torch.full((1 + features.shape[1] + len(interactions),), 0.01),
        "lengthscale": torch.zeros(features.shape[1]),
        "scalars": torch.tensor([-4.0, -4.5, -5.0]),
    }
    shape["slope_variance"][0] = 0.3
    shape["loading"][0] = 0.0
    free: dict[str, Any] = {name: value.double().requires_grad_() for name, value in shape.items()}

    def kernel() -> Kernel:
        numbers = {name: value.detach().numpy() for name, value in free.items()}
        rbf, noise, offset = np.exp(numbers["scalars"])
        lengths = np.exp(numbers["lengthscale"])
        slopes, loading = np.exp(numbers["slope_variance"]), numbers["loading"].copy()
        return Kernel(slopes, loading, lengths, float(rbf), float(noise), float(offset), interactions)

    basis_of = kernel().basis(features)
    x, basis = torch.tensor(features), torch.tensor(basis_of)
    eye = torch.eye(len(features), dtype=torch.float64)
    indices = [torch.tensor(seen) for seen, _ in groups]
    values_of = [torch.tensor(values) for _, values in groups]
    slope_gram = torch.tensor(100.0 * basis_of @ basis_of.T)
    centre = float(np.mean(np.concatenate([values.ravel() for _, values in groups])))
    optimiser = torch.optim.LBFGS(list(free.values()), max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Any:
        optimiser.zero_grad()
        now = kernel()
        plain = now.between(features, features) + JITTER * np.eye(len(features))
        # The mean maximises the joint density, so gradients hold with it fixed.
        mean = torch.tensor(_structured_mean(now, features, plain, groups))
        distance = ((x[:, None] - x[None]) * torch.exp(-free["lengthscale"])).pow(2).sum(-1)
        loaded = basis @ free["loading"]
        rbf, noise, offset = free["scalars"].exp()
        covariance = (basis * free["slope_variance"].exp()) @ basis.T + torch.outer(loaded, loaded)
        covariance = covariance + rbf * torch.exp(-0.5 * distance) + (noise + JITTER) * eye
        prior = torch.linalg.cholesky(slope_gram + (offset + JITTER) * eye)
        whitened = torch.linalg.solve_triangular(prior, (mean - centre)[:, None], upper=False)
        total = 0.5 * whitened.pow(2).sum() + torch.log(torch.diagonal(prior)).sum()
        for seen, values in zip(indices, values_of, strict=True):
            factor = torch.linalg.cholesky(covariance[seen][:, seen])
            white = torch.linalg.solve_triangular(factor, (values - mean[seen]).T, upper=False)
            total = total + 0.5 * white.pow(2).sum() + len(values) * torch.log(torch.diagonal(factor)).sum()
        # weak priors: lengths near 1.6, slope variances near exp(-3), offsets near exp(-4), noise near exp(-5)
        total = (
            total + 0.5 * (free["lengthscale"] - 0.5).pow(2).sum() + 0.05 * (free["slope_variance"] + 3).pow(2).sum()
        )
        total = total + (free["scalars"][2] + 4).pow(2) + 0.05 * (free["scalars"][:2] + 4.5).pow(2).sum()
        total.backward()
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return kernel()
