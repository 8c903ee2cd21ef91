"""Deployments of a Kubernetes cluster as a backend of the loop.

Enters: settings. Leaves: changed Deployments and pods, and samples. Objects are read afresh before anything is changed,
and what is in force already is not sent again.

How limits are set
    **In place first.** A pod is resized while it runs (`pods/resize`). The template of the Deployment stays as the team
    wrote it: a template that changes is a rollout, which replaces every pod, and whoever deploys from a repository
    would take it back. What is meant is noted in an annotation of the Deployment, and pods that start later, with the
    template's limits, get it one step after (`settle`). Where this controller goes away, what the team deployed counts.

    **A rolling patch** of the template where in place is impossible: the server is older than 1.33, it is 1.33 and
    memory shrinks, or a node cannot give the pod what is meant (`Infeasible`, or anything else for longer than
    `patience_s`), so that it must go to another node. Never while another rollout is under way, nor on a Deployment
    that is paused or of strategy `Recreate`, which stops before it starts. A rollout of ours that does not come through
    by the Deployment's own deadline is taken back, and as much is not asked for again for `again_s`.

    What adds goes first: replicas before limits where replicas grow, limits before replicas where they shrink.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flashfm.act.guardrails import Setting
from flashfm.controller.keeper import Target
from flashfm.controller.kube import amounts, plans
from flashfm.controller.kube.amounts import Amount
from flashfm.controller.kube.api import DEPLOYMENTS, PODS, Api, Object, Patch
from flashfm.controller.kube.faults import RefusedError
from flashfm.controller.kube.managed import Managed, ManySource, Mode
from flashfm.controller.kube.plans import Change, Unsettled, Work
from flashfm.controller.kube.reader import Direct, Reader
from flashfm.controller.kube.recommend import recommend
from flashfm.controller.kube.rivals import Rivals
from flashfm.controller.sample import Sample
from flashfm.errors import BackendError, ControlError

IN_PLACE = (1, 33)
"""First version whose pods are resized in place."""
SHRINKS = (1, 34)
"""First version that takes memory from a pod that runs."""
AT_ONCE = 32
"""Deployments that a source is asked for at a time."""
VERSION_S = 3600.0
"""For which the server's version is believed."""


@dataclass(frozen=True)
class KubernetesConfig:
    """How long things may take.

    Raises:
        ControlError: one of them is not above 0.
    """

    act_s: float = 20.0
    """Longest time for one action; the next step goes on where it ends."""
    patience_s: float = 300.0
    """For which a node may defer what is meant before the pod is replaced by one elsewhere. As long as VPA waits."""
    ask_s: float = 10.0
    """For all figures of a period; those that are not there by then are missing in it."""
    again_s: float = 3600.0
    """For which limits that no node had room for are not tried again."""

    def __post_init__(self) -> None:
        if not min(self.act_s, self.patience_s, self.ask_s, self.again_s) > 0:
            raise ControlError(f"kubernetes: {self}; expected times above 0")


class KubernetesBackend:
    """Deployments of one cluster.

    Args:
        api: its API server.
        managed: what is controlled, by the name of its target; it may change between steps.
        reader: what `observe` and `settle` read objects from; the API server itself if None.
        config: how long things may take.
        confident: whether the controller knows an application well; said in recommendations.
        clock: gives Unix time.
    """

    def __init__(
        self,
        api: Api,
        managed: Mapping[str, Managed],
        *,
        reader: Reader | None = None,
        config: KubernetesConfig | None = None,
        confident: Callable[[Target], bool] = lambda _: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.api, self.managed, self.config = api, managed, config or KubernetesConfig()
        self.reader = reader or Direct(api)
        self._confident, self._clock = confident, clock
        self._rivals = Rivals(api)
        self._measured: dict[str, Sample | BackendError] = {}
        self._killed: dict[str, frozenset[tuple[str, str]]] = {}
        self._waiting_s: dict[str, float] = {}
        self._no_room: dict[str, tuple[float, Amount]] = {}
        self._version: tuple[int, int] | None = None
        self._asked_s = 0.0

    def prepare(self, targets: Sequence[Target]) -> None:
        """Ask for the figures of all targets of a period, many at a time where their source can.

        What was asked is good for one `observe` of each; without this, each `observe` asks by itself.

        Args:
            targets: that are observed next.
        """
        until_s, groups = time.monotonic() + self.config.ask_s, dict[int, list[Managed]]()
        self._measured = {}
        for of in (self._of(target) for target in targets):
            if isinstance(of.source, ManySource):
                groups.setdefault(id(of.source), []).append(of)
        for together in groups.values():
            source = together[0].source
            assert isinstance(source, ManySource)
            for some in (together[i : i + AT_ONCE] for i in range(0, len(together), AT_ONCE)):
                if time.monotonic() > until_s:
                    late = BackendError(f"no time for its figures: those of others took {self.config.ask_s:g} s")
                    self._measured |= {of.target.name: late for of in some}
                    continue
                got, failed = source.samples({of.target.name: of.labels for of in some}, self._clock())
                self._measured |= got
                self._measured |= {name: BackendError(said) for name, said in failed.items()}

    def observe(self, target: Target) -> Sample:
        """What the API server and the target's source show.

        Raises:
            BackendError: one of them cannot be asked, or the container has no limits that could be changed.
        """
        of = self._of(target)
        deployment = self.reader.deployment(of.namespace, of.deployment)
        pods = amounts.living(self.reader.pods(deployment))
        cpu_cores, memory_mib = plans.in_force(of, deployment, pods)
        measured = self._measured.pop(target.name, None)
        if measured is None:
            measured = of.source.sample(of.labels, self._clock())
        if isinstance(measured, BackendError):
            raise measured
        killed = frozenset(amounts.kills(pods, of.container))
        before = self._killed.get(target.name, killed)
        self._killed[target.name] = killed
        return replace(
            measured,
            replicas=plans.replicas_of(deployment),
            ready=plans.count(deployment, "readyReplicas"),
            cpu_cores=cpu_cores,
            memory_mib=memory_mib,
            killed=len({uid for uid, _ in killed - before}),
            image=amounts.image(pods, of.container),
        )

    def act(self, target: Target, setting: Setting) -> None:
        """Set replicas and limits, or recommend them, as the target's mode says.

        Raises:
            BackendError: it was not done, or not wholly; the message tells what was.
        """
        of, until_s = self._of(target), time.monotonic() + self.config.act_s
        if of.mode is Mode.SHADOW:
            raise BackendError(f"{of.words}: its mode is Shadow: nothing is set; give mode: Act")
        deployment = self.api.get(DEPLOYMENTS, of.namespace, of.deployment)
        if of.mode is Mode.RECOMMEND:
            recommend(self.api, of, deployment, setting, confident=self._confident(target))
            return
        self._rivals.refuse(of)
        steps: list[tuple[str, Callable[[], object]]] = [
            ("replicas", lambda: self._change(of, lambda now: plans.scaled(of, now, setting.replicas))),
            ("limits", lambda: self._limit(of, setting, until_s)),
        ]
        if setting.replicas < plans.replicas_of(deployment):
            steps.reverse()
        done: list[str] = []
        for name, step in steps:
            try:
                step()
            except BackendError as error:
                raise BackendError(f"{error}" + "".join(f"; {one} are set" for one in done)) from None
            done.append(name)

    def settle(self, target: Target) -> str | None:
        """Bring pods to what was set: those that started since, and those that their node did not give it to.

        Call it once a step while somebody acts, after the loop's own step.

        Returns:
            What was done, in words; None where all is as it is meant.

        Raises:
            BackendError: it could not be done.
        """
        of = self._of(target)
        if of.mode is not Mode.ACT:
            return None
        work = self._unsettled(of, self.reader)
        if work is None or work.what is not Work.REPLACE:
            self._waiting_s.pop(target.name, None)
        elif "Infeasible" not in work.why:
            since_s = self._waiting_s.setdefault(target.name, time.monotonic())
            if time.monotonic() - since_s < self.config.patience_s:
                return None
        # afresh: what is watched may be older than what was set last
        work = None if work is None else self._unsettled(of, Direct(self.api))
        return None if work is None else self._carry_out(of, work)

    def _unsettled(self, of: Managed, reader: Reader) -> Unsettled | None:
        deployment = reader.deployment(of.namespace, of.deployment)
        return plans.unsettled(of, deployment, amounts.living(reader.pods(deployment)))

    def _carry_out(self, of: Managed, work: Unsettled) -> str | None:
        if work.what is Work.ROLL_BACK:
            self._no_room[of.target.name] = time.monotonic(), work.meant.amount
            self._change(of, lambda now: plans.rolled_back(of, now, work.pods))
            return "the template is as before again: the rollout of other limits has passed its deadline"
        if work.what is Work.NOTE:
            self._change(of, lambda now: plans.noted(of, now, replace(work.meant, before=None)))
            return None
        if not self._resizes():
            return None
        if work.what is Work.RESIZE:
            until_s = time.monotonic() + self.config.act_s
            done = self._resize(of, work.meant.amount, work.pods, until_s)
            return f"{done} pods that started since have got the limits that are meant" if done else None
        setting = Setting(work.meant.cpu_cores, work.meant.memory_mib, 1)
        self._change(of, lambda now: plans.rolled_out(of, now, setting, self._clock(), again=True))
        return f"a rolling patch: {len(work.pods)} pods cannot be resized where they are ({', '.join(work.why)})"

    def _of(self, target: Target) -> Managed:
        found = self.managed.get(target.name)
        if found is None:
            raise BackendError(f"no FlashAutoscaler manages {target.name!r:.80}; was it deleted just now?")
        return found

    def _resizes(self) -> bool:
        """Whether the server resizes in place; asked for anew every hour, since clusters are upgraded."""
        if self._version is None or time.monotonic() - self._asked_s > VERSION_S:
            self._version, self._asked_s = self.api.version(), time.monotonic()
        return self._version >= IN_PLACE

    def _change(self, of: Managed, wanted: Callable[[Object], Change | None]) -> None:
        """Change a Deployment as it is when the change arrives; `wanted` makes the change from the fresh object."""
        for left in reversed(range(self.api.config.tries)):
            now = self.api.get(DEPLOYMENTS, of.namespace, of.deployment)
            change = wanted(now)
            if change is None:
                return
            version = {"resourceVersion": now["metadata"]["resourceVersion"]}
            body = {**change.body, "metadata": {**change.body.get("metadata", {}), **version}}
            try:
                self.api.patch(DEPLOYMENTS, of.namespace, of.deployment, body, change.how, change.sub)
                return
            except RefusedError as error:
                if error.status != 409 or not left:
                    raise

    def _limit(self, of: Managed, setting: Setting, until_s: float) -> None:
        """Set limits and requests of the container in all pods."""
        amount = Amount.meant(setting.cpu_cores, setting.memory_mib)
        failed_s, failed = self._no_room.get(of.target.name, (-math.inf, amount))
        if time.monotonic() - failed_s < self.config.again_s and amount.holds(failed):
            raise BackendError(
                f"{of.words}: limits stay: a rollout with as much passed its deadline, and is not tried again for"
                f" {self.config.again_s:g} s; are the nodes large enough?"
            )
        if self._resizes():
            deployment = self.api.get(DEPLOYMENTS, of.namespace, of.deployment)
            behind = plans.behind(of, amounts.living(Direct(self.api).pods(deployment)), amount)
            assert self._version is not None
            if self._version >= SHRINKS or not any(plans.shrinks(of, pod, amount) for pod in behind):
                # the first pod tells whether the server lets this through: only then is it what is meant
                self._resize(of, amount, behind[:1], until_s)
                if self._resizes():
                    self._change(of, lambda now: plans.declared(of, now, setting))
                    self._resize(of, amount, behind[1:], until_s)
                    return
        self._change(of, lambda now: plans.rolled_out(of, now, setting, self._clock(), again=False))

    def _resize(self, of: Managed, amount: Amount, pods: Sequence[Mapping[str, Any]], until_s: float) -> int:
        """Resize pods in place; gives how many were. Those that have gone meanwhile are left out.

        Raises:
            BackendError: the server refuses, or time is up.
        """
        done = 0
        for at, pod in enumerate(pods):
            left = f"{of.words}: {len(pods) - at} of {len(pods)} pods are not resized"
            if time.monotonic() > until_s:
                raise BackendError(f"{left}: it took longer than {self.config.act_s:g} s; the next step goes on")
            name = pod["metadata"]["name"]
            try:
                self.api.patch(PODS, of.namespace, name, plans.resized(of, pod, amount), Patch.STRATEGIC, "resize")
                done += 1
            except RefusedError as error:
                if error.status not in (404, 405):
                    raise BackendError(f"{left}: {error}") from None
                if self._there(of, name):  # the server has no such subresource, whatever its version says
                    self._version, self._asked_s = (0, 0), time.monotonic()
                    return done
        return done

    def _there(self, of: Managed, pod: str) -> bool:
        try:
            self.api.get(PODS, of.namespace, pod)
        except RefusedError as error:
            if error.status == 404:
                return False
            raise
        return True
