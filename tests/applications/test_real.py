from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flashfm.applications.runtime import Application
from flashfm.applications.segments import REAL, segment_class
from flashfm.applications.services import EmbeddedAws
from flashfm.applications.spec import ApplicationSpec, SegmentSpec

Start = Callable[..., Application]


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as running:
        yield running


@pytest.fixture
def start(tmp_path: Path, aws: EmbeddedAws) -> Iterator[Start]:
    made: list[Application] = []

    def build(kind: str, **params: int) -> Application:
        spec = ApplicationSpec(kind, (SegmentSpec(kind, {**segment_class(kind).example(), **params}),))
        made.append(Application(spec, tmp_path / str(len(made)), endpoint_url=aws.endpoint_url))
        made[-1].provision()
        made[-1].prepare()
        return made[-1]

    yield build
    for application in made:
        for client in application.segments[0].context.clients.values():
            client.close()
    aws.reset()


def client(application: Application, service: str) -> Any:
    return application.segments[0].context.clients[service]


def bucket(application: Application) -> str:
    return f"{application.segments[0].context.namespace}-files"


def table(application: Application, suffix: str = "items") -> str:
    return f"{application.segments[0].context.namespace}-{suffix}"


def test_importing_the_modules_needs_no_library() -> None:
    program = "import sys\n" + "".join(f"import flashfm.applications.real.{x.split(':')[0]}\n" for x in REAL.values())
    program += "assert not {'boto3', 'botocore', 'moto', 'numpy', 'PIL'} & set(sys.modules)\n"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("kind", REAL)
def test_sizes_are_fixed_and_never_patched(kind: str) -> None:
    cls = segment_class(kind)
    assert cls.kind == kind
    assert re.fullmatch("[a-z0-9]{1,9}", cls.short)
    draws = [cls.draw(random.Random(i)) for i in range(5)]
    assert draws == [draws[0]] * 5
    assert draws[0]
    assert cls.patched(draws[0]) is None


@pytest.mark.parametrize("kind", REAL)
def test_equal_specs_give_equal_checksums_every_time_and_in_forks(kind: str, start: Start) -> None:
    first = start(kind)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, json.dumps(first.invoke()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        forked = json.loads(pipe.read())
    assert first.invoke() == first.invoke() == forked
    first.remove()
    assert start(kind).invoke() == forked


@pytest.mark.parametrize("kind", REAL)
def test_remove_leaves_nothing_and_may_be_repeated(kind: str, start: Start) -> None:
    application = start(kind)
    application.invoke()
    application.remove()
    application.remove()
    dynamodb = client(application, "dynamodb")
    assert dynamodb.list_tables()["TableNames"] == []
    if "s3" in application.segments[0].services:
        assert client(application, "s3").list_buckets()["Buckets"] == []


@pytest.mark.parametrize("kind", REAL)
def test_the_smallest_sizes_work(kind: str, start: Start) -> None:
    small = dict.fromkeys(segment_class(kind).example(), 1)
    application = start(kind, **small)
    assert application.invoke() == application.invoke()


def test_a_booking_takes_a_seat_and_files_a_receipt(start: Start) -> None:
    application = start("airline-booking", flights=5)
    for _ in range(2):
        application.invoke()
    flights = client(application, "dynamodb").scan(TableName=table(application))["Items"]
    assert sorted(1_000_000_000 - int(flight["seats"]["N"]) for flight in flights) == [0, 0, 0, 0, 2]
    booking = client(application, "dynamodb").get_item(
        TableName=table(application, "bookings"), Key={"id": {"S": "B00001"}}
    )["Item"]
    receipt = client(application, "s3").get_object(Bucket=bucket(application), Key="receipts/B00001.pdf")["Body"].read()
    assert hashlib.sha256(receipt).hexdigest() == booking["receipt_sha256"]["S"]
    assert receipt.startswith(b"%PDF-1.4")
    start_of_table = int(receipt.split(b"startxref\n")[1].split()[0])
    offsets = [int(line.split()[0]) for line in receipt[start_of_table:].split(b"\n")[3:8]]
    assert [receipt[at : at + 7] for at in offsets] == [b"%d 0 obj" % i for i in range(1, 6)]


def test_recognition_matches_a_plain_convolution() -> None:
    import numpy as np

    from flashfm.applications.real.image_recognition import ImageRecognition
    from flashfm.applications.segments import Context

    segment = ImageRecognition({"side_px": 8}, Context(Path(), "x", 3, "http://127.0.0.1:9"))
    segment.prepare()
    try:
        pixels = np.random.default_rng(0).normal(size=(8, 8, 3))
        segment._kernels, segment._head = segment._kernels[:1], segment._head[:16]
        kernel = segment._kernels[0].astype(float).reshape(3, 3, 3, 16)  # channel, row, column, output
        padded, out = np.zeros((10, 10, 3)), np.zeros((4, 4, 16))
        padded[1:9, 1:9] = pixels
        for y in range(8):
            for x in range(8):
                value = np.einsum("abc,cabo->o", padded[y : y + 3, x : x + 3], kernel)
                out[y // 2, x // 2] = np.maximum(out[y // 2, x // 2], np.maximum(value, 0))
        logits = out.mean(axis=(0, 1)) @ segment._head
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(segment._forward(pixels), expected, rtol=1e-6)
    finally:
        for each in segment.context.clients.values():
            each.close()


def test_recognition_files_its_labels(start: Start) -> None:
    from PIL import Image

    application = start("image-recognition", side_px=100)
    application.invoke()
    stored = client(application, "s3").get_object(Bucket=bucket(application), Key="photograph.jpg")["Body"].read()
    with Image.open(io.BytesIO(stored)) as image:
        assert image.size == (100, 100)
    (item,) = client(application, "dynamodb").scan(TableName=table(application))["Items"]
    scores = [float(label["M"]["score"]["N"]) for label in item["labels"]["L"]]
    assert scores == sorted(scores, reverse=True)
    assert 0 < sum(scores) <= 1


def test_events_are_counted_and_the_batch_is_kept(start: Start) -> None:
    application = start("event-processing", events=500)
    application.invoke()
    stored = client(application, "s3").get_object(Bucket=bucket(application), Key="raw/001.jsonl.gz")
    assert len(gzip.decompress(stored["Body"].read()).splitlines()) == 500
    items = client(application, "dynamodb").scan(TableName=table(application))["Items"]
    rejected = int(stored["Metadata"]["rejected"])
    assert 0 < rejected < 50
    assert sum(int(item["count"]["N"]) for item in items) == 500 - rejected
    for item in items:
        p50, p95, p99 = (float(item[f"temperature_p{p}"]["N"]) for p in (50, 95, 99))
        assert 5 <= p50 <= p95 <= p99 <= 35


def test_percentiles_are_nearest_ranks() -> None:
    from flashfm.applications.real.event_processing import _aggregate

    events = [
        {"sensor": "s", "time_s": 1.0, "temperature": float(i), "humidity": 1.0, "battery": 1.0} for i in range(1, 11)
    ]
    (item,) = _aggregate(events)
    assert [float(item[f"temperature_p{p}"]["N"]) for p in (50, 95, 99)] == [5, 10, 10]
    assert float(item["temperature_mean"]["N"]) == 5.5


def test_search_ranks_the_products_that_match() -> None:
    from flashfm.applications.real.retail_catalogue import _rank, _render

    products = [
        {"product": "a", "title": "tent", "text": "light <b>", "brand": "Fir", "price_cents": 5000},
        {"product": "b", "title": "jacket", "text": "warm", "brand": "Fir", "price_cents": 5000},
        {"product": "c", "title": "stove", "text": "warm", "brand": "Oak", "price_cents": 5000},
    ]
    ranked = _rank(products, "warm jacket")
    assert [p["product"] for p in ranked] == ["b", "c", "a"]
    assert ranked[2]["score"] == 0
    from collections import Counter

    page = _render(ranked, Counter({"Fir": 2, "Oak": 1}))
    assert "light &lt;b&gt;" in page
    assert "<li>Fir (2)</li>" in page
    assert "50.00 EUR" in page
