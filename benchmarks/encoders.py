"""The four encoders beside each other at the paper's sizes: GRU, LSTM, transformer and set.

Hidden layers, their widths and the embedding are those of the paper's Table 6 (`MetaLearnerConfig`): two layers of 256,
in both directions where there are two, an embedding of 32. Each reads what the paper's does: a batch of labelled shots
as in configuration search, and 32 trajectories of 100 steps, the paper's trajectory buffer, as in autoscaling. Ratios
are by the GRU, which is the paper's; `set, as it ships` is the narrower one of our autoscaling agent. Prints
parameters, and milliseconds forward, and forward and backward, as the median over five rounds with their range; and the
exponent of the time forward over the steps of one trajectory.

    python benchmarks/encoders.py [--json] [--write] [--quick]

`--write` keeps the figures in results/encoders.json.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import get_args

import torch
from _figures import Found, asked
from torch import Tensor

from flashfm.experiments.overhead_sl import BATCH, SHOTS
from flashfm.models.agent_state import TOKEN
from flashfm.models.meta_learner import Kind, MetaLearner, MetaLearnerConfig
from flashfm.models.trajectories import SET
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS

SHOT = 10
"""What the paper's systems read of a measured shot: three features of its configuration, six metrics, and the label."""
TRAJECTORIES = 32
LENGTHS, QUICK_LENGTHS = (10, 30, 100, 300), (10, 30)
"""Steps of one trajectory; the paper forgets them after 300."""
SECONDS = 0.25
RIVAL, SHIPPED = "gru", "set, as it ships"
READ = {
    f"{BATCH} x {SHOTS} shots": (BATCH, SHOTS, SHOT),
    f"{TRAJECTORIES} x {EPISODE_STEPS} steps": (TRAJECTORIES, EPISODE_STEPS, TOKEN),
}
"""What is read: its words and its shape."""


def drawn(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)), torch.ones(*shape[:2], dtype=torch.bool)


def encoder(config: MetaLearnerConfig, width: int) -> MetaLearner:
    torch.manual_seed(0)
    return MetaLearner(width, config)


def forward(network: MetaLearner, read: Tensor, seen: Tensor) -> None:
    with torch.inference_mode():
        network(read, seen)


def forward_and_backward(network: MetaLearner, read: Tensor, seen: Tensor) -> None:
    network.zero_grad(set_to_none=True)
    network(read, seen).mean().backward()


def main() -> None:
    how = asked(__doc__)
    torch.set_num_threads(1)
    configs = {kind: MetaLearnerConfig(kind=kind) for kind in get_args(Kind)} | {SHIPPED: SET}
    found = Found()
    for name, config in configs.items():
        weights = sum(part.numel() for part in encoder(config, TOKEN).parameters())
        found.add({name: [float(weights)] * how.rounds}, "weights", "parameters")
    for words, shape in READ.items():
        few = (max(2, shape[0] // 8), *shape[1:]) if how.quick else shape
        for what, call, training in (("forward", forward, False), ("forward and backward", forward_and_backward, True)):
            arms: dict[str, Callable[[], object]] = {
                name: partial(call, encoder(config, shape[-1]).train(training), *drawn(*few))
                for name, config in configs.items()
            }
            group = f"{what}, {words}"
            found.add(how.time(arms, SECONDS, least=2), "ms", group)
            for name in configs:
                if name not in (RIVAL, SHIPPED):
                    found.compare(name, RIVAL, group)
    lengths = QUICK_LENGTHS if how.quick else LENGTHS
    for name, config in configs.items():
        network = encoder(config, TOKEN).eval()
        times = how.time({str(n): partial(forward, network, *drawn(1, n, TOKEN)) for n in lengths}, SECONDS / 4)
        found.grows(f"time forward over steps of a trajectory, {name}", {n: times[str(n)] for n in lengths})
    found.tell(__file__, how, "weights as initialised, random numbers, one thread")


if __name__ == "__main__":
    main()
