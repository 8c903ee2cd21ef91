"""What the Kubernetes backend knows of each deployment beside its `Target`: where it is, and how far it may go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from flashfm.controller.keeper import Target
from flashfm.controller.sample import Sample


class Mode(StrEnum):
    """What is done with decisions; the values are those of the custom resource."""

    SHADOW = "Shadow"
    """Nothing but recording them."""
    ACT = "Act"
    """Replicas, limits and requests are set."""
    RECOMMEND = "Recommend"
    """Limits are recommended in the status of a VerticalPodAutoscaler, and nothing else is touched."""


@runtime_checkable
class Source(Protocol):
    """Where rates, latency and use come from, such as `flashfm.controller.prometheus.PrometheusSource`."""

    def sample(self, labels: Mapping[str, str], now_s: float) -> Sample:
        """What it shows of one deployment; what the API server knows is taken from there.

        Args:
            labels: `namespace`, `name` and `container` of the Deployment.
            now_s: Unix time.

        Raises:
            BackendError: it cannot be asked.
        """


@runtime_checkable
class ManySource(Source, Protocol):
    """A source that can be asked for many deployments at a time."""

    def samples(self, of: Mapping[str, Mapping[str, str]], now_s: float) -> tuple[dict[str, Sample], dict[str, str]]:
        """What it shows of deployments.

        Args:
            of: labels as in `sample`, by a name of the caller's.
            now_s: Unix time.

        Returns:
            The samples of those that could be read, and what is wrong with the others, by name.
        """


@dataclass(frozen=True)
class Managed:
    """A Deployment under control."""

    target: Target
    namespace: str
    deployment: str
    container: str
    """Whose limits are set; side-cars are left alone."""
    mode: Mode
    source: Source
    vpa: str = ""
    """Name of the VerticalPodAutoscaler that recommendations go to."""

    @property
    def labels(self) -> dict[str, str]:
        """What its source is asked for."""
        return {"namespace": self.namespace, "name": self.deployment, "container": self.container}

    @property
    def words(self) -> str:
        """Its name in messages."""
        return f"{self.namespace}/{self.deployment}"
