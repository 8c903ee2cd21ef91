from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flashfm.applications.segments import Context
from flashfm.applications.segments.aws import new_client
from flashfm.applications.services import EmbeddedAws
from flashfm.errors import ServiceError


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as running:
        yield running


@pytest.fixture
def clients(aws: EmbeddedAws, tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    context = Context(tmp_path, "fs", 1, aws.endpoint_url)
    made = new_client(context, "s3"), new_client(context, "dynamodb")
    yield made
    for each in made:
        each.close()
    aws.reset()


def alive(pid: int) -> bool:
    """Whether the process runs; one that is dead but not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_objects_round_trip_with_every_size_and_method(clients: tuple[Any, Any]) -> None:
    s3, _ = clients
    s3.create_bucket(Bucket="bucket")
    for size in (0, 1, 100_000, 3_000_000):
        s3.put_object(Bucket="bucket", Key="k", Body=b"x" * size)
        assert s3.head_object(Bucket="bucket", Key="k")["ContentLength"] == size
        assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == b"x" * size
    s3.delete_object(Bucket="bucket", Key="k")
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="bucket", Key="k")


def test_one_connection_serves_many_requests(aws: EmbeddedAws) -> None:
    with socket.create_connection(("127.0.0.1", int(aws.endpoint_url.rpartition(":")[2])), timeout=10) as link:
        for _ in range(3):
            link.sendall(b"GET /moto-api/seed?a=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert link.recv(65536).startswith(b"HTTP/1.1 ")


def test_it_listens_on_the_loopback_device_only(aws: EmbeddedAws) -> None:
    assert aws.endpoint_url.startswith("http://127.0.0.1:")
    port = int(aws.endpoint_url.rpartition(":")[2])
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    assert f"0100007F:{port:04X}" in listening
    assert f"00000000:{port:04X}" not in listening


def test_fast_reads_answer_like_moto(clients: tuple[Any, Any]) -> None:
    _, dynamodb = clients
    types = [{"AttributeName": key, "AttributeType": "S"} for key in ("id", "part")]
    hash_only = [{"AttributeName": "id", "KeyType": "HASH"}]
    for table, schema, attributes in (
        ("plain", hash_only, types[:1]),
        ("ranged", [*hash_only, {"AttributeName": "part", "KeyType": "RANGE"}], types),
    ):
        dynamodb.create_table(
            TableName=table, KeySchema=schema, AttributeDefinitions=attributes, BillingMode="PAY_PER_REQUEST"
        )
        for i in range(30):
            item = {
                "id": {"S": f"hash-{(i * 7) % 30 if table == 'plain' else i % 2}"},
                "part": {"S": f"é{(i * 11) % 30:02d}"},
                "bulk": {"S": "x" * 90_000},
                "all": {"L": [{"N": "1.50"}, {"B": b"\0\xff"}, {"M": {"t": {"BOOL": False}, "n": {"NULL": True}}}]},
                "set": {"SS": ["a", "b"]},
            }
            dynamodb.put_item(TableName=table, Item=item)

    def pages(call: Any, **options: Any) -> list[Any]:
        found: list[Any] = []
        start: dict[str, Any] = {}
        while True:
            answer = call(**options, **start)
            del answer["ResponseMetadata"]
            found.append(answer)
            if "LastEvaluatedKey" not in answer:
                return found
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    for table in ("plain", "ranged"):
        fast = pages(dynamodb.scan, TableName=table)
        assert len(fast) == 3
        assert fast == pages(dynamodb.scan, TableName=table, ConsistentRead=False)
        one = {
            "TableName": table,
            "KeyConditionExpression": "id = :id",
            "ExpressionAttributeValues": {":id": {"S": "hash-1"}},
        }
        fast = pages(dynamodb.query, **one)
        assert sum(page["Count"] for page in fast) == (1 if table == "plain" else 15)
        assert fast == pages(dynamodb.query, **one, ScanIndexForward=True)


def test_calls_that_moto_refuses_are_refused(clients: tuple[Any, Any]) -> None:
    _, dynamodb = clients
    with pytest.raises(dynamodb.exceptions.ResourceNotFoundException):
        dynamodb.scan(TableName="absent")


def test_reset_deletes_everything(aws: EmbeddedAws, clients: tuple[Any, Any]) -> None:
    s3, dynamodb = clients
    s3.create_bucket(Bucket="bucket")
    dynamodb.create_table(
        TableName="table",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    aws.reset()
    assert s3.list_buckets()["Buckets"] == []
    assert dynamodb.list_tables()["TableNames"] == []


def test_close_reaps_and_may_be_repeated() -> None:
    aws = EmbeddedAws()
    pid = aws.pid
    assert alive(pid)
    aws.close()
    assert not Path(f"/proc/{pid}").exists()
    aws.close()
    with pytest.raises(ServiceError, match=r"cannot reset.*start a new EmbeddedAws"):
        aws.reset()


def test_a_fork_cannot_close_it(aws: EmbeddedAws) -> None:
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            aws.close()
        os._exit(0)
    os.waitpid(child, 0)
    aws.reset()
    assert alive(aws.pid)


def test_it_outlives_the_thread_that_started_it() -> None:
    started: list[EmbeddedAws] = []
    thread = threading.Thread(target=lambda: started.append(EmbeddedAws()))
    thread.start()
    thread.join()
    with started[0] as aws:
        time.sleep(0.2)
        aws.reset()
        assert alive(aws.pid)


def test_it_dies_with_a_killed_parent_whose_fork_lives_on() -> None:
    program = (
        "import os, time\n"
        "from flashfm.applications.services import EmbeddedAws\n"
        "aws = EmbeddedAws()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    time.sleep(60)\n"
        "    os._exit(0)\n"
        "print(aws.pid, child, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        server, fork = map(int, parent.stdout.readline().split())
        try:
            assert alive(server)
            parent.kill()
            parent.wait()
            assert alive(fork)
            assert gone_within(server, 10)
        finally:
            os.kill(fork, signal.SIGKILL)


def test_an_unusable_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(ServiceError, match=r"cannot start /nonexistent/python.*moto\[server\]"):
        EmbeddedAws()


def test_a_server_that_ends_early_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", script(tmp_path, "echo 'no module named moto' >&2; exit 3"))
    with pytest.raises(ServiceError, match=r"status 3 before it answered.*last words: no module named moto"):
        EmbeddedAws()


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", script(tmp_path, "exec sleep 60"))
    with pytest.raises(ServiceError, match=r"no answer within 0\.2 s"):
        EmbeddedAws(start_timeout_s=0.2)


def script(folder: Path, text: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)
