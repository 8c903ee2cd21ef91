"""What a fleet is to do: one row a pair, in columns, with what the rows come to.

Enters: arrays with an entry for each pair. Leaves: an Arrow table of a fixed schema, and a summary that adds up over
parts. Nothing is decided here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float, Int

from flashfm.act.choose import CONFIDENCES
from flashfm.tasks.space import ConfigSpace

STATUSES = ("recommended", "stay", "declined", "bad")
"""`recommended`: use the configuration; `stay`: it is what runs today; `declined`: no recommendation can be given;
`bad`: the pair's rows cannot be read. The last two have a reason."""
RECOMMENDED, STAY, DECLINED, BAD = range(4)
TODAY = "today_"
"""Before the names of the columns that say what runs today."""

PLACE = ("map_x", "map_y")
"""Columns that say where the pair lies in the embedding space (`flashfm.fleet.plane`); empty where nothing tells."""


@dataclass(frozen=True)
class FleetSummary:
    """What a plan comes to."""

    pairs: int = 0
    recommended: int = 0
    stay: int = 0
    declined: int = 0
    bad: int = 0
    measured: int = 0
    """Of the recommended and those that stay, the ones whose confidence is `measured`; likewise the next two."""
    likely: int = 0
    uncertain: int = 0
    fine_tuned: int = 0
    usd_today: float = 0.0
    """A million runs of each recommended pair in today's configuration, where that is known and has a price."""
    usd_planned: float = 0.0
    """The same runs in the recommended configurations."""
    priced: int = 0
    """Recommended pairs that these two sums are over."""

    @property
    def saving_usd(self) -> float:
        """What a million runs of each recommended pair cost less; negative where a limit costs more."""
        return self.usd_today - self.usd_planned

    def __add__(self, other: FleetSummary) -> FleetSummary:
        names = [field.name for field in dataclasses.fields(self)]
        return FleetSummary(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**dataclasses.asdict(self), "saving_usd": self.saving_usd}


@dataclass(frozen=True, eq=False)
class Plan:
    """A table with one row a pair, in the order of the pairs, and what it comes to."""

    table: pa.Table
    summary: FleetSummary

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a DataFrame; empty cells are missing."""
        frame: pd.DataFrame = self.table.to_pandas()
        return frame


def schema(space: ConfigSpace) -> pa.Schema:
    """Columns of a plan over a space of configurations: names, units and types, which depend on nothing else."""
    config = [(column.name, pa.string() if column.levels else pa.float64()) for column in space.columns]
    three = ("", "_lower", "_upper")
    return pa.schema(
        [
            ("app", pa.string()),
            ("platform", pa.string()),
            ("shots", pa.int32()),
            ("status", pa.string()),
            ("reason", pa.string()),
            ("mend", pa.string()),
            *config,
            ("runtime_ms", pa.float64()),
            ("lower_ms", pa.float64()),
            ("upper_ms", pa.float64()),
            *((f"usd_per_million{end}", pa.float64()) for end in three),
            ("measured", pa.bool_()),
            *((f"{TODAY}{name}", kind) for name, kind in config),
            (f"{TODAY}runtime_ms", pa.float64()),
            (f"{TODAY}usd_per_million", pa.float64()),
            *((f"saving{end}", pa.float64()) for end in three),
            ("confidence", pa.string()),
            ("p_value", pa.float64()),
            ("fine_tuned", pa.bool_()),
            *((name, pa.float64()) for name in PLACE),
        ]
    )


def config_names(columns: pa.Schema) -> tuple[str, ...]:
    """Names of the configuration columns of a plan, in order; none where the schema is that of no plan."""
    names = columns.names
    if "mend" not in names or "runtime_ms" not in names:
        return ()
    return tuple(names[names.index("mend") + 1 : names.index("runtime_ms")])


class Draft:
    """A plan while it is filled in, pair by pair or many pairs at a time."""

    def __init__(self, space: ConfigSpace, pairs: int) -> None:
        """Room for so many pairs, all of them without anything."""
        self.space = space
        self.schema = schema(space)
        self.status = np.full(pairs, DECLINED, dtype=np.int64)
        self.confidence = np.full(pairs, -1, dtype=np.int64)
        self.reason: list[str | None] = [None] * pairs
        self.mend: list[str | None] = [None] * pairs
        self.shots = np.zeros(pairs, dtype=np.int32)
        self.measured = np.zeros(pairs, dtype=np.bool_)
        self.fine_tuned = np.zeros(pairs, dtype=np.bool_)
        self.numbers = {f.name: np.full(pairs, np.nan) for f in self.schema if f.type == pa.float64()}
        self.texts: dict[str, np.ndarray] = {}
        for column in space.columns:
            if column.levels:
                self.texts |= {name: np.full(pairs, None, dtype=object) for name in (column.name, TODAY + column.name)}

    def configure(
        self,
        pair: Int[np.ndarray, " chosen"],
        configurations: pd.DataFrame,
        at: Int[np.ndarray, " chosen"],
        prefix: str = "",
    ) -> None:
        """Say the configurations of some pairs, which are rows of a frame."""
        for column in self.space.columns:
            values = configurations[column.name].to_numpy()[at]
            (self.texts if column.levels else self.numbers)[prefix + column.name][pair] = values

    def several(
        self, names: Sequence[str], pair: Int[np.ndarray, " chosen"], values: Float[np.ndarray, "chosen named"]
    ) -> None:
        """Say some numbers that belong together, such as an expected value and its interval."""
        for j, name in enumerate(names):
            self.numbers[name][pair] = values[:, j]

    def refuse(self, pair: int, status: int, reason: str, mend: str | None = None) -> None:
        """Say why there is no configuration."""
        self.status[pair], self.reason[pair], self.mend[pair] = status, reason, mend

    def plan(self, apps: pa.Array, platforms: pa.Array) -> Plan:
        """The filled-in plan of pairs with these names."""
        answered = self.status < DECLINED
        columns: dict[str, Any] = {
            "app": apps,
            "platform": platforms,
            "shots": pa.array(self.shots),
            "status": _words(self.status, STATUSES),
            "reason": pa.array(self.reason, pa.string()),
            "mend": pa.array(self.mend, pa.string()),
            "measured": pa.array(self.measured, mask=~answered),
            "confidence": _words(self.confidence, CONFIDENCES),
            "fine_tuned": pa.array(self.fine_tuned, mask=self.status == BAD),
        }
        columns |= {name: pa.array(values, from_pandas=True) for name, values in self.numbers.items()}
        columns |= {name: pa.array(values, pa.string(), from_pandas=True) for name, values in self.texts.items()}
        table = pa.table([columns[name] for name in self.schema.names], schema=self.schema)
        return Plan(table, self._summary())

    def _summary(self) -> FleetSummary:
        counts = np.bincount(self.status, minlength=4).tolist()
        sure = np.bincount(self.confidence + 1, minlength=4)[1:].tolist()
        before, planned = self.numbers[f"{TODAY}usd_per_million"], self.numbers["usd_per_million"]
        priced = (self.status == RECOMMENDED) & ~np.isnan(before) & ~np.isnan(planned)
        return FleetSummary(
            pairs=len(self.status),
            **dict(zip(STATUSES, counts, strict=True)),
            **dict(zip(CONFIDENCES, sure, strict=True)),
            fine_tuned=int(self.fine_tuned.sum()),
            usd_today=float(before[priced].sum()),
            usd_planned=float(planned[priced].sum()),
            priced=int(priced.sum()),
        )


def _words(numbers: Int[np.ndarray, " pair"], words: Sequence[str]) -> pa.Array:
    """Words by their numbers; none where a number is negative."""
    indices = pa.array(numbers.astype(np.int8), mask=numbers < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(words)).cast(pa.string())
