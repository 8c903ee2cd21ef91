"""What goes wrong with a request to a Kubernetes API server, as one line: what was asked, what came, and a hint.

Enters: exceptions of the official client. Leaves: `RefusedError`. Texts of the server are bounded and made printable.
"""

from __future__ import annotations

import json
from typing import Any

from flashfm.controller.web import one_line
from flashfm.errors import BackendError


class RefusedError(BackendError):
    """The API server did not do what was asked.

    Args:
        message: one line.
        status: of HTTP; 0 where there was no answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class TooManyError(RefusedError):
    """The server asks for time."""

    def __init__(self, message: str, wait_s: float = 1.0) -> None:
        super().__init__(message, 429)
        self.wait_s = wait_s


class faults:
    """Turn what the client raises into RefusedError: what was asked, what came, and a hint.

    Args:
        method: of the request.
        path: of the request.
    """

    def __init__(self, method: str, path: str) -> None:
        self._asked = f"{method} {path}"

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None or isinstance(error, (RefusedError, GeneratorExit)):
            return
        from kubernetes.client.exceptions import ApiException  # type: ignore[import-untyped]
        from urllib3.exceptions import HTTPError, NewConnectionError, TimeoutError

        if isinstance(error, ApiException) and error.status:
            raise _refused(self._asked, error) from None
        if isinstance(error, TimeoutError) and not isinstance(error, NewConnectionError):
            raise RefusedError(f"{self._asked}: no answer in time; is the API server overloaded?", 0) from None
        if isinstance(error, (ApiException, HTTPError, OSError, ValueError)):
            said = one_line(str(error) or type(error).__name__)
            raise RefusedError(f"{self._asked}: no answer: {said}; is the API server reachable?", 0) from None


_HINTS = {
    401: "is the token still good?",
    403: "bind the role of `manifests/rbac.yaml`",
    409: "it has changed meanwhile; the next step tries again",
    429: "the server is overloaded; the next step tries again",
}


def _refused(asked: str, error: Any) -> RefusedError:
    """What a server said, in one line."""
    body = error.body if isinstance(error.body, str) else ""
    try:
        told = json.loads(body)
        said = told["message"] if isinstance(told, dict) else body
    except (ValueError, KeyError):
        said = body
    hint = _HINTS.get(error.status, "the server failed; the next step tries again" if error.status >= 500 else "")
    line = f"{asked}: {error.status} {one_line(str(error.reason))}: {one_line(str(said))}" + (hint and f"; {hint}")
    if error.status != 429:
        return RefusedError(line, error.status)
    wait = str((error.headers or {}).get("Retry-After", "1"))[:9]
    return TooManyError(line, float(wait) if wait.isdecimal() else 1.0)
