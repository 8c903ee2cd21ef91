"""A Gymnasium environment of one application that is scaled; `flashfm.envs` registers it.

The rules are those of `dynamics.py` and `interface.py`, on NumPy arrays of one entry. Agents that can act in many
environments at once run a hundred times as fast in `vector_env.py`.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Float

from flashfm.errors import ModelError
from flashfm.tasks.autoscaling.episodes import Alpha, Episodes, bounded, line, told
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION, Actions
from flashfm.tasks.autoscaling.scenario import TRAINING, Scenario
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS, Simulator

METADATA: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}


def observation_space() -> spaces.Box:
    """Of one environment."""
    return spaces.Box(-2.0, 2.0, (len(OBSERVATION),), np.float32)


def action_space() -> spaces.Box:
    """Of one environment."""
    return spaces.Box(-1.0, 1.0, (len(ACTION),), np.float32)


class AutoscalingEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """Replicas, CPU and memory of one application under load, set every 30 seconds.

    ## Description

    An application answers requests from a number of replicas, each under a CPU quota and a memory limit. An agent sets
    all three so that latency stays within the objective while little is left idle. Replicas take time to start; limits
    are changed in place in some deployments and by a rolling restart in others; replicas without memory are killed;
    nodes differ in speed and have neighbours. These properties of an <application, environment> pair are hidden: they
    show in how it behaves only. Each episode is one pair under one load.

    ## Action space

    `Box(-1, 1, (3,), float32)`; what is outside is clipped. What the numbers mean depends on `actions`:

    | Num | `limits` (-1 to 1, log scale)  | `changes`          | `targets`                                   |
    |-----|--------------------------------|--------------------|---------------------------------------------|
    | 0   | cores of a replica: 0.1 to 4   | times 1/2.5 to 2.5 | cores of a replica, as in `limits`          |
    | 1   | MiB of a replica: 64 to 15,360 | times 1/2.5 to 2.5 | memory over its recent peak: 0.9 to 8       |
    | 2   | replicas: 1 to 32, rounded     | times 1/2.5 to 2.5 | share of cores for peak demand: 0.03 to 1.1 |

    As many replicas as the nodes have room for are placed, at least one. Changes of a limit by less
    than a tenth are not made.

    ## Observation space

    `Box(-2, 2, (16,), float32)`: what monitoring shows of the last step.

    | Num | Observation      | Meaning                                                   | Range   |
    |-----|------------------|-----------------------------------------------------------|---------|
    | 0   | cpu_limit        | cores of a replica, 0.1 to 4, on a log scale              | [-1, 1] |
    | 1   | memory_limit     | MiB of a replica, 64 to 15,360, on a log scale            | [-1, 1] |
    | 2   | cpu_use          | share of the cores of all replicas in use, 0 to 1         | [-1, 1] |
    | 3   | memory_use       | share of the memory of all replicas in use, 0 to 1        | [-1, 1] |
    | 4   | slo_latency      | objective over measured p99 latency, at most 1            | [-1, 1] |
    | 5   | slo_throughput   | requests answered over requests asked, 0 to 1             | [-1, 1] |
    | 6   | load_change      | log of requests/s over those of the step before           | [-2, 2] |
    | 7   | ready            | replicas that serve, 0 to 32, on a log scale              | [-2, 2] |
    | 8   | replicas         | replicas that serve or start, 1 to 32, on a log scale     | [-1, 1] |
    | 9   | clock_sin        | sine of the phase of a half-hour clock, by which jobs run | [-1, 1] |
    | 10  | clock_cos        | cosine of it                                              | [-1, 1] |
    | 11  | cores_used       | cores in use, all replicas, log10 / 2                     | [-2, 2] |
    | 12  | memory_used      | MiB in use, all replicas, (log10 - 3) / 2                 | [-2, 2] |
    | 13  | latency_headroom | log10 of objective over measured p99 latency              | [-2, 2] |
    | 14  | killed           | share of the replicas that ran out of memory, 0 to 1      | [-1, 1] |
    | 15  | alpha            | weight of the SLO that is wanted, 0 to 1                  | [-1, 1] |

    ## Rewards

    `alpha * SP + (1 - alpha) * (U_cpu + U_memory) / 2`, in [0, 1]: SP is the lesser of observations 4 and 5, U are
    shares in use, all from 0 to 1 (FLASH, table 4).

    ## Starting state

    The replicas, all ready, and limits are such as somebody might have set without care: within a factor of four or so
    of what is needed. One step with them has been served.

    ## Episode end

    Never terminated; truncated after `episode_steps` steps, 100 by default: 50 minutes.

    ## Info

    `pair` and, in plain units: `rate_per_s`, `served_per_s`, `p50_s`, `p99_s`, `slo_violated`, `ready`, `replicas`,
    `cores` and `memory_mib` of the limits of all replicas together, `cpu_use`, `memory_use`, `restarted` (replicas, in
    the step), `killed` (share of the replicas).

    ## Arguments

    ```python
    import gymnasium, flashfm.envs
    env = gymnasium.make("flashfm/Autoscaling-v0", pairs=800, alpha=0.5, actions="limits")
    observation, info = env.reset(seed=1, options={"pair": 17})
    ```

    | Argument        | Default    | Meaning                                                               |
    |-----------------|------------|-----------------------------------------------------------------------|
    | `pairs`         | `800`      | a `Scenario`, or how many of the default pairs to train on            |
    | `pairs_seed`    | `0`        | of the default pairs                                                  |
    | `alpha`         | `0.5`      | weight of the SLO in [0, 1]; `(low, high)` draws one for each episode |
    | `actions`       | `"limits"` | or `"changes"` or `"targets"`, see above                              |
    | `episode_steps` | `100`      | length of an episode                                                  |
    | `render_mode`   | `None`     | `"ansi"`: `render()` gives one line on the last step                  |

    `reset(options={"pair": i})` chooses the pair; else one is drawn. `make_vec` gives `AutoscalingVectorEnv`.

    ## Version history

    * v0: initial version.

    Raises:
        ModelError: an argument, an option or an action is out of its bounds.
    """

    metadata = METADATA

    def __init__(
        self,
        pairs: Scenario | int = TRAINING,
        *,
        pairs_seed: int = 0,
        alpha: Alpha = 0.5,
        actions: Actions = "limits",
        episode_steps: int = EPISODE_STEPS,
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode)
        self.episodes = Episodes(pairs, pairs_seed=pairs_seed, alpha=alpha, actions=actions, steps=episode_steps)
        self.render_mode = render_mode
        self.observation_space, self.action_space = observation_space(), action_space()
        self.simulator: Simulator | None = None
        self.pair = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float[np.ndarray, " feature"], dict[str, Any]]:
        """Begin an episode; see the class for options."""
        super().reset(seed=seed)
        self.simulator, (self.pair,) = self.episodes.begin(self.np_random, 1, options)
        observation = self.simulator.reset()
        return observation[0].astype(np.float32), self._info(self.simulator)

    def step(
        self, action: Float[np.ndarray, " action"]
    ) -> tuple[Float[np.ndarray, " feature"], float, bool, bool, dict[str, Any]]:
        """Act, and serve the next 30 seconds."""
        if self.simulator is None or self.simulator.done:
            raise gymnasium.error.ResetNeeded("environment: no episode is running; call reset() first")
        action = np.asarray(action)[None]
        stepped = self.simulator.step(bounded(action, (1, len(ACTION)), self.simulator.params.cpu_s))
        observation = stepped.observation[0].astype(np.float32)
        return observation, float(stepped.reward[0]), False, self.simulator.done, self._info(self.simulator)

    def render(self) -> str | None:
        """One line on the last step, where `render_mode` is "ansi"."""
        if self.render_mode is None or self.simulator is None:
            return None
        return line(int(self.pair), self.simulator.t, self.episodes.steps, self._info(self.simulator))

    def _info(self, simulator: Simulator) -> dict[str, Any]:
        values = told(simulator.outcome, simulator.load.rate_per_s[simulator.t])
        return {"pair": int(self.pair), **{name: value[0].item() for name, value in values.items()}}


def check_render_mode(mode: str | None) -> None:
    """Raise a ModelError where there is no such mode."""
    known = METADATA["render_modes"]
    if mode is not None and mode not in known:
        raise ModelError(f"environment: render_mode {mode!r}; expected one of {', '.join(known)}, or None")
