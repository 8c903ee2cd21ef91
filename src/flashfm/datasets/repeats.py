"""Several rows of one pair and configuration: refused by default, averaged when asked.

Enters and leaves: a canonical frame (see `schema.checked`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

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
    group = frame.groupby(key, dropna=False, sort=False).ngroup().to_numpy()
    if group.max(initial=-1) + 1 == len(frame):
        return frame
    ended = (frame["outcome"] == Outcome.OK.value).to_numpy()
    first = ~frame.duplicated(key).to_numpy()
    chosen = np.where(np.bincount(group, ended)[group] > 0, ended, first)
    rows, group = frame[chosen], group[chosen]
    kept = rows[~pd.Series(group).duplicated().to_numpy()].iloc[np.argsort(pd.unique(group))].reset_index(drop=True)
    several = np.bincount(group) > 1
    counts = np.ones(len(rows))
    if "n_invocations" in rows:
        counts = np.maximum(rows["n_invocations"].to_numpy(dtype="float64"), 1)
        kept["n_invocations"] = np.bincount(group, rows["n_invocations"]).astype(np.int64)
    for column in rows.columns:
        if column in key or column == "n_invocations" or not pd.api.types.is_numeric_dtype(rows[column]):
            continue
        values = rows[column].to_numpy(dtype="float64")
        of = "runtime_ms" if column == "runtime_cov" else column.removesuffix("_cov") + "_mean"
        if column.endswith("_cov") and of in rows:
            merged = pooled_covs(rows[of].to_numpy(dtype="float64"), values, counts, group)
        else:
            merged = _means(values, counts, group)
        kept[column] = np.where(several, merged, kept[column])
    return kept


def pooled_covs(
    means: Float[np.ndarray, " repeat"],
    covs: Float[np.ndarray, " repeat"],
    counts: Float[np.ndarray, " repeat"],
    group: Int[np.ndarray, " repeat"],
) -> Float[np.ndarray, " group"]:
    """Coefficient of variation of all invocations of each group, from each repeat's mean, coefficient and count.

    Args:
        means: mean of each repeat; a repeat without one is left out.
        covs: sample standard deviation / mean of each repeat, a ratio; NaN counts as no spread where `counts` is 1 or
            `means` is 0.
        counts: invocations of each repeat, at least 1.
        group: number of the group that each repeat belongs to, from 0.

    Returns:
        Ratios of at least 0; NaN with fewer than two invocations, a mean of 0, or a spread that is not known.
    """
    counts = np.where(np.isnan(means), 0.0, counts)
    means = np.nan_to_num(means)
    n, centre = np.bincount(group, counts), _means(means, counts, group)
    deviations = np.where((counts <= 1) | (means == 0), 0.0, covs * means)
    within = np.where(counts > 0, (counts - 1) * deviations**2, 0.0)
    squares = np.bincount(group, within + counts * (means - np.nan_to_num(centre)[group]) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(squares / (n - 1)) / np.abs(centre)
    return np.where((n >= 2) & (centre != 0), spread, np.nan)


def _means(
    values: Float[np.ndarray, " repeat"], weights: Float[np.ndarray, " repeat"], group: Int[np.ndarray, " repeat"]
) -> Float[np.ndarray, " group"]:
    """Weighted mean of each group over what is not NaN; NaN where nothing is left."""
    weights = np.where(np.isnan(values), 0.0, weights)
    with np.errstate(invalid="ignore"):
        return np.bincount(group, weights * np.nan_to_num(values)) / np.bincount(group, weights)
