"""ApplicationSpec: what an application is made of, as plain data. JSON in and out; nothing runs here."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flashfm.errors import SpecError

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?")
MAX_SEGMENTS = 16


@dataclass(frozen=True)
class SegmentSpec:
    """One segment of an application and its sizes."""

    kind: str
    params: Mapping[str, int | float | str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"kind": self.kind, "params": dict(self.params)}


@dataclass(frozen=True)
class ApplicationSpec:
    """An application: a name and the segments that one invocation runs in order."""

    name: str
    """Lower case, digits and hyphens, at most 53 characters: valid in Kubernetes, OpenWhisk, Lambda and S3 names."""
    segments: tuple[SegmentSpec, ...]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SpecError(
                f"application name {self.name!r}: expected 1 to 53 lower-case letters, digits or inner hyphens"
            )
        if not 1 <= len(self.segments) <= MAX_SEGMENTS:
            raise SpecError(
                f"application {self.name!r}: expected 1 to {MAX_SEGMENTS} segments, got {len(self.segments)}"
            )

    @property
    def digest(self) -> str:
        """SHA-256 over the segments, in hexadecimal; equal for equal work whatever the name."""
        text = json.dumps([s.to_dict() for s in self.segments], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, the inverse of `from_dict`."""
        return {"name": self.name, "segments": [s.to_dict() for s in self.segments]}

    @classmethod
    def from_dict(cls, data: object, *, allow_functions: bool = False) -> ApplicationSpec:
        """Read a spec that may come from anywhere.

        Args:
            data: what JSON gave.
            allow_functions: accept segments that run a user's own code; never for specs from files or networks.

        Raises:
            SpecError: the shape, a type, a segment kind or a parameter is not as declared.
        """
        from flashfm.applications.segments import FUNCTION_KIND, segment_class

        if not isinstance(data, dict) or set(data) != {"name", "segments"}:
            raise SpecError(f"application spec: expected an object with 'name' and 'segments', got {_brief(data)}")
        name, segments = data["name"], data["segments"]
        if not isinstance(name, str) or not isinstance(segments, list):
            raise SpecError(f"application spec: expected a string 'name' and a list 'segments', got {_brief(data)}")
        read = []
        for i, item in enumerate(segments):
            where = f"application {name!r}, segment {i}"
            if not isinstance(item, dict) or set(item) != {"kind", "params"} or not isinstance(item["params"], dict):
                raise SpecError(f"{where}: expected an object with 'kind' and 'params', got {_brief(item)}")
            kind, params = item["kind"], item["params"]
            if not isinstance(kind, str):
                raise SpecError(f"{where}: expected a string 'kind', got {_brief(kind)}")
            if kind == FUNCTION_KIND and not allow_functions:
                raise SpecError(
                    f"{where}: a spec file may not name code to run; measure it with --function FILE.py:NAME"
                )
            known = segment_class(kind).example()
            if set(params) != set(known):
                raise SpecError(
                    f"{where} ({kind}): expected parameters {sorted(known)}, got {sorted(map(str, params))}"
                )
            for key, value in params.items():
                if isinstance(value, bool) or not isinstance(value, type(known[key])):
                    raise SpecError(f"{where} ({kind}): {key} is {_brief(value)}, expected {type(known[key]).__name__}")
                if isinstance(value, int | float) and not 0 < value <= 1e9:
                    raise SpecError(f"{where} ({kind}): {key} is {_brief(value)}, expected a number in (0, 1e9]")
            read.append(SegmentSpec(kind, params))
        return cls(name, tuple(read))


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
