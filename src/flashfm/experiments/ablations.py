"""What ablations share: methods under another name or without metrics, counted steps, and paired differences.

Enters: methods of the comparison, and their scores. Leaves: methods, and differences as entries of a result file and as
a Markdown table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from flashfm.experiments import evaluation
from flashfm.experiments.evaluation import Scores
from flashfm.tasks.config_search import Fitted, Method, Observations, Shots


@dataclass(frozen=True)
class Named:
    """A method under another name."""

    name: str
    method: Method
    per_shots: bool = False

    def fit(self, train: Observations, *, shots: int, seed: int) -> Fitted:
        """Train."""
        return self.method.fit(train, shots=shots, seed=seed)


@dataclass(frozen=True)
class WithoutMetrics:
    """A method that sees run times alone."""

    name: str
    method: Method
    per_shots: bool = False

    def fit(self, train: Observations, *, shots: int, seed: int) -> Fitted:
        """Train on observations without metrics."""
        return _Blind(self.method.fit(replace(train, **_nothing(train.metrics)), shots=shots, seed=seed))


@dataclass(frozen=True, eq=False)
class _Blind:
    fitted: Fitted

    def predict(self, shots: Shots) -> Float[np.ndarray, "task config"]:
        """As `Fitted.predict`."""
        return self.fitted.predict(replace(shots, metrics=shots.metrics[..., :0]))


def _nothing(metrics: Float[np.ndarray, "pair config metric"]) -> dict[str, Any]:
    return {"metrics": metrics[..., :0], "metric_names": ()}


class Steps:
    """Counts steps, and tells of each how many are done and how many there are."""

    def __init__(self, on_step: Callable[[int, int], object], total: int) -> None:
        """Start at none of `total`."""
        self._on_step, self._total, self._done = on_step, total, 0

    def __call__(self) -> None:
        """One more is done."""
        self._done += 1
        self._on_step(self._done, self._total)


def difference(
    scores: Sequence[Scores],
    rival: Sequence[Scores],
    *,
    apps: Sequence[str] | None,
    dataset: str,
    method: str,
    against: str,
    shots: int,
) -> dict[str, Any]:
    """Error of a method less that of its rival, as an entry: `difference`, and `low` and `high` of its 95 % interval.

    Args:
        scores: of the method, one for each split.
        rival: of the same splits and queries.
        apps: application of each pair of the data set; see `evaluation.paired_difference`.
        dataset: what they were judged on.
        method: what results call it.
        against: what results call the rival.
        shots: K.

    Raises:
        DataError: the two were judged on other queries, or on pairs that the data set does not have.
    """
    mean, low, high = evaluation.paired_difference(scores, rival, apps=apps)
    of = {"dataset": dataset, "method": method, "against": against, "shots": shots}
    return of | {"difference": mean, "low": low, "high": high}


def differences_table(differences: Sequence[Mapping[str, Any]]) -> str:
    """Paired differences as a Markdown table."""
    lines = ["| dataset | method | against | shots | difference | 95 % interval |", "|---|---|---|---|---|---|"]
    for d in differences:
        cells = (d["dataset"], d["method"], d["against"], d["shots"], f"{d['difference']:+.4f}")
        lines.append("| " + " | ".join(map(str, cells)) + f" | {d['low']:+.4f} to {d['high']:+.4f} |")
    return "\n".join(lines) + "\n"
