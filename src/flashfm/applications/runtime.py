"""Runs an application: a spec and a context in, results of invocations out. Sequential; one instance is one process."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from flashfm.applications.segments import Context, Segment, segment_class
from flashfm.applications.spec import ApplicationSpec


class Application:
    """One instance of an application in this process.

    Args:
        spec: what it is made of.
        workdir: directory of the deployment; created if absent.
        endpoint_url: where S3 and DynamoDB are; None for boto3's own configuration.
        deployment: distinguishes deployments of one spec that share services, in names of buckets and tables.
    """

    def __init__(
        self, spec: ApplicationSpec, workdir: Path, *, endpoint_url: str | None = None, deployment: str = "0"
    ) -> None:
        workdir.mkdir(parents=True, exist_ok=True)
        self.spec = spec
        self.segments: list[Segment] = []
        shared = Context(workdir, "", 0, endpoint_url)
        for i, part in enumerate(spec.segments):
            mark = hashlib.sha256(f"{spec.digest}/{i}".encode()).digest()
            own = replace(
                shared,
                namespace=f"f{deployment}-{mark.hex()[:16]}",
                seed=int.from_bytes(mark[8:16]) >> 1,
            )
            own.workdir = workdir / f"segment-{i}"
            own.workdir.mkdir(exist_ok=True)
            self.segments.append(segment_class(part.kind)(part.params, own))

    def provision(self) -> None:
        """Create what the segments need outside the function; removes it again if one of them fails."""
        try:
            for segment in self.segments:
                segment.provision()
        except BaseException:
            self.remove()
            raise

    def prepare(self) -> None:
        """Import libraries, make clients and inputs."""
        for segment in self.segments:
            segment.prepare()

    def invoke(self) -> list[int]:
        """Run every segment once, in order; one checksum or size each."""
        return [segment.run() for segment in self.segments]

    def remove(self) -> None:
        """Delete what `provision` made, last first; goes on past a failure and raises the first one at the end."""
        first: Exception | None = None
        for segment in reversed(self.segments):
            try:
                segment.remove()
            except Exception as error:  # noqa: BLE001  every segment gets its turn
                first = first or error
        if first is not None:
            raise first

    @staticmethod
    def services(spec: ApplicationSpec) -> set[str]:
        """AWS services that the spec's segments call."""
        return {service for part in spec.segments for service in segment_class(part.kind).services}

    @staticmethod
    def requirements(spec: ApplicationSpec) -> list[str]:
        """PyPI distributions that the spec's segments import, sorted."""
        return sorted({name for part in spec.segments for name in segment_class(part.kind).requires})
