"""What is kept of deployments, as it is read: steps, what came of them, and where each is in its life.

Enters: a file that `store` writes, perhaps at this moment. Leaves: `Kept`. It is neither made nor changed here, and
nothing heavy is imported, so that a status is told at once.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashfm.controller.lifecycle import Life
from flashfm.errors import ControlError

VERSION = 1
"""Of the schema; a file with a later one is refused."""
KEPT_STEPS = 2_880
"""Of each deployment: a day."""
BEGUN, DONE, FAILED, NOTHING, UNKNOWN = "begun", "done", "failed", "nothing", "unknown"
"""What came of a step: not known yet, set, not set, nothing was to be set, and never to be known."""
OF_TARGET = """
SELECT target, n, time_s, sample, decision, status, detail FROM steps WHERE target = ? ORDER BY n DESC LIMIT ?
"""
_LATEST = """
SELECT target, n, time_s, sample, decision, status, detail FROM steps
JOIN (SELECT target AS of, MAX(n) AS last FROM steps GROUP BY target) ON target = of AND n = last ORDER BY target
"""


@dataclass(frozen=True)
class Kept:
    """One step as it is kept."""

    target: str
    n: int
    time_s: float
    sample: dict[str, Any] | None
    decision: dict[str, Any]
    status: str
    detail: str


class Reader:
    """What a file holds when it is opened: it is neither made nor changed, and nothing is put beside it.

    Args:
        path: of the file, which a controller may be writing.

    Raises:
        ControlError: it is absent, something else, or of a later version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise ControlError(f"{path}: no such file; `flashfm autoscale local --state {path}` makes one")
        wal, index = (path.with_name(path.name + ending) for ending in ("-wal", "-shm"))
        # SQLite makes both where they are absent: without a WAL, all is in the file
        how = "readonly_shm=1" if wal.exists() and index.exists() else "immutable=1"
        if how == "immutable=1" and wal.exists() and wal.stat().st_size:
            raise ControlError(
                f"{path}: cannot be read: {index.name} is absent beside {wal.name}; copy all three files"
            )
        self._db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&{how}", uri=True, isolation_level=None)
        try:
            self._rows("BEGIN")  # all answers are of one moment
            tables = {name for (name,) in self._rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not {"targets", "steps"} <= tables:
                raise ControlError(f"{path}: holds no targets; expected a file that `flashfm autoscale` keeps")
            check_version(path, self._rows("PRAGMA user_version")[0][0])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def steps(self, target: str, last: int) -> list[Kept]:
        """The last steps of a deployment, the oldest first.

        Args:
            target: its name.
            last: how many at most.

        Raises:
            ControlError: they cannot be read.
        """
        return self._kept(reversed(self._rows(OF_TARGET, target, last)))

    def latest(self) -> list[Kept]:
        """The last step of every deployment, by name.

        Raises:
            ControlError: they cannot be read.
        """
        return self._kept(self._rows(_LATEST))

    def life(self, target: str) -> Life | None:
        """Where a deployment is in its life.

        Raises:
            ControlError: that cannot be read.
        """
        rows = self._rows("SELECT life FROM targets WHERE name = ?", target)
        try:
            return Life.from_dict(json.loads(rows[0][0])) if rows else None
        except (LookupError, TypeError, ValueError) as error:
            raise self._unreadable(f"the life of {target!r:.80}: {error!r}") from None

    def _rows(self, sql: str, *values: str | int) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._unreadable(str(error)) from None

    def _kept(self, rows: Iterable[tuple[Any, ...]]) -> list[Kept]:
        try:
            return list(map(_step, rows))
        except ValueError as error:
            raise self._unreadable(f"a step: {error}") from None

    def _unreadable(self, why: str) -> ControlError:
        return ControlError(f"{self.path}: cannot be read: {why}; expected what `flashfm autoscale` keeps")


def _step(row: tuple[Any, ...]) -> Kept:
    target, n, time_s, sample, decision, status, detail = row
    return Kept(target, n, time_s, None if sample is None else json.loads(sample), json.loads(decision), status, detail)


def check_version(path: Path, version: int) -> None:
    """Refuse a file of a later version.

    Raises:
        ControlError: it is.
    """
    if version > VERSION:
        raise ControlError(f"{path}: version {version}, this flashfm reads up to {VERSION}; update flashfm")
