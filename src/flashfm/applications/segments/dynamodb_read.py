"""dynamodb-read: scan a whole table."""

from __future__ import annotations

import random
from typing import ClassVar

from flashfm.applications.segments.aws import AwsSegment
from flashfm.applications.segments.base import Params, pick

PATCH_FACTOR = 10


class DynamodbRead(AwsSegment):
    """Scan every page of a table of `items` entries of about 100 bytes.

    Source: Sizeless (Middleware'21), segment "DynamoDB Read"; FLASH appendix A.4 scans 1,024 items and 10,240 after the
    update, which is the factor here. Smaller tables are ours: applications should differ in more than their kinds.
    """

    kind: ClassVar[str] = "dynamodb-read"
    short: ClassVar[str] = "dynread"
    services: ClassVar[tuple[str, ...]] = ("dynamodb",)

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:
        """`items`: entries of the table."""
        return {"items": pick(rng, (256, 512, 1024))}

    @classmethod
    def patched(cls, params: Params) -> dict[str, int | float | str] | None:
        """Ten times the items."""
        return {"items": int(params["items"]) * PATCH_FACTOR}

    def provision(self) -> None:
        """Create and fill the table."""
        rng = self.context.rng()
        self.make_table(
            [
                {
                    "id": {"S": f"item-{i:06d}"},
                    "amount": {"N": str(rng.getrandbits(20))},
                    "payload": {"S": rng.randbytes(32).hex()},
                }
                for i in range(int(self.params["items"]))
            ]
        )

    def run(self) -> int:
        """Sum of all items' amounts, whatever their order."""
        dynamodb = self.context.clients["dynamodb"]
        total = 0
        start: dict[str, object] = {}
        while True:
            page = dynamodb.scan(TableName=self.table, **start)
            total += sum(int(item["amount"]["N"]) for item in page["Items"])
            if "LastEvaluatedKey" not in page:
                return total
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def remove(self) -> None:
        """Delete the table."""
        self.drop_table()
