"""Every error that flashfm raises on purpose; nothing is imported here.

::

    FlashError
    ├── SpecError              an application description is malformed or unknown
    ├── DataError              a data set is missing, damaged or breaks its schema
    │   ├── DataFormatError    a file or table breaks the schema: row, column, expected, got
    │   └── DataMissingError   a public data set is neither in $FLASHFM_DATA nor in the cache
    ├── MeasureError           a measurement campaign cannot start or go on
    │   └── LimitsError        CPU or memory limits cannot be applied on this machine
    ├── ServiceError           an embedded service (S3, DynamoDB) did not start or answer
    ├── PackagingError         deployable artefacts cannot be written
    ├── ModelError             a model cannot be pretrained, adapted or asked as it was asked
    │   └── ShotsError         the shots of a pair, or what is asked about it, do not fit the model
    ├── ArtifactError          a saved model is missing, damaged, foreign or of a later version
    └── ControlError           live control cannot start or go on
        └── BackendError       what is controlled could not be observed or changed; the next step tries again

A message says what went wrong, where, what was expected, what came, and how to mend it. The command line prints it as
one line and exits with the error's `exit_code`; a traceback is always a bug.
"""

from __future__ import annotations


class FlashError(Exception):
    """Root of all errors that flashfm raises on purpose."""

    exit_code: int = 1


class SpecError(FlashError):
    """An application description is malformed or names something unknown."""

    exit_code = 2


class DataError(FlashError):
    """A data set is missing, damaged or breaks its schema."""

    exit_code = 3


class DataFormatError(DataError):
    """A file or table breaks the schema; the message names the row and the column."""


class DataMissingError(DataError):
    """A public data set is on this machine neither in `$FLASHFM_DATA` nor in the cache."""


class MeasureError(FlashError):
    """A measurement campaign cannot start or go on."""

    exit_code = 4


class LimitsError(MeasureError):
    """CPU or memory limits cannot be applied on this machine."""


class ServiceError(FlashError):
    """An embedded service did not start or did not answer."""

    exit_code = 5


class PackagingError(FlashError):
    """Deployable artefacts cannot be written."""

    exit_code = 6


class ModelError(FlashError):
    """A model cannot be pretrained, adapted or asked as it was asked."""

    exit_code = 7


class ShotsError(ModelError):
    """The shots of a pair, or what is asked about it, do not fit the model; the message names row and column."""


class ArtifactError(FlashError):
    """A saved model is missing, damaged, foreign or of a later version."""

    exit_code = 8


class EngineError(FlashError):
    """Work cannot be given to where it was to run, or what works there is gone."""

    exit_code = 11


class ControlError(FlashError):
    """Live control cannot start or go on."""

    exit_code = 10


class BackendError(ControlError):
    """What is controlled could not be observed or changed; the next step tries again."""
