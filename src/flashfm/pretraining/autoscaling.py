"""Pretrains the autoscaling agent over many pairs: a shared policy, an encoder of what it met, and a policy on that.

Enters: a scenario. Leaves: an `AgentModel`. The encoder learns by itself what tells pairs apart (`identification.py`)
from episodes of the shared policy; its embeddings are computed once, and the second policy is trained on them as on any
other observation. Trained through the critic, as in the paper, the encoder finds less and costs far more. A run that
was killed goes on from its checkpoints, and ends with the same model as one that was not. All is done on one device,
and the model comes back to the CPU. Ranks of a group (`sharded.py`) have a share of the pairs each, and one model.
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
from flashfm.engine.group import ALONE, Group
from flashfm.errors import ModelError
from flashfm.models import novelty
from flashfm.models.agent import AgentModel, policy
from flashfm.models.device import CPU
from flashfm.models.novelty import NoveltyModel
from flashfm.models.threads import one_thread
from flashfm.models.trajectories import TrajectoryEncoder
from flashfm.pretraining import identification
from flashfm.pretraining.checkpoints import Checkpoints
from flashfm.pretraining.identification import IdentificationConfig
from flashfm.pretraining.lived import Rules, collect, collect_rules, shuffled
from flashfm.pretraining.reinforcement import AgentConfig, Cached, train
from flashfm.pretraining.shares import least, own_seed
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
    device: torch.device = CPU,
    group: Group = ALONE,
) -> AgentModel:
    """Pretrain on all pairs of a scenario.

    Args:
        scenario: the pairs.
        config: settings.
        seed: of everything that chance decides; the same seed gives the same model on the same machine, device and
            number of ranks.
        on_step: told of progress, in episodes.
        checkpoints: what a stopped run goes on from; they stay until the caller, who has saved the model, removes them.
        rules: autoscalers of today by name, each of which plays one episode of each pair for the encoder: whoever moves
            to the agent has lived through those of something else.
        device: where all of it is done; the model comes back to the CPU.
        group: whose ranks all call this alike, but for their checkpoints, on CPUs. Each trains on its share of the
            pairs, two at least, and gets the model.

    Raises:
        ArtifactError: the checkpoints are damaged, or of another run.
        DataError: a checkpoint cannot be written.
        ModelError: there are more ranks than can share the work.
    """
    config, checkpoints, rules = config or AutoscalingConfig(), checkpoints or Checkpoints(), rules or {}
    check_workers(scenario, config, group.size)
    checkpoints.belong(run_of(scenario, config, seed, list(rules), device, group.size))
    with one_thread():
        return _pretrain(scenario, config, seed, on_step, checkpoints, list(rules.values()), device, group)


def check_workers(scenario: Scenario, config: AutoscalingConfig, workers: int) -> None:
    """Whether so many can train together.

    Raises:
        ModelError: some would have too few pairs, or no part of a batch.
    """
    most = max(1, min(len(scenario) // 2, config.agent.batch, config.identification.tasks))
    if not 1 <= workers <= most:
        raise ModelError(
            f"{workers} workers for {len(scenario)} pairs: expected 1 to {most}, so that each has two pairs, and a part"
            " of every batch"
        )


def _pretrain(
    scenario: Scenario,
    config: AutoscalingConfig,
    seed: int,
    on_step: Callable[[int, int], object],
    checkpoints: Checkpoints,
    rules: list[Rules],
    device: torch.device,
    group: Group,
) -> AgentModel:
    trained = config.agent.episodes
    total = 2 * trained + config.episodes
    place = np.arange(len(scenario))[group.part(len(scenario))]
    own, chance = scenario.take(place), own_seed(seed, group)

    def simulator(part: int) -> Simulator:
        return own.simulator(actions=config.actions, seed=own_seed(4 * seed + part, group), device=str(device))

    shared = policy(
        train(
            simulator(0),
            config.agent,
            seed=seed,
            on_step=lambda i, _: on_step(i, total),
            checkpoints=checkpoints,
            name="shared",
            group=group,
        )
    )
    lived = collect(simulator(1), shared, config.episodes, config.noise, chance, config.agent.alpha)
    if rules:
        today = own.simulator(actions="targets", seed=own_seed(3 * seed + 1, group), device=str(device))
        others = collect_rules(today, rules, chance, config.agent.alpha)
        lived = shuffled(torch.cat([lived, others], dim=1), chance)
    on_step(trained + config.episodes, total)
    hidden = torch.from_numpy(Hidden.like(scenario).of(own)).to(device)
    known, unseen = _parted(place, len(scenario))
    encoder = _encoder(lived[known], hidden[known], config.identification, seed, checkpoints, group)
    conditioned = train(
        simulator(2),
        replace(config.agent, without=0.0),
        seed=seed,
        embeddings=Cached(identification.variants(encoder, lived)),
        on_step=lambda i, _: on_step(trained + config.episodes + i, total),
        checkpoints=checkpoints,
        name="conditioned",
        group=group,
    )
    critic = conditioned.critic.eval().requires_grad_(False)
    like = _novelty(encoder, lived, known, unseen, place, group)
    parts = (shared.cpu(), policy(conditioned).cpu(), critic.cpu(), encoder.cpu())
    return AgentModel(*parts, novelty=like, actions=config.actions)


def _parted(place: Int[np.ndarray, " env"], pairs: int) -> tuple[Int[np.ndarray, " known"], Int[np.ndarray, " unseen"]]:
    """Pairs that the encoder learns from, and every `HELD_OUT`th, by which novelty is told.

    Args:
        place: of a rank's pairs among all.
        pairs: how many there are in all.
    """
    if pairs < HELD_OUT:
        return np.arange(len(place)), np.arange(len(place))
    out = place % HELD_OUT == HELD_OUT - 1
    return np.flatnonzero(~out), np.flatnonzero(out)


def _novelty(
    encoder: TrajectoryEncoder,
    lived: Float[Tensor, "env trajectory step token"],
    known: Int[np.ndarray, " known"],
    unseen: Int[np.ndarray, " unseen"],
    place: Int[np.ndarray, " env"],
    group: Group,
) -> NoveltyModel:
    """References of the pairs that the encoder was fitted on, and distances of the others, those of all ranks."""

    def embedded(some: Float[Tensor, "some trajectory step token"]) -> Float[np.ndarray, "all embed"]:
        found = group.gather(identification.embedded(encoder, some).cpu())
        return torch.cat(found).double().numpy()

    pairs = torch.cat(group.gather(torch.from_numpy(place[known]))).numpy()
    held = {k: embedded(lived[unseen, 1 : k + 1]) for k in range(1, lived.shape[1])}
    return novelty.fit(embedded(lived[known, :1]), pairs, held)


def _encoder(
    lived: Float[Tensor, "env trajectory step token"],
    hidden: Float[Tensor, "env value"],
    config: IdentificationConfig,
    seed: int,
    checkpoints: Checkpoints,
    group: Group,
) -> TrajectoryEncoder:
    """Train an encoder, or take the one that every rank has kept."""
    if not least(group, "encoder" in checkpoints):
        encoder = identification.fit(lived, hidden, config, seed=seed, group=group)
        checkpoints.write({"encoder": encoder.state_dict()})
        return encoder
    with torch.random.fork_rng(devices=[]), checkpoints.fitting("encoder"):
        encoder = TrajectoryEncoder(lived.shape[-1], config.meta)
        encoder.load_state_dict(checkpoints["encoder"])
    return encoder.eval().to(lived.device)


def run_of(
    scenario: Scenario,
    config: AutoscalingConfig,
    seed: int,
    rules: list[str],
    device: torch.device = CPU,
    workers: int = 1,
) -> dict[str, Any]:
    """What decides which model comes out, for `Checkpoints.belong`; arguments as of `pretrain`.

    Args:
        scenario: the pairs.
        config: settings.
        seed: of chance.
        rules: names of the autoscalers of today.
        device: where it is done.
        workers: ranks.
    """
    arrays = [*astuple(scenario.params), *astuple(scenario.loads), scenario.capacity_per_s]
    if scenario.trace is not None:
        arrays += [scenario.trace.counts, np.array(scenario.trace.bin_s)]
    content = hashlib.sha256(repr(scenario.apps).encode())
    for array in arrays:
        content.update(np.ascontiguousarray(array).tobytes())
    settings = {"pairs": len(scenario), "seed": seed, "flashfm": flashfm.__version__, "config": asdict(config)}
    where: dict[str, Any] = {} if device.type == CPU.type else {"device": device.type}
    where |= {} if workers == 1 else {"workers": workers}
    return {"task": "autoscaling", **settings, "scenario": content.hexdigest(), "rules": rules, **where}
