"""Result files: `results/NAME.json`, one schema for all, and the Markdown table made from such a file alone."""

from __future__ import annotations

import json
import math
import subprocess
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np

import flashfm
from flashfm.datasets.files import write_whole
from flashfm.engine.base import Engine
from flashfm.errors import DataError
from flashfm.measurements.machine import describe

T = TypeVar("T")
OnStep = Callable[[int, int], object]
"""Told of what is done and of all there is."""


@dataclass(frozen=True)
class Row:
    """One figure with its spread."""

    dataset: str
    method: str
    metric: str
    mean: float
    median: float
    sd: float
    """Standard deviation over pairs, or over splits where there are splits."""
    n_pairs: int
    n_queries: int
    shots: int | None = None
    split: str | None = None
    seconds: float | None = None


def write(
    path: Path,
    *,
    command: str,
    protocol: str,
    seeds: list[int],
    rows: list[Row],
    more: dict[str, Any],
    markdown_of: Callable[[Path], str] | None = None,
) -> None:
    """Write a result file, and beside it the Markdown table that is made from it; both are written whole.

    Args:
        path: `results/NAME.json`.
        command: what to type to get it again.
        protocol: how the figures were obtained.
        seeds: of all that was drawn.
        rows: the figures.
        more: what the rows rest on, as further entries.
        markdown_of: makes the Markdown from the path of the result file; absent, `markdown`.

    Raises:
        DataError: the file cannot be written.
    """
    content = {
        "name": path.stem,
        "commit": commit(),
        "command": command,
        "machine": describe(),
        "protocol": protocol,
        "seeds": seeds,
        "rows": [asdict(row) for row in rows],
        **more,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot write results: {error.strerror}") from None
    text = json.dumps(content, indent=1) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))
    page = (markdown_of or markdown)(path)
    write_whole(path.with_suffix(".md"), lambda file: file.write(page.encode()))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file.

    Raises:
        DataError: it cannot be read, or is damaged.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, TypeError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not what this experiment writes ({error}); delete it and run again") from None


def in_parts(
    folder: Path,
    parts: Mapping[str, tuple[int, Callable[[OnStep], T]]],
    keep: Callable[[Path, T], None],
    on_step: OnStep,
    engine: Engine,
) -> Iterator[tuple[str, Path]]:
    """Make the parts of a run, those that are kept already left as they are.

    Args:
        folder: where they are kept; it is made.
        parts: name -> its share of the progress, and what makes it, which is told whom to tell of its own progress: a
            function of a module, or a `functools.partial` of one. None rests on another.
        keep: writes a part to a file.
        on_step: told of the progress and of all of it.
        engine: where parts are made.

    Yields:
        The name of each part and its file: those that are kept, then the others as they are made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"{name}.npz" for name in parts}
    missing = {name: make for name, (_, make) in parts.items() if not files[name].exists()}
    total = sum(weight for weight, _ in parts.values())
    at = {name: 0 if name in missing else weight for name, (weight, _) in parts.items()}

    def told(name: str, done: int, _: int) -> None:
        at[name] = min(done, parts[name][0])
        on_step(sum(at.values()), total)

    yield from ((name, file) for name, file in files.items() if name not in missing)
    if not missing:
        on_step(total, total)
    for name, made in engine.run(_make, missing, told):
        keep(files[name], made)
        told(name, parts[name][0], 0)
        yield name, files[name]


def untold(make: Callable[..., T], *arguments: object) -> Callable[[OnStep], T]:
    """A part that says nothing of its progress."""
    return partial(_untold, partial(make, *arguments))


def _untold(make: Callable[[], T], _told: OnStep) -> T:
    return make()


def _make(make: Callable[[OnStep], T], told: OnStep) -> T:
    return make(told)


def markdown(path: Path) -> str:
    """The rows of a result file as a Markdown table."""
    rows = json.loads(path.read_text())["rows"]
    names = [n for n in ("dataset", "method", "shots", "split", "metric") if any(r[n] is not None for r in rows)]
    names += ["mean", "median", "sd", "n_pairs", "n_queries"]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def commit() -> str:
    """Commit of this source tree, or the version where it is installed without one."""
    here = Path(__file__).parent
    done = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or flashfm.__version__


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3g}"
    return "–" if value is None else str(value)
