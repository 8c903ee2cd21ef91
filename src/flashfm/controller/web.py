"""Answers over HTTP, bounded in time and size: whatever goes wrong is one line, and no secret is in it.

Enters: a request. Leaves: the status and the body, or a `BackendError`. Redirects are not followed, proxies and
`.netrc` of the environment not looked at, and bodies not unpacked: what was asked is what answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flashfm.errors import BackendError

if TYPE_CHECKING:
    import httpx

SHOWN = 200
"""Characters of a foreign text in a message."""


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    body: bytes


def client(verify: Any = False, headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
    """A client without limits of its own; `ask` sets them.

    Args:
        verify: the TLS context; False where nothing is asked over TLS, as making one takes long.
        headers: of every request.
    """
    import httpx

    return httpx.AsyncClient(
        verify=verify,
        headers={"accept-encoding": "identity", "user-agent": "flashfm", **(headers or {})},
        timeout=None,  # noqa: S113 - `ask` bounds the whole
        follow_redirects=False,
        trust_env=False,
    )


async def ask(
    web: httpx.AsyncClient,
    url: str,
    *,
    within_s: float,
    most_bytes: int,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """GET, or POST of a form.

    Args:
        web: as of `client`.
        url: what is asked; it must hold no secret.
        within_s: until the last byte, at most.
        most_bytes: of the body, at most.
        form: fields to post; None to get.
        headers: of this request.

    Raises:
        BackendError: no whole answer within these bounds; whatever the status, an answer is none.
    """
    import httpx

    method = "GET" if form is None else "POST"
    try:
        async with (
            asyncio.timeout(within_s),
            web.stream(method, url, data=None if form is None else dict(form), headers=headers) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > most_bytes:
                    raise BackendError(f"{url}: an answer of more than {most_bytes} bytes; not read further")
            return Answer(response.status_code, bytes(body))
    except TimeoutError:
        raise BackendError(f"{url}: no whole answer within {within_s:g} s; is it overloaded?") from None
    except httpx.LocalProtocolError:  # its text holds what could not be sent
        raise BackendError(f"{url}: the request cannot be sent; is a header or the token malformed?") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
        said = one_line(str(error) or type(error).__name__)
        raise BackendError(f"{url}: no answer: {said}; is the address right, and is it running?") from None


def one_line(text: str, secrets: Sequence[str] = ()) -> str:
    """A foreign text, fit for a message: one short line of printable characters.

    Args:
        text: of a server, which may hold anything.
        secrets: what must not be in it.
    """
    for secret in filter(None, secrets):
        text = text.replace(secret, "…")
    line = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return line if len(line) <= SHOWN else f"{line[:SHOWN]} …"
