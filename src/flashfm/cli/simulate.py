"""`flashfm simulate`: one application for a day, the pretrained agent beside Kubernetes' autoscalers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flashfm.cli.printing import percent, print_json, print_table
from flashfm.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from flashfm.experiments.day import Day, Simulated

EXAMPLE = "Example: flashfm simulate --trace nasa --alpha 0.6 --hours 12 --explain 5 --out day.png"


def command(
    app: str | None = typer.Option(None, help="An application that the agent was not pretrained on [the first]."),
    model: str = typer.Option("autoscaling", metavar="NAME|FOLDER", help="The agent."),
    alpha: float = typer.Option(0.7, help="Weight of the SLO against utilisation, 0 to 1."),
    slo_ms: float | None = typer.Option(None, help="Objective for the p99 in ms [the application's own]."),
    hours: float = typer.Option(24.0, help="Length of the simulation, at most 168."),
    warm_ups: int = typer.Option(0, help="Episodes of 50 minutes that the agent sees before, 0 to 3."),
    trace: str | None = typer.Option(
        None,
        metavar="FILE|NAME",
        help="Replay this load, scaled to the application's mean rate: a trace of `flashfm data list`, or a .csv or"
        " .parquet file with `time_s` or `timestamp` and `requests` (in each bin) or `rate_per_s` [a generated load].",
    ),
    format_: str | None = typer.Option(None, "--as", metavar="NAME", help="Read the file in the format of this trace."),
    explain: int = typer.Option(0, min=0, help="Print the first so many decisions that changed something, and why."),
    seed: int = typer.Option(0, min=0, help="Of load and chance."),
    out: Path = typer.Option(Path("out/day.png"), help="Picture, .png or .svg."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Simulate one application for a day: the agent beside HPA and VPA, under the same load."""
    from flashfm.adapt.agent import FlashAgent
    from flashfm.datasets.trace_file import open_trace
    from flashfm.experiments.day import simulate
    from flashfm.reporting.day import day_panels
    from flashfm.tasks.autoscaling.parameters import STEP_S

    if out.suffix not in (".png", ".svg"):
        raise DataError(f"--out {out}: expected a file ending in .png or .svg")
    if format_ is not None and trace is None:
        raise DataError("--as says how a file is to be read; give one: --trace FILE")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--out {out}: its folder cannot be made: {error.strerror or error}; choose another") from None
    replayed = None if trace is None else open_trace(trace, format_)
    agent = FlashAgent.from_pretrained(model)
    done = simulate(
        agent,
        app,
        alpha=alpha,
        hours=hours,
        warm_ups=warm_ups,
        seed=seed,
        slo_s=None if slo_ms is None else slo_ms / 1000,
        trace=replayed,
    )
    first = next(iter(done.days.values()))
    path = day_panels(
        first.rate_per_s,
        {arm: _panels(day) for arm, day in done.days.items()},
        done.terms.slo_s,
        out,
        title=f"{done.app}: {hours:g} hours, alpha {alpha:g}",
        step_s=STEP_S,
        known_from=done.embedded[0] if done.embedded else None,
        note=f"Simulated; seed {seed}; warm-up episodes: {warm_ups}.\nLoad: {done.load}",
    )
    explained = [{"minute": step * STEP_S / 60, **done.decisions[step].to_dict()} for step in done.changes[:explain]]
    if as_json:
        print_json(
            {
                "app": done.app,
                "slo_s": done.terms.slo_s,
                "alpha": alpha,
                "hours": hours,
                "load": done.load,
                "arms": {arm: day.summary() for arm, day in done.days.items()},
                "agent": {**done.summary(), "explained": explained},
                "picture": str(path),
            }
        )
        return
    _print(done, hours)
    for one in explained:
        print(f"\n{one['minute']:g} min: {one['why']}")
    print(f"\n{path}")


def _print(done: Simulated, hours: float) -> None:
    """What was simulated, the table, and what the agent did."""
    print(f"{done.app}, {hours:g} hours, p99 objective {1e3 * done.terms.slo_s:.0f} ms, alpha {done.terms.alpha:g}")
    print(f"Load: {done.load}\n")
    titles = ("", "reward", "SLO missed", "core-hours", "GiB-hours", "replicas", "killed for memory")
    print_table(titles, [_line(arm, day.summary()) for arm, day in done.days.items()])
    told = done.summary()
    print(
        f"\nThe agent embedded the application {told['embedded']} time{'s' * (told['embedded'] != 1)};"
        f" {told['changes']} of its {told['decisions']} decisions changed something."
    )


def _panels(day: Day) -> dict[str, np.ndarray]:
    return {"replicas": day.replicas, "cores": day.cores, "memory_gib": day.memory_mib / 1024, "p99_s": day.p99_s}


def _line(arm: str, of: dict[str, float]) -> tuple[str, ...]:
    """One row of the table."""
    figures = (f"{of['reward']:.3f}", percent(of["violations"]), f"{of['core_hours']:.1f}", f"{of['gib_hours']:.1f}")
    return (arm, *figures, f"{of['replicas']:.1f}", percent(of["killed"]))
