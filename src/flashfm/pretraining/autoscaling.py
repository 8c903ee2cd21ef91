"""Pretrains the autoscaling agent over many pairs: a shared policy, an encoder of what it met, and a policy on that.

Enters: a scenario. Leaves: an `AgentModel`. The encoder learns by itself what tells pairs apart (`identification.py`)
from episodes of the shared policy; its embeddings are computed once, and the second policy is trained on them as on any
other observation. Trained through the critic, as in the paper, the encoder finds less and costs far more. A run that
was killed goes on from its checkpoints, and ends with the same model as one that was not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

import flashfm
from flashfm.models import novelty
from flashfm.models.agent import AgentModel, policy
from flashfm.models.novelty import NoveltyModel
from flashfm.models.threads import one_thread
from flashfm.models.trajectories import TrajectoryEncoder
from flashfm.pretraining import identification
from flashfm.pretraining.checkpoints import Checkpoints
from flashfm.pretraining.identification import IdentificationConfig
from flashfm.pretraining.lived import Rules, collect, collect_rules, shuffled
from flashfm.pretraining.reinforcement import AgentConfig, Cached, train
from flashfm.tasks.autoscaling.hidden import Hidden
from flashfm.tasks.autoscaling.interface import Actions
from flashfm.tasks.autoscaling.scenario import Scenario
from flashfm.tasks.autoscaling.simulator import Simulator

HELD_OUT = 8


@dataclass(frozen=True)
class AutoscalingConfig:
    """How an agent is pretrained."""

    agent: AgentConfig = field(default_factory=lambda: AgentConfig(episodes=60, kept_episodes=8, without=0.0))
    """Of both policies."""
    identification: IdentificationConfig = field(default_factory=IdentificationConfig)
    actions: Actions = "targets"
    episodes: int = 4
    """Episodes of each pair that the encoder learns from."""
    noise: float = 0.1
    """On the actions of these episodes: a pair shows more of itself when it is pushed a little."""


def pretrain(
    scenario: Scenario,
    config: AutoscalingConfig | None = None,
    *,
    seed: int = 0,
    on_step: Callable[[int, int], object] = lambda *_: None,
    checkpoints: Checkpoints | None = None,
    rules: Mapping[str, Rules] | None = None,
) -> AgentModel:
    """Pretrain on all pairs of a scenario.

    Args:
        scenario: the pairs.
        config: settings.
        seed: of everything that chance decides; the same seed gives the same model on the same machine.
        on_step: told of progress, in episodes.
        checkpoints: what a stopped run goes on from; they stay until the caller, who has saved the model, removes them.
        rules: autoscalers of today by name, each of which plays one episode of each pair for the encoder: whoever moves
            to the agent has lived through those of something else.

    Raises:
        ArtifactError: the checkpoints are damaged, or of another run.
        DataError: a checkpoint cannot be written.
    """
    config, checkpoints, rules = config or AutoscalingConfig(), checkpoints or Checkpoints(), rules or {}
    checkpoints.belong({**_run(scenario, config, seed), "rules": list(rules)})
    with one_thread():
        return _pretrain(scenario, config, seed, on_step, checkpoints, list(rules.values()))


def _pretrain(
    scenario: Scenario,
    config: AutoscalingConfig,
    seed: int,
    on_step: Callable[[int, int], object],
    checkpoints: Checkpoints,
    rules: list[Rules],
) -> AgentModel:
    trained = config.agent.episodes
    total = 2 * trained + config.episodes

    def simulator(part: int) -> Simulator:
        return scenario.simulator(actions=config.actions, seed=4 * seed + part)

    shared = policy(
        train(
            simulator(0),
            config.agent,
            seed=seed,
            on_step=lambda i, _: on_step(i, total),
            checkpoints=checkpoints,
            name="shared",
        )
    )
    lived = collect(simulator(1), shared, config.episodes, config.noise, seed, config.agent.alpha)
    if rules:
        others = collect_rules(
            scenario.simulator(actions="targets", seed=3 * seed + 1), rules, seed, config.agent.alpha
        )
        lived = shuffled(torch.cat([lived, others], dim=1), seed)
    on_step(trained + config.episodes, total)
    hidden = torch.from_numpy(Hidden.like(scenario).of(scenario))
    known, _ = _parted(len(scenario))
    encoder = _encoder(lived[known], hidden[known], config.identification, seed, checkpoints)
    conditioned = train(
        simulator(2),
        replace(config.agent, without=0.0),
        seed=seed,
        embeddings=Cached(identification.variants(encoder, lived)),
        on_step=lambda i, _: on_step(trained + config.episodes + i, total),
        checkpoints=checkpoints,
        name="conditioned",
    )
    critic = conditioned.critic.eval().requires_grad_(False)
    return AgentModel(shared, policy(conditioned), critic, encoder, _novelty(encoder, lived), config.actions)


def _parted(pairs: int) -> tuple[Int[np.ndarray, " known"], Int[np.ndarray, " unseen"]]:
    """Pairs that the encoder learns from, and every `HELD_OUT`th, by which novelty is told."""
    out = np.arange(pairs) % HELD_OUT == HELD_OUT - 1
    return (np.flatnonzero(~out), np.flatnonzero(out)) if out.any() else (np.arange(pairs), np.arange(pairs))


def _novelty(encoder: TrajectoryEncoder, lived: Float[Tensor, "env trajectory step token"]) -> NoveltyModel:
    """References of the pairs that the encoder was fitted on, and distances of those that were held out."""
    known, unseen = _parted(len(lived))
    reference = identification.embedded(encoder, lived[known, :1]).double().numpy()
    several = range(1, lived.shape[1])
    held = {k: identification.embedded(encoder, lived[unseen, 1 : k + 1]).double().numpy() for k in several}
    return novelty.fit(reference, known, held)


def _encoder(
    lived: Float[Tensor, "env trajectory step token"],
    hidden: Float[Tensor, "env value"],
    config: IdentificationConfig,
    seed: int,
    checkpoints: Checkpoints,
) -> TrajectoryEncoder:
    """Train an encoder, or take the one that is kept."""
    if "encoder" not in checkpoints:
        encoder = identification.fit(lived, hidden, config, seed=seed)
        checkpoints.write({"encoder": encoder.state_dict()})
        return encoder
    with torch.random.fork_rng(devices=[]), checkpoints.fitting("encoder"):
        encoder = TrajectoryEncoder(lived.shape[-1], config.meta)
        encoder.load_state_dict(checkpoints["encoder"])
    return encoder.eval()


def _run(scenario: Scenario, config: AutoscalingConfig, seed: int) -> dict[str, Any]:
    """What decides which model comes out."""
    arrays = [*astuple(scenario.params), *astuple(scenario.loads), scenario.capacity_per_s]
    if scenario.trace is not None:
        arrays += [scenario.trace.counts, np.array(scenario.trace.bin_s)]
    content = hashlib.sha256(repr(scenario.apps).encode())
    for array in arrays:
        content.update(np.ascontiguousarray(array).tobytes())
    settings = {"pairs": len(scenario), "seed": seed, "flashfm": flashfm.__version__, "config": asdict(config)}
    return {"task": "autoscaling", **settings, "scenario": content.hexdigest()}
