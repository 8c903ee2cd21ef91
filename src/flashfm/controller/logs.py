"""What a controller logs to standard error: one line an event, as text for people or as JSON for collectors.

Enters: records of `logging`. Leaves: lines of bounded length, without secrets; a record of whatever length or content
is one line. Of `extra`, only `FIELDS` are shown.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum

FIELDS = ("target", "phase")
"""Of `extra`, where a record has them."""
MOST_BYTES = 16_000
"""Of a line: container runtimes part lines of 16 KiB."""
QUIET = ("httpx", "httpcore", "urllib3", "kubernetes")
"""Loggers that tell of each request at INFO; their warnings are shown."""
HIDDEN = "…"
"""In place of a secret."""
_MESSAGE, _FIELD, _TRACE = 2_000, 300, 3_000
"""Characters of the parts of a line."""
_WIDEST = 12
"""Bytes that JSON may take for a character."""
_NAMES = r"(?:proxy-)?authorization|cookie|(?:x-)?api[-_]?key|(?:\w+[-_])?token|passw(?:or)?d|(?:client[-_]?)?secret"
_SECRETS = (
    (re.compile(rf"(?i)\b({_NAMES})(=|[\"']\s*[:=]\s*)(\"[^\"]*\"?|'[^']*'?|[^\s&;,\"'}}]+)"), rf"\1\2{HIDDEN}"),
    (
        re.compile(r"(?i)\b((?:proxy-)?authorization|cookie|x-api-key)\s*:\s*(?:(?:bearer|basic)\s+)?\S+"),
        rf"\1: {HIDDEN}",
    ),
    (re.compile(r"\b((?i:bearer))\s+[\w.~+/=-]{4,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"\b((?i:basic))\s+(?=\S+[A-Z\d=])[\w+/=]{4,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*)*"), HIDDEN),
    (re.compile(r"://[^/\s@]+@"), f"://{HIDDEN}@"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
)


class Form(StrEnum):
    """Of lines."""

    TEXT = "text"
    JSON = "json"


class JsonLines(logging.Formatter):
    """One JSON object a line, in ASCII.

    It has `time` (RFC 3339, UTC), `level`, `logger` and `message`, those of `FIELDS` that there are, and `error` and
    `trace` of an exception.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, of `MOST_BYTES` at most."""
        for narrower in (1, _WIDEST):
            line = json.dumps(_told(record, narrower))
            if len(line) <= MOST_BYTES:
                break
        return line


class TextLines(logging.Formatter):
    """Time, level and message, and in the end the exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told = _told(record, 1)
        words = [told["time"], told["level"].upper(), told["message"], *([told["error"]] if "error" in told else [])]
        return " ".join(_printable(word) for word in words)


@contextmanager
def logged(form: Form) -> Iterator[None]:
    """Log all that this process tells, from INFO on, and warnings of Python; what was before comes back in the end.

    Args:
        form: of lines.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form is Form.JSON else TextLines())
    root, quiet = logging.getLogger(), [logging.getLogger(name) for name in QUIET]
    before = [(of, of.level) for of in (root, *quiet)]
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for one in quiet:
        one.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for one, was in before:
            one.setLevel(was)
        root.removeHandler(handler)


def without_secrets(text: str) -> str:
    """A text in which `HIDDEN` stands for what looks like a secret: tokens, passwords, keys, and users of URLs."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _told(record: logging.LogRecord, narrower: int) -> dict[str, str]:
    """What a line says.

    Args:
        record: the event.
        narrower: by how much texts are shorter than they may be.
    """
    told = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": _short(record.name, _FIELD // narrower),
        "message": _short(_message(record), _MESSAGE // narrower),
    }
    for name in FIELDS:
        if (value := getattr(record, name, None)) is not None:
            told[name] = _short(str(value), _FIELD // narrower)
    if record.exc_info and record.exc_info[0] is not None:
        kind, error, _ = record.exc_info
        told["error"] = _short(f"{kind.__name__}: {error}", _MESSAGE // narrower)
        # the end of a trace says most
        told["trace"] = without_secrets(logging.Formatter().formatException(record.exc_info))[-_TRACE // narrower :]
    return told


def _message(record: logging.LogRecord) -> str:
    """The message, also where its arguments do not fit."""
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return f"{record.msg} {record.args}"


def _short(text: str, most: int) -> str:
    shown = without_secrets(text)
    return shown if len(shown) <= most else f"{shown[:most]} …"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
