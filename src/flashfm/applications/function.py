"""A user's own function as a segment: `FILE.py:NAME`, called as a Lambda or OpenWhisk handler is.

It runs the user's code, so no spec that comes from a file may name it: only `function_spec` makes one, and only the
harness's own worker accepts it (`ApplicationSpec.from_dict(..., allow_functions=True)`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import random
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ClassVar

from flashfm.applications.segments import FUNCTION_KIND, Segment
from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.errors import SpecError


class UserFunction(Segment):
    """Calls `handler(event)` or `handler(event, context)` with the same event each time; `context` is None.

    The file is imported once an instance, with its folder on `sys.path`, so what it does at import is its set-up.
    """

    kind: ClassVar[str] = FUNCTION_KIND
    short: ClassVar[str] = "function"
    bound: ClassVar[str] = "cpu"

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:
        """Never rolled; names and types for validation."""
        del rng
        return {"target": "handler.py:handler", "event": "{}"}

    def prepare(self) -> None:
        """Import the file and find the function.

        Raises:
            SpecError: the file or the function is not there, or it cannot be called with one or two arguments.
        """
        handler = _load(str(self.params["target"]))
        event = json.loads(str(self.params["event"]))
        wants = len(inspect.signature(handler).parameters)
        if wants not in (1, 2):
            raise SpecError(f"{self.params['target']}: takes {wants} arguments; expected (event) or (event, context)")
        arguments = (event,) if wants == 1 else (event, None)
        self._call: Callable[[], object] = partial(handler, *arguments)

    def run(self) -> int:
        """Call the function; the length of its answer as text."""
        return len(str(self._call()))


def function_spec(target: str, event: str = "{}") -> ApplicationSpec:
    """An application of one user's function.

    Args:
        target: `FILE.py:NAME`; NAME absent is `handler`.
        event: what the function is called with, as JSON.

    Raises:
        SpecError: no such file, a name that Python does not allow, or an event that is not JSON.
    """
    file, _, name = target.partition(":")
    path, name = Path(file).resolve(), name or "handler"
    if path.suffix != ".py" or not path.is_file():
        raise SpecError(f"function {target!r}: expected FILE.py:NAME with an existing file; {path} is none")
    if not name.isidentifier():
        raise SpecError(f"function {target!r}: {name!r} is not the name of a function")
    try:
        json.loads(event)
    except ValueError as error:
        raise SpecError(f"function {target!r}: the event is not JSON: {error}") from None
    mark = hashlib.sha256(f"{path}:{name}\n{event}\n{path.read_text()}".encode()).hexdigest()[:6]
    stem = re.sub(r"[^a-z0-9]+", "-", f"{path.stem}-{name}".lower()).strip("-")[:44]
    part = SegmentSpec(FUNCTION_KIND, {"target": f"{path}:{name}", "event": event})
    return ApplicationSpec(f"{stem}-{mark}" if stem else f"function-{mark}", (part,))


def _load(target: str) -> Callable[..., object]:
    file, _, name = target.rpartition(":")
    path = Path(file)
    sys.path.insert(0, str(path.parent))
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None:
        raise SpecError(f"{file}: cannot be imported as Python")
    module = importlib.util.module_from_spec(found)
    sys.modules[path.stem] = module
    found.loader.exec_module(module)
    handler = getattr(module, name, None)
    if not callable(handler):
        raise SpecError(f"{file}: has no function {name!r}")
    return handler  # type: ignore[no-any-return]
