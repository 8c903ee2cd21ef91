"""A Prometheus server asked for one `Sample`: one request, so that all figures are of one time.

Enters: queries and the names of a deployment. Leaves: a sample, or a `BackendError` of one line without secrets. A
figure without a series, with several, or with one that is no finite number is None; `sample.trouble` says what that
means. Whatever a server answers is taken for hostile: bounded, read strictly, never evaluated.

An event loop of its own runs in the thread that asks, so a source must not be asked from a coroutine.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flashfm.controller.queries import FIGURE, Queries, together
from flashfm.controller.sample import Sample
from flashfm.controller.web import SHOWN, Answer, ask, client, one_line
from flashfm.errors import BackendError, ControlError

if TYPE_CHECKING:
    import httpx

MOST_BYTES = 1 << 20
"""Of an answer; one of all figures has about 2,000."""
AT_A_TIME = 8
"""Deployments that are asked for at the same time."""
CLOCKS_S = 30.0
"""By how much the server's clock may differ from this machine's."""
SECRET = 4
"""Characters from which a header's value is never repeated."""
MOST = 1_000_000
"""Replicas, and kills, from which a count is none."""
_COUNTS = ("replicas", "ready", "killed")


@dataclass(frozen=True)
class Access:
    """How a server is let in on who asks; nothing of it is ever in a message.

    Raises:
        ControlError: two tokens, or a header that cannot be sent.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of every request."""
    token: str | None = field(default=None, repr=False)
    """Sent as `Authorization: Bearer …`."""
    token_file: Path | None = None
    """Holds the token, and is read for every request: those of Kubernetes change."""
    ca_file: Path | None = None
    """PEM certificates that a server's is checked against; None for those of the system."""

    def __post_init__(self) -> None:
        if self.token is not None and self.token_file is not None:
            raise ControlError("metrics: a token and a file with one; expected one of them")
        if not all(map(_sendable, [*self.headers, *self.headers.values(), *filter(None, [self.token])])):
            raise ControlError("metrics: a header or the token cannot be sent; expected printable ASCII on one line")

    def sent(self) -> dict[str, str]:
        """Headers of a request.

        Raises:
            BackendError: the file with the token cannot be read.
        """
        token = self.token
        if self.token_file is not None:
            try:
                token = self.token_file.read_text("ascii").strip()
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is no text"
                raise BackendError(f"{self.token_file}: the token cannot be read: {why}") from None
            if not token or not _sendable(token):
                raise BackendError(f"{self.token_file}: holds no token; expected printable ASCII on one line")
        return {**self.headers, **({} if token is None else {"authorization": f"Bearer {token}"})}


class PrometheusSource:
    """A server, and what it is asked.

    Args:
        url: of the server, with the path where it has one, such as `http://prometheus.monitoring:9090`.
        queries: templates, such as `SOURCES["kube"]`.
        window_s: time over which rates are taken; at least twice the interval of scrapes, better four times.
        timeout_s: longest wait for a whole answer.
        access: how the server is let in on who asks.

    Raises:
        ControlError: no such URL, a time that is not above 0, or certificates that cannot be read.
    """

    def __init__(
        self,
        url: str,
        queries: Queries,
        *,
        window_s: float = 30.0,
        timeout_s: float = 5.0,
        access: Access | None = None,
    ) -> None:
        self.url = f"{_checked(url)}/api/v1/query"
        if not (0 < window_s < math.inf and 0 < timeout_s < math.inf):
            raise ControlError(f"metrics: a window of {window_s} s and a wait of {timeout_s} s; expected both above 0")
        self.queries, self.window_s, self.timeout_s = queries, window_s, timeout_s
        self._access = access or Access()
        self._tls = _tls(self.url, self._access.ca_file)
        self._asking = threading.Lock()
        self._runner: asyncio.Runner | None = None
        self._web: httpx.AsyncClient | None = None

    def sample(self, labels: Mapping[str, str], now_s: float) -> Sample:
        """What the server shows of one deployment.

        Args:
            labels: `namespace`, `name` and `container` of the deployment, as far as the queries ask for them.
            now_s: Unix time of this machine, which the server's is compared with.

        Raises:
            BackendError: no answer that can be read, or clocks that differ.
        """
        got, failed = self.samples({"": labels}, now_s)
        if failed:
            raise BackendError(failed[""])
        return got[""]

    def samples(self, of: Mapping[str, Mapping[str, str]], now_s: float) -> tuple[dict[str, Sample], dict[str, str]]:
        """What the server shows of many deployments, asked for at the same time.

        Args:
            of: labels as in `sample`, by a name of the caller's.
            now_s: Unix time of this machine.

        Returns:
            The samples of those that could be read, and what is wrong with the others, by name.
        """
        with self._asking:
            self._runner = self._runner or asyncio.Runner()
            found = self._runner.run(self._all(of, now_s))
        return (
            {name: one for name, one in found.items() if isinstance(one, Sample)},
            {name: str(one) for name, one in found.items() if isinstance(one, BackendError)},
        )

    def close(self) -> None:
        """Close connections; a source that is asked again opens new ones."""
        with self._asking:
            if self._runner is not None:
                if self._web is not None:
                    self._runner.run(self._web.aclose())
                self._runner.close()
            self._runner = self._web = None

    def __enter__(self) -> PrometheusSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _all(self, of: Mapping[str, Mapping[str, str]], now_s: float) -> dict[str, Sample | BackendError]:
        room = asyncio.Semaphore(AT_A_TIME)

        async def one(labels: Mapping[str, str]) -> Sample | BackendError:
            try:
                async with room:
                    return await self._sample(self.queries.promql(labels, self.window_s), now_s)
            except BackendError as error:
                return error

        return dict(zip(of, await asyncio.gather(*map(one, of.values())), strict=True))

    async def _sample(self, asked: Mapping[str, str], now_s: float) -> Sample:
        answer, secrets = await self._ask(together(asked))
        if _refused(answer):
            await self._blame(asked)
        told = _told(answer, self.url, secrets)
        for at_s in told.at_s:
            if not abs(at_s - now_s) <= CLOCKS_S:
                raise BackendError(
                    f"{self.url}: clocks differ: the server's by {at_s - now_s:.0f} s from this machine's, expected"
                    f" {CLOCKS_S:g} s at most"
                )
        return told.sample()

    async def _blame(self, asked: Mapping[str, str]) -> None:
        """Say which of the queries is refused, where one alone is.

        Raises:
            BackendError: one is.
        """
        for figure, text in asked.items():
            answer, secrets = await self._ask(text)
            if _refused(answer):
                said = _refusal(answer, secrets)
                raise BackendError(f"{self.url}: the query for {figure} is refused: {said}; see its template")

    async def _ask(self, query: str) -> tuple[Answer, list[str]]:
        if self._web is None:
            self._web = client(self._tls)
        headers = self._access.sent()
        form = {"query": query, "timeout": f"{round(1e3 * self.timeout_s)}ms"}
        answer = await ask(
            self._web, self.url, within_s=self.timeout_s, most_bytes=MOST_BYTES, form=form, headers=headers
        )
        said = [value.removeprefix("Bearer ") for value in headers.values()]
        return answer, [value for value in said if len(value) >= SECRET]


@dataclass
class _Told:
    """Series of an answer, by figure."""

    numbers: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    labels: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    at_s: set[float] = field(default_factory=set)

    def sample(self) -> Sample:
        """One series is a figure; none and several are not."""
        images = self.labels["image"]
        values = {
            of.name: _counted(self._number(of.name)) if of.name in _COUNTS else self._number(of.name)
            for of in fields(Sample)
            if of.name != "image"
        }
        return Sample(**values, image=images[0] if len(images) == 1 else "")  # type: ignore[arg-type]

    def _number(self, figure: str) -> float | None:
        values = self.numbers[figure]
        return values[0] if len(values) == 1 and math.isfinite(values[0]) else None


def _told(answer: Answer, url: str, secrets: list[str]) -> _Told:
    """Read an answer.

    Raises:
        BackendError: it is a refusal, holds a part only, or is none of Prometheus.
    """
    if 300 <= answer.status < 400:
        raise BackendError(
            f"{url}: answered {answer.status}, a redirect, which is not followed; give the final address"
        )
    if answer.status in (401, 403):
        raise BackendError(f"{url}: answered {answer.status}: not allowed; is the token right, and may it query?")
    if answer.status != 200:
        raise BackendError(f"{url}: answered {answer.status}: {_refusal(answer, secrets)}")
    told = _Told()
    try:
        body = json.loads(answer.body)
        warnings, result = body.get("warnings"), body["data"]["result"]
        if body["status"] != "success" or body["data"]["resultType"] != "vector":
            raise ValueError
        for series in result:
            labels = dict(series["metric"])
            figure = labels.pop(FIGURE)
            at_s, value = series["value"] if "value" in series else (series["histogram"][0], math.nan)
            told.at_s.add(float(at_s))
            told.numbers[figure].append(float(value))
            told.labels[figure].append(one_line(" ".join(map(str, labels.values()))[-SHOWN:], secrets))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise BackendError(f"{url}: the answer is none of Prometheus; is the address that of its server?") from None
    if warnings:
        raise BackendError(f"{url}: the answer may lack something: {one_line(str(warnings), secrets)}")
    return told


def _refused(answer: Answer) -> bool:
    """Whether Prometheus takes a query for a wrong one."""
    return answer.status in (400, 422) and b'"error"' in answer.body


def _refusal(answer: Answer, secrets: list[str]) -> str:
    """Why a server refuses, in its own words."""
    try:
        said = json.loads(answer.body)["error"]
    except (ValueError, TypeError, KeyError, RecursionError):
        said = "without a reason; is the address that of a Prometheus server?"
    return one_line(str(said), secrets)


def _counted(value: float | None) -> int | None:
    return None if value is None or abs(value) > MOST else round(value)


def _sendable(text: str) -> bool:
    return text.isascii() and text.isprintable() and text == text.strip() != ""


def _checked(url: str) -> str:
    """A URL without its last slash.

    Raises:
        ControlError: none that can be asked.
    """
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        whole = False
    if not whole or not _sendable(url) or " " in url:
        raise ControlError("metrics: the URL of the Prometheus server is none; expected such as http://host:9090")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ControlError(
            "metrics: the URL of the Prometheus server holds a user, a query or a fragment, which would be shown in"
            " messages; give a token or a header for that"
        )
    return url.rstrip("/")


def _tls(url: str, ca_file: Path | None) -> Any:
    """Context of TLS; False where there is none.

    Raises:
        ControlError: the certificates cannot be read.
    """
    if not url.startswith("https:"):
        return False
    import ssl

    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        raise ControlError(f"{ca_file}: no certificates in PEM: {one_line(str(error))}") from None
