"""What observations do not show of pairs: what an encoder is to find out, and what a privileged arm is told.

Enters: a scenario. Leaves: its parameters on scales on which differences count alike, and what follows from them for
who sets limits: how much a replica of some cores can do before the SLO is missed, and the memory of a busy one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float

from flashfm.tasks.autoscaling.loads import CLOCK_STEPS
from flashfm.tasks.autoscaling.parameters import Params
from flashfm.tasks.autoscaling.scenario import Scenario
from flashfm.tasks.autoscaling.serving import latency, replica_capacity_per_s

CORES = (0.1, 0.25, 0.5, 1.0, 2.0, 3.9)
"""CPU limits at which replicas are looked at."""
BUSY = np.linspace(0.02, 0.98, 25)
"""Shares of a replica's capacity that are tried."""
FARTHEST = 3.0
"""Standard deviations beyond which a value is no longer told apart."""
_PLAIN = {"memory_noise", "restarts", "neighbours"}
"""Parameters that are taken as they are; the others by their logarithm."""


@dataclass(frozen=True, eq=False)
class Hidden:
    """Scales on which hidden values are told."""

    mean: Float[np.ndarray, " value"]
    deviation: Float[np.ndarray, " value"]
    """0 where all pairs are alike; such values are left out."""

    @classmethod
    def like(cls, scenario: Scenario) -> Hidden:
        """The scales of these pairs, those of pretraining."""
        values = _values(scenario)
        return cls(values.mean(axis=0), values.std(axis=0))

    def of(self, scenario: Scenario) -> Float[np.ndarray, "pair value"]:
        """Standardised values of each pair, within `FARTHEST`."""
        live = self.deviation > 1e-6
        standardised = (_values(scenario) - self.mean)[:, live] / self.deviation[live]
        return np.asarray(np.clip(standardised, -FARTHEST, FARTHEST), np.float32)


def _values(scenario: Scenario) -> Float[np.ndarray, "pair value"]:
    p, load = scenario.params, scenario.loads
    columns = [getattr(p, f.name) if f.name in _PLAIN else np.log(getattr(p, f.name) + 1e-4) for f in fields(p)]
    phase = 2 * np.pi * load.job_phase / CLOCK_STEPS
    alone = p.tail * (p.cpu_s / p.node_speed + p.wait_s)
    columns += [np.log(p.slo_s / alone), np.log(scenario.capacity_per_s * p.cpu_s)]
    columns += [load.wave, load.noise_sd, load.noise_memory, np.log(load.burst_chance), load.burst_size]
    columns += [load.burst_decay, load.job_size, load.job_steps, np.sin(phase), np.cos(phase)]
    columns.append(np.log(load.mean_per_s * p.cpu_s))
    return np.stack([*columns, *_consequences(p)], axis=-1)


def _consequences(p: Params) -> list[Float[np.ndarray, " pair"]]:
    """What a replica can do at each of `CORES`, and the memory of one that works on all it may."""
    columns, speed = [], p.node_speed * (1 - 0.5 * p.neighbours)
    for cores in CORES:
        limit = np.full(len(p), cores)
        capacity = replica_capacity_per_s(p, limit, speed)
        kept = np.zeros(len(p))
        for share in BUSY:
            _, p99 = latency(p, limit, speed, share * capacity)
            kept = np.where(p99 <= p.slo_s, share, kept)
        of_cores = capacity * p.cpu_s / cores
        columns += [kept, np.log(of_cores + 1e-3), np.log(kept * of_cores / speed + 1e-2)]
    full = p.memory_base_mib + p.memory_request_mib * p.concurrency
    return [*columns, np.log(full), np.log(full / p.memory_base_mib), p.memory_request_mib / p.memory_base_mib]
