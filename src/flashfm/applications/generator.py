"""Rolls synthetic applications from the pool of segments. A seed in, specs out; nothing runs and nothing is written.

Source: FLASH, appendix A.3: random sampling with replacement from the pool of Sizeless (Eismann et al., Middleware'21).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from flashfm.applications.segments import POOL, segment_class
from flashfm.applications.spec import MAX_SEGMENTS, ApplicationSpec, SegmentSpec
from flashfm.errors import SpecError

SEGMENTS = range(1, 5)
"""Numbers of segments that an application may have, each equally likely."""

_MAX_NAME = 53
_DIGITS = 6
_KINDS = tuple(POOL)


def generate(rng: random.Random, *, segments: int | range = SEGMENTS) -> ApplicationSpec:
    """One application.

    Args:
        rng: asked for `random()` only, so that a seed gives the same application on every Python and machine.
        segments: how many segments, in [1, 16]; of a range, each number is equally likely.

    Raises:
        SpecError: `segments` is empty or leaves [1, 16].
    """
    choices = range(segments, segments + 1) if isinstance(segments, int) else segments
    if not choices or min(choices) < 1 or max(choices) > MAX_SEGMENTS:
        raise SpecError(f"segments an application: expected numbers in [1, {MAX_SEGMENTS}], got {segments}")
    parts = []
    for _ in range(choices[int(rng.random() * len(choices))]):
        kind = _KINDS[int(rng.random() * len(_KINDS))]
        parts.append(SegmentSpec(kind, segment_class(kind).draw(rng)))
    return named(parts)


def generate_many(seed: int, count: int) -> list[ApplicationSpec]:
    """The first `count` different applications of a seed; a longer list begins with the shorter ones.

    Raises:
        SpecError: `count` is negative.
    """
    if count < 0:
        raise SpecError(f"number of applications: expected 0 or more, got {count}")
    rng = random.Random(seed)
    found: dict[str, ApplicationSpec] = {}
    while len(found) < count:
        spec = generate(rng)
        found.setdefault(spec.name, spec)  # equal work has an equal name, so different names are different work
    return list(found.values())


def named(segments: Sequence[SegmentSpec]) -> ApplicationSpec:
    """An application of these segments, named by them: "float-gzip-3fa2c1", the last six characters from its digest.

    Equal work gets an equal name. The short forms of many segments are cut, so that the name has at most 53 characters.

    Raises:
        SpecError: a kind is unknown, or there are no segments or over 16.
    """
    digest = ApplicationSpec("unnamed", tuple(segments)).digest
    shorts = "-".join(segment_class(part.kind).short for part in segments)
    return ApplicationSpec(f"{shorts[: _MAX_NAME - _DIGITS - 1].rstrip('-')}-{digest[:_DIGITS]}", tuple(segments))
