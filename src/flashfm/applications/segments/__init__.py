"""The sixteen segments of Sizeless (Eismann et al., Middleware'21), one file each, and how to find one by name."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from flashfm.applications.segments.base import Context, Params, Segment
from flashfm.errors import SpecError

FUNCTION_KIND = "function"
"""A user's own function; see `flashfm.applications.function`."""

POOL: dict[str, str] = {
    "floating-point": "floating_point:FloatingPoint",
    "matrix-multiplication": "matrix_multiplication:MatrixMultiplication",
    "image-compress": "image_compress:ImageCompress",
    "image-resize": "image_resize:ImageResize",
    "image-rotate": "image_rotate:ImageRotate",
    "json-to-yaml": "json_to_yaml:JsonToYaml",
    "compression": "compression:Compression",
    "decompression": "decompression:Decompression",
    "dynamodb-read": "dynamodb_read:DynamodbRead",
    "dynamodb-write": "dynamodb_write:DynamodbWrite",
    "file-read": "file_read:FileRead",
    "file-write": "file_write:FileWrite",
    "s3-read": "s3_read:S3Read",
    "s3-write": "s3_write:S3Write",
    "s3-stream": "s3_stream:S3Stream",
    "sleep": "sleep:Sleep",
}
"""The pool that the generator rolls from: kind -> module:class, relative to this package."""

REAL: dict[str, str] = {
    "airline-booking": "airline_booking:AirlineBooking",
    "image-recognition": "image_recognition:ImageRecognition",
    "event-processing": "event_processing:EventProcessing",
    "retail-catalogue": "retail_catalogue:RetailCatalogue",
}
"""The four hand-written applications, in `flashfm.applications.real`; never rolled, used only to test models."""


@cache
def segment_class(kind: str) -> type[Segment]:
    """The class behind a kind of segment or real application.

    Raises:
        SpecError: no such kind.
    """
    if kind in POOL:
        package, target = "flashfm.applications.segments", POOL[kind]
    elif kind in REAL:
        package, target = "flashfm.applications.real", REAL[kind]
    elif kind == FUNCTION_KIND:
        package, target = "flashfm.applications", "function:UserFunction"
    else:
        raise SpecError(f"segment kind {kind!r} is unknown; expected one of {', '.join([*POOL, *REAL])}")
    module, name = target.split(":")
    found = getattr(import_module(f"{package}.{module}"), name)
    assert isinstance(found, type)
    assert issubclass(found, Segment)
    return found


__all__ = ["FUNCTION_KIND", "POOL", "REAL", "Context", "Params", "Segment", "segment_class"]
