"""A plan that is being made, on disk: parts that are whole or not there, and a manifest that says which count.

Enters: parts of a plan, in order. Leaves: `part-00000.parquet`, … and `manifest.json` in a folder beside the plan, and
in the end the plan in their place. The manifest is written after the part that it names: whenever a process dies, the
folder holds what was kept last, and a run that goes on makes the same bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

from flashfm.datasets.files import as_json, write_whole
from flashfm.errors import DataError, DataFormatError
from flashfm.fleet.plan import FleetSummary, Plan

log = logging.getLogger("flashfm.fleet")

FORMAT, VERSION = "flashfm fleet plan", 1
MANIFEST = "manifest.json"
KEY = b"flashfm"
"""Where the plan's own Parquet metadata say what it was made with."""


class Parts:
    """Parts of a plan, to be used in a `with` statement, in which no other process has the folder.

    Args:
        out: where the plan will be; the folder is called like it, with `.parts` after.
        run: plain JSON values that decide what comes out.

    Raises:
        DataFormatError: on entering, `out` has another suffix than `.parquet`.
        DataError: on entering, the folder holds another run, is damaged, in use or cannot be used.
    """

    def __init__(self, out: Path, run: Mapping[str, Any]) -> None:
        self.out = out
        self.folder = out.with_name(f"{out.name}.parts")
        self._run: dict[str, Any] = json.loads(as_json({"format": FORMAT, "version": VERSION, **run}, str(out)))
        self._parts: list[dict[str, Any]] = []
        self._lock = contextlib.ExitStack()

    def __enter__(self) -> Parts:
        if self.out.suffix.lower() != ".parquet":
            raise DataFormatError(f"{self.out}: expected a .parquet file for the plan, got suffix {self.out.suffix!r}")
        with contextlib.ExitStack() as lock:
            try:
                if self.out.is_dir():
                    raise DataError(f"{self.out}: is a directory, expected a file for the plan; choose another name")
                self.folder.mkdir(exist_ok=True)
                lock.enter_context(self._alone())
                self._sweep()
                self._parts = self._standing()
            except OSError as error:
                raise DataError(f"{self.folder}: cannot be used: {error.strerror or error}; choose another") from None
            self._lock = lock.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

    @property
    def rows(self) -> int:
        """Rows of the input that are done."""
        return int(self._parts[-1]["end_row"]) if self._parts else 0

    @property
    def complete(self) -> bool:
        """Whether the last part is that of the input's end."""
        return bool(self._parts) and bool(self._parts[-1]["last"])

    @property
    def summary(self) -> FleetSummary:
        """What the parts come to."""
        total = FleetSummary()
        for part in self._parts:
            total = total + FleetSummary(**part["summary"])
        return total

    def append(self, plan: Plan, *, end_row: int, last: bool) -> None:
        """Keep the next part.

        Raises:
            DataError: it cannot be written; what was kept is unharmed.
        """
        path = self.folder / f"part-{len(self._parts):05d}.parquet"
        write_whole(path, lambda file: pa.parquet.write_table(plan.table, file, compression="zstd"))
        entry = {
            "file": path.name,
            "sha256": _sha256(path),
            "end_row": end_row,
            "last": last,
            "summary": {name: value for name, value in plan.summary.to_dict().items() if name != "saving_usd"},
        }
        self._parts.append(entry)
        text = json.dumps({"run": self._run, "parts": self._parts}, indent=1).encode() + b"\n"
        write_whole(self.folder / MANIFEST, lambda file: file.write(text))

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The parts that are kept, in order, or some of their columns."""
        for part in self._parts:
            yield pa.parquet.read_table(self.folder / part["file"], columns=columns)

    def finish(self, schema: pa.Schema, more: Mapping[str, Any] | None = None) -> None:
        """Put the plan together from its parts, in place of what was there, and remove them.

        Args:
            schema: of the parts.
            more: what the plan's metadata say beside how it was made and what it comes to; plain JSON values.

        Raises:
            DataError: it cannot be written; the parts are unharmed.
        """
        told = as_json(
            {"version": VERSION, "run": self._run, "summary": self.summary.to_dict(), **(more or {})}, str(self.out)
        )
        named = schema.with_metadata({KEY: told.encode()})

        def fill(file: IO[bytes]) -> None:
            with pa.parquet.ParquetWriter(file, named, compression="zstd") as writer:
                for table in self.tables():
                    writer.write_table(table.replace_schema_metadata(named.metadata))

        write_whole(self.out, fill)
        with contextlib.suppress(OSError):
            (self.folder / MANIFEST).unlink(missing_ok=True)
            for part in self.folder.glob("part-*.parquet"):
                part.unlink()
            self.folder.rmdir()

    def _standing(self) -> list[dict[str, Any]]:
        """Parts that the manifest names and that are as they were written, up to the first that is not."""
        path = self.folder / MANIFEST
        if not path.exists():
            return []
        try:
            stored = json.loads(path.read_bytes())
            run, parts = stored["run"], [dict(part) for part in stored["parts"]]
            names = {"file", "sha256", "end_row", "last", "summary"}
            sound = all(set(part) == names and re.fullmatch(r"part-\d{5,}\.parquet", part["file"]) for part in parts)
            _ = [FleetSummary(**part["summary"]) for part in parts]
        except (ValueError, KeyError, TypeError, RecursionError):
            sound, run, parts = False, {}, []
        if not sound or not isinstance(run, dict):
            raise DataError(f"{path}: damaged; delete the folder {self.folder}, and the plan is made from the start")
        if run != self._run:
            raise DataError(
                f"{self.folder}: {_other(run, self._run)}; finish that one, choose another out, or delete it"
            )
        kept = []
        for part in parts:
            place = self.folder / part["file"]
            if not place.is_file() or _sha256(place) != part["sha256"]:
                break
            kept.append(part)
        return kept

    def _sweep(self) -> None:
        """Remove what processes that died while writing have left."""
        left = re.compile(rf"\.{re.escape(self.out.name)}\.\d+\.tmp")
        ours = [path for path in self.folder.iterdir() if re.fullmatch(r"\..+\.\d+\.tmp", path.name)]
        for path in [*ours, *(path for path in self.out.parent.iterdir() if left.fullmatch(path.name))]:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(
                    f"{self.folder}: another run is making this plan; wait for it, or choose another out"
                ) from None
            except OSError as error:
                log.warning(
                    "%s: the file system has no locks (%s); see to it that no other run makes this plan",
                    self.folder,
                    error.strerror,
                )
            yield
        finally:
            os.close(handle)


def fingerprint(path: Path) -> tuple[dict[str, Any], int]:
    """What tells a file from another, and how many lines it has.

    Raises:
        DataError: the operating system refuses to read it.
    """
    digest, size, lines, block, last = hashlib.sha256(), 0, 0, b"", b"\n"
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
                size, lines, last = size + len(block), lines + block.count(b"\n"), block[-1:]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    return {"sha256": digest.hexdigest(), "bytes": size}, lines + (last != b"\n")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _other(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How a run differs from the one that a folder holds."""
    one, other = dict(_flat(before)), dict(_flat(now))
    name = next(name for name in {**other, **one} if one.get(name) != other.get(name))
    if name.startswith("input."):
        return "holds a plan of another input file, or of this one as it was before"
    if name == "model":
        return "holds a plan by another model"
    return f"holds a plan made otherwise ({name} was {one.get(name)!r:.60}, this run has {other.get(name)!r:.60})"


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner
