"""A folder of files put in place as a whole: whoever looks sees the old or the new one, whenever this process dies.

Bytes by file name enter, or whatever fills an empty folder; a folder on disk leaves. What the files mean is not known
here.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from flashfm.errors import ArtifactError

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def place(folder: Path | str) -> Path:
    """The folder's absolute path, symbolic links followed.

    Raises:
        ArtifactError: no path can be written like that.
    """
    try:
        path = Path(folder).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL inside, links in a circle
        raise ArtifactError(f"{str(folder)!r:.200}: not a usable path: {error}; give a folder") from None
    return path


def standing(folder: Path | str) -> Path:
    """Where the folder's content is: `place(folder)`, or where `put` had set it aside when its process died.

    Raises:
        ArtifactError: as `place`.
    """
    path = place(folder)
    aside = _aside(path)
    return aside if not path.exists() and aside.is_dir() else path


@contextlib.contextmanager
def steady(folder: Path | str) -> Iterator[None]:
    """Wait until no process puts a folder here, and keep others from it meanwhile, where the file system has locks.

    Raises:
        ArtifactError: as `place`.
    """
    with _locked(place(folder).parent, fcntl.LOCK_SH):
        yield


def put(folder: Path, files: Mapping[str, bytes], *, replaceable: Callable[[Path], None]) -> None:
    """Make `folder` hold exactly these files, all or nothing.

    Args:
        folder: from `place`; a folder that is there and not empty is replaced.
        files: content by file name.
        replaceable: raises if the folder given to it must not be replaced.

    Raises:
        ArtifactError: what is there cannot be replaced.
        DataError, OSError: the operating system refuses; what was there is unharmed.
    """
    from flashfm.datasets.files import write_whole

    def write(fresh: Path) -> None:
        for name, content in files.items():
            write_whole(fresh / name, lambda file, content=content: file.write(content))  # type: ignore[misc]

    fill(folder, write, replaceable=replaceable)


def fill(folder: Path, write: Callable[[Path], object], *, replaceable: Callable[[Path], None]) -> None:
    """Make `folder` hold what `write` writes and nothing else, all or nothing.

    Args:
        folder: from `place`; a folder that is there and not empty is replaced.
        write: is given an empty folder.
        replaceable: raises if the folder given to it must not be replaced.

    Raises:
        ArtifactError: what is there cannot be replaced.
        DataError, OSError: the operating system refuses; what was there is unharmed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent, fcntl.LOCK_EX) as alone:
        if folder.exists() and not folder.is_dir():
            raise ArtifactError(f"{folder}: is a file, expected a folder to save into; choose another name")
        if folder.exists() and any(folder.iterdir()):
            replaceable(folder)
        if alone:
            _sweep(folder)
        fresh = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}.saving")
        fresh.mkdir()
        try:
            write(fresh)
            _sync(fresh)
            _replace(folder, fresh)
            _sync(folder.parent)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def _replace(folder: Path, fresh: Path) -> None:
    """Put `fresh` where `folder` is; afterwards `fresh` is the old folder, or gone."""
    aside = _aside(folder)
    if not (folder.exists() and any(folder.iterdir())):
        fresh.rename(folder)
    elif not _exchange(folder, fresh):
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        try:
            fresh.rename(folder)
        except OSError:
            aside.rename(folder)
            raise
    shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths in one step, where kernel, C library and file system can (Linux renameat2)."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and not rename(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(_RENAME_EXCHANGE)
    )


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.flashfm-replaced")


def _sweep(folder: Path) -> None:
    """Remove what processes that died while saving here have left."""
    left = re.compile(rf"\.{re.escape(folder.name)}\.\d+\.[0-9a-f]{{8}}\.saving")
    for path in folder.parent.iterdir():
        if left.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _locked(parent: Path, operation: int) -> Iterator[bool]:
    """Hold a lock on a folder, which ends with the process; False where the file system grants none."""
    with contextlib.ExitStack() as stack:
        try:
            handle = os.open(parent, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, operation)
            granted = True
        except OSError:
            granted = False
        yield granted


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
