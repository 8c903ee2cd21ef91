"""What knowing an application is worth to an autoscaler: no embedding, an embedding, and the true parameters.

Enters: the default scenario. Leaves: `ablation-rl.json` with the reward, violations and resources of every arm on pairs
that were not trained on, and which share of the way from the shared policy to the privileged one the embedding goes.
Learned arms are trained alike, once a seed; what is in use today is tuned on training pairs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flashfm.datasets.files import write_whole
from flashfm.engine.base import Engine
from flashfm.engine.inline import INLINE
from flashfm.experiments import results, scaling
from flashfm.experiments.results import Row
from flashfm.experiments.scaling import METRICS, Judged, agent_acts, cells, controller_acts, judge, tuned
from flashfm.models.ddpg import Ddpg
from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.models.trajectories import TrajectoryEncoder
from flashfm.pretraining import identification
from flashfm.pretraining.end_to_end import EndToEndConfig, ThroughCritic
from flashfm.pretraining.identification import IdentificationConfig
from flashfm.pretraining.lived import Policy, collect
from flashfm.pretraining.reinforcement import AgentConfig, Cached, train
from flashfm.tasks.autoscaling.hidden import Hidden
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION, Actions
from flashfm.tasks.autoscaling.scenario import Scenario, default, split, training_pairs
from flashfm.tasks.autoscaling.simulator import Simulator

ALPHA = 0.5
ACTIONS: Actions = "targets"
NOISE = 0.1
"""On the actions of warm-ups, as in pretraining."""
NONE, ONE, THREE, WRONG, PRIVILEGED = (
    "no embedding",
    "embedding, 1 warm-up",
    "embedding, 3 warm-ups",
    "embedding of another pair",
    "privileged",
)
FIRST_STEPS = (10, 25, 50)
"""Steps of one warm-up that are read in place of all of it."""
WINDOWS = {f"first {steps} steps of 1 warm-up": steps for steps in FIRST_STEPS}
LIVED, READ = 5, (1, 3, 5)
"""Warm-ups, and how many of them are read: the best, as in the paper."""
BEST = {f"best {read} of {LIVED} warm-ups": read for read in READ}
KINDS: dict[str, MetaLearnerConfig] = {
    "GRU by itself": MetaLearnerConfig("gru", hidden=32, layers=1, dropout=0.0),
}
"""Encoders in place of the set, as wide as is trained in minutes."""
END_TO_END = "GRU through the critic"
WARMED = {"1 warm-up": 1, "3 warm-ups": 3}
LEARNED = (
    *(NONE, ONE, THREE, *WINDOWS, *BEST, WRONG),
    *(f"{kind}, {warmed}" for kind in (*KINDS, END_TO_END) for warmed in WARMED),
    PRIVILEGED,
)
FIXED = ("static", "HPA + VPA", "planner")
"""Arms that are not learned; the planner is told the parameters of the pairs."""
PARTS = 4 + len(KINDS)
"""Of a seed, by which progress is told."""
WITHOUT = 0.15
"""Share of the pairs that are shown no embedding where the encoder is trained with the agent: a pair's warm-up is
played by the same agent, which then knows nothing of it."""
REWARD = len(OBSERVATION) + len(ACTION)
"""Of a token."""
OnStep = Callable[[int, int], object]
Part = tuple[dict[str, Judged], dict[str, dict[str, object]]]
"""What is kept of a part: arms, and the settings of those that were tuned."""


@dataclass(frozen=True)
class AblationConfig:
    """How much is trained and judged."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    training: int = 800
    """Applications, each in so many environments."""
    environments: int = 4
    tested: int = 200
    tuned_on: int = 200
    """Training pairs that baselines are tuned on."""
    agent: AgentConfig = field(
        default_factory=lambda: AgentConfig(episodes=45, kept_episodes=8, alpha=(ALPHA, ALPHA), without=0.0)
    )
    identification: IdentificationConfig = field(default_factory=IdentificationConfig)
    end_to_end: EndToEndConfig = field(default_factory=EndToEndConfig)
    lived: int = 5
    """Episodes of each pair that the encoder learns from."""

    @classmethod
    def of(cls, *, quick: bool) -> AblationConfig:
        """The whole experiment, or one seed of few pairs and episodes."""
        if not quick:
            return cls()
        agent = replace(cls().agent, episodes=12, random_episodes=4)
        return cls((0,), 200, 1, 50, 50, agent, IdentificationConfig(steps=100), EndToEndConfig(pairs=8))


def run(
    out: Path,
    folder: Path,
    *,
    quick: bool = False,
    on_step: OnStep = lambda *_: None,
    config: AblationConfig | None = None,
    engine: Engine = INLINE,
) -> Path:
    """Train and judge all arms, and write the result file.

    Args:
        out: what each seed gave is kept here; a stopped run goes on there.
        folder: of the result file.
        quick: one seed of few pairs.
        on_step: told of the parts that are done and of all of them.
        config: settings, in place of those that `quick` chooses.
        engine: where the seeds run, and the tuning of what is not learned.

    Returns:
        The result file.
    """
    config = config or AblationConfig.of(quick=quick)
    train_on = training_pairs(config.training, config.environments)
    test_on = split(default(0))[1].take(np.arange(config.tested))
    tuned_on = train_on.take(np.arange(config.tuned_on))
    parts: dict[str, tuple[int, Callable[[OnStep], Part]]] = {
        **{name.replace(" ", ""): (1, partial(_fixed, name, tuned_on, test_on)) for name in FIXED},
        **{f"seed-{seed}": (PARTS, partial(_seed, seed, train_on, test_on, config)) for seed in config.seeds},
    }
    kept = {name: _read(file) for name, file in results.in_parts(out, parts, _keep, on_step, engine)}
    fixed = {name: kept[name.replace(" ", "")][0][name] for name in FIXED}
    settings = {name: kept[name.replace(" ", "")][1][name] for name in FIXED}
    learned = [kept[f"seed-{seed}"][0] for seed in config.seeds]
    rows = [row for name in FIXED for row in _rows(name, [fixed[name]], "all")]
    for name in LEARNED:
        rows += _rows(name, [of[name] for of in learned], f"{len(learned)} seeds")
    path = folder / "ablation-rl.json"
    results.write(
        path,
        command="flashfm reproduce ablation-rl" + (" --quick" if quick else ""),
        protocol=(
            f"{len(test_on)} unseen applications, {scaling.EPISODES} episodes each, alpha {ALPHA}; the same loads and"
            " chance for all arms; spread over pairs of the mean over seeds; baselines tuned by reward on training"
            " pairs; intervals: bootstrap over pairs and seeds, 95 %"
        ),
        seeds=list(config.seeds),
        rows=rows,
        more={"settings": settings, "gap": gap(learned), "pretraining_pairs": len(train_on)},
        markdown_of=_page,
    )
    return path


def _fixed(name: str, tuned_on: Scenario, test_on: Scenario, _on_step: OnStep) -> Part:
    """An arm that is not learned."""
    controller, setting = tuned(name, tuned_on, ALPHA)
    return {name: judge(test_on, controller_acts(controller), alpha=ALPHA, begin=controller.reset)}, {name: setting}


def _seed(seed: int, train_on: Scenario, test_on: Scenario, config: AblationConfig, on_step: OnStep) -> Part:
    """All learned arms of one seed."""

    def on_part(part: int) -> None:
        on_step(part, PARTS)

    def simulator(part: int) -> Simulator:
        return train_on.simulator(actions=ACTIONS, seed=10 * seed + part)

    def judged(agent: Ddpg, embedding: Float[Tensor, "pair embed"] | None) -> Judged:
        return judge(test_on, agent_acts(agent, embedding), alpha=ALPHA, actions=ACTIONS)

    def warm(policy: Policy, episodes: int) -> Float[Tensor, "pair trajectory step token"]:
        unseen = test_on.simulator(actions=ACTIONS, seed=10 * seed + 4)
        return collect(unseen, policy, episodes, NOISE, seed, (ALPHA, ALPHA))

    shared = train(simulator(1), config.agent, seed=seed)
    arms = {NONE: judged(shared, None)}
    on_part(1)
    lived = collect(simulator(2), shared.kept, config.lived, NOISE, seed, (ALPHA, ALPHA))
    warmed = warm(shared.kept, LIVED)
    told_of = Hidden.like(train_on)
    hidden = torch.from_numpy(told_of.of(train_on))

    def knowing(meta: MetaLearnerConfig) -> tuple[Ddpg, TrajectoryEncoder]:
        encoder = identification.fit(lived, hidden, replace(config.identification, meta=meta), seed=seed)
        shown = Cached(identification.variants(encoder, lived))
        return train(simulator(3), config.agent, seed=seed, embeddings=shown), encoder.requires_grad_(False)

    agent, encoder = knowing(config.identification.meta)
    three = encoder(warmed[:, :3])
    arms |= {ONE: judged(agent, encoder(warmed[:, :1])), THREE: judged(agent, three)}
    arms |= {name: judged(agent, encoder(warmed[:, :1, :steps])) for name, steps in WINDOWS.items()}
    arms |= {name: judged(agent, encoder(best(warmed, read))) for name, read in BEST.items()}
    arms |= {WRONG: judged(agent, three.roll(1, 0))}
    on_part(2)
    for part, (kind, meta) in enumerate(KINDS.items(), 3):
        agent, encoder = knowing(meta)
        arms |= {f"{kind}, {name}": judged(agent, encoder(warmed[:, :n])) for name, n in WARMED.items()}
        on_part(part)
    through = ThroughCritic(config.end_to_end, seed=seed)
    agent = train(simulator(6), replace(config.agent, without=WITHOUT), seed=seed, embeddings=through)
    encoder = through.encoder.eval().requires_grad_(False)
    lived_alone = warm(lambda state: agent.act(state, torch.zeros(*state.shape[:2], agent.embed), kept=True), 3)
    arms |= {f"{END_TO_END}, {name}": judged(agent, encoder(lived_alone[:, :n])) for name, n in WARMED.items()}
    on_part(PARTS - 1)
    told = train(simulator(5), config.agent, seed=seed, embeddings=Cached(hidden[None]))
    return arms | {PRIVILEGED: judged(told, torch.from_numpy(told_of.of(test_on)))}, {}


def best(
    trajectories: Float[Tensor, "pair trajectory step token"], several: int
) -> Float[Tensor, "pair best step token"]:
    """The trajectories of each pair that have the most reward."""
    reward = trajectories[..., REWARD].mean(dim=2)
    chosen = reward.topk(several, dim=1).indices
    return trajectories[torch.arange(len(trajectories))[:, None], chosen]


def gap(learned: list[dict[str, Judged]], draws: int = 2000) -> dict[str, dict[str, float]]:
    """How far the privileged policy is ahead, and which share of that the embeddings reach, with intervals.

    Args:
        learned: arms of each seed.
        draws: of the bootstrap over pairs and seeds.
    """
    reward = {name: np.stack([of[name].reward for of in learned]) for name in learned[0]}
    rng = np.random.default_rng(0)
    seeds, pairs = reward[NONE].shape
    between = [name for name in reward if name not in (NONE, PRIVILEGED)]

    def figures(of: dict[str, float]) -> dict[str, float]:
        ahead = of[PRIVILEGED] - of[NONE]
        shares = {f"share closed, {name}": (of[name] - of[NONE]) / ahead for name in between}
        gains = {f"gain, {name}": of[name] - of[NONE] for name in between}
        return {"privileged over none, share of reward": ahead / of[NONE], **shares, **gains}

    point = figures({name: float(values.mean()) for name, values in reward.items()})
    drawn = []
    for _ in range(draws):
        at = np.ix_(rng.integers(seeds, size=seeds), rng.integers(pairs, size=pairs))
        drawn.append(figures({name: float(values[at].mean()) for name, values in reward.items()}))
    return {
        name: {
            "mean": value,
            "low": float(np.quantile([one[name] for one in drawn], 0.025)),
            "high": float(np.quantile([one[name] for one in drawn], 0.975)),
        }
        for name, value in point.items()
    }


def _rows(name: str, judged: list[Judged], label: str) -> list[Row]:
    found = []
    for metric in METRICS:
        values = np.stack([getattr(one, metric) for one in judged]).mean(axis=0)
        spread = (float(values.mean()), float(np.median(values)), float(values.std()))
        found.append(Row("default", name, metric, *spread, len(values), len(values) * len(judged), split=label))
    return found


def _page(path: Path) -> str:
    """One line an arm, then the gap."""
    content = json.loads(path.read_text())
    of: dict[str, dict[str, float]] = {}
    for row in content["rows"]:
        of.setdefault(row["method"], {})[row["metric"]] = row["mean"]
    lines = ["| arm | reward | violations | core-hours | GiB-hours | killed |", "|---|---|---|---|---|---|"]
    for name, values in of.items():
        lines.append(f"| {name} | {cells(values)} |")
    lines += ["", "| | mean | 95 % interval |", "|---|---|---|"]
    lines += [f"| {n} | {v['mean']:.3f} | {v['low']:.3f} to {v['high']:.3f} |" for n, v in content["gap"].items()]
    return "\n".join(lines) + "\n"


def _keep(path: Path, part: Part) -> None:
    arms, settings = part
    arrays = {f"{name}|{of.name}": getattr(judged, of.name) for name, judged in arms.items() for of in fields(judged)}
    write_whole(path, lambda file: np.savez(file, settings=json.dumps(settings), **arrays))


def _read(path: Path) -> Part:
    arrays = results.read_arrays(path)
    settings = json.loads(str(arrays.pop("settings")))
    of: dict[str, dict[str, np.ndarray]] = {}
    for key, values in arrays.items():
        name, metric = key.split("|")
        of.setdefault(name, {})[metric] = values
    return {name: Judged(**values) for name, values in of.items()}, settings
