"""Memory and CPU of containers as a component of kustomize.

Enters: names of Deployments and containers, and sizes. Leaves: a folder with `kustomization.yaml` and one strategic
merge patch a container in `patches/`. To use it, name the folder in the overlay that has the Deployments, and render it
(https://kubectl.docs.kubernetes.io/guides/config_management/components/)::

    # kustomization.yaml of the overlay
    resources: [../base]
    components: [../sizes]

    kubectl kustomize overlay

A Deployment that the overlay lacks is an error of kustomize, and so is one in another namespace; a container that the
Deployment lacks is refused by the cluster, for it would have no image. Memory is set as request and limit, in Mi, for
MB here are MiB; parts of a MiB are rounded up. `cpu_cores` is set as request and limit, in thousandths of a core;
`cpu_shares`, a weight, as the request that Kubernetes turns into this weight: 1024 a core.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Float

from flashfm.datasets.files import as_json
from flashfm.errors import DataError
from flashfm.fleet.names import Field, Words

MEMORY, CORES, SHARES = "memory_mb", "cpu_cores", "cpu_shares"
SIZES = (MEMORY, CORES, SHARES)
"""Configuration columns that a patch is made of, where the model has them."""
SHARES_PER_CORE = 1024
LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_WORDS = "DNS-1123 label: 1 to 63 of a-z, 0-9 and -, the first and last no -"
FIELDS = (
    Field("namespace", LABEL, _WORDS, optional=True),
    Field("deployment", LABEL, _WORDS),
    Field("container", LABEL, _WORDS),
)
MARK = "flashfm-patches.json"
"""The file that says what a folder is; only a folder with it, and with nothing but ours, is ever replaced."""
KUSTOMIZATION, PATCHES = "kustomization.yaml", "patches"
_COMPONENT = {
    "apiVersion": "kustomize.config.k8s.io/v1alpha1",
    "kind": "Component",
    "metadata": {"name": "flashfm-sizes"},
}


def check_place(out: Path) -> None:
    """Refuse a folder that is none of ours.

    Raises:
        DataError: it holds other files, is no folder, or cannot be read.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise DataError(f"{out}: is no folder, expected one for kustomize; choose another name")
    if out.resolve() == Path.cwd():
        raise DataError(f"{out}: is the working directory; choose a folder in it")
    try:
        there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    except OSError as error:
        raise DataError(f"{out}: cannot be read: {error.strerror or error}; choose another folder") from None
    if there and (MARK not in there or there - {MARK, KUSTOMIZATION, PATCHES}):
        raise DataError(f"{out}: holds other files; expected a new or empty folder, or patches of flashfm alone")


def unfit(sizes: Mapping[str, Float[np.ndarray, " pair"]]) -> Words:
    """Why a configuration is none of a container; the empty text where it is one."""
    memory = sizes[MEMORY]
    return np.where(np.isfinite(memory) & (memory > 0), "", "its configuration has no memory").astype(object)


def write(batches: Iterable[list[tuple[dict[str, str | None], dict[str, float]]]], folder: Path) -> None:
    """Fill an empty folder, batch by batch."""
    (folder / PATCHES).mkdir()
    (folder / MARK).write_text(as_json({"kind": "kustomize", "version": 1}, MARK) + "\n")
    with (folder / KUSTOMIZATION).open("wb") as file:
        file.write(_yaml(_COMPONENT))
        empty = True
        for batch in batches:
            paths = []
            for names, sizes in batch:
                whole = ".".join(name for name in (names[field.name] for field in FIELDS) if name)
                paths.append({"path": f"{PATCHES}/{whole}.yaml"})
                (folder / PATCHES / f"{whole}.yaml").write_bytes(_yaml(patch(names, sizes)))
            if paths:
                text = _yaml({"patches": paths})
                file.write(text if empty else text.partition(b"\n")[2])
                empty = False


def patch(names: Mapping[str, str | None], sizes: Mapping[str, float]) -> dict[str, Any]:
    """The strategic merge patch of one container."""
    memory = f"{math.ceil(sizes[MEMORY])}Mi"
    requests, limits = {"memory": memory}, {"memory": memory}
    if CORES in sizes:
        requests["cpu"] = limits["cpu"] = f"{math.ceil(1000 * sizes[CORES])}m"
    elif SHARES in sizes:
        requests["cpu"] = f"{math.ceil(1000 * sizes[SHARES] / SHARES_PER_CORE)}m"
    metadata = {"name": names["deployment"]}
    if names["namespace"]:
        metadata["namespace"] = names["namespace"]
    container = {"name": names["container"], "resources": {"requests": requests, "limits": limits}}
    spec = {"template": {"spec": {"containers": [container]}}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _yaml(data: object) -> bytes:
    text: bytes = yaml.dump(data, Dumper=_Dumper, sort_keys=False, encoding="utf-8")
    return text


class _Dumper(yaml.CSafeDumper):
    """Without anchors."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True
