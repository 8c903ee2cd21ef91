"""Who else scales a Deployment: two controllers that set the same thing undo each other's work for ever."""

from __future__ import annotations

import time
from typing import Any

from flashfm.controller.kube.api import HPAS, VPAS, Api, Kind, Object
from flashfm.controller.kube.faults import RefusedError
from flashfm.controller.kube.managed import Managed
from flashfm.controller.web import one_line
from flashfm.errors import BackendError

BELIEVED_S = 60.0
"""For which the rivals of a namespace are believed."""


class Rivals:
    """HorizontalPodAutoscalers, and VerticalPodAutoscalers that change pods. KEDA's are among the former.

    Args:
        api: of the cluster.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[str, tuple[float, dict[str, str]]] = {}

    def refuse(self, of: Managed) -> None:
        """Raise where another one scales the Deployment.

        Raises:
            BackendError: there is one, or it cannot be found out.
        """
        asked_s, found = self._known.get(of.namespace, (-BELIEVED_S, {}))
        if time.monotonic() - asked_s > BELIEVED_S or of.deployment in found:
            found = self._ask(of.namespace)
            self._known[of.namespace] = time.monotonic(), found
        rival = found.get(of.deployment)
        if rival is not None:
            raise BackendError(f"{of.words}: {rival} scales it too; delete that one, or give mode: Shadow")

    def _ask(self, namespace: str) -> dict[str, str]:
        """Rivals by the name of their Deployment."""
        hpas = self._scaled(HPAS, namespace, "scaleTargetRef")
        vpas = [(name, of) for name, of in self._scaled(VPAS, namespace, "targetRef") if _changes_pods(of)]
        return {
            _target(one, ref): f"{title} {one_line(str(one['metadata']['name']))!r}"
            for title, ref, there in (
                ("the HorizontalPodAutoscaler", "scaleTargetRef", hpas),
                ("the VerticalPodAutoscaler", "targetRef", vpas),
            )
            for _, one in there
        }

    def _scaled(self, kind: Kind, namespace: str, ref: str) -> list[tuple[str, Object]]:
        try:
            there, _ = self._api.list(kind, namespace)
        except RefusedError as error:
            if error.status == 404:  # this cluster has no such kind
                return []
            raise
        return [(name, one) for one in there if (name := _target(one, ref))]


def _target(one: Object, ref: str) -> str:
    found: dict[str, Any] = (one.get("spec") or {}).get(ref) or {}
    return str(found.get("name", "")) if found.get("kind") == "Deployment" else ""


def _changes_pods(vpa: Object) -> bool:
    return ((vpa["spec"].get("updatePolicy") or {}).get("updateMode") or "Recreate") != "Off"
