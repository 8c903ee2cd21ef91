"""The space of configurations: declared columns, what their values may be, and the features that models read.

Enters: a DataFrame with the configuration columns. Leaves: numbers, or a ShotsError that names row, column and value.
Numeric columns are standardised, in the logarithm where they span a factor of four or more; categorical columns become
one indicator a level; a column that may be empty (one that applies to some platforms only) gets an indicator of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from flashfm.errors import ArtifactError, DataFormatError, ShotsError

LOG_FROM = 4.0
"""A positive numeric column whose largest value is this many times its smallest is read in the logarithm."""
MAX_LEVELS = 64
"""Levels of a categorical column; more are names, not a configuration."""


@dataclass(frozen=True)
class Column:
    """One configuration column."""

    name: str
    levels: tuple[str, ...] = ()
    """Known values of a categorical column, sorted; none for a numeric one."""
    low: float = 0.0
    """Smallest known value of a numeric column."""
    high: float = 0.0
    """Largest known value."""
    log: bool = False
    """Whether the logarithm of the value is standardised instead of the value."""
    centre: float = 0.0
    scale: float = 1.0
    optional: bool = False
    """Whether the value may be empty."""

    @property
    def width(self) -> int:
        """How many features it becomes."""
        return len(self.levels) if self.levels else 1 + self.optional


@dataclass(frozen=True)
class ConfigSpace:
    """The configuration columns of a model, in order."""

    columns: tuple[Column, ...]

    @classmethod
    def fit(cls, configurations: pd.DataFrame) -> ConfigSpace:
        """The space that these configurations span.

        Args:
            configurations: one row for each known configuration; numbers are numeric columns, all else is text.

        Raises:
            DataFormatError: a column is always empty, or has more than `MAX_LEVELS` levels.
        """
        return cls(tuple(_column(name, configurations[name]) for name in configurations.columns))

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [column.name for column in self.columns]

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, in the order of `features`."""
        found: list[str] = []
        for column in self.columns:
            found += [f"{column.name}={level}" for level in column.levels] or [column.name]
            found += [f"{column.name} empty"] * (column.optional and not column.levels)
        return found

    def check(self, frame: pd.DataFrame, what: str = "configurations") -> pd.DataFrame:
        """The configuration columns of `frame` in canonical types, every value one that this space knows.

        Args:
            frame: any rows; further columns are dropped.
            what: what messages call the frame.

        Returns:
            Shape (row, configuration column): float64 and text, the empty cells NaN, rows numbered from 0.

        Raises:
            ShotsError: a column is missing, a value is no number, unknown, or outside of what was pretrained on.
        """
        if not isinstance(frame, pd.DataFrame):
            raise ShotsError(f"{what}: expected a pandas DataFrame, got {type(frame).__name__}")
        checked = {}
        for column in self.columns:
            if column.name in frame:
                values = frame[column.name]
                if isinstance(values, pd.DataFrame):
                    raise ShotsError(f"{what}: two or more columns are called {column.name!r}; keep one")
            elif column.optional:
                values = pd.Series(np.nan, index=range(len(frame)), dtype=np.float64)
            else:
                got = ", ".join(map(str, frame.columns[:12]))
                raise ShotsError(f"{what}: no configuration column {column.name!r}, got {got}")
            checked[column.name] = (_check_levels if column.levels else _check_numbers)(column, values, what)
        return pd.DataFrame(checked)

    def features(self, checked: pd.DataFrame) -> Float[np.ndarray, "config feature"]:
        """Features of configurations that `check` let through; numeric ones about in [-2, 2], indicators 0 or 1."""
        parts: list[Float[np.ndarray, "config width"]] = []
        for column in self.columns:
            values = checked[column.name].to_numpy()
            if column.levels:
                parts.append(np.stack([values == level for level in column.levels], axis=1).astype(np.float64))
                continue
            numbers = values.astype(np.float64)
            empty = np.isnan(numbers)
            filled = np.where(empty, column.high, numbers)
            scaled = ((np.log(filled) if column.log else filled) - column.centre) / column.scale
            parts.append(np.where(empty, 0.0, scaled)[:, None])
            if column.optional:
                parts.append(empty.astype(np.float64)[:, None])
        return np.concatenate(parts, axis=1)

    def locate(self, checked: pd.DataFrame, grid: Mapping[tuple[object, ...], int]) -> Int[np.ndarray, " config"]:
        """Position of each configuration in a grid (see `keys`), -1 where the grid has it not."""
        return np.array([grid.get(key, -1) for key in self.keys(checked)], dtype=np.int64)

    def keys(self, checked: pd.DataFrame) -> list[tuple[object, ...]]:
        """One hashable key for each configuration; numbers to nine digits, None where empty."""
        columns: list[list[object]] = []
        for column in self.columns:
            values = checked[column.name].tolist()
            if column.levels:
                columns.append([value if isinstance(value, str) else None for value in values])
            else:
                columns.append([None if value != value else float(f"{value:.9g}") for value in values])
        return list(zip(*columns, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"columns": [{**asdict(column), "levels": list(column.levels)} for column in self.columns]}

    @classmethod
    def from_dict(cls, data: Any) -> ConfigSpace:
        """Inverse of `to_dict`, for data that may come from anywhere.

        Raises:
            ArtifactError: not such data.
        """
        try:
            columns = tuple(_read_column(column) for column in data["columns"])
            sound = bool(columns) and len({column.name for column in columns}) == len(columns)
        except (TypeError, KeyError, AttributeError, ValueError):
            sound = False
        if not sound:
            raise ArtifactError("the configuration space of the saved model is damaged; get or write the model again")
        return cls(columns)


def _read_column(data: Any) -> Column:
    """A column from JSON; ValueError where a value is not of its kind or range."""
    levels = data["levels"]
    if not isinstance(levels, list) or not all(isinstance(text, str) for text in (data["name"], *levels)):
        raise ValueError
    if not all(isinstance(data[name], bool) for name in ("log", "optional")):
        raise ValueError
    numbers = [data[name] for name in ("low", "high", "centre", "scale")]
    if any(isinstance(n, bool) or not isinstance(n, int | float) or not np.isfinite(n) for n in numbers):
        raise ValueError
    column = Column(**{**data, "levels": tuple(levels)})
    if (
        len(set(levels)) != len(levels)
        or column.scale <= 0
        or column.low > column.high
        or (column.log and column.low <= 0)
    ):
        raise ValueError
    return column


def describe(row: Mapping[str, Any]) -> str:
    """A configuration in words, such as `memory_mb=512, cpu_shares=256`; empty columns are left out."""
    shown = {name: value for name, value in row.items() if value is not None and value == value}
    return ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in shown.items()
    )


def _column(name: str, values: pd.Series) -> Column:
    known = values.dropna()
    optional = bool(values.isna().any())
    if known.empty:
        raise DataFormatError(f"configuration column {name!r} is always empty; leave it out")
    if not pd.api.types.is_numeric_dtype(known) or pd.api.types.is_bool_dtype(known):
        levels = tuple(sorted(map(str, known.unique())))
        if len(levels) > MAX_LEVELS:
            raise DataFormatError(
                f"configuration column {name!r} has {len(levels)} different texts, expected at most {MAX_LEVELS};"
                " is it a name?"
            )
        return Column(name, levels=levels, optional=optional)
    unique = np.unique(known.to_numpy(dtype=np.float64))
    log = bool(unique[0] > 0 and unique[-1] >= LOG_FROM * unique[0])
    scaled = np.log(unique) if log else unique
    spread = float(scaled.std())
    low, high = float(unique[0]), float(unique[-1])
    return Column(name, (), low, high, log, float(scaled.mean()), spread if spread > 0 else 1.0, optional)


def _check_levels(column: Column, values: pd.Series, what: str) -> np.ndarray:
    listed = [None if pd.isna(value) else str(value) for value in values.tolist()]
    for i, value in enumerate(listed):
        if value not in column.levels and not (value is None and column.optional):
            got = "an empty cell" if value is None else repr(value[:60])
            raise ShotsError(
                f"{what}: row {i + 1}, column {column.name!r}: expected one of {', '.join(column.levels)}, got {got};"
                " the model knows no other"
            )
    return np.array(listed, dtype=object)


def _check_numbers(column: Column, values: pd.Series, what: str) -> Float[np.ndarray, " row"]:
    try:
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)
        wrong = np.flatnonzero(np.isnan(numbers) & values.notna().to_numpy())
        if wrong.size:
            got = str(values.iloc[wrong[0]])[:60]
            raise ShotsError(
                f"{what}: row {wrong[0] + 1}, column {column.name!r}: expected a number, got {got!r}"
            ) from None
    slack = 1e-6 * max(abs(column.low), abs(column.high))
    with np.errstate(invalid="ignore"):
        outside = ~((numbers >= column.low - slack) & (numbers <= column.high + slack))
    if column.optional:
        outside &= ~np.isnan(numbers)
    if outside.any():
        i = int(np.flatnonzero(outside)[0])
        got = "an empty cell" if np.isnan(numbers[i]) else f"{numbers[i]:g}"
        raise ShotsError(
            f"{what}: row {i + 1}, column {column.name!r}: expected a number from {column.low:g} to {column.high:g},"
            f" got {got}; the model was pretrained on no other"
        )
    return numbers
