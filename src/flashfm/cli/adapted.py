"""From what a command is given to a model adapted to one pair: a file of shots, or a folder that `flashfm adapt` wrote.

The folder holds `adapted.json`: `format`, `format_version`, `flashfm_version`, `model` (a name or an absolute path),
`config_sha256` (of that model's config.json, which pins its tensors), `fine_tuned`, `check_units` and `shots`, the rows
as they were read. Where gradient steps were taken it is also the folder of the tuned model itself. It is written whole
or not at all, and read strictly.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

import flashfm
from flashfm.errors import ArtifactError, DataError, DataFormatError, ModelError, ShotsError

if TYPE_CHECKING:
    import pandas as pd

    from flashfm.adapt.adapted import AdaptedRegressor
    from flashfm.adapt.fewshot import FlashRegressor
    from flashfm.datasets.schema import Origin

DEFAULT_MODEL = "serverless-memory"
FILE, FORMAT, VERSION = "adapted.json", "flashfm-adapted", 1
MAX_BYTES = 4 * 2**20
_FIELDS = {
    "format": str,
    "format_version": int,
    "flashfm_version": str,
    "model": str,
    "config_sha256": str,
    "fine_tuned": bool,
    "check_units": bool,
    "shots": list,
}
_AGAIN = "adapt again: flashfm adapt"

Shots = typer.Argument(
    metavar="SHOTS|FOLDER",
    help="A .csv or .parquet file with the measured rows of one application, or a folder from `flashfm adapt`.",
    show_default=False,
)
Model = typer.Option(None, "--model", help=f"A model's name or folder [{DEFAULT_MODEL}].", show_default=False)
App = typer.Option(None, "--app", help="The application, where the file has several.")
Platform = typer.Option(None, "--platform", help="The platform, where the file has several.")
Target = typer.Option("runtime_ms", "--target", help="Column of the run time in milliseconds.")
PairColumn = typer.Option("app", "--pair-column", help="Column of the application's name; it may be absent.")
PlatformColumn = typer.Option("platform", "--platform-column", help="Column of the platform; it may be absent.")
CheckUnits = typer.Option(True, help="Refuse run times that look like another unit.")
Json = typer.Option(False, "--json", help="Print JSON instead of a table.")


@dataclass(frozen=True)
class ShotsFile:
    """Which rows of which file are the shots, as options say it."""

    path: Path | None
    """None is K = 0."""
    app: str | None = None
    platform: str | None = None
    target: str = "runtime_ms"
    pair_column: str = "app"
    platform_column: str = "platform"
    check_units: bool = True


@dataclass(frozen=True)
class Answering:
    """A model adapted to one pair, and where it came from."""

    model: FlashRegressor
    adapted: AdaptedRegressor
    reference: str
    """Name or path of the model that was adapted."""
    fine_tuned: bool
    rows: pd.DataFrame | None
    """The shots as they were read; None where K = 0."""


def answering(given: ShotsFile, model: str | None, *, fine_tune: bool | None = None) -> Answering:
    """Adapt to what a command was given.

    Args:
        given: a file of shots, a folder of `flashfm adapt`, or nothing.
        model: name or folder; None is `DEFAULT_MODEL`, or the one that the folder names.
        fine_tune: as for `FlashRegressor.adapt`.

    Raises:
        ShotsError, DataError: the file, or a row of it.
        ArtifactError: the model, or the folder.
    """
    from flashfm.adapt.fewshot import FlashRegressor

    if given.path is not None and given.path.is_dir():
        if model is not None or given.app is not None or given.platform is not None:
            raise ModelError(f"{given.path} is adapted already: leave out --model, --app and --platform")
        return load(given.path)
    reference = model or DEFAULT_MODEL
    loaded = FlashRegressor.from_pretrained(reference)
    rows = None if given.path is None else read_rows(given, loaded)
    adapted = loaded.adapt(rows, fine_tune=fine_tune, check_units=given.check_units)
    return Answering(loaded, adapted, reference, adapted.fine_tuned, rows)


def read_rows(given: ShotsFile, model: FlashRegressor) -> pd.DataFrame:
    """The shots of a file under our column names, checked against the schema of measurement tables.

    Raises:
        ShotsError: rows of several pairs and none was chosen, or no row of the chosen one.
        DataFormatError: the file breaks the schema.
    """
    from flashfm.datasets.files import read_raw
    from flashfm.datasets.schema import checked

    assert given.path is not None
    frame, origin, _ = read_raw(given.path)
    for option, column, ours in (
        ("--target", given.target, "runtime_ms"),
        ("--pair-column", given.pair_column, "app"),
        ("--platform-column", given.platform_column, "platform"),
    ):
        if column != ours:
            if column not in frame:
                got = ", ".join(map(str, frame.columns[:12]))
                raise DataFormatError(f"{given.path}: no column {column!r} as you named it in {option}, got {got}")
            frame = frame.drop(columns=ours, errors="ignore").rename(columns={column: ours})
    frame, origin = _of_pair(given, frame, origin)
    texts = [column.name for column in model.model.space.columns if column.levels and column.name in frame]
    present = [name for name in model.config_columns if name in frame and frame[name].notna().any()]
    if not present:
        wanted, got = ", ".join(model.config_columns), ", ".join(map(str, frame.columns[:12]))
        raise ShotsError(f"{given.path}: none of the model's configuration columns ({wanted}), got {got}")
    named = "app" in frame
    canonical, _ = checked(frame if named else frame.assign(app="unnamed"), present, origin)
    return canonical.drop(columns=[] if named else ["app"]).assign(
        **{name: frame[name].reset_index(drop=True) for name in texts}
    )


def _of_pair(given: ShotsFile, frame: pd.DataFrame, origin: Origin) -> tuple[pd.DataFrame, Origin]:
    """The rows of the chosen pair; where there is but one, it need not be chosen."""
    for option, column, words, asked in (
        ("--app", "app", "application", given.app),
        ("--platform", "platform", "platform", given.platform),
    ):
        names = frame[column].dropna().astype(str).unique().tolist() if column in frame else []
        some = ", ".join(map(repr, names[:4])) + ", …" * (len(names) > 4)
        if asked is not None and asked not in names:
            got = f"got {some}" if names else f"the file has no column {column!r}"
            raise ShotsError(f"{given.path}: no row of {words} {asked!r}; {got}")
        if asked is None and len(names) > 1:
            raise ShotsError(
                f"{given.path}: expected rows of one {words}, got {len(names)} ({some}); choose one with {option}"
            )
        if asked is not None:
            chosen = (frame[column].astype(str) == asked).to_numpy().nonzero()[0].tolist()
            before = origin.chosen
            origin = origin.of_rows(chosen if before is None else [before[i] for i in chosen])
            frame = frame.iloc[chosen].reset_index(drop=True)
    return frame, origin


def save(folder: Path, answer: Answering, *, check_units: bool) -> None:
    """Write what `load` needs to answer later.

    Raises:
        ArtifactError: the folder holds something else or cannot be written.
    """
    from flashfm.adapt.fewshot import FlashRegressor
    from flashfm.artifact import checkpoint, registry, swap

    place = swap.place(folder)
    source = registry.resolve(answer.reference)
    shipped = answer.reference in registry.shipped() and source != Path(answer.reference)
    rows = [] if answer.rows is None else json.loads(answer.rows.to_json(orient="records", double_precision=15))
    header = {
        "format": FORMAT,
        "format_version": VERSION,
        "flashfm_version": flashfm.__version__,
        "model": answer.reference if shipped else str(source.resolve()),
        "config_sha256": _sha256(swap.standing(source) / checkpoint.CONFIG),
        "fine_tuned": answer.fine_tuned,
        "check_units": check_units,
        "shots": [{name: value for name, value in row.items() if value is not None} for row in rows],
    }
    files = {FILE: json.dumps(header, indent=1).encode() + b"\n"}
    if answer.fine_tuned:
        with tempfile.TemporaryDirectory() as scratch:
            tuned = Path(scratch) / "model"
            FlashRegressor(answer.adapted.model, answer.model.card).save_pretrained(tuned)
            files |= {path.name: path.read_bytes() for path in tuned.iterdir()}
    try:
        swap.put(place, files, replaceable=_is_adapted_alone)
    except (OSError, DataError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ArtifactError(f"{folder}: cannot be written: {reason}; what was there is unharmed") from None


def load(folder: Path) -> Answering:
    """Adapt again from what `save` wrote; nothing is trained.

    Raises:
        ArtifactError: not such a folder, damaged, of a later version, or its model is gone or another one now.
    """
    import pandas as pd

    from flashfm.adapt.fewshot import FlashRegressor
    from flashfm.artifact import checkpoint, registry, swap

    header = _header(folder)
    if header["fine_tuned"]:
        loaded = FlashRegressor.from_pretrained(folder.resolve())
    else:
        source = registry.resolve(header["model"])
        loaded = FlashRegressor.from_pretrained(header["model"])
        if _sha256(swap.standing(source) / checkpoint.CONFIG) != header["config_sha256"]:
            _refuse(folder / FILE, f"model {header['model']} is not the one that was adapted; it was replaced since")
    rows = pd.DataFrame(header["shots"]) if header["shots"] else None
    adapted = loaded.adapt(rows, fine_tune=False, check_units=header["check_units"])
    return Answering(loaded, adapted, header["model"], header["fine_tuned"], rows)


def _header(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                _refuse(path, f"more than {MAX_BYTES} bytes; expected what flashfm adapt writes")
            header = json.loads(file.read(MAX_BYTES + 1))
    except FileNotFoundError:
        mend = "a model's own folder is given by --model" if (folder / "config.json").exists() else _AGAIN
        raise ArtifactError(f"{path}: no such file; expected a folder that flashfm adapt wrote; {mend}") from None
    except OSError as error:
        _refuse(path, f"cannot be read: {error.strerror or error}")
    except (ValueError, RecursionError):
        _refuse(path, "not JSON, damaged or cut short")
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        _refuse(path, f"expected format {FORMAT!r}")
    version = header.get("format_version")
    if type(version) is int and version > VERSION:
        raise ArtifactError(
            f"{path}: format version {version}, known {VERSION}; upgrade: pip install --upgrade flashfm"
        )
    wrong = next((f for f in (*_FIELDS, *header) if (f in header) != (f in _FIELDS)), None)
    if wrong is not None:
        _refuse(path, f"field {wrong!r:.60} is {'unknown' if wrong in header else 'missing'}")
    for field, expected in _FIELDS.items():
        if type(header[field]) is not expected:
            _refuse(path, f"field {field!r}: expected {expected.__name__}, got {type(header[field]).__name__}")
    rows = header["shots"]
    if not all(isinstance(row, dict) and all(isinstance(v, str | int | float) for v in row.values()) for row in rows):
        _refuse(path, "field 'shots': expected rows of numbers and texts")
    return header


def _is_adapted_alone(folder: Path) -> None:
    """Refuse a folder of which more than an adapted model would be lost by replacing it."""
    from flashfm.artifact import checkpoint

    ours = {FILE, checkpoint.CONFIG, checkpoint.TENSORS, checkpoint.CARD}
    others = sorted(path.name for path in folder.iterdir() if path.name not in ours)
    if others or not (folder / FILE).is_file():
        held = f"holds {others[0]!r:.80}" if others else "holds a model"
        raise ArtifactError(f"{folder}: {held} and is left alone; choose another --out, or remove it yourself")


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror or error}") from None


def _refuse(path: Path, problem: str) -> NoReturn:
    raise ArtifactError(f"{path}: {problem}; {_AGAIN}")
