"""`flashfm autoscale`: applications in the hands of the pretrained agent, and what became of those that are."""

from __future__ import annotations

import contextlib
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from flashfm.cli.printing import print_json, print_table
from flashfm.controller.logs import Form, logged
from flashfm.errors import ControlError, DataError

if TYPE_CHECKING:
    from flashfm.controller.arms import Arm, Compared
    from flashfm.controller.kept import Kept, Reader

app = typer.Typer(rich_markup_mode=None)


class WarmUp(StrEnum):
    """How the agent gets to know the application before."""

    SIMULATED = "simulated"
    LIVE = "live"
    NONE = "none"


class Against(StrEnum):
    """The other arm."""

    HPA = "hpa"
    NONE = "none"


@app.command(
    epilog="Example: flashfm autoscale local --app seed:0/12 --trace nasa --minutes 10 --against hpa --out live.png"
)
def local(
    app: str = typer.Option(
        ..., "--app", metavar="NAME|FILE", help="A spec file, a real application, seed:S/I, or a generated name."
    ),
    trace: str | None = typer.Option(
        None,
        metavar="FILE|NAME",
        help="Shape of the load: a trace of `flashfm data list`, or a .csv or .parquet file with `time_s` or"
        " `timestamp` and `requests` (in each bin) or `rate_per_s` [a generated load].",
    ),
    minutes: float = typer.Option(10.0, help="Length of the load, for each arm."),
    against: Against = typer.Option(Against.HPA, help="The same load once more under HPA and VPA rules, or not."),
    slo_ms: float | None = typer.Option(
        None, help="Objective for the p99 in ms [five times the median of a request that is alone]."
    ),
    alpha: float = typer.Option(0.7, help="Weight of the SLO against utilisation, 0 to 1."),
    least_cores: float = typer.Option(
        0.1, help="Least CPU limit of a replica in the hands of the agent, 0.1 to 4; more makes a request faster."
    ),
    rate: float | None = typer.Option(
        None, help="Mean requests a second [about a third of what this machine can serve within the objective]."
    ),
    period_s: float = typer.Option(
        30.0, help="Seconds of a control step, at least 1; a trace runs so much faster where it is below 30."
    ),
    warm_up: WarmUp = typer.Option(
        WarmUp.SIMULATED,
        help="How the agent gets to know the application before: simulated, by episodes of a twin with the costs that a"
        " few requests have here (seconds; it acts from the first step on); live, by an episode of 100 steps under the"
        " rules before what counts, in both arms; none, rules act until 100 steps are over.",
    ),
    hpa_target: float = typer.Option(0.5, help="Utilisation of CPU that the rules aim at, above 0 and below 1."),
    concurrency: int | None = typer.Option(
        None,
        min=1,
        max=256,
        help="Requests that a replica works on at a time [at least 4, and twice what keeps a core busy].",
    ),
    core: float = typer.Option(
        1.0,
        help="Share of one of this machine's cores that counts as one, 0.03125 to 1: less makes many slow cores of few,"
        " and gives replicas room to be many.",
    ),
    model: str = typer.Option("autoscaling", metavar="NAME|FOLDER", help="The agent."),
    state: Path | None = typer.Option(
        None, help="File that keeps the steps, for `flashfm autoscale status`; this application begins anew in it."
    ),
    out: Path = typer.Option(Path("out/live.png"), help="Picture, .png or .svg."),
    explain: int = typer.Option(0, min=0, help="Print the first so many decisions that changed something, and why."),
    seed: int = typer.Option(0, min=0, help="Of the load."),
    log: Form | None = typer.Option(None, help="Tell on standard error what happens [warnings alone, as text]."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON, with every step."),
) -> None:
    """Run an application on this machine under load, scaled by the agent and then by HPA and VPA rules.

    Replicas are processes on one port, each in a control group; replicas, CPU and memory limits really change. One core
    is the client's where there are two or more. Nothing stays behind, also after Ctrl-C or kill -9.
    """
    from dataclasses import replace

    from flashfm.applications.catalogue import resolve
    from flashfm.cli.progress import progress_bar
    from flashfm.cli.stopping import kept
    from flashfm.controller.kept import Reader
    from flashfm.controller.live import compare
    from flashfm.controller.live_config import LiveConfig
    from flashfm.controller.rules import SAFE
    from flashfm.datasets.trace_file import open_trace
    from flashfm.measurements.limits import detect

    if out.suffix not in (".png", ".svg"):
        raise DataError(f"--out {out}: expected a file ending in .png or .svg")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--out {out}: its folder cannot be made: {error.strerror or error}; choose another") from None
    _in_range("--minutes", minutes, 0.0, 10_080.0)
    _in_range("--alpha", alpha, -1e-9, 1.0)
    _in_range("--hpa-target", hpa_target, 0.0, 0.999)
    _in_range("--period-s", period_s, 0.999, 3600.0)
    _in_range("--core", core, 0.031249, 1.0)
    if slo_ms is not None:
        _in_range("--slo-ms", slo_ms, 0.0, 3.6e6)
    if state is not None and state.exists():
        Reader(state).close()
    spec = resolve(app)
    config = LiveConfig(
        steps=round(60 * minutes / period_s),
        period_s=period_s,
        alpha=alpha,
        least_cores=least_cores,
        slo_s=None if slo_ms is None else slo_ms / 1000,
        mean_per_s=rate,
        warm_up=warm_up.value,
        against=against is Against.HPA,
        rules=replace(SAFE, target=hpa_target),
        concurrency=concurrency,
        core=core,
        seed=seed,
    )
    replayed = None if trace is None else open_trace(trace)
    backend = detect()
    from flashfm.adapt.agent import FlashAgent
    from flashfm.models.threads import one_thread

    agent = FlashAgent.from_pretrained(model)
    words = f"{spec.name}, {minutes:g} min an arm"
    logging = contextlib.nullcontext() if log is None else logged(log)
    bar = progress_bar(words, quiet=as_json or log is not None)
    with logging, one_thread(), kept("replicas and their groups are removed"), bar as told:
        done = compare(spec, agent, backend, config, trace=replayed, state=state, on_step=told)
    picture = _picture(done, config.period_s, out, minutes)
    if as_json:
        print_json({**_told(done, minutes, config.period_s, seed), "warm_up": config.warm_up, "picture": str(picture)})
        return
    _print(done, config.warm_up)
    changed = [step for step in next(iter(done.arms.values())).decisions if step.decision["change"]]
    for step in changed[:explain]:
        print(f"\nstep {step.n + 1}, {step.decision['by']}: {step.decision['why']}")
    print(f"\n{picture}")


@app.command(epilog="Example: flashfm autoscale status --state live.db")
def status(
    state: Path = typer.Option(..., help="File that `flashfm autoscale` keeps."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show what is managed, in which state, and why."""
    from flashfm.controller.kept import Reader

    with contextlib.closing(Reader(state)) as store:
        rows = [_managed(store, step, time.time()) for step in store.latest()]
    if as_json:
        print_json(rows)
        return
    if not rows:
        print(f"{state}: nothing is managed")
        return
    titles = ("name", "phase", "acts", "setting", "last step", "came of it", "why")
    print_table(titles, [_line(row) for row in rows])


@app.command(
    epilog="Example: flashfm autoscale kubernetes --prometheus http://prometheus.monitoring:9090 --namespace shop"
)
def kubernetes(
    prometheus: str | None = typer.Option(
        None, metavar="URL", help="Prometheus server that is asked where an object names none."
    ),
    namespace: list[str] = typer.Option([], help="Whose FlashAutoscaler objects are looked at; may be repeated [all]."),
    metrics_url: list[str] = typer.Option(
        [], metavar="URL", help="Another server that objects may name; may be repeated."
    ),
    allow_queries: bool = typer.Option(
        False, "--allow-queries", help="Let objects bring queries, which see all that this process may see."
    ),
    token_file: Path | None = typer.Option(None, help="Holds the token that Prometheus wants."),
    ca_file: Path | None = typer.Option(None, help="Certificates that Prometheus' is checked against."),
    model: str = typer.Option("autoscaling", metavar="NAME|FOLDER", help="The agent."),
    digest: str = typer.Option("", metavar="sha256:…", help="That its tensors must have."),
    state: Path = typer.Option(Path("flashfm.db"), help="File that keeps steps, for `flashfm autoscale status`."),
    listen: str = typer.Option("127.0.0.1:8080", metavar="ADDRESS:PORT", help="Of /healthz, /readyz and /metrics."),
    period_s: float = typer.Option(30.0, help="Seconds of a control step; the agent was pretrained on 30."),
    kubeconfig: Path | None = typer.Option(None, help="[the cluster this runs in, or the usual file]"),
    context: str | None = typer.Option(None, help="Of the kubeconfig [its current one]."),
    log: Form | None = typer.Option(None, help="Lines of the log on standard error [text on a terminal, else json]."),
) -> None:
    """Control what FlashAutoscaler objects of a Kubernetes cluster ask for, until SIGTERM or Ctrl-C.

    Objects only decide and record until their mode is Act. Manifests: flashfm/controller/manifests, deploy/helm.
    """
    from flashfm.cli.stopping import kept
    from flashfm.controller.kube.policy import Policy
    from flashfm.controller.operator import OperatorConfig, run_operator
    from flashfm.controller.prometheus import Access

    address, _, port = listen.rpartition(":")
    if not address or not port.isdecimal():
        raise ControlError(f"--listen {listen}: expected ADDRESS:PORT, such as 127.0.0.1:8080")
    access = Access(token_file=token_file, ca_file=ca_file)
    policy = Policy(model, digest, prometheus, tuple(metrics_url), allow_queries, access)
    config = OperatorConfig(tuple(namespace), policy, state, period_s, address.strip("[]"), int(port))
    form = log or (Form.TEXT if sys.stderr.isatty() else Form.JSON)
    with logged(form), kept("Deployments keep what they have"):
        run_operator(config, kubeconfig=kubeconfig, context=context)


def _in_range(option: str, value: float, above: float, most: float) -> None:
    if not above < value <= most:
        low = f"{above:g} (excluded)" if above == 0 else f"{max(0.0, round(above, 2)):g}"
        raise ControlError(f"{option} is {value:g}; expected {low} to {most:g}")


def _managed(store: Reader, step: Kept, now_s: float) -> dict[str, Any]:
    """What `status` shows of one target."""
    life = store.life(step.target)
    decision = step.decision
    return {
        "name": step.target,
        "phase": decision["phase"] if life is None else life.phase.value,
        "by": decision["by"],
        "setting": decision["setting"],
        "why": decision["why"],
        "clipped": decision["clipped"],
        "steps": step.n + 1,
        "age_s": round(now_s - step.time_s, 1),
        "status": step.status,
        "detail": step.detail,
    }


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    """The same as a row of the table."""
    of = row["setting"]
    said = "-" if of is None else f"{of['replicas']} x {of['cpu_cores']:.3g} cores, {of['memory_mib']:.0f} MiB"
    came = row["status"] + (f": {row['detail']}" if row["detail"] else "")
    why = "; ".join([row["why"], *row["clipped"]])
    return (row["name"], row["phase"], row["by"], said, _age(row["age_s"]), came, why)


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _print(done: Compared, warm_up: str) -> None:
    """Under what terms, the table, and who acted."""
    terms = done.terms
    print(
        f"{done.app}: p99 objective {1e3 * terms.slo_s:.3g} ms (alone, a request takes {1e3 * done.alone_s:.3g} ms),"
        f" alpha {terms.alpha:g}"
    )
    print(f"Machine: {done.room}\nLoad: {done.load}\n")
    titles = (
        "",
        "p99",
        "SLO missed",
        "core-seconds",
        "GiB-seconds",
        "replicas",
        "killed for memory",
        "requests failed",
    )
    print_table(titles, [_row(name, arm) for name, arm in done.arms.items()])
    name, ours = next(iter(done.arms.items()))
    acted = ours.summary()["acted"]
    by_agent = acted.get("agent", 0)
    print(f"\n{name}: the agent acted in {by_agent} of {len(ours.decisions)} steps, warm-up {warm_up}", end="")
    print("" if done.p_value is None else f"; {done.p_value:.0%} of the applications of pretraining lie farther out")
    late = max(arm.late_s for arm in done.arms.values())
    if late > terms.slo_s / 10:
        print(f"The client sent a request up to {1e3 * late:.0f} ms late: this machine is too busy for exact latencies")


def _row(name: str, arm: Arm) -> tuple[str, ...]:
    """One row of the table."""
    of = arm.summary()
    p99 = "-" if of["p99_s"] is None else f"{1e3 * of['p99_s']:.0f} ms"
    missed = f"{of['violated_s']:.0f} s of {len(arm.decisions) * arm.period_s:.0f}"
    reserved = (f"{of['core_s']:.1f}", f"{of['gib_s']:.1f}", f"{of['replicas']:.1f}")
    return (name, p99, missed, *reserved, str(of["kills"]), f"{of['failed']} of {of['sent']}")


def _picture(done: Compared, period_s: float, out: Path, minutes: float) -> Path:
    from flashfm.reporting.day import day_panels

    first = next(iter(done.arms.values()))
    panels = {
        name: {"replicas": arm.replicas, "cores": arm.cores, "memory_gib": arm.memory_gib, "p99_s": arm.p99_s}
        for name, arm in done.arms.items()
    }
    return day_panels(
        first.rate_per_s,
        panels,
        done.terms.slo_s,
        out,
        title=f"{done.app} on this machine: {minutes:g} minutes, alpha {done.terms.alpha:g}",
        step_s=period_s,
        note=f"Measured; p99 as the client saw it. Machine: {done.room}.\nLoad: {done.load}.",
    )


def _told(done: Compared, minutes: float, period_s: float, seed: int) -> dict[str, Any]:
    """All of it, JSON-able."""
    return {
        "app": done.app,
        "slo_s": done.terms.slo_s,
        "alpha": done.terms.alpha,
        "alone_s": done.alone_s,
        "minutes": minutes,
        "period_s": period_s,
        "seed": seed,
        "machine": done.room,
        "load": done.load,
        "p_value": done.p_value,
        "arms": {name: {**arm.summary(), "steps": arm.rows()} for name, arm in done.arms.items()},
    }
