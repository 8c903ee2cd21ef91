"""The `flashfm` command: one sub-command a stage, each in a module of its own that is imported only when it is called.

A module `flashfm.cli.NAME` offers either `app`, a `typer.Typer` with sub-commands, or `command`, one function.
Ctrl-C ends every command with one line, "stopped", and what is kept where the command tells it: `flashfm.cli.stopping`.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

from flashfm import __version__
from flashfm.errors import FlashError

COMMANDS: dict[str, str] = {
    "apps": "Generate, run, serve, patch and package applications.",
    "data": "List, fetch and look at data sets.",
    "measure": "Measure applications under CPU and memory limits.",
    "pretrain": "Pretrain a model on many applications, measured or simulated.",
    "adapt": "Adapt a model to one application from its measurements, and keep the result.",
    "predict": "Predict the run time of an application in all configurations.",
    "recommend": "Recommend a configuration, with reasons.",
    "embed": "Map applications by their embeddings.",
    "simulate": "Simulate an autoscaled application for a day: the pretrained agent beside HPA and VPA.",
    "autoscale": "Scale applications live, here under load or in Kubernetes, and show what is managed and why.",
    "reproduce": "Reproduce data sets, tables and figures.",
    "demo": "Predict and recommend for four real applications from one measurement each.",
}
"""Sub-command -> its line in `flashfm --help`."""

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; SystemExit with 0, the error's `exit_code`, 2 for wrong usage, or 130 after Ctrl-C."""
    try:
        _run(arguments)
    except FlashError as error:
        print(f"flashfm: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt as interrupt:
        _stop(interrupt)
    except SystemExit as ended:
        if ended.code != INTERRUPTED:
            raise
        _stop(ended)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def _run(arguments: list[str] | None) -> None:
    import typer

    words = sys.argv[1:] if arguments is None else arguments
    called = next((word for word in words if not word.startswith("-")), None)
    root = typer.Typer(
        name="flashfm",
        help="Foundation models for managing cloud systems: real measurements, configuration search, autoscaling.",
        epilog="Example: flashfm measure --check",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @root.callback(invoke_without_command=True)
    def version(show: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
        if show:
            typer.echo(__version__)
            raise typer.Exit

    for name, line in COMMANDS.items():
        module = importlib.import_module(f"flashfm.cli.{name}") if name == called else None
        if module is None:
            root.command(name, help=line)(_not_called)
        elif hasattr(module, "app"):
            root.add_typer(module.app, name=name, help=line, no_args_is_help=True)
        else:
            root.command(name, epilog=module.EXAMPLE)(module.command)
    root(args=words)


def _stop(cause: BaseException) -> NoReturn:
    """Say that the command was stopped, in the words of the interruption, which typer turns into an exit of its own."""
    interrupt: BaseException | None = cause
    while interrupt is not None and not isinstance(interrupt, KeyboardInterrupt):
        interrupt = interrupt.__cause__ or interrupt.__context__
    print("flashfm: stopped" + (f"; {interrupt}" if str(interrupt or "") else ""), file=sys.stderr)
    raise SystemExit(INTERRUPTED) from None


def _not_called() -> None:
    """Stands in `flashfm --help` for a command whose module is not imported."""
