"""Segment file-read: files of the deployment, read from the disk and not from the page cache."""

from __future__ import annotations

import os
import zlib
from typing import ClassVar

from flashfm.applications.segments.file_sizes import FileSegment


class FileRead(FileSegment):
    """Read whole files. The kernel is asked to drop each from its cache first, which a RAM file system cannot obey.

    Sizes: `file_kb` in KiB; `files` a run, log-uniform in [1, 8].

    Source: FLASH, appendix A.4, scenario 1.
    """

    kind: ClassVar[str] = "file-read"
    short: ClassVar[str] = "fread"

    def provision(self) -> None:
        """Write the files and flush them to the disk: only clean pages can be dropped."""
        rng = self.context.rng()
        for i in range(int(self.params["files"])):
            with (self.context.workdir / f"input-{i}.bin").open("wb") as file:
                file.write(rng.randbytes(1024 * int(self.params["file_kb"])))
                file.flush()
                os.fsync(file.fileno())

    def run(self) -> int:
        """Read every file; returns a CRC-32 over the contents."""
        checksum = 0
        for i in range(int(self.params["files"])):
            with (self.context.workdir / f"input-{i}.bin").open("rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                checksum = zlib.crc32(file.readall(), checksum)
        return checksum

    def remove(self) -> None:
        """Delete the files."""
        for path in self.context.workdir.glob("input-*.bin"):
            path.unlink(missing_ok=True)
