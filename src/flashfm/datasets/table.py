"""MeasurementTable: what was measured, one row per (pair, configuration), validated once and then trusted.

Enters: a DataFrame, a Parquet or CSV file, or Measurement records. Leaves: the same, always valid. The schema is also
the one for bringing one's own data: a table needs the pair, one configuration column and the target; the rest may be
absent.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from flashfm.datasets.files import as_json, read_raw, write_frame
from flashfm.datasets.repeats import average, refuse_repeats
from flashfm.datasets.schema import Origin, checked, is_metric
from flashfm.datasets.units import misnamed
from flashfm.errors import DataFormatError
from flashfm.records import Measurement, Outcome


class MeasurementTable:
    """Measurements of many pairs: a validated DataFrame that knows which of its columns make a configuration.

    Columns: `app`; `platform` where there is one (together the pair); the configuration columns, numeric or
    categorical, empty where a column does not apply; `runtime_ms` (above 0; empty only where `outcome` is not ok);
    `runtime_cov`; `n_invocations`; `outcome`; metrics `NAME_mean` and `NAME_cov`; and others, which are kept but are no
    features.
    """

    def __init__(
        self, frame: pd.DataFrame, config_columns: Sequence[str], card: Mapping[str, Any] | None = None
    ) -> None:
        """Wrap a frame that is already canonical; call `from_frame`, `read` or `from_measurements` instead."""
        self._frame = frame
        self._config = tuple(config_columns)
        self._card = dict(card or {})

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        config_columns: Sequence[str] | None = None,
        target: str = "runtime_ms",
        app_column: str = "app",
        platform_column: str = "platform",
        average_repeats: bool = False,
        card: Mapping[str, Any] | None = None,
        origin: Origin | None = None,
    ) -> MeasurementTable:
        """Validate a DataFrame.

        Args:
            frame: one row per (pair, configuration), in any order; it is not changed.
            config_columns: the columns that make a configuration; absent, `memory_mb` and `cpu_shares` are found.
            target: column of the run time in milliseconds.
            app_column: column of the application's name.
            platform_column: column of the platform's name; it may be absent.
            average_repeats: average rows of the same pair and configuration instead of refusing them.
            card: anything JSON can hold about where the data come from; kept in Parquet files.
            origin: what messages call the frame.

        Raises:
            DataFormatError: see `flashfm.datasets.schema.checked`; or two rows measure the same configuration.
        """
        origin = origin or Origin()
        names = {target: "runtime_ms", app_column: "app", platform_column: "platform"}
        for given in (target, app_column):
            if given not in frame.columns and given not in names.values():
                got = ", ".join(map(str, frame.columns))
                raise DataFormatError(f"{origin.name}: no column {given!r} as you named it, got {got}")
        if target != "runtime_ms" and target in frame.columns:
            found = misnamed(target)
            if found and found.factor != 1:
                raise DataFormatError(f"{origin.name}: {found}")
        canonical, declared = checked(frame.rename(columns=names), config_columns, origin)
        key = [c for c in ("app", "platform") if c in canonical] + declared
        if average_repeats:
            canonical = average(canonical, key)
        else:
            refuse_repeats(canonical, key, origin)
        as_json(dict(card or {}), origin.name)
        return cls(canonical, declared, card)

    @classmethod
    def from_measurements(
        cls, measurements: Iterable[Measurement], *, card: Mapping[str, Any] | None = None
    ) -> MeasurementTable:
        """A table from records; `cpu_shares` and `detail` are columns only where some record has them.

        Raises:
            DataFormatError: no record, a repeated configuration, or a value out of range.
        """
        rows = []
        for m in measurements:
            row: dict[str, object] = {"app": m.app, "platform": m.platform, "memory_mb": m.config.memory_mb}
            row |= {"cpu_shares": m.config.cpu_shares, "runtime_ms": m.runtime_ms, "runtime_cov": m.runtime_cov}
            row |= {"n_invocations": m.n_invocations, "outcome": m.outcome.value}
            row |= {f"{name}_mean": value for name, value in m.mean.items()}
            row |= {f"{name}_cov": value for name, value in m.cov.items()}
            rows.append({**row, "detail": m.detail or None})
        frame = pd.DataFrame(rows, columns=None if rows else ["app", "platform", "memory_mb", "runtime_ms"])
        optional = [c for c in ("cpu_shares", "detail") if c in frame and frame[c].isna().all()]
        return cls.from_frame(frame.drop(columns=optional), card=card, origin=Origin("measurements"))

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        *,
        config_columns: Sequence[str] | None = None,
        target: str = "runtime_ms",
        app_column: str = "app",
        platform_column: str = "platform",
        average_repeats: bool = False,
    ) -> MeasurementTable:
        """Read `.parquet` or `.csv` (UTF-8, commas, a header); a Parquet file that `write` made restores everything.

        Raises:
            DataFormatError: not such a file, damaged, or against the schema; the message names row, line and column.
            DataError: the operating system refuses to read it.
        """
        frame, origin, stored = read_raw(Path(path))
        return cls.from_frame(
            frame,
            config_columns=config_columns if config_columns is not None else stored.get("config_columns"),
            target=target,
            app_column=app_column,
            platform_column=platform_column,
            average_repeats=average_repeats,
            card=stored.get("card"),
            origin=origin,
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write `.parquet` (zstd; with configuration columns and card) or `.csv` (neither), whole or not at all.

        Raises:
            DataError: the file cannot be written; one that was there before is unharmed.
            DataFormatError: another suffix, or a card that JSON cannot hold.
        """
        write_frame(Path(path), self._frame, {"config_columns": list(self._config), "card": self._card})

    @property
    def frame(self) -> pd.DataFrame:
        """A copy of the rows, in canonical columns."""
        return self._frame.copy()

    @property
    def config_columns(self) -> tuple[str, ...]:
        """Columns that make a configuration."""
        return self._config

    @property
    def card(self) -> dict[str, Any]:
        """What is known about the data: source, units, machine; free-form."""
        return dict(self._card)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics, without `_mean`."""
        return tuple(c.removesuffix("_mean") for c in self._frame.columns if is_metric(c) and c.endswith("_mean"))

    @property
    def pair_columns(self) -> tuple[str, ...]:
        """`app`, and `platform` where there is one."""
        return tuple(c for c in ("app", "platform") if c in self._frame)

    @property
    def pairs(self) -> tuple[tuple[str, str | None], ...]:
        """Each <application, platform>, in order of first appearance; the platform is None where there is none."""
        unique = self._frame[list(self.pair_columns)].drop_duplicates()
        platforms = unique["platform"] if "platform" in unique else [None] * len(unique)
        return tuple(zip(unique["app"], platforms, strict=True))

    @property
    def apps(self) -> tuple[str, ...]:
        """Names of the applications, in order of first appearance."""
        return tuple(self._frame["app"].drop_duplicates())

    @property
    def configurations(self) -> pd.DataFrame:
        """Each configuration once, sorted; shape (configuration, configuration column)."""
        unique = self._frame[list(self._config)].drop_duplicates()
        return unique.sort_values(list(self._config)).reset_index(drop=True)

    def ok(self) -> MeasurementTable:
        """Only the rows whose outcome is ok; there may be none."""
        return self._rows(self._frame["outcome"] == Outcome.OK.value)

    def of_apps(self, apps: Collection[str]) -> MeasurementTable:
        """Only the rows of these applications.

        Raises:
            DataFormatError: an application is not in the table.
        """
        unknown = sorted(set(apps) - set(self.apps))
        if unknown:
            some = ", ".join(self.apps[:3])
            raise DataFormatError(f"no application {unknown[0]!r} among {len(self.apps)}, such as {some}")
        return self._rows(self._frame["app"].isin(list(apps)))

    def _rows(self, chosen: pd.Series) -> MeasurementTable:
        return MeasurementTable(self._frame[chosen].reset_index(drop=True), self._config, self._card)

    def __len__(self) -> int:
        return len(self._frame)

    def __repr__(self) -> str:
        return f"MeasurementTable({len(self)} rows, {len(self.pairs)} pairs, configuration {', '.join(self._config)})"
