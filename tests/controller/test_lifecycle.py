"""The state machine: each way from phase to phase, and that it never skips one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.controller.lifecycle import Life, LifecycleConfig, Phase, Step, advance
from flashfm.errors import ModelError

CONFIG = LifecycleConfig(bootstrap_steps=5, probation_steps=4, window_steps=4, broken_steps=3)
FINE = Step(0.7, violated=False, known=True, novel=False, image="a")


def lived(life: Life, *steps: Step, acting: bool = True) -> tuple[Life, list[str]]:
    said = []
    for step in steps:
        turned = advance(life, step, acting=acting, config=CONFIG)
        life = turned.life
        if turned.why is not None:
            said.append(turned.why)
    return life, said


def served() -> Life:
    life, _ = lived(Life(), *[FINE] * 20)
    assert life.phase is Phase.SERVING
    return life


def test_nobody_acts_until_the_operator_says_so() -> None:
    life, said = lived(Life(), *[FINE] * 50, acting=False)
    assert (life.phase, said) == (Phase.SHADOW, [])
    life, said = lived(life, FINE)
    assert (life.phase, said) == (Phase.BOOTSTRAP, ["the operator lets the controller act"])
    life, said = lived(served(), FINE, acting=False)
    assert (life.phase, said) == (Phase.SHADOW, ["the operator lets nobody act"])


def test_a_deployment_goes_through_all_phases_in_order() -> None:
    life, said = lived(Life(), *[FINE] * 20)
    assert life.phase is Phase.SERVING
    assert said == [
        "the operator lets the controller act",
        "the agent knows the application by an episode",
        "the agent did no worse than the rules on probation",
    ]


def test_rules_act_while_the_agent_does_not_know_the_application() -> None:
    life, _ = lived(Life(), *[Step(0.7, False, known=False, novel=False)] * 200)
    assert life.phase is Phase.BOOTSTRAP


def test_what_is_novel_from_the_start_is_served_and_does_not_drift() -> None:
    life, said = lived(Life(), *[Step(0.7, False, known=True, novel=True)] * 100)
    assert life.phase is Phase.SERVING
    assert said[1] == "the agent knows the application by an episode, and that it is novel"


BAD = Step(0.5, violated=False, known=True, novel=False, image="a")


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([Step(0.7, True, True, False, "a")] * 3, "the objective was broken in 3 steps in a row"),
        ([Step(0.7, False, True, True, "a")], "the application has become unlike those of pretraining"),
        ([Step(0.7, False, False, False, "a")], "the agent does not know the application any more"),
        ([BAD] * 4, "the mean reward fell from 0.700 to 0.550"),
        (
            [Step(r, False, True, False, "a") for r in (0.9, 0.4, 0.9)],
            "the reward scatters by 0.206, before by 0.050, and its mean is lower",
        ),
    ],
)
def test_the_agent_hands_back_when_it_does_worse(steps: list[Step], why: str) -> None:
    life, said = lived(served(), *steps)
    assert life.phase is Phase.BOOTSTRAP
    assert said == [why]


def test_it_may_try_again_only_after_another_bootstrap() -> None:
    life, _ = lived(served(), *[Step(0.7, True, True, False, "a")] * 3)
    for again in range(1, 8):
        wait = CONFIG.bootstrap_steps * min(2**again, CONFIG.longest_wait)
        life, said = lived(life, *[FINE] * (wait - 1))
        assert (life.phase, said) == (Phase.BOOTSTRAP, [])
        life, _ = lived(life, FINE)
        assert life.phase is Phase.ADAPTING
        life, _ = lived(life, *[Step(0.7, True, True, False, "a")] * 3)
        assert (life.phase, life.returns) == (Phase.BOOTSTRAP, again + 1)


def test_probation_is_held_against_the_rules() -> None:
    life, _ = lived(Life(), *[FINE] * 6)
    assert life.phase is Phase.ADAPTING
    assert life.reference == pytest.approx((0.7, 0.0))
    life, said = lived(life, *[BAD] * 4)
    assert life.phase is Phase.BOOTSTRAP
    assert said == ["the mean reward fell from 0.700 to 0.500"]


def test_another_image_begins_anew_and_forgets() -> None:
    turned = advance(served(), Step(0.7, False, True, False, "b"), acting=True, config=CONFIG)
    assert turned.life == Life(Phase.BOOTSTRAP, image="b")
    assert turned.forget
    assert turned.why == "something else runs: b in place of a"
    assert not advance(served(), Step(0.7, False, True, False, ""), acting=True, config=CONFIG).forget, "nobody says"
    shadow, _ = lived(Life(), FINE, acting=False)
    assert advance(shadow, Step(0.7, False, True, False, "b"), acting=False).life.phase is Phase.SHADOW


def test_another_agent_is_on_probation_held_against_the_one_before() -> None:
    life, _ = lived(served(), *[replace(FINE, agent="x")] * 6)
    assert (life.phase, life.agent) == (Phase.SERVING, "x")
    life, said = lived(life, replace(FINE, agent="y"))
    assert (life.phase, life.agent, life.steps) == (Phase.ADAPTING, "y", 0)
    assert said == ["another agent decides: y in place of x"]
    assert life.reference == pytest.approx((0.7, 0.0))
    worse, said = lived(life, *[replace(BAD, agent="y")] * 4)
    assert worse.phase is Phase.BOOTSTRAP
    assert said == ["the mean reward fell from 0.700 to 0.500"]
    watching, said = lived(Life(Phase.BOOTSTRAP, agent="x"), replace(FINE, agent="y"))
    assert (watching.phase, watching.agent, said) == (Phase.BOOTSTRAP, "y", []), "it only watches"
    kept = {name: value for name, value in served().to_dict().items() if name != "agent"}
    assert Life.from_dict(kept) == served(), "files from before know of no agent"


steps = st.builds(
    Step,
    st.floats(0, 1),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(["", "x", "y"]),
)
BEFORE = {
    Phase.SHADOW: set(Phase),
    Phase.BOOTSTRAP: {Phase.SHADOW, Phase.ADAPTING, Phase.SERVING},
    Phase.ADAPTING: {Phase.BOOTSTRAP, Phase.SERVING},
    Phase.SERVING: {Phase.ADAPTING},
}


@given(st.lists(st.tuples(steps, st.booleans()), max_size=80))
@settings(max_examples=200)
def test_no_phase_is_skipped_and_states_survive_json(lives: list[tuple[Step, bool]]) -> None:
    life = Life()
    for step, acting in lives:
        turned = advance(life, step, acting=acting, config=CONFIG)
        if turned.life.phase is not life.phase:
            assert turned.why
            assert life.phase in BEFORE[turned.life.phase]
        assert acting or turned.life.phase is Phase.SHADOW
        life = turned.life
        assert Life.from_dict(json.loads(json.dumps(life.to_dict()))) == life


def test_thresholds_that_make_no_sense_are_one_line() -> None:
    with pytest.raises(ModelError, match="lifecycle: broken_steps is 0"):
        LifecycleConfig(broken_steps=0)
