"""What a packaged function is: one cached instance of the application in `spec.json`, and its outside resources.

Platform entry points (an OpenWhisk `main`, a Lambda handler) are a few lines around `Handler`; the same code creates
and deletes buckets and tables from the operator's machine (`command`). Standard library only: this file travels in
packages.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flashfm.applications.runtime import Application
from flashfm.applications.spec import ApplicationSpec
from flashfm.errors import FlashError, SpecError

DEPLOYMENT = re.compile(r"[a-z0-9]([a-z0-9-]{0,19}[a-z0-9])?")
"""Names of deployments: with them, names of buckets and tables stay valid."""
_URL = re.compile(r"https?://[A-Za-z0-9._\[\]:-]+(/[A-Za-z0-9._~/-]*)?")


def check_deployment(name: str) -> str:
    """The name of a deployment, if it is one.

    Raises:
        SpecError: it is not 1 to 21 lower-case letters, digits and inner hyphens.
    """
    if not DEPLOYMENT.fullmatch(name):
        raise SpecError(
            f"deployment {name[:60]!r}: expected 1 to 21 lower-case letters, digits or inner hyphens, such as 'test-1'"
        )
    return name


def check_endpoint(url: str) -> str:
    """The address of an S3 and DynamoDB endpoint, if it is one; no credentials, query or fragment.

    Raises:
        SpecError: it is not http(s)://HOST[:PORT][/PATH].
    """
    if not _URL.fullmatch(url):
        raise SpecError(f"endpoint {url[:80]!r}: expected http(s)://HOST[:PORT], such as http://127.0.0.1:5000")
    return url


def provision_inside(application: Application) -> None:
    """Create what segments without services need: files in the function's own directory, once an instance."""
    for segment in application.segments:
        if not segment.services:
            segment.provision()


def one_line(error: BaseException) -> str:
    """An exception as one line of at most 300 characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else text[:297] + "..."


class Handler:
    """Answers invocations with one instance, kept between warm calls. One call at a time, as both platforms call.

    Args:
        spec: the application.
        workdir: its directory; by default a new temporary one, made by the first call.
    """

    def __init__(self, spec: ApplicationSpec, workdir: Path | None = None) -> None:
        self.spec = spec
        self.workdir = workdir
        self._kept: tuple[tuple[str | None, str], Application] | None = None

    def invoke(self, *, endpoint_url: str | None = None, deployment: str = "0") -> dict[str, Any]:
        """Run the application once.

        Args:
            endpoint_url: of S3 and DynamoDB; None or "" for boto3's own configuration.
            deployment: whose buckets and tables to use; they must have been provisioned.

        Returns:
            `app`, `results` (one number a segment), `runtime_ms` (wall time of the run alone) and `cold` (True where
            this call prepared the instance).

        Raises:
            SpecError: an argument is malformed.
        """
        key = (check_endpoint(endpoint_url) if endpoint_url else None, check_deployment(deployment))
        cold = self._kept is None or self._kept[0] != key
        if cold:
            if self.workdir is None:
                self.workdir = Path(tempfile.mkdtemp(prefix="flashfm-"))
                atexit.register(shutil.rmtree, self.workdir, ignore_errors=True)
            application = Application(self.spec, self.workdir, endpoint_url=key[0], deployment=key[1])
            provision_inside(application)
            application.prepare()
            self._kept = (key, application)
        assert self._kept is not None
        started = time.perf_counter()
        results = self._kept[1].invoke()
        runtime_ms = 1e3 * (time.perf_counter() - started)
        return {"app": self.spec.name, "results": results, "runtime_ms": round(runtime_ms, 3), "cold": cold}

    def answer(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """`invoke` for an OpenWhisk action: arguments as they come, errors as a dictionary with `error`, one line."""
        try:
            given = {name: arguments.get(name) for name in ("endpoint_url", "deployment")}
            for name, value in given.items():
                if value is not None and not isinstance(value, str):
                    raise SpecError(f"argument {name}: expected a string, got {type(value).__name__}")
            return self.invoke(endpoint_url=given["endpoint_url"], deployment=given["deployment"] or "0")
        except Exception as error:  # noqa: BLE001 - the boundary of the action: what fails is answered
            return {"error": str(error) if isinstance(error, FlashError) else one_line(error)}


def command(spec: ApplicationSpec, arguments: list[str] | None = None) -> int:
    """The command line of a package: create or delete its buckets and tables, or run it once here.

    Returns:
        The exit status; errors are one line on standard error.
    """
    parser = argparse.ArgumentParser(description=f"Application {spec.name}: its buckets and tables, or one invocation.")
    parser.add_argument("task", choices=("provision", "remove", "invoke"))
    parser.add_argument("--endpoint-url", default=os.environ.get("ENDPOINT_URL", ""), help="S3 and DynamoDB; not AWS's")
    parser.add_argument("--deployment", default="", help="prefix of buckets and tables (default: of --params, or 0)")
    parser.add_argument("--params", type=Path, help="JSON file with endpoint_url and deployment")
    options = parser.parse_args(arguments)
    try:
        params = json.loads(options.params.read_text()) if options.params else {}
        endpoint_url = options.endpoint_url or params.get("endpoint_url", "")
        endpoint_url = check_endpoint(endpoint_url) if endpoint_url else None
        deployment = check_deployment(options.deployment or params.get("deployment", "0"))
        with tempfile.TemporaryDirectory(prefix="flashfm-") as workdir:
            if options.task == "invoke":
                answer = Handler(spec, Path(workdir)).invoke(endpoint_url=endpoint_url, deployment=deployment)
                print(json.dumps(answer))
            else:
                application = Application(spec, Path(workdir), endpoint_url=endpoint_url, deployment=deployment)
                application.provision() if options.task == "provision" else application.remove()
    except FlashError as error:
        print(f"{spec.name}: {error}", file=sys.stderr)
        return error.exit_code
    except ImportError as error:
        print(f"{spec.name}: {error}; pip install {' '.join(Application.requirements(spec))}", file=sys.stderr)
        return 1
    except Exception as error:  # noqa: BLE001 - the boundary of the command: botocore raises from many trees
        print(f"{spec.name}: {options.task}: {one_line(error)}", file=sys.stderr)
        return 1
    return 0
