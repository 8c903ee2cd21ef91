"""The command line as a whole: exit codes, one-line errors, nothing heavy imported."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest
import typer

from flashfm import __version__, errors
from flashfm.cli import COMMANDS, main


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "flashfm", *words], capture_output=True, text=True, timeout=60)


def exit_code(*words: str) -> object:
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    return stopped.value.code or 0


def every_error(root: type[errors.FlashError] = errors.FlashError) -> list[type[errors.FlashError]]:
    return [root, *(found for child in root.__subclasses__() for found in every_error(child))]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """Returns a function that makes `flashfm fails` raise what it is given."""

    def install(error: BaseException) -> None:
        def command() -> None:
            """Fail."""
            raise error

        module = ModuleType("flashfm.cli.fails")
        module.command, module.EXAMPLE = command, ""  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "flashfm.cli.fails", module)
        monkeypatch.setitem(COMMANDS, "fails", "Fail.")

    return install


def test_version_is_printed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--help") == 0
    listed = capsys.readouterr().out
    assert [name for name in COMMANDS if name not in listed] == []


@pytest.mark.parametrize("words", [(), ("no-such-command",), ("--no-such-option",), ("data", "no-such-command")])
def test_wrong_usage_exits_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*words) == 2
    said = capsys.readouterr()
    assert "Usage:" in said.out + said.err


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_an_error_is_one_line_and_its_own_exit_code(
    kind: type[errors.FlashError], failing, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(kind("row 3: expected a number, got 'x'"))
    assert exit_code("fails") == kind.exit_code != 0
    assert capsys.readouterr().err == "flashfm: row 3: expected a number, got 'x'\n"


def test_a_bug_is_not_hidden(failing) -> None:
    failing(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        main(["fails"])


@pytest.mark.parametrize(
    ("said", "line"), [((), "flashfm: stopped\n"), (("3 of 5 are kept",), "flashfm: stopped; 3 of 5 are kept\n")]
)
def test_ctrl_c_exits_130_with_one_line(
    said: tuple[str, ...], line: str, failing, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(KeyboardInterrupt(*said))
    assert exit_code("fails") == 130
    assert capsys.readouterr() == ("", line)


def test_ctrl_c_while_a_command_is_imported_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: str) -> ModuleType:
        raise KeyboardInterrupt

    monkeypatch.setattr("importlib.import_module", interrupted)
    assert exit_code("demo") == 130
    assert capsys.readouterr() == ("", "flashfm: stopped\n")


def test_ctrl_c_as_a_signal_is_one_line() -> None:
    script = "import signal; from flashfm.cli import data, main; import flashfm.cli.printing as p;"
    script += "data.print_table = lambda *_: signal.raise_signal(signal.SIGINT); main(['data', 'list'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "flashfm: stopped\n")


def test_a_command_module_offers_app_or_command() -> None:
    from importlib import import_module

    for name in COMMANDS:
        module = import_module(f"flashfm.cli.{name}")
        assert isinstance(getattr(module, "app", None), typer.Typer) or callable(getattr(module, "command", None)), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(name, "--help") == 0
    assert "Usage:" in capsys.readouterr().out


def test_as_a_process_errors_have_no_traceback() -> None:
    done = run("no-such-command")
    assert done.returncode == 2
    assert "no-such-command" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_closed_pipe_is_no_traceback() -> None:
    piped = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m flashfm --help | true"], capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in piped.stderr
