from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flashfm.applications.segments import POOL, Context, Segment, segment_class
from flashfm.applications.segments.aws import new_client
from flashfm.applications.services import EmbeddedAws
from flashfm.errors import ServiceError

KINDS = [kind for kind in POOL if kind.startswith(("dynamodb-", "s3-"))]
SMALL: dict[str, dict[str, int | float | str]] = {
    "dynamodb-read": {"items": 60},
    "dynamodb-write": {"items": 3},
    "s3-read": {"file_kb": 128, "objects": 2},
    "s3-write": {"file_kb": 128, "objects": 2},
    "s3-stream": {"file_kb": 128, "objects": 2},
}
Make = Callable[..., Segment]


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as running:
        yield running


@pytest.fixture
def make(tmp_path: Path, aws: EmbeddedAws) -> Iterator[Make]:
    made: list[Segment] = []

    def build(kind: str, *, seed: int = 7, url: str = aws.endpoint_url, **sizes: int) -> Segment:
        made.append(segment_class(kind)({**SMALL[kind], **sizes}, Context(tmp_path, "ft-test", seed, url)))
        return made[-1]

    yield build
    for segment in made:
        for client in segment.context.clients.values():
            client.close()
    aws.reset()


def names(aws: EmbeddedAws) -> list[str]:
    """Every bucket and table that exists."""
    context = Context(Path(), "ft", 0, aws.endpoint_url)
    s3, dynamodb = new_client(context, "s3"), new_client(context, "dynamodb")
    try:
        return [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] + dynamodb.list_tables()["TableNames"]
    finally:
        s3.close()
        dynamodb.close()


def test_importing_the_modules_needs_no_library() -> None:
    modules = ["aws_reads", "aws_server", "services", *(f"segments.{POOL[kind].split(':')[0]}" for kind in KINDS)]
    program = "import sys\n" + "".join(f"import flashfm.applications.{name}\n" for name in modules)
    program += "assert not {'boto3', 'botocore', 'moto', 'werkzeug', 'numpy', 'PIL'} & set(sys.modules)\n"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_checksum_every_time(kind: str, make: Make) -> None:
    sums = []
    for seed in (7, 7, 8):
        segment = make(kind, seed=seed)
        segment.provision()
        segment.prepare()
        sums += [segment.run(), segment.run()]
        segment.remove()
    assert len(set(sums[:4])) == 1
    assert sums[4] == sums[5] != sums[0]


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_in_forks_of_the_process_that_prepared_it(kind: str, make: Make) -> None:
    segment = make(kind)
    segment.provision()
    segment.prepare()
    children = [fork_and_run(segment) for _ in range(2)]
    sums = [finish(*child) for child in children]
    assert sums == [segment.run()] * 2
    segment.remove()


def fork_and_run(segment: Segment) -> tuple[int, int]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writer, f"{segment.run()}\n".encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    return reader, child


def finish(reader: int, child: int) -> int:
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return int(text)


@pytest.mark.parametrize("kind", KINDS)
def test_prepare_opens_no_connection(kind: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("prepare opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    segment = make(kind)
    segment.prepare()
    assert set(segment.context.clients) == set(segment.services)


@pytest.mark.parametrize("kind", KINDS)
def test_segments_of_an_instance_share_a_client(kind: str, make: Make) -> None:
    first, second = make(kind), make(kind)
    second.context.clients = first.context.clients
    first.prepare()
    before = dict(first.context.clients)
    second.prepare()
    assert second.context.clients == before


@pytest.mark.parametrize("kind", KINDS)
def test_remove_leaves_nothing_and_may_be_repeated(kind: str, make: Make, aws: EmbeddedAws) -> None:
    segment = make(kind)
    segment.remove()  # nothing is there yet
    segment.provision()
    segment.prepare()
    segment.run()
    assert names(aws)
    segment.provision()  # what is there is used again
    segment.remove()
    assert names(aws) == []
    segment.remove()


@pytest.mark.parametrize("kind", ["dynamodb-read", "s3-write"])
def test_without_a_service_removing_passes_and_provisioning_fails(kind: str, make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    segment = make(kind, url=url)
    segment.prepare()
    segment.remove()
    with pytest.raises(ServiceError, match=rf"at {url}: cannot create .*; check that the service runs"):
        segment.provision()


@pytest.mark.parametrize("kind", ["dynamodb-write", "s3-write"])
def test_writing_overwrites(kind: str, make: Make, aws: EmbeddedAws) -> None:
    segment = make(kind)
    segment.provision()
    segment.prepare()
    for _ in range(40):
        segment.run()
    if kind == "s3-write":
        found = segment.context.clients["s3"].list_objects_v2(Bucket="ft-test-files")["Contents"]
        assert [entry["Key"] for entry in found] == [f"out/{os.getpid()}/{i}" for i in range(2)]
    else:
        assert segment.context.clients["dynamodb"].scan(TableName="ft-test-items")["Count"] == 64


def test_streaming_stores_the_transformed_bytes(make: Make) -> None:
    segment = make("s3-stream")
    segment.provision()
    segment.prepare()
    segment.run()
    s3 = segment.context.clients["s3"]
    before, after = (
        s3.get_object(Bucket="ft-test-files", Key=key)["Body"].read() for key in ("in/1", f"out/{os.getpid()}/1")
    )
    assert len(before) == 128 * 1024
    assert after == before.upper() != before


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_sizes_are_json_and_in_their_ranges(kind: str) -> None:
    cls = segment_class(kind)
    draws = [cls.draw(random.Random(i)) for i in range(200)]
    assert json.loads(json.dumps(draws)) == draws
    assert len({json.dumps(draw) for draw in draws}) >= 3
    for draw in draws:
        if kind == "dynamodb-read":
            assert draw["items"] in (256, 512, 1024)
        elif kind == "dynamodb-write":
            assert 1 <= int(draw["items"]) <= 12
        else:
            assert draw["file_kb"] in (128, 256, 384)
            assert 1 <= int(draw["objects"]) <= 4


def test_patched_sizes() -> None:
    assert segment_class("dynamodb-read").patched({"items": 1024}) == {"items": 10240}
    assert segment_class("dynamodb-write").patched({"items": 3}) is None
    for kind in ("s3-read", "s3-write", "s3-stream"):
        cls = segment_class(kind)
        for small, large in ((128, 512), (256, 768), (384, 1024)):
            assert cls.patched({"file_kb": small, "objects": 3}) == {"file_kb": large, "objects": 3}
        assert cls.patched({"file_kb": 100, "objects": 3}) is None


def test_a_patched_scan_reads_all_pages(make: Make) -> None:
    segment = make("dynamodb-read", items=10240)
    segment.provision()
    segment.prepare()
    rng, total = segment.context.rng(), 0
    for _ in range(10240):
        total += rng.getrandbits(20)
        rng.randbytes(32)
    assert segment.run() == total
