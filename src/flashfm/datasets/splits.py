"""Splits for training and testing: by application, never by row; and the random shots of each pair.

Enters: names. Leaves: names or indices. An application is on one side with all its platforms, and the order in which
names come changes nothing: row splits leak (CloudBandit: error .134 against .20). No table is read here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from flashfm.errors import DataError


@dataclass(frozen=True)
class Split:
    """Applications to train on and applications to test on; they share none and both are sorted."""

    name: str
    """What results call it, such as `seed 0 fold 3`."""
    train: tuple[str, ...]
    test: tuple[str, ...]


def by_application(apps: Iterable[str], *, folds: int = 5, repeats: int = 4, seed: int = 0) -> Iterator[Split]:
    """Repeated k-fold splits: `repeats` x `folds` of them, in each repeat every application is tested once.

    The defaults are the protocol's 20 splits, 4 repeats of 5 folds with seeds 0 to 3; the first 5 are `--quick`.

    Args:
        apps: names, repeats allowed (such as the `app` column of a table).
        folds: parts of the applications, at least 2.
        repeats: how often they are parted anew, at least 1.
        seed: repeat r is drawn with seed `seed + r`.

    Raises:
        DataError: fewer applications than folds, or a number is too small.
    """
    unique = sorted(set(apps))
    if folds < 2 or repeats < 1 or len(unique) < folds:
        raise DataError(
            f"{len(unique)} applications cannot be split {repeats} times into {folds} folds of at least one"
        )
    return _folds(unique, folds, repeats, seed)


def _folds(unique: list[str], folds: int, repeats: int, seed: int) -> Iterator[Split]:
    for repeat in range(repeats):
        order = np.random.default_rng(seed + repeat).permutation(len(unique))
        for fold in range(folds):
            yield _split(f"seed {seed + repeat} fold {fold}", unique, {unique[i] for i in order[fold::folds]})


def hold_out(apps: Iterable[str], share: float = 0.2, seed: int = 0) -> Split:
    """One random split with `share` of the applications to test on (the paper's 8:2), at least one on each side.

    Raises:
        DataError: fewer than two applications, or `share` outside (0, 1).
    """
    unique = sorted(set(apps))
    if len(unique) < 2 or not 0 < share < 1:
        raise DataError(
            f"{len(unique)} applications with a test share of {share}: expected at least 2 and a share in (0, 1)"
        )
    n_test = min(max(round(share * len(unique)), 1), len(unique) - 1)
    order = np.random.default_rng(seed).permutation(len(unique))
    return _split(f"hold-out {share:g} seed {seed}", unique, {unique[i] for i in order[:n_test]})


def leave_one_group_out(groups: Mapping[str, str]) -> Iterator[Split]:
    """One split for each group, tested on the group and trained on all others; groups in sorted order.

    Args:
        groups: application -> its group, such as its data set or its algorithm.

    Raises:
        DataError: fewer than two groups.
    """
    names = sorted(set(groups.values()))
    if len(names) < 2:
        raise DataError(f"leaving one group out needs at least 2 groups, got {len(names)}")
    return (
        _split(f"without {name}", sorted(groups), {app for app, of in groups.items() if of == name}) for name in names
    )


def shot_sets(
    pair: tuple[str, str | None], n_configurations: int, *, shots: int = 5, sets: int = 100, seed: int = 0
) -> Int[np.ndarray, "set shot"]:
    """Random shots of one pair, nested: its first K columns are the sets of K shots.

    Drawn from the pair's own name and the seed, so other pairs in the table change nothing.

    Args:
        pair: <application, platform>.
        n_configurations: observed configurations of the pair, at least 2; indices count them in sorted order.
        shots: largest K; at least one configuration is left to ask about, so fewer columns come where there are few.
        sets: how many sets; the protocol has 100 (`--quick`: 20, the first of these).
        seed: of the draw.

    Returns:
        Indices in [0, `n_configurations`), distinct within a set.

    Raises:
        DataError: fewer than two configurations, or a number below 1.
    """
    if n_configurations < 2 or shots < 1 or sets < 1:
        raise DataError(
            f"pair {pair}: {sets} sets of {shots} shots out of {n_configurations} configurations; expected 2 or more"
        )
    digest = hashlib.sha256("\0".join((pair[0], pair[1] or "")).encode("utf-8", "surrogatepass")).digest()
    rng = np.random.default_rng([seed, *np.frombuffer(digest, dtype=np.uint32).tolist()])
    kept = min(shots, n_configurations - 1)
    return np.stack([rng.permutation(n_configurations)[:kept] for _ in range(sets)])


def _split(name: str, apps: list[str], test: set[str]) -> Split:
    return Split(name, tuple(app for app in apps if app not in test), tuple(sorted(test)))
