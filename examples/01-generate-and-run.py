"""Generate an application, run it a few times in this process, and print what each of its segments returned.

    python examples/01-generate-and-run.py

No limits are set here and nothing is measured: see `flashfm measure` for that.
"""

from __future__ import annotations

import time

from flashfm.applications.deployment import deployed
from flashfm.applications.generator import generate_many

SEED, INDEX, CALLS = 0, 1, 3


def main() -> None:
    spec = generate_many(SEED, INDEX + 1)[INDEX]  # the same application on every machine: seed:0/1 in commands
    print(f"{spec.name}, of {len(spec.segments)} segments:")
    for segment in spec.segments:
        print(f"  {segment.kind:<22}", *(f"{name}={value}" for name, value in segment.params.items()))

    with deployed(spec) as deployment:  # files, buckets and tables; S3 and DynamoDB run here if a segment calls them
        application = deployment.instance()  # libraries, clients and inputs
        for call in range(1, CALLS + 1):
            start = time.perf_counter()
            checksums = application.invoke()
            print(f"call {call}: {(time.perf_counter() - start) * 1e3:.1f} ms, checksums {checksums}")


if __name__ == "__main__":
    main()
