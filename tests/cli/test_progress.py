"""The bar on standard error: there for people, absent for pipes and machines."""

from __future__ import annotations

import io
import sys

import pytest

from flashfm.cli.progress import progress_bar


class Terminal(io.StringIO):
    """Standard error that somebody looks at."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Terminal()
    monkeypatch.setattr(sys, "stderr", seen)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("pretraining", quiet=False) as told:
        told(3, 10)
        told(10, 10)
    assert "pretraining" in seen.getvalue()
    assert "left" in seen.getvalue()
    assert seen.getvalue().endswith(("\x1b[2K", "\x1b[?25h"))


@pytest.mark.parametrize(("terminal", "quiet"), [(True, True), (False, False)], ids=["quiet", "a pipe"])
def test_nobody_else_does(monkeypatch: pytest.MonkeyPatch, terminal: bool, quiet: bool) -> None:
    seen = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", seen)
    with progress_bar("pretraining", quiet=quiet) as told:
        told(1, 2)
    assert seen.getvalue() == ""


def interrupted() -> None:
    with progress_bar("pretraining", quiet=False) as told:
        told(1, 2)
        raise KeyboardInterrupt


def test_an_interruption_passes_through_and_the_cursor_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Terminal()
    monkeypatch.setattr(sys, "stderr", seen)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert seen.getvalue().rfind("\x1b[?25h") > seen.getvalue().rfind("\x1b[?25l")
