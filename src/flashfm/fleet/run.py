"""A whole file of pairs, from rows to a plan on disk, in memory that does not grow with the file.

Enters: a file of measurements. Leaves: a Parquet file with one row a pair. Chunks of pairs are answered on an engine;
they are read and their parts are kept in this process, in order. A run that was killed goes on where it was, on any
engine, and what it makes is the same to the byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

import flashfm
from flashfm.adapt.fewshot import FlashRegressor
from flashfm.engine.base import Engine, Told
from flashfm.engine.inline import INLINE
from flashfm.errors import DataError
from flashfm.fleet.answer import answer
from flashfm.fleet.parts import Parts, fingerprint
from flashfm.fleet.plan import FleetSummary, Plan, schema
from flashfm.fleet.plane import plane_of
from flashfm.fleet.rows import Chunk, Source
from flashfm.fleet.seen import Seen
from flashfm.fleet.settings import FleetSettings
from flashfm.models import state
from flashfm.models.flash import FlashModel
from flashfm.models.threads import one_thread


def recommend(
    data: Path,
    out: Path,
    model: FlashRegressor,
    settings: FleetSettings | None = None,
    on_step: Callable[[int, int], object] = lambda *_: None,
    engine: Engine = INLINE,
) -> FleetSummary:
    """Recommend a configuration for each pair of a file.

    Args:
        data: `.parquet` or `.csv` with rows of measurements as `FlashRegressor.adapt` takes them, with a column of the
            application and perhaps of the platform; the rows of a pair follow each other.
        out: `.parquet`; what is there is replaced in the end. Parts are kept in the folder `OUT.parts` until then.
        model: pretrained.
        settings: the aim, and what the columns are called.
        on_step: told of rows done and rows in all, of a CSV file lines, after each part and where a run goes on.
        engine: where pairs are answered; what comes out is the same.

    Returns:
        What the plan comes to, parts of an earlier process included.

    Raises:
        DataFormatError: the file is none, damaged, or without a needed column; or `out` is no Parquet file.
        DataError: `out` cannot be written, or the parts there are of another run.
        ShotsError, ModelError: what concerns all pairs: a column in another unit, prices that fit no configuration.
        EngineError: what the engine raises; the parts that are done are kept.
    """
    settings = settings or FleetSettings()
    if data.resolve() == out.resolve():
        raise DataError(f"{out}: is the input; choose another out")
    source = Source.open(data, model.model, settings)
    file, lines = fingerprint(data)
    total = max(lines - 1, 1) if source.rows is None else source.rows
    run = {
        "flashfm_version": flashfm.__version__,
        "input": file,
        "model": _fingerprint_of(model.model),
        "device": model.model.device.type,
        "settings": settings.to_dict(),
    }
    with Parts(out, run) as parts, one_thread():
        seen = Seen()
        for table in parts.tables(["app", "platform"]):
            seen.add(table["app"].combine_chunks(), table["platform"].combine_chunks())
        if parts.rows:
            on_step(min(parts.rows, total), total)
        if not parts.complete:
            for done, last in _go_on(source, parts, seen, model.model, settings, engine):
                on_step(total if last else min(done, total), total)
        plane = plane_of(model.model)
        parts.finish(schema(model.model.space), {} if plane is None else {"map": plane.to_dict(model.model)})
        return parts.summary


@dataclass(frozen=True, eq=False)
class _Asked:
    """What is answered together, and becomes a part of the plan."""

    chunk: Chunk
    last: bool


def _go_on(
    source: Source, parts: Parts, seen: Seen, model: FlashModel, settings: FleetSettings, engine: Engine
) -> Iterator[tuple[int, bool]]:
    """Make the parts that are not there yet, and say after each how many rows are done and whether it was the last."""
    asked = _asked(source, parts.rows, seen, settings)
    for _, (plan, end, last) in engine.run(partial(_answered, model, settings), asked, ordered=True):
        parts.append(plan, end_row=end, last=last)
        yield end, last


def _asked(source: Source, start: int, seen: Seen, settings: FleetSettings) -> Iterator[tuple[str, _Asked]]:
    """What is to be answered from a row on, by name, with pairs that came before among the problems."""
    chunks = source.chunks(settings.part_pairs, start)
    chunk = next(chunks, None)
    if chunk is None and not start:
        raise DataError(f"{source.path}: no data rows; expected measurements, one row each")
    while chunk is not None:
        following = next(chunks, None)
        told = replace(chunk, problems=chunk.problems | _again(chunk, seen))
        yield f"rows {chunk.first[0] + 1} to {chunk.end}", _Asked(told, following is None)
        chunk = following


def _answered(model: FlashModel, settings: FleetSettings, asked: _Asked, _: Told) -> tuple[Plan, int, bool]:
    """The work of an engine: a part of the plan, the row after its last, and whether it is the last part."""
    chunk = asked.chunk
    plan = answer(model, chunk.frame, chunk.owner, chunk.apps, chunk.platforms, settings, bad=chunk.problems)
    return plan, chunk.end, asked.last


def _again(chunk: Chunk, seen: Seen) -> dict[int, str]:
    """Pairs that came before, and what is wrong with that."""
    before = np.flatnonzero(seen.add(chunk.apps, chunk.platforms))
    return {
        int(i): f"row {chunk.first[i] + 1}: the pair comes again; expected all rows of a pair to follow each other, and"
        " only the first of them are answered for: sort the file by application and platform"
        for i in before
    }


def _fingerprint_of(model: FlashModel) -> str:
    """What tells a model from another."""
    config, tensors = state.to_state(model)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
