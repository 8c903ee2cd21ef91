"""One deployment in the hands of the controller: what is remembered of it, and what to do next. No I/O, no clock.

Enters: a sample a step, or why there is none, and the time. Leaves: a decision with its reason, its expected effect
and what was clipped. What `Keeper` remembers follows from the steps before it: `restore` makes it anew from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flashfm.act.autoscale import Terms
from flashfm.act.guardrails import Bounds, GuardConfig, Past, Setting, guard
from flashfm.adapt.agent import AdaptedAgent, FlashAgent, Trajectory
from flashfm.adapt.trajectories import TrajectoryBuffer
from flashfm.baselines.scaling import HpaVpaConfig
from flashfm.controller.lifecycle import Life, LifecycleConfig, Phase, Step, advance
from flashfm.controller.rules import SAFE, Rules
from flashfm.controller.sample import Sample, SampleConfig, trouble
from flashfm.controller.seen import Seen, see
from flashfm.errors import ModelError
from flashfm.tasks.autoscaling.parameters import STEP_S
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS

REMEMBERED = 120
"""Steps from which rules and agent get back what they remember: peaks and histograms fade."""


@dataclass(frozen=True)
class Target:
    """A deployment, and what its operator says."""

    name: str
    """Unique among all that are controlled, such as `namespace/name`."""
    terms: Terms
    bounds: Bounds = field(default_factory=Bounds)
    acting: bool = False
    """False decides and records only."""


@dataclass(frozen=True)
class KeeperConfig:
    """How deployments are controlled."""

    lifecycle: LifecycleConfig = field(default_factory=LifecycleConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    rules: HpaVpaConfig = SAFE
    longest_gap_s: float = 3 * STEP_S
    """Between two samples of one episode; a longer gap begins another."""


@dataclass(frozen=True)
class Decision:
    """What a step came to."""

    phase: Phase
    by: str
    """`agent`, `rules`, or `nobody` where the sample could not be read."""
    setting: Setting | None
    """What is to be in force; None where nothing is known."""
    change: bool
    """Whether that is to be set; not in SHADOW, and not where it is in force."""
    why: str
    effect: str = ""
    """What is expected of it."""
    clipped: tuple[str, ...] = ()
    """What the guardrails did not let through."""
    turned: str | None = None
    """Why the phase changed in this step, if it did."""
    reward: float | None = None
    """Of the step before."""
    violated: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        setting = None if self.setting is None else self.setting._asdict()
        return {**vars(self), "phase": self.phase.value, "setting": setting, "clipped": list(self.clipped)}


class Keeper:
    """Decides for one deployment.

    Args:
        target: the deployment.
        agent: the pretrained agent, whose actions are `targets`.
        config: settings.

    Raises:
        ModelError: the agent's actions are of another kind.
    """

    def __init__(self, target: Target, agent: FlashAgent, config: KeeperConfig | None = None) -> None:
        if agent.actions != "targets":
            raise ModelError(f"controller: the agent's actions are {agent.actions!r}; expected 'targets'")
        self.target, self.config = target, config or KeeperConfig()
        self._agent = agent
        self.life, self.past = Life(), Past()
        self._policy: AdaptedAgent = agent.begin(gate=True)
        self._rules = Rules(self.config.rules)
        self._seen: Seen | None = None
        self._good: list[Sample] = []
        self._observed: list[np.ndarray] = []
        self._acted: list[np.ndarray] = []
        self._rewards: list[float] = []
        self._forget()

    @property
    def embedded(self) -> bool:
        """Whether the agent knows the application."""
        return self.buffer.embedding is not None

    @property
    def p_value(self) -> float | None:
        """Share of the pairs of pretraining that lie farther out; None without an embedding."""
        return None if self._policy.p_value is None else float(self._policy.p_value[0])

    @property
    def place(self) -> int:
        """Steps of the running episode."""
        return len(self._rewards)

    def restore(
        self, life: Life, past: Past, trajectories: Sequence[Trajectory], samples: Sequence[Sample], place: int
    ) -> None:
        """Go on from where another process was.

        Args:
            life: after the last step.
            past: after the last step.
            trajectories: finished, the oldest first.
            samples: good ones, the oldest first: at least the running episode's, better `REMEMBERED`.
            place: steps of the running episode.
        """
        self.life, self.past = life, past
        for trajectory in trajectories:
            self.buffer.add(trajectory)
        self._know()
        begins = len(samples) - 1 - place
        for i, sample in enumerate(samples):
            self._take(sample, learn=i > begins)
            if i == begins:
                self._begin_episode()
            assert self._seen is not None
            self._rules.decide(self._seen)
            self._policy.watch(self._seen.observation)

    def decide(self, got: Sample | str, now_s: float) -> tuple[Decision, Trajectory | None]:
        """What to do after one more step.

        Args:
            got: the newest sample, or why there is none.
            now_s: Unix time.

        Returns:
            The decision, and the trajectory that this step has finished, if it has.
        """
        problem = got if isinstance(got, str) else trouble(got, self._good, now_s, self.config.sample)
        if problem is not None or isinstance(got, str):
            return self._hold(str(problem)), None
        finished = self._take(got)
        seen = self._seen
        assert seen is not None
        by_rules = self._rules.decide(seen)
        scaled = self._policy.decide(seen.observation, [self.target.terms])[0]
        turned = advance(
            self.life,
            Step(
                seen.reward,
                seen.violated,
                self.embedded,
                bool(self._policy.novel.any()),
                got.image,
                self._agent.digest,
            ),
            acting=self.target.acting,
            config=self.config.lifecycle,
        )
        self.life = turned.life
        if turned.forget:
            self._forget()
            self._know()
        rules = self.life.phase is Phase.BOOTSTRAP
        wanted = by_rules if rules else Setting(scaled.cpu_cores, scaled.memory_mib, scaled.replicas)
        now = seen.setting
        done = guard(wanted, now, seen.used, self.past, now_s, bounds=self.target.bounds, config=self.config.guard)
        change = self.life.phase is not Phase.SHADOW and not done.setting.same(now)
        if change:
            self.past = done.past
        decision = Decision(
            self.life.phase,
            "rules" if rules else "agent",
            done.setting,
            change,
            _by_rules(by_rules, seen) if rules else scaled.why,
            _effect(done.setting, seen),
            done.clipped,
            turned.why,
            seen.reward,
            seen.violated,
        )
        return decision, finished

    def _take(self, sample: Sample, *, learn: bool = True) -> Trajectory | None:
        """See a sample; what was in force since the last one is what was done there, whoever did it."""
        before, self._seen = self._seen, see(sample, self._seen, self.target.terms)
        self._good = [*self._good, sample][-self.config.sample.alike :]
        if not learn:
            return None
        gap_s = _gap_s(before, sample)
        if before is None or gap_s > self.config.longest_gap_s:
            self._begin_episode()
            return None
        self._acted.append(before.action(self._seen.setting))
        self._rewards.append(self._seen.reward)
        self._observed.append(self._seen.observation)
        if len(self._rewards) < EPISODE_STEPS:
            return None
        reward = np.array(self._rewards, np.float32)[:, None]
        finished = Trajectory(np.stack(self._observed), np.stack(self._acted), reward)
        self.buffer.add(finished)
        self._know()
        self._begin_episode()
        return finished

    def _know(self) -> None:
        """Let the policy know what the buffer says of the application."""
        self._policy = self._policy.knowing(self.buffer.embedding, max(1, len(self.buffer.best)))

    def _forget(self) -> None:
        """Begin to get to know the application."""
        self.buffer = TrajectoryBuffer(self._agent.embed)
        self._begin_episode()

    def _begin_episode(self) -> None:
        self._observed = [] if self._seen is None else [self._seen.observation]
        self._acted, self._rewards = [], []

    def _hold(self, problem: str) -> Decision:
        setting = None if self._seen is None else self._seen.setting
        return Decision(self.life.phase, "nobody", setting, False, f"nothing is changed, {problem}")


def _gap_s(before: Seen | None, sample: Sample) -> float:
    if before is None:
        return 0.0
    assert before.sample.time_s is not None
    assert sample.time_s is not None
    return sample.time_s - before.sample.time_s


def _by_rules(setting: Setting, seen: Seen) -> str:
    used, several = float(seen.outcome.cpu_use[0]), "s" * (setting.replicas != 1)
    return (
        f"HPA and VPA rules: {setting.replicas} replica{several} of {setting.cpu_cores:.3g} cores and"
        f" {setting.memory_mib:.0f} MiB; {100 * used:.0f} % of the cores are in use"
    )


def _effect(setting: Setting, seen: Seen) -> str:
    """What a setting means for what is reserved and used, if demand stays as it is."""
    now, used = seen.setting, seen.used
    if setting.same(now):
        return "nothing changes"
    cores, then = setting.replicas * setting.cpu_cores, now.replicas * now.cpu_cores
    mebibytes, before = setting.replicas * setting.memory_mib, now.replicas * now.memory_mib
    share = 100 * used.cores / cores
    return (
        f"{cores:.3g} cores reserved in place of {then:.3g}, of which the demand of now takes {share:.0f} %;"
        f" {mebibytes:.0f} MiB in place of {before:.0f}"
    )
