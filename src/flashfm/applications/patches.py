"""The seven application updates of the paper: a spec in, the updated spec out; or a load in, the updated load out.

Source: FLASH, appendix A.4, "Application Updates/Patches". Which sizes an update gives a segment is stated with the
segment (`Segment.patched`); which segments an update touches is stated here.
"""

from __future__ import annotations

from enum import StrEnum

from flashfm.applications.generator import named
from flashfm.applications.segments import segment_class
from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.errors import SpecError


class Scenario(StrEnum):
    """An application update, in the paper's order."""

    FILE_SIZE = "file-size"
    """Files read, written, streamed, compressed: 128, 256, 384 KB become 512, 768, 1024 KB."""
    TABLE_SIZE = "table-size"
    """Tables scanned: 1024 items become 10240."""
    FLOATING_POINT = "floating-point"
    """Floating-point operations: 16 times as many (see the segment for how the paper's numbers are read)."""
    IMAGE_SIZE = "image-size"
    """Images: 40 x 40 pixels become 160 x 160."""
    JSON_SIZE = "json-size"
    """JSON documents: 250, 500, 1000 bytes become 2000, 3000, 5000."""
    MATRIX_SIZE = "matrix-size"
    """Matrices: dimension 50 becomes 150."""
    LOAD = "load"
    """The load goes from low to high; the application stays as it is. See `patch_load`."""


KINDS: dict[Scenario, tuple[str, ...]] = {
    Scenario.FILE_SIZE: (
        "file-read",
        "file-write",
        "s3-read",
        "s3-write",
        "s3-stream",
        "compression",
        "decompression",
    ),
    Scenario.TABLE_SIZE: ("dynamodb-read",),
    Scenario.FLOATING_POINT: ("floating-point",),
    Scenario.IMAGE_SIZE: ("image-compress", "image-resize", "image-rotate"),
    Scenario.JSON_SIZE: ("json-to-yaml",),
    Scenario.MATRIX_SIZE: ("matrix-multiplication",),
    Scenario.LOAD: (),
}
"""Kinds of segments that an update touches, where their class has sizes for it."""

HIGH_LOAD_PER_DAY = 1e5
"""Requests a day; a load above it is high, any other is low."""

LOAD_FACTOR = 16
"""What `patch_load` multiplies a load by. The paper names no factor: it splits real traces in two."""

_LEAST_HIGH_PER_DAY = 1.25e5
_DAY_S = 86_400


def patch(spec: ApplicationSpec, scenario: Scenario) -> ApplicationSpec | None:
    """The application after an update, under the name of its new work.

    Returns:
        The updated spec; None where the update touches no segment of it, as `Scenario.LOAD` never does.

    Raises:
        SpecError: a size leaves the range that specs allow.
    """
    changed = False
    parts = []
    for part in spec.segments:
        params = segment_class(part.kind).patched(part.params) if part.kind in KINDS[scenario] else None
        changed = changed or params is not None
        parts.append(part if params is None else SegmentSpec(part.kind, params))
    return ApplicationSpec.from_dict(named(parts).to_dict()) if changed else None


def scenarios_for(spec: ApplicationSpec) -> tuple[Scenario, ...]:
    """Updates that change this spec, in the paper's order. `Scenario.LOAD` suits any application and is not listed."""
    return tuple(scenario for scenario in Scenario if patch(spec, scenario) is not None)


def patch_load(rate_per_s: float) -> float:
    """A high load in place of a low one: 16 times as many requests, and at least 125,000 a day.

    Args:
        rate_per_s: mean requests a second of a low load: over 0, at most 1e5 a day (1.157 a second).

    Returns:
        Mean requests a second, over 1e5 a day. It never falls as `rate_per_s` grows.

    Raises:
        SpecError: the rate is not a positive number, or the load is high already.

    Source: FLASH, appendix A.4, splits the Azure traces at 1e5 requests a day into low and high and moves an
    application between the two. Scaling is ours, so that the load before and after an update has the same shape.
    """
    if not rate_per_s > 0:
        raise SpecError(f"load: expected a positive number of requests a second, got {rate_per_s}")
    if rate_per_s > HIGH_LOAD_PER_DAY / _DAY_S:
        raise SpecError(
            f"load: {rate_per_s:g} requests a second is over {HIGH_LOAD_PER_DAY:g} a day already;"
            f" expected at most {HIGH_LOAD_PER_DAY / _DAY_S:.4g} a second"
        )
    return max(LOAD_FACTOR * rate_per_s, _LEAST_HIGH_PER_DAY / _DAY_S)
