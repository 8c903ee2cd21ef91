"""The same work on the CPU and on a GPU: environments, training of the agent, decisions, and configuration search.

Each arm is the same code with another device, and is waited for at its end. The CPU has one thread, as everywhere in
these benchmarks. Timed are:

- steps of the environment with random actions, resets included, whose loads NumPy draws on the CPU;
- updates of the agent as in pretraining, of one agent and of 16 side by side;
- decisions of the agent that ships, from tensors to tensors, for many pairs at once;
- what the model that ships says of all configurations of many applications of three measurements each: arrays in and
  out, so copies to the GPU and back are in it.

Prints what is done in a second as the median over five rounds with their range, and how many times as fast the GPU is.
On a machine without a GPU that torch can use it says so in one line.

    python benchmarks/gpu.py [--json] [--write] [--quick]

`--write` keeps the figures in results/gpu.json.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import gymnasium
import numpy as np
import torch
from _figures import Asked, Found, asked

import flashfm
import flashfm.envs
from flashfm.models.ddpg import Batch, Ddpg
from flashfm.models.flash import FlashModel
from flashfm.models.replay import Replay
from flashfm.pretraining.autoscaling import AutoscalingConfig
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS
from flashfm.tasks.config_search import Shots

ENVS, QUICK_ENVS = (1, 8, 64, 800, 4_096, 16_384), (8, 800)
PAIRS, QUICK_PAIRS = 3_200, 64
"""Whose episodes an update is drawn from; as in pretraining."""
AGENTS, UPDATES, EPISODES = (1, 16), 50, 8
DECIDED, QUICK_DECIDED = 100_000, 1_000
FLEET, QUICK_FLEET, SHOTS = 16_384, 512, 3
"""Applications of a batch, and measurements of each."""
HERE, THERE = "CPU", "GPU"
Devices = dict[str, torch.device]
Work = Callable[[], object]


def wait(device: torch.device) -> None:
    """Until all that was asked of a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rates(how: Asked, work: dict[str, tuple[torch.device, int, Work]]) -> dict[str, list[float]]:
    """What is done in a second in each round.

    Args:
        how: it is asked.
        work: arm -> device, how much a call does, and the call.
    """
    found: dict[str, list[float]] = {arm: [] for arm in work}
    for _, _, call in work.values():
        call()
    for _ in range(how.rounds):
        for arm, (device, much, call) in work.items():
            wait(device)
            begun = time.perf_counter()
            call()
            wait(device)
            found[arm].append(much / (time.perf_counter() - begun))
    return found


def stepping(envs: int, device: torch.device) -> Work:
    """An episode."""
    env = gymnasium.make_vec(
        flashfm.envs.AUTOSCALING,
        envs,
        vectorization_mode="vector_entry_point",
        arrays="torch",
        device=str(device),
        alpha=(0.3, 0.9),
    )
    env.reset(seed=0)
    actions = torch.rand(envs, len(ACTION), device=device) * 2 - 1

    def episode() -> None:
        for _ in range(EPISODE_STEPS):
            env.step(actions)

    return episode


def updating(pairs: int, agents: int, device: torch.device) -> Work:
    """A run of updates of agents without embedding."""
    config = AutoscalingConfig().agent
    agent = Ddpg(agents, len(OBSERVATION), len(ACTION), 0, config.ddpg, device)
    kept = Replay(EPISODES, EPISODE_STEPS, pairs, len(OBSERVATION), len(ACTION), device)
    for _ in range(EPISODES):
        kept.put({name: torch.rand(values.shape) * 2 - 1 for name, values in kept.newest().items()})
    generator, each = torch.Generator(device).manual_seed(0), pairs // agents
    first_of, shown = each * torch.arange(agents, device=device)[:, None], torch.zeros(pairs, 0, device=device)

    def run() -> None:
        for _ in range(UPDATES):
            env = first_of + torch.randint(each, (agents, config.batch), generator=generator, device=device)
            drawn = kept.draw(env, generator, config.ddpg.returns, config.ddpg.discount)
            agent.learn(Batch(*drawn, shown[env]))

    return run


def deciding(pairs: int, device: torch.device) -> Work:
    """An action for each of many pairs that are known by their embeddings."""
    model = flashfm.FlashAgent.from_pretrained("autoscaling").model.to(device)
    observation = torch.rand(pairs, len(OBSERVATION), device=device)
    embedding = torch.randn(pairs, model.encoder.meta.config.embed, device=device)
    return lambda: model.act(observation, embedding)


def searching(model: FlashModel, shots: Shots, device: torch.device) -> Work:
    """All configurations of many applications."""
    there = model.to(device)
    return lambda: there.forecast(shots)


def fleet(model: FlashModel, applications: int) -> Shots:
    """Measurements of applications that are drawn around those of pretraining."""
    rng = np.random.default_rng(0)
    config = np.argsort(rng.random((applications, len(model.grid))), axis=1)[:, :SHOTS]
    runtime = model.prior.gp.mean[config] + rng.normal(0.0, 1.0, (applications, 1)) + rng.normal(0.0, 0.1, config.shape)
    return Shots(config, runtime, np.full((*config.shape, len(model.metric_names)), np.nan))


def found_by(how: Asked, devices: Devices) -> Found:
    """Everything on each device.

    Args:
        how: it is asked.
        devices: `HERE` and `THERE`.
    """
    found = Found()

    def compare(group: str, unit: str, much: int, work: Callable[[torch.device], Work]) -> None:
        arms = {arm: (device, much, work(device)) for arm, device in devices.items()}
        found.add(rates(how, arms), unit, group)
        found.compare(THERE, HERE, group)

    envs = QUICK_ENVS if how.quick else ENVS
    for n in envs:
        compare(
            f"{n:,} environments", "environment steps/s", n * EPISODE_STEPS, lambda device, n=n: stepping(n, device)
        )
    for arm in devices:
        of = {n: [n / rate for rate in found.figures[f"{n:,} environments: {arm}"][1]] for n in envs}
        found.grows(f"time of a step over environments, {arm}", of)
    pairs = QUICK_PAIRS if how.quick else PAIRS
    for agents in AGENTS:
        group = "an agent" if agents == 1 else f"{agents} agents side by side"
        compare(group, "updates/s", agents * UPDATES, lambda device, n=agents: updating(pairs, n, device))
    decided = QUICK_DECIDED if how.quick else DECIDED
    compare(f"{decided:,} pairs at once", "decisions/s", decided, lambda device: deciding(decided, device))
    model = flashfm.FlashRegressor.from_pretrained("serverless-memory").model
    shots = fleet(model, QUICK_FLEET if how.quick else FLEET)
    compare(
        f"{len(shots):,} applications, {SHOTS} measurements each",
        "applications/s",
        len(shots),
        lambda device: searching(model, shots, device),
    )
    return found


def main() -> None:
    how = asked(__doc__)
    torch.set_num_threads(1)
    if not torch.cuda.is_available():
        why = f"torch {torch.__version__} finds no GPU on this machine"
        print(json.dumps({"skipped": why}) if how.as_json else why)
        return
    there = torch.device("cuda", torch.cuda.current_device())
    name = torch.cuda.get_device_name(there)
    found = found_by(how, {HERE: torch.device("cpu"), THERE: there})
    found.tell(__file__, how, f"{name} beside one thread of the CPU, warm, waited for at the end of each call")


if __name__ == "__main__":
    main()
