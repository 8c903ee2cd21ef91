"""What runs today, as rows say it: columns with the configuration in use, read from the first row of each pair.

Enters: rows of many pairs. Leaves: `Today`; a pair whose cells cannot be read has a problem of its own. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from flashfm.act.decisions import Config, plain_config
from flashfm.adapt.rows import check_each, unique_rows
from flashfm.tasks.space import ConfigSpace


@dataclass(frozen=True, eq=False)
class Today:
    """Today's configuration of each pair, where somebody said it."""

    said: Bool[np.ndarray, " pair"]
    number: Int[np.ndarray, " pair"]
    """Position in `given` where it was said."""
    given: pd.DataFrame
    problems: dict[int, str]
    """Pairs whose cells are no configuration of the space, and why."""

    def among(self, space: ConfigSpace, configurations: pd.DataFrame) -> Int[np.ndarray, " pair"]:
        """Its position in a frame of configurations; -1 where nobody said, or where it is none of them."""
        places = {key: i for i, key in enumerate(space.keys(configurations))}
        found = np.array([places.get(key, -1) for key in space.keys(self.given)] or [-1], dtype=np.int64)
        return np.where(self.said, found[self.number], -1)

    def of(self, pair: int) -> Config | None:
        """What was said of a pair."""
        return plain_config(self.given.iloc[self.number[pair]].to_dict()) if self.said[pair] else None


def read_today(
    space: ConfigSpace, frame: pd.DataFrame, owner: Int[np.ndarray, " row"], pairs: int, prefix: str
) -> Today:
    """Read today's configurations from the columns whose names begin with `prefix`."""
    nothing = {column.name: np.empty(0, object if column.levels else np.float64) for column in space.columns}
    nobody = Today(np.zeros(pairs, np.bool_), np.zeros(pairs, np.int64), pd.DataFrame(nothing), {})
    names = {prefix + name: name for name in space.names if prefix + name in frame}
    pair, first = np.unique(owner, return_index=True)
    asked = frame[list(names)].iloc[first].rename(columns=names)
    there = asked.notna().to_numpy().any(axis=1)
    if not there.any():
        return nobody
    pair, asked = pair[there], asked.iloc[np.flatnonzero(there)].reset_index(drop=True)
    rows, unique = unique_rows(asked)
    given, sound, wrong = check_each(space, asked.iloc[rows], "today")
    problems = {int(pair[i]): f"today: {wrong[u].removeprefix(', ')}" for i, u in enumerate(unique) if u in wrong}
    place, said, number = np.zeros(len(rows), np.int64), nobody.said.copy(), nobody.number.copy()
    place[sound] = np.arange(len(sound))
    said[pair], number[pair] = True, place[unique]
    said[list(problems)] = False
    return replace(nobody, said=said, number=number, given=given, problems=problems)
