"""The process behind `EmbeddedAws`: moto's S3 and DynamoDB over HTTP on the loopback device. Run as a module only.

It prints its port as one line on standard output once it can answer, and dies with its parent: at the end of standard
input, or by the kernel's parent-death signal where a fork of the parent still holds the pipe open (Linux).

Werkzeug's own handler closes every connection, after a wait of 10 ms for stray input; boto3 keeps connections alive, so
this one does too. A request's body is read whole before moto sees it, and an answer leaves in one write.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import io
import logging
import os
import signal
import sys
import threading
import traceback
import zlib
from collections.abc import Callable
from types import FrameType
from typing import Any

HOST = "127.0.0.1"
DYNAMODB = "DynamoDB_20120810."
DYNAMODB_JSON = "application/x-amz-json-1.0"
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until the parent dies, closes standard input or sends SIGTERM."""
    parser = argparse.ArgumentParser(description="S3 and DynamoDB of moto on the loopback device.")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0 takes a free one")
    parser.add_argument("--parent", type=int, required=True, help="process id of the parent")
    options = parser.parse_args()
    die_with(options.parent)
    server = make_server(options.port)
    gc.collect()
    gc.freeze()  # what is loaded by now stays: no later collection needs to look at it
    print(server.port, flush=True)
    sys.stdout.close()
    server.serve_forever()


def die_with(parent: int) -> None:
    """End this process when `parent` ends, even by SIGKILL.

    The kernel sends the death signal already when the *thread* that started this process ends, hence the look at the
    parent's id before believing it.
    """

    def ended(_signum: int, _frame: FrameType | None) -> None:
        if os.getppid() != parent:
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes this process
    signal.signal(signal.SIGHUP, ended)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGHUP), 0, 0, 0)
    ended(0, None)
    threading.Thread(target=_exit_at_end_of_input, daemon=True).start()


def _exit_at_end_of_input() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


def make_server(port: int) -> Any:
    """A werkzeug server of moto's S3 and DynamoDB that listens already; both backends are loaded."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server as make_werkzeug_server

    from flashfm.applications.aws_reads import read_page

    logging.disable(logging.INFO)
    s3, dynamodb, control = (create_backend_app(backend) for backend in ("s3", "dynamodb", "moto_api"))

    def route(environ: dict[str, Any], start_response: Any) -> Any:
        """What moto's own dispatcher does, for two services only."""
        if environ.get("HTTP_X_AMZ_TARGET", "").startswith(DYNAMODB):
            return dynamodb(environ, start_response)
        app = control if environ["PATH_INFO"].startswith("/moto-api") else s3
        return app(environ, start_response)

    class Handler(MotoRequestHandler):
        """Keeps connections alive and logs nothing."""

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # buffered: status, headers and a small body leave as one packet

        def handle_expect_100(self) -> bool:
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.wfile.flush()
            return True

        def run_wsgi(self) -> None:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                self.close_connection = True
                self.send_error(411, "Length Required")
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            target = self.headers.get("X-Amz-Target", "")
            if target.startswith(DYNAMODB):
                try:
                    page = read_page(target, body, _region(self.headers.get("Authorization", "")))
                except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):  # moto answers or refuses
                    traceback.print_exc()
                    page = None
                if page is not None:
                    headers = [("Content-Type", DYNAMODB_JSON), ("x-amz-crc32", str(zlib.crc32(page)))]
                    self.answer(200, headers, page)
                    return
            environ = self.make_environ()
            environ["wsgi.input"] = io.BytesIO(body)
            self.answer(*_respond(self.server.app, environ))

        def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            """Send status, headers and body; the answer to HEAD has the length of what GET would send, but no body."""
            head = self.command == "HEAD"
            self.send_response_only(status)
            for key, value in headers:
                if key.lower() != "connection" and (head or key.lower() != "content-length"):
                    self.send_header(key, value)
            if not head and status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not head:
                self.wfile.write(body)

        def log(self, *_args: object) -> None:
            return

    return make_werkzeug_server(HOST, port, route, threaded=True, request_handler=Handler)


def _region(authorization: str) -> str:
    """The region in a version 4 signature: `... Credential=KEY/DATE/REGION/SERVICE/aws4_request, ...`."""
    scope = authorization.partition("Credential=")[2].split("/")
    return scope[2] if len(scope) > 2 else "us-east-1"


def _respond(
    application: Callable[[dict[str, Any], Any], Any], environ: dict[str, Any]
) -> tuple[int, list[tuple[str, str]], bytes]:
    """Call a WSGI application; a failure of it becomes an answer 500 and a traceback on standard error."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _exc_info: object = None) -> None:
        started.append((status, headers))

    try:
        answer = application(environ, start_response)
        try:
            body = b"".join(answer)
        finally:
            getattr(answer, "close", lambda: None)()
    except Exception:  # noqa: BLE001 - the boundary of a server: one bad request must not end it
        traceback.print_exc()
        return 500, [("Content-Type", "text/plain")], b"internal error of the embedded server"
    status, headers = started[-1]
    return int(status.split(None, 1)[0]), headers, body


if __name__ == "__main__":
    main()
