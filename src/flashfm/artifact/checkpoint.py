"""A saved model: a folder with `config.json`, `model.safetensors` and `README.md`. Tensors and JSON in, the same out.

`config.json` holds `format`, `format_version`, `kind`, `flashfm_version`, `config` (the caller's), `tensors` (dtype and
shape of each), `sha256` (of `model.safetensors`) and `header_sha256` (of all fields before it). Saving is whole or not
at all, also under `kill -9`. Loading trusts nothing: sizes are known before memory is taken, no field names a path, no
pickle is read, and every way in which a folder can be wrong ends as an ArtifactError of one line.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Shaped

import flashfm
from flashfm.artifact import swap
from flashfm.errors import ArtifactError, DataError

FORMAT = "flashfm"
VERSION = 1
"""Version of the folder's layout; a folder with a later one is refused."""
CONFIG, TENSORS, CARD = "config.json", "model.safetensors", "README.md"
MAX_BYTES = {CONFIG: 4 * 2**20, TENSORS: 512 * 2**20, CARD: 4 * 2**20}
"""What each file may weigh; a larger one is refused unread."""
DTYPES = ("bool", "float16", "float32", "float64", *(f"{s}int{n}" for s in ("", "u") for n in (8, 16, 32, 64)))
"""Types that a tensor may have, under numpy's names."""
_MAX_AXES = 32
_FIELDS = ("format", "format_version", "kind", "flashfm_version", "config", "tensors", "sha256", "header_sha256")
_PICKLES = (".bin", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib")
_AGAIN = "copy the folder again or pretrain the model anew"

Array = Shaped[np.ndarray, "..."]


@dataclass(frozen=True)
class Saved:
    """What a model's folder holds."""

    config: dict[str, Any]
    """The caller's JSON object."""
    tensors: dict[str, Array]
    """Writable arrays of the saved dtypes and shapes."""
    card: str
    """The model card, Markdown."""


def save(
    folder: Path | str,
    *,
    kind: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, Array],
    card: str,
    allow_nan: Collection[str] = frozenset(),
) -> None:
    """Write a model as a folder, replacing the model that was there as a whole; the same input gives the same bytes.

    Args:
        folder: where; parents are made. It may exist if it is empty or holds a model and nothing else.
        kind: what the model is for, as "config-search"; `load` must be asked for the same.
        config: plain JSON values; tuples become lists.
        tensors: arrays of `DTYPES`, of any shape, by a printable name of at most 200 characters.
        card: text of `README.md`.
        allow_nan: names of the tensors in which NaN means "absent".

    Raises:
        ArtifactError: the folder holds something else or cannot be written, or the model is not one that `load` would
            accept. What was there before is unharmed.
    """
    place = swap.place(folder)
    table = {name: _entry(place, name, tensor) for name, tensor in tensors.items()}
    _check_table(place, table)
    for name, tensor in tensors.items():
        _check_finite(place, name, tensor, name in allow_nan)
    plain = {name: np.array(x, dtype=x.dtype.newbyteorder("<"), order="C") for name, x in tensors.items()}
    content = safetensors.numpy.save(plain, metadata={"format": FORMAT})
    try:
        header: dict[str, Any] = {
            "format": FORMAT,
            "format_version": VERSION,
            "kind": kind,
            "flashfm_version": flashfm.__version__,
            "config": _plain_json(place, "config", config),
            "tensors": table,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        header["header_sha256"] = _digest(header)
        files = {
            CONFIG: json.dumps(header, indent=1, allow_nan=False).encode() + b"\n",
            TENSORS: content,
            CARD: card.encode(),
        }
    except (ValueError, RecursionError) as error:
        _refuse(
            place, f"cannot save: {_first_line(error)}", "give a card of Unicode text and a config that is not deep"
        )
    for name, written in files.items():
        if len(written) > MAX_BYTES[name]:
            _refuse(place / name, f"would have {len(written)} bytes, at most {MAX_BYTES[name]} allowed", "save less")
    try:
        swap.put(place, files, replaceable=_is_model_alone)
    except (OSError, DataError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ArtifactError(f"{place}: cannot save the model: {reason}; what was there is unharmed") from None


def load(folder: Path | str, *, kind: str, allow_nan: Collection[str] = frozenset()) -> Saved:
    """Read a model's folder.

    Args:
        folder: what `save` wrote, or a copy of it.
        kind: what the caller can use.
        allow_nan: names of the tensors that may hold NaN; infinite values are refused everywhere.

    Raises:
        ArtifactError: not a model's folder, damaged, cut short, foreign, of a later version or of another kind.
    """
    try:
        try:
            return _load(swap.standing(folder), kind, allow_nan)
        except (ArtifactError, OSError):  # another process may have saved here while this one read
            with swap.steady(folder):
                return _load(swap.standing(folder), kind, allow_nan)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be read: {error.strerror or error}; check its permissions") from None


def _load(folder: Path, kind: str, allow_nan: Collection[str]) -> Saved:
    if not folder.is_dir():
        got = "a file" if folder.exists() else "no such folder"
        _refuse(folder, f"expected a model's folder, got {got}", "give the folder that holds config.json")
    header = _header(folder)
    if header["kind"] != kind:
        _refuse(folder, f"holds a model of kind {header['kind']!r:.60}, expected {kind!r}", "give a model of that kind")
    path = folder / TENSORS
    least = sum(_nbytes(entry) for entry in header["tensors"].values())
    content = _read(folder, TENSORS, least)
    if hashlib.sha256(content).hexdigest() != header["sha256"]:
        _refuse(path, "its SHA-256 is not the one in config.json: damaged, cut short or of another model", _AGAIN)
    tensors = _tensors(path, content, header["tensors"])
    for name, tensor in tensors.items():
        _check_finite(path, name, tensor, name in allow_nan)
    try:
        card = _read(folder, CARD).decode()
    except UnicodeDecodeError as error:
        _refuse(folder / CARD, f"not UTF-8 text (byte {error.start})", "save it as UTF-8")
    return Saved(header["config"], tensors, card)


def _header(folder: Path) -> dict[str, Any]:
    """`config.json`, every field checked."""
    path = folder / CONFIG
    text = _read(folder, CONFIG)
    try:
        header = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_doubles)
    except (ValueError, RecursionError) as error:
        _refuse(path, f"not JSON, damaged or cut short: {_first_line(error)}", _AGAIN)
    if not isinstance(header, dict):
        _refuse(path, f"expected a JSON object, got {type(header).__name__}", "give the folder of a flashfm model")
    if header.get("format") != FORMAT:
        known = {"transformers_version", "architectures", "model_type"} & header.keys()
        got = "a Hugging Face transformers model" if known else "no such field"
        got = got if "format" not in header else repr(header["format"])[:60]
        _refuse(path, f"not a flashfm model: expected format {FORMAT!r}, got {got}", "give one that flashfm saved")
    version = header.get("format_version")
    if type(version) is int and version > VERSION:
        written = f"written by a later flashfm (format_version {version!s:.20}, known {VERSION})"
        _refuse(path, written, "upgrade: pip install --upgrade flashfm")
    if type(version) is not int or version < 1:
        _refuse(path, f"expected format_version from 1 to {VERSION}, got {version!r:.60}", _AGAIN)
    wrong = next(iter([*(f for f in _FIELDS if f not in header), *(f for f in header if f not in _FIELDS)]), None)
    if wrong is not None:
        _refuse(path, f"field {wrong!r:.60} is {'unknown' if wrong in header else 'missing'}", _AGAIN)
    try:
        digest = _digest({field: header[field] for field in _FIELDS[:-1]})
    except (ValueError, RecursionError) as error:
        _refuse(path, f"damaged: {error}", _AGAIN)
    if digest != header["header_sha256"]:
        _refuse(path, "its fields do not have the SHA-256 in header_sha256: damaged or edited", _AGAIN)
    for field, expected in {
        "kind": str,
        "flashfm_version": str,
        "config": dict,
        "tensors": dict,
        "sha256": str,
    }.items():
        if not isinstance(header[field], expected):
            got = type(header[field]).__name__
            _refuse(path, f"field {field!r}: expected {expected.__name__}, got {got}", _AGAIN)
    _check_table(path, header["tensors"])
    return header


def _read(folder: Path, name: str, least: int = 0) -> bytes:
    """Content of one of the folder's three files, of `least` to `MAX_BYTES` bytes."""
    path, most = folder / name, MAX_BYTES[name]
    if not path.is_file():
        found = sorted(other.name for other in folder.iterdir())
        pickles = [other for other in found if other.lower().endswith(_PICKLES)]
        if path.exists():
            _refuse(path, "not a regular file", _AGAIN)
        if pickles and name != CARD:
            why = f"no such file; {pickles[0]!r} is of a kind that may hold a pickle, and flashfm never reads pickles"
            _refuse(path, why, "give a folder that flashfm saved")
        _refuse(path, "no such file", "give a folder that flashfm saved" if name == CONFIG else _AGAIN)
    with path.open("rb") as file:
        if (size := os.fstat(file.fileno()).st_size) > most:
            _refuse(path, f"has {size} bytes, at most {most} are read", "give a folder that flashfm saved")
        content = file.read(most + 1)
    if not least <= len(content) <= most:
        _refuse(path, f"cut short: {len(content)} bytes, its tensors alone need {least}", _AGAIN)
    return content


def _tensors(path: Path, content: bytes, table: Mapping[str, Any]) -> dict[str, Array]:
    """The tensors of `model.safetensors`, exactly those that `table` tells."""
    try:
        found = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        _refuse(path, f"not a safetensors file, damaged or cut short: {_first_line(error)}", _AGAIN)
    if strange := sorted(found.keys() ^ table.keys()):
        problem = "is missing" if strange[0] in table else "is not told of in config.json"
        _refuse(path, f"tensor {strange[0]!r:.80} {problem}", _AGAIN)
    for name, tensor in found.items():
        expected = (table[name]["dtype"], tuple(table[name]["shape"]))
        if (tensor.dtype.name, tensor.shape) != expected:
            got = f"{tensor.dtype.name} {tensor.shape}"
            _refuse(path, f"tensor {name!r}: expected {expected[0]} {expected[1]} as in config.json, got {got}", _AGAIN)
    return {name: found[name] if found[name].flags.writeable else found[name].copy() for name in table}


def _check_table(path: Path, table: Mapping[str, Any]) -> None:
    """Refuse a table of tensors that is malformed, or whose tensors no file of the allowed size can hold."""
    total = 0
    for name, entry in table.items():
        if not (name and name.isprintable() and len(name) <= 200 and name != "__metadata__"):
            _refuse(path, f"tensor name {name!r:.80}: expected 1 to 200 printable characters", "rename it")
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape"}:
            _refuse(path, f"tensor {name!r}: expected its dtype and shape, got {entry!r:.60}", _AGAIN)
        if entry["dtype"] not in DTYPES:
            allowed = ", ".join(DTYPES)
            _refuse(path, f"tensor {name!r}: dtype {entry['dtype']!r:.60}, expected one of {allowed}", "convert it")
        shape = entry["shape"]
        whole = isinstance(shape, list) and all(type(n) is int and 0 <= n <= MAX_BYTES[TENSORS] for n in shape)
        if not whole or len(shape) > _MAX_AXES or math.prod(max(n, 1) for n in shape) > MAX_BYTES[TENSORS]:
            most = f"at most {_MAX_AXES} axes and {MAX_BYTES[TENSORS]} entries"
            _refuse(path, f"tensor {name!r}: expected a shape of {most}, got {shape!r:.60}", _AGAIN)
        total += _nbytes(entry)
    if total > MAX_BYTES[TENSORS]:
        _refuse(path, f"its tensors need {total} bytes, at most {MAX_BYTES[TENSORS]} allowed", "use a smaller model")


def _nbytes(entry: Mapping[str, Any]) -> int:
    return int(math.prod(entry["shape"]) * np.dtype(entry["dtype"]).itemsize)


def _check_finite(path: Path, name: str, tensor: Array, allow_nan: bool) -> None:
    if tensor.dtype.kind == "f" and not (np.isfinite(tensor) | (allow_nan & np.isnan(tensor))).all():
        got = "infinite values" if np.isinf(tensor).any() else "NaN"
        _refuse(path, f"tensor {name!r} holds {got}, expected finite values", "pretrain the model anew")


def _entry(path: Path, name: str, tensor: Array) -> dict[str, Any]:
    if not isinstance(tensor, np.ndarray):
        _refuse(path, f"tensor {name!r}: expected a numpy array, got {type(tensor).__name__}", "convert it")
    return {"dtype": tensor.dtype.name, "shape": list(tensor.shape)}


def _plain_json(path: Path, where: str, value: object) -> Any:
    """The value as `json.loads` would give it back."""
    if isinstance(value, Mapping):
        if odd := [key for key in value if type(key) is not str]:
            _refuse(path, f"{where}: expected text as keys, got {odd[0]!r:.60}", "convert it")
        return {key: _plain_json(path, f"{where}[{key!r}]", inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_json(path, f"{where}[{i}]", inner) for i, inner in enumerate(value)]
    if isinstance(value, str | bool | int | None) or (isinstance(value, float) and math.isfinite(value)):
        return value
    got = repr(value) if isinstance(value, float) else type(value).__name__
    _refuse(path, f"{where}: expected a plain, finite JSON value, got {got}", "convert it")


def _digest(fields: Mapping[str, Any]) -> str:
    """SHA-256 of the fields as sorted, compact JSON: the same however the file is laid out."""
    return hashlib.sha256(
        json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()


def _is_model_alone(folder: Path) -> None:
    """Refuse a folder of which more than a model would be lost by replacing it."""
    mend = "choose another folder, or remove it yourself"
    try:
        ours = json.loads(_read(folder, CONFIG)).get("format") == FORMAT
    except (ArtifactError, ValueError, AttributeError, RecursionError):
        ours = False
    if not ours:
        _refuse(folder, "is neither empty nor a flashfm model, and is left alone", mend)
    others = sorted(path.name for path in folder.iterdir() if path.name not in MAX_BYTES)
    if others:
        _refuse(folder, f"holds {others[0]!r:.80} beside the model, which saving would delete", mend)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key appears twice in one object")
    return fields


def _refuse(path: Path, problem: str, mend: str) -> NoReturn:
    raise ArtifactError(f"{path}: {problem}; {mend}")
