"""A device that nothing comes from: shows that a loop copies nothing to or from where it computes.

Tensors on `meta` have shapes and no values. Whatever asks for a value fails there as it would wait on a GPU: `.item()`,
`.cpu()`, `.numpy()`, a branch on a tensor, a result whose shape depends on values. `Apart` refuses the other way too:
operations between tensors of the CPU and of the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")


class Apart(TorchDispatchMode):
    """A block in which, while it is closed, no operation has tensors of two devices; it begins open."""

    def __init__(self) -> None:
        super().__init__()
        self.closed, self.seen = False, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        met = {leaf.device.type for leaf in tree_leaves((args, kwargs, made)) if isinstance(leaf, Tensor)}
        assert len(met) < 2 or not self.closed, f"{func} on {' and '.join(sorted(met))}"
        self.seen += self.closed and met == {META.type}
        return made

    def close(self, *_: object) -> None:
        """From here on nothing may be copied."""
        self.closed = True

    def but_for(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, which may copy, and after which nothing may."""

        def copying(*given: Any) -> Any:
            self.closed = False
            made = call(*given)
            self.closed = True
            return made

        return copying


class GeneratorOfMeta(torch.Generator):
    """There is none on `meta`; the CPU's is good enough where nothing is drawn."""

    def __new__(cls, device: Any = "cpu") -> GeneratorOfMeta:
        return super().__new__(cls, "cpu")

    @property
    def device(self) -> torch.device:
        return META
