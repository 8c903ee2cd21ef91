"""What a campaign has measured so far: in memory, or in a file of one JSON line a pass.

A last line that kill -9 tore is dropped on reading.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from flashfm.errors import MeasureError
from flashfm.measurements.harness import Sample
from flashfm.records import METRICS, Invocation, Outcome, ResourceConfig

VERSION = 1


class Samples:
    """Samples in memory."""

    def __init__(self) -> None:
        self.samples: dict[tuple[str, ResourceConfig, int], Sample] = {}
        """By application, configuration and pass."""
        self.nodes: dict[str, str] = {}
        """Application -> the node that it was measured on, where the node is part of the environment."""

    def add(self, app: str, number: int, sample: Sample) -> None:
        """Keep pass `number` of `app`."""
        self.samples[app, sample.config, number] = sample

    def _add_of(self, app: str, node: str, samples: Mapping[tuple[ResourceConfig, int], Sample]) -> None:
        """Keep passes of an application on a node, and none of it on another."""
        if self.nodes.get(app) != node:
            self.samples = {key: value for key, value in self.samples.items() if key[0] != app}
            self.nodes[app] = node
        self.samples |= {(app, config, number): sample for (config, number), sample in samples.items()}


class Journal(Samples):
    """Append-only file of samples.

    Args:
        path: the file; created with its header if absent.
        campaign: settings that every sample in the file shares, JSON-able.

    Raises:
        MeasureError: the file belongs to other settings, is not a journal, or cannot be written.
    """

    def __init__(self, path: Path, campaign: dict[str, Any]) -> None:
        super().__init__()
        self.path = path
        header = {"journal": VERSION, "campaign": campaign}
        try:
            kept = self._read(header) if path.exists() else 0
            self._file = path.open("ab")
            self._file.truncate(kept)
            if not kept:
                self._append(header)
        except OSError as error:
            raise MeasureError(f"{path}: cannot write the journal: {error.strerror}; choose another --out") from None

    def _read(self, header: dict[str, Any]) -> int:
        """Load the samples of a file with the same header; the length up to the last whole line."""
        kept = 0
        for number, line in enumerate(self.path.read_bytes().splitlines(keepends=True), 1):
            try:
                entry = json.loads(line)
                if number == 1:
                    found = entry["campaign"]
                elif line.endswith(b"\n"):
                    self._keep(entry)
            except (ValueError, KeyError, TypeError, IndexError):
                if not line.endswith(b"\n"):
                    break  # torn by a kill in the middle of the line
                raise MeasureError(
                    f"{self.path}: line {number} is not a journal entry; move the file away or choose another --out"
                ) from None
            if number == 1 and found != json.loads(json.dumps(header["campaign"])):
                different = sorted(
                    k for k in {*found, *header["campaign"]} if found.get(k) != header["campaign"].get(k)
                )
                raise MeasureError(
                    f"{self.path}: holds a campaign with other settings ({', '.join(different)}); "
                    "give the same settings to go on with it, or choose another --out"
                )
            if line.endswith(b"\n"):
                kept += len(line)
        return kept

    def _keep(self, entry: dict[str, Any]) -> None:
        config = ResourceConfig(entry["memory_mb"], entry["cpu_shares"])
        invocations = [Invocation(row[0], dict(zip(METRICS, row[1:], strict=True))) for row in entry["invocations"]]
        sample = Sample(config, Outcome(entry["outcome"]), invocations, entry["detail"], entry["late"])
        if "node" in entry:
            self._add_of(entry["app"], entry["node"], {(config, entry["pass"]): sample})
        else:
            super().add(entry["app"], entry["pass"], sample)

    def add(self, app: str, number: int, sample: Sample) -> None:
        """Append pass `number` of `app`; it is on its way to the disk when this returns.

        Raises:
            MeasureError: the disk is full or the file cannot be written; what it holds stays whole.
        """
        self._append(_entry(app, number, sample))
        super().add(app, number, sample)

    def add_application(self, app: str, node: str, samples: Mapping[tuple[ResourceConfig, int], Sample]) -> None:
        """Append all passes of `app`, which were measured on one node; what there is of it from another counts no more.

        Args:
            app: name of the application.
            node: name of the node.
            samples: by configuration and number of the pass.

        Raises:
            MeasureError: as `add`.
        """
        self._append(*({**_entry(app, number, sample), "node": node} for (_, number), sample in samples.items()))
        self._add_of(app, node, samples)

    def _append(self, *entries: dict[str, Any]) -> None:
        start = self._file.tell()
        try:
            self._file.write(b"".join(json.dumps(entry, separators=(",", ":")).encode() + b"\n" for entry in entries))
            self._file.flush()
        except OSError as error:
            self._drop_unwritten(start)
            raise MeasureError(
                f"{self.path}: cannot write: {error.strerror}; what was measured before is kept: "
                "free some space and run the same command again"
            ) from None

    def _drop_unwritten(self, start: int) -> None:
        """Leave no half line, neither on the disk nor in the buffer."""
        descriptor = os.dup(self._file.fileno())
        os.ftruncate(descriptor, start)
        os.close(descriptor)
        self._file.raw.close()

    def close(self) -> None:
        """Close the file; the samples stay in memory."""
        if not self._file.raw.closed:
            self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _entry(app: str, number: int, sample: Sample) -> dict[str, Any]:
    return {
        "app": app,
        "memory_mb": sample.config.memory_mb,
        "cpu_shares": sample.config.cpu_shares,
        "pass": number,
        "outcome": sample.outcome,
        "detail": sample.detail,
        "late": sample.late,
        "invocations": [[i.runtime_ms, *i.metrics.values()] for i in sample.invocations],
    }
