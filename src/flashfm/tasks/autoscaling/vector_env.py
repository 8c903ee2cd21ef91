"""A Gymnasium environment of many applications that are scaled at once; `flashfm.envs` registers it.

Observations, actions and rewards are those of `env.py`, with an axis [env] in front. All environments are one batch of
arrays, so that a step of a thousand costs about as much as two steps of one.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from flashfm.errors import ModelError
from flashfm.tasks.autoscaling.env import METADATA, action_space, check_render_mode, observation_space
from flashfm.tasks.autoscaling.episodes import Alpha, Episodes, bounded, line, told
from flashfm.tasks.autoscaling.interface import ACTION, Actions
from flashfm.tasks.autoscaling.scenario import TRAINING, Kind, Scenario
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS, Simulator


class AutoscalingVectorEnv(VectorEnv[Any, Any, Any]):
    """Many `AutoscalingEnv` in one: see there for observations, actions, rewards and episodes.

    Each environment has its own pair and load; pairs are shuffled and dealt out anew for each episode, so that 800
    environments over 800 pairs hold each of them once. A vector of one is the single environment, number for number.

    ## Autoreset

    `SAME_STEP`. All episodes are equally long, so the whole batch begins anew in one call, and no step is lost to a
    transition without reward that a replay buffer would have to leave out (as `NEXT_STEP` has). The step that truncates
    gives the first observation of the next episode, and in `info` the last one of this: `final_obs` and `final_info`,
    with `_final_obs` and `_final_info` all true.

    ## Arguments

    ```python
    import gymnasium, flashfm.envs
    envs = gymnasium.make_vec("flashfm/Autoscaling-v0", 800, vectorization_mode="vector_entry_point", arrays="torch")
    observations, info = envs.reset(seed=1, options={"pair": range(800)})
    ```

    Those of `AutoscalingEnv`, and:

    | Argument   | Default   | Meaning                                                                            |
    |------------|-----------|------------------------------------------------------------------------------------|
    | `num_envs` | `1`       | number of environments                                                             |
    | `arrays`   | `"numpy"` | `"torch"`: observations, rewards, flags and `info` are tensors, and actions may be |
    | `device`   | `"cpu"`   | of torch's tensors, such as `"cuda"`                                                |

    `info` holds one array [env] for each value that the single environment has. With torch `final_obs` is one tensor
    [env, feature], with NumPy an array of observations as Gymnasium's own vectors give it.

    ## Devices

    With torch nothing is copied to or from the device within an episode. At its start loads come to it, which are drawn
    by NumPy and are the same on every device; what else chance decides is drawn on the device and differs from one to
    another. To look for NaN in actions would be to wait for the device, so that is done on the CPU alone.

    Raises:
        ModelError: an argument, an option or an action is out of its bounds.
    """

    metadata: dict[str, Any] = METADATA | {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self,
        num_envs: int = 1,
        pairs: Scenario | int = TRAINING,
        *,
        pairs_seed: int = 0,
        alpha: Alpha = 0.5,
        actions: Actions = "limits",
        episode_steps: int = EPISODE_STEPS,
        arrays: Kind = "numpy",
        device: str = "cpu",
        render_mode: str | None = None,
    ) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise ModelError(f"environment: num_envs {num_envs!r}; expected a whole number of at least 1")
        check_render_mode(render_mode)
        self.episodes = Episodes(
            pairs,
            pairs_seed=pairs_seed,
            alpha=alpha,
            actions=actions,
            steps=episode_steps,
            kind=arrays,
            device=device,
        )
        self.num_envs, self.render_mode = num_envs, render_mode
        self.single_observation_space, self.single_action_space = observation_space(), action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.simulator: Simulator | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in all environments; see the class for options."""
        super().reset(seed=seed)
        self.simulator, pair = self.episodes.begin(self.np_random, self.num_envs, options)
        self._pair = self._array(pair)
        observation = self._single(self.simulator.reset())
        return observation, self._info(self.simulator)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Act in all environments, and serve the next 30 seconds; after the last step of an episode begin the next."""
        simulator = self.simulator
        if simulator is None:
            raise gymnasium.error.ResetNeeded("environment: no episode is running; call reset() first")
        stepped = simulator.step(bounded(actions, (self.num_envs, len(ACTION)), simulator.params.cpu_s))
        observation, info, done = self._single(stepped.observation), self._info(simulator), simulator.done
        if done:
            last, of_last = observation, info
            observation, info = self.reset()
            info |= self._final(last, of_last)
        return observation, stepped.reward, self._flags(False), self._flags(done), info

    def render(self) -> tuple[str, ...] | None:
        """One line on the last step for each environment, where `render_mode` is "ansi"."""
        simulator = self.simulator
        if self.render_mode is None or simulator is None:
            return None
        values = {name: value.tolist() for name, value in self._info(simulator).items()}
        return tuple(
            line(pair, simulator.t, self.episodes.steps, {name: value[i] for name, value in values.items()})
            for i, pair in enumerate(values["pair"])
        )

    @property
    def _torch(self) -> bool:
        return self.episodes.kind == "torch"

    def _single(self, observation: Any) -> Any:
        return observation if self._torch else observation.astype(np.float32, copy=False)

    def _flags(self, value: bool) -> Any:
        if not self._torch:
            return np.full(self.num_envs, value)
        import torch

        return torch.full((self.num_envs,), value, device=self.episodes.device)

    def _array(self, values: Any) -> Any:
        if not self._torch:
            return values
        import torch

        return torch.from_numpy(values).to(self.episodes.device)

    def _info(self, simulator: Simulator) -> dict[str, Any]:
        pair = self._pair.clone() if self._torch else self._pair.copy()
        return {"pair": pair, **told(simulator.outcome, simulator.load.rate_per_s[simulator.t])}

    def _final(self, observation: Any, info: dict[str, Any]) -> dict[str, Any]:
        last: Any = observation
        if not self._torch:
            last = np.empty(self.num_envs, dtype=object)
            last[:] = list(observation)
        everywhere = self._flags(True)
        return {"final_obs": last, "_final_obs": everywhere, "final_info": info, "_final_info": everywhere}
