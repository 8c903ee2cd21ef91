"""Random text that compresses about as prose does; the input of the compression segments."""

from __future__ import annotations

import random
from itertools import accumulate

_LETTERS = "eeeetttaaooiinnsshhrrdlucmfwygpbvk"
_WORDS = 2000


def random_text(rng: random.Random, size_bytes: int) -> bytes:
    """ASCII text of exactly `size_bytes` bytes.

    Words are random, and their frequencies follow Zipf's law, so gzip shrinks the text to about 30 %.
    """
    words = ["".join(rng.choices(_LETTERS, k=2 + int(8 * rng.random()))) for _ in range(_WORDS)]
    weights = list(accumulate(1 / rank for rank in range(1, _WORDS + 1)))
    text = " ".join(rng.choices(words, cum_weights=weights, k=size_bytes // 3 + 1))  # a word and its space: 3 or more
    return text[:size_bytes].encode()
