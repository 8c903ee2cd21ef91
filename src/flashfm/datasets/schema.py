"""What a valid measurement table is: columns, types, units and ranges, checked by pandera and reported in our words.

Enters: a DataFrame of anything. Leaves: the same rows in canonical columns, types and order, or one DataFormatError
that names row, column, expected, got and how to mend it. No I/O here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from flashfm.datasets.units import misnamed, stands_for
from flashfm.errors import DataFormatError
from flashfm.records import METRICS, Outcome

KNOWN_CONFIG = ("memory_mb", "cpu_shares")
"""Configuration columns that are found without being declared."""
MAX_RUNTIME_MS = 86_400_000.0
"""One day; more is another unit."""
MIN_MEMORY_MB, MAX_MEMORY_MB = 16.0, 1e7
"""Less is GiB, more is bytes."""
SMALLEST_MEMORY_MB = 64.0
"""A table whose largest memory size is below this is in GiB."""
MAX_CORES = 256
"""More CPU time than this many times the run time is another unit."""
SHOWN = 5
"""Problems that a message spells out; the rest are counted."""

_MISSING = ("", "nan", "na", "n/a", "null", "none")


@dataclass(frozen=True)
class Origin:
    """Where rows came from, for messages."""

    name: str = "table"
    """File path, or what the caller calls its frame."""
    lines: Sequence[int] | None = None
    """Line of the file on which each of its data rows starts, where the format has lines."""
    chosen: Sequence[int] | None = None
    """Position in the file of each row of the frame, where only some were chosen."""

    def row(self, index: int) -> str:
        """`row 3 (line 4)` for the row of the frame at position `index`, counted from 0."""
        position = index if self.chosen is None else self.chosen[index]
        return f"row {position + 1}" if self.lines is None else f"row {position + 1} (line {self.lines[position]})"

    def of_rows(self, positions: Iterable[int]) -> Origin:
        """The origin of a selection of the file's rows, by position."""
        return Origin(self.name, self.lines, list(positions))


@dataclass(frozen=True)
class Problem:
    """One thing that breaks the schema."""

    index: int
    """Position of the row, counted from 0."""
    column: str
    expected: str
    got: str
    mend: str = ""


def refuse(problems: Sequence[Problem], origin: Origin) -> None:
    """Raise one error for all problems, the first `SHOWN` in words.

    Raises:
        DataFormatError: `problems` is not empty.
    """
    if not problems:
        return
    ordered = sorted(problems, key=lambda problem: problem.index)
    said = [f"{origin.row(p.index)}, column {p.column!r}: expected {p.expected}, got {p.got}" for p in ordered[:SHOWN]]
    more = f"; and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    mends = list(dict.fromkeys(p.mend for p in ordered if p.mend))
    raise DataFormatError(f"{origin.name}: {'; '.join(said)}{more}" + "".join(f" ({mend})" for mend in mends))


def checked(
    frame: pd.DataFrame, config_columns: Sequence[str] | None, origin: Origin
) -> tuple[pd.DataFrame, list[str]]:
    """The canonical form of `frame` and its configuration columns.

    Args:
        frame: one row per (pair, configuration), already under our column names; values may still be text.
        config_columns: the columns that make a configuration; None finds those of `KNOWN_CONFIG`.
        origin: for messages.

    Returns:
        The rows in the same order with columns app, platform, configuration, runtime_ms, runtime_cov, n_invocations,
        outcome, metrics, others; text is `str`, numbers are float64 (int64 where a configuration column is whole
        everywhere), missing is NaN.

    Raises:
        DataFormatError: a column is missing, doubled or in another unit, or a value is not as expected.
    """
    columns = [str(column) for column in frame.columns]
    frame = frame.set_axis(columns, axis="columns").reset_index(drop=True)
    declared = _check_columns(columns, config_columns, origin)
    if frame.empty:
        raise DataFormatError(f"{origin.name}: no data rows; expected one row per (pair, configuration)")
    text = {"app", "platform", "outcome", "detail"}
    measured = [c for c in columns if c in ("runtime_ms", "runtime_cov", "n_invocations") or is_metric(c)]
    numbers = {*measured, *KNOWN_CONFIG}
    tidy = {c: _tidy(frame[c], "text" if c in text else "number" if c in numbers else "either") for c in columns}
    frame = pd.DataFrame(tidy, columns=columns)
    frame["outcome"] = (
        frame["outcome"].fillna(Outcome.OK.value)
        if "outcome" in frame
        else pd.Series(Outcome.OK.value, index=frame.index, dtype="str")
    )
    frame, problems = _validate(frame, declared)
    refuse(problems, origin)
    refuse(_inconsistencies(frame), origin)
    whole = [c for c in declared if pd.api.types.is_float_dtype(frame[c]) and _is_whole(frame[c])]
    types = {**dict.fromkeys(whole, "int64"), **({"n_invocations": "int64"} if "n_invocations" in frame else {})}
    if "n_invocations" in frame:
        frame["n_invocations"] = frame["n_invocations"].fillna(0)
    order = ["app", "platform", *declared, "runtime_ms", "runtime_cov", "n_invocations", "outcome"]
    order = [c for c in order if c in frame.columns]
    metrics = sorted((c for c in frame.columns if is_metric(c)), key=_metric_rank)
    rest = [c for c in frame.columns if c not in order and c not in metrics]
    return frame.astype(types)[[*order, *metrics, *rest]], declared


def numbers(frame: pd.DataFrame, columns: Sequence[str], origin: Origin) -> pd.DataFrame:
    """The same frame with text in `columns` made float64 and empty cells NaN; rows are numbered 0, 1, ….

    Raises:
        DataFormatError: a cell is not a number.
    """
    tidy = {column: _tidy(frame[column], "number") for column in columns}
    bad = [
        Problem(int(i), column, "a number", _brief(values[i]))
        for column, values in tidy.items()
        if not pd.api.types.is_float_dtype(values)
        for i in values.index[pd.to_numeric(values, errors="coerce").isna() & values.notna()]
    ]
    refuse(bad, origin)
    return frame.assign(**tidy)


def is_metric(column: str) -> bool:
    """Whether a column holds a metric: NAME_mean or NAME_cov, but not runtime_cov."""
    return column.endswith(("_mean", "_cov")) and column != "runtime_cov"


def _metric_rank(column: str) -> tuple[int, str, bool]:
    name, _, kind = column.rpartition("_")
    return METRICS.index(name) if name in METRICS else len(METRICS), name, kind == "cov"


def _check_columns(columns: list[str], config_columns: Sequence[str] | None, origin: Origin) -> list[str]:
    """The configuration columns, once every needed column is there under its own name and once only."""
    doubled = sorted({column for column in columns if columns.count(column) > 1})
    if doubled:
        raise DataFormatError(f"{origin.name}: two or more columns are called {doubled[0]!r}; keep one")
    wrong = [found for column in columns if (found := misnamed(column)) and found.expected not in columns]
    if wrong:
        raise DataFormatError(f"{origin.name}: {'; '.join(str(found) for found in wrong[:SHOWN])}")
    listed = ", ".join(columns[:12]) + (", …" if len(columns) > 12 else "")
    if {"f_name", "f_size"} <= set(columns):
        raise DataFormatError(
            f"{origin.name}: these are Sizeless columns ({listed}); read them with flashfm.datasets.load_sizeless(path)"
        )
    for needed, words in (("app", None), ("runtime_ms", "runtime")):
        if needed in columns:
            continue
        near = stands_for(words, columns) if words else None
        mend = f"if {near!r} is in milliseconds, rename it" if near else "rename yours or name it when reading"
        raise DataFormatError(f"{origin.name}: no column {needed!r}, got {listed}; {mend}")
    declared = list(config_columns) if config_columns is not None else [c for c in KNOWN_CONFIG if c in columns]
    absent = [column for column in declared if column not in columns]
    if absent:
        raise DataFormatError(f"{origin.name}: no configuration column {absent[0]!r}, got {listed}")
    if not declared:
        near = stands_for("memory", columns)
        mend = f"if {near!r} is in MiB, rename it to 'memory_mb'" if near else "declare them: config_columns=[…]"
        raise DataFormatError(f"{origin.name}: no configuration column (memory_mb, cpu_shares) among {listed}; {mend}")
    reserved = {"app", "platform", "runtime_ms", "runtime_cov", "n_invocations", "outcome", "detail"}
    for column in declared:
        if column in reserved or declared.count(column) > 1:
            raise DataFormatError(f"{origin.name}: {column!r} cannot be a configuration column, or is declared twice")
    return declared


def _tidy(column: pd.Series, role: str) -> pd.Series:
    """Text stripped and numbers left for pandera; a column that may be either is numeric where all its values are."""
    kinds = pd.api.types
    if kinds.is_numeric_dtype(column) and not kinds.is_bool_dtype(column) and not kinds.is_complex_dtype(column):
        numeric = column.astype("float64")
        return numeric if role != "text" else column.astype("str").where(column.notna())
    values = column.astype(object)
    words = values.astype("str").str.strip().where(values.notna())
    if role != "text":
        numeric_words = words.where(~words.str.lower().isin(_MISSING))
        parsed = pd.to_numeric(numeric_words, errors="coerce").astype("float64")
        if bool((parsed.notna() == numeric_words.notna()).all()) and (role == "number" or parsed.notna().any()):
            return parsed
        if role == "number":
            return numeric_words
    return words.where(words != "")


def _validate(frame: pd.DataFrame, declared: list[str]) -> tuple[pd.DataFrame, list[Problem]]:
    """Run pandera over the rows that ended well and over the others, which may lack a run time."""
    import pandera.pandas as pandera
    from pandera.errors import SchemaErrors

    def column(dtype: type, *checks: Any, nullable: bool = True) -> Any:
        return pandera.Column(dtype, list(checks), nullable=nullable, coerce=True, required=False)

    finite = pandera.Check(lambda values: np.isfinite(values), error="a finite number")
    above_zero = pandera.Check.gt(0, error="a number above 0")
    not_negative = pandera.Check.ge(0, error="a number of at least 0")
    a_day = pandera.Check.le(MAX_RUNTIME_MS, error="milliseconds, at most one day (86400000)")
    memory = pandera.Check.in_range(
        MIN_MEMORY_MB, MAX_MEMORY_MB, error=f"MiB from {MIN_MEMORY_MB:.0f} to {MAX_MEMORY_MB:.0f}"
    )
    known = pandera.Check.isin([o.value for o in Outcome], error="one of " + ", ".join(Outcome))
    whole = pandera.Check(lambda values: values % 1 == 0, error="a whole number")

    problems: list[Problem] = []
    parts: list[pd.DataFrame] = []
    ended = frame["outcome"] == Outcome.OK.value
    for ok, part in ((True, frame[ended]), (False, frame[~ended])):
        if part.empty:
            continue
        at_least = pandera.Check.ge(int(ok), error=f"a whole number of at least {int(ok)}")
        columns: dict[str, Any] = {
            "app": column(str, nullable=False),
            "platform": column(str, nullable=False),
            "outcome": column(str, known),
            "runtime_ms": column(float, finite, above_zero, a_day, nullable=not ok),
            "runtime_cov": column(float, finite, not_negative),
            "n_invocations": column(float, finite, whole, at_least, nullable=not ok),
        }
        for name in part.columns:
            if is_metric(name):
                plain = name.rpartition("_")[0] not in METRICS and name.endswith("_mean")
                columns[name] = column(float, *([finite] if plain else [finite, not_negative]))
            elif name in declared and (name in KNOWN_CONFIG or pd.api.types.is_float_dtype(part[name])):
                checks = {"memory_mb": [memory], "cpu_shares": [above_zero]}.get(name, [])
                columns[name] = column(float, finite, *checks)
        try:
            parts.append(pandera.DataFrameSchema(columns).validate(part, lazy=True))
        except SchemaErrors as error:
            problems += _problems(error.failure_cases)
    return pd.concat(parts).sort_index() if not problems else frame, problems


def _problems(cases: pd.DataFrame) -> list[Problem]:
    """Pandera's failure cases in our words, one for each cell."""
    found: dict[tuple[int, str], Problem] = {}
    for case in cases.sort_values("check_number", na_position="first", kind="stable").to_dict("records"):
        check, index, column = str(case["check"]), case["index"], str(case["column"])
        if index is None or pd.isna(index) or check.startswith("dtype("):
            continue
        got, mend = _brief(case["failure_case"]), ""
        if check.startswith("coerce_dtype"):
            check, mend = "a number", "plain digits with a decimal point; the unit belongs in the column's name"
        elif check == "not_nullable":
            check, got = "a value", "an empty cell"
            if column == "runtime_ms":
                mend = "an empty runtime_ms needs an outcome other than ok"
        elif column == "memory_mb":
            mend = "memory_mb is in MiB: divide bytes by 1048576, multiply GiB by 1024"
        elif check.startswith("milliseconds"):
            mend = "runtime_ms is in milliseconds: divide µs by 1000"
        found.setdefault((int(index), column), Problem(int(index), column, check, got, mend))
    return list(found.values())


def _inconsistencies(frame: pd.DataFrame) -> list[Problem]:
    """Values that are plausible alone but not together; every rule is a bound that right units cannot break."""
    problems = []

    def hold(name: str, bound: np.ndarray, expected: str, mend: str) -> None:
        """Note every row where column `name` is above `bound`; NaN bounds nothing."""
        values = frame[name].to_numpy(dtype="float64")
        for i in np.flatnonzero(values > bound):
            problems.append(Problem(int(i), name, expected.format(bound=bound[i]), f"{values[i]:g}", mend))

    if "memory_mb" in frame and frame["memory_mb"].max() < SMALLEST_MEMORY_MB:
        largest = int(frame["memory_mb"].to_numpy(dtype="float64").argmax())
        got = f"{frame['memory_mb'].max():g} as the largest"
        mend = "sizes in GiB? multiply by 1024"
        problems.append(Problem(largest, "memory_mb", f"some size of at least {SMALLEST_MEMORY_MB:g} MiB", got, mend))
    for name in (c for c in ("user_cpu_ms_mean", "system_cpu_ms_mean") if c in frame):
        mend = "CPU time and run time are both in milliseconds; Sizeless's userDiff is in µs"
        bound = MAX_CORES * frame["runtime_ms"].to_numpy(dtype="float64")
        hold(name, bound, f"at most {MAX_CORES} times runtime_ms, {{bound:g}}", mend)
    if "n_invocations" in frame:
        counts = frame["n_invocations"].to_numpy(dtype="float64")
        bound = np.sqrt(np.where(counts >= 2, counts, np.nan)) * 1.001  # files may hold rounded values
        for name in (c for c in frame.columns if c == "runtime_cov" or (c.endswith("_cov") and c[:-4] in METRICS)):
            mend = "a coefficient of variation is a ratio: divide percent by 100"
            hold(name, bound, "at most {bound:.3g}, the square root of n_invocations", mend)
    return problems


def _is_whole(column: pd.Series) -> bool:
    return bool(column.notna().all() and (column % 1 == 0).all() and (column.abs() < 2**53).all())


def _brief(value: object) -> str:
    text = repr(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
