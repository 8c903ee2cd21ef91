"""What the segments that call AWS share: boto3 clients, buckets and tables. A context in, clients out; no sizes here.

A client is made in `prepare` and kept in `context.clients`; making one opens no connection, so an instance may be
prepared in one process and run in its forks. `provision` and `remove` use clients of their own and close them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from flashfm.applications.segments.base import Context, Segment
from flashfm.errors import ServiceError

KIB = 1024
"""Bytes in one of the paper's file KB."""
CONNECT_TIMEOUT_S = 2
"""Longest wait for a connection to an `endpoint_url`, which is near."""
READ_TIMEOUT_S = 60
"""Longest wait for an answer: the service may share a throttled core with many instances."""
BATCH_ITEMS = 25
"""Items that DynamoDB takes in one BatchWriteItem call."""

_GONE = {"NoSuchBucket", "NoSuchKey", "404", "ResourceNotFoundException"}
_THERE = {"BucketAlreadyOwnedByYou", "ResourceInUseException"}


def new_client(context: Context, service: str, *, retries: int = 1) -> Any:
    """Make a boto3 client; opens no connection.

    Args:
        context: its `endpoint_url` decides between dummy credentials there and boto3's own configuration.
        service: "s3" or "dynamodb".
        retries: attempts after the first, for an `endpoint_url` only.
    """
    import boto3
    from botocore.config import Config

    if context.endpoint_url is None:
        return boto3.session.Session().client(service)
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"max_attempts": retries, "mode": "standard"},
        s3={"addressing_style": "path"},
        proxies={},
    )
    session = boto3.session.Session(
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - the embedded server checks no secret
        region_name="us-east-1",
    )
    return session.client(service, endpoint_url=context.endpoint_url, config=config)


def client(context: Context, service: str) -> Any:
    """The instance's client of a service: made at the first call, which `prepare` makes, and shared from then on."""
    if service not in context.clients:
        context.clients[service] = new_client(context, service)
    return context.clients[service]


@contextmanager
def own_client(context: Context, service: str, task: str) -> Iterator[Any]:
    """A client outside the instance, closed at the end, without retries at an `endpoint_url`.

    Raises:
        ServiceError: botocore failed inside the block; `task` says at what.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        made = new_client(context, service, retries=0)
        try:
            yield made
        finally:
            made.close()
    except (BotoCoreError, ClientError) as error:
        where = context.endpoint_url or "AWS (boto3's own configuration)"
        raise ServiceError(
            f"{service} at {where}: cannot {task}: {error}; "
            "check that the service runs, and the region and credentials that boto3 finds"
        ) from error


@contextmanager
def forgiving(context: Context) -> Iterator[None]:
    """Let pass that a resource is gone, or with it the whole service at an `endpoint_url`; raise everything else."""
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in _GONE:
            raise
    except (ConnectionError, HTTPClientError):  # refused, timed out, closed
        if context.endpoint_url is None:
            raise


class AwsSegment(Segment):
    """A segment that calls S3 or DynamoDB. Subclasses state `services`, all of which get a client in `prepare`."""

    bound: ClassVar[str] = "network"
    requires: ClassVar[tuple[str, ...]] = ("boto3",)

    @property
    def bucket(self) -> str:
        """The deployment's bucket."""
        return f"{self.context.namespace}-files"

    @property
    def table(self) -> str:
        """The deployment's table, unless it has several."""
        return f"{self.context.namespace}-items"

    def prepare(self) -> None:
        """Import boto3 and make the clients; opens no connection."""
        for service in self.services:
            client(self.context, service)

    def make_bucket(self, files: dict[str, bytes]) -> None:
        """Create `bucket` with `files` by key; one that exists is filled anew.

        Raises:
            ServiceError: S3 refused or did not answer.
        """
        with own_client(self.context, "s3", f"create bucket {self.bucket}") as s3:
            region = s3.meta.region_name
            place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            with _tolerating_existing():
                s3.create_bucket(Bucket=self.bucket, **place)
            for key, body in files.items():
                s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def drop_bucket(self) -> None:
        """Delete `bucket` with everything in it, whoever wrote it; nothing to do where it is gone.

        Raises:
            ServiceError: S3 refused.
        """
        with own_client(self.context, "s3", f"delete bucket {self.bucket}") as s3, forgiving(self.context):
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
                keys = [{"Key": found["Key"]} for found in page.get("Contents", [])]
                if keys:
                    s3.delete_objects(Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True})
            s3.delete_bucket(Bucket=self.bucket)

    def make_table(self, items: Sequence[dict[str, Any]], *, table: str | None = None, sort_key: str = "") -> None:
        """Create a table billed by request and fill it; one that exists is filled anew.

        Args:
            items: in DynamoDB's typed form, with a string `id` each and pairwise different keys.
            table: its name; `self.table` where None.
            sort_key: a string attribute that completes the key, if any.

        Raises:
            ServiceError: DynamoDB refused or did not answer.
        """
        name = table or self.table
        keys = {"id": "HASH"} | ({sort_key: "RANGE"} if sort_key else {})
        with own_client(self.context, "dynamodb", f"create table {name}") as dynamodb:
            with _tolerating_existing():
                dynamodb.create_table(
                    TableName=name,
                    KeySchema=[{"AttributeName": key, "KeyType": role} for key, role in keys.items()],
                    AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
                    BillingMode="PAY_PER_REQUEST",
                )
            dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
            for start in range(0, len(items), BATCH_ITEMS):
                batch = items[start : start + BATCH_ITEMS]
                left = {name: [{"PutRequest": {"Item": item}} for item in batch]}
                while left:
                    left = dynamodb.batch_write_item(RequestItems=left).get("UnprocessedItems", {})

    def drop_table(self, table: str | None = None) -> None:
        """Delete a table; nothing to do where it is gone.

        Raises:
            ServiceError: DynamoDB refused.
        """
        name = table or self.table
        with own_client(self.context, "dynamodb", f"delete table {name}") as dynamodb, forgiving(self.context):
            dynamodb.delete_table(TableName=name)


@contextmanager
def _tolerating_existing() -> Iterator[None]:
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in _THERE:
            raise
