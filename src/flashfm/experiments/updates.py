"""The seven updates of the paper applied to pairs of a scenario: other work, or another load, in the same deployment.

Enters: a scenario of generated applications and an update. Leaves: the updated pairs, and which they were; and the
cases of figure 6, which are made of these. What segments cost after an update is not measured: the cost model says what
the change of their sizes adds.

Source: FLASH, appendix A.4, "Application Updates/Patches".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from flashfm.applications.generator import generate_many
from flashfm.applications.patches import LOAD_FACTOR, patch
from flashfm.applications.patches import Scenario as Update
from flashfm.applications.spec import ApplicationSpec
from flashfm.errors import ModelError
from flashfm.experiments.costs import COUNT, SEED
from flashfm.experiments.fig6_page import KNOWN, NEW, UPDATES
from flashfm.tasks.autoscaling import pairs
from flashfm.tasks.autoscaling.calibration import QUANTITIES, CostModel, load_costs
from flashfm.tasks.autoscaling.loads import MEAN_SHARE
from flashfm.tasks.autoscaling.parameters import Params
from flashfm.tasks.autoscaling.scenario import Scenario, joined

CHANGED = tuple(name for name in QUANTITIES if name != "tail")
"""Quantities of `ApplicationCosts` that an update changes."""


@dataclass(frozen=True, eq=False)
class Updated:
    """Pairs after an update."""

    pairs: Int[np.ndarray, " updated"]
    """Places in the scenario of before, ascending: those that the update changes."""
    scenario: Scenario
    """These pairs after it, in that order; applications have the names of their work after the update."""
    cpu: Float[np.ndarray, " updated"]
    """CPU time of a request, over what it was."""
    demand: Float[np.ndarray, " updated"]
    """Mean cores that the load asks for, over what it was."""
    lowered: Bool[np.ndarray, " updated"]
    """Whether the load had to be less than the update asks for, so that the pair can serve it."""


def specs_of(scenario: Scenario) -> dict[str, ApplicationSpec]:
    """What the applications of a scenario are made of, by name.

    Args:
        scenario: of applications that `tasks.autoscaling.scenario.default` has.

    Raises:
        ModelError: an application is none of them.
    """
    known = {spec.name: spec for spec in generate_many(SEED, COUNT)}
    absent = [name for name in scenario.apps if name not in known]
    if absent:
        raise ModelError(
            f"application {absent[0]!r} is not among the {COUNT} generated ones of seed {SEED}; only these are updated"
        )
    return {name: known[name] for name in scenario.apps}


def low_demand(scenario: Scenario) -> float:
    """Mean cores that loads ask for, median over pairs: what parts low loads from high ones.

    The paper parts its traces at 1e5 requests a day, half of them on either side. Loads of our pairs are drawn by the
    cores that they ask for, and all exceed that rate; so they are parted at their own middle.
    """
    return float(np.median(scenario.loads.mean_per_s * scenario.params.cpu_s))


def update(
    scenario: Scenario,
    kind: Update,
    *,
    specs: Mapping[str, ApplicationSpec],
    low: float,
    model: CostModel | None = None,
) -> Updated:
    """The pairs that an update changes, after it.

    Deployment and environment stay as they are. The objective stays the same multiple of the application's own latency,
    and the time-out at least twice the objective: how tight an objective is belongs to the deployment, and an objective
    of before could often not be met by any autoscaler. Requests a second stay as they are, or become 16 times as many
    under `Update.LOAD`; either is bounded by what the updated pair can serve, as all loads are.

    Args:
        scenario: pairs before the update.
        kind: of the update.
        specs: what its applications are made of.
        low: mean cores up to which a load is low, and so made high by `Update.LOAD`.
        model: of costs; what ships with the package by default.
    """
    demand = scenario.loads.mean_per_s * scenario.params.cpu_s
    if kind is Update.LOAD:
        at = np.flatnonzero(demand <= low)
        before = scenario.take(at)
        asked, apps, params = LOAD_FACTOR * before.loads.mean_per_s, before.apps, before.params
    else:
        after = {name: patch(specs[name], kind) for name in dict.fromkeys(scenario.apps)}
        at = np.array([i for i, name in enumerate(scenario.apps) if after[name] is not None], dtype=np.int64)
        before = scenario.take(at)
        changed = [(specs[name], found) for name in before.apps if (found := after[name]) is not None]
        apps = tuple(spec.name for _, spec in changed)
        asked, params = before.loads.mean_per_s, _params(before.params, changed, model or load_costs().model)
    capacity = pairs.capacity_per_s(params)
    mean = np.minimum(asked, MEAN_SHARE * capacity)
    loads = replace(before.loads, mean_per_s=mean)
    return Updated(
        at,
        Scenario(apps, params, loads, capacity, scenario.trace),
        params.cpu_s / before.params.cpu_s,
        mean * params.cpu_s / (before.loads.mean_per_s * before.params.cpu_s),
        mean < asked,
    )


def _params(before: Params, changed: Sequence[tuple[ApplicationSpec, ApplicationSpec]], model: CostModel) -> Params:
    """Parameters after an update: what segments cost is a sum, so what the model adds is added to what was there."""
    if not changed:
        return before
    told = [(model.predict(old), model.predict(new)) for old, new in changed]
    more = {name: np.array([getattr(new, name) - getattr(old, name) for old, new in told]) for name in CHANGED}
    cpu_s, wait_s = before.cpu_s + more["cpu_s"], before.wait_s + more["wait_s"]
    speed = before.node_speed * (1 - 0.5 * before.neighbours)
    slo_s = before.slo_s * (cpu_s / speed + wait_s) / (before.cpu_s / speed + before.wait_s)
    return replace(
        before,
        cpu_s=cpu_s,
        wait_s=wait_s,
        memory_base_mib=before.memory_base_mib + before.workers * more["memory_base_mib"],
        memory_request_mib=before.memory_request_mib + more["memory_request_mib"],
        slo_s=slo_s,
        timeout_s=np.maximum(before.timeout_s, 2 * slo_s),
    )


@dataclass(frozen=True, eq=False)
class Case:
    """Pairs that arms are judged on."""

    scenario: Scenario
    tested: Int[np.ndarray, " pair"]
    """Their places among the tested pairs; of updated pairs, the places of what they were before."""
    update: tuple[str, ...] = ()
    """Of each pair; empty where nothing is updated."""


def cases_of(
    train_on: Scenario, test_on: Scenario, *, known: int, updated: int, seed: int
) -> tuple[dict[str, Case], dict[str, dict[str, float]]]:
    """The tested pairs, those of them that are to get agents of their own, and the latter after updates.

    Args:
        train_on: pairs whose loads say what a low load is.
        test_on: the tested pairs.
        known: how many are to get agents of their own, at least.
        updated: pairs of each update, at random; fewer where it suits fewer. All of them get agents of their own.
        seed: of the order in which pairs are chosen.

    Returns:
        The cases, and what each update changed: how many tested pairs it suits, medians of `Updated` over those that
        were chosen, and the share of them whose load was lowered.
    """
    specs, low = specs_of(test_on), low_demand(train_on)
    order = np.random.default_rng([seed, 6]).permutation(len(test_on))
    chosen: dict[str, Case] = {}
    changes: dict[str, dict[str, float]] = {}
    for kind in Update:
        of = update(test_on, kind, specs=specs, low=low)
        at = np.flatnonzero(np.isin(of.pairs, order[np.isin(order, of.pairs)][:updated]))
        if len(at):
            chosen[kind.value] = Case(of.scenario.take(at), of.pairs[at], (kind.value,) * len(at))
            changes[kind.value] = {
                "suits": float(len(of.pairs)),
                "cpu": float(np.median(of.cpu[at])),
                "demand": float(np.median(of.demand[at])),
                "lowered": float(of.lowered[at].mean()),
            }
    pairs = np.concatenate([case.tested for case in chosen.values()])
    needed = np.unique(pairs)
    spare = order[~np.isin(order, needed)][: max(0, known - len(needed))]
    told = np.sort(np.concatenate([needed, spare]))
    every = joined([case.scenario for case in chosen.values()])
    return {
        NEW: Case(test_on, np.arange(len(test_on))),
        KNOWN: Case(test_on.take(told), told),
        UPDATES: Case(every, pairs, sum((case.update for case in chosen.values()), ())),
    }, changes
