"""`flashfm simulate`: one application for a day, the pretrained agent beside Kubernetes' autoscalers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flashfm.cli.printing import percent, print_json, print_table
from flashfm.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from flashfm.experiments.day import Day

EXAMPLE = "Example: flashfm simulate --alpha 0.7 --hours 12 --out day.png"


def command(
    app: str | None = typer.Option(None, help="An application that the agent was not pretrained on [the first]."),
    model: str = typer.Option("autoscaling", metavar="NAME|FOLDER", help="The agent."),
    alpha: float = typer.Option(0.5, help="Weight of the SLO against utilisation, 0 to 1."),
    hours: float = typer.Option(24.0, help="Length of the simulation, at most 168."),
    warm_ups: int = typer.Option(1, help="Episodes of 50 minutes that the agent sees before, 0 to 3."),
    seed: int = typer.Option(0, min=0, help="Of load and chance."),
    out: Path = typer.Option(Path("out/day.png"), help="Picture, .png or .svg."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Simulate one application for a day: the agent beside HPA and VPA, under the same load."""
    from flashfm.adapt.agent import FlashAgent
    from flashfm.experiments.day import simulate
    from flashfm.reporting.day import day_panels
    from flashfm.tasks.autoscaling.parameters import STEP_S

    if out.suffix not in (".png", ".svg"):
        raise DataError(f"--out {out}: expected a file ending in .png or .svg")
    agent = FlashAgent.from_pretrained(model)
    name, slo_s, days = simulate(agent, app, alpha=alpha, hours=hours, warm_ups=warm_ups, seed=seed)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--out {out}: its folder cannot be made: {error.strerror or error}; choose another") from None
    first = next(iter(days.values()))
    path = day_panels(
        first.rate_per_s,
        {arm: _panels(day) for arm, day in days.items()},
        slo_s,
        out,
        title=f"{name}: {hours:g} hours, alpha {alpha:g}",
        step_s=STEP_S,
        note=f"Simulated; seed {seed}; warm-up episodes: {warm_ups}.",
    )
    summaries = {arm: day.summary() for arm, day in days.items()}
    if as_json:
        print_json(
            {"app": name, "slo_s": slo_s, "alpha": alpha, "hours": hours, "arms": summaries, "picture": str(path)}
        )
        return
    print(f"{name}, {hours:g} hours, p99 objective {1e3 * slo_s:.0f} ms, alpha {alpha:g}\n")
    titles = ("", "reward", "SLO missed", "core-hours", "GiB-hours", "replicas", "killed for memory")
    print_table(titles, [_line(arm, of) for arm, of in summaries.items()])
    print(f"\n{path}")


def _panels(day: Day) -> dict[str, np.ndarray]:
    return {"replicas": day.replicas, "cores": day.cores, "memory_gib": day.memory_mib / 1024, "p99_s": day.p99_s}


def _line(arm: str, of: dict[str, float]) -> tuple[str, ...]:
    """One row of the table."""
    figures = (f"{of['reward']:.3f}", percent(of["violations"]), f"{of['core_hours']:.1f}", f"{of['gib_hours']:.1f}")
    return (arm, *figures, f"{of['replicas']:.1f}", percent(of["killed"]))
