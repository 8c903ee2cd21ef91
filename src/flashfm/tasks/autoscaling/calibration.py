"""What applications cost, read out of their measurements: CPU, waits, tail and memory of one request.

A table of measurements enters, `ApplicationCosts` leave; for applications that nobody measured a `CostModel` adds up
what their segments cost. No files are read here but the costs that ship with the package (`load_costs`).
"""

from __future__ import annotations

import importlib.resources
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from flashfm.applications.spec import ApplicationSpec
from flashfm.datasets.table import MeasurementTable
from flashfm.errors import DataFormatError, ModelError
from flashfm.measurements.platforms import MB_PER_VCPU
from flashfm.tasks.autoscaling.segment_costs import SegmentCosts

PLATFORM = "lambda"
"""Platform of the measurements that are read: its sizes differ by the CPU quota, whose effect tells CPU from waits."""
Z99 = 2.326
"""99 % quantile of a standard normal variable."""
LEAST_TAIL, MOST_TAIL = 1.0, 20.0
LEAST_REQUEST_MIB = 0.1
"""What a request in flight takes at least: a stack, buffers of its connection and its objects."""
QUANTITIES = ("cpu_s", "wait_s", "tail", "memory_base_mib", "memory_request_mib")
"""The numbers of `ApplicationCosts`."""
_FORMAT = 1
_READ = ["memory_mb", "runtime_ms", "runtime_cov", "user_cpu_ms_mean", "system_cpu_ms_mean", "rss_mb_mean"]
_MOVED = ["fs_read_bytes_mean", "fs_write_bytes_mean", "net_rx_bytes_mean", "net_tx_bytes_mean"]
_ROBUST, _STEPS = 0.03, 25


@dataclass(frozen=True)
class ApplicationCosts:
    """What one request costs on the machine that it was measured on, and what a process of the application holds."""

    name: str
    """Of the application."""
    cpu_s: float
    """CPU seconds of a request, above 0."""
    wait_s: float
    """What a request waits beside that, in seconds, at least 0: sleep, network, disk."""
    tail: float
    """p99 over p50 of the latency when nobody else asks, at least 1."""
    memory_base_mib: float
    """Resident memory of an idle process, above 0."""
    memory_request_mib: float
    """Resident memory that a request in flight adds, at least 0."""
    measured: bool = True
    """Whether measurements say so, or a `CostModel`."""

    def __post_init__(self) -> None:
        for name, low in zip(QUANTITIES, (1e-9, 0.0, 1.0, 1e-9, 0.0), strict=True):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < math.inf:
                raise ModelError(
                    f"costs of {self.name!r}: {name} is {value!r}; expected a finite number of at least {low:g}"
                )


def from_measurements(table: MeasurementTable) -> list[ApplicationCosts]:
    """Costs of every application that was measured on platform `lambda`, in the order of the table.

    Run time over the size is wait + CPU time / min(1, size / 1769). CPU time and wait are fitted to the run times of
    all sizes and to the CPU times that the kernel counted, by least absolute relative errors, so that a size measured
    in a slow spell of the machine does not spoil the rest.

    Args:
        table: rows of other platforms, and those of a bad outcome, are not looked at.

    Raises:
        DataFormatError: a column or the platform is missing.
    """
    frame = _usable(table)
    costs = []
    for app, rows in frame.groupby("app", sort=False, observed=True):
        cpu_ms, wait_ms = _fit(rows)
        whole = rows[rows["memory_mb"] >= MB_PER_VCPU]  # below, calls that meet the quota and calls that do not differ
        cov = float((whole if len(whole) else rows)["runtime_cov"].median())
        tail = math.exp(Z99 * math.sqrt(math.log1p(cov**2))) if cov > 0 else LEAST_TAIL
        costs.append(
            ApplicationCosts(
                str(app),
                cpu_s=max(cpu_ms, 1e-3) / 1e3,
                wait_s=wait_ms / 1e3,
                tail=min(max(tail, LEAST_TAIL), MOST_TAIL),
                memory_base_mib=float(rows["rss_mb_mean"].median()),
                memory_request_mib=float(rows[_MOVED].sum(axis=1).median()) / 2**20 + LEAST_REQUEST_MIB,
            )
        )
    return costs


def fit_error(table: MeasurementTable, costs: Sequence[ApplicationCosts]) -> pd.DataFrame:
    """Relative error of the fitted run times: one row a size, with its `median` and `p90` over applications.

    Args:
        table: what `from_measurements` was given.
        costs: what it gave.
    """
    by_name = {one.name: one for one in costs}
    frame = _usable(table)
    frame = frame[frame["app"].isin(list(by_name))]
    cpu_ms = frame["app"].map({name: 1e3 * one.cpu_s for name, one in by_name.items()}).astype(float)
    wait_ms = frame["app"].map({name: 1e3 * one.wait_s for name, one in by_name.items()}).astype(float)
    error = ((wait_ms + cpu_ms / _quota(frame)) / frame["runtime_ms"] - 1).abs()
    by_size = error.groupby(frame["memory_mb"])
    return pd.DataFrame({"median": by_size.median(), "p90": by_size.quantile(0.9)})


@dataclass(frozen=True)
class CostModel:
    """Costs of applications that were not measured: what their segments cost, added up."""

    parts: dict[str, SegmentCosts]
    """By the quantity of `ApplicationCosts`."""
    tail: float
    """Median of the measured applications: segments do not explain it."""
    error: dict[str, float]
    """Median relative error on applications held out of the fit, five-fold, by quantity."""

    @classmethod
    def fit(cls, specs: Sequence[ApplicationSpec], costs: Sequence[ApplicationCosts], *, folds: int = 5) -> CostModel:
        """Fit to measured applications.

        Args:
            specs: what they are made of.
            costs: what they cost, in the same order.
            folds: of the cross-validation, at least 2 and at most the number of applications.

        Raises:
            ModelError: numbers differ, or there are too few applications.
        """
        if len(specs) != len(costs) or not 2 <= folds <= len(specs):
            raise ModelError(
                f"cost model: {len(specs)} applications, {len(costs)} costs and {folds} folds; "
                "expected as many costs as applications, and 2 or more folds with an application each"
            )
        fold = np.random.default_rng(0).permutation(len(specs)) % folds
        parts, error = {}, {}
        for name, floor in FLOORS.items():
            target = np.array([getattr(one, name) for one in costs])
            parts[name] = SegmentCosts.fit(specs, target, floor=floor, libraries=name in WITH_LIBRARIES)
            held_out = np.zeros(len(specs))
            for k in range(folds):
                known = [spec for spec, f in zip(specs, fold, strict=True) if f != k]
                part = SegmentCosts.fit(known, target[fold != k], floor=floor, libraries=name in WITH_LIBRARIES)
                held_out[fold == k] = [
                    part.predict(spec, strict=False) for spec, f in zip(specs, fold, strict=True) if f == k
                ]
            error[name] = float(np.median(np.abs(held_out - target) / np.maximum(target, floor)))
        return cls(parts, float(np.median([one.tail for one in costs])), error)

    def predict(self, spec: ApplicationSpec) -> ApplicationCosts:
        """Costs of an application.

        Raises:
            ModelError: one of its segments is of a kind that no fitted application had.
        """
        values = {name: max(part.predict(spec), LEAST[name]) for name, part in self.parts.items()}
        return ApplicationCosts(spec.name, tail=self.tail, measured=False, **values)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, the inverse of `from_dict`."""
        return {
            "parts": {name: part.to_dict() for name, part in self.parts.items()},
            "tail": self.tail,
            "error": self.error,
        }

    @classmethod
    def from_dict(cls, data: object) -> CostModel:
        """Read what `to_dict` gave.

        Raises:
            ModelError: it is not that.
        """
        if not isinstance(data, dict) or set(data) != {"parts", "tail", "error"}:
            raise ModelError("cost model: expected an object with 'parts', 'tail' and 'error'")
        parts, tail, error = data["parts"], data["tail"], data["error"]
        for what, found in (("parts", parts), ("error", error)):
            if not isinstance(found, dict) or set(found) != set(FLOORS):
                raise ModelError(f"cost model: {what}: expected {', '.join(FLOORS)}")
        for what, value in (("tail", tail), *error.items()):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ModelError(f"cost model: {what}: expected a finite number, got {value!r}")
        return cls({name: SegmentCosts.from_dict(parts[name], name) for name in FLOORS}, float(tail), dict(error))


FLOORS = {"cpu_s": 1e-4, "wait_s": 1e-3, "memory_base_mib": 1.0, "memory_request_mib": LEAST_REQUEST_MIB}
"""What a `CostModel` predicts; errors of quantities below this value count against it."""
LEAST = {"cpu_s": 1e-5, "wait_s": 0.0, "memory_base_mib": 1.0, "memory_request_mib": LEAST_REQUEST_MIB}
WITH_LIBRARIES = {"memory_base_mib"}
"""Quantities to which a library adds once, however many segments import it."""


@dataclass(frozen=True)
class ShippedCosts:
    """The costs that ship with the package, and how far they can be trusted."""

    costs: tuple[ApplicationCosts, ...]
    """Of generated applications of one seed, in the order of the generator."""
    model: CostModel
    """For all others, such as updated ones."""
    fit_error: dict[str, dict[str, float]]
    """`median` and `p90` of the relative error of the fitted run times, by memory size."""

    def to_json(self) -> str:
        """What `costs.json` holds."""
        rows = ",\n".join(
            json.dumps([one.name, *(_short(getattr(one, q)) for q in QUANTITIES), int(one.measured)])
            for one in self.costs
        )
        head = {"format": _FORMAT, "fit_error": self.fit_error, "model": self.model.to_dict()}
        return json.dumps(head)[:-1] + f', "columns": {json.dumps(_COLUMNS)}, "applications": [\n{rows}\n]}}\n'

    @classmethod
    def from_json(cls, text: str, where: str) -> ShippedCosts:
        """Read what `to_json` gave.

        Args:
            text: JSON.
            where: named in errors.

        Raises:
            ModelError: it is not that.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{where}: no JSON ({error}); install flashfm again") from None
        expected = {"format", "fit_error", "model", "columns", "applications"}
        if not isinstance(data, dict) or set(data) != expected or data["format"] != _FORMAT:
            raise ModelError(
                f"{where}: expected {', '.join(sorted(expected))} of format {_FORMAT}; install flashfm again"
            )
        rows = data["applications"]
        if data["columns"] != _COLUMNS or not isinstance(rows, list) or not isinstance(data["fit_error"], dict):
            raise ModelError(f"{where}: expected applications with {', '.join(_COLUMNS)}; install flashfm again")
        costs = []
        for i, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != len(_COLUMNS) or not isinstance(row[0], str):
                raise ModelError(f"{where}: application {i}: expected {len(_COLUMNS)} values, a name first")
            name, cpu, wait, tail, base, request, measured = row
            costs.append(ApplicationCosts(name, cpu, wait, tail, base, request, measured=bool(measured)))
        return cls(tuple(costs), CostModel.from_dict(data["model"]), data["fit_error"])


def load_costs() -> ShippedCosts:
    """Costs of 1,000 generated applications: measured where they are in the measured data set, else modelled.

    Raises:
        ModelError: the file in the package is absent or damaged.
    """
    file = importlib.resources.files("flashfm.tasks.autoscaling") / "costs.json"
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: cannot be read ({error}); install flashfm again") from None
    return ShippedCosts.from_json(text, str(file))


_COLUMNS = [field.name for field in fields(ApplicationCosts)]


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _usable(table: MeasurementTable) -> pd.DataFrame:
    frame = table.frame
    absent = [name for name in (*_READ, *_MOVED) if name not in frame]
    if absent:
        raise DataFormatError(f"measurements: no column {absent[0]!r}; costs are read from tables of `flashfm measure`")
    frame = frame[(frame["platform"] == PLATFORM) & (frame["outcome"] == "ok")]
    frame = frame.dropna(subset=[name for name in (*_READ, *_MOVED) if name != "runtime_cov"])
    if not len(frame):
        raise DataFormatError(
            f"measurements: no row of platform {PLATFORM!r} that ended well; measure with that platform"
        )
    return frame


def _quota(rows: pd.DataFrame) -> Float[np.ndarray, " row"]:
    return np.minimum(1.0, rows["memory_mb"].to_numpy(dtype=np.float64) / MB_PER_VCPU)


def _fit(rows: pd.DataFrame) -> tuple[float, float]:
    """CPU time and wait of one application, in the unit of the run times; both at least 0."""
    runtime = rows["runtime_ms"].to_numpy(dtype=np.float64)
    counted = (rows["user_cpu_ms_mean"] + rows["system_cpu_ms_mean"]).to_numpy(dtype=np.float64)
    kept = counted > 0
    design = np.concatenate([np.stack([1 / _quota(rows), np.ones(len(rows))], 1), np.tile([1.0, 0.0], (kept.sum(), 1))])
    target = np.concatenate([runtime, counted[kept]])
    relative = 1 / target
    weight = relative
    best = np.zeros(2)
    for _ in range(_STEPS):
        best = _two(design * weight[:, None], target * weight)
        off = np.abs(design @ best - target) * relative
        weight = relative / np.sqrt(np.maximum(off, _ROBUST))
    return float(best[0]), float(best[1])


def _two(design: Float[np.ndarray, "row 2"], target: Float[np.ndarray, " row"]) -> Float[np.ndarray, " 2"]:
    """Least squares in two unknowns that are not negative."""
    both = np.linalg.lstsq(design, target, rcond=None)[0]
    if (both >= 0).all():
        return np.asarray(both)
    alone = np.maximum(design.T @ target, 0) / np.maximum((design**2).sum(axis=0), 1e-300)
    candidates = [np.array([alone[0], 0.0]), np.array([0.0, alone[1]])]
    return min(candidates, key=lambda x: float(((design @ x - target) ** 2).sum()))
