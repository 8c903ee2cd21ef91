"""Which of flashfm's own files a package carries, found by following imports. Reads this package's sources only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import flashfm
from flashfm.applications.packaging.artefacts import Files
from flashfm.applications.runtime import Application
from flashfm.applications.segments import segment_class
from flashfm.applications.spec import ApplicationSpec
from flashfm.errors import PackagingError

_ROOT = Path(flashfm.__file__).parent
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(\[[a-z,]+\])?([^;]*)(;.*)?")


def function_files(spec: ApplicationSpec) -> Files:
    """The files under `flashfm/` that a packaged function imports; they need no other library at import."""
    return _closure(["flashfm.applications.handler", *segment_modules(spec)])


def server_files(spec: ApplicationSpec) -> Files:
    """The files under `flashfm/` that `flashfm apps` needs, with every segment and real application."""
    everything = sorted(
        ".".join(("flashfm", *path.relative_to(_ROOT).with_suffix("").parts))
        for folder in ("applications/segments", "applications/real")
        for path in (_ROOT / folder).glob("*.py")
    )
    roots = ["flashfm.__main__", "flashfm.cli.apps", "flashfm.applications.aws_server", *segment_modules(spec)]
    return _closure([*roots, *everything])


def segment_modules(spec: ApplicationSpec) -> list[str]:
    """The modules that define the spec's segments."""
    return sorted({segment_class(part.kind).__module__ for part in spec.segments})


def requirements(spec: ApplicationSpec, *more: str) -> list[str]:
    """Lines of a requirements.txt: what the spec's segments import, and `more`, in versions that flashfm works with."""
    known = _known_versions()
    return sorted({known.get(name, name) for name in (*Application.requirements(spec), *more)})


@cache
def _known_versions() -> dict[str, str]:
    """Distribution -> requirement with its version range, from flashfm's own metadata, where it is installed."""
    try:
        lines = metadata.requires("flashfm") or []
    except metadata.PackageNotFoundError:
        return {}
    found = {}
    for line in lines:
        match = _REQUIREMENT.fullmatch(line)
        if match and "extra" not in (match[4] or ""):
            found[match[1].lower().replace("_", "-")] = "".join(part.strip() for part in match.groups("")[:3])
    return found


def _closure(roots: Iterable[str]) -> Files:
    """Sources of modules, of everything of flashfm that they import, and of the packages around both."""
    files: Files = {"flashfm/__init__.py": _stub()}
    waiting, seen = list(roots), {"flashfm"}
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        path, content, imports = _module(name)
        files[path] = content
        waiting += [name.rpartition(".")[0], *imports]
    return dict(sorted(files.items()))


@cache
def _module(name: str) -> tuple[str, bytes, tuple[str, ...]]:
    """Path in a package, source and imports of a module of flashfm."""
    path = _source(name)
    if path is None:
        raise PackagingError(f"package: the source of {name} is not in {_ROOT}; reinstall flashfm")
    content = path.read_bytes()
    return f"flashfm/{path.relative_to(_ROOT).as_posix()}", content, tuple(_imports(ast.parse(content)))


def _stub() -> bytes:
    """`flashfm/__init__.py` of a package: the real one may offer more than is packaged."""
    return f'"""The part of flashfm that this package runs."""\n\n__version__ = "{flashfm.__version__}"\n'.encode()


def _source(name: str) -> Path | None:
    base = _ROOT.joinpath(*name.split(".")[1:])
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _imports(tree: ast.AST) -> Iterator[str]:
    """Modules of flashfm that a source imports anywhere but for type checkers."""
    if isinstance(tree, ast.If) and isinstance(tree.test, ast.Name) and tree.test.id == "TYPE_CHECKING":
        return
    if isinstance(tree, ast.Import):
        yield from (alias.name for alias in tree.names if alias.name.startswith("flashfm."))
    if isinstance(tree, ast.ImportFrom) and tree.level == 0 and (tree.module or "").split(".")[0] == "flashfm":
        module = str(tree.module)
        yield module
        yield from (f"{module}.{alias.name}" for alias in tree.names if _source(f"{module}.{alias.name}"))
    for child in ast.iter_child_nodes(tree):
        yield from _imports(child)
