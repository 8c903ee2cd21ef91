"""What the dynamics know of <application, environment> pairs: plain arrays, one entry an environment.

Nothing is drawn or computed here; `pairs.py` draws pairs and `calibration.py` reads applications out of measurements.
Agents never see these values; only the privileged arm of an experiment does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

STEP_S = 30.0
"""Length of one control step in seconds."""
LONGEST_START = 20
"""Most steps that a replica takes to start."""


@dataclass(frozen=True, eq=False)
class Params:
    """Parameters of a batch of pairs; every field is an array of shape [env], NumPy's or torch's, of one float type."""

    cpu_s: Any
    """CPU seconds of one request on a node of speed 1; above 0."""
    wait_s: Any
    """What one request waits beside that: sleep, network, disk; at least 0."""
    tail: Any
    """p99 over p50 of the latency of an unloaded replica; at least 1."""
    workers: Any
    """Processes of a replica, and so the cores that it can use; at least 1."""
    concurrency: Any
    """Requests that a replica works on at a time; at least 1."""
    memory_base_mib: Any
    """Resident memory of an idle replica, all workers together."""
    memory_request_mib: Any
    """Resident memory that each request in flight adds."""
    memory_noise: Any
    """Standard deviation of the peak of memory over its mean, as a share."""
    start_steps: Any
    """Steps from the order of a replica to its first request; 1 to `LONGEST_START`, whole."""
    restarts: Any
    """1 where new limits need a new container, rolled out over the replicas; 0 where they are changed in place."""
    slo_s: Any
    """Objective for the p99 of latency; above 0."""
    timeout_s: Any
    """Age at which a waiting request is given up."""
    nodes: Any
    """Nodes that replicas may be placed on; whole."""
    node_cores: Any
    """Cores of a node that replicas may have."""
    node_memory_mib: Any
    """Memory of a node that replicas may have."""
    node_speed: Any
    """Speed of a core against that on which the application was measured."""
    neighbours: Any
    """Share of its speed that a node loses when its neighbours are busiest; in [0, 1)."""

    def __len__(self) -> int:
        return int(self.cpu_s.shape[0])

    def map(self, change: Callable[[Any], Any]) -> Params:
        """The same parameters with every array changed: another type, device or order."""
        return replace(self, **{field.name: change(getattr(self, field.name)) for field in fields(self)})
