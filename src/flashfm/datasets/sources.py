"""Finds, fetches and loads the data sets of the catalogue; nothing is downloaded unless `fetch` is called.

A file is looked for below `$FLASHFM_DATA`, then in the user's cache. What is found must have the SHA-256 of the
catalogue.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import pandas as pd

from flashfm.datasets.catalogue import Source, source
from flashfm.datasets.files import read_raw
from flashfm.datasets.schema import Origin, Problem, numbers, refuse
from flashfm.datasets.table import MeasurementTable
from flashfm.errors import DataError, DataFormatError, DataMissingError

_PIECE = 2**16
TIMEOUT_S = 30.0
"""Longest wait for a server's next bytes."""

SIZELESS_METRICS: dict[str, tuple[str, float]] = {
    "userDiff": ("user_cpu_ms", 1e-3),
    "sysDiff": ("system_cpu_ms", 1e-3),
    "vContextSwitches": ("voluntary_switches", 1.0),
    "ivContextSwitches": ("involuntary_switches", 1.0),
    "heapUsed": ("heap_used_mb", 2.0**-20),
    "rss": ("rss_mb", 2.0**-20),
    "fsRead": ("fs_read_bytes", 512.0),
    "fsWrite": ("fs_write_bytes", 512.0),
    "netByRx": ("net_rx_bytes", 1.0),
    "netByTx": ("net_tx_bytes", 1.0),
    "netPkgRx": ("net_rx_packets", 1.0),
    "netPkgTx": ("net_tx_packets", 1.0),
    "heapTotal": ("heap_total_mb", 2.0**-20),
    "external": ("external_mb", 2.0**-20),
    "mallocMem": ("malloc_mb", 2.0**-20),
}
"""Sizeless's metric -> ours and the factor between them.

CPU times are in µs and memory in bytes there (Node.js `process.cpuUsage`, `memoryUsage`). `fsRead` and `fsWrite` are
`process.resourceUsage`, that is `ru_inblock` and `ru_oublock`: blocks of 512 bytes that went to or came from storage,
so cached reads are missing, unlike in our own measurements, which count system calls. The remaining metrics are left
out: `rel_*` follow from these, `maxRss` is a difference of maxima, and the event-loop times overflow.
"""


def cache_dir() -> Path:
    """Folder that fetched files go to; `$XDG_CACHE_HOME` moves it."""
    import platformdirs

    return platformdirs.user_cache_path("flashfm", appauthor=False) / "data"


def find(name: str) -> Path | None:
    """Where a file of that data set lies, unchecked; None where it lies nowhere.

    Raises:
        DataError: no data set has that name.
    """
    known = source(name)
    folder = os.environ.get("FLASHFM_DATA")
    places = ([Path(folder)] if folder else []) + [cache_dir()]
    return next((place / known.path for place in places if (place / known.path).is_file()), None)


def locate(name: str) -> Path:
    """The file of a data set, its SHA-256 checked.

    Raises:
        DataError: no data set has that name.
        DataMissingError: the file is on this machine neither in `$FLASHFM_DATA` nor in the cache.
        DataFormatError: the file is not the one that the catalogue knows.
    """
    known = source(name)
    path = find(name)
    if path is not None:
        _check_digest(path, known)
        return path
    folder = os.environ.get("FLASHFM_DATA")
    fetching = f"run: flashfm data fetch {name}, or set FLASHFM_DATA to a folder that has it"
    how = known.note if known.url is None else fetching
    looked = f"{folder} and {cache_dir()}" if folder else f"{cache_dir()}; FLASHFM_DATA is not set"
    raise DataMissingError(f"data set {name!r} is not on this machine (looked for {known.path} in {looked}); {how}")


@runtime_checkable
class Progress(Protocol):
    """What `fetch` tells of a download."""

    def start(self, total_bytes: int | None) -> None:
        """It begins; the length is None where the server does not say."""

    def update(self, n_bytes: int) -> None:
        """That many more came."""


def fetch(name: str, *, progress: Progress | None = None) -> Path:
    """Download a data set into the cache, unless it is already on this machine.

    Args:
        name: name in the catalogue.
        progress: told of every piece; None for silence.

    Raises:
        DataError: no data set has that name, it has to be got by hand, or the network fails.
        DataFormatError: what came is not the file that the catalogue knows; it is not kept.
    """
    known = source(name)
    try:
        return locate(name)
    except DataMissingError:
        if known.url is None:
            raise DataMissingError(f"data set {name!r} cannot be fetched; {known.note} ({known.page})") from None
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    target = cache_dir() / known.path
    try:
        known_hash = f"sha256:{known.sha256}" if known.sha256 else None
        pooch.retrieve(known.url, known_hash, target.name, target.parent, downloader=_downloader(progress))
    except requests.RequestException as error:
        reason = type(error).__name__ if error.response is None else f"HTTP status {error.response.status_code}"
        raise DataError(
            f"data set {name!r}: {known.url} did not answer as expected ({reason}); check the network, or get the file"
            f" by hand from {known.page} and put it at {target}"
        ) from None
    except ValueError as error:
        raise DataFormatError(f"data set {name!r} from {known.url}: {str(error).splitlines()[0]}") from None
    except OSError as error:
        raise DataError(f"data set {name!r}: cannot be kept at {target}: {error.strerror or error}") from None
    return target


def _downloader(progress: Progress | None) -> Callable[[str, str, object], None]:
    """What pooch calls to get a file; unlike its own downloader, it closes the connection when something fails."""
    import requests

    def download(url: str, output_file: str, _: object) -> None:
        with requests.get(url, timeout=TIMEOUT_S, stream=True) as response, Path(output_file).open("wb") as file:
            response.raise_for_status()
            if progress:
                length = response.headers.get("content-length", "")
                progress.start(int(length) if length.isdigit() else None)
            for piece in response.iter_content(_PIECE):
                file.write(piece)
                if progress:
                    progress.update(len(piece))

    return download


def _check_digest(path: Path, known: Source) -> None:
    if known.sha256 is None:
        return
    try:
        with path.open("rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if got != known.sha256:
        raise DataFormatError(
            f"{path}: expected SHA-256 {known.sha256}, got {got}; the file is damaged or another version: delete it and"
            f" get data set {known.name!r} again"
        )


def load_cloudbandit(
    path: str | os.PathLike[str] | None = None, *, provider_is_platform: bool = False
) -> MeasurementTable:
    """CloudBandit as in the protocol: rows with status ok, averaged over the repeats of a (workload, configuration).

    28 workloads x 82 configurations, 2,100 cells. `app` is the workload. The configuration is `provider` (A, B, C),
    `family` (`A0` …: codes of one provider mean nothing at another), `type` (provider C only, else empty), `vcpu` (code
    0 or 1) and `nodes` (2 to 5). `cost_usd` is kept but is no feature. `runtime_cov` is the spread of the repeats.

    Args:
        path: the file; absent, it is looked for.
        provider_is_platform: make <workload, provider> the pair; by default a pair is a workload over all three clouds,
            as the protocol asks for, and there is no `platform`.

    Raises:
        DataMissingError, DataFormatError: see `locate`; or the file has not the columns or values of CloudBandit.
    """
    raw, origin, _ = read_raw(locate("cloudbandit") if path is None else Path(path))
    specific = {"family": "ABC", "type": "C", "vcpu": "ABC"}
    columns = [f"{provider}_{part}" for part, providers in specific.items() for provider in providers]
    numeric = [*columns, "nodes", "target_cost", "target_runtime"]
    _need(raw, ["provider", "workload", "status", *numeric], origin)
    raw = numbers(raw, numeric, origin)
    strange = raw.index[~raw["provider"].isin(list("ABC"))]
    refuse([Problem(int(i), "provider", "A, B or C", repr(raw.at[i, "provider"])) for i in strange], origin)
    rows = raw[raw["status"] == "ok"]
    frame = pd.DataFrame({"app": rows["workload"], "provider": rows["provider"]})
    for part, providers in specific.items():
        code = rows[[f"{provider}_{part}" for provider in providers]].bfill(axis="columns").iloc[:, 0]
        frame[part] = code if part == "vcpu" else rows["provider"] + code.map("{:.0f}".format, na_action="ignore")
    frame["nodes"] = rows["nodes"]
    frame["runtime_ms"] = rows["target_runtime"] * 1000
    frame["runtime_cov"] = float("nan")
    frame["n_invocations"] = 1
    frame["cost_usd"] = rows["target_cost"]
    if provider_is_platform:
        frame["platform"] = frame["provider"]
    return MeasurementTable.from_frame(
        frame,
        config_columns=["provider", "family", "type", "vcpu", "nodes"],
        average_repeats=True,
        card={"source": "cloudbandit", "units": {"runtime_ms": "ms", "cost_usd": "USD"}, "kept": "status == ok"},
        origin=origin.of_rows(int(i) for i in rows.index),
    )


def load_sizeless(
    path: str | os.PathLike[str] | None = None, *, platform: str = "sizeless-selfhosted"
) -> MeasurementTable:
    """A file in Sizeless's schema: one row per (function, memory size), with metrics in our units (`SIZELESS_METRICS`).

    `app` is `f_name`, `memory_mb` is `f_size`, `runtime_ms` is `duration_mean`; coefficients of variation are percent
    there and ratios here. A `y_SIZE` label must agree with the row that was measured at SIZE; where there is no such
    row, the label becomes a row without metrics.

    Args:
        path: a `processed_training_data.csv`, self-hosted or from the original capsule; absent, the self-hosted one is
            looked for.
        platform: what to call the platform; say another name for another file, such as `aws-lambda`.

    Raises:
        DataMissingError, DataFormatError: see `locate`; or the file is not in Sizeless's schema.
    """
    raw, origin, _ = read_raw(locate("sizeless-selfhosted") if path is None else Path(path))
    _need(raw, ["f_name", "f_size", "duration_mean"], origin)
    labels = {f"y_{size}": int(size) for c in raw if (size := str(c).removeprefix("y_")) != c and size.isdigit()}
    metrics = [c for name in SIZELESS_METRICS for c in (f"{name}_mean", f"{name}_cov") if c in raw]
    covs = [c for c in ("duration_cov",) if c in raw]
    raw = numbers(raw, ["f_size", "duration_mean", *covs, *metrics, *labels], origin)
    measured = pd.DataFrame({"app": raw["f_name"], "memory_mb": raw["f_size"], "runtime_ms": raw["duration_mean"]})
    if covs:
        measured["runtime_cov"] = raw["duration_cov"] / 100
    for name, (ours, factor) in SIZELESS_METRICS.items():
        for kind, times in (("mean", factor), ("cov", 0.01)):
            if f"{name}_{kind}" in raw:
                measured[f"{ours}_{kind}"] = raw[f"{name}_{kind}"] * times
    labelled = raw.melt("f_name", list(labels), "label", "runtime_ms", ignore_index=False).dropna(subset="runtime_ms")
    labelled = labelled.rename(columns={"f_name": "app"}).assign(
        memory_mb=labelled["label"].map(labels).astype("float64")
    )
    both = labelled.reset_index().merge(measured[["app", "memory_mb", "runtime_ms"]], "left", ["app", "memory_mb"])
    off = both[(both["runtime_ms_x"] - both["runtime_ms_y"]).abs() > 1e-6 * both["runtime_ms_y"]]
    mend = "labels and rows come from different measurements"
    contradictions = zip(off["index"], off["label"], off["runtime_ms_y"], off["runtime_ms_x"], strict=True)
    expected = "{:.6g} ms as in the row measured at that size"
    refuse([Problem(int(i), y, expected.format(own), f"{got:.6g}", mend) for i, y, own, got in contradictions], origin)
    only = both[both["runtime_ms_y"].isna()].drop_duplicates(["app", "memory_mb"])
    extra = only.rename(columns={"runtime_ms_x": "runtime_ms"})[["app", "memory_mb", "runtime_ms"]]
    frame = pd.concat([measured, extra], ignore_index=True)
    return MeasurementTable.from_frame(
        frame.assign(platform=platform),
        card={"source": Path(origin.name).name, "units": {"fs_*_bytes": "512 x blocks that reached storage"}},
        origin=origin.of_rows(int(i) for i in [*raw.index, *only["index"]]),
    )


def load_measured() -> MeasurementTable:
    """The data set that ships with flashfm: generated and real applications, measured under kernel limits.

    Raises:
        DataMissingError: this copy of the package was built without it.
    """
    path = measured_file()
    if path is None:
        raise DataMissingError(
            "the measured data set is not in this copy of flashfm; install a release, or measure your own:"
            " flashfm measure"
        )
    return MeasurementTable.read(path)


def measured_file() -> Path | None:
    """Where the data set that ships with flashfm lies; None where this copy was built without it."""
    path = Path(str(importlib.resources.files("flashfm.datasets") / "measured.parquet"))
    return path if path.is_file() else None


def load_table(name: str, path: str | os.PathLike[str] | None = None) -> MeasurementTable:
    """The table of a data set by its name: `measured`, or one of the catalogue.

    Args:
        name: name of the data set.
        path: a file in its format; absent, it is looked for.

    Raises:
        DataError: no table has that name.
        DataMissingError, DataFormatError: see the loader of that data set.
    """
    if name == "measured":
        return load_measured() if path is None else MeasurementTable.read(path)
    if source(name).kind != "table":
        raise DataError(f"data set {name!r} is a trace of requests, not a table of measurements")
    if name == "cloudbandit":
        return load_cloudbandit(path)
    platform = "aws-lambda" if name == "sizeless-original" else name
    return load_sizeless(locate(name) if path is None else path, platform=platform)


def _need(raw: pd.DataFrame, columns: list[str], origin: Origin) -> None:
    absent = [column for column in columns if column not in raw]
    if absent:
        listed = ", ".join(list(raw.columns)[:12]) + (", …" if len(raw.columns) > 12 else "")
        raise DataFormatError(f"{origin.name}: no column {absent[0]!r}, got {listed}; is this the right file?")
