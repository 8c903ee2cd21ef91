"""Registers the Gymnasium environments of flashfm: `import flashfm.envs`, then `gymnasium.make(AUTOSCALING)`.

`gymnasium.make("flashfm.envs:flashfm/Autoscaling-v0")` needs no import. Gymnasium has no plug-ins that it would find by
itself, and `import flashfm` does not register, so that it stays free of Gymnasium.
"""

from __future__ import annotations

import gymnasium

AUTOSCALING = "flashfm/Autoscaling-v0"
"""Name of the environment: `AutoscalingEnv` by `gymnasium.make`, `AutoscalingVectorEnv` by `gymnasium.make_vec`."""

if AUTOSCALING not in gymnasium.registry:
    gymnasium.register(
        AUTOSCALING,
        entry_point="flashfm.tasks.autoscaling.env:AutoscalingEnv",
        vector_entry_point="flashfm.tasks.autoscaling.vector_env:AutoscalingVectorEnv",
    )
