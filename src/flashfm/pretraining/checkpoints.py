"""Checkpoints: parts of a training that goes on, kept in a folder, so that a run that was killed loses little.

Enters: tensors by name, and the settings of the run. Leaves: one safetensors file a part, and `checkpoints.json` with
the run, the time it took so far and the SHA-256 of every part that counts. Files are written whole, the JSON last, and
no file that it names is ever written over: whenever a process dies, the folder holds what was kept last. Workers that
train together have a folder each below that of their run.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import safetensors
import safetensors.torch
from torch import Tensor

from flashfm.datasets.files import write_whole
from flashfm.errors import ArtifactError

FORMAT, VERSION = "flashfm checkpoints", 1
INDEX = "checkpoints.json"
_WRITTEN = r"(checkpoints\.json|[a-z0-9-]+\.[0-9a-f]{16}\.safetensors)"
_OURS = re.compile(rf"{_WRITTEN}|\.{_WRITTEN}\.\d+\.tmp")
"""Names of files that are written here; others are left alone."""
LEAVES_S = 30.0
"""How long a worker may take to leave its folder to the one that takes its place."""
_LOOK_S = 0.1


class Checkpoints:
    """Parts of a run by name, to be used in a `with` statement, in which no other process has the folder.

    Args:
        folder: is made; it may hold checkpoints. None keeps nothing, and needs no `with`.
        wait_s: how long another process may have the folder.

    Raises:
        ArtifactError: on entering, the folder holds something else, is damaged, in use or cannot be used.
    """

    def __init__(self, folder: Path | None = None, wait_s: float = 0.0) -> None:
        self.folder, self._wait_s = folder, wait_s
        self._run: dict[str, Any] | None = None
        self._parts: dict[str, str] = {}
        self._before_s, self._entered = 0.0, time.perf_counter()
        self._lock = contextlib.ExitStack()

    def __enter__(self) -> Checkpoints:
        if self.folder is None:
            return self
        with contextlib.ExitStack() as lock:
            try:
                if self.folder.is_file():
                    raise ArtifactError(f"{self.folder}: is a file, expected a folder for checkpoints; choose another")
                self.folder.mkdir(parents=True, exist_ok=True)
                lock.enter_context(_alone(self.folder, self._wait_s))
                self._read_index(self.folder)
            except OSError as error:
                raise ArtifactError(
                    f"{self.folder}: no folder for checkpoints: {error.strerror or error}; choose another"
                ) from None
            self._lock = lock.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

    def belong(self, run: Mapping[str, Any]) -> None:
        """Say which run this is.

        Args:
            run: plain JSON values that decide what comes out.

        Raises:
            ArtifactError: the folder holds checkpoints of another run.
        """
        named = json.loads(json.dumps(run))
        if self._run is not None and self._run != named:
            before, now = dict(_flat(self._run)), dict(_flat(named))
            name = next(name for name in {**now, **before} if before.get(name) != now.get(name))
            got = f"{name} {before.get(name)!s:.40}, this one has {now.get(name)!s:.40}"
            raise ArtifactError(
                f"{self.folder}: holds checkpoints of another run ({got}); choose another folder, or delete it"
            )
        if self._run is None:
            self._run = named
            self.write({})

    @property
    def seconds(self) -> float:
        """Time worked on the run, also by earlier processes up to what they kept last."""
        return self._before_s + time.perf_counter() - self._entered

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def __getitem__(self, name: str) -> dict[str, Tensor]:
        """Tensors of a part, on the CPU.

        Raises:
            ArtifactError: no such part, or damaged.
        """
        if self.folder is None or name not in self._parts:
            self.refuse(f"part {name!r} is missing")
        path = self.folder / _file(name, self._parts[name])
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != self._parts[name]:
                self.refuse(f"{path.name} is damaged or cut short: its SHA-256 is another")
            # copied into aligned memory, where sums come out as they did before
            return {key: tensor.clone() for key, tensor in safetensors.torch.load(content).items()}
        except OSError as error:
            self.refuse(f"{path.name} cannot be read: {error.strerror or error}")
        except safetensors.SafetensorError as error:
            self.refuse(f"{path.name} is no safetensors file: {error}")

    def write(self, parts: Mapping[str, Mapping[str, Tensor]], *, forget: Iterable[str] = ()) -> None:
        """Keep parts, all or none, in place of those of the same name.

        Args:
            parts: tensors by name, by the name of the part in small letters, digits and hyphens.
            forget: names of parts that are no longer needed; those that are not there are passed over.

        Raises:
            DataError: they cannot be written; what was kept before is unharmed.
        """
        if self.folder is None:
            return
        kept = {name: digest for name, digest in self._parts.items() if name not in {*forget}}
        for name, tensors in parts.items():
            content = safetensors.torch.save({key: tensor.cpu() for key, tensor in tensors.items()})
            kept[name] = hashlib.sha256(content).hexdigest()
            write_whole(self.folder / _file(name, kept[name]), lambda file, content=content: file.write(content))  # type: ignore[misc]
        index = {"format": FORMAT, "version": VERSION, "run": self._run or {}, "seconds": self.seconds, "parts": kept}
        text = json.dumps(index, indent=1).encode() + b"\n"
        write_whole(self.folder / INDEX, lambda file: file.write(text))
        self._parts = kept
        _sweep(self.folder, {INDEX, *(_file(*part) for part in kept.items())})

    def of_rank(self, rank: int) -> Checkpoints:
        """Those of a worker of the run, to be used in a `with` statement of its own."""
        return Checkpoints(None if self.folder is None else self.folder / f"rank-{rank}", LEAVES_S)

    def remove(self) -> None:
        """Delete the checkpoints, also of workers, and the folder unless it holds something else: the run has ended."""
        self._run, self._parts = None, {}
        if self.folder is not None:
            for path in self.folder.glob("rank-*"):
                Checkpoints(path).remove()
            (self.folder / INDEX).unlink(missing_ok=True)  # first, so that what is left never looks damaged
            _sweep(self.folder, set())
            with contextlib.suppress(OSError):
                self.folder.rmdir()

    @contextlib.contextmanager
    def fitting(self, name: str) -> Iterator[None]:
        """Within this, tensors of a part that do not fit what they are given to are told as damage.

        Raises:
            ArtifactError: they do not fit.
        """
        try:
            yield
        except (KeyError, ValueError, RuntimeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            self.refuse(f"part {name!r} does not fit this version of flashfm ({reason:.80})")

    def refuse(self, problem: str) -> NoReturn:
        """Raise the error of a damaged folder.

        Raises:
            ArtifactError: always.
        """
        raise ArtifactError(f"{self.folder}: the checkpoints are damaged: {problem}; delete the folder to begin anew")

    def _read_index(self, folder: Path) -> None:
        path = folder / INDEX
        if not path.exists():
            other = next((one.name for one in sorted(folder.iterdir()) if not _OURS.fullmatch(one.name)), None)
            if other is not None:
                raise ArtifactError(f"{folder}: holds {other!r:.60} and no checkpoints; choose another folder")
            return
        try:
            index = json.loads(path.read_bytes())
            whole = index["format"] == FORMAT and index["version"] == VERSION and isinstance(index["run"], dict)
            self._run, self._before_s = index["run"], float(index["seconds"])
            self._parts = {str(name): str(digest) for name, digest in index["parts"].items()}
            names = [_file(*part) for part in self._parts.items()]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            whole, names = False, []
        if not (whole and all(_OURS.fullmatch(name) for name in names)):
            self.refuse(f"{INDEX} is cut short, edited or of another version")


def _file(name: str, digest: str) -> str:
    return f"{name}.{digest[:16]}.safetensors"


def _sweep(folder: Path, named: set[str]) -> None:
    """Remove files of ours that are not named, such as those of a process that died while writing."""
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and path.name not in named:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(folder: Path, wait_s: float) -> Iterator[None]:
    """Hold a lock on the folder, which ends with the process, where its file system has locks."""
    handle, until = os.open(folder, os.O_RDONLY), time.monotonic() + wait_s
    try:
        while not _locked(handle):
            if time.monotonic() >= until:
                raise ArtifactError(f"{folder}: another process keeps checkpoints here; choose another folder")
            time.sleep(_LOOK_S)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    """Whether the lock is had, or there is none to be had on this file system."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by dotted names."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
