"""A deployment of an application on this machine: provisioned on entry, removed on exit, whatever happens between.

A spec in, prepared instances out. S3 and DynamoDB are embedded where the spec needs them and no endpoint is given.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flashfm.applications.handler import check_deployment, check_endpoint, one_line, provision_inside
from flashfm.applications.runtime import Application
from flashfm.applications.services import EmbeddedAws
from flashfm.applications.spec import ApplicationSpec
from flashfm.errors import FlashError

AWS = "aws"
"""The endpoint that stands for AWS itself, reached through boto3's own configuration."""


@dataclass
class Deployment:
    """One deployment while it exists."""

    spec: ApplicationSpec
    workdir: Path
    endpoint_url: str | None
    """Where S3 and DynamoDB are; None is boto3's own configuration, or that the spec calls neither."""
    name: str
    """Distinguishes names of buckets and tables."""
    _instances: list[Application] = field(default_factory=list)

    def application(self) -> Application:
        """An instance that is not prepared."""
        made = Application(self.spec, self.workdir, endpoint_url=self.endpoint_url, deployment=self.name)
        self._instances.append(made)
        return made

    def instance(self) -> Application:
        """An instance, prepared.

        Raises:
            FlashError: a library is missing, or a segment failed.
        """
        made = self.application()
        with failing_in_one_line(self.spec, "prepare"):
            made.prepare()
        return made

    def close(self) -> None:
        """Close the clients of all instances."""
        for instance in self._instances:
            close_clients(instance)


@contextmanager
def deployed(
    spec: ApplicationSpec, *, endpoint_url: str | None = None, name: str | None = None, provision: bool = True
) -> Iterator[Deployment]:
    """Deploy an application for the length of a block.

    Args:
        spec: the application.
        endpoint_url: of S3 and DynamoDB; `AWS` for AWS itself; None embeds both where the spec needs them.
        name: of the deployment; a random one by default, "0" without `provision`.
        provision: create and in the end remove buckets and tables; False where somebody else has provisioned them,
            which needs an `endpoint_url`. Files in the deployment's directory are made either way.

    Raises:
        FlashError: something could not be created, or in the end removed.
    """
    own = name or (secrets.token_hex(4) if provision else "0")
    with ExitStack() as stack:
        workdir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flashfm-")))
        endpoint = external_endpoint(endpoint_url)
        services = Application.services(spec)
        if services and endpoint_url is None:
            if not provision:
                raise FlashError(
                    f"application {spec.name}: embedded S3 and DynamoDB start empty; "
                    "give the endpoint that is provisioned, or let the application be provisioned"
                )
            endpoint = stack.enter_context(EmbeddedAws()).endpoint_url
        place = Deployment(spec, workdir, endpoint, check_deployment(own))
        stack.callback(place.close)
        first = place.application()
        with failing_in_one_line(spec, "provision"):
            if provision:
                first.provision()
            else:
                provision_inside(first)
        if provision:
            stack.callback(_remove, first)
        yield place


def external_endpoint(endpoint_url: str | None) -> str | None:
    """What segments are given for an endpoint that the user named: None for AWS itself and for none.

    Raises:
        SpecError: it is no address.
    """
    return None if endpoint_url in (None, AWS) else check_endpoint(str(endpoint_url))


def close_clients(application: Application) -> None:
    """Close the boto3 clients of an instance."""
    for segment in application.segments:
        while segment.context.clients:
            segment.context.clients.popitem()[1].close()


@contextmanager
def failing_in_one_line(spec: ApplicationSpec, task: str) -> Iterator[None]:
    """Turn what a segment raises into one line that says what failed and how to mend it.

    Raises:
        FlashError: the block raised anything.
    """
    try:
        yield
    except FlashError:
        raise
    except ImportError as error:
        needs = " ".join(Application.requirements(spec))
        raise FlashError(f"application {spec.name}: cannot {task}: {error}; pip install {needs}") from error
    except Exception as error:
        raise FlashError(f"application {spec.name}: cannot {task}: {one_line(error)}") from error


def _remove(application: Application) -> None:
    with failing_in_one_line(application.spec, "remove"):
        application.remove()
