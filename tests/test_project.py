"""What the project says about itself holds: imports stay light, documents name commands that exist, pins are whole."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import typer.main

import flashfm
from flashfm.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
HEAVY = ("torch", "pandas", "matplotlib", "boto3", "kubernetes", "ray", "moto", "pandera", "pyarrow")

# -- imports ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement", ["import flashfm", "from flashfm.cli import main; main(['--help'])"], ids=["package", "help"]
)
def test_imports_stay_light(statement: str) -> None:
    script = f"import sys\ntry:\n    {statement}\nexcept SystemExit: pass\n"
    script += f"print('loaded:', *(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1].strip() == "loaded:"


@pytest.mark.parametrize("package", ["applications", "measurements", "datasets"])
def test_no_module_that_makes_or_keeps_data_needs_torch(package: str) -> None:
    inner = [path for path in SOURCES if package in path.parts and path.name != "__main__.py"]
    names = [".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in inner]
    script = "import importlib, sys\nsys.modules['torch'] = None\n"
    script += f"for name in {names!r}: importlib.import_module(name.removesuffix('.__init__'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# -- documents -------------------------------------------------------------------------------------------------------


def shell_lines(document: Path) -> list[str]:
    """Lines of a document's shell examples, continuation lines joined."""
    blocks = re.findall(r"^```(?:sh|bash|shell|console)\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    return [line.strip().removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def commands_shown() -> list[tuple[str, str]]:
    return [
        (document.name, line)
        for document in DOCUMENTS
        for line in shell_lines(document)
        if line.startswith(("flashfm ", "make "))
    ]


@pytest.mark.parametrize(("document", "line"), commands_shown(), ids=lambda value: value)
def test_documents_name_commands_and_options_that_exist(document: str, line: str) -> None:
    program, first, *words = shlex.split(line, comments=True)
    if program == "make":
        assert re.search(rf"^{re.escape(first)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
        return
    if first in ("--version", "--help"):
        return
    assert first in COMMANDS
    module = import_module(f"flashfm.cli.{first}")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer()
        app.command()(module.command)
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not getattr(command, "commands", {}), f"{line!r} names no sub-command of {first}"
    known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    asked = {word.split("=")[0] for word in words if re.match(r"-\w|--\w", word)}
    assert asked <= known | {"--help"}


def test_the_readme_is_short_and_shows_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 120
    assert {"make demo", "make test"} <= {line.split("#")[0].strip() for line in shell_lines(ROOT / "README.md")}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_pictures_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
    broken = [t for t in targets if "://" not in t and not (document.parent / t).exists()]
    assert broken == []


def api_modules() -> list[str]:
    return re.findall(r"automodule:: (\S+)", (ROOT / "docs" / "api.md").read_text())


def test_documents_and_examples_import_only_what_the_api_page_documents() -> None:
    texts = [path.read_text() for path in [*DOCUMENTS, *(ROOT / "examples").glob("*.py")]]
    imported = {
        name for text in texts for name in re.findall(r"^\s*(?:from|import) (flashfm\.\S+)", text, re.MULTILINE)
    }
    assert imported, "expected some example to import something"
    assert sorted(imported - set(api_modules())) == []


@pytest.mark.parametrize("name", api_modules())
def test_every_public_name_is_documented(name: str) -> None:
    module = import_module(name)
    own = [value for key, value in vars(module).items() if not key.startswith("_") and hasattr(value, "__module__")]
    bare = [value.__qualname__ for value in own if value.__module__ == name and not value.__doc__]
    assert bare == []


# -- sources ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "expected a module docstring"


def test_the_changelog_speaks_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert flashfm.__version__ in text
    assert "## [Unreleased]" in text


def test_every_direct_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in wanted}  # type: ignore[index]
    pins = re.findall(r"^([\w.-]+)==\S+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert sorted(names - {pin.lower() for pin in pins}) == []
