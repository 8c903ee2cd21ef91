"""`flashfm data`: data sets by name, tables of one's own, and what is in them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from flashfm.cli.printing import print_json, print_table
from flashfm.errors import DataError

if TYPE_CHECKING:
    from flashfm.datasets.rate_trace import RateTrace
    from flashfm.datasets.table import MeasurementTable

app = typer.Typer(rich_markup_mode=None)

MEASURED_TITLE = "applications of this project, measured under kernel limits; ships with flashfm"
CURVES_SHOWN = 6

_Json = typer.Option(False, "--json", help="Print JSON instead of a table.")


@app.command("list", epilog="Example: flashfm data list")
def list_(as_json: bool = _Json) -> None:
    """Show the data sets that flashfm knows, and which are on this machine."""
    from dataclasses import asdict

    from flashfm.datasets.catalogue import SOURCES
    from flashfm.datasets.sources import find, measured_file

    places = {"measured": measured_file(), **{name: find(name) for name in SOURCES}}
    if as_json:
        own = {
            "name": "measured",
            "title": MEASURED_TITLE,
            "kind": "table",
            "licence": "Apache-2.0",
            "redistribute": True,
        }
        known = [own, *(asdict(source) for source in SOURCES.values())]
        print_json([{**one, "file": str(found) if (found := places[one["name"]]) else None} for one in known])
        return
    rows = [("measured", "table", "yes" if places["measured"] else "no", "Apache-2.0", MEASURED_TITLE)]
    for name, source in SOURCES.items():
        here = "yes" if places[name] else "can be fetched" if source.url else "by hand"
        rows.append((name, source.kind, here, source.licence, source.title))
    print_table(("name", "kind", "on this machine", "licence", "what it is"), rows)
    print("Fetch one: flashfm data fetch NAME. Addresses, citations, SHA-256: flashfm data list --json")


@app.command(epilog="Example: flashfm data fetch cloudbandit")
def fetch(
    names: list[str] | None = typer.Argument(
        None, metavar="NAME", help="Names from `flashfm data list`.", show_default=False
    ),
    every: bool = typer.Option(False, "--all", help="Every data set that has a public address."),
) -> None:
    """Download public data sets into the cache, SHA-256 checked; what is on this machine already is left alone."""
    from flashfm.datasets.catalogue import SOURCES, source

    if bool(names) == every:
        raise typer.BadParameter("give names, or --all")
    wanted = [one.name for one in SOURCES.values() if one.url] if every else list(names or [])
    for name in wanted:
        source(name)
    failed: list[DataError] = []
    for name in wanted:
        try:
            print(f"{name}: {_fetch_with_bar(name)}", flush=True)
        except DataError as error:
            failed.append(error)
            if len(wanted) > 1:
                print(f"{name}: not fetched", flush=True)
    if failed:
        raise type(failed[0])("; ".join(str(error) for error in failed))


@app.command(epilog="Example: flashfm data show measured --plot curves.png")
def show(
    what: str = typer.Argument(
        metavar="NAME|PATH", help="A name from `flashfm data list`, or a .parquet or .csv file.", show_default=False
    ),
    plot: Path | None = typer.Option(None, help="Draw it: run time against memory, or rate over time. .png or .svg"),
    apps: str | None = typer.Option(
        None, metavar="A,B", help="Applications to show [a CPU-bound, a mixed and an I/O-bound one]."
    ),
    platform: str | None = typer.Option(None, help="Platform to show [the one with most rows]."),
    config: str | None = typer.Option(
        None, metavar="A,B", help="Configuration columns of a file [memory_mb, cpu_shares]."
    ),
    format_: str | None = typer.Option(
        None, "--as", metavar="NAME", help="Read the file PATH in the format of this data set, such as nasa."
    ),
    as_json: bool = _Json,
) -> None:
    """Check a data set or a file of yours against the schema, and show what is in it."""
    from flashfm.datasets.table import MeasurementTable

    loaded = _load(what, config.split(",") if config else None, format_)
    picture: Path | None = None
    if isinstance(loaded, MeasurementTable):
        chosen = _chosen_apps(loaded, apps.split(",") if apps else None, need=plot is not None)
        summary = _describe_table(loaded, chosen, platform)
        if plot is not None:
            from flashfm.reporting import runtime_curves

            named = {app: app for app in chosen.values()} if apps else chosen
            picture = runtime_curves(loaded.frame, named, plot, platform=platform)
    else:
        summary = {"kind": "trace", "traces": [_describe_trace(trace) for trace in loaded]}
        if plot is not None:
            from flashfm.reporting import rate_curves

            picture = rate_curves(loaded, plot)
    if as_json:
        print_json({"name": what, **summary, "picture": str(picture) if picture else None})
        return
    print(what)
    (_print_table if summary["kind"] == "table" else _print_traces)(summary)
    if picture:
        print(f"\nPicture: {picture}")


def _load(what: str, config: list[str] | None, format_: str | None) -> MeasurementTable | tuple[RateTrace, ...]:
    """A data set by name, or a file: a table, or whatever `--as` says."""
    from flashfm.datasets.catalogue import SOURCES, source
    from flashfm.datasets.sources import load_table
    from flashfm.datasets.table import MeasurementTable
    from flashfm.datasets.traces import load_trace

    known = what == "measured" or what in SOURCES
    if format_ is not None or known:
        name, path = (what, None) if known and format_ is None else (format_ or what, what)
        is_table = name == "measured" or source(name).kind == "table"
        return load_table(name, path) if is_table else load_trace(name, path)
    if not Path(what).exists() and Path(what).suffix.lower() not in (".csv", ".parquet"):
        raise DataError(
            f"{what!r} is neither a file nor a data set; expected a path, or one of measured, {', '.join(SOURCES)}"
        )
    return MeasurementTable.read(what, config_columns=config)


def _chosen_apps(table: MeasurementTable, asked: list[str] | None, *, need: bool) -> dict[str, str]:
    """Kind or name -> application: those asked for, else representative ones, else the first few."""
    if asked is not None:
        table.of_apps(asked)
        return {app: app for app in asked}
    from flashfm.reporting import representative_apps

    try:
        return representative_apps(table.frame)
    except DataError:
        if need and "memory_mb" in table.config_columns:
            raise
        return {app: app for app in table.apps[:CURVES_SHOWN]}


def _describe_table(table: MeasurementTable, chosen: dict[str, str], platform: str | None) -> dict[str, Any]:
    """A table in plain values."""
    frame = table.frame
    configurations = {}
    for column in table.config_columns:
        values = frame[column].dropna().drop_duplicates().sort_values().tolist()
        configurations[column] = (
            values if len(values) <= 24 else {"least": values[0], "most": values[-1], "n": len(values)}
        )
    runtimes = frame["runtime_ms"].dropna()
    spread = {name: round(float(runtimes.quantile(q)), 3) for name, q in (("least", 0), ("median", 0.5), ("most", 1))}
    points, axes = frame[frame["app"].isin(list(chosen.values()))], list(table.config_columns)
    if "memory_mb" in axes:
        from flashfm.reporting import curve_points, principal_platform

        platform = platform or principal_platform(frame)
        points, axis = curve_points(points, platform)
        axes = [axis]
    curves = []
    for kind, app in chosen.items():
        rows = points.loc[points["app"] == app, [*axes, "runtime_ms", "outcome"]]
        curves.append({"app": app, "kind": kind if kind != app else None, "points": _plain(rows.to_dict("records"))})
    return {
        "kind": "table",
        "rows": len(table),
        "pairs": len(table.pairs),
        "apps": len(table.apps),
        "platforms": sorted(frame["platform"].unique().tolist()) if "platform" in frame else [],
        "configuration": configurations,
        "configurations": len(table.configurations),
        "runtime_ms": spread if len(runtimes) else None,
        "outcomes": {str(name): int(n) for name, n in frame["outcome"].value_counts().items()},
        "metrics": list(table.metric_names),
        "card": table.card,
        "platform": platform,
        "axis": axes[0] if len(axes) == 1 else None,
        "curves": curves,
    }


def _plain(rows: list[dict[Any, Any]]) -> list[dict[str, Any]]:
    """Rows without NaN, which JSON does not have."""
    return [{str(key): None if value != value else value for key, value in row.items()} for row in rows]


def _describe_trace(trace: RateTrace) -> dict[str, Any]:
    """A trace in plain values; daily loads only where it has whole days."""
    rates = trace.rate_per_s
    try:
        days = [int(load) for load in trace.daily_load()]
    except DataError:
        days = []
    return {
        "name": trace.name,
        "bins": len(trace),
        "bin_s": trace.bin_s,
        "duration_s": trace.duration_s,
        "requests": trace.total,
        "mean_per_s": round(trace.total / trace.duration_s, 6),
        "peak_per_s": round(float(rates.max()), 6),
        "daily_load": days,
    }


def _print_table(summary: dict[str, Any]) -> None:
    platforms = f" on {', '.join(summary['platforms'])}" if summary["platforms"] else ""
    print(f"  {summary['rows']} rows, {summary['pairs']} pairs: {summary['apps']} applications{platforms}")
    for column, values in summary["configuration"].items():
        listed = f"{values['least']} to {values['most']}, {values['n']} values" if isinstance(values, dict) else values
        words = (
            listed
            if isinstance(listed, str)
            else ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in listed)
        )
        print(f"  {column}: {words}")
    spread = summary["runtime_ms"]
    if spread:
        print(f"  run time: {spread['least']:g} to {spread['most']:g} ms, median {spread['median']:g} ms")
    print(f"  outcomes: {', '.join(f'{name} {n}' for name, n in summary['outcomes'].items())}")
    print(f"  metrics: {', '.join(summary['metrics']) or 'none'}")
    curves = [curve for curve in summary["curves"] if curve["points"]]
    axis = summary["axis"]
    if curves and axis in ("memory_mb", "cpu_shares"):
        sizes = sorted({point[axis] for curve in curves for point in curve["points"]})
        rows = []
        for curve in curves:
            of = {p[axis]: p for p in curve["points"]}
            rows.append((curve["app"], *(_cell(of.get(size)) for size in sizes), curve["kind"] or ""))
        by = "memory size in MB" if axis == "memory_mb" else "CPU shares"
        on = f", on {summary['platform']}" if summary["platform"] else ""
        print(f"\nMean run time in ms by {by}{on}")
        print_table(("application", *(f"{size:g}" for size in sizes), ""), rows)


def _cell(point: dict[str, Any] | None) -> str:
    if point is None:
        return "-"
    return f"{point['runtime_ms']:.1f}" if point["outcome"] == "ok" else str(point["outcome"])


def _print_traces(summary: dict[str, Any]) -> None:
    rows = []
    for trace in summary["traces"]:
        days = trace["daily_load"]
        rows.append(
            (
                trace["name"],
                f"{trace['requests']:,}",
                f"{trace['duration_s'] / 3600:.1f} h",
                f"{trace['bin_s']:g} s",
                f"{trace['mean_per_s']:.3g}",
                f"{trace['peak_per_s']:.3g}",
                f"{min(days):,} to {max(days):,}" if days else "less than a day",
            )
        )
    print_table(("trace", "requests", "length", "bin", "mean/s", "peak/s", "a day"), rows)


def _fetch_with_bar(name: str) -> Path:
    """Fetch one data set with a progress bar on standard error, where that is a terminal."""
    from flashfm.datasets.sources import fetch as fetch_one

    if not sys.stderr.isatty():
        return fetch_one(name)
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        return fetch_one(name, progress=_Bar(progress, name))


class _Bar:
    """What `fetch` tells of a download, in rich's terms."""

    def __init__(self, progress: Any, name: str) -> None:
        self._progress, self._task = progress, progress.add_task(name, total=None)

    def start(self, total_bytes: int | None) -> None:
        """It begins; the length is None where the server does not say."""
        self._progress.update(self._task, total=total_bytes)

    def update(self, n_bytes: int) -> None:
        """That many more came."""
        self._progress.advance(self._task, n_bytes)
