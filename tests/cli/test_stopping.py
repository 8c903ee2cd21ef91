"""The words that an interruption is given."""

from __future__ import annotations

import pytest

from flashfm.cli.stopping import kept


def interrupted() -> None:
    with kept("all is kept"), kept("half is kept"):
        raise KeyboardInterrupt


def failed() -> None:
    with kept("all is kept"):
        raise ValueError("7")


def test_the_outermost_words_are_taken() -> None:
    with pytest.raises(KeyboardInterrupt, match=r"^all is kept$") as caught:
        interrupted()
    assert caught.value.__suppress_context__


def test_what_is_no_interruption_passes() -> None:
    with pytest.raises(ValueError, match=r"^7$"):
        failed()
