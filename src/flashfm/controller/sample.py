"""What a backend tells of a deployment after a control step, and whether that can be acted on.

Enters: numbers from monitoring, which may be missing, stale, frozen or nonsense. Leaves: the same numbers, checked, or
one phrase that says what is wrong. Nothing is repaired: a controller that cannot see holds still.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from flashfm.act.guardrails import Setting
from flashfm.errors import ModelError
from flashfm.tasks.autoscaling.dynamics import CPU_CORES, MEMORY_MIB


@dataclass(frozen=True)
class Sample:
    """One control step of one deployment; None where monitoring does not say."""

    time_s: float | None
    """Unix time up to which the others are meant."""
    replicas: int | None
    """That serve or start."""
    ready: int | None
    """That serve."""
    cpu_cores: float | None
    """CPU limit of a replica that would start now."""
    memory_mib: float | None
    """Memory limit of a replica that would start now, in MiB."""
    used_cores: float | None
    """Cores in use by all replicas together, mean over the step."""
    used_mib: float | None
    """Resident memory of one ready replica in MiB, mean over replicas."""
    arrived_per_s: float | None
    """Requests that came in, mean over the step."""
    served_per_s: float | None
    """Requests that were answered in time, mean over the step."""
    p99_s: float | None
    """99th percentile of latency in seconds; None too where nothing was served."""
    killed: int | None
    """Replicas that ran out of memory in the step."""
    image: str = ""
    """What runs, such as the digest of an image; "" where nobody says."""

    def setting(self) -> Setting:
        """What is in force, of a sample that was checked."""
        assert self.cpu_cores is not None
        assert self.memory_mib is not None
        assert self.replicas is not None
        return Setting(self.cpu_cores, self.memory_mib, self.replicas)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; what is not finite becomes None."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in vars(self).items()}

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Sample:
        """Inverse of `to_dict`."""
        return cls(**{of.name: kept[of.name] for of in fields(cls)})


@dataclass(frozen=True)
class SampleConfig:
    """What is taken for true.

    Raises:
        ModelError: one of them is out of its range.
    """

    oldest_s: float = 90.0
    """Age from which a sample is stale; above 0."""
    ahead_s: float = 5.0
    """How far a sample may lie in the future: clocks differ."""
    alike: int = 3
    """Samples in a row that may be the same in every figure while there is load; at least 2. Real ones never are."""
    slack: float = 0.5
    """Share by which figures may contradict each other: they come from different windows."""

    def __post_init__(self) -> None:
        if not self.oldest_s > 0 or self.alike < 2 or not self.ahead_s >= 0 or not self.slack >= 0:
            raise ModelError(f"samples: {self}; expected an age above 0, at least 2 alike, and no negative slack")


_NEEDED = tuple(of.name for of in fields(Sample) if of.name not in ("p99_s", "image"))
_MEASURED = ("used_cores", "used_mib", "arrived_per_s", "served_per_s", "p99_s")


def trouble(
    sample: Sample, before: list[Sample] | tuple[Sample, ...], now_s: float, config: SampleConfig | None = None
) -> str | None:
    """What keeps a sample from being acted on, in one phrase; None where nothing does.

    Args:
        sample: the newest.
        before: samples that were good, the newest last.
        now_s: Unix time.
        config: what is taken for true.
    """
    config = config or SampleConfig()
    missing = [name for name in _NEEDED if getattr(sample, name) is None]
    served = sample.served_per_s or 0.0
    if sample.p99_s is None and served > 0:
        missing.append("p99_s")
    if missing:
        return f"missing: {', '.join(missing)}"
    named = {of.name: getattr(sample, of.name) for of in fields(Sample) if of.name != "image"}
    numbers = {name: value for name, value in named.items() if value is not None}
    wrong = [name for name, value in numbers.items() if not (math.isfinite(value) and value >= 0)]
    if wrong:
        return f"no number of at least 0: {wrong[0]} is {numbers[wrong[0]]!r}"
    assert sample.time_s is not None
    return (
        _untimely(sample.time_s, before, now_s, config)
        or _contradiction(sample, config)
        or _frozen(sample, before, config)
    )


def _untimely(
    time_s: float, before: list[Sample] | tuple[Sample, ...], now_s: float, config: SampleConfig
) -> str | None:
    age_s = now_s - time_s
    if age_s > config.oldest_s:
        return f"stale: the newest figures are {age_s:.0f} s old, older than {config.oldest_s:.0f} s"
    if age_s < -config.ahead_s:
        return f"clocks differ: the newest figures are from {-age_s:.0f} s in the future"
    last_s = before[-1].time_s if before else None
    if last_s is not None and time_s <= last_s:
        return "stale: no newer figures than in the step before"
    return None


def _contradiction(sample: Sample, config: SampleConfig) -> str | None:
    """Figures that cannot all be true."""
    wide = 1 + config.slack
    assert sample.ready is not None
    assert sample.replicas is not None
    cpu, memory, count = sample.setting()
    if count < 1:
        return "no replica is there: somebody has stopped the deployment"
    if sample.ready > sample.replicas:
        return f"contradiction: {sample.ready} replicas are ready of {sample.replicas}"
    if not (CPU_CORES[0] / wide <= cpu <= CPU_CORES[1] * wide):
        most = f"{CPU_CORES[0]:g} to {CPU_CORES[1]:g}"
        return f"a CPU limit of {cpu:.4g} cores, outside {most}, is none that is handled here"
    if not (MEMORY_MIB[0] / wide <= memory <= MEMORY_MIB[1] * wide):
        most = f"{MEMORY_MIB[0]:g} to {MEMORY_MIB[1]:g}"
        return f"a memory limit of {memory:.4g} MiB, outside {most}, is none that is handled here"
    assert sample.used_cores is not None
    assert sample.used_mib is not None
    # limits may have been lowered just now: twice what they are is not believed
    if sample.used_cores > 2 * wide * count * CPU_CORES[1]:
        return f"contradiction: {sample.used_cores:.4g} cores are in use by {count} replicas"
    if sample.used_mib > wide * MEMORY_MIB[1]:
        return f"contradiction: a replica holds {sample.used_mib:.4g} MiB"
    return None


def _frozen(sample: Sample, before: list[Sample] | tuple[Sample, ...], config: SampleConfig) -> str | None:
    """Figures that repeat themselves to the last digit while requests come in."""
    if not sample.arrived_per_s or len(before) < config.alike - 1:
        return None
    last = before[-(config.alike - 1) :]
    same = all(getattr(one, name) == getattr(sample, name) for one in last for name in _MEASURED)
    return f"frozen: {config.alike} samples in a row are the same in every figure" if same else None
