"""System metrics of a shot as features: logarithms, standardised over what was trained on; what is missing is masked.

Enters: metrics in raw units with NaN, and run times. Leaves: standardised values and a mask; a missing metric is 0 in
the values and 0 in the mask, so a network that reads both never takes it for a small one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

CLIP = 6.0
"""Standard deviations beyond which a value says no more."""
RATE_FLOOR = 1e-3
"""Added to a count per ms before its logarithm is taken."""
SHARE_FLOOR = 0.01
"""Added to a share of the run time before its logarithm is taken."""


@dataclass(frozen=True, eq=False)
class ShotScaler:
    """Location and scale of each value that is read off a shot; one that never varied has scale 0 and is missing.

    The values are log(1 + metric), and for metrics in milliseconds, such as CPU time, and for their sum, the logarithm
    of their share of the run time as well: how much of its time a pair waits decides how it scales.
    """

    centre: Float[np.ndarray, " value"]
    scale: Float[np.ndarray, " value"]
    timed: tuple[int, ...]
    """Positions of the metrics in milliseconds."""

    @classmethod
    def fit(
        cls,
        metrics: Float[np.ndarray, "pair config metric"],
        log_runtime: Float[np.ndarray, "pair config"],
        names: tuple[str, ...],
    ) -> ShotScaler:
        """Fit on training pairs."""
        timed = tuple(i for i, name in enumerate(names) if name.endswith("_ms"))
        values = _values(metrics, log_runtime, timed)
        values = values.reshape(log_runtime.size, values.shape[-1])
        seen = ~np.isnan(values)
        count = np.maximum(seen.sum(axis=0), 1)
        centre = np.where(seen, values, 0.0).sum(axis=0) / count
        spread = np.sqrt(np.where(seen, (values - centre) ** 2, 0.0).sum(axis=0) / count)
        return cls(centre, np.where(spread > 1e-9, spread, 0.0), timed)

    @property
    def width(self) -> int:
        """Features of a shot."""
        return 2 * len(self.centre)

    def transform(
        self, metrics: Float[np.ndarray, "task shot metric"], log_runtime: Float[np.ndarray, "task shot"]
    ) -> Float[np.ndarray, "task shot feature"]:
        """Standardised values within ±`CLIP`, followed by the mask, 1 where a value is known."""
        varied = self.scale > 0
        values = (_values(metrics, log_runtime, self.timed) - self.centre) / np.where(varied, self.scale, 1.0)
        seen = ~np.isnan(values) & varied
        filled = np.where(seen, np.clip(np.nan_to_num(values), -CLIP, CLIP), 0.0)
        return np.concatenate([filled, seen.astype(np.float64)], axis=-1)


def environment_values(
    metrics: Float[np.ndarray, "row shot metric"], log_runtime: Float[np.ndarray, "row shot"], names: tuple[str, ...]
) -> Float[np.ndarray, "row shot value"]:
    """What tells the environment of a run more than its application: CPU share, and switches per ms, as logarithms.

    Args:
        metrics: raw units, NaN where missing.
        log_runtime: natural logarithm of ms.
        names: of the metrics; those in `_ms` are summed for the share, each `*_switches` gives a rate.

    Returns:
        NaN where missing; no values where there are no such metrics.
    """
    runtime = np.exp(log_runtime)[..., None]
    timed = [i for i, name in enumerate(names) if name.endswith("_ms")]
    counted = [i for i, name in enumerate(names) if name.endswith("_switches")]
    parts = [np.log(np.maximum(metrics[..., counted], 0.0) / runtime + RATE_FLOOR)]
    if timed:
        share = metrics[..., timed].sum(axis=-1, keepdims=True) / runtime
        parts.append(np.log(np.maximum(share, 0.0) + SHARE_FLOOR))
    return np.concatenate(parts, axis=-1)


def _values(
    metrics: Float[np.ndarray, "row shot metric"], log_runtime: Float[np.ndarray, "row shot"], timed: tuple[int, ...]
) -> Float[np.ndarray, "row shot value"]:
    """log(1 + x), odd around 0, of the metrics; then the log shares of the run time."""
    compressed = np.sign(metrics) * np.log1p(np.abs(metrics))
    if not timed:
        return np.asarray(compressed)
    shares = metrics[..., list(timed)] / np.exp(log_runtime)[..., None]
    shares = np.concatenate([shares, shares.sum(axis=-1, keepdims=True)], axis=-1)
    return np.concatenate([compressed, np.log(np.maximum(shares, 0.0) + SHARE_FLOOR)], axis=-1)
