"""A plan as what users apply: sizes for AWS SAM and CloudFormation, patches for Kubernetes, a table for a spreadsheet.

Enters: a plan on disk, and perhaps a file that says what its pairs are called where they run. Leaves: a file or folder,
whole or not at all, and how many pairs are in it and why the others are not. Memory does not grow with the plan, but
for eight bytes a pair and the names. Only the pairs whose status is `recommended` are in a patch, whatever their
confidence; where two pairs have one name, neither is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import UInt64

from flashfm.artifact import swap
from flashfm.datasets.files import write_whole
from flashfm.errors import DataError
from flashfm.fleet import kustomize, sam, spreadsheet
from flashfm.fleet.names import Names, Naming, Words
from flashfm.fleet.reading import PlanFile, numbers, texts

Kind = Literal["csv", "sam", "kustomize"]
KINDS: tuple[Kind, ...] = get_args(Kind)
EXAMPLES = 3
"""Pairs that are named for each reason why pairs are not in a patch."""
SKIPPED = {
    "stay": "stays in today's configuration",
    "declined": "declined: no recommendation can be given",
    "bad": "bad: the pair's rows cannot be read",
}
"""Why a pair of another status than `recommended` is in no patch."""
TWICE = "another pair has the same name there"


@dataclass(frozen=True)
class Patched:
    """What was written."""

    kind: Kind
    out: Path
    pairs: int
    """Of the plan."""
    written: int
    skipped: dict[str, int]
    """Why the others are not in it -> how many, the most first."""
    examples: dict[str, tuple[str, ...]]
    """The same reasons -> the first few pairs."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        examples = {reason: list(pairs) for reason, pairs in self.examples.items()}
        return {**vars(self), "out": str(self.out), "skipped": dict(self.skipped), "examples": examples}


@dataclass
class _Tally:
    """Counts pairs while a plan is read."""

    pairs: int = 0
    written: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, table: pa.Table, reasons: Words) -> None:
        """Pairs of a batch, and why each is left out; the empty text where it is not."""
        for reason in dict.fromkeys(reasons[reasons != ""].tolist()):
            at = np.flatnonzero(reasons == reason)
            self.skipped[reason] += len(at)
            some = self.examples.setdefault(reason, [])
            for i in at[: EXAMPLES - len(some)].tolist():
                app, platform = table["app"][i].as_py(), table["platform"][i].as_py()
                some.append(f"{app} on {platform}" if platform else str(app))


def write_patches(plan: Path, out: Path, kind: str, names: Path | None = None) -> Patched:
    """Write a plan as what users apply.

    `csv`: one row a pair, all statuses, for a spreadsheet, in which no name can become a formula
    (`flashfm.fleet.spreadsheet`). `sam`: `MemorySize` of each function, to be merged into a template
    (`flashfm.fleet.sam`). `kustomize`: a component with one patch a container (`flashfm.fleet.kustomize`).

    Args:
        plan: what `flashfm.fleet.recommend` wrote.
        out: a file, of `kustomize` a folder. What an earlier call wrote there is replaced, anything else refused.
        kind: `csv`, `sam` or `kustomize`.
        names: a CSV file with the columns `app`, perhaps `platform`, and for `sam` `resource`, for `kustomize`
            `deployment`, `container` and perhaps `namespace`. With a column of platforms a row is about that pair, an
            empty cell about the one without platform; without it, about the application wherever it runs. By default
            the application's name is taken, where it is such a name, whatever its platform. Pairs that the file lacks
            are left out, so a file with the functions of one template makes the patch of that template. A `csv` needs
            none.

    Returns:
        What was written and what was not.

    Raises:
        DataFormatError: `plan` is none, or `names` lacks a column or has a pair twice.
        DataError: `kind` is unknown, the plan's configurations have no memory, `out` holds something else or cannot
            be written; what was there is unharmed.
    """
    if kind not in KINDS:
        raise DataError(f"patch {kind!r}: expected one of {', '.join(KINDS)}")
    source = PlanFile.open(plan)
    for path in (plan, names):
        if path is not None and path.resolve() == out.resolve():
            raise DataError(f"{out}: is an input; choose another place for the patch")
    tally = _Tally(pairs=source.pairs)
    if kind == "csv":
        if names is not None:
            raise DataError(f"{names}: a csv patch calls pairs as the plan does; names are for sam and kustomize")
        spreadsheet.check_place(out)
        write_whole(out, lambda file: spreadsheet.write(source, file))
        tally.written = source.pairs
    else:
        _patch(source, out, kind, names, tally)
    most = dict(tally.skipped.most_common())
    examples = {reason: tuple(tally.examples[reason]) for reason in most}
    return Patched(kind, out, tally.pairs, tally.written, most, examples)


def _patch(source: PlanFile, out: Path, kind: Kind, names: Path | None, tally: _Tally) -> None:
    target = sam if kind == "sam" else kustomize
    if sam.MEMORY not in source.sizes:
        raise DataError(
            f"{source.path}: its configurations are of {', '.join(source.config)}; a {kind} patch needs {sam.MEMORY}"
        )
    target.check_place(out)
    naming = Naming(target.FIELDS, None if names is None else Names.read(names, target.FIELDS))
    twice = _twice(source, naming)

    def sizes() -> Iterator[list[tuple[dict[str, str | None], dict[str, float]]]]:
        """Names and configurations of the pairs that are in the patch."""
        columns = ["app", "platform", "status", *source.config]
        for table in source.batches(columns):
            called, problem = naming.of(*_pairs(table))
            status = texts(table, "status")
            for name, reason in SKIPPED.items():
                problem[status == name] = reason
            given = {name: numbers(table, name) for name in target.SIZES if name in source.sizes}
            odd = target.unfit(given)
            fine = problem == ""
            problem[fine] = odd[fine]
            fine = problem == ""
            problem[fine] = np.where(np.isin(_keys(called)[fine], twice), TWICE, "")
            tally.skip(table, problem)
            at = np.flatnonzero(problem == "").tolist()
            tally.written += len(at)
            yield [
                ({k: v[i] for k, v in called.items()}, {k: float(v[i]) for k, v in given.items() if v[i] == v[i]})
                for i in at
            ]

    if kind == "sam":
        write_whole(out, lambda file: sam.write(sizes(), file))
    else:
        try:
            swap.fill(
                swap.place(out), lambda folder: kustomize.write(sizes(), folder), replaceable=kustomize.check_place
            )
        except OSError as error:
            raise DataError(f"{out}: cannot be written: {error.strerror or error}; nothing was changed") from None


def _twice(source: PlanFile, naming: Naming) -> UInt64[np.ndarray, " key"]:
    """Names that more than one pair has which may run there; which of them is meant, nobody said."""
    found = []
    for table in source.batches(["app", "platform", "status"]):
        called, problem = naming.of(*_pairs(table))
        live = (problem == "") & np.isin(texts(table, "status").astype(str), ["recommended", "stay"])
        found.append(_keys(called)[live])
    keys, counts = np.unique(np.concatenate([*found, np.empty(0, np.uint64)]), return_counts=True)
    return np.asarray(keys[counts > 1])


def _keys(called: dict[str, Words]) -> UInt64[np.ndarray, " pair"]:
    """A number for each pair's names."""
    whole = np.array(["/".join(word or "" for word in words) for words in zip(*called.values(), strict=True)], object)
    return np.asarray(pd.util.hash_array(whole, categorize=False), dtype=np.uint64)


def _pairs(table: pa.Table) -> tuple[pa.Array, pa.Array]:
    return table["app"].combine_chunks(), table["platform"].combine_chunks()
