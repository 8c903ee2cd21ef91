"""s3-stream: read objects piece by piece, transform the pieces and put the results back."""

from __future__ import annotations

import os
import zlib
from contextlib import closing
from typing import ClassVar

from flashfm.applications.segments.s3_read import S3Files

CHUNK_BYTES = 16 * 1024


class S3Stream(S3Files):
    """Stream `objects` objects of `file_kb` KB in 16 KB pieces, upper-case each piece, put the result back.

    Results below S3's smallest part (5 MB) cannot be multipart uploads, so each is one PutObject.

    Source: Sizeless (Middleware'21), segment "S3 Stream"; sizes after FLASH appendix A.4, the number of objects and the
    transformation are ours.
    """

    kind: ClassVar[str] = "s3-stream"
    short: ClassVar[str] = "s3stream"

    def provision(self) -> None:
        """Create the bucket and upload the inputs."""
        self.make_bucket(self.files())

    def run(self) -> int:
        """CRC-32 over all transformed bytes."""
        s3 = self.context.clients["s3"]
        check = 0
        for i in range(int(self.params["objects"])):
            result = bytearray()
            with closing(s3.get_object(Bucket=self.bucket, Key=f"in/{i}")["Body"]) as body:
                for chunk in body.iter_chunks(CHUNK_BYTES):
                    piece = chunk.upper()
                    check = zlib.crc32(piece, check)
                    result += piece
            s3.put_object(Bucket=self.bucket, Key=f"out/{os.getpid()}/{i}", Body=bytes(result))
        return check
