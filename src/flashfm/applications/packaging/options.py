"""Options of packaging, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flashfm.applications.deployment import AWS
from flashfm.applications.handler import check_deployment, check_endpoint
from flashfm.errors import PackagingError, SpecError

_IMAGE = re.compile(
    r"[a-z0-9]+([._-][a-z0-9]+)*(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(@sha256:[0-9a-f]{64})?"
)


@dataclass(frozen=True)
class PackageOptions:
    """How a packaged application is to run."""

    memory_mb: int = 512
    """Memory of an instance in MiB, in [128, 10240]; on AWS Lambda it also fixes the CPU share."""
    timeout_s: int = 60
    """Longest invocation in seconds, in [1, 900]; OpenWhisk's own default limit is 300."""
    endpoint_url: str | None = None
    """Of S3 and DynamoDB; "aws" for AWS itself. None is AWS itself for functions, and for Kubernetes embedded services
    of each pod, which last as long as it."""
    deployment: str = "0"
    """Prefix of buckets and tables. Bucket names are shared by all customers of AWS: choose one of your own there."""
    image: str | None = None
    """Kubernetes: the container image; `flashfm-NAME:VERSION` by default."""
    cpu_cores: float = 0.5
    """Kubernetes: CPU cores of a pod, in [0.05, 64]; requested and limit, so that the QoS class stays Guaranteed."""
    min_replicas: int = 1
    """Kubernetes: fewest pods."""
    max_replicas: int = 10
    """Kubernetes: most pods, at most 1000."""

    def __post_init__(self) -> None:
        _check("memory_mb", self.memory_mb, 128, 10_240)
        _check("timeout_s", self.timeout_s, 1, 900)
        _check("cpu_cores", self.cpu_cores, 0.05, 64)
        _check("min_replicas", self.min_replicas, 1, 1000)
        _check("max_replicas", self.max_replicas, self.min_replicas, 1000)
        try:
            check_deployment(self.deployment)
            if self.endpoint_url not in (None, AWS):
                check_endpoint(str(self.endpoint_url))
        except SpecError as error:
            raise PackagingError(f"package option: {error}") from None
        if self.image is not None and not (len(self.image) <= 255 and _IMAGE.fullmatch(self.image)):
            raise PackagingError(
                f"package option image: {self.image[:80]!r}; expected [HOST[:PORT]/]NAME[:TAG], such as "
                "registry.example.org/flashfm:1"
            )


def _check(name: str, value: int | float, low: int | float, high: int | float) -> None:
    if not low <= value <= high:
        raise PackagingError(f"package option {name}: {value}; expected a number in [{low}, {high}]")
