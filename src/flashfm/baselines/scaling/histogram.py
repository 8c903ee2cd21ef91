"""Histograms over buckets that widen exponentially, one for each pair, and their percentiles.

Source: kubernetes/autoscaler, vertical-pod-autoscaler/pkg/recommender/util/histogram.go and histogram_options.go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace


@dataclass(frozen=True)
class Buckets:
    """Bucket n begins at `first` x (`ratio`^n - 1) / (`ratio` - 1)."""

    first: float
    """Width of the first bucket, above 0."""
    most: float
    """Largest value that has a bucket of its own; all that is larger falls into the last one."""
    ratio: float = 1.05
    """Width of a bucket over that of the one before, above 1."""

    def __len__(self) -> int:
        return math.ceil(math.log1p(self.most * (self.ratio - 1) / self.first) / math.log(self.ratio)) + 1

    def empty(self, like: Any) -> Any:
        """Weights of nothing, [env, bucket].

        Args:
            like: array of shape [env] of the kind that is wanted.
        """
        xp = array_namespace(like)
        return xp.zeros_like(like)[:, None] + self._numbers(like) * 0

    def add(self, weights: Any, value: Any, weight: Any) -> Any:
        """Weights with one more sample for each pair.

        Args:
            weights: [env, bucket].
            value: of the sample, [env], at least 0.
            weight: of the sample, [env]; 0 adds nothing.
        """
        xp = array_namespace(weights)
        bucket = xp.floor(xp.log(1 + value * (self.ratio - 1) / self.first) / math.log(self.ratio))
        bucket = bucket.clip(min=0.0, max=float(len(self) - 1))
        return weights + xp.where(self._numbers(value) == bucket[:, None], weight[:, None], 0.0)

    def percentile(self, weights: Any, share: float) -> Any:
        """End of the bucket in which the share of the weight is reached, [env]; 0 where there is no weight.

        Args:
            weights: [env, bucket].
            share: in (0, 1].
        """
        xp = array_namespace(weights)
        so_far = weights.cumsum(axis=1)
        total = so_far[:, -1]
        below = xp.sum(xp.astype(so_far < (share * total)[:, None], weights.dtype), axis=1)
        end = xp.minimum(below + 1, 0 * below + (len(self) - 1))
        value = self.first * (self.ratio**end - 1) / (self.ratio - 1)
        return xp.where(total > 0, value, 0.0)

    def _numbers(self, like: Any) -> Any:
        xp = array_namespace(like)
        return xp.arange(len(self), dtype=like.dtype, device=like.device)
