"""The plainest reads of moto's DynamoDB, many times as fast: a request body in, an answer's body out.

moto copies every item and serialises it member by member (`benchmarks/embedded_scan.py` has the figures). On a small
machine that would load the server's core and be measured as the application's time. Answers here are equal to moto's
own: a test says so. Any request but a Scan of a whole table or a Query of a whole partition is declined and left to
moto.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

PAGE_BYTES = 1_000_000
"""Most bytes of items in one page; moto's limit, DynamoDB's is 1 MB."""
_SCAN = {"TableName", "ExclusiveStartKey"}
_QUERY = {*_SCAN, "KeyConditionExpression", "ExpressionAttributeValues"}
_EQUALS = re.compile(r"(\w+) = (:\w+)")

Key = tuple[str, ...]


def read_page(target: str, body: bytes, region: str) -> bytes | None:
    """Answer a Scan or Query.

    Args:
        target: header `X-Amz-Target`, which names the call.
        body: the request as DynamoDB's JSON.
        region: of the table, from the request's signature.

    Returns:
        The answer as DynamoDB's JSON; None where moto should give it: another call, a request with options or mistakes,
        no such table, keys that are no strings.
    """
    call = target.rpartition(".")[2]
    if call not in ("Scan", "Query"):
        return None
    try:
        request = json.loads(body)
    except ValueError:
        return None
    if not isinstance(request, dict) or not set(request) <= (_SCAN if call == "Scan" else _QUERY):
        return None
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.dynamodb.models import dynamodb_backends

    table = dynamodb_backends[DEFAULT_ACCOUNT_ID][region].tables.get(str(request.get("TableName")))
    if table is None:
        return None
    partition = None
    if call == "Query":
        partition = _partition(table.hash_key_attr, request)
        if partition is None:
            return None
    names = [name for name in (table.hash_key_attr, table.range_key_attr) if name]
    keyed = _by_key(table, partition)
    if keyed is None:
        return None
    after: Key | None = None
    if "ExclusiveStartKey" in request:
        start = request["ExclusiveStartKey"]
        if not isinstance(start, dict) or any("S" not in start.get(name, {}) for name in names):
            return None
        after = tuple(start[name]["S"] for name in names)
    return _page(keyed, after, names)


def _partition(hash_key: str, request: dict[str, Any]) -> str | None:
    """The hash key that a Query asks for, if its condition is `name = :value` and nothing more."""
    match = _EQUALS.fullmatch(str(request.get("KeyConditionExpression")))
    values = request.get("ExpressionAttributeValues")
    if match is None or match[1] != hash_key or not isinstance(values, dict) or set(values) != {match[2]}:
        return None
    value = values[match[2]]
    found = value.get("S") if isinstance(value, dict) else None
    return found if isinstance(found, str) else None


def _by_key(table: Any, partition: str | None) -> list[tuple[Key, Any]] | None:
    """Items with their keys, sorted by key, all or those of one hash key; None if some key is no string."""
    ranged = bool(table.range_key_attr)
    keyed = []
    for group in list(table.items.values()):  # a copy: other threads write
        for item in list(group.values()) if ranged else [group]:
            parts = (item.hash_key, item.range_key) if ranged else (item.hash_key,)
            if any(part is None or part.type != "S" for part in parts):
                return None
            if partition is not None and parts[0].value != partition:
                break
            keyed.append((tuple(part.value for part in parts), item))
    keyed.sort(key=lambda pair: pair[0])
    return keyed


def _page(keyed: list[tuple[Key, Any]], after: Key | None, names: list[str]) -> bytes:
    """The first page of the items behind key `after`."""
    items: list[dict[str, Any]] = []
    size, last, more = 0, None, False
    for key, item in keyed:
        if after is not None and key <= after:
            continue
        item_size = item.size()
        if size + item_size > PAGE_BYTES:
            more = True
            break
        items.append({name: _plain(value) for name, value in list(item.attrs.items())})
        size += item_size
        last = key
    answer: dict[str, Any] = {"Count": len(items), "Items": items, "ScannedCount": len(items)}
    if more and last is not None:
        answer["LastEvaluatedKey"] = {name: {"S": part} for name, part in zip(names, last, strict=True)}
    return json.dumps(answer, separators=(",", ":")).encode()


def _plain(value: Any) -> dict[str, Any]:
    """An attribute in DynamoDB's typed JSON."""
    held: Any = value.value
    if value.type == "L":
        held = [_plain(each) for each in held]
    elif value.type == "M":
        held = {name: _plain(each) for name, each in held.items()}
    elif value.type == "BS":
        held = [_text(each) for each in held]
    elif value.type == "B":
        held = _text(held)
    return {value.type: held}


def _text(binary: bytes | str) -> str:
    """Binary data as base64; moto keeps some of it in that form."""
    return base64.b64encode(binary).decode() if isinstance(binary, bytes) else binary
