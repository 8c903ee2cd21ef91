"""Prices: what one run costs in a configuration.

Enters: rows of configurations and their run times in ms. Leaves: USD for one run. Prices are those of AWS Lambda, of a
table that the user brings, or of resources; a price that is negative, missing or nothing but zeros is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float

from flashfm.datasets.files import read_raw
from flashfm.datasets.schema import Origin, Problem, refuse
from flashfm.errors import DataError, DataFormatError, ModelError

UNITS = {"usd_per_second": 1.0, "usd_per_hour": 1 / 3600, "usd_per_gb_second": 1.0}
"""Columns of a price table that hold the price, with USD per (GB-)second in one of each."""
MEMORY = "memory_mb"
MB_PER_GB = 1024.0
NAMED = ("aws-lambda", "aws-lambda-arm")
"""Prices that `load_prices` knows by name."""

Key = tuple[object, ...]


@runtime_checkable
class Price(Protocol):
    """What a run costs."""

    @property
    def name(self) -> str:
        """What answers call it."""

    def per_run(
        self, configurations: pd.DataFrame, runtime_ms: Float[np.ndarray, " config"]
    ) -> Float[np.ndarray, " config"]:
        """USD of one run in each configuration, at least 0.

        Args:
            configurations: one row each; columns that the price does not depend on are ignored.
            runtime_ms: how long the run takes.

        Raises:
            ModelError: a configuration, or a column of it, that the price knows nothing of.
        """


@dataclass(frozen=True)
class LambdaPrice:
    """AWS Lambda on demand: memory times billed duration, and a fee for each request; no free tier.

    The duration is billed in whole milliseconds, rounded up. GB are `memory_mb` / 1024. CPU is not charged apart, so
    for platforms with CPU shares only the memory counts.

    Source: https://aws.amazon.com/lambda/pricing/, us-east-1 (N. Virginia), the first tier, as quoted in May 2026.
    Prices change and regions differ: a `PriceTable` or other fields of this class say yours.
    """

    usd_per_gb_second: float = 0.0000166667
    """x86 in us-east-1."""
    usd_per_request: float = 0.20e-6
    name: str = "AWS Lambda (x86, us-east-1)"

    def __post_init__(self) -> None:
        _check_rates(self, ("usd_per_gb_second", "usd_per_request"))

    @classmethod
    def arm(cls) -> LambdaPrice:
        """The price of arm64 (Graviton) functions in us-east-1."""
        return cls(0.0000133334, name="AWS Lambda (arm64, us-east-1)")

    def per_run(
        self, configurations: pd.DataFrame, runtime_ms: Float[np.ndarray, " config"]
    ) -> Float[np.ndarray, " config"]:
        """See `Price.per_run`; needs `memory_mb`."""
        billed_s = np.ceil(np.round(runtime_ms, 6)) / 1000
        return _gigabytes(configurations, self.name) * billed_s * self.usd_per_gb_second + self.usd_per_request


@dataclass(frozen=True)
class ResourcePrice:
    """Resources by the second: memory, vCPUs, or both, with the columns that hold them."""

    usd_per_gb_second: float = 0.0
    """For each GB (1024 MB) of memory and second."""
    usd_per_vcpu_hour: float = 0.0
    usd_per_request: float = 0.0
    memory_column: str = MEMORY
    """Column of the memory in MB; read only where memory has a price."""
    vcpu_column: str = "vcpus"
    """Column of the vCPUs; read only where they have a price."""
    units_per_vcpu: float = 1.0
    """How much of `vcpu_column` is one vCPU: 1024 where it holds CPU shares, 1000 for millicores."""
    name: str = "resources"

    def __post_init__(self) -> None:
        _check_rates(self, ("usd_per_gb_second", "usd_per_vcpu_hour", "usd_per_request"))
        if not (math.isfinite(self.units_per_vcpu) and self.units_per_vcpu > 0):
            raise DataFormatError(f"{self.name}: units_per_vcpu: expected a number above 0, got {self.units_per_vcpu}")

    def per_run(
        self, configurations: pd.DataFrame, runtime_ms: Float[np.ndarray, " config"]
    ) -> Float[np.ndarray, " config"]:
        """See `Price.per_run`."""
        per_second = np.zeros(len(configurations))
        if self.usd_per_gb_second:
            memory_gb = _gigabytes(configurations, self.name, self.memory_column)
            per_second = per_second + memory_gb * self.usd_per_gb_second
        if self.usd_per_vcpu_hour:
            vcpus = _numbers(configurations, self.vcpu_column, self.name) / self.units_per_vcpu
            per_second = per_second + vcpus * self.usd_per_vcpu_hour / 3600
        return np.asarray(per_second * runtime_ms / 1000 + self.usd_per_request)


@dataclass(frozen=True, eq=False)
class PriceTable:
    """A price for each configuration, as the user gives it; make it with `from_frame` or `read`."""

    columns: tuple[str, ...]
    """Configuration columns of the table; a configuration's further columns do not change its price."""
    rates: Mapping[Key, float]
    """USD per second, or per GB-second where `per_gb`, of each configuration."""
    per_gb: bool
    """Whether the memory multiplies the price."""
    name: str

    @classmethod
    def from_frame(cls, frame: pd.DataFrame | Mapping[str, Sequence[Any]], origin: Origin | None = None) -> PriceTable:
        """Validate a table of prices.

        Args:
            frame: one row for each configuration: the configuration columns, empty where one does not apply, and one of
                `usd_per_hour`, `usd_per_second`, `usd_per_gb_second`.
            origin: what messages call it.

        Raises:
            DataFormatError: no or several price columns, no configuration column, a price that is no number of at
                least 0, a configuration twice, or nothing but zeros; the message names row and column.
        """
        origin = origin or Origin("price table")
        try:
            frame = pd.DataFrame(frame)
        except ValueError as error:
            raise DataFormatError(f"{origin.name}: expected columns of equal length: {error}") from None
        names = [str(name).strip() for name in frame.columns]
        frame = frame.set_axis(names, axis="columns")
        priced = [name for name in names if name in UNITS]
        if len(priced) != 1:
            got = ", ".join(priced or names[:12]) or "nothing"
            raise DataFormatError(f"{origin.name}: expected exactly one price column of {', '.join(UNITS)}, got {got}")
        column, *_ = priced
        columns = tuple(name for name in names if name != column)
        if not columns or len(set(columns)) != len(columns):
            got = ", ".join(names)
            raise DataFormatError(
                f"{origin.name}: expected each configuration column once, such as {MEMORY}; got {got}"
            )
        if frame.empty:
            raise DataFormatError(f"{origin.name}: no data rows; expected one row for each configuration")
        rates: dict[Key, float] = {}
        problems = []
        for i, (key, cell) in enumerate(zip(_keys(frame, columns), frame[column].tolist(), strict=True)):
            rate = _rate(cell)
            if rate is None:
                problems.append(Problem(i, column, "a price in USD, 0 or more", _shown(cell)))
            elif key in rates:
                problems.append(Problem(i, columns[0], "each configuration once", f"{_say(columns, key)} again"))
            else:
                rates[key] = rate * UNITS[column]
        refuse(problems, origin)
        if not any(rates.values()):
            raise DataFormatError(
                f"{origin.name}: column {column!r}: expected a price above 0 somewhere, got only zeros"
            )
        return cls(columns, rates, column == "usd_per_gb_second", Path(origin.name).name)

    @classmethod
    def read(cls, path: Path) -> PriceTable:
        """Read `.csv` or `.parquet`.

        Raises:
            DataFormatError: as `from_frame`, or a damaged file.
            DataError: the operating system refuses to read it.
        """
        frame, origin, _ = read_raw(path)
        return cls.from_frame(frame, origin)

    def per_run(
        self, configurations: pd.DataFrame, runtime_ms: Float[np.ndarray, " config"]
    ) -> Float[np.ndarray, " config"]:
        """See `Price.per_run`; every configuration must be in the table."""
        absent = [name for name in self.columns if name not in configurations]
        if absent:
            got = ", ".join(map(str, configurations.columns))
            raise ModelError(
                f"prices {self.name}: column {absent[0]!r} is no configuration column, got {got}; leave it out"
            )
        keys = _keys(configurations, self.columns)
        unknown = next((key for key in keys if key not in self.rates), None)
        if unknown is not None:
            some = "; ".join(_say(self.columns, key) for key in list(self.rates)[:3])
            raise ModelError(
                f"prices {self.name}: no price for {_say(self.columns, unknown)};"
                f" expected a row for every configuration, got {len(self.rates)} such as {some}; add the row"
            )
        per_second = np.array([self.rates[key] for key in keys], dtype=np.float64)
        if self.per_gb:
            per_second = per_second * _gigabytes(configurations, self.name)
        return np.asarray(per_second * runtime_ms / 1000)


def load_prices(text: str) -> Price:
    """Prices by name, or from a file.

    Args:
        text: `aws-lambda`, `aws-lambda-arm`, the path of a price table (`.csv`, `.parquet`), or of a `.json` file with
            the fields of `ResourcePrice`.

    Raises:
        DataFormatError: a file that is missing, damaged or against the schema, or fields that are not those.
        DataError: neither such a name nor such a path, or the operating system refuses to read the file.
    """
    if text in NAMED:
        return LambdaPrice() if text == "aws-lambda" else LambdaPrice.arm()
    path = Path(text)
    if path.suffix.lower() == ".json":
        return _resource_price(path)
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise DataError(
            f"prices {text!r}: expected {', '.join(NAMED)}, or the path of a .csv, .parquet or .json file with prices"
        )
    return PriceTable.read(path)


def _resource_price(path: Path) -> ResourcePrice:
    """The fields of `ResourcePrice` from a JSON object."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise DataFormatError(f"{path}: not JSON: {error}") from None
    kinds = {field.name: str if field.type == "str" else float for field in fields(ResourcePrice)}
    if not isinstance(given, dict) or not set(given) <= set(kinds):
        got = ", ".join(map(repr, given)) if isinstance(given, dict) else type(given).__name__
        raise DataFormatError(f"{path}: expected an object with some of {', '.join(kinds)}, got {got}")
    values: dict[str, Any] = {"name": path.name}
    for name, value in given.items():
        if kinds[name] is str and isinstance(value, str):
            values[name] = value
        elif kinds[name] is float and isinstance(value, int | float) and isinstance(_cell(value), float):
            values[name] = float(value)
        else:
            expected = "a text" if kinds[name] is str else "a number"
            raise DataFormatError(f"{path}: {name}: expected {expected}, got {_shown(value)}")
    return ResourcePrice(**values)


def configuration_keys(configurations: pd.DataFrame) -> list[Key]:
    """One hashable key for each row: numbers to nine digits however they are written, text, None where empty."""
    return _keys(configurations, tuple(configurations.columns))


def _keys(frame: pd.DataFrame, columns: Sequence[str]) -> list[Key]:
    found = [_cells(frame[name]) for name in columns]
    return list(zip(*([cells[i] for i in number] for cells, number in found), strict=True))


def _cells(column: pd.Series) -> tuple[list[object], list[int]]:
    """The different cells of a column, and which of them each row has: many rows have few configurations."""
    number, different = pd.factorize(column.astype(object), use_na_sentinel=True)
    return [*map(_cell, different.tolist()), None], number.tolist()


def _cell(value: object) -> object:
    if value is None or value is pd.NA or value != value or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool):
        return str(value)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return str(value).strip()
    return float(f"{number:.9g}") if math.isfinite(number) else str(value).strip()


def _rate(cell: object) -> float | None:
    """The cell as a price, or None where it is none."""
    number = _cell(cell)
    return number if isinstance(number, float) and number >= 0 else None


def _check_rates(price: Any, names: Sequence[str]) -> None:
    rates = {name: getattr(price, name) for name in names}
    for name, rate in rates.items():
        if not (math.isfinite(rate) and rate >= 0):
            raise DataFormatError(f"{price.name}: {name}: expected USD, 0 or more, got {rate}")
    if not any(rates.values()):
        raise DataFormatError(f"{price.name}: expected a price above 0 among {', '.join(names)}, got only zeros")


def _gigabytes(configurations: pd.DataFrame, name: str, column: str = MEMORY) -> Float[np.ndarray, " config"]:
    return _numbers(configurations, column, name) / MB_PER_GB


def _numbers(configurations: pd.DataFrame, column: str, name: str) -> Float[np.ndarray, " config"]:
    """A configuration column as numbers above 0."""
    if column not in configurations:
        got = ", ".join(map(str, configurations.columns))
        raise ModelError(f"prices {name}: need the configuration column {column!r}, got {got}; give a price table")
    cells, number = _cells(configurations[column])
    sound = [isinstance(cell, float) and cell > 0 for cell in cells]
    wrong = next((i for i, one in enumerate(number) if not sound[one]), None)
    if wrong is not None:
        got = _shown(configurations[column].iloc[wrong])
        raise ModelError(f"prices {name}: row {wrong + 1}, column {column!r}: expected a number above 0, got {got}")
    return np.array([*cells[:-1], np.nan], dtype=np.float64)[number]


def _say(columns: Sequence[str], key: Key) -> str:
    said = [
        f"{n}={v:g}" if isinstance(v, float) else f"{n}={v}" for n, v in zip(columns, key, strict=True) if v is not None
    ]
    return ", ".join(said) or "the configuration without values"


def _shown(cell: object) -> str:
    return "an empty cell" if _cell(cell) is None else repr(cell)[:60]
