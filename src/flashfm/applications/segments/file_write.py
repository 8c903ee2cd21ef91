"""Segment file-write: files of the instance, written through to the disk."""

from __future__ import annotations

import os
import secrets
from typing import ClassVar

from flashfm.applications.segments.file_sizes import FileSegment


class FileWrite(FileSegment):
    """Write whole files and wait until the disk has them (fsync). Each run deletes what the one before it wrote.

    Sizes: `file_kb` in KiB; `files` a run, log-uniform in [1, 8].

    Source: FLASH, appendix A.4, scenario 1.
    """

    kind: ClassVar[str] = "file-write"
    short: ClassVar[str] = "fwrite"

    def prepare(self) -> None:
        """Draw the content, and a mark that keeps instances apart where process ids may be equal (containers)."""
        self.content = self.context.rng().randbytes(1024 * int(self.params["file_kb"]))
        self.mark = secrets.token_hex(4)

    def run(self) -> int:
        """Write every file anew; returns the bytes written."""
        written = 0
        for i in range(int(self.params["files"])):
            path = self.context.workdir / f"output-{os.getpid()}-{self.mark}-{i}.bin"
            path.unlink(missing_ok=True)
            with path.open("wb", buffering=0) as file:
                written += file.write(self.content)
                os.fsync(file.fileno())
        return written

    def remove(self) -> None:
        """Delete the files of all instances of the deployment."""
        for path in self.context.workdir.glob("output-*.bin"):
            path.unlink(missing_ok=True)
