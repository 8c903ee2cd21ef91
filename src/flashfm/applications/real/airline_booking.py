"""airline-booking: find a flight, reserve a seat, take the money, file the receipt."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import zlib
from typing import Any, ClassVar

from flashfm.applications.segments.aws import AwsSegment

ROUTE = "FRA-LIS"
SEATS = 1_000_000_000
"""Seats of a flight: more than any campaign books, so that the thousandth booking does the work of the first."""
BOOKINGS = 64
"""Different bookings on file; later ones overwrite earlier ones."""
KEY_ROUNDS = 8_000
"""PBKDF2 rounds that make the payment key of a card; a few milliseconds."""


class AirlineBooking(AwsSegment):
    """Query the flights of a route, reserve a seat by conditional update, sign a payment, store a PDF receipt.

    Five calls an invocation (Query, UpdateItem, two PutItem, PutObject) around little computation.

    Source: after "Airline Booking", one of the four applications of Sizeless (Middleware'21); written anew.
    """

    kind: ClassVar[str] = "airline-booking"
    short: ClassVar[str] = "airline"
    services: ClassVar[tuple[str, ...]] = ("dynamodb", "s3")

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:  # noqa: ARG003 - fixed sizes
        """`flights` of the route."""
        return {"flights": 40}

    @property
    def bookings(self) -> str:
        """Table of payments and bookings."""
        return f"{self.context.namespace}-bookings"

    def provision(self) -> None:
        """Create the flights, the empty bookings and the bucket of receipts."""
        rng = self.context.rng()
        flights = [
            {
                "id": {"S": ROUTE},
                "flight": {"S": f"FM{1000 + i}"},
                "departs_min": {"N": str(int(rng.random() * 1440))},
                "takes_min": {"N": str(165 + int(rng.random() * 240))},
                "stops": {"N": str(int(rng.random() * 3))},
                "price_cents": {"N": str(4900 + int(rng.random() * 40000))},
                "seats": {"N": str(SEATS)},
            }
            for i in range(int(self.params["flights"]))
        ]
        self.make_table(flights, sort_key="flight")
        self.make_table([], table=self.bookings)
        self.make_bucket({})

    def prepare(self) -> None:
        """Make the clients and the customers."""
        super().prepare()
        rng = self.context.rng()
        self._customer: dict[str, Any] = {
            "name": f"Traveller {rng.getrandbits(32):08x}",
            "card": "".join(str(int(rng.random() * 10)) for _ in range(16)),
            "earliest_min": 360,
            "cents_per_minute": 45,
        }
        self._served = 0

    def run(self) -> int:
        """CRC-32 of flight, signature and receipt."""
        booking = f"B{self._served % BOOKINGS:05d}"
        self._served += 1
        flight = self._search()
        self._reserve(flight)
        payment = self._charge(flight)
        receipt = _pdf(_receipt_lines(self._customer["name"], flight, payment))
        self.context.clients["s3"].put_object(
            Bucket=self.bucket, Key=f"receipts/{booking}.pdf", Body=receipt, ContentType="application/pdf"
        )
        self.context.clients["dynamodb"].put_item(
            TableName=self.bookings,
            Item={
                "id": {"S": booking},
                "flight": {"S": flight["flight"]},
                "name": {"S": self._customer["name"]},
                "receipt_sha256": {"S": hashlib.sha256(receipt).hexdigest()},
            },
        )
        return zlib.crc32(receipt, zlib.crc32(payment["signature"].encode()))

    def _search(self) -> dict[str, Any]:
        """The flight with the least price, travel time and stops, in money."""
        page = self.context.clients["dynamodb"].query(
            TableName=self.table,
            KeyConditionExpression="id = :route",
            ExpressionAttributeValues={":route": {"S": ROUTE}},
        )
        flights = [
            {key: int(value["N"]) if "N" in value else value["S"] for key, value in item.items()}
            for item in page["Items"]
        ]

        def cost(flight: dict[str, Any]) -> tuple[int, str]:
            early = max(0, self._customer["earliest_min"] - flight["departs_min"])
            waste = flight["takes_min"] + 60 * flight["stops"] + 2 * early
            return flight["price_cents"] + self._customer["cents_per_minute"] * waste, flight["flight"]

        return min(flights, key=cost)

    def _reserve(self, flight: dict[str, Any]) -> None:
        """Take one seat if one is left."""
        self.context.clients["dynamodb"].update_item(
            TableName=self.table,
            Key={"id": {"S": ROUTE}, "flight": {"S": flight["flight"]}},
            UpdateExpression="SET seats = seats - :one",
            ConditionExpression="seats >= :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )

    def _charge(self, flight: dict[str, Any]) -> dict[str, Any]:
        """Sign and file the payment."""
        card = self._customer["card"].encode()
        key = hashlib.pbkdf2_hmac("sha256", card, ROUTE.encode(), KEY_ROUNDS)
        record = {"amount_cents": flight["price_cents"], "name": self._customer["name"], "flight": flight["flight"]}
        text = json.dumps(record, sort_keys=True)
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        self.context.clients["dynamodb"].put_item(
            TableName=self.bookings,
            Item={
                "id": {"S": f"payment-{self._served % BOOKINGS:05d}"},
                "record": {"S": text},
                "signature": {"S": signature},
            },
        )
        return {**record, "signature": signature}

    def remove(self) -> None:
        """Delete both tables and the bucket."""
        self.drop_bucket()
        self.drop_table(self.bookings)
        self.drop_table()


def _receipt_lines(name: str, flight: dict[str, Any], payment: dict[str, Any]) -> list[str]:
    """Text of the receipt: fare, tax and fees by leg."""
    lines = [f"Receipt for {name}", f"Flight {flight['flight']}  {ROUTE}"]
    net, legs = payment["amount_cents"] * 100 // 119, flight["stops"] + 1
    for leg in range(legs):
        share = net // legs
        for label, percent in (("fare", 62), ("fuel", 21), ("airport", 12), ("security", 5)):
            lines.append(f"leg {leg + 1}  {label:<10}{share * percent / 10_000:10.2f} EUR")
    lines.append(f"tax         {(payment['amount_cents'] - net) / 100:10.2f} EUR")
    lines.append(f"total       {payment['amount_cents'] / 100:10.2f} EUR")
    lines.append(f"signed {payment['signature']}")
    return lines


def _pdf(lines: list[str]) -> bytes:
    """A one-page PDF 1.4 of lines of ASCII text."""
    shown = " T* ".join("({}) Tj".format(line.translate({40: r"\(", 41: r"\)", 92: r"\\"})) for line in lines)
    content = zlib.compress(f"BT /F1 10 Tf 14 TL 50 780 Td {shown} ET".encode("ascii"))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Courier >>",
    ]
    pdf, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(pdf))
        pdf += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(pdf)
    pdf += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    pdf += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    pdf += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(pdf)
