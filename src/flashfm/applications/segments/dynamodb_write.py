"""dynamodb-write: put items into a table, one call each."""

from __future__ import annotations

import random
import zlib
from typing import ClassVar

from flashfm.applications.segments.aws import AwsSegment
from flashfm.applications.segments.base import log_uniform_int

KEYS = 64
"""Different keys that are written, in turn, so that the table stays small however long an instance lives."""


class DynamodbWrite(AwsSegment):
    """Write `items` entries of about 160 random bytes, each by its own PutItem.

    Source: Sizeless (Middleware'21), segment "DynamoDB Write"; the number of items is ours: neither paper states one.
    """

    kind: ClassVar[str] = "dynamodb-write"
    short: ClassVar[str] = "dynwrite"
    services: ClassVar[tuple[str, ...]] = ("dynamodb",)

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:
        """`items`: entries written per run."""
        return {"items": log_uniform_int(rng, 1, 8)}

    def provision(self) -> None:
        """Create the table, empty."""
        self.make_table([])

    def prepare(self) -> None:
        """Make the client and the payloads."""
        super().prepare()
        rng = self.context.rng()
        self._payloads = [rng.randbytes(64).hex() for _ in range(int(self.params["items"]))]
        self._written = 0

    def run(self) -> int:
        """CRC-32 of the payloads written."""
        dynamodb = self.context.clients["dynamodb"]
        check = 0
        for payload in self._payloads:
            key = f"item-{self._written % KEYS:03d}"
            item = {"id": {"S": key}, "size": {"N": str(len(payload))}, "payload": {"S": payload}}
            dynamodb.put_item(TableName=self.table, Item=item)
            self._written += 1
            check = zlib.crc32(payload.encode(), check)
        return check

    def remove(self) -> None:
        """Delete the table."""
        self.drop_table()
