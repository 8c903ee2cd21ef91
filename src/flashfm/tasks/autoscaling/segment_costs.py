"""A quantity of an application as the sum of what its segments cost, each linear in products of its own sizes.

Specs and numbers enter, a `SegmentCosts` leaves; nothing here is specific to CPU, waits or memory.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from flashfm.applications.runtime import Application
from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.errors import ModelError

TERMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "floating-point": ((), ("operations",)),
    "matrix-multiplication": (("repeats",), ("repeats", "side", "side"), ("repeats", "side", "side", "side")),
    "image-compress": (("images",), ("images", "side", "side"), ("images", "side", "side", "quality")),
    "image-resize": (("images",), ("images", "side", "side")),
    "image-rotate": (("images",), ("images", "side", "side")),
    "json-to-yaml": (("documents",), ("documents", "document_bytes")),
    "compression": ((), ("file_kb",), ("file_kb", "level"), ("file_kb", "level", "level")),
    "decompression": (("repeats",), ("repeats", "file_kb")),
    "dynamodb-read": ((), ("items",)),
    "dynamodb-write": ((), ("items",)),
    "file-read": ((), ("files",), ("files", "file_kb")),
    "file-write": ((), ("files",), ("files", "file_kb")),
    "s3-read": ((), ("objects",), ("objects", "file_kb")),
    "s3-write": ((), ("objects",), ("objects", "file_kb")),
    "s3-stream": ((), ("objects",), ("objects", "file_kb")),
    "sleep": ((), ("sleep_ms",)),
}
"""Kind of segment -> the products of its sizes that its cost is linear in; the empty product is a fixed cost."""
INTERCEPT = "application"
"""What every application costs, whatever its segments."""
_ROUNDS, _SWEEPS = 4, 400


@dataclass(frozen=True)
class SegmentCosts:
    """Coefficients of one quantity."""

    coefficients: dict[str, float]
    """By term: `kind*size*size`, `library:name` or `application`; at least 0."""
    kinds: tuple[str, ...]
    """Kinds of segments that the fit has seen."""

    @classmethod
    def fit(
        cls,
        specs: Sequence[ApplicationSpec],
        target: Float[np.ndarray, " app"],
        *,
        floor: float,
        libraries: bool,
    ) -> SegmentCosts:
        """Fit by least squares of log ratios, coefficients not negative.

        Args:
            specs: what the applications are made of.
            target: the quantity of each, at least 0.
            floor: below it, errors count as absolute ones against it.
            libraries: whether each library that an application imports adds a cost, once.

        Raises:
            ModelError: a segment is of a kind without `TERMS`.
        """
        rows = [_terms(spec, libraries=libraries) for spec in specs]
        names = sorted({name for row in rows for name in row})
        design = np.array([[row.get(name, 0.0) for name in names] for row in rows])
        scale = design.max(axis=0)
        guess = target
        found = np.zeros(len(names))
        for _ in range(_ROUNDS):
            weight = 1 / np.sqrt(np.maximum(target, floor) * np.maximum(guess, floor))
            found = nonnegative(design / scale * weight[:, None], target * weight)
            guess = design / scale @ found
        coefficients = {name: float(c) for name, c in zip(names, found / scale, strict=True) if c > 0}
        return cls(coefficients, tuple(sorted({part.kind for spec in specs for part in spec.segments})))

    def predict(self, spec: ApplicationSpec, *, strict: bool = True) -> float:
        """The quantity of an application.

        Args:
            spec: the application.
            strict: refuse kinds of segments that the fit has not seen, instead of taking them for free.

        Raises:
            ModelError: there is such a kind.
        """
        unseen = sorted({part.kind for part in spec.segments} - set(self.kinds)) if strict else []
        if unseen:
            raise ModelError(
                f"application {spec.name}: no measured application has a segment {unseen[0]}; "
                "measure it: flashfm measure"
            )
        return sum(self.coefficients.get(name, 0.0) * value for name, value in _terms(spec, libraries=True).items())

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, the inverse of `from_dict`."""
        short = {name: float(f"{value:.6g}") for name, value in self.coefficients.items()}
        return {"coefficients": short, "kinds": list(self.kinds)}

    @classmethod
    def from_dict(cls, data: object, where: str) -> SegmentCosts:
        """Read what `to_dict` gave; `where` is named in errors.

        Raises:
            ModelError: it is not that.
        """
        if not isinstance(data, dict) or set(data) != {"coefficients", "kinds"}:
            raise ModelError(f"cost model: {where}: expected an object with 'coefficients' and 'kinds'")
        coefficients, kinds = data["coefficients"], data["kinds"]
        if not isinstance(coefficients, dict) or not isinstance(kinds, list):
            raise ModelError(f"cost model: {where}: expected an object of coefficients and a list of kinds")
        for name, value in coefficients.items():
            good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
            if not good:
                raise ModelError(f"cost model: {where}: {name} is {value!r}; expected a finite number of at least 0")
        for kind in kinds:
            if kind not in TERMS:
                raise ModelError(f"cost model: {where}: kind {kind!r} is unknown; expected some of {', '.join(TERMS)}")
        return cls({name: float(value) for name, value in coefficients.items()}, tuple(kinds))


def _terms(spec: ApplicationSpec, *, libraries: bool) -> dict[str, float]:
    """Terms of an application and their values, over its segments."""
    found: defaultdict[str, float] = defaultdict(float, {INTERCEPT: 1.0})
    for part in spec.segments:
        for sizes in _terms_of(spec, part):
            found["*".join((part.kind, *sizes))] += math.prod(float(part.params[size]) for size in sizes)
    if libraries:
        for name in Application.requirements(spec):
            found[f"library:{name}"] = 1.0
    return found


def _terms_of(spec: ApplicationSpec, part: SegmentSpec) -> tuple[tuple[str, ...], ...]:
    if part.kind not in TERMS:
        raise ModelError(
            f"application {spec.name}: costs of a segment {part.kind} cannot be modelled; measure it: flashfm measure"
        )
    return TERMS[part.kind]


def nonnegative(
    design: Float[np.ndarray, "row column"], target: Float[np.ndarray, " row"]
) -> Float[np.ndarray, " column"]:
    """Least squares with coefficients of at least 0, by coordinate descent; 0 for a column of zeros."""
    gram, moment = design.T @ design, design.T @ target
    used = np.flatnonzero(np.diag(gram) > 0)
    x = np.zeros(len(moment))
    for _ in range(_SWEEPS):
        before = x.copy()
        for j in used:
            x[j] = max(0.0, x[j] + (moment[j] - gram[j] @ x) / gram[j, j])
        if np.abs(x - before).max() <= 1e-9 * max(np.abs(x).max(), 1e-300):
            break
    return x
