"""Finds an application by what a person types: a file, a real application, one of a seed, or a generated name.

Text in, `ApplicationSpec` out. Reads files, runs nothing, and never opens anything that the text does not name.
"""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from flashfm.applications.generator import generate_many
from flashfm.applications.segments import REAL, segment_class
from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.errors import SpecError

NAMED_SEED = 0
"""Seed whose applications can be called by name alone."""
NAMED_COUNT = 2_000
"""How many applications of `NAMED_SEED` can be called by name alone."""
MAX_INDEX = 100_000
"""Applications of one seed that `seed:S/I` reaches."""
MAX_FILE_BYTES = 4 << 20
"""Largest spec file that is read; one application takes about 300 bytes."""

_SEED = re.compile(r"seed:(0|[1-9][0-9]{0,17})/(0|[1-9][0-9]{0,17})")
_HOW = (
    "expected a spec file (FILE.json, or FILE.json#NAME where it holds several), a real application "
    f"({', '.join(REAL)}), seed:S/I, or the name of one of the first {NAMED_COUNT:,} applications of seed {NAMED_SEED}"
)


def resolve(text: str) -> ApplicationSpec:
    """The application that `text` names.

    Args:
        text: tried in this order: `seed:S/I`, application I (from 0) of seed S; a real application's name; a file with
            one application, or `FILE#NAME`, or `FILE#I`; the name of one of the first 2,000 applications of seed 0.

    Raises:
        SpecError: nothing of that name (near misses are named), or the file cannot be read or breaks the format.
    """
    if text.startswith("seed:"):
        return _of_seed(text)
    if text in REAL:
        return real_application(text)
    if _is_path(text):
        return _of_file(text)
    named = _named()
    if text in named:
        return named[text]
    near = get_close_matches(text[:100], [*REAL, *named], n=3)
    mend = f"did you mean {' or '.join(near)}?" if near else _HOW
    raise SpecError(f"application {_brief(text)}: no such file or name; {mend}")


def real_application(name: str) -> ApplicationSpec:
    """One of the four hand-written applications, with its standard sizes.

    Raises:
        SpecError: no such application.
    """
    if name not in REAL:
        raise SpecError(f"real application {_brief(name)} is unknown; expected one of {', '.join(REAL)}")
    return ApplicationSpec(name, (SegmentSpec(name, segment_class(name).example()),))


def load(path: Path) -> list[ApplicationSpec]:
    """All applications of a JSON file, which holds one object or a list of them.

    Raises:
        SpecError: the file is absent, unreadable, too large, no JSON or breaks the format.
    """
    where = f"spec file {_brief(str(path))}"
    try:
        if path.is_dir():
            raise SpecError(f"{where}: is a directory; expected a JSON file, such as `flashfm apps generate` writes")
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SpecError(f"{where}: cannot be read: {reason}; expected a JSON file") from None
    if len(raw) > MAX_FILE_BYTES:
        raise SpecError(f"{where}: is larger than {MAX_FILE_BYTES:,} bytes; expected applications as JSON")
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{where}: is not JSON ({_brief(str(error))}); expected an application or a list") from None
    items = data if isinstance(data, list) else [data]
    if not items:
        raise SpecError(f"{where}: is an empty list; expected at least one application")
    found = []
    for i, item in enumerate(items):
        try:
            found.append(ApplicationSpec.from_dict(item))
        except SpecError as error:
            raise SpecError(f"{where}{f', entry {i}' if data is items else ''}: {error}") from None
    return found


def _of_seed(text: str) -> ApplicationSpec:
    match = _SEED.fullmatch(text)
    if match is None:
        raise SpecError(f"application {_brief(text)}: expected seed:S/I with whole numbers, such as seed:0/3")
    seed, index = (int(group) for group in match.groups())
    if index >= MAX_INDEX:
        raise SpecError(f"application {_brief(text)}: index {index} is out of range; expected 0 to {MAX_INDEX - 1}")
    if seed == NAMED_SEED and index < NAMED_COUNT:
        return list(_named().values())[index]
    return generate_many(seed, index + 1)[index]


def _of_file(text: str) -> ApplicationSpec:
    name, mark, part = text.rpartition("#") if "#" in text and not _exists(text) else (text, "", "")
    found = load(Path(name))
    if not mark:
        if len(found) == 1:
            return found[0]
        raise SpecError(
            f"spec file {_brief(name)}: holds {len(found)} applications; "
            f"choose one, as {name}#{found[0].name} or {name}#0"
        )
    chosen = [spec for spec in found if spec.name == part]
    if not chosen and part.isascii() and part.isdigit() and len(part) <= 6 and int(part) < len(found):
        chosen = [found[int(part)]]
    if len(chosen) != 1:
        near = get_close_matches(part, [spec.name for spec in found], n=3)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        raise SpecError(
            f"spec file {_brief(name)}: {len(chosen)} applications named {_brief(part)}, expected one{meant}; "
            f"the file holds {len(found)}, by name or as #0 to #{len(found) - 1}"
        )
    return chosen[0]


def _is_path(text: str) -> bool:
    """True for what looks like a file or is one; a name that is not there falls through to the generated ones."""
    return "/" in text or ".json" in text or _exists(text)


def _exists(text: str) -> bool:
    try:
        return text != "" and Path(text).exists()
    except (OSError, ValueError):
        return False


@cache
def _named() -> dict[str, ApplicationSpec]:
    return {spec.name: spec for spec in generate_many(NAMED_SEED, NAMED_COUNT)}


def _brief(value: str) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
