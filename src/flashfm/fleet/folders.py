"""A folder that is written whole or not at all, however many files it has.

Enters: a function that fills an empty folder. Leaves: the folder in its place. Until the last rename the old folder is
there, or comes back if that fails.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from flashfm.errors import DataError


def write_folder(out: Path, fill: Callable[[Path], object], mark: str) -> None:
    """Make a folder hold what `fill` writes, and nothing else.

    Args:
        out: a folder that is there is replaced; who calls has looked whether it may be.
        fill: writes into the empty folder that it is given.
        mark: a file that it writes, by which the folder is told as ours.

    Raises:
        DataError: the folder cannot be written; what was there before is unharmed.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 - resolve() would follow a link
    try:
        made = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            fill(made)
            if not (made / mark).is_file():
                raise DataError(f"{out}: was not filled, {mark} is missing")
            made.chmod(0o755)
            _swap(made, out)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}; nothing was changed") from None


def _swap(made: Path, out: Path) -> None:
    if not out.exists():
        made.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
    try:
        out.rename(old / "old")
        try:
            made.rename(out)
        except BaseException:
            (old / "old").rename(out)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
