"""What is wanted of a fleet: the aim, how rows are read, and how much is worked on at a time.

Enters: arguments. Leaves: `FleetSettings`, and the plain JSON by which two runs are told apart. No I/O.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flashfm.act import LambdaPrice, Price
from flashfm.act.choose import Aim
from flashfm.act.prices import MEMORY
from flashfm.errors import ModelError
from flashfm.models.flash import FlashModel


@dataclass(frozen=True)
class FleetSettings:
    """How a whole table of pairs is answered; each pair as `AdaptedRegressor.recommend` answers it alone.

    Raises:
        ModelError: a setting that is none; the message names it.
    """

    objective: str = "cost"
    """`cost` (cheapest) or `runtime` (fastest)."""
    price: Price | None = None
    """What a run costs; for `cost` on configurations with `memory_mb`, AWS Lambda's prices by default."""
    max_slowdown: float | None = None
    """The most times the fastest expected run time, at least 1."""
    max_runtime_ms: float | None = None
    """The longest run time in ms, instead."""
    strict: bool = False
    """Whether the upper end of the interval must meet the limit."""
    fine_tune: bool | None = None
    """Take gradient steps; by default where a pair is novel and has at least three shots."""
    check_units: bool = True
    """Refuse run times that look like another unit."""
    platforms: tuple[str, ...] = ()
    """Platforms that rows may be of; none here means that any is taken, as one pair's is."""
    target: str = "runtime_ms"
    """Column of the run time in milliseconds."""
    app_column: str = "app"
    """Column of the application's name."""
    platform_column: str = "platform"
    """Column of the platform; it may be absent."""
    today_prefix: str = "today_"
    """Before the name of a configuration column: columns with today's configuration of the pair, read from the first
    of its rows. Where they are absent or empty it is the first configuration that was measured."""
    part_pairs: int = 10_000
    """Pairs that are worked on together and kept together: what a run that is killed loses at most."""

    def __post_init__(self) -> None:
        self.aim(self.price)
        if self.part_pairs < 1:
            raise ModelError(f"part_pairs: expected at least 1 pair, got {self.part_pairs}")
        columns = (self.target, self.app_column, self.platform_column)
        if len(set(columns)) != len(columns) or not all(columns):
            raise ModelError(
                f"columns: expected three different names of target, application and platform, got {', '.join(columns)}"
            )
        if not self.today_prefix:
            raise ModelError("today_prefix: expected a text before the configuration columns' names, got nothing")

    def aim(self, price: Price | None) -> Aim:
        """What decisions need, at a price."""
        return Aim(self.objective, price, self.max_slowdown, self.max_runtime_ms, self.strict)

    def aim_for(self, model: FlashModel) -> Aim:
        """What decisions about a model's configurations need; AWS Lambda's prices where none are given and it can."""
        by_memory = self.objective == "cost" and MEMORY in model.space.names
        return self.aim(LambdaPrice() if self.price is None and by_memory else self.price)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; two settings that are different in anything are different in this."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**plain, "platforms": list(self.platforms), "price": price_words(self.price)}


def price_words(price: Price | None) -> dict[str, Any] | None:
    """A price as JSON holds it: its name, its kind, and every number of it or their SHA-256."""
    if price is None:
        return None
    told: dict[str, Any] = {"kind": type(price).__name__, "name": price.name}
    if dataclasses.is_dataclass(price):
        for field in dataclasses.fields(price):
            value = getattr(price, field.name)
            if isinstance(value, Mapping):
                rows = sorted(repr(item) for item in value.items())
                value = hashlib.sha256("\n".join(rows).encode()).hexdigest()
            told[field.name] = value if isinstance(value, str | int | float | None) else repr(value)
    return told
