"""What the targets of packaging share: JSON, YAML and scripts as bytes, the same for the same input."""

from __future__ import annotations

import json

from flashfm.applications.runtime import Application
from flashfm.applications.spec import ApplicationSpec

Files = dict[str, bytes]
"""Artefacts by path relative to the output directory, with forward slashes."""


def spec_json(spec: ApplicationSpec) -> bytes:
    """`spec.json`."""
    return json_bytes(spec.to_dict())


def json_bytes(data: object) -> bytes:
    """JSON for people, the same bytes for the same data."""
    return json.dumps(data, indent=2, sort_keys=True).encode() + b"\n"


def yaml_bytes(data: object) -> bytes:
    """YAML without anchors, in the order given."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
            return True

    text: str = yaml.dump(data, Dumper=Dumper, sort_keys=False, default_flow_style=False, width=120)
    return text.encode()


def script(text: str) -> bytes:
    """A shell script that stops at the first failure and runs in its own directory."""
    return f"#!/bin/sh\n{text.strip()}\n".encode()


def function_script(spec: ApplicationSpec, task: str, how: str) -> bytes:
    """A script that creates or deletes the buckets and tables of a packaged function.

    Args:
        spec: the application.
        task: "provision" or "remove".
        how: what follows `python3`, without the task.
    """
    if not Application.services(spec):
        return script(f"# {spec.name} needs no buckets or tables: nothing to {task}.")
    program, _, rest = how.partition(" ")
    return script(
        f"""
# Does the task "{task}" for the buckets and tables of {spec.name}: {", ".join(sorted(Application.services(spec)))}.
# PYTHON needs boto3; ENDPOINT_URL takes precedence, where this machine reaches the services under another address.
set -eu
cd "$(dirname "$0")"
"${{PYTHON:-python3}}" {program} {task} {rest} "$@"
"""
    )
