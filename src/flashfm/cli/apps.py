"""`flashfm apps`: applications, from their names to results, servers and packages."""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from flashfm.applications.patches import Scenario
from flashfm.cli.printing import print_json, print_table, write_specs
from flashfm.errors import FlashError, PackagingError, SpecError

app = typer.Typer(rich_markup_mode=None)

SPEC_HELP = "A spec file, a real application (airline-booking), seed:S/I, or the name of a generated application."
ENDPOINT_HELP = 'S3 and DynamoDB: an address, or "aws" for AWS itself through boto3\'s own configuration.'
EMBEDS = " Embedded ones are started where it is absent and needed."

_Spec = typer.Argument(help=SPEC_HELP, show_default=False)
_Json = typer.Option(False, "--json", help="Print JSON instead of a table.")
_Endpoint = typer.Option(None, "--endpoint-url", help=ENDPOINT_HELP + EMBEDS)


@app.command(epilog="Example: flashfm apps generate --seed 0 --count 5 --out my-apps.json")
def generate(
    seed: int = typer.Option(0, help="Seed; the same one gives the same applications everywhere."),
    count: int = typer.Option(5, min=1, max=100_000, help="How many different applications."),
    out: Path | None = typer.Option(
        None, help="Write the specs here: FILE.json for one list, else a directory of files."
    ),
    as_json: bool = _Json,
) -> None:
    """Roll synthetic applications from the pool of segments."""
    from flashfm.applications.generator import generate_many

    specs = generate_many(seed, count)
    if out is not None:
        write_specs(specs, out)
    if as_json:
        print_json([spec.to_dict() for spec in specs])
    else:
        rows = [(f"seed:{seed}/{i}", spec.name, "; ".join(map(_sizes, spec.segments))) for i, spec in enumerate(specs)]
        print_table(("call it", "name", "segments and sizes"), rows)


@app.command("list", epilog="Example: flashfm apps list")
def list_(as_json: bool = _Json) -> None:
    """Show the sixteen segments and the four real applications."""
    from flashfm.applications.patches import KINDS
    from flashfm.applications.segments import POOL, REAL, segment_class

    found = []
    for kind in (*POOL, *REAL):
        made = segment_class(kind)
        patched = made.patched(made.example())
        found.append(
            {
                "kind": kind,
                "real": kind in REAL,
                "bound": made.bound,
                "example": made.example(),
                "patched": patched,
                "scenario": next((str(s) for s, kinds in KINDS.items() if kind in kinds and patched), None),
                "services": list(made.services),
                "requires": list(made.requires),
            }
        )
    if as_json:
        print_json(found)
        return
    rows = [
        (
            ("* " if one["real"] else "") + str(one["kind"]),
            str(one["bound"]),
            _params(one["example"]),
            f"{one['scenario'] or 'no scenario'}: {_changed(one['example'], one['patched'])}"
            if one["patched"]
            else "-",
        )
        for one in found
    ]
    print_table(("segment", "bound by", "example of sizes", "patch"), rows)
    print("* real application: run it by its name")


@app.command(epilog="Example: flashfm apps run airline-booking --repeat 5")
def run(
    spec: str = _Spec,
    repeat: int = typer.Option(5, min=1, max=1_000_000, help="Invocations."),
    endpoint_url: str | None = _Endpoint,
    as_json: bool = _Json,
) -> None:
    """Deploy an application here, invoke it, print the times and remove it; Ctrl-C removes it too."""
    from flashfm.applications.catalogue import resolve
    from flashfm.applications.deployment import deployed, failing_in_one_line

    chosen = resolve(spec)
    runtimes_ms: list[float] = []
    results: list[list[int]] = []
    _single_threaded_blas()
    with _terminable():
        started = time.perf_counter()
        with deployed(chosen, endpoint_url=endpoint_url) as place:
            provision_s = time.perf_counter() - started
            instance = place.instance()
            prepare_s = time.perf_counter() - started - provision_s
            for i in range(repeat):
                with failing_in_one_line(chosen, "run"):
                    before = time.perf_counter()
                    results.append(instance.invoke())
                    runtimes_ms.append(1e3 * (time.perf_counter() - before))
                if not as_json:
                    print(f"{i + 1:>6}  {runtimes_ms[-1]:10.2f} ms  {results[-1]}", flush=True)
    spread = statistics.stdev(runtimes_ms) if repeat > 1 else 0.0
    summary = {
        "app": chosen.name,
        "provision_s": round(provision_s, 3),
        "prepare_s": round(prepare_s, 3),
        "mean_ms": round(statistics.fmean(runtimes_ms), 3),
        "stdev_ms": round(spread, 3),
    }
    if as_json:
        print_json({**summary, "runtime_ms": [round(t, 3) for t in runtimes_ms], "results": results})
    else:
        print(
            f"{chosen.name}: mean {summary['mean_ms']} ms, standard deviation {summary['stdev_ms']} ms, {repeat} calls"
        )
        print(f"provisioned in {provision_s:.2f} s, prepared in {prepare_s:.2f} s, removed")


@app.command(epilog="Example: flashfm apps patch seed:0/0 --scenario image-size --out patched.json")
def patch(
    spec: str = _Spec,
    scenario: Scenario = typer.Option(..., help="The update."),
    out: Path | None = typer.Option(None, help="Write the patched spec here, FILE.json."),
    as_json: bool = _Json,
) -> None:
    """Show an application after an update of the paper."""
    from flashfm.applications.catalogue import resolve
    from flashfm.applications.patches import patch as patched
    from flashfm.applications.patches import scenarios_for

    chosen = resolve(spec)
    changed = patched(chosen, scenario)
    if changed is None:
        others = ", ".join(scenarios_for(chosen)) or "none does"
        raise SpecError(f"scenario {scenario} changes nothing in {chosen.name}; scenarios that do: {others}")
    if out is not None:
        write_specs([changed], out)
    if as_json:
        print_json(changed.to_dict())
        return
    rows = [
        (old.kind, _params(old.params), _changed(old.params, new.params))
        for old, new in zip(chosen.segments, changed.segments, strict=True)
    ]
    print(f"{chosen.name} -> {changed.name}")
    print_table(("segment", "before", "change"), rows)


@app.command(epilog="Example: flashfm apps serve seed:0/3 --port 8080 --concurrency 4")
def serve(
    spec: str = _Spec,
    host: str = typer.Option("127.0.0.1", help="Address to listen on; 0.0.0.0 for every network."),
    port: int = typer.Option(8080, min=0, max=65535, help="Port; 0 takes a free one."),
    concurrency: int = typer.Option(4, min=1, max=256, help="Invocations at a time; each has an instance of its own."),
    queue: int = typer.Option(64, min=0, max=10_000, help="Requests that may wait; more are answered 503."),
    max_body_bytes: int = typer.Option(1 << 20, min=0, help="Largest request body."),
    drain_s: float = typer.Option(25.0, min=0, help="Longest wait for requests in flight, after SIGTERM or Ctrl-C."),
    share_port: bool = typer.Option(False, "--share-port", help="Let several processes listen on the port."),
    metrics_port: int | None = typer.Option(
        None, min=1, max=65535, help="A second port, for /metrics of this process alone."
    ),
    endpoint_url: str | None = _Endpoint,
    deployment: str | None = typer.Option(None, help='Name of the deployment [a random one; "0" with --no-provision].'),
    provision: bool = typer.Option(True, help="Create, and in the end remove, buckets and tables."),
    as_json: bool = _Json,
) -> None:
    """Serve an application over HTTP with Prometheus metrics: POST /, GET /healthz, GET /metrics."""
    from flashfm.applications.catalogue import resolve
    from flashfm.applications.server import ServerConfig
    from flashfm.applications.server import serve as serve_application

    chosen = resolve(spec)
    config = ServerConfig(
        host=host,
        port=port,
        concurrency=concurrency,
        queue=queue,
        max_body_bytes=max_body_bytes,
        drain_s=drain_s,
        share_port=share_port,
        metrics_port=metrics_port,
    )

    def ready(url: str) -> None:
        if as_json:
            print(json.dumps({"app": chosen.name, "url": url, "pid": os.getpid()}), flush=True)
        else:
            print(f"{chosen.name} answers at {url} ({concurrency} at a time); Ctrl-C stops it", flush=True)

    _single_threaded_blas()
    left = serve_application(
        chosen, config, endpoint_url=endpoint_url, deployment=deployment, provision=provision, ready=ready
    )
    if left:
        raise FlashError(f"application {chosen.name}: {left} requests were not finished within {drain_s:g} s")


_ENDPOINT_EXAMPLE = "airline-booking --endpoint-url http://127.0.0.1:5000 --deployment test-1"


@app.command(epilog=f"Example: flashfm apps provision {_ENDPOINT_EXAMPLE}")
def provision(
    spec: str = _Spec,
    endpoint_url: str = typer.Option(..., "--endpoint-url", help=ENDPOINT_HELP),
    deployment: str = typer.Option("0", help="Name of the deployment: prefix of its buckets and tables."),
    as_json: bool = _Json,
) -> None:
    """Create the buckets and tables of an application, for servers and functions elsewhere."""
    _outside(spec, endpoint_url, deployment, as_json, provisioning=True)


@app.command(epilog=f"Example: flashfm apps remove {_ENDPOINT_EXAMPLE}")
def remove(
    spec: str = _Spec,
    endpoint_url: str = typer.Option(..., "--endpoint-url", help=ENDPOINT_HELP),
    deployment: str = typer.Option("0", help="Name of the deployment: prefix of its buckets and tables."),
    as_json: bool = _Json,
) -> None:
    """Delete the buckets and tables that `provision` made."""
    _outside(spec, endpoint_url, deployment, as_json, provisioning=False)


@app.command(epilog="Example: flashfm apps package seed:0/3 --target all --out packages")
def package(
    spec: str = _Spec,
    target: str = typer.Option("all", help="openwhisk, kubernetes, sam or all."),
    out: Path = typer.Option(..., help="Directory; each target is written to a directory of its name there."),
    memory_mb: int = typer.Option(512, help="Memory of an instance in MiB."),
    timeout_s: int = typer.Option(60, help="Longest invocation in seconds."),
    endpoint_url: str | None = typer.Option(
        None, help=ENDPOINT_HELP + " Absent: AWS; on Kubernetes, embedded in each pod."
    ),
    deployment: str = typer.Option("0", help="Name of the deployment: prefix of its buckets and tables."),
    image: str | None = typer.Option(None, help="Kubernetes: the container image [flashfm-NAME:VERSION]."),
    cpu_cores: float = typer.Option(0.5, help="Kubernetes: CPU cores of a pod."),
    min_replicas: int = typer.Option(1, help="Kubernetes: fewest pods."),
    max_replicas: int = typer.Option(10, help="Kubernetes: most pods."),
    as_json: bool = _Json,
) -> None:
    """Write an application as an OpenWhisk action, Kubernetes manifests, an AWS SAM template, or all three."""
    from flashfm.applications.catalogue import resolve
    from flashfm.applications.packaging import PackageOptions, Target, write
    from flashfm.applications.packaging import package as make

    if target != "all" and target not in list(Target):
        raise PackagingError(f"--target is {target!r}; expected {', '.join(Target)} or all")
    options = PackageOptions(
        memory_mb=memory_mb,
        timeout_s=timeout_s,
        endpoint_url=endpoint_url,
        deployment=deployment,
        image=image,
        cpu_cores=cpu_cores,
        min_replicas=min_replicas,
        max_replicas=max_replicas,
    )
    chosen = resolve(spec)
    made = {one: make(chosen, one, options) for one in Target if target in ("all", one)}
    for one, files in made.items():
        write(files, out / one)
    if as_json:
        print_json({one: [str(out / one / path) for path in files] for one, files in made.items()})
        return
    rows = [
        (str(out / one), str(len(files)), f"{sum(map(len, files.values())) / 1024:.0f} KiB", ", ".join(_scripts(files)))
        for one, files in made.items()
    ]
    print_table(("written", "files", "size", "scripts"), rows)


def _outside(spec: str, endpoint_url: str, deployment: str, as_json: bool, *, provisioning: bool) -> None:
    """Create or delete what an application has outside; files of its own are not made."""
    import tempfile

    from flashfm.applications.catalogue import resolve
    from flashfm.applications.deployment import close_clients, external_endpoint, failing_in_one_line
    from flashfm.applications.handler import check_deployment
    from flashfm.applications.runtime import Application

    chosen, done = resolve(spec), "provisioned" if provisioning else "removed"
    services = sorted(Application.services(chosen))
    endpoint, name = external_endpoint(endpoint_url), check_deployment(deployment)
    if services:
        with _terminable(), tempfile.TemporaryDirectory(prefix="flashfm-") as workdir:
            instance = Application(chosen, Path(workdir), endpoint_url=endpoint, deployment=name)
            with failing_in_one_line(chosen, "provision" if provisioning else "remove"):
                instance.provision() if provisioning else instance.remove()
            close_clients(instance)
    if as_json:
        print_json({"app": chosen.name, "services": services, "deployment": name, "done": done})
    else:
        print(f"{chosen.name}: {done} {', '.join(services) or 'nothing, it needs no services'}")


def _scripts(files: Sequence[str] | dict[str, bytes]) -> list[str]:
    return [path for path in files if path.endswith(".sh")]


def _sizes(part: Any) -> str:
    return f"{part.kind} {_params(part.params)}"


def _params(params: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in params.items())


def _changed(before: Any, after: Any) -> str:
    return ", ".join(f"{key} {before[key]} -> {after[key]}" for key in before if before[key] != after[key]) or "-"


def _single_threaded_blas() -> None:
    """As applications are measured; only before numpy is imported has this an effect."""
    if "numpy" not in sys.modules:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that everything is removed."""

    def interrupt(_signum: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
