"""Figure 6: what autoscaling agents are worth on applications they have not met, and on updates of those they know.

Enters: the default scenario and the pretrained agent. Leaves: `fig6.json` with reward, utilisation, latency and cost of
every arm on unseen applications and on the seven updates of the paper, its table, and a picture.

Source: FLASH, appendix A.2, figure 6; the updates are those of appendix A.4.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flashfm.adapt.agent import FlashAgent
from flashfm.datasets.files import write_whole
from flashfm.engine.base import Engine
from flashfm.engine.inline import INLINE
from flashfm.experiments import autoscaling, fig6_page, results
from flashfm.experiments.fig6_page import (
    FIXED,
    FLASH,
    KNOWN,
    NEW,
    OLD,
    OLD_FLASH,
    OTHER,
    OWN,
    PAPER,
    SHARED,
    UPDATES,
    Arms,
    Values,
)
from flashfm.experiments.scaling import EPISODES, Act, controller_acts, judge, tuned
from flashfm.experiments.single import ENVS, SINGLE, acts_each, train_each
from flashfm.experiments.updates import Case, cases_of
from flashfm.models.agent import AgentModel
from flashfm.models.agent_state import digest
from flashfm.pretraining.lived import collect
from flashfm.pretraining.reinforcement import AgentConfig
from flashfm.tasks.autoscaling.scenario import Scenario, default, split
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS, Simulator, Stepped

ALPHA = 0.5
SLOW = 0.95
"""Quantile of the steps of a pair that its slow p99 is."""
NOISE = 0.1
"""On the actions of warm-up episodes, as in pretraining."""
OnStep = Callable[[int, int], object]


@dataclass(frozen=True)
class Fig6Config:
    """How much is trained and judged."""

    tested: int = 200
    tuned_on: int = 200
    """Training pairs that baselines are tuned on."""
    sources: int = 40
    """Training pairs that get an agent, which is then moved to the tested pairs."""
    draws: int = 5
    """Agents of other applications that each tested pair is served by, one after the other."""
    known: int = 40
    """Tested pairs that get an agent of their own, at least."""
    updated: int = 10
    """Pairs of each update, among those that got an agent of their own; fewer where it suits fewer."""
    agent: AgentConfig = SINGLE
    """Of FIRM's agents."""
    envs: int = ENVS
    seed: int = 0

    @classmethod
    def of(cls, *, quick: bool) -> Fig6Config:
        """The whole experiment, or few pairs and short training."""
        if not quick:
            return cls()
        agent = replace(SINGLE, episodes=20, random_episodes=4)
        return cls(40, 20, 4, 2, 4, 1, agent, 4)


Part = tuple[Arms, dict[str, object]]
"""What a part of the run gives: arms, and the settings of those that were tuned."""


def run(
    out: Path,
    folder: Path,
    *,
    quick: bool = False,
    on_step: OnStep = lambda *_: None,
    config: Fig6Config | None = None,
    model: AgentModel | None = None,
    engine: Engine = INLINE,
) -> Path:
    """Train FIRM's agents, judge all arms, write the result file, its table and its picture.

    Args:
        out: what each part gave is kept here; a stopped run goes on there.
        folder: of the result file.
        quick: few pairs and short training.
        on_step: told of progress, in episodes of training; a part without any counts for one.
        config: settings, in place of those that `quick` chooses.
        model: the pretrained agent; what ships with the package by default.
        engine: where parts are made.

    Returns:
        The result file.
    """
    c = config or Fig6Config.of(quick=quick)
    pretrained = model or FlashAgent.from_pretrained(autoscaling.NAME).model
    train_on, test_on = split(default(0))
    test_on = test_on.take(np.arange(c.tested))
    cases, changes = cases_of(train_on, test_on, known=c.known, updated=c.updated, seed=c.seed)
    trained = c.agent.episodes
    parts: dict[str, tuple[int, Callable[[OnStep], Part]]] = {
        name.replace(" ", ""): (1, partial(_fixed, name, train_on.take(np.arange(c.tuned_on)), cases)) for name in FIXED
    }
    parts[f"pretrained-{digest(pretrained)}"] = (1, partial(_pretrained, pretrained, test_on, cases))
    parts["elsewhere"] = (trained, partial(_elsewhere, train_on, cases, c))
    parts["own"] = (trained, partial(_own, test_on, cases, c))
    parts["updated"] = (trained, partial(_updated, cases, c))

    arms: Arms = {}
    settings: dict[str, object] = {}
    made = dict(results.in_parts(out, parts, _keep, on_step, engine))
    for name in parts:  # arms are in this order, whichever was made first
        _merge(made[name], arms, settings)
    tested = {name: case.tested for name, case in cases.items()}
    arms, tested = fig6_page.by_update(arms, tested, cases[UPDATES].update)
    path = folder / "fig6.json"
    results.write(
        path,
        command="flashfm reproduce fig6" + (" --quick" if quick else ""),
        protocol=(
            f"{c.tested} unseen applications, {EPISODES} episodes each, alpha {ALPHA}; the same loads and chance for"
            f" all arms; FIRM's agents: one for each application, {trained} episodes in {c.envs} environments at once;"
            f" {c.sources} of them, of training pairs, serve unseen ones, {c.draws} each; embeddings are of one"
            " episode by the policy without embedding; baselines tuned by reward on training pairs; after an update"
            " the objective is the same multiple of the application's own latency; a step is slow at the"
            f" {100 * SLOW:g} % quantile of p99; spread over pairs; intervals: bootstrap over pairs, 95 %, for one"
            " pretrained agent"
        ),
        seeds=[c.seed],
        rows=fig6_page.rows_of(arms),
        more={
            "updates": changes,
            "differences": fig6_page.differences(arms, tested),
            "losses": fig6_page.losses(arms, tested),
            "as_in_paper": fig6_page.as_in_paper(arms, tested),
            "spread": fig6_page.spread_of(arms),
            "paper": PAPER,
            "settings": settings,
            "agent": digest(pretrained),
        },
        markdown_of=fig6_page.page,
    )
    fig6_page.picture(path)
    return path


def serve(scenario: Scenario, *acts: Act, begin: Callable[[Simulator], object] = lambda _: None) -> Values:
    """Judge autoscalers, their latencies included; loads and chance are the same for all on the same scenario.

    Args:
        scenario: the pairs.
        acts: autoscalers, a draw each; their actions are targets.
        begin: told of each simulator once it is reset.
    """
    drawn = []
    for act in acts:
        seen: list[Tensor] = []

        def watched(observation: Tensor, simulator: Simulator, act: Act = act, seen: list[Tensor] = seen) -> Stepped:
            stepped = act(observation, simulator)
            seen.append(stepped.outcome.service.p99_s / simulator.params.slo_s)
            return stepped

        judged = judge(scenario, watched, alpha=ALPHA, actions="targets", begin=begin)
        p99 = torch.stack(seen).double().numpy().reshape(EPISODE_STEPS, len(scenario), EPISODES)
        middle, slow = np.quantile(p99, (0.5, SLOW), axis=(0, 2))
        drawn.append({of.name: getattr(judged, of.name) for of in fields(judged)} | {"p99": middle, "p99_slow": slow})
    return {metric: np.stack([one[metric] for one in drawn]) for metric in drawn[0]}


def _fixed(name: str, train_on: Scenario, cases: dict[str, Case], _: OnStep) -> Part:
    """A controller with the best of its settings on training pairs."""
    controller, setting = tuned(name, train_on, ALPHA)
    act = controller_acts(controller)
    served = {at: serve(case.scenario, act, begin=controller.reset) for at, case in cases.items()}
    return {name: served}, {name: setting}


def _pretrained(model: AgentModel, test_on: Scenario, cases: dict[str, Case], _: OnStep) -> Part:
    """The policy without embedding, and the one with that of a warm-up: of the pair as it is, and as it was before."""

    def embedded(scenario: Scenario) -> Float[Tensor, "pair embed"]:
        simulator = scenario.simulator(actions=model.actions, seed=31)
        return model.embed(collect(simulator, model.shared, 1, NOISE, 0, (ALPHA, ALPHA)))

    def acts(embedding: Float[Tensor, "pair embed"] | None) -> Act:
        shown = None if embedding is None else embedding.repeat_interleave(EPISODES, dim=0)
        return lambda observation, simulator: simulator.step(model.act(observation, shown))

    before = embedded(test_on)
    arms: Arms = {SHARED: {}, OLD_FLASH: {}, FLASH: {}}
    for name, case in cases.items():
        old = before[torch.from_numpy(case.tested)]
        arms[SHARED][name] = serve(case.scenario, acts(None))
        arms[FLASH][name] = serve(case.scenario, acts(embedded(case.scenario) if case.update else old))
        if case.update:
            arms[OLD_FLASH][name] = serve(case.scenario, acts(old))
    return arms, {}


def _elsewhere(train_on: Scenario, cases: dict[str, Case], config: Fig6Config, on_step: OnStep) -> Part:
    """FIRM's agents of training pairs, which serve tested pairs."""
    rng = np.random.default_rng([config.seed, 5])
    pairs = np.sort(rng.choice(len(train_on), config.sources, replace=False))
    agents = train_each(train_on, pairs, config=config.agent, envs_each=config.envs, seed=config.seed, on_step=on_step)
    serving = [rng.permutation(np.arange(config.tested) % config.sources) for _ in range(config.draws)]
    return {
        OTHER: {
            name: serve(cases[name].scenario, *(acts_each(agents, which[cases[name].tested]) for which in serving))
            for name in (NEW, KNOWN)
        }
    }, {}


def _own(test_on: Scenario, cases: dict[str, Case], config: Fig6Config, on_step: OnStep) -> Part:
    """FIRM's agents of tested pairs: on these pairs, and without any change on the updated ones."""
    known, seed = cases[KNOWN].tested, config.seed + 1
    agents = train_each(test_on, known, config=config.agent, envs_each=config.envs, seed=seed, on_step=on_step)
    served = {
        name: serve(cases[name].scenario, acts_each(agents, np.searchsorted(known, cases[name].tested)))
        for name in (KNOWN, UPDATES)
    }
    return {OWN: {KNOWN: served[KNOWN]}, OLD: {UPDATES: served[UPDATES]}}, {}


def _updated(cases: dict[str, Case], config: Fig6Config, on_step: OnStep) -> Part:
    """FIRM's agents of updated pairs."""
    scenario, seed = cases[UPDATES].scenario, config.seed + 2
    every = np.arange(len(scenario))
    agents = train_each(scenario, every, config=config.agent, envs_each=config.envs, seed=seed, on_step=on_step)
    return {OWN: {UPDATES: serve(scenario, acts_each(agents, every))}}, {}


def _keep(path: Path, part: Part) -> None:
    arms, settings = part
    arrays: dict[str, Any] = {
        f"{arm}|{at}|{m}": of for arm, cases in arms.items() for at, values in cases.items() for m, of in values.items()
    }
    write_whole(path, lambda file: np.savez(file, settings=json.dumps(settings), **arrays))


def _merge(path: Path, arms: Arms, settings: dict[str, object]) -> None:
    """Add what a part gave."""
    arrays = results.read_arrays(path)
    settings.update(json.loads(str(arrays.pop("settings"))))
    for key, values in arrays.items():
        arm, case, metric = key.split("|")
        arms.setdefault(arm, {}).setdefault(case, {})[metric] = values
