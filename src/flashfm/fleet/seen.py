"""Which pairs have come before: eight bytes a pair, whatever their names.

Enters: names of pairs. Leaves: which of them came before. Two names have the same number by a chance of one in 2^64.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Bool, UInt64

_TURN = np.uint64(0x9E3779B97F4A7C15)
MOST_LOOSE = 1 << 16
"""Numbers that are kept beside the sorted ones before all are sorted again."""


class Seen:
    """A set of pairs that only grows."""

    def __init__(self) -> None:
        """Without any pair."""
        self._sorted = np.empty(0, dtype=np.uint64)
        self._loose = np.empty(0, dtype=np.uint64)

    def add(self, apps: pa.Array, platforms: pa.Array) -> Bool[np.ndarray, " pair"]:
        """Add pairs, and say which of them were there already, or come earlier in this call."""
        numbers = numbers_of(apps, platforms)
        before = np.ones(len(numbers), dtype=np.bool_)
        before[np.unique(numbers, return_index=True)[1]] = False
        for known in (self._sorted, self._loose):
            if known.size:
                at = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
                before |= known[at] == numbers
        self._loose = np.sort(np.concatenate([self._loose, numbers[~before]]))
        if len(self._loose) > MOST_LOOSE:
            self._sorted = np.sort(np.concatenate([self._sorted, self._loose]), kind="stable")
            self._loose = self._loose[:0]
        return before

    def __len__(self) -> int:
        return len(self._sorted) + len(self._loose)


def numbers_of(apps: pa.Array, platforms: pa.Array) -> UInt64[np.ndarray, " pair"]:
    """Numbers of pairs, by which they are told from each other."""
    names = [column.fill_null("\0").to_numpy(zero_copy_only=False) for column in (apps, platforms)]
    app, platform = (pd.util.hash_array(column, categorize=False) for column in names)
    with np.errstate(over="ignore"):
        mixed = (app ^ (app >> np.uint64(31))) * _TURN + platform
    return np.asarray(mixed ^ (mixed >> np.uint64(29)), dtype=np.uint64)
