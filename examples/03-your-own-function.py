"""A function of your own that `flashfm measure` can measure: it is called as a Lambda or OpenWhisk handler is.

    flashfm measure --function examples/03-your-own-function.py:handler --event '{"words": 20000}' --out mine.parquet

The file is imported once before measuring starts, so what stands outside the function is its set-up. Run as a script it
makes one call without limits:

    python examples/03-your-own-function.py
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

VOCABULARY = [f"word{i}" for i in range(1000)]  # set-up, not measured


def handler(event: dict[str, Any]) -> dict[str, Any]:
    """Count words: CPU-bound, and more so the more `words` the event asks for."""
    rng = random.Random(0)
    counts = Counter(rng.choice(VOCABULARY) for _ in range(int(event["words"])))
    return {"distinct": len(counts), "most_common": counts.most_common(1)[0]}


if __name__ == "__main__":
    print(handler({"words": 20000}))
