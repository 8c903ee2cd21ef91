"""Segment json-to-yaml: text processing, JSON in and YAML out."""

from __future__ import annotations

import json
import random
import string
import zlib
from typing import ClassVar

from flashfm.applications.segments.base import Params, Segment, log_uniform, pick

BASE_BYTES: tuple[int, ...] = (250, 500, 1000)
"""Document sizes in bytes that are drawn (FLASH, appendix A.4, scenario 5)."""

PATCHED_BYTES: dict[int, int] = {250: 2000, 500: 3000, 1000: 5000}
"""Document size after the update, in bytes (FLASH, appendix A.4, scenario 5)."""

_BYTE_MS = 0.0042


class JsonToYaml(Segment):
    """Parse random nested JSON documents and write each as YAML, with PyYAML's pure-Python safe dumper.

    Sizes: `document_bytes`; `documents` a run, such that a run takes about 2 to 30 ms of CPU.

    Source: FLASH, appendix A.4, scenario 5.
    """

    kind: ClassVar[str] = "json-to-yaml"
    short: ClassVar[str] = "yaml"
    bound: ClassVar[str] = "cpu"
    requires: ClassVar[tuple[str, ...]] = ("pyyaml",)

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:
        """Draw `document_bytes` and `documents`."""
        size = pick(rng, BASE_BYTES)
        return {"document_bytes": size, "documents": max(1, round(log_uniform(rng, 2.0, 30.0) / (_BYTE_MS * size)))}

    @classmethod
    def patched(cls, params: Params) -> dict[str, int | float | str] | None:
        """Larger documents (scenario 5); None for a size that the paper does not name."""
        larger = PATCHED_BYTES.get(int(params["document_bytes"]))
        return None if larger is None else {**params, "document_bytes": larger}

    def prepare(self) -> None:
        """Import PyYAML; draw the documents."""
        import yaml  # noqa: F401  # paid here, not by the first run

        rng = self.context.rng()
        size = int(self.params["document_bytes"])
        self.documents = [random_json(rng, size) for _ in range(int(self.params["documents"]))]

    def run(self) -> int:
        """Convert every document; returns a CRC-32 over the results."""
        import yaml

        checksum = 0
        for document in self.documents:
            checksum = zlib.crc32(yaml.safe_dump(json.loads(document)).encode(), checksum)
        return checksum


def random_json(rng: random.Random, size_bytes: int) -> str:
    """A nested JSON object in ASCII, exactly `size_bytes` long if that is 12 or more."""
    parts: list[str] = []
    room = size_bytes - len('{"note": ""}')
    while True:
        record = {
            "id": int(1e6 * rng.random()),
            "name": _word(rng),
            "score": round(100 * rng.random(), 3),
            "active": rng.random() < 0.5,
            "tags": [_word(rng) for _ in range(1 + int(3 * rng.random()))],
            "place": {"city": _word(rng), "floor": int(40 * rng.random()), "owner": None},
        }
        part = f'"record{len(parts)}": {json.dumps(record)}, '
        if len(part) > room:
            break
        parts.append(part)
        room -= len(part)
    return "{" + "".join(parts) + '"note": "' + "".join(rng.choices(string.ascii_lowercase, k=max(0, room))) + '"}'


def _word(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_lowercase, k=3 + int(6 * rng.random())))
