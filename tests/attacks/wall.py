"""A proxy before Prefect's API that lets a list of routes pass: a second wall, as a team would have it from its gateway. It notes what came through.

It reads the request line of each request on a connection and hands on everything else as it is, WebSockets included.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterable

from sandbox import ports

_REQUEST = re.compile(rb"^(GET|POST|PUT|PATCH|DELETE) (\S+) HTTP/1\.1\r\n")
_ID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_DENIED = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: 30\r\nConnection: close\r\n\r\n"
    + b'{"detail":"not on the list  "}'
)


def route(method: str, path: str) -> str:
    """The route of a request: ids are `{id}`, names `{name}`, a query is left out."""
    path = path.partition("?")[0].removeprefix("/api")
    path = re.sub(_ID, "{id}", path)
    path = re.sub(r"^/(work_pools)/(?!filter$|count$)[^/]+", r"/\1/{name}", path)
    path = re.sub(r"^/deployments/name/.*", "/deployments/name/{flow}/{name}", path)
    path = re.sub(r"^/(artifacts|variables/name|flows/name|block_types/slug)/(?!filter|latest/|\{id\}|count)[^/]+", r"/\1/{name}", path)
    path = re.sub(r"^/v2/concurrency_limits/(?!filter|increment|decrement|leases|\{id\})[^/]+", "/v2/concurrency_limits/{name}", path)
    return f"{method} {path}"


class Wall:
    """The proxy, on a port of its own; a context manager. `allowed` are routes; None lets everything pass.

    Attributes:
        seen: the routes of all requests. denied: those that were not on the list.
    """

    def __init__(self, port: int, allowed: Iterable[str] | None = None) -> None:
        self.upstream = port
        self.allowed = None if allowed is None else frozenset(allowed)
        self.seen: dict[str, int] = {}
        self.denied: list[str] = []
        self._listener = socket.create_server((ports.LOOPBACK, 0))
        self.api_url = f"http://{ports.LOOPBACK}:{self._listener.getsockname()[1]}/api"

    def __enter__(self) -> Wall:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((ports.LOOPBACK, self.upstream))
                threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
                threading.Thread(target=self._hand_on, args=(server, client), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        """Hands on what the client sends; an HTTP client sends a request's head in one piece."""
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if found := _REQUEST.match(data):
                    asked = route(found[1].decode(), found[2].decode())
                    self.seen[asked] = self.seen.get(asked, 0) + 1
                    if self.allowed is not None and asked not in self.allowed:
                        self.denied.append(asked)
                        client.sendall(_DENIED)
                        break
                server.sendall(data)
        self._close(client, server)

    def _hand_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        self._close(source, sink)

    def _close(self, *both: socket.socket) -> None:
        for each in both:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
