"""What the simulator says of an arm: the same keeper under the same rates, with replicas that exist in figures only.

Enters: a keeper as it is before the first step, the parameters of the twin, the first setting, and the rates. Leaves:
an `Arm` like that of real processes. Requests are those of the rates without chance, and a step is as long as live.
"""

from __future__ import annotations

import math

import numpy as np

from flashfm.act.guardrails import Setting
from flashfm.controller.arms import Arm, Steps, missed
from flashfm.controller.keeper import Keeper
from flashfm.controller.kept import DONE, NOTHING, Kept
from flashfm.controller.sample import Sample
from flashfm.controller.simulated import EPOCH_S
from flashfm.tasks.autoscaling import dynamics
from flashfm.tasks.autoscaling.dynamics import Draws, Limits
from flashfm.tasks.autoscaling.parameters import STEP_S, Params
from flashfm.tasks.autoscaling.serving import serve


def predict(
    keeper: Keeper,
    params: Params,
    first: Setting,
    rates: Steps,
    *,
    period_s: float,
    warm_steps: int = 0,
    seed: int = 0,
) -> Arm:
    """Live through the load in figures.

    Args:
        keeper: decides; it remembers what it lived through.
        params: of one pair, without restarts and neighbours (`twin.parameters`); starts are in control steps.
        first: in force in the first step.
        rates: requests a second of each control step.
        period_s: length of a control step.
        warm_steps: at the beginning that do not count.
        seed: of chance.

    Returns:
        What came of it. There is no p99 of all requests, since the dynamics give that of each step only.
    """
    rng, name, backlog, wanted = np.random.default_rng([seed, 4]), keeper.target.name, np.zeros(1), _limits(first)
    state, rows, decisions = dynamics.start(params, wanted, np.zeros(1)), [], list[Kept]()
    for n, rate in enumerate(rates):
        arrived = np.array([rate])
        draws = Draws(rng.standard_normal(1), rng.random(1), rng.standard_normal(1))
        # the dynamics know steps of STEP_S: what waits is as much of a step there as it is of one here
        state = state._replace(backlog=backlog * (STEP_S / period_s))
        state, outcome = dynamics.step(params, state, wanted, arrived, draws)
        service = serve(
            params,
            state.cpu_cores,
            state.memory_mib,
            outcome.ready,
            arrived,
            backlog,
            speed=params.node_speed,
            memory_noise=params.memory_noise * np.abs(draws.memory),
            step_s=period_s,
        )
        backlog = service.backlog
        cores, mebibytes, p99_s = float(outcome.cpu_cores[0]), float(outcome.memory_mib[0]), float(service.p99_s[0])
        dropped, killed = float(service.dropped[0]), float(outcome.restarted[0])
        rows.append((float(outcome.replicas[0]), cores, mebibytes / 1024, p99_s, rate * period_s, dropped, killed))
        now_s = EPOCH_S + (n + 1) * period_s
        sample = Sample(
            time_s=now_s,
            replicas=round(float(outcome.replicas[0])),
            ready=round(float(outcome.ready[0])),
            cpu_cores=float(state.cpu_cores[0]),
            memory_mib=float(state.memory_mib[0]),
            used_cores=min(float(service.cpu_cores[0]), cores),
            used_mib=float(service.memory_mib[0]),
            arrived_per_s=float(rate),
            served_per_s=float(service.served_per_s[0]),
            p99_s=p99_s,
            killed=round(killed),
            image=name,
        )
        decision, _ = keeper.decide(sample, now_s)
        acts = decision.change and decision.setting is not None
        wanted = _limits(decision.setting if acts and decision.setting is not None else sample.setting())
        decisions.append(Kept(name, n, now_s, sample.to_dict(), decision.to_dict(), DONE if acts else NOTHING, ""))
    replicas, cores_of, gib, p99, sent, failed, kills = np.array(rows)[warm_steps:].T
    return Arm(
        rate_per_s=rates[warm_steps:],
        replicas=replicas,
        cores=cores_of,
        memory_gib=gib,
        p99_s=p99,
        sent=sent,
        failed=failed,
        violated=missed(p99, sent, failed, keeper.target.terms.slo_s),
        decisions=tuple(decisions[warm_steps:]),
        period_s=period_s,
        all_p99_s=math.nan,
        late_s=0.0,
        core_s=float(cores_of.sum()) * period_s,
        gib_s=float(gib.sum()) * period_s,
        kills=round(float(kills.sum())),
        restarts=round(float(kills.sum())),
    )


def _limits(setting: Setting) -> Limits:
    return Limits(*(np.array([float(value)]) for value in setting))
