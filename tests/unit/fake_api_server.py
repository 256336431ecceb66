"""A fake API server for faults that a real one does not make on demand: half-open connections, 429, lost answers."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tasks.kubernetes.api import Api

Json = dict[str, Any]


class FakeApiServer(http.server.ThreadingHTTPServer):
    """Plays a script: each request to the Jobs takes the next answer. A real API server is what tests/cluster has."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Callable[[Handler], None]] = []
        self.asked: list[str] = []
        self.bodies: list[Any] = []
        self.over = threading.Event()

    def api(self) -> Api:
        from kubernetes import client

        settings = client.Configuration()
        settings.host = f"http://127.0.0.1:{self.server_address[1]}"
        settings.retries = False
        return Api(client.ApiClient(settings), log_silence_seconds=0.5)


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: FakeApiServer

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.server.bodies.append(json.loads(self.rfile.read(length)) if length else None)
        self.server.asked.append(self.path)
        (self.server.script.pop(0) if self.server.script else silent)(self)

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def answer(self, status: int, document: Json) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, *pieces: bytes) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()

    def close_stream(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def refused(status: int, reason: str = "") -> Callable[[Handler], None]:
    return lambda handler: handler.answer(status, {"kind": "Status", "code": status, "reason": reason, "message": reason})


def silent(handler: Handler) -> None:
    """No answer before the test is over."""
    handler.server.over.wait(30)


@contextmanager
def running() -> Iterator[FakeApiServer]:
    """A server that plays until the end of the block."""
    with FakeApiServer() as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield found
        found.over.set()
        found.shutdown()
