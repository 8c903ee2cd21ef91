"""What is known of deployments, kept in SQLite so that a controller that was killed goes on where it was.

Enters: decisions before they are carried out, and what came of them. Leaves: what a keeper is restored from, and what
`status` shows. A step is written whole before anything is set: a step that was begun and not ended is never repeated,
what is in force is read anew. A damaged file is set aside. `kept` reads without writing.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from flashfm.act.guardrails import Past
from flashfm.adapt.agent import FlashAgent, Trajectory
from flashfm.adapt.trajectories import CAPACITY
from flashfm.controller.keeper import REMEMBERED, Decision, Keeper, KeeperConfig, Target
from flashfm.controller.kept import BEGUN, KEPT_STEPS, NOTHING, UNKNOWN, VERSION, Reader, check_version
from flashfm.controller.lifecycle import Life
from flashfm.controller.sample import Sample
from flashfm.errors import ControlError, ModelError
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS

_SCHEMA = """
CREATE TABLE targets (name TEXT PRIMARY KEY, life TEXT NOT NULL, past TEXT NOT NULL, place INTEGER NOT NULL) STRICT;
CREATE TABLE steps (
    target TEXT NOT NULL, n INTEGER NOT NULL, time_s REAL NOT NULL, sample TEXT, decision TEXT NOT NULL,
    status TEXT NOT NULL, detail TEXT NOT NULL DEFAULT '', PRIMARY KEY (target, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE trajectories (
    target TEXT NOT NULL, n INTEGER NOT NULL, observation BLOB NOT NULL, action BLOB NOT NULL, reward BLOB NOT NULL,
    PRIMARY KEY (target, n)
) STRICT, WITHOUT ROWID;
"""
_SAMPLES = "SELECT sample FROM steps WHERE target = ? AND sample IS NOT NULL ORDER BY n DESC LIMIT ?"
_SHAPES: tuple[tuple[int, ...], ...] = (
    (EPISODE_STEPS + 1, 1, len(OBSERVATION)),
    (EPISODE_STEPS, 1, len(ACTION)),
    (EPISODE_STEPS, 1),
)
"""Of observations, actions and rewards."""


class Store(Reader):
    """One file that is written, by one controller.

    Args:
        path: of the file, which is made where there is none.

    Raises:
        ControlError: it cannot be opened, or is of a later version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set_aside: Path | None = None
        """Where a damaged file was moved to when this one was opened."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = self._open()
        except sqlite3.OperationalError as error:
            raise ControlError(f"{path}: cannot be opened: {error}; give another --state") from None
        except sqlite3.DatabaseError:
            self.set_aside = _aside(path)
            self._db = self._open()
        except OSError as error:
            raise ControlError(f"{path}: cannot be made: {error.strerror or error}; give another --state") from None

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            if (found := db.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found)
            version = db.execute("PRAGMA user_version").fetchone()[0]
            check_version(self.path, version)
            if version == 0:
                db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT")
        except BaseException:
            db.close()
            raise
        return db

    def begin(
        self, keeper: Keeper, now_s: float, sample: Sample | None, decision: Decision, finished: Trajectory | None
    ) -> int:
        """Keep a step before it is carried out; gives its number.

        Args:
            keeper: after it has decided.
            now_s: Unix time.
            sample: that the decision rests on; None where there was none that could be read.
            decision: what is to be done.
            finished: the trajectory that ended with this step.
        """
        name, status = keeper.target.name, BEGUN if decision.change else NOTHING
        kept = None if sample is None else json.dumps(sample.to_dict())
        with self._changing():
            n = self._next(name)
            self._db.execute(
                "INSERT INTO steps (target, n, time_s, sample, decision, status) VALUES (?, ?, ?, ?, ?, ?)",
                (name, n, now_s, kept, json.dumps(decision.to_dict()), status),
            )
            self._db.execute("DELETE FROM steps WHERE target = ? AND n <= ?", (name, n - KEPT_STEPS))
            if decision.turned is not None and not keeper.buffer.best:
                self._db.execute("DELETE FROM trajectories WHERE target = ?", (name,))
            if finished is not None and keeper.buffer.best:
                arrays = (finished.observation, finished.action, finished.reward)
                blobs = [np.ascontiguousarray(of, "<f4").tobytes() for of in arrays]
                self._db.execute("INSERT INTO trajectories VALUES (?, ?, ?, ?, ?)", (name, n, *blobs))
                self._db.execute(
                    "DELETE FROM trajectories WHERE target = ? AND n <= ?", (name, n - CAPACITY * EPISODE_STEPS)
                )
            self._db.execute(
                "INSERT INTO targets VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
                " life = excluded.life, past = excluded.past, place = excluded.place",
                (name, json.dumps(keeper.life.to_dict()), json.dumps(keeper.past.to_dict()), keeper.place),
            )
        return n

    def end(self, target: str, n: int, status: str, detail: str = "") -> None:
        """Note what came of a step."""
        with self._changing():
            self._db.execute(
                "UPDATE steps SET status = ?, detail = ? WHERE target = ? AND n = ?", (status, detail, target, n)
            )

    def restored(self, target: Target, agent: FlashAgent, config: KeeperConfig) -> tuple[Keeper, str | None]:
        """A keeper where its deployment was, or a new one where nothing is kept of it.

        Args:
            target: the deployment.
            agent: as of `Keeper`.
            config: as of `Keeper`.

        Returns:
            The keeper, and what there is to say: a step whose end is not known, or what could not be read.
        """
        name, keeper = target.name, Keeper(target, agent, config)
        row = self._db.execute("SELECT life, past, place FROM targets WHERE name = ?", (name,)).fetchone()
        if row is None:
            return keeper, None
        with self._changing():
            cut = self._db.execute(
                "UPDATE steps SET status = ?, detail = 'the controller ended in this step' WHERE target = ?"
                " AND status = ?",
                (UNKNOWN, name, BEGUN),
            ).rowcount
        try:
            life, past = Life.from_dict(json.loads(row[0])), Past.from_dict(json.loads(row[1]))
            rows = self._rows(_SAMPLES, name, max(REMEMBERED, int(row[2]) + 1))
            samples = [Sample.from_dict(json.loads(text)) for (text,) in reversed(rows)]
            keeper.restore(life, past, self._trajectories(name), samples, min(int(row[2]), len(samples) - 1))
        except (LookupError, TypeError, ValueError, ModelError) as error:
            self.forget(name)
            return Keeper(target, agent, config), f"what is kept of it cannot be read ({error}): it begins anew"
        return keeper, "the end of the last step is not known; what is in force is read anew" if cut else None

    def forget(self, target: str) -> None:
        """Forget all about a deployment."""
        with self._changing():
            for table, column in (("targets", "name"), ("steps", "target"), ("trajectories", "target")):
                self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (target,))  # noqa: S608

    def _next(self, name: str) -> int:
        found = self._db.execute("SELECT MAX(n) FROM steps WHERE target = ?", (name,)).fetchone()[0]
        return 0 if found is None else int(found) + 1

    def _trajectories(self, name: str) -> Sequence[Trajectory]:
        rows = self._db.execute(
            "SELECT observation, action, reward FROM trajectories WHERE target = ? ORDER BY n", (name,)
        ).fetchall()
        return [
            Trajectory(*(np.frombuffer(blob, "<f4").reshape(of).copy() for of, blob in zip(_SHAPES, row, strict=True)))
            for row in rows
        ]

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One transaction.

        Raises:
            ControlError: it cannot be written.
        """
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield
        except sqlite3.Error as error:
            raise ControlError(
                f"{self.path}: cannot be written: {error}; free some space, or give another --state"
            ) from None


def _aside(path: Path) -> Path:
    """Move a damaged file out of the way, with what SQLite keeps beside it."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for ending in ("", "-wal", "-shm"):
        beside = path.with_name(path.name + ending)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + ending))
    return aside
