"""Packages an application for a platform: a spec in, files out, text and one zip. `package` is pure, `write` writes.

Targets: an OpenWhisk action, Kubernetes manifests with an image to build, an AWS SAM template. The same spec, options
and version of flashfm give the same bytes.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path

from flashfm import __version__
from flashfm.applications.packaging.artefacts import Files, json_bytes
from flashfm.applications.packaging.kubernetes import kubernetes
from flashfm.applications.packaging.openwhisk import openwhisk
from flashfm.applications.packaging.options import PackageOptions
from flashfm.applications.packaging.sam import sam
from flashfm.applications.spec import ApplicationSpec
from flashfm.errors import PackagingError

MARK = "flashfm-package.json"
"""The file that says what a package is of; only a directory with it is ever replaced."""


class Target(StrEnum):
    """A platform."""

    OPENWHISK = "openwhisk"
    KUBERNETES = "kubernetes"
    SAM = "sam"


_MAKERS: dict[Target, Callable[[ApplicationSpec, PackageOptions], Files]] = {
    Target.OPENWHISK: openwhisk,
    Target.KUBERNETES: kubernetes,
    Target.SAM: sam,
}


def package(spec: ApplicationSpec, target: Target, options: PackageOptions | None = None) -> Files:
    """The artefacts of an application for a platform, by relative path; nothing is written.

    Raises:
        SpecError: the spec names segments or sizes that it may not.
        PackagingError: a source of flashfm is missing.
    """
    checked = ApplicationSpec.from_dict(spec.to_dict())
    files = _MAKERS[target](checked, options or PackageOptions())
    mark = {"app": spec.name, "digest": spec.digest, "flashfm": __version__, "target": target.value}
    return dict(sorted({**files, MARK: json_bytes(mark)}.items()))


def write(files: Mapping[str, bytes], out: Path) -> None:
    """Write artefacts into a directory, all or none; an older package there is replaced, anything else is left alone.

    Raises:
        PackagingError: the directory holds other files, or cannot be written.
    """
    for path in files:
        if path.startswith("/") or ".." in path.split("/"):
            raise PackagingError(f"package file {path!r}: expected a path below the output directory")
    out = Path(os.path.abspath(out))  # noqa: PTH100 - resolve() would follow a link, which is refused below
    try:
        _refuse_foreign(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            for path, content in files.items():
                file = made / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
                file.chmod(0o755 if path.endswith(".sh") else 0o644)
            made.chmod(0o755)
            _swap(made, out)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise PackagingError(
            f"package: cannot write {str(out)!r}: {error.strerror or error}; choose another --out"
        ) from error


def _refuse_foreign(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise PackagingError(f"package: {str(out)!r} is no directory; choose another --out")
    if out == Path.cwd():
        raise PackagingError(f"package: {str(out)!r} is the working directory; choose a directory in it as --out")
    if not out.is_dir() or not any(out.iterdir()):
        return
    try:
        ours = set(json.loads((out / MARK).read_bytes())) == {"app", "digest", "flashfm", "target"}
    except (OSError, ValueError, TypeError):
        ours = False
    if not ours:
        raise PackagingError(
            f"package: {str(out)!r} holds other files; expected a new or empty directory, or an older package"
        )


def _swap(made: Path, out: Path) -> None:
    """Put a finished directory in the place of another; until the last rename the old one is there or comes back."""
    if not out.exists():
        made.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
    try:
        out.rename(old / "old")
        try:
            made.rename(out)
        except BaseException:
            (old / "old").rename(out)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


__all__ = ["MARK", "Files", "PackageOptions", "Target", "package", "write"]
