"""A scan of a whole DynamoDB table by the embedded server's fast path, beside moto's own answer to the same scan.

Both are asked through boto3 in turn, five rounds; a scan that names `ConsistentRead` is left to moto. Prints the wall
time of each as the median over rounds, and the ratio of medians with its range.

    python benchmarks/embedded_scan.py [--json] [--write]

`--write` keeps the figures in results/embedded-scan.json.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from flashfm.applications.runtime import Application
from flashfm.applications.services import EmbeddedAws
from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.experiments.results import Row, write

ITEMS, ROUNDS, SCANS = 1024, 5, 5


def main() -> None:
    spec = ApplicationSpec("scan", (SegmentSpec("dynamodb-read", {"items": ITEMS}),))
    with EmbeddedAws() as aws, tempfile.TemporaryDirectory() as folder:
        application = Application(spec, Path(folder), endpoint_url=aws.endpoint_url)
        application.provision()
        application.prepare()
        client = application.segments[0].context.clients["dynamodb"]
        (table,) = client.list_tables()["TableNames"]

        def scan_ms(**options: bool) -> float:
            times = []
            for _ in range(SCANS):
                start = time.perf_counter()
                found = client.scan(TableName=table, **options)["Count"]
                times.append((time.perf_counter() - start) * 1e3)
                assert found == ITEMS
            return statistics.median(times)

        rounds = [(scan_ms(), scan_ms(ConsistentRead=True)) for _ in range(ROUNDS)]
        client.close()
    ratios = [moto / fast for fast, moto in rounds]
    ours, rival = ([r[i] for r in rounds] for i in (0, 1))
    if "--write" in sys.argv:
        rows = [
            Row("none", name, f"scan of {ITEMS} items, ms", *_spread(times), n_pairs=1, n_queries=ROUNDS * SCANS)
            for name, times in (("fast path", ours), ("moto", rival))
        ]
        rows.append(Row("none", "moto / fast path", "ratio", *_spread(ratios), n_pairs=1, n_queries=ROUNDS * SCANS))
        write(
            Path(__file__).parents[1] / "results" / "embedded-scan.json",
            command="python benchmarks/embedded_scan.py --write",
            protocol=f"{ROUNDS} rounds of {SCANS} scans each way, in turn, through boto3; median of a round",
            seeds=[],
            rows=rows,
            more={},
        )
    result = {
        "fast_ms": statistics.median(ours),
        "moto_ms": statistics.median(rival),
        "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
    }
    if "--json" in sys.argv:
        print(json.dumps(result))
        return
    ratio = result["ratio"]
    print(f"fast path {result['fast_ms']:.1f} ms, moto {result['moto_ms']:.1f} ms", end=": ")
    print(f"{ratio['median']:.1f} times as fast ({ratio['low']:.1f} to {ratio['high']:.1f})")


def _spread(values: list[float]) -> tuple[float, float, float]:
    return statistics.mean(values), statistics.median(values), statistics.stdev(values)


if __name__ == "__main__":
    main()
