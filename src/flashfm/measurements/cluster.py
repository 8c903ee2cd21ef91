"""A campaign on many machines: each measures a share of the applications under its own limits.

Enters: a campaign, its journal, and an engine with whole machines. Leaves: samples in the journal, with the node that
each application was measured on. The node is part of the environment, so the table calls the platform `PLATFORM@NODE`,
and an application is measured wholly on one node, since its measurements are of one pair.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from flashfm.applications.spec import ApplicationSpec
from flashfm.engine.base import Engine, Told
from flashfm.engine.node import node
from flashfm.errors import FlashError
from flashfm.measurements.campaign import Campaign, Recorded, Runner, run
from flashfm.measurements.harness import Sample
from flashfm.measurements.journal import Journal, Samples
from flashfm.measurements.limits import Backend, detect
from flashfm.records import ResourceConfig

SHARE_S = 600.0
"""A node hands in what it has after about so long, in seconds; so much of its work is lost with it at most."""
FEW = 4
"""Applications in a share, at least, so that there is something to measure side by side."""

Share = tuple[ApplicationSpec, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What all nodes are told."""

    campaign: Campaign
    """What to measure; its applications are shared out."""
    pack: float | None = None
    """As in `Runner`; None for what a node's own cores allow."""
    core: int | None = None
    """As in `Runner`."""
    backend: Backend | None = None
    """How limits are set; None for the first way that works on a node."""
    share_s: float = SHARE_S
    """Seconds after which a node begins no further application of its share."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a node made of its share."""

    node: str
    """Its name."""
    apps: Mapping[str, Mapping[tuple[ResourceConfig, int], Sample]] = field(default_factory=dict)
    """Application -> its samples, by configuration and pass; those that were begun, each complete."""


class Spread(Recorded):
    """One campaign on the machines of an engine; see `Recorded` too.

    Args:
        plan: what nodes are told.
        journal: where samples go, and where those of an earlier run are found.
        engine: each of its items has a machine to itself.
    """

    def __init__(self, plan: Plan, journal: Journal, engine: Engine) -> None:
        super().__init__(plan.campaign, journal)
        self._plan, self._file, self._engine = plan, journal, engine
        self._todo: deque[ApplicationSpec] = deque()
        self._shares = 0

    def run(self) -> None:
        """Measure what the journal does not hold yet; an application of which it holds a part is measured anew.

        Raises:
            FlashError: a node cannot measure, which its line names, or the journal cannot be written.
            EngineError: an application ends its worker again and again, or the cluster is gone.
        """
        self._todo.extend(app for app in self._campaign.apps if self._missing(app))
        work = partial(measure_share, replace(self._plan, campaign=replace(self._campaign, apps=())))
        while self._todo:
            handed_out: dict[str, Share] = {}
            for name, measured in self._engine.run(work, self._share_out(handed_out)):
                for app in handed_out.pop(name):
                    if app.name in measured.apps:
                        self._record(app.name, measured)
                    else:
                        self._todo.append(app)

    def _share_out(self, handed_out: dict[str, Share]) -> Iterator[tuple[str, Share]]:
        """Shares by name, while there are any; ever smaller ones, so that nodes end at about the same time."""
        while self._todo:
            each = len(self._todo) // self._engine.workers
            size = 1 if self._campaign.load is not None else max(FEW, each)  # an open load is measured alone, for long
            self._shares += 1
            name = f"share {self._shares}"
            handed_out[name] = tuple(self._todo.popleft() for _ in range(min(size, len(self._todo))))
            yield name, handed_out[name]

    def _record(self, app: str, measured: Measured) -> None:
        samples = measured.apps[app]
        self._file.add_application(app, measured.node, samples)
        for sample in samples.values():
            self.on_visit(app, sample)


def measure_share(plan: Plan, apps: Share, _: Told) -> Measured:
    """The work of an engine: measure applications on this machine, under the limits that it can set.

    Args:
        plan: what all nodes are told.
        apps: what this one measures, as far as its time goes; as many as it measures at once are begun at least.

    Raises:
        FlashError: this machine cannot measure; the line names it.
    """
    where, samples = node(), Samples()
    campaign = replace(plan.campaign, apps=apps)
    try:
        backend = plan.backend or detect()
        run(Runner(campaign, samples, backend, pack=plan.pack, core=plan.core, within_s=plan.share_s))
    except FlashError as error:
        raise type(error)(f"node {where}: {error}") from None
    by_app: dict[str, dict[tuple[ResourceConfig, int], Sample]] = {}
    for (app, config, number), sample in samples.samples.items():
        by_app.setdefault(app, {})[config, number] = sample
    return Measured(where, by_app)
