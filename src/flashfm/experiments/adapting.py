"""How arms get to know a pair: an agent of another pair that trains on, and the pretrained agent that warms up.

Enters: pairs, and agents that have not met them. Leaves: the reward of each arm after every so many episodes, judged
without exploration, and what happened in these episodes. An arm has one environment a pair, as an operator has one
deployment, and all arms meet the same loads and the same chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from flashfm.experiments.scaling import Act, Judged, judge, model_acts
from flashfm.models.agent import AgentModel
from flashfm.models.ddpg import Ddpg, DdpgConfig, Network
from flashfm.pretraining.lived import collect
from flashfm.pretraining.reinforcement import AgentConfig, train
from flashfm.tasks.autoscaling.dynamics import Limits
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION, Actions, violated
from flashfm.tasks.autoscaling.scenario import Scenario
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS, Simulator, Stepped

LIVED = ("reward", "violations", "cpu_use")
"""What is noted of episodes, means over their steps: `violations` is the share of steps that break the SLO."""
CHECKPOINTS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 60)
"""Episodes after which an agent is judged while transfer learning is tuned: early ones count more."""
NOISE = 0.1
"""On the actions of warm-up episodes, as in pretraining."""

Rewards = Float[np.ndarray, "judged pair"]
Lived = dict[str, Float[np.ndarray, "episode pair"]]
"""Of `LIVED`."""
Arrays = dict[str, Shaped[np.ndarray, "..."]]
OnStep = Callable[[int, int], object]


class Recorder(Simulator):
    """A simulator that notes what happens, and counts episodes so that each has its own loads and chance.

    Args:
        scenario: the pairs.
        alpha: weight of the SLO.
        actions: how actions are meant.
        seed: of chance and loads.
    """

    def __init__(self, scenario: Scenario, *, alpha: float, actions: Actions, seed: int) -> None:
        of = scenario.simulator(alpha=alpha, actions=actions, seed=seed)
        super().__init__(of.params, of._make_load, alpha=alpha, actions=actions, seed=seed)
        self._noted: list[list[Tensor]] = []

    def reset(self, episode: int | None = None) -> Any:
        """Begin an episode: the one of this number, or the next one."""
        self._noted.append([])
        return super().reset(len(self._noted) - 1 if episode is None else episode)

    def apply(self, limits: Limits) -> Stepped:
        """Set limits, serve the next step and note what came of it."""
        stepped = super().apply(limits)
        broken = violated(stepped.outcome).to(stepped.reward.dtype)
        self._noted[-1].append(torch.stack([stepped.reward, broken, stepped.outcome.cpu_use]))
        return stepped

    @property
    def lived(self) -> Lived:
        """Means over the steps of each episode; there must have been a step in each."""
        means = torch.stack([torch.stack(steps).mean(dim=0) for steps in self._noted], dim=1)
        return dict(zip(LIVED, means.double().numpy(), strict=True))


def to_arrays(agents: Ddpg) -> Arrays:
    """What acts of some agents, and their critics."""
    parts = {"kept": agents.kept, "critic": agents.critic}
    return {f"{part}.{key}": value.numpy() for part, of in parts.items() for key, value in of.state_dict().items()}


def from_arrays(arrays: Mapping[str, Any], config: DdpgConfig) -> Ddpg:
    """Agents that see no embedding, from arrays or tensors that `to_arrays` named; other names are passed over."""
    n, state, action = len(arrays["kept.weights.0"]), len(OBSERVATION), len(ACTION)
    actor = Network(n, state, action, config, bounded=True)
    critic = Network(n, state + action, 1, config, bounded=False)
    for part, network in (("kept", actor), ("critic", critic)):
        network.load_state_dict({key: torch.as_tensor(arrays[f"{part}.{key}"]) for key in network.state_dict()})
    return Ddpg.of(actor, critic, 0, config)


def network_acts(network: Network) -> Act:
    """Policies side by side as an autoscaler: the first serves the first equal share of what is seen, and so on."""
    agents = len(network.weights[0])

    def act(observation: Tensor, simulator: Simulator) -> Stepped:
        seen = observation.reshape(agents, -1, observation.shape[-1])
        return simulator.step(network(seen).reshape(len(observation), -1))

    return act


@torch.no_grad()
def live(simulator: Simulator, act: Act, episodes: int, begin: Callable[[Simulator], object] = lambda _: None) -> None:
    """Let an autoscaler serve some episodes, one after the other; `begin` is told of the simulator before each."""
    for _ in range(episodes):
        observation = simulator.reset()
        begin(simulator)
        for _ in range(EPISODE_STEPS):
            observation = act(observation, simulator).observation


@dataclass(frozen=True)
class Transfer:
    """A setting of transfer learning; what it does not name is as in the training that it goes on from."""

    actor_rate: float = 3e-4
    noise: float = 0.1
    """Standard deviation of the noise on actions at the start."""
    updates: int = 1
    """After each step."""
    acts: str = "kept"
    """Which policy is judged: `actor`, as it is, or `kept`, its moving average."""

    def config(self, like: AgentConfig, episodes: int) -> AgentConfig:
        """How agents train on.

        Args:
            like: how they were trained.
            episodes: for which they train on; all of them are kept in the replay buffer.
        """
        return replace(
            like,
            episodes=episodes,
            kept_episodes=episodes,
            updates=self.updates,
            noise=(self.noise, min(self.noise, like.noise[1])),
        )


@dataclass(frozen=True)
class Grid:
    """Settings of transfer learning that are tried, all combinations."""

    actor_rate: tuple[float, ...] = (1e-3, 3e-4)
    noise: tuple[float, ...] = (0.3, 0.1)
    updates: tuple[int, ...] = (1,)

    @property
    def settings(self) -> list[Transfer]:
        """What has to be trained; which policy is judged comes on top."""
        return [Transfer(*of) for of in product(self.actor_rate, self.noise, self.updates)]


def transfer(
    scenario: Scenario,
    agents: Ddpg,
    which: Int[np.ndarray, " pair"],
    setting: Transfer,
    config: AgentConfig,
    *,
    alpha: float,
    actions: Actions,
    seed: int,
    judged_at: Sequence[int],
    acts: Sequence[str] = (),
    on_step: OnStep = lambda *_: None,
) -> tuple[dict[str, Rewards], Lived]:
    """Move agents to pairs and train them on: transfer learning with shared parameters.

    Args:
        scenario: the pairs.
        agents: trained elsewhere.
        which: the agent that is moved to each pair; all its weights go along.
        setting: how it trains on.
        config: what the setting does not say; its episodes are those that it trains on for.
        alpha: weight of the SLO.
        actions: what actions mean.
        seed: of loads, chance and exploration.
        judged_at: numbers of episodes after which agents are judged; 0 is before the first.
        acts: which policies are judged; that of the setting by default.
        on_step: told of the episodes that are done and of all of them.

    Returns:
        The rewards of each policy that is judged, in the order of `judged_at`, and what happened in training.
    """
    trained = replace(agents.config, actor_rate=setting.actor_rate)
    moved = Ddpg.of(agents.kept.take(which), agents.critic.take(which), agents.embed, trained)
    found: dict[str, list[np.ndarray]] = {name: [] for name in acts or (setting.acts,)}

    def note(done: int, total: int) -> None:
        if done in judged_at:
            for name, rewards in found.items():
                act = network_acts(getattr(moved, name))
                rewards.append(judge(scenario, act, alpha=alpha, actions=actions).reward)
        if done:
            on_step(done, total)

    note(0, config.episodes)
    recorder = Recorder(scenario, alpha=alpha, actions=actions, seed=seed)
    told = setting.config(config, config.episodes)
    train(recorder, told, seed=seed, agents=len(which), start=moved, on_step=note)
    return {name: np.stack(rewards) for name, rewards in found.items()}, recorder.lived


def tune_transfer(
    scenario: Scenario,
    agents: Ddpg,
    which: Int[np.ndarray, " pair"],
    grid: Grid,
    config: AgentConfig,
    *,
    alpha: float,
    actions: Actions,
    seed: int,
    on_step: OnStep = lambda *_: None,
) -> list[dict[str, Any]]:
    """Try every setting of a grid on the same pairs, which should be training pairs.

    Args:
        scenario: the pairs.
        agents: as for `transfer`; so are the rest.
        which: the agent that is moved to each pair.
        grid: what is tried.
        config: as for `transfer`.
        alpha: as for `transfer`.
        actions: as for `transfer`.
        seed: as for `transfer`.
        on_step: told of the episodes of all settings that are done and of all of them.

    Returns:
        The settings with their `reward`, the mean over pairs and `CHECKPOINTS`; the best first.
    """
    tried, judged_at = [], [done for done in CHECKPOINTS if done <= config.episodes]
    for i, setting in enumerate(grid.settings):
        before, total = i * config.episodes, len(grid.settings) * config.episodes
        rewards, _ = transfer(
            scenario,
            agents,
            which,
            setting,
            config,
            alpha=alpha,
            actions=actions,
            seed=seed,
            judged_at=judged_at,
            acts=("actor", "kept"),
            on_step=lambda done, _, b=before, t=total: on_step(b + done, t),  # type: ignore[misc]
        )
        tried += [asdict(replace(setting, acts=name)) | {"reward": float(of.mean())} for name, of in rewards.items()]
    return sorted(tried, key=lambda one: -float(one["reward"]))


def warm_up(
    scenario: Scenario, model: AgentModel, *, alpha: float, seed: int, warmups: int, episodes: int
) -> tuple[list[Judged], Lived]:
    """The pretrained agent: warm-up episodes by the policy without embedding, then the one with theirs.

    Args:
        scenario: the pairs.
        model: the agent.
        alpha: weight of the SLO.
        seed: of loads, chance and the noise of warm-ups.
        warmups: episodes before the embedding is final.
        episodes: in all, at least `warmups`.

    Returns:
        How the agent is judged after 0, 1, ... `warmups` episodes, without embedding after 0, and what happened in all
        episodes, of which only the first `warmups` have the noise of warm-ups.
    """
    recorder = Recorder(scenario, alpha=alpha, actions=model.actions, seed=seed)
    warm = collect(recorder, model.shared, warmups, NOISE, seed, (alpha, alpha))
    embedded: list[Tensor | None] = [None, *(model.embed(warm[:, : i + 1]) for i in range(warmups))]
    judged = [judge(scenario, model_acts(model, of), alpha=alpha, actions=model.actions) for of in embedded]
    live(recorder, model_acts(model, embedded[-1], 1), episodes - warmups)
    return judged, recorder.lived
