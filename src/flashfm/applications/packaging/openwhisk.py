"""OpenWhisk: a spec in, an action (zip) and the scripts that deploy it out. Nothing is written or called here.

The zip is `__main__.py`, `spec.json`, the used files of flashfm and, where segments import other distributions,
`requirements.txt`: the Python runtimes of OpenWhisk install it when an action is initialised, or before it is uploaded
where `deploy.sh` is run with PRECOMPILE=1.
"""

from __future__ import annotations

import io
import shlex
import zipfile

from flashfm.applications.deployment import AWS
from flashfm.applications.packaging.artefacts import Files, function_script, json_bytes, script, spec_json
from flashfm.applications.packaging.options import PackageOptions
from flashfm.applications.packaging.vendor import function_files, requirements
from flashfm.applications.spec import ApplicationSpec

KIND = "python:3.11"
"""Runtime of the action."""
_EPOCH = (1980, 1, 1, 0, 0, 0)

_MAIN = b'''\
"""An application of flashfm as an OpenWhisk action; on a machine: python3 action.zip provision|remove|invoke --help."""

import json
import os
import sys
import zipfile
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from flashfm.applications.handler import Handler, command
from flashfm.applications.spec import ApplicationSpec


def _spec():
    here = Path(__file__).resolve().parent
    if here.is_dir():
        return (here / "spec.json").read_bytes()
    with zipfile.ZipFile(here) as package:
        return package.read("spec.json")


SPEC = ApplicationSpec.from_dict(json.loads(_spec()))
HANDLER = Handler(SPEC)


def main(args):
    """Run the application once; `endpoint_url` and `deployment` say where its buckets and tables are."""
    return HANDLER.answer(args)


if __name__ == "__main__":
    sys.exit(command(SPEC))
'''


def openwhisk(spec: ApplicationSpec, options: PackageOptions) -> Files:
    """The artefacts for OpenWhisk: `action.zip`, `params.json` and scripts to set up, deploy and undo both."""
    needed = "".join(f"{line}\n" for line in requirements(spec)).encode()
    inside = {"__main__.py": _MAIN, "spec.json": spec_json(spec), **function_files(spec)}
    params = {"deployment": options.deployment}
    if options.endpoint_url not in (None, AWS):
        params["endpoint_url"] = str(options.endpoint_url)
    outside = {}
    if needed:
        inside["requirements.txt"] = outside["requirements.txt"] = needed
    name = shlex.quote(spec.name)
    return {
        "action.zip": archive(inside),
        "params.json": json_bytes(params),
        "deploy.sh": script(
            f"""
# Creates or updates the action {spec.name}; wsk must know its API host and key (wsk property get).
# KIND, MEMORY_MB, TIMEOUT_MS in the environment take precedence. PRECOMPILE=1 installs the requirements into the action
# before the upload (needs docker), so that a cold start does not.
set -eu
cd "$(dirname "$0")"
action=action.zip
if [ "${{PRECOMPILE:-0}}" = 1 ]; then
    action=compiled.zip
    docker run --rm -i "${{RUNTIME_IMAGE:-openwhisk/action-python-v3.11}}" -compile main <action.zip >"$action"
fi
wsk action update {name} "$action" --kind "${{KIND:-{KIND}}}" --param-file params.json \\
    --memory "${{MEMORY_MB:-{options.memory_mb}}}" --timeout "${{TIMEOUT_MS:-{1000 * options.timeout_s}}}"
"""
        ),
        "undeploy.sh": script(f"# Deletes the action {spec.name}.\nset -eu\nwsk action delete {name}"),
        "setup.sh": function_script(spec, "provision", "action.zip --params params.json"),
        "teardown.sh": function_script(spec, "remove", "action.zip --params params.json"),
        **outside,
    }


def archive(files: Files) -> bytes:
    """A zip with the same bytes for the same files: sorted, uncompressed (zlibs differ), one fixed date and mode."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as package:
        for path, content in sorted(files.items()):
            entry = zipfile.ZipInfo(path, _EPOCH)
            entry.create_system = 3  # Unix, wherever this runs
            entry.external_attr = 0o100644 << 16
            package.writestr(entry, content)
    return buffer.getvalue()
