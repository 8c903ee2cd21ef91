"""A real cluster of Ray on the loopback device: several nodes on this machine, authentication on.

It lives in a process apart, so that no test has Ray in its own, and what a test kills does not end the tests.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'flashfm[ray]'")
STORE = 80 * 2**20
"""Bytes in the object store of each node, which is little."""
ADDRESS = "127.0.0.2"
"""Ray takes 127.0.0.1 for the address of the machine on its network."""
TESTS = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "measurements")]
HELPER = """
import json, os, sys

out = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
from ray.cluster_utils import Cluster

cluster, nodes = Cluster(), {}
common = dict(node_ip_address=sys.argv[1], include_dashboard=False)
for line in sys.stdin:
    command, name, options = json.loads(line)
    if command == "add":
        nodes[name] = cluster.add_node(**common, **options)
    elif command == "remove":
        cluster.remove_node(nodes.pop(name), allow_graceful=False)
    print(cluster.address, file=out)
"""


class RayCluster:
    """A head, and nodes that can be added and removed.

    Args:
        nodes: beside the head; each has one core.
        head_cores: of the head.
        system: settings of the whole cluster.
    """

    def __init__(self, nodes: int = 1, *, head_cores: int = 1, **system: object) -> None:
        self.folder = Path(mkdtemp(prefix="ray-"))
        self.token = secrets.token_hex(32)
        self._errors = (self.folder / "errors").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", HELPER, ADDRESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
            env={
                **os.environ,
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": self.token,
                "RAY_TMPDIR": str(self.folder),
                "PYTHONPATH": os.pathsep.join(TESTS),  # as if the tests were installed on the nodes
            },
        )
        try:
            self.address = self.add("head", num_cpus=head_cores, _system_config=system)
            for i in range(nodes):
                self.add(f"node-{i}")
        except BaseException:
            self.close()
            raise

    def add(self, name: str, **options: object) -> str:
        return self._do("add", name, {"num_cpus": 1, "object_store_memory": STORE, **options})

    def remove(self, name: str) -> None:
        """Kill all processes of a node."""
        self._do("remove", name, {})

    def _do(self, *command: Any) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer, (self.folder / "errors").read_text()[-3000:]
        return answer

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._errors.close()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
