"""What an operator lets resources ask for: a resource may be anybody's who may write one in a namespace.

Enters: what resources want. Leaves: why they do not get it, or the source of their figures.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flashfm.controller.kube.managed import Source
from flashfm.controller.kube.resource import Metrics, Wanted
from flashfm.controller.prometheus import Access, PrometheusSource
from flashfm.controller.queries import SOURCES
from flashfm.errors import ControlError


@dataclass(frozen=True)
class Policy:
    """What is there, and what is allowed."""

    model: str = "autoscaling"
    """Name or folder of the agent that is loaded."""
    digest: str = ""
    """SHA-256 of its tensors, as `sha256:…`."""
    prometheus: str | None = None
    """URL of the server that is asked where a resource names none; the token goes to this one alone."""
    urls: tuple[str, ...] = ()
    """Others that resources may name: else whoever writes one could let the operator ask any server that it reaches."""
    queries: bool = False
    """Whether resources may bring queries, which see what the operator may see, also of other namespaces."""
    access: Access = field(default_factory=Access)
    """How Prometheus lets the operator in."""

    def refusals(self, of: Wanted) -> list[str]:
        """Why a resource does not get what it wants, one line each."""
        found = []
        if of.model is not None and of.model != self.model:
            found.append(f"spec.model.name: {of.model!r} is not loaded; this operator has {self.model!r}")
        if of.digest is not None and of.digest != self.digest:
            found.append(f"spec.model.digest: {of.digest} is not loaded; this operator has {self.digest}")
        if of.metrics.url not in (None, self.prometheus, *self.urls):
            found.append("spec.metrics.url: not one that this operator allows; see its --metrics-url")
        if of.metrics.queries and not self.queries:
            found.append("spec.metrics.queries: this operator allows none; see its --allow-queries")
        return found

    def source(self, of: Metrics) -> Source:
        """Prometheus, as a resource wants it that is not refused.

        Raises:
            ControlError: there is no server, no such source, or a query that is none.
        """
        url = of.url or self.prometheus
        if url is None:
            raise ControlError("this operator has no server of its own; give spec.metrics.url")
        if of.source not in SOURCES:
            raise ControlError(f"no source {of.source!r}; there are {', '.join(SOURCES)}")
        access = self.access if url == self.prometheus else None
        return PrometheusSource(url, SOURCES[of.source].replaced(dict(of.queries)), access=access)
