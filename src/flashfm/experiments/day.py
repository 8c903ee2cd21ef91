"""One application for one day under the same load: the pretrained agent beside Kubernetes' autoscalers.

Enters: an agent, the name of a generated application, a trade-off, perhaps a trace to replay. Leaves: what happened in
each step, for each arm, and what the agent decided. The agent gets to know the application by what it lives through:
after every episode of the day it reads its own buffer of trajectories anew.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from flashfm.act.autoscale import Nodes, ScalingDecision, Terms
from flashfm.adapt.agent import AdaptedAgent, FlashAgent, Trajectory
from flashfm.adapt.trajectories import TrajectoryBuffer
from flashfm.baselines.scaling import HpaVpa, HpaVpaConfig
from flashfm.datasets.rate_trace import RateTrace
from flashfm.errors import DataError, ModelError
from flashfm.reporting.style import short
from flashfm.tasks.autoscaling import loads
from flashfm.tasks.autoscaling.dynamics import Limits, StepOutcome
from flashfm.tasks.autoscaling.interface import violated
from flashfm.tasks.autoscaling.parameters import STEP_S
from flashfm.tasks.autoscaling.scenario import Scenario, default, split
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS, Simulator, Stepped

STEPS_AN_HOUR = round(3600 / STEP_S)
LONGEST_H = 168.0
TYPICAL = "dynwrite-dynread-s3read-7329e2"
"""The unseen application that is nearest to the medians over all of them: the rewards and violations of the agent and
of HPA and VPA, in what `flashfm reproduce fig6` keeps."""
MOST_WARM_UPS = 3
TUNED = HpaVpaConfig(target=0.1, vertical="both", day_s=3600.0, least_cpu_cores=2.0, least_memory_mib=64.0)
"""The best setting by reward at alpha 0.5 on training pairs, as `results/ablation-rl.json` has it."""

Steps = Float[np.ndarray, " step"]


@dataclass(frozen=True, eq=False)
class Day:
    """What happened to one arm; every field is [step]."""

    rate_per_s: Steps
    replicas: Steps
    cores: Steps
    memory_mib: Steps
    p99_s: Steps
    violated: Steps
    """1 where the SLO was missed."""
    killed: Steps
    """Share of the replicas that ran out of memory."""
    reward: Steps

    def summary(self) -> dict[str, float]:
        """Reward, share of steps that missed the SLO, and what was reserved in all."""
        hours = STEP_S / 3600
        return {
            "reward": float(self.reward.mean()),
            "violations": float(self.violated.mean()),
            "core_hours": float(self.cores.sum() * hours),
            "gib_hours": float(self.memory_mib.sum() / 1024 * hours),
            "killed": float(self.killed.mean()),
            "replicas": float(self.replicas.mean()),
        }


@dataclass(frozen=True, eq=False)
class Simulated:
    """A day of all arms."""

    app: str
    terms: Terms
    """What the operator of the application says."""
    load: str
    """Where the load comes from, in words."""
    days: dict[str, Day]
    """Of each arm, the agent's first."""
    decisions: tuple[ScalingDecision, ...]
    """Of the agent, one a step."""
    embedded: tuple[int, ...]
    """Steps before which the agent embedded the application, 0 after warm-up episodes."""

    @property
    def changes(self) -> tuple[int, ...]:
        """Steps whose decision differs from the one before, the first included."""
        pairs = enumerate(zip(self.decisions[1:], self.decisions[:-1], strict=True), start=1)
        return (0, *(step for step, (now, then) in pairs if not now.same_limits(then)))

    def summary(self) -> dict[str, int]:
        """How many decisions there were, changed something and were held, and how often an embedding was made."""
        return {
            "decisions": len(self.decisions),
            "changes": len(self.changes),
            "held": sum(decision.held for decision in self.decisions),
            "embedded": len(self.embedded),
        }


def unseen() -> Scenario:
    """Pairs that the shipped agent was not pretrained on."""
    return split(default(0))[1]


def simulate(
    agent: FlashAgent,
    app: str | None = None,
    *,
    alpha: float = 0.5,
    hours: float = 24.0,
    warm_ups: int = 0,
    seed: int = 0,
    slo_s: float | None = None,
    trace: RateTrace | None = None,
    against: HpaVpaConfig = TUNED,
) -> Simulated:
    """Let both run the same application under the same load.

    Args:
        agent: the pretrained agent.
        app: one of the unseen applications; None takes `TYPICAL`.
        alpha: weight of the SLO, in [0, 1].
        hours: length; above 0, at most `LONGEST_H`.
        warm_ups: episodes under generated loads that the agent sees of the application before, 0 to `MOST_WARM_UPS`;
            without any it begins without an embedding.
        seed: of generated loads and chance.
        slo_s: objective for the p99 in seconds; None takes the application's own.
        trace: replayed from its first gapless window on, scaled to the mean rate of the application; None generates a
            load.
        against: the other arm.

    Raises:
        ModelError: one of them is out of its bounds.
        DataError: the trace is too short, or has no window without gaps and with requests.
    """
    if not 1 / STEPS_AN_HOUR <= hours <= LONGEST_H:
        raise ModelError(f"simulate: {hours:g} hours; expected {1 / STEPS_AN_HOUR:.3g} to {LONGEST_H:g}")
    if not 0 <= warm_ups <= MOST_WARM_UPS:
        raise ModelError(f"simulate: {warm_ups} warm-up episodes; expected 0 to {MOST_WARM_UPS}")
    pair, terms = _pair(app, alpha, slo_s)
    steps = round(hours * STEPS_AN_HOUR)
    window, where = (None, "") if trace is None else _window(trace, steps, seed)
    day = replace(pair, trace=window)

    def simulator(of: Scenario, steps: int, seed: int) -> Simulator:
        return of.simulator(alpha=alpha, actions=agent.actions, seed=seed, kind="numpy", steps=steps)

    life = _Life(agent, terms)
    for i in range(warm_ups):
        warm = simulator(pair, EPISODE_STEPS, 1000 * seed + 1 + i)
        life.begin(warm.reset())
        while not warm.done:
            life.step(warm)
    ours, theirs = simulator(day, steps, 1000 * seed), simulator(day, steps, 1000 * seed)
    life.begin(ours.reset())
    controller = HpaVpa(against)
    theirs.reset()
    controller.reset(theirs)
    embedded: list[int] = [0] if warm_ups else []
    decisions: list[ScalingDecision] = []
    rows: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    while not ours.done:
        decision, stepped = life.step(ours)
        decisions.append(decision)
        rows[0].append(_row(ours, stepped.outcome, stepped.reward))
        if ours.t % EPISODE_STEPS == 0 and not ours.done:
            embedded.append(ours.t)
        rate = theirs.load.rate_per_s[theirs.t]
        other = theirs.apply(controller.decide(theirs.state, theirs.outcome, rate))
        rows[1].append(_row(theirs, other.outcome, other.reward))
    days = [Day(*np.stack(one, axis=1)) for one in rows]
    load = "generated" if window is None else where + _scaled(pair, window, float(ours.load.rate_per_s.mean()))
    arms = {"FLASH": days[0], "HPA + VPA": days[1]}
    return Simulated(pair.apps[0], terms, load, arms, tuple(decisions), tuple(embedded))


class _Life:
    """The agent with one application: it acts, and embeds the application anew whenever an episode has ended."""

    def __init__(self, agent: FlashAgent, terms: Terms) -> None:
        self.buffer, self._terms = TrajectoryBuffer(agent.embed), terms
        self._agent = agent
        self._policy: AdaptedAgent = agent.begin()
        self._seen: list[np.ndarray] = []
        self._acted: list[np.ndarray] = []
        self._rewarded: list[np.ndarray] = []

    def begin(self, observation: np.ndarray) -> None:
        """A deployment starts with this observation; what is known of the application stays."""
        self._policy = self._agent.begin().knowing(self.buffer.embedding, max(1, len(self.buffer.best)))
        self._seen, self._acted, self._rewarded = [observation], [], []

    def step(self, simulator: Simulator) -> tuple[ScalingDecision, Stepped]:
        """Decide, and see what comes of it."""
        (decision,) = self._policy.decide(self._seen[-1], [self._terms])
        action = self._policy.last_action
        assert action is not None  # decide has just acted
        limits = np.array([[decision.cpu_cores, decision.memory_mib, decision.replicas]], np.float32)
        stepped = simulator.apply(Limits(*limits.T))
        self._seen.append(stepped.observation)
        self._acted.append(action)
        self._rewarded.append(stepped.reward)
        if len(self._acted) == EPISODE_STEPS:
            self.buffer.add(Trajectory(*map(np.stack, (self._seen, self._acted, self._rewarded))))
            self._policy = self._policy.knowing(self.buffer.embedding, max(1, len(self.buffer.best)))
            self._seen, self._acted, self._rewarded = [self._seen[-1]], [], []
        return decision, stepped


def _pair(app: str | None, alpha: float, slo_s: float | None) -> tuple[Scenario, Terms]:
    """The application, and what its operator says."""
    pairs = unseen()
    chosen = app if app is not None else TYPICAL
    if chosen not in pairs.apps:
        near = difflib.get_close_matches(chosen, pairs.apps, n=3)
        meant = f"did you mean {', '.join(near)}?" if near else f"there are {len(pairs)}, such as {pairs.apps[0]}"
        raise ModelError(f"simulate: no unseen application {chosen!r:.60}; {meant}")
    pair = pairs.take(np.array([pairs.apps.index(chosen)]))
    p = pair.params
    nodes = Nodes(int(p.nodes[0]), float(p.node_cores[0]), float(p.node_memory_mib[0]))
    terms = Terms(float(p.slo_s[0]) if slo_s is None else slo_s, alpha, nodes)
    if slo_s is None:
        return pair, terms
    slo = np.array([slo_s], np.float64)
    # a time-out below the objective could not miss it
    return replace(pair, params=replace(p, slo_s=slo, timeout_s=np.maximum(p.timeout_s, 2 * slo))), terms


def _window(trace: RateTrace, steps: int, seed: int) -> tuple[RateTrace, str]:
    """The first window of a trace that can be replayed, in steps and led by one more, and where it is."""
    if trace.duration_s < steps * STEP_S:
        hours = trace.duration_s / 3600
        raise DataError(
            f"trace {trace.name!r} lasts {hours:.3g} hours; expected at least the {steps * STEP_S / 3600:.3g} that are"
            " simulated: simulate fewer hours, or give a longer one (times are in seconds)"
        )
    binned = loads.at_step(trace, np.random.default_rng(seed))
    led = RateTrace(trace.name, np.concatenate([binned.counts[:1], binned.counts]), STEP_S)
    start = int(loads.window_starts(led, steps + 1)[0])
    window = RateTrace(trace.name, led.counts[start : start + steps + 1], STEP_S)
    return window, f"trace {short(trace.name)} from {start / STEPS_AN_HOUR:.3g} h on, "


def _scaled(pair: Scenario, window: RateTrace, mean_per_s: float) -> str:
    """To what the load of a trace was scaled."""
    own = float(pair.loads.mean_per_s[0])
    said = f"its mean of {window.rate_per_s.mean():.3g} requests/s scaled to {mean_per_s:.3g}"
    if mean_per_s > 0.999 * own:
        return f"{said}, the application's own"
    return f"{said}, the most that all of it can be served at (the application's own is {own:.3g})"


def _row(simulator: Simulator, outcome: StepOutcome, reward: np.ndarray) -> np.ndarray:
    """Values of a step in the order of `Day`."""
    service = outcome.service
    values = (simulator.load.rate_per_s[simulator.t], outcome.replicas, outcome.cpu_cores, outcome.memory_mib)
    more = (service.p99_s, violated(outcome), service.killed, reward)
    return np.array([float(np.asarray(value)[0]) for value in (*values, *more)])
