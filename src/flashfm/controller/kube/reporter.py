"""Tells a cluster what becomes of its `FlashAutoscaler` objects: statuses and events, as many as say something.

Enters: steps and problems. Leaves: requests. What cannot be told is logged, and stops nothing.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

from flashfm.controller.kept import DONE, FAILED
from flashfm.controller.kube import status
from flashfm.controller.kube.api import AUTOSCALERS, EVENTS, Api, Object, Patch
from flashfm.controller.kube.faults import RefusedError
from flashfm.controller.loop import Stepped

log = logging.getLogger("flashfm.controller")

QUIET_S = 300.0
"""For which the same kind of trouble of an object is no new event."""
STATUS_S = 60.0
"""After which a status is written again though it says nothing new but figures."""
_FIGURES = re.compile(r"[0-9][0-9.,]*")


class About(NamedTuple):
    """Which object is told of."""

    namespace: str
    name: str
    uid: str
    generation: int

    @classmethod
    def of(cls, resource: Object) -> About:
        """Of an object of the API."""
        meta = resource["metadata"]
        return cls(
            str(meta.get("namespace", "")), str(meta["name"]), str(meta["uid"]), int(meta.get("generation") or 0)
        )


class Reporter:
    """Statuses and events of one operator.

    Args:
        api: of the cluster.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._written: dict[str, tuple[float, Object]] = {}
        self._told: dict[tuple[str, str], float] = {}

    def keep(self, uids: Collection[str]) -> None:
        """Forget all objects but these."""
        self._written = {uid: value for uid, value in self._written.items() if uid in uids}
        self._told = {key: value for key, value in self._told.items() if key[0] in uids}

    def refused(self, resource: Object, problems: list[str]) -> None:
        """An object is not accepted."""
        about, said = About.of(resource), status.refused(problems)
        conditions = status.conditions([said], self._conditions(resource), about.generation, time.time())
        self._write(about, {"observedGeneration": about.generation, "conditions": conditions})
        self.event(about, "NotAccepted", said.message, warning=True)

    def stepped(self, resource: Object, stepped: Stepped, p_value: float | None, trouble: str | None) -> None:
        """A step is over.

        Args:
            resource: that wants it.
            stepped: the step.
            p_value: share of the pairs of pretraining that lie farther out.
            trouble: why pods could not be brought to what is set; None where they could.
        """
        about, decision, now_s = About.of(resource), stepped.decision, time.time()
        said = [status.ACCEPTED, *status.of_step(decision, stepped.status, stepped.detail, trouble)]
        conditions = status.conditions(said, self._conditions(resource), about.generation, now_s)
        self._write(about, status.status(decision, p_value, conditions, about.generation, now_s))
        if decision.turned is not None:
            self.event(about, "PhaseChanged", f"{decision.phase.value}: {decision.turned}")
        if stepped.status == DONE:
            self.event(about, "Applied", "; ".join([decision.why, decision.effect, *decision.clipped]))
        failed = stepped.detail if stepped.status == FAILED else trouble
        if failed:
            self.event(about, "Failed", failed, warning=True)
        if decision.by == "nobody":
            self.event(about, "NotObserved", decision.why, warning=True)

    def event(self, about: About, reason: str, message: str, *, warning: bool = False) -> None:
        """Make an event; trouble that lasts is told once in `QUIET_S`.

        Args:
            about: which object.
            reason: one word in CamelCase.
            message: what happened.
            warning: whether it is trouble.
        """
        now_s = time.monotonic()
        if warning and now_s - self._told.get((about.uid, reason), -QUIET_S) < QUIET_S:
            return
        self._told[about.uid, reason] = now_s
        of = {"namespace": about.namespace, "name": about.name, "uid": about.uid}
        body = status.event(of, reason, message, time.time(), secrets.token_hex(8), warning=warning)
        try:
            self._api.create(EVENTS, about.namespace, body)
        except RefusedError as error:
            log.warning("%s/%s: no event is made: %s", about.namespace, about.name, error)

    def _conditions(self, resource: Object) -> list[Mapping[str, object]]:
        """Those that an object has: what was written last may not have come back yet."""
        _, last = self._written.get(str(resource["metadata"]["uid"]), (0.0, resource.get("status") or {}))
        return list(last.get("conditions") or [])

    def _write(self, about: About, wanted: Object) -> None:
        """Write a status that says something new, or whose figures are old."""
        now_s = time.monotonic()
        at_s, last = self._written.get(about.uid, (-STATUS_S, {}))
        if now_s - at_s < STATUS_S and _gist(last) == _gist(wanted):
            return
        try:
            self._api.patch(AUTOSCALERS, about.namespace, about.name, {"status": wanted}, Patch.MERGE, "status")
            self._written[about.uid] = now_s, wanted
        except RefusedError as error:
            if error.status != 404:  # it was deleted just now
                log.warning("%s/%s: its status is not written: %s", about.namespace, about.name, error)


def _gist(of: Object) -> str:
    """What a status says, but for times, limits, and figures in its texts: those change a little in every step."""
    exact = [of.get(name) for name in ("observedGeneration", "phase", "decidedBy")]
    exact.append((of.get("recommendation") or {}).get("replicas"))
    texts = [str(of.get("lastReason"))]
    for one in of.get("conditions", []):
        texts += [one["type"], one["status"], one["reason"], one["message"]]
    return f"{exact} {_FIGURES.sub('#', ' '.join(texts))}"
