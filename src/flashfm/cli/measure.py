"""`flashfm measure`: applications under limits -> a MeasurementTable."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from flashfm.errors import LimitsError, MeasureError, SpecError

if TYPE_CHECKING:
    from flashfm.applications.spec import ApplicationSpec
    from flashfm.measurements.campaign import Campaign, Recorded
    from flashfm.measurements.harness import Sample
    from flashfm.records import Measurement

EXAMPLE = """Examples:

  flashfm measure --check

  flashfm measure --apps seed:0/0-9,airline-booking --memory 128,256,512,1024,2048,3008 --out data.parquet

  flashfm measure --function handler.py:main --event '{"size": 10}' --out mine.parquet

  flashfm measure --apps my-app.json --platform openwhisk --neighbours 2 --out data.parquet

  flashfm measure --apps seed:0/3 --rate 30 --duration 600 --out data.parquet

  flashfm measure --apps seed:0/0-999 --engine ray --address 10.0.0.5:6379 --out data.parquet"""


def command(
    apps: str = typer.Option("", help="Applications: names, spec files, seed:S/I or seed:S/FIRST-LAST, with commas."),
    function: list[str] = typer.Option([], help="Your own function, FILE.py:NAME; may be given more than once."),
    event: str = typer.Option("{}", help="What your functions are called with, as JSON."),
    out: Path = typer.Option(Path("data.parquet"), help="Table to write, .parquet or .csv."),
    platform: str = typer.Option("lambda", help="lambda (CPU quota by memory) or openwhisk (memory and CPU shares)."),
    memory: str = typer.Option("", help="Memory sizes in MB, with commas [lambda: 128,256,512,1024,2048,3008]."),
    shares: str = typer.Option("", help="CPU shares, with commas; openwhisk only [128,256,512,1024]."),
    neighbours: int = typer.Option(1, help="Busy neighbours on the core; openwhisk only."),
    invocations: int = typer.Option(6, help="Closed loop: calls in a pass, at least, after one to warm up."),
    least_ms: float = typer.Option(750.0, help="Closed loop: repeat short calls until a pass is so long."),
    passes: int = typer.Option(2, help="Visits to each configuration, apart in time."),
    rate: float = typer.Option(0.0, help="Open loop instead: requests a second, at exponential times."),
    duration: float = typer.Option(600.0, help="Open loop: seconds."),
    instances: int = typer.Option(16, help="Open loop: most instances at once."),
    timeout: float = typer.Option(60.0, help="Seconds after which an invocation counts as timed out."),
    pack: float = typer.Option(-1.0, help="Cores that runs side by side may fill; 0: one at a time [80 % of all]."),
    core: int = typer.Option(-1, help="Core of an openwhisk node [the last]."),
    seed: int = typer.Option(0, help="Order of visits and times of requests."),
    engine: str = typer.Option(
        "local", metavar="local|ray", help="Where: this machine, or all nodes of a cluster of Ray, each a share."
    ),
    address: str | None = typer.Option(
        None, metavar="HOST:PORT", help="Of the cluster [one is started on this machine]."
    ),
    check: bool = typer.Option(False, "--check", help="Only report how limits can be set on this machine."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Measure applications under CPU and memory limits."""
    if check:
        _check(as_json)
        return
    from flashfm.engine.choose import RAY, engine_of
    from flashfm.measurements.campaign import Campaign, OpenLoad, Runner, run
    from flashfm.measurements.cluster import Plan, Spread
    from flashfm.measurements.journal import Journal
    from flashfm.measurements.limits import detect
    from flashfm.measurements.platforms import Lambda, OpenWhisk
    from flashfm.measurements.sandbox import InvokePlan

    if not apps and not function:
        raise SpecError(
            "measure: nothing to measure; give --apps, for example --apps seed:0/0-9, or --function, or --check"
        )
    if platform not in ("lambda", "openwhisk"):
        raise MeasureError(f"--platform is {platform!r}; expected lambda or openwhisk")
    if out.suffix not in (".parquet", ".csv"):
        raise MeasureError(f"--out is {out}; expected a name that ends in .parquet or .csv")
    if not out.parent.is_dir():
        raise MeasureError(f"--out is {out}; its folder does not exist: make it first")
    for option, value in (("--invocations", invocations), ("--passes", passes), ("--instances", instances)):
        if value < 1:
            raise MeasureError(f"{option} is {value}; expected at least 1")
    if engine == RAY and function:
        raise MeasureError(
            f"--function {function[0]}: --engine ray measures what all nodes have; measure your function on each"
            " machine without --engine"
        )
    if not 0 < timeout <= 86_400:
        raise MeasureError(f"--timeout is {timeout:g}; expected seconds above 0, at most a day")
    where = Lambda() if platform == "lambda" else OpenWhisk(neighbours)
    campaign = Campaign(
        apps=tuple(applications(apps, function, event)),
        platform=where,
        configs=tuple(where.configs(_numbers("--memory", memory), _numbers("--shares", shares))),
        plan=InvokePlan(count=invocations, least_ms=least_ms, at_least=min(3, invocations)),
        load=OpenLoad(rate, duration, instances) if rate else None,
        passes=1 if rate else passes,
        seed=seed,
        timeout_s=timeout,
    )
    cores, on_core = None if pack < 0 else pack, None if core < 0 else core
    path = out.with_name(out.name + ".journal")
    runner: Recorded
    with ExitStack() as stack:
        stack.enter_context(_terminate_like_interrupt())
        machines = stack.enter_context(engine_of(engine, address=address, whole_nodes=True))
        if engine == RAY:
            journal = stack.enter_context(Journal(path, {**campaign.settings(), "engine": engine}))
            runner = spread = Spread(Plan(campaign, cores, on_core), journal, machines)
            go, limits = spread.run, None
        else:
            backend = detect()
            journal = stack.enter_context(Journal(path, campaign.settings()))
            runner = alone = Runner(campaign, journal, backend, pack=cores, core=on_core)
            go, limits = partial(run, alone), backend.name
        try:
            measure_with_progress(campaign, runner, go, path, quiet=as_json)
        except KeyboardInterrupt:
            _write(runner.measurements(), out)
            done = sum(1 for _ in journal.samples)
            words = f"{done} of {campaign.visits} visits are kept, and the same command goes on"
            raise KeyboardInterrupt(words) from None
        measured = runner.measurements()
    _write(measured, out)
    path.unlink()
    _report(measured, out, limits, as_json=as_json)


def applications(text: str, functions: list[str] | None = None, event: str = "{}") -> list[ApplicationSpec]:
    """The applications that a comma-separated list names, and the user's own functions.

    `seed:S/FIRST-LAST` is a range, and a file may hold several.

    Raises:
        SpecError: one of them cannot be found, or two have the same name.
    """
    from flashfm.applications.catalogue import load, resolve
    from flashfm.applications.function import function_spec
    from flashfm.applications.generator import generate_many

    found: list[ApplicationSpec] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        seed, slash, span = word.removeprefix("seed:").partition("/")
        first, dash, last = span.partition("-")
        if (
            word.startswith("seed:")
            and slash
            and dash
            and all(x.isdecimal() and len(x) < 10 for x in (seed, first, last))
        ):
            if int(first) > int(last) or int(last) >= 100_000:
                raise SpecError(f"--apps {word}: expected FIRST <= LAST < 100000")
            found += generate_many(int(seed), int(last) + 1)[int(first) :]
        elif Path(word).suffix == ".json" and Path(word).is_file():
            found += load(Path(word))
        else:
            found.append(resolve(word))
    found += [function_spec(target, event) for target in functions or []]
    names = [app.name for app in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise SpecError(f"--apps names {twice} twice; expected each application once")
    return found


def _numbers(option: str, text: str) -> tuple[int, ...] | None:
    if not text:
        return None
    parts = [part.strip() for part in text.split(",")]
    bad = next((part for part in parts if not (part.isdecimal() and len(part) < 10)), None)
    if bad is not None:
        raise MeasureError(f"{option}: {bad!r} is not a whole number; expected numbers with commas, like 128,256")
    return tuple(int(part) for part in parts)


def measure_with_progress(
    campaign: Campaign, runner: Recorded, run: Callable[[], None], journal: Path, *, quiet: bool
) -> None:
    """Call `run`, which runs a campaign; a bar with the time left, and a line for each bad outcome, unless `quiet`."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Progress(*columns, console=console, disable=quiet) as progress:
        done, many = campaign.visits - runner.left, len(campaign.apps)
        task = progress.add_task(
            f"measuring {many} application{'s' * (many != 1)}", total=campaign.visits, completed=done
        )
        if done and not quiet:
            console.print(f"{done} of {campaign.visits} visits are in {journal} already")

        def visited(app: str, sample: Sample) -> None:
            progress.advance(task)
            if sample.outcome != "ok" and not quiet:
                console.print(
                    f"{app} at {sample.config.memory_mb} MB: {sample.outcome}: {sample.detail}", highlight=False
                )

            if sample.late and not quiet:
                waited = f"{sample.late} of {len(sample.invocations)} requests waited for an instance"
                console.print(f"{app} at {sample.config.memory_mb} MB: {waited}; more --instances or a lower --rate?")

        runner.on_visit = visited
        run()


def _write(measured: list[Measurement], out: Path) -> None:
    from flashfm.datasets.table import MeasurementTable

    if measured:
        MeasurementTable.from_measurements(measured).write(out)


def _report(measured: list[Measurement], out: Path, limits: str | None, *, as_json: bool) -> None:
    """What there is; `limits` says how they were set, None that nodes had their own way."""
    outcomes = Counter[str](m.outcome for m in measured)
    nodes = Counter(m.platform.partition("@")[2] for m in measured)
    if as_json:
        how: dict[str, Any] = {"nodes": nodes} if limits is None else {"limits": limits}
        print(json.dumps({"out": str(out), "rows": len(measured), "outcomes": outcomes, **how}))
        return
    said = f"by node: {_counted(nodes)}" if limits is None else f"limits by {limits}"
    print(f"{len(measured)} rows in {out} ({_counted(outcomes)}); {said}")


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {what}" for what, n in counts.items())


def _check(as_json: bool) -> None:
    from flashfm.measurements.limits import backends

    rows = [(b.name, b.available(), b.how) for b in backends()]
    works = [name for name, problem, _ in rows if not problem]
    if as_json:
        print(
            json.dumps(
                {"use": works[0] if works else None, "ways": {name: problem or "works" for name, problem, _ in rows}}
            )
        )
    else:
        for name, problem, how in rows:
            print(f"{name:12}  {'works' if not problem else f'does not work: {problem}; to use it, {how}'}")
        if works:
            print(f"flashfm measure will use {works[0]}")
    if not works:
        raise LimitsError("no way to set CPU and memory limits works here; what each needs is said above")


class _terminate_like_interrupt:
    """SIGTERM stops a campaign as Ctrl-C does: cleanly, with its journal kept."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, self._interrupt)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    @staticmethod
    def _interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        signal.raise_signal(signal.SIGINT)
