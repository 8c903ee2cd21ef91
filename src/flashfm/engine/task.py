"""One item, worked on in another process: what travels there and back, and the call between.

Enters: a pickled function and a pickled item. Leaves: what was made of it, or the error that was raised. These pickles
go between processes of one run and are never kept; who sends what to whom is the business of the engines.
"""

from __future__ import annotations

import io
import pickle
import traceback
from contextlib import suppress
from typing import Any

from flashfm.engine.base import Told
from flashfm.engine.threads import one_thread
from flashfm.errors import EngineError


class _Pickler(pickle.Pickler):
    """Refuses what another process could not import."""

    def reducer_override(self, value: Any) -> Any:
        """Let pickle do as it does, unless `value` is of the script that runs."""
        if getattr(value, "__module__", None) == "__main__" and hasattr(value, "__qualname__"):
            raise EngineError(
                f"{value.__qualname__} is of the script that runs, which workers cannot import; move it to a module"
            )
        return NotImplemented


def pack(value: object, what: str) -> bytes:
    """What is sent to a worker.

    Args:
        value: function or item.
        what: it is, for the error.

    Raises:
        EngineError: another process could not have it.
    """
    written = io.BytesIO()
    try:
        _Pickler(written, pickle.HIGHEST_PROTOCOL).dump(value)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise EngineError(
            f"{what} cannot be sent to a worker ({error}); expected functions of modules and plain data"
        ) from None
    return written.getvalue()


def perform(work: bytes, item: bytes, told: Told) -> bytes:
    """Work on an item; what was made of it, or the error that was raised, for `result_of`.

    Function and item are read anew for each item, so that nothing that one item did to them reaches another.
    """
    try:
        call, value = pickle.loads(work), pickle.loads(item)  # noqa: S301  of our own run
        with one_thread():
            made = call(value, told)
        return pickle.dumps((True, made), pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001  whatever is raised is raised again where the item came from
        note = "in a worker:\n" + "".join(traceback.format_exception(error)).rstrip()
        return pickle.dumps((False, (_portable(error), note)), pickle.HIGHEST_PROTOCOL)


def result_of(name: str, outcome: bytes) -> Any:
    """What `perform` made of an item.

    Raises:
        Exception: what was raised, with the traceback of the worker as a note.
    """
    done, value = pickle.loads(outcome)  # noqa: S301  of our own run
    if done:
        return value
    error, note = value
    error.add_note(note)
    error.add_note(f"item {name!r}")
    raise error


def _portable(error: Exception) -> object:
    """What arrives as this error: itself, else one of its class and words, else its words alone."""
    for sent in (error, _Bare(type(error), str(error))):
        with suppress(Exception):
            back = pickle.loads(pickle.dumps(sent))  # noqa: S301  written in this very line
            if type(back) is type(error) and str(back) == str(error):
                return sent
    return RuntimeError(f"{type(error).__qualname__}: {error}")


class _Bare:
    """Arrives as an error of this class and these words; what else an error holds may be what cannot be sent."""

    def __init__(self, kind: type[Exception], words: str) -> None:
        self._of = kind, words

    def __reduce__(self) -> tuple[Any, ...]:
        return _bare, self._of


def _bare(kind: type[Exception], words: str) -> Exception:
    error = kind.__new__(kind)
    error.args = (words,)
    return error
