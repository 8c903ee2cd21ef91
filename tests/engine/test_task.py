"""What travels to a worker and back: results, and errors of every kind."""

from __future__ import annotations

import pickle

import engine_items
import pytest

from flashfm.engine.task import pack, perform, result_of
from flashfm.errors import DataFormatError


def raised(error: Exception) -> Exception:
    """The error as it arrives."""
    outcome = perform(pack(engine_items.raises, "the work"), pickle.dumps(error), lambda *_: None)
    with pytest.raises(type(error)) as caught:
        result_of("a", outcome)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        DataFormatError("row 7, column cpu: expected a number, got 'much'"),
        KeyError("name"),
        FileNotFoundError(2, "No such file", "there"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_as_it_was(error: Exception) -> None:
    back = raised(error)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.__notes__[0].startswith("in a worker:\n")
    assert "Traceback" in back.__notes__[0]
    assert back.__notes__[-1] == "item 'a'"


def test_an_error_that_python_cannot_make_again_arrives_as_its_words() -> None:
    outcome = perform(pack(engine_items.raises_one_of_its_own, "the work"), pickle.dumps(0), lambda *_: None)
    with pytest.raises(RuntimeError, match=r"Own: of no module"):
        result_of("a", outcome)


def test_an_item_is_told_of_nothing_that_another_did_to_the_work() -> None:
    work, item = pack(engine_items.append, "the work"), pack([], "the item")
    first, second = (result_of("a", perform(work, item, lambda *_: None)) for _ in range(2))
    assert first == second == [0]
