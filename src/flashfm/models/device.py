"""Devices by name, as the option `--device` takes them: what networks are trained and asked on."""

from __future__ import annotations

import torch

from flashfm.errors import ModelError

CPU = torch.device("cpu")
"""The default; models that ship are made on it."""
DEVICES = ("cpu", "cuda", "auto")


def device_of(name: str = "cpu", *, workers: int = 1) -> torch.device:
    """The device of that name.

    Args:
        name: `cpu`; `cuda`, the current GPU; or `auto`, that where there is one and the CPU where there is none.
        workers: how many processes train together; several do so on CPUs alone, which is what `auto` gives them.

    Raises:
        ModelError: no device has that name, there is no GPU that torch can use, or several workers ask for it.
    """
    if name not in DEVICES:
        raise ModelError(f"--device {name}: expected one of {', '.join(DEVICES)}")
    if name == "cuda" and workers > 1:
        raise ModelError(
            f"--device cuda with {workers} workers: several train together on CPUs; take one worker for the GPU, or"
            " --device cpu"
        )
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            f"--device cuda: torch {torch.__version__} finds no GPU on this machine; take --device cpu or auto, or"
            " install a build of torch for its GPU"
        )
    if name == "cpu" or workers > 1 or not torch.cuda.is_available():
        return CPU
    return torch.device("cuda", torch.cuda.current_device())
