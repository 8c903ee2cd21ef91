"""event-processing: a batch of sensor events in, statistics by sensor and window out."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from typing import Any, ClassVar

from flashfm.applications.segments.aws import BATCH_ITEMS, AwsSegment

SENSORS = 8
WINDOW_S = 60
SPAN_S = 180
"""Time that a batch covers, in seconds."""
RANGES = {"temperature": (-40.0, 85.0), "humidity": (0.0, 100.0), "battery": (0.0, 4.5)}
"""Valid readings, in degrees Celsius, percent and volts."""
PERCENTILES = (50, 95, 99)
BATCHES = 16
"""Different raw batches on file; later ones overwrite earlier ones."""


class EventProcessing(AwsSegment):
    """Unpack a gzipped batch of JSON events, validate them, aggregate by sensor and minute, store batch and aggregates.

    Two calls an invocation (BatchWriteItem, PutObject) after parsing and statistics in plain Python.

    Source: after "Event Processing", one of the four applications of Sizeless (Middleware'21); written anew.
    """

    kind: ClassVar[str] = "event-processing"
    short: ClassVar[str] = "events"
    bound: ClassVar[str] = "cpu"
    services: ClassVar[tuple[str, ...]] = ("dynamodb", "s3")

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:  # noqa: ARG003 - fixed sizes
        """`events` of a batch."""
        return {"events": 2000}

    def provision(self) -> None:
        """Create the table of aggregates and the bucket of raw batches."""
        self.make_table([], sort_key="window")
        self.make_bucket({})

    def prepare(self) -> None:
        """Make the clients and the batch: about 3 in 100 events are damaged or out of range."""
        super().prepare()
        rng = self.context.rng()
        lines = []
        for i in range(int(self.params["events"])):
            event: dict[str, Any] = {
                "sensor": f"sensor-{int(rng.random() * SENSORS)}",
                "time_s": round(rng.random() * SPAN_S, 3),
                "sequence": i,
                "temperature": round(20 + 15 * (rng.random() - rng.random()), 2),
                "humidity": round(100 * rng.random(), 1),
                "battery": round(3.3 + 0.9 * rng.random(), 3),
            }
            if rng.random() < 0.01:
                event["temperature"] = 999.0
            elif rng.random() < 0.01:
                del event["humidity"]
            line = json.dumps(event)
            lines.append(line[:-5] if rng.random() < 0.01 else line)
        self._batch = gzip.compress("\n".join(lines).encode(), compresslevel=6, mtime=0)
        self._served = 0

    def run(self) -> int:
        """CRC-32 of all aggregates."""
        events, rejected = _valid(gzip.decompress(self._batch))
        aggregates = _aggregate(events)
        dynamodb = self.context.clients["dynamodb"]
        for start in range(0, len(aggregates), BATCH_ITEMS):
            batch = aggregates[start : start + BATCH_ITEMS]
            requests = {self.table: [{"PutRequest": {"Item": item}} for item in batch]}
            while requests:
                requests = dynamodb.batch_write_item(RequestItems=requests).get("UnprocessedItems", {})
        self._served += 1
        self.context.clients["s3"].put_object(
            Bucket=self.bucket,
            Key=f"raw/{self._served % BATCHES:03d}.jsonl.gz",
            Body=self._batch,
            ContentEncoding="gzip",
            Metadata={"rejected": str(rejected)},
        )
        return zlib.crc32(json.dumps(aggregates, sort_keys=True).encode())

    def remove(self) -> None:
        """Delete the bucket and the table."""
        self.drop_bucket()
        self.drop_table()


def _valid(text: bytes) -> tuple[list[dict[str, Any]], int]:
    """The well-formed events in a batch of JSON lines, and how many were not."""
    events, rejected = [], 0
    for line in text.splitlines():
        try:
            event = json.loads(line)
            sound = isinstance(event["sensor"], str) and 0 <= event["time_s"] <= SPAN_S
            sound = sound and all(low <= event[name] <= high for name, (low, high) in RANGES.items())
        except (ValueError, KeyError, TypeError):
            sound = False
        if sound:
            events.append(event)
        else:
            rejected += 1
    return events, rejected


def _aggregate(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Count, mean and percentiles of every reading by sensor and window, as DynamoDB items sorted by key."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for event in events:
        groups.setdefault((event["sensor"], int(event["time_s"] // WINDOW_S)), []).append(event)
    items = []
    for (sensor, window), members in sorted(groups.items()):
        item: dict[str, Any] = {
            "id": {"S": sensor},
            "window": {"S": f"{window:06d}"},
            "count": {"N": str(len(members))},
        }
        for name in RANGES:
            values = sorted(event[name] for event in members)
            item[f"{name}_mean"] = {"N": f"{sum(values) / len(values):.4f}"}
            for percent in PERCENTILES:
                rank = -(-percent * len(values) // 100)  # nearest-rank percentile
                item[f"{name}_p{percent}"] = {"N": f"{values[rank - 1]:.4f}"}
        items.append(item)
    return items
