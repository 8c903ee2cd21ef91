"""Updates of pairs: what changes, what stays, and which pairs the cases of figure 6 hold."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from flashfm.applications.patches import LOAD_FACTOR, patch
from flashfm.applications.patches import Scenario as Update
from flashfm.errors import ModelError
from flashfm.experiments.fig6_page import KNOWN, NEW, UPDATES
from flashfm.experiments.updates import cases_of, low_demand, specs_of, update
from flashfm.tasks.autoscaling.calibration import load_costs
from flashfm.tasks.autoscaling.loads import MEAN_SHARE
from flashfm.tasks.autoscaling.scenario import Scenario, default, split

WORK = [kind for kind in Update if kind is not Update.LOAD]
COSTLIER = {"cpu_s", "wait_s", "memory_base_mib", "memory_request_mib", "slo_s", "timeout_s"}


@pytest.fixture(scope="module")
def tested() -> Scenario:
    return split(default(0))[1]


def slack(scenario: Scenario) -> np.ndarray:
    p = scenario.params
    return np.asarray(p.slo_s / (p.cpu_s / (p.node_speed * (1 - 0.5 * p.neighbours)) + p.wait_s) / p.tail)


@pytest.mark.parametrize("kind", WORK)
def test_an_update_of_work_costs_more_and_leaves_the_deployment_as_it_was(tested: Scenario, kind: Update) -> None:
    specs = specs_of(tested)
    found = update(tested, kind, specs=specs, low=1.0)
    assert len(found.pairs) > 5
    assert set(found.pairs) == {i for i, name in enumerate(tested.apps) if patch(specs[name], kind) is not None}
    before, after = tested.take(found.pairs), found.scenario
    for of in fields(before.params):
        old, new = getattr(before.params, of.name), getattr(after.params, of.name)
        assert (new >= old * (1 - 1e-9)).all() if of.name in COSTLIER else (new == old).all(), of.name
    assert (found.cpu > 1.0).all()
    np.testing.assert_allclose(slack(after), slack(before))
    assert (after.params.timeout_s >= 2 * after.params.slo_s).all()
    assert (after.loads.mean_per_s <= MEAN_SHARE * after.capacity_per_s * (1 + 1e-9)).all()
    assert (after.loads.mean_per_s[~found.lowered] == before.loads.mean_per_s[~found.lowered]).all()
    assert all(old != new for old, new in zip(before.apps, after.apps, strict=True))


def test_what_was_modelled_costs_what_the_model_says_of_the_updated_application(tested: Scenario) -> None:
    shipped, specs = load_costs(), specs_of(tested)
    modelled = {one.name for one in shipped.costs if not one.measured}
    found = update(tested, Update.FILE_SIZE, specs=specs, low=1.0)
    at = [i for i, pair in enumerate(found.pairs) if tested.apps[pair] in modelled]
    told = [patch(specs[tested.apps[found.pairs[i]]], Update.FILE_SIZE) for i in at]
    wanted = [shipped.model.predict(spec).cpu_s for spec in told if spec is not None]
    np.testing.assert_allclose(found.scenario.params.cpu_s[at], wanted, rtol=2e-3)  # the file keeps four digits


def test_a_higher_load_is_sixteen_times_as_much_or_what_can_be_served(tested: Scenario) -> None:
    found = update(tested, Update.LOAD, specs=specs_of(tested), low=low_demand(tested))
    assert len(found.pairs) == len(tested) // 2
    before, after = tested.take(found.pairs), found.scenario
    assert after.apps == before.apps
    assert (found.cpu == 1).all()
    np.testing.assert_allclose(found.demand[~found.lowered], LOAD_FACTOR)
    assert 0 < found.lowered.mean() < 1
    np.testing.assert_allclose(after.loads.mean_per_s[found.lowered], MEAN_SHARE * after.capacity_per_s[found.lowered])


def test_every_updated_pair_gets_an_agent_of_its_own(tested: Scenario) -> None:
    cases, changes = cases_of(tested, tested, known=40, updated=6, seed=0)
    assert list(cases) == [NEW, KNOWN, UPDATES]
    known, case = cases[KNOWN].tested, cases[UPDATES]
    assert len(known) >= 40
    assert (np.diff(known) > 0).all()
    assert case.update == tuple(kind.value for kind in Update for _ in range(6))
    assert len(case.tested) == len(case.scenario) == len(case.update)
    assert np.isin(case.tested, known).all()
    assert all(changes[kind.value]["suits"] >= 6 for kind in Update)
    last = update(tested, Update.LOAD, specs=specs_of(tested), low=low_demand(tested))
    rate = dict(zip(last.pairs.tolist(), last.scenario.loads.mean_per_s, strict=True))
    assert case.scenario.loads.mean_per_s[-6:].tolist() == [rate[pair] for pair in case.tested[-6:].tolist()]
    few, _ = cases_of(tested, tested, known=0, updated=1, seed=0)
    assert len(few[KNOWN].tested) <= len(Update)


def test_applications_of_elsewhere_are_refused(tested: Scenario) -> None:
    with pytest.raises(ModelError, match="'mine' is not among the 1000"):
        specs_of(replace(tested, apps=("mine", *tested.apps[1:])))
