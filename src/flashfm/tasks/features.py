"""System metrics as features: the logarithm, standardised over what was trained on; what is missing is masked.

Enters: metrics in raw units with NaN. Leaves: standardised values and a mask; a missing metric is 0 in the values and
0 in the mask, so a network that reads both never takes it for a small one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

CLIP = 6.0
"""Standard deviations beyond which a metric says no more."""


@dataclass(frozen=True, eq=False)
class MetricScaler:
    """Location and scale of the logarithm of each metric."""

    centre: Float[np.ndarray, " metric"]
    scale: Float[np.ndarray, " metric"]

    @classmethod
    def fit(cls, metrics: Float[np.ndarray, "*rows metric"]) -> MetricScaler:
        """Fit on training pairs; a metric that is never there or never varies keeps scale 1."""
        flat = _compress(metrics.reshape(-1, metrics.shape[-1]))
        seen = ~np.isnan(flat)
        count = np.maximum(seen.sum(axis=0), 1)
        centre = np.where(seen, flat, 0.0).sum(axis=0) / count
        spread = np.sqrt(np.where(seen, (flat - centre) ** 2, 0.0).sum(axis=0) / count)
        return cls(centre, np.where(spread > 1e-9, spread, 1.0))

    def transform(self, metrics: Float[np.ndarray, "*rows metric"]) -> Float[np.ndarray, "*rows two_metric"]:
        """Standardised values followed by the mask, 1 where a metric was measured."""
        values = (_compress(metrics) - self.centre) / self.scale
        seen = ~np.isnan(values)
        filled = np.where(seen, np.clip(np.nan_to_num(values), -CLIP, CLIP), 0.0)
        return np.concatenate([filled, seen.astype(np.float64)], axis=-1)


def _compress(metrics: Float[np.ndarray, "*rows metric"]) -> Float[np.ndarray, "*rows metric"]:
    """log(1 + x), odd around 0: metrics are counts, bytes and times over many orders of magnitude."""
    return np.asarray(np.sign(metrics) * np.log1p(np.abs(metrics)))
