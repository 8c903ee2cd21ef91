"""image-recognition: fetch a photograph, run a small convolutional network over it, file the labels."""

from __future__ import annotations

import io
import math
import random
import zlib
from itertools import pairwise
from typing import Any, ClassVar

from flashfm.applications.segments.aws import AwsSegment

INPUT_PX = 64
"""Side of the network's input."""
CHANNELS = (3, 16, 32, 64)
"""Channels before and after each convolution; the side halves after each."""
LABELS = (
    "face", "person", "bicycle", "bus", "cat", "dog", "tree", "boat", "house", "bridge",
    "chair", "table", "bottle", "cup", "book", "clock",
)  # fmt: skip
TOP = 3
RESULTS = 64
"""Different results on file; later ones overwrite earlier ones."""


class ImageRecognition(AwsSegment):
    """Fetch a JPEG from S3, decode and shrink it, classify it with three convolutions in numpy, store the best labels.

    Two calls an invocation (GetObject, PutItem) around decoding and linear algebra. The network's weights are random:
    what counts is its work.

    Source: after "Facial Recognition", one of the four applications of Sizeless (Middleware'21), whose recognition is a
    call of AWS Rekognition; here the function does it. Written anew.
    """

    kind: ClassVar[str] = "image-recognition"
    short: ClassVar[str] = "imagerec"
    bound: ClassVar[str] = "cpu"
    requires: ClassVar[tuple[str, ...]] = ("boto3", "numpy", "pillow")
    services: ClassVar[tuple[str, ...]] = ("dynamodb", "s3")

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:  # noqa: ARG003 - fixed sizes
        """`side_px` of the square photograph."""
        return {"side_px": 640}

    def provision(self) -> None:
        """Create the table of results and a bucket with the photograph: smooth shapes under noise."""
        import numpy as np
        from PIL import Image

        side = int(self.params["side_px"])
        rng = np.random.default_rng(self.context.seed)
        y, x = np.mgrid[0:side, 0:side] / side
        image = np.zeros((side, side, 3))
        for channel in range(3):
            a, b, phase = rng.uniform((2, 2, 0), (9, 9, 6))
            image[:, :, channel] = 127 + 90 * np.sin(a * x * 6 + phase) * np.cos(b * y * 6)
        image += rng.normal(0, 12, image.shape)
        encoded = io.BytesIO()
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(encoded, "JPEG", quality=85)
        self.make_table([])
        self.make_bucket({"photograph.jpg": encoded.getvalue()})

    def prepare(self) -> None:
        """Import numpy and Pillow; make the clients and the network."""
        import numpy as np
        from PIL import Image, JpegImagePlugin  # noqa: F401 - the decoder, so that the first run does not import it

        super().prepare()
        rng = np.random.default_rng(self.context.seed)
        self._kernels = [
            rng.normal(0, math.sqrt(2 / (9 * before)), (9 * before, after)).astype(np.float32)
            for before, after in pairwise(CHANNELS)
        ]
        self._head = rng.normal(0, 1 / math.sqrt(CHANNELS[-1]), (CHANNELS[-1], len(LABELS))).astype(np.float32)
        self._served = 0

    def run(self) -> int:
        """CRC-32 of the best labels, best first."""
        import numpy as np
        from PIL import Image

        found = self.context.clients["s3"].get_object(Bucket=self.bucket, Key="photograph.jpg")["Body"]
        try:
            encoded = found.read()
        finally:
            found.close()
        with Image.open(io.BytesIO(encoded)) as image:
            small = image.convert("RGB").resize((INPUT_PX, INPUT_PX), Image.Resampling.BICUBIC)
        pixels = np.asarray(small, dtype=np.float32) / 127.5 - 1.0
        scores = self._forward(pixels)
        best = [int(i) for i in np.argsort(-scores, kind="stable")[:TOP]]
        self._served += 1
        self.context.clients["dynamodb"].put_item(
            TableName=self.table,
            Item={
                "id": {"S": f"photograph-{self._served % RESULTS:03d}"},
                "labels": {"L": [{"M": {"label": {"S": LABELS[i]}, "score": {"N": f"{scores[i]:.4f}"}}} for i in best]},
            },
        )
        return zlib.crc32(",".join(LABELS[i] for i in best).encode())

    def _forward(self, pixels: Any) -> Any:
        """Probabilities of the labels: convolve, rectify, pool; average; one linear layer, softmax."""
        import numpy as np
        from numpy.lib.stride_tricks import sliding_window_view

        value = pixels
        for kernel in self._kernels:
            side, channels = value.shape[0], value.shape[2]
            padded = np.pad(value, ((1, 1), (1, 1), (0, 0)))
            windows = sliding_window_view(padded, (3, 3), axis=(0, 1))
            value = np.maximum(windows.reshape(side * side, 9 * channels) @ kernel, 0)
            value = value.reshape(side // 2, 2, side // 2, 2, -1).max(axis=(1, 3))
        logits = value.mean(axis=(0, 1)) @ self._head
        weights = np.exp(logits - logits.max())
        return weights / weights.sum()

    def remove(self) -> None:
        """Delete the bucket and the table."""
        self.drop_bucket()
        self.drop_table()
