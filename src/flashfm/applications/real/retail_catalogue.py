"""retail-catalogue: a search in a shop, from the products of a category to the page."""

from __future__ import annotations

import gzip
import hashlib
import html
import math
import random
import re
from collections import Counter
from string import Template
from typing import Any, ClassVar

from flashfm.applications.segments.aws import AwsSegment

CATEGORY = "outdoor"
BRANDS = ("Alder", "Birch", "Cedar", "Fir", "Larch", "Maple", "Oak", "Pine")
WORDS = (
    "light", "tent", "warm", "jacket", "dry", "boots", "trail", "pack", "rope", "lamp", "stove", "steel",
    "down", "wool", "water", "proof", "summer", "winter", "alpine", "compact", "folding", "spare", "large",
    "small", "family", "solo", "climbing", "hiking", "running", "river", "snow", "rain", "wind", "sun", "night",
    "camp",
)  # fmt: skip
SEARCH = "warm water proof jacket for winter hiking"
MIN_PRICE_CENTS, MAX_PRICE_CENTS = 2_000, 30_000
PAGE_PRODUCTS = 24
_TOKEN = re.compile(r"[a-z]+")
_K1, _B = 1.2, 0.75
_CARD = Template(
    '<li class="product" id="$id"><h2>$title</h2><p class="brand">$brand</p><p>$text</p>'
    '<p class="price">$price EUR</p><p class="score">$score</p></li>\n'
)
_PAGE = Template(
    "<!doctype html>\n<html lang=en><head><title>$title</title></head><body><h1>$title</h1>\n"
    '<ul class="facets">\n$facets</ul>\n<ol>\n$cards</ol></body></html>\n'
)


class RetailCatalogue(AwsSegment):
    """Query a category's products, filter them by facets, rank them by BM25, render a page, compress and tag it.

    One call an invocation (Query) with a long answer, then text work.

    Source: after "Hello Retail", one of the four applications of Sizeless (Middleware'21); written anew. Ranking:
    Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009).
    """

    kind: ClassVar[str] = "retail-catalogue"
    short: ClassVar[str] = "retail"
    bound: ClassVar[str] = "cpu"
    services: ClassVar[tuple[str, ...]] = ("dynamodb",)

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:  # noqa: ARG003 - fixed sizes
        """`products` of the category."""
        return {"products": 300}

    def provision(self) -> None:
        """Create the products."""
        rng = self.context.rng()

        def words(count: int) -> str:
            return " ".join(WORDS[int(rng.random() * len(WORDS))] for _ in range(count))

        self.make_table(
            [
                {
                    "id": {"S": CATEGORY},
                    "product": {"S": f"P{i:05d}"},
                    "title": {"S": words(3)},
                    "text": {"S": words(30)},
                    "brand": {"S": BRANDS[int(rng.random() * len(BRANDS))]},
                    "price_cents": {"N": str(500 + int(rng.random() * 40_000))},
                    "stock": {"N": str(int(rng.random() * 6))},
                }
                for i in range(int(self.params["products"]))
            ],
            sort_key="product",
        )

    def run(self) -> int:
        """The first 48 bits of the page's entity tag."""
        products = self._products()
        chosen = [
            product
            for product in products
            if product["stock"] > 0 and MIN_PRICE_CENTS <= product["price_cents"] <= MAX_PRICE_CENTS
        ]
        facets = Counter(str(product["brand"]) for product in chosen)
        page = _render(_rank(chosen, SEARCH)[:PAGE_PRODUCTS], facets).encode()
        packed = gzip.compress(page, compresslevel=6, mtime=0)
        tag = hashlib.sha256(page).hexdigest()
        self._answer = {"ETag": tag, "Content-Encoding": "gzip", "body": packed}
        return int(tag[:12], 16)

    def _products(self) -> list[dict[str, Any]]:
        """All products of the category, with numbers as numbers."""
        dynamodb = self.context.clients["dynamodb"]
        products: list[dict[str, Any]] = []
        start: dict[str, Any] = {}
        while True:
            answer = dynamodb.query(
                TableName=self.table,
                KeyConditionExpression="id = :category",
                ExpressionAttributeValues={":category": {"S": CATEGORY}},
                **start,
            )
            for item in answer["Items"]:
                products.append({key: int(value["N"]) if "N" in value else value["S"] for key, value in item.items()})
            if "LastEvaluatedKey" not in answer:
                return products
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def remove(self) -> None:
        """Delete the table."""
        self.drop_table()


def _rank(products: list[dict[str, Any]], search: str) -> list[dict[str, Any]]:
    """Products with their BM25 `score` for the search, best first; a word of the title counts threefold."""
    bags = [Counter(3 * _TOKEN.findall(p["title"]) + _TOKEN.findall(p["text"])) for p in products]
    lengths = [bag.total() for bag in bags]
    mean = sum(lengths) / max(1, len(lengths))
    scores = [0.0] * len(products)
    for word in _TOKEN.findall(search):
        having = sum(word in bag for bag in bags)
        weight = math.log(1 + (len(bags) - having + 0.5) / (having + 0.5))
        for i, bag in enumerate(bags):
            if count := bag[word]:
                scores[i] += weight * count * (_K1 + 1) / (count + _K1 * (1 - _B + _B * lengths[i] / mean))
    order = sorted(range(len(products)), key=lambda i: (-scores[i], products[i]["product"]))
    return [{**products[i], "score": scores[i]} for i in order]


def _render(products: list[dict[str, Any]], facets: Counter[str]) -> str:
    """The result page."""
    cards = "".join(
        _CARD.substitute(
            id=html.escape(p["product"]),
            title=html.escape(p["title"].title()),
            brand=html.escape(p["brand"]),
            text=html.escape(p["text"]),
            price=f"{p['price_cents'] / 100:.2f}",
            score=f"{p['score']:.3f}",
        )
        for p in products
    )
    listed = "".join(f"<li>{html.escape(brand)} ({count})</li>\n" for brand, count in sorted(facets.items()))
    return _PAGE.substitute(title=html.escape(f"{SEARCH} in {CATEGORY}"), facets=listed, cards=cards)
