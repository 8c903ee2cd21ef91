"""s3-write: put objects into a bucket."""

from __future__ import annotations

import os
import zlib
from typing import ClassVar

from flashfm.applications.segments.s3_read import S3Files


class S3Write(S3Files):
    """Put `objects` objects of `file_kb` KB; every run of one process overwrites the same keys.

    Source: Sizeless (Middleware'21), segment "S3 Write"; sizes after FLASH appendix A.4, the number of objects is ours.
    """

    kind: ClassVar[str] = "s3-write"
    short: ClassVar[str] = "s3write"

    def provision(self) -> None:
        """Create the bucket, empty."""
        self.make_bucket({})

    def prepare(self) -> None:
        """Make the client and the bodies."""
        super().prepare()
        self._bodies = list(self.files().values())

    def run(self) -> int:
        """CRC-32 over the entity tags that S3 answered: MD5 sums of the bytes it stored."""
        s3 = self.context.clients["s3"]
        check = 0
        for i, body in enumerate(self._bodies):
            # The process id is asked for here: `prepare` may have run in the parent of a fork.
            answer = s3.put_object(Bucket=self.bucket, Key=f"out/{os.getpid()}/{i}", Body=body)
            check = zlib.crc32(answer["ETag"].encode(), check)
        return check
