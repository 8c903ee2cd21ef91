"""Registration with Gymnasium."""

from __future__ import annotations

import subprocess
import sys


def printed(program: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_module_in_front_of_the_name_is_enough() -> None:
    made = "gymnasium.make('flashfm.envs:flashfm/Autoscaling-v0', pairs=2).reset(seed=0)[0].shape"
    assert printed(f"import gymnasium; print({made})") == "(16,)"


def test_vectors_are_batches_unless_asked_otherwise() -> None:
    make = "gymnasium.make_vec('flashfm/Autoscaling-v0', 3, pairs=2"
    made = f"({make}), {make}, vectorization_mode='sync'))"
    program = f"import gymnasium, flashfm.envs; print(*(type(env).__name__ for env in {made}))"
    assert printed(program) == "AutoscalingVectorEnv SyncVectorEnv"


def test_importing_flashfm_imports_no_gymnasium() -> None:
    assert printed("import sys, flashfm; print('gymnasium' in sys.modules)") == "False"
