"""The interface of a segment: the smallest piece of an application that does real work.

A deployment is provisioned once (tables, buckets, files outside the function), then any number of instances are
prepared (libraries, clients, inputs) and run, then the deployment is removed.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

Params = Mapping[str, int | float | str]
"""Sizes of one segment, drawn at generation time; JSON-able."""


@dataclass
class Context:
    """Where an application instance lives."""

    workdir: Path
    """Directory of the deployment, shared by its instances; exists."""
    namespace: str
    """Prefix for names of external resources; lower case, digits and hyphens, at most 40 characters."""
    seed: int
    """Seed of the segment's random inputs, in [0, 2**63)."""
    endpoint_url: str | None = None
    """S3 and DynamoDB endpoint; None is what boto3 takes from its own configuration (AWS itself)."""
    clients: dict[str, Any] = field(default_factory=dict)
    """boto3 clients by service name, shared by the segments of one instance."""

    def rng(self) -> random.Random:
        """A fresh generator for inputs: the same one each time it is asked for."""
        return random.Random(self.seed)


class Segment(ABC):
    """One piece of real work. Subclasses state their sizes, inputs and services; the module docstring has the order."""

    kind: ClassVar[str]
    """Name in specs, lower case with hyphens."""
    short: ClassVar[str]
    """Short form for application names, at most 9 letters or digits."""
    bound: ClassVar[str]
    """What the segment mostly waits for: "cpu", "disk", "network" or "time"."""
    requires: ClassVar[tuple[str, ...]] = ()
    """PyPI distributions that `prepare` and `provision` import."""
    services: ClassVar[tuple[str, ...]] = ()
    """AWS services called through boto3: "s3", "dynamodb"."""

    def __init__(self, params: Params, context: Context) -> None:
        self.params = dict(params)
        self.context = context

    @classmethod
    @abstractmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:
        """Draw sizes from `rng.random()` alone, the one method whose stream Python keeps across versions."""

    @classmethod
    def example(cls) -> dict[str, int | float | str]:
        """Sizes of the right names and types, for validation."""
        return cls.draw(random.Random(0))

    @classmethod
    def patched(cls, params: Params) -> dict[str, int | float | str] | None:
        """Sizes after the paper's update scenario (appendix A.4) for this kind of work; None where none names it."""
        del params
        return None

    def provision(self) -> None:  # noqa: B027  most segments have nothing outside
        """Create what lives outside the function: tables, buckets, files. Called once a deployment."""

    def prepare(self) -> None:  # noqa: B027  as above
        """Import libraries, make clients and inputs for this instance. Called once before the first `run`."""

    @abstractmethod
    def run(self) -> int:
        """Do the work once; returns a checksum or size of the result, so that nothing can be skipped."""

    def remove(self) -> None:  # noqa: B027  as above
        """Delete what `provision` made. Safe to call twice, and after a `provision` that failed half-way."""


def pick(rng: random.Random, choices: tuple[int, ...]) -> int:
    """One of `choices`, each equally likely."""
    return choices[int(rng.random() * len(choices))]


def log_uniform(rng: random.Random, low: float, high: float) -> float:
    """A value in [low, high], uniform on a logarithmic scale."""
    return float(low * (high / low) ** rng.random())


def log_uniform_int(rng: random.Random, low: int, high: int) -> int:
    """A whole number in [low, high], uniform on a logarithmic scale, rounded."""
    return max(low, min(high, round(log_uniform(rng, float(low), float(high)))))
