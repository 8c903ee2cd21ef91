"""Several rows of one pair and configuration: refused by default, averaged when asked.

Enters and leaves: a canonical frame (see `schema.checked`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float

from flashfm.datasets.schema import Origin
from flashfm.errors import DataFormatError
from flashfm.records import Outcome


def refuse_repeats(frame: pd.DataFrame, key: list[str], origin: Origin) -> None:
    """Refuse two rows with the same values in the columns `key`.

    Raises:
        DataFormatError: names both rows.
    """
    doubled = frame.duplicated(key, keep=False)
    if not doubled.any():
        return
    groups = frame[doubled].groupby(key, dropna=False, sort=False).groups.values()
    first, second, *_ = (int(index) for index in next(iter(groups)))
    what = ", ".join(f"{column}={value}" for column, value in frame.loc[first, key].dropna().items())
    more = f", and {len(groups) - 1} more such configurations" if len(groups) > 1 else ""
    raise DataFormatError(
        f"{origin.name}: {origin.row(first)} and {origin.row(second)} measure the same configuration ({what}){more};"
        " keep one, or average them with average_repeats=True"
    )


def average(frame: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """One row for each value of the columns `key`, at the place of its first row.

    Rows that ended well are averaged and the others of the group dropped; where none ended well, the first row stays.
    Means weigh each row by its `n_invocations` (1 where there is none); a coefficient of variation is that of the
    pooled invocations, so repeats of one invocation each yield their own spread (standard deviation with n - 1). Text
    is that of the first row.
    """
    doubled = frame.duplicated(key, keep=False)
    if not doubled.any():
        return frame
    merged = {}
    for _, group in frame[doubled].groupby(key, dropna=False, sort=False):
        ended = group[group["outcome"] == Outcome.OK.value]
        merged[group.index[0]] = _merge(ended, key) if len(ended) else group.iloc[0]
    added = pd.DataFrame.from_dict(merged, orient="index", columns=frame.columns)
    return pd.concat([frame[~doubled], added.astype(frame.dtypes)]).sort_index().reset_index(drop=True)


def pooled_cov(
    means: Float[np.ndarray, " repeat"], covs: Float[np.ndarray, " repeat"], counts: Float[np.ndarray, " repeat"]
) -> float:
    """Coefficient of variation of all invocations together, from each repeat's mean, coefficient and count.

    Args:
        means: mean of each repeat.
        covs: sample standard deviation / mean of each repeat, a ratio; NaN counts as no spread where `counts` is 1 or
            `means` is 0.
        counts: invocations of each repeat, at least 1.

    Returns:
        A ratio of at least 0; NaN with fewer than two invocations, a mean of 0, or a spread that is not known.
    """
    total = float(counts.sum())
    centre = float((counts * means).sum()) / total
    if total < 2 or centre == 0:
        return float("nan")
    deviations = np.where((counts <= 1) | (means == 0), 0.0, covs * means)
    squares = float(((counts - 1) * deviations**2 + counts * (means - centre) ** 2).sum())
    return float(np.sqrt(squares / (total - 1)) / abs(centre))


def _merge(group: pd.DataFrame, key: list[str]) -> pd.Series:
    counts = group["n_invocations"].astype("float64") if "n_invocations" in group else pd.Series(1.0, index=group.index)
    row: dict[str, object] = {}
    for column in group.columns:
        values = group[column]
        if column == "n_invocations":
            row[column] = int(counts.sum())
        elif column in key or not pd.api.types.is_numeric_dtype(values):
            row[column] = values.iloc[0]
        elif column.endswith("_cov"):
            means = "runtime_ms" if column == "runtime_cov" else column.removesuffix("_cov") + "_mean"
            seen = group[means].notna() if means in group else values.notna()
            if means in group and seen.any():
                row[column] = pooled_cov(*(v[seen].to_numpy(dtype="float64") for v in (group[means], values, counts)))
            else:
                row[column] = values.mean()
        else:
            seen = values.notna()
            row[column] = float(np.average(values[seen], weights=counts[seen])) if seen.any() else float("nan")
    return pd.Series(row, dtype=object)
