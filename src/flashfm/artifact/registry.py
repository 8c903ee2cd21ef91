"""Which folder a model's name means: one that ships with the package, or a path. Looks, never loads."""

from __future__ import annotations

import difflib
import os
from importlib import resources
from pathlib import Path

from flashfm.artifact import swap
from flashfm.artifact.checkpoint import CONFIG
from flashfm.errors import ArtifactError


def shipped() -> tuple[str, ...]:
    """Names of the models that ship with the package, sorted."""
    folder = _pretrained()
    return tuple(sorted(path.name for path in folder.iterdir() if (path / CONFIG).is_file())) if folder.is_dir() else ()


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder of a model.

    Args:
        name_or_path: a path (a `Path`, text with a slash, or the name of something that exists here), otherwise the
            name of a shipped model.

    Raises:
        ArtifactError: neither; the message tells the shipped names and those that are spelt alike.
    """
    name = os.fspath(name_or_path)
    separators = [mark for mark in (os.sep, os.altsep) if mark]
    if name and (not isinstance(name_or_path, str) or any(mark in name for mark in separators) or _stands(name)):
        return Path(name)
    names = shipped()
    if name in names:
        return _pretrained() / name
    near = difflib.get_close_matches(name.lower(), names, cutoff=0.5)
    meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    ships = f"flashfm ships {', '.join(map(repr, names))}" if names else "this installation ships no model"
    raise ArtifactError(f"no model {name!r:.100}{meant}; {ships}; a folder of your own is given by its path, as ./NAME")


def _pretrained() -> Path:
    return Path(str(resources.files(__package__))) / "pretrained"


def _stands(name: str) -> bool:
    try:
        return swap.standing(name).exists()
    except (ArtifactError, OSError):
        return False
