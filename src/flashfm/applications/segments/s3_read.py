"""s3-read: get objects of a bucket. Also the sizes that all three S3 segments draw."""

from __future__ import annotations

import random
import zlib
from contextlib import closing
from typing import ClassVar

from flashfm.applications.segments.aws import KIB, AwsSegment
from flashfm.applications.segments.base import Params, log_uniform_int, pick
from flashfm.applications.segments.file_sizes import BASE_KB, with_larger_file


class S3Files(AwsSegment):
    """Sizes and input files of the S3 segments."""

    services: ClassVar[tuple[str, ...]] = ("s3",)

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:
        """`file_kb`: size of an object in KB of 1,024 bytes; `objects`: how many per run."""
        return {"file_kb": pick(rng, BASE_KB), "objects": log_uniform_int(rng, 1, 3)}

    @classmethod
    def patched(cls, params: Params) -> dict[str, int | float | str] | None:
        """Larger files, as many of them; None for a size that the paper does not name."""
        return with_larger_file(params)

    def files(self) -> dict[str, bytes]:
        """The input objects by key: incompressible, the same for every instance of the deployment."""
        rng = self.context.rng()
        size = int(self.params["file_kb"]) * KIB
        return {f"in/{i}": rng.randbytes(size) for i in range(int(self.params["objects"]))}

    def remove(self) -> None:
        """Delete the bucket and what is in it."""
        self.drop_bucket()


class S3Read(S3Files):
    """Get `objects` objects of `file_kb` KB and read them whole.

    Source: Sizeless (Middleware'21), segment "S3 Read"; sizes after FLASH appendix A.4, the number of objects is ours.
    """

    kind: ClassVar[str] = "s3-read"
    short: ClassVar[str] = "s3read"

    def provision(self) -> None:
        """Create the bucket and upload the objects."""
        self.make_bucket(self.files())

    def run(self) -> int:
        """CRC-32 over all bytes read."""
        s3 = self.context.clients["s3"]
        check = 0
        for i in range(int(self.params["objects"])):
            with closing(s3.get_object(Bucket=self.bucket, Key=f"in/{i}")["Body"]) as body:
                check = zlib.crc32(body.read(), check)
        return check
