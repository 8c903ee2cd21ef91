"""What a decision rests on, and what it is: candidates in, a recommendation with reasons or a refusal with a way out.

Enters: a frame of predictions. Leaves: records that never change and that JSON can hold. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from flashfm.errors import ModelError
from flashfm.records import Outcome

Confidence = Literal["measured", "likely", "uncertain"]
Config = dict[str, float | int | str]
"""A configuration: column -> value; columns that are empty are left out."""
Neighbour = tuple[str, str | None, float]
"""A known application, its platform (None where there is none), and how far it is in the embedding space."""
TIE = 0.01
"""Expected objectives this close, as a share of the best, count as equal."""
RUNS = 1e6
"""Costs are said for this many runs."""
RUN_TIMES = ("runtime_ms", "lower_ms", "upper_ms")


@runtime_checkable
class NoveltyLike(Protocol):
    """How unlike a pair is to all that a model was pretrained on."""

    @property
    def p_value(self) -> float:
        """Share of known pairs that are at least as far, in [0, 1]."""

    @property
    def distance(self) -> float:
        """Distance in the embedding space to what is known."""

    @property
    def novel(self) -> bool:
        """Whether it is too far for the model to be trusted from few shots."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """What is known and expected of one pair in each configuration that may be chosen."""

    configurations: pd.DataFrame
    """Shape (config, configuration column); empty cells where a column does not apply."""
    runtime_ms: Float[np.ndarray, " config"]
    """Expected run time, above 0; of a configuration that fails it may be NaN."""
    lower_ms: Float[np.ndarray, " config"]
    """Lower end of the 90 % interval, above 0 and at most `runtime_ms`."""
    upper_ms: Float[np.ndarray, " config"]
    """Upper end, at least `runtime_ms`."""
    measured: Bool[np.ndarray, " config"]
    """Whether the run time was measured for this pair, not predicted."""
    outcome: tuple[str, ...]
    """How each configuration ended for this pair, a value of `Outcome`; `ok` also where it was never tried."""

    def __post_init__(self) -> None:
        n = len(self.configurations)
        if n == 0:
            raise ModelError("no configuration to choose from; expected at least one row")
        lengths = {len(self.runtime_ms), len(self.lower_ms), len(self.upper_ms), len(self.measured), len(self.outcome)}
        if lengths != {n}:
            raise ModelError(f"{n} configurations with {sorted(lengths)} values each; expected as many of everything")
        known = [outcome.value for outcome in Outcome]
        for i, outcome in enumerate(self.outcome):
            if outcome not in known:
                raise ModelError(f"row {i + 1}, column 'outcome': expected one of {', '.join(known)}, got {outcome!r}")
        lower, expected, upper = self.lower_ms, self.runtime_ms, self.upper_ms
        with np.errstate(invalid="ignore"):
            sound = (lower > 0) & (lower <= expected) & (expected <= upper) & np.isfinite(upper)
        wrong = np.flatnonzero(~sound & ~self.failed)
        if wrong.size:
            i = int(wrong[0])
            raise ModelError(unsound(i, lower[i], expected[i], upper[i]))

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, config_columns: Sequence[str]) -> Candidates:
        """From rows of predictions; an interval that leaves its expected value out is widened to hold it.

        Args:
            frame: the configuration columns, `runtime_ms`, `lower_ms`, `upper_ms`, and perhaps `measured` (else none
                is) and `outcome` (else all are ok). Rows are one for each configuration.
            config_columns: which columns make a configuration.

        Raises:
            ModelError: a column is missing, or a value is out of range; the message names the row.
        """
        absent = [name for name in (*config_columns, *RUN_TIMES) if name not in frame]
        if absent or not config_columns:
            got = ", ".join(map(str, frame.columns))
            raise ModelError(f"predictions: no column {absent[0] if absent else 'of a configuration'!r}, got {got}")
        runtime, lower, upper = (frame[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in RUN_TIMES)
        measured = frame["measured"].to_numpy(dtype=np.bool_) if "measured" in frame else np.zeros(len(frame), np.bool_)
        outcome = frame["outcome"].fillna(Outcome.OK.value) if "outcome" in frame else [Outcome.OK.value] * len(frame)
        configurations = frame[list(config_columns)].reset_index(drop=True)
        lower, upper = np.minimum(lower, runtime), np.maximum(upper, runtime)
        return cls(configurations, runtime, lower, upper, measured, tuple(map(str, outcome)))

    @property
    def failed(self) -> Bool[np.ndarray, " config"]:
        """Where the pair is known not to end well."""
        return np.array([outcome != Outcome.OK.value for outcome in self.outcome], dtype=np.bool_)

    def config(self, i: int) -> Config:
        """The configuration of row `i` in plain values."""
        return plain_config(self.configurations.iloc[i].to_dict())


def unsound(row: int, lower_ms: float, runtime_ms: float, upper_ms: float) -> str:
    """What is wrong with run times that are not in order, or that no number can hold."""
    return (
        f"row {row + 1}: expected 0 < lower_ms <= runtime_ms <= upper_ms in milliseconds,"
        f" got {lower_ms:g}, {runtime_ms:g}, {upper_ms:g}"
    )


@dataclass(frozen=True)
class Estimate:
    """An expected value and the interval about it; a measured value has an interval as well, of its noise."""

    expected: float
    lower: float
    upper: float

    def to_dict(self) -> dict[str, float]:
        """JSON-able form."""
        return {"expected": self.expected, "lower": self.lower, "upper": self.upper}


@dataclass(frozen=True)
class Choice:
    """A configuration and what it is expected to bring."""

    config: Config
    runtime_ms: Estimate
    """Run time in ms with its 90 % interval."""
    usd_per_million: Estimate | None
    """Cost of a million runs in USD; None without prices."""
    slowdown: float
    """Expected run time over that of the fastest candidate, at least 1."""
    measured: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "config": dict(self.config),
            "runtime_ms": self.runtime_ms.to_dict(),
            "usd_per_million": self.usd_per_million.to_dict() if self.usd_per_million else None,
            "slowdown": self.slowdown,
            "measured": self.measured,
        }


@dataclass(frozen=True)
class Recommendation:
    """A configuration to use, and why; the same as today's where nothing better is to be had."""

    choice: Choice
    objective: str
    """`cost` or `runtime`."""
    today: Choice | None
    """What is used now; None where nobody said, or where it fails."""
    saving: Estimate | None
    """Share of today's cost, or run time, that the choice saves, by `objective`; negative where it would lose. The ends
    are conservative: the worst of one interval against the best of the other. 0 where nothing is to change."""
    alternatives: tuple[Choice, ...]
    """The next best configurations that meet the limit, best first, at most three."""
    nearest: tuple[Neighbour, ...]
    """The known applications that are most alike."""
    why: tuple[str, ...]
    """Short sentences, each resting on figures."""
    confidence: Confidence
    """Against today's configuration, or against the next best where none was given. `likely`: better even at the
    conservative end of the interval, or, where today's misses the limit, within the limit at the upper end. `measured`:
    so, and both were measured, not predicted. `uncertain`: the intervals overlap."""

    @property
    def config(self) -> Config:
        """The configuration to use."""
        return self.choice.config

    @property
    def stay(self) -> bool:
        """Whether today's configuration is the one to use."""
        return self.today is not None and self.today.config == self.config

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "decision": "recommended",
            "objective": self.objective,
            **self.choice.to_dict(),
            "today": self.today.to_dict() if self.today else None,
            "stay": self.stay,
            "saving": self.saving.to_dict() if self.saving else None,
            "confidence": self.confidence,
            "why": list(self.why),
            "alternatives": [choice.to_dict() for choice in self.alternatives],
            "nearest": [{"app": a, "platform": p, "distance": d} for a, p, d in self.nearest],
        }


@dataclass(frozen=True)
class Declined:
    """No recommendation: why not, and what would allow one."""

    reason: str
    mend: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"decision": "declined", "reason": self.reason, "mend": self.mend}


@dataclass(frozen=True, eq=False)
class Weighed:
    """The candidates that may be used, with their costs; the last axis is expected, lower, upper."""

    prediction: Candidates
    rows: Int[np.ndarray, " config"]
    """Which rows of the prediction these are."""
    runtime: Float[np.ndarray, "config 3"]
    """In ms."""
    cost: Float[np.ndarray, "config 3"] | None
    """USD for a million runs; None without prices."""
    objective: str

    @property
    def goal(self) -> Float[np.ndarray, "config 3"]:
        """What is to be small."""
        return self.cost if self.objective == "cost" and self.cost is not None else self.runtime

    @property
    def other(self) -> Float[np.ndarray, "config 3"] | None:
        """What decides between near-ties, where there is something."""
        return self.runtime if self.objective == "cost" else self.cost

    def choice(self, i: int) -> Choice:
        """Row `i` as an answer gives it."""
        return Choice(
            self.config(i),
            Estimate(*self.runtime[i].tolist()),
            None if self.cost is None else Estimate(*self.cost[i].tolist()),
            float(self.runtime[i, 0] / self.runtime[:, 0].min()),
            self.measured(i),
        )

    def config(self, i: int) -> Config:
        """The configuration of row `i`."""
        return self.prediction.config(int(self.rows[i]))

    def measured(self, i: int) -> bool:
        """Whether row `i` was measured."""
        return bool(self.prediction.measured[self.rows[i]])

    def size(self, i: int) -> tuple[float, ...]:
        """The numbers of the configuration, in order of the columns: what is smaller sorts first."""
        return tuple(float(value) for value in self.config(i).values() if not isinstance(value, str))


def plain_config(row: Mapping[Any, Any]) -> Config:
    """A row in plain values: whole numbers are int, empty cells are left out."""
    plain: Config = {}
    for name, value in row.items():
        if value is None or value is pd.NA or value != value:
            continue
        if isinstance(value, bool | np.bool_ | str):
            plain[str(name)] = str(value)
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            plain[str(name)] = str(value)
            continue
        plain[str(name)] = int(number) if number.is_integer() else number
    return plain
