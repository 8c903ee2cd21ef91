"""The operator of a Kubernetes cluster: `FlashAutoscaler` objects in, controlled Deployments, statuses and events out.

Enters: a cluster, the agent, a store and what the operator allows. Leaves: the loop of `loop`, run over whatever
objects there are. It is level-triggered: each period looks at what is wanted then, and nothing depends on having seen
a change. An object that goes away is let go: its Deployment keeps what it has.

Why no framework: kopf would run a handler for each change of each object and keep its progress in their annotations
and finalizers, for which it wants to patch them and to read CRDs and namespaces. The loop needs the set of objects and
nothing of each change: a watch gives it (`kube.reader`), with fewer rights and one client.

One replica, as the store is one file: a second one would control the same Deployments.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from flashfm.adapt.agent import FlashAgent
from flashfm.artifact import checkpoint, registry
from flashfm.controller.keeper import KeeperConfig, Target
from flashfm.controller.kube.api import AUTOSCALERS, Api, Object
from flashfm.controller.kube.backend import KubernetesBackend
from flashfm.controller.kube.managed import Managed, Source
from flashfm.controller.kube.pages import Pages
from flashfm.controller.kube.policy import Policy
from flashfm.controller.kube.reader import Cluster, Watched
from flashfm.controller.kube.reporter import About, Reporter
from flashfm.controller.kube.resource import Metrics, Wanted, read
from flashfm.controller.kube.telemetry import Telemetry
from flashfm.controller.lifecycle import Phase
from flashfm.controller.loop import Loop, Stepped
from flashfm.controller.store import Store
from flashfm.errors import ArtifactError, BackendError, ControlError
from flashfm.tasks.autoscaling.parameters import STEP_S

log = logging.getLogger("flashfm.controller")

SYNC_S = 10.0
"""For which the first look at the cluster is waited for before the first period."""
DEAD_S = 60.0
"""Beyond three periods, after which a loop that has not moved is dead."""


@dataclass(frozen=True)
class OperatorConfig:
    """What one operator manages.

    Raises:
        ControlError: one of them is out of its range.
    """

    namespaces: tuple[str, ...] = ()
    """Whose objects are looked at; all if empty."""
    policy: Policy = field(default_factory=Policy)
    """What objects may ask for; its `digest` is that which the agent must have, "" for whichever it has."""
    state: Path = Path("flashfm.db")
    """File of the store."""
    period_s: float = STEP_S
    """Length of a control step, in [1, 3600]; the agent was pretrained on steps of 30 s."""
    address: str = "127.0.0.1"
    """That pages are served on; that of the pod in a cluster."""
    port: int = 8080
    """0 for any that is free."""

    def __post_init__(self) -> None:
        if not 1.0 <= self.period_s <= 3600.0:
            raise ControlError(f"operator: a period of {self.period_s:g} s; expected 1 to 3600")


class Operator:
    """Controls what `FlashAutoscaler` objects ask for.

    Args:
        api: of the cluster.
        agent: the pretrained agent.
        store: what is kept.
        config: what is managed and allowed.
        keeper: how deployments are controlled.
        sources: makes the source of an object's figures; None for that of the policy.
    """

    def __init__(
        self,
        api: Api,
        agent: FlashAgent,
        store: Store,
        config: OperatorConfig | None = None,
        *,
        keeper: KeeperConfig | None = None,
        sources: Callable[[Metrics], Source] | None = None,
    ) -> None:
        self.config = config or OperatorConfig()
        self.managed: dict[str, Managed] = {}
        """What is controlled, by the name of its target."""
        self.watched = Watched(api, AUTOSCALERS, self.config.namespaces)
        self.cluster = Cluster(api, self.config.namespaces)
        self.backend = KubernetesBackend(api, self.managed, reader=self.cluster, confident=self._serves)
        self.loop = Loop(self.backend, agent, store, keeper)
        self.telemetry, self.reporter = Telemetry(), Reporter(api)
        self._make_source = sources or self.config.policy.source
        self._sources: dict[Metrics, Source] = {}
        self._resources: dict[str, Object] = {}
        self._known: dict[str, tuple[object, Wanted | list[str]]] = {}
        self._beat_s = time.monotonic()

    def run(self, stop: threading.Event) -> None:
        """Control until told to stop.

        Raises:
            ControlError: pages cannot be served, or what was decided cannot be kept.
        """
        of = self.config
        with (
            Pages(of.address, of.port, alive=self.alive, ready=self.ready, registry=self.telemetry.registry) as pages,
            self.watching(),
        ):
            where = ", ".join(of.namespaces) or "all namespaces"
            log.info("controlling %s; pages are on %s:%d", where, of.address, pages.port)
            self.loop.run(self.targets, period_s=of.period_s, stop=stop, on_step=self.on_step)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the cluster; begins once it is known, or after `SYNC_S`."""
        for one in (self.watched, self.cluster):
            one.start()
        try:
            end_s = time.monotonic() + SYNC_S
            while self.ready() is not None and time.monotonic() < end_s:
                time.sleep(0.02)
            yield
        finally:
            for one in (self.watched, self.cluster):
                one.stop()
            self._close(set(self._sources))

    def alive(self) -> str | None:
        """Why the process should be started anew; None where the loop moves."""
        age_s = time.monotonic() - self._beat_s
        return f"the loop has not moved for {age_s:.0f} s" if age_s > 3 * self.config.period_s + DEAD_S else None

    def ready(self) -> str | None:
        """Why the cluster is not known just now; None where it is."""
        return self.watched.trouble() or self.cluster.trouble()

    def targets(self) -> list[Target]:
        """What is to be controlled now; objects that are not accepted are told why."""
        self._beat_s = time.monotonic()
        there = sorted(self.watched.all(), key=_age)
        wanted: dict[str, Wanted] = {}
        resources: dict[str, Object] = {}
        for one in there:
            found = self._accepted(one, wanted)
            if isinstance(found, Wanted):
                wanted[found.target.name], resources[found.target.name] = found, one
            else:
                self.reporter.refused(one, found)
        self._let_go(self.managed.keys() - wanted.keys(), {of.metrics for of in wanted.values()})
        self._resources = resources
        self.managed.clear()
        self.managed.update({name: self._manage(of) for name, of in wanted.items()})
        uids = {About.of(one).uid for one in there}
        self.reporter.keep(uids)
        self._known = {uid: known for uid, known in self._known.items() if uid in uids}
        self.telemetry.objects(len(there), len(wanted))
        targets = [of.target for of in self.managed.values()]
        self.backend.prepare(targets)
        return targets

    def on_step(self, stepped: Stepped) -> None:
        """Bring pods to what is set, and tell of the step in metrics, status and events."""
        self._beat_s = time.monotonic()
        target, resource = self.managed[stepped.target].target, self._resources[stepped.target]
        trouble = None
        if stepped.decision.phase is not Phase.SHADOW:
            try:
                done = self.backend.settle(target)
                if done is not None:
                    log.info("%s: %s", target.name, done)
                    self.reporter.event(About.of(resource), "Settled", done)
            except BackendError as error:
                trouble = str(error)
                log.warning("%s: %s", target.name, trouble)
        p_value = self.loop.keeper(target).p_value
        self.telemetry.step(target.name, stepped, p_value, trouble)
        self.reporter.stepped(resource, stepped, p_value, trouble)

    def _accepted(self, resource: Object, before: dict[str, Wanted]) -> Wanted | list[str]:
        """What an object asks for, or why it does not get it."""
        found = self._read(resource)
        if not isinstance(found, Wanted):
            return found
        problems = self.config.policy.refusals(found)
        first = before.get(found.target.name)
        if first is not None:
            problems.append(f"spec.targetRef: {first.name!r} has this Deployment already; delete one of the two")
        if problems:
            return problems
        try:
            if found.metrics not in self._sources:
                self._sources[found.metrics] = self._make_source(found.metrics)
        except ControlError as error:
            return [f"spec.metrics: {error}"]
        return found

    def _read(self, resource: Object) -> Wanted | list[str]:
        """What an object says; read once for each of its specifications, as statuses change and those do not."""
        meta = resource["metadata"]
        uid, version = str(meta["uid"]), (meta.get("generation"), resource.get("spec"))
        known = self._known.get(uid)
        if known is None or known[0] != version:
            known = self._known[uid] = version, read(resource)
        return known[1]

    def _manage(self, of: Wanted) -> Managed:
        source = self._sources[of.metrics]
        return Managed(of.target, of.namespace, of.deployment, of.container, of.mode, source, of.vpa)

    def _let_go(self, targets: set[str], used: set[Metrics]) -> None:
        """Forget targets that are controlled no more, and close sources that nobody uses."""
        for name in targets:
            log.info("%s: is controlled no more; it keeps what it has", name)
            self.telemetry.forget(name)
        self._close(self._sources.keys() - used)

    def _close(self, unused: set[Metrics]) -> None:
        for metrics in unused:
            source = self._sources.pop(metrics)
            if (close := getattr(source, "close", None)) is not None:
                close()

    def _serves(self, target: Target) -> bool:
        return self.loop.keeper(target).life.phase is Phase.SERVING


def run_operator(
    config: OperatorConfig,
    *,
    kubeconfig: Path | None = None,
    context: str | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Control a cluster until told to stop; by SIGTERM too, where this is the main thread.

    Args:
        config: what is managed and allowed.
        kubeconfig: None for the cluster that this process runs in, else the usual one.
        context: of the kubeconfig.
        stop: ends it after the deployment in hand.

    Raises:
        ArtifactError: the agent cannot be loaded, or has another digest.
        ControlError: the cluster cannot be connected to, or what was decided cannot be kept.
    """
    from flashfm.models.threads import one_thread

    stop, policy = stop or threading.Event(), config.policy
    digest = digest_of(policy.model)
    if policy.digest not in ("", digest):
        raise ArtifactError(f"model {policy.model}: its tensors have the digest {digest}, expected {policy.digest}")
    agent = FlashAgent.from_pretrained(policy.model)
    config = replace(config, policy=replace(policy, digest=digest))
    api = Api.connect(kubeconfig, context)
    with contextlib.closing(api), contextlib.closing(Store(config.state)) as store, _until(stop), one_thread():
        if store.set_aside is not None:
            log.warning("%s was damaged, and is set aside as %s", config.state, store.set_aside)
        Operator(api, agent, store, config).run(stop)


def digest_of(model: str) -> str:
    """SHA-256 of a model's tensors, as `sha256:…`.

    Args:
        model: name or folder.

    Raises:
        ArtifactError: no such model.
    """
    path = registry.resolve(model) / checkpoint.TENSORS
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror or error}; give a model's folder") from None


@contextlib.contextmanager
def _until(stop: threading.Event) -> Iterator[None]:
    """Stop on SIGTERM, as Kubernetes asks for it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _age(resource: Object) -> tuple[str, str, str]:
    """The oldest first, and always the same way."""
    meta = resource["metadata"]
    return str(meta.get("creationTimestamp")), str(meta.get("namespace")), str(meta["name"])
