"""A fake: a proxy before a server with Vault's API, for faults that the server itself won't produce on demand."""

from __future__ import annotations

import dataclasses
import http.client
import http.server
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from sandbox import certificates, ports


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """What the proxy does to a request instead of handing it on.

    Args:
        status: HTTP status; 0 hangs up without an answer.
        body: the text sent.
        headers: e.g. `Location`, `Retry-After`.
        content_type: JSON, or `text/html` for what a gateway says.
        delay: seconds to wait first (a hang, for a client with a shorter time-out).
    """

    status: int
    body: str = ""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    content_type: str = "application/json"
    delay: float = 0.0


NO_LEADER = Fault(500, '{"errors":["local node not active but active cluster node not found"]}')
SEALED = Fault(503, '{"errors":["Vault is sealed"]}')


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that trusts no such certificate, or went away, is no news."""


class FakeProxy:
    """Hands requests on to a server, except those that the next fault hits; a context manager.

    Args:
        upstream: the server's address.
        pair: a certificate and its key: it then speaks TLS to its clients, as a gateway does.

    Attributes:
        faults: used up one by one. `requests`: "METHOD path" of all that came.
        matching: which requests a fault may hit, by that text.
        on_request: called with each of them before it is answered.
    """

    def __init__(self, upstream: str, pair: certificates.Pair | None = None) -> None:
        self.upstream = urlsplit(upstream)
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.matching: Callable[[str], bool] = lambda _: True
        self.on_request: Callable[[str], None] = lambda _: None
        self._server = _Server((ports.LOOPBACK, 0), self._handler())
        self.url = f"{'https' if pair else 'http'}://{ports.LOOPBACK}:{self._server.server_port}"
        if pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    def __enter__(self) -> FakeProxy:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def calm(self) -> None:
        """Forgets all faults and all requests."""
        self.faults.clear()
        self.requests.clear()
        self.matching, self.on_request = (lambda _: True), (lambda _: None)

    def _next_fault(self, request: str) -> Fault | None:
        self.requests.append(request)
        self.on_request(request)
        if not self.faults or not self.matching(request):
            return None
        return self.faults.pop(0)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = proxy._next_fault(f"{self.command} {self.path}")
                if fault is not None:
                    time.sleep(fault.delay)
                    if not fault.status:
                        self.close_connection = True
                        return
                    self._send(fault.status, {"Content-Type": fault.content_type, **fault.headers}, fault.body.encode())
                    return
                upstream = http.client.HTTPConnection(proxy.upstream.hostname or "", proxy.upstream.port or 0, timeout=30)
                try:
                    upstream.request(self.command, self.path, body, {name: value for name, value in self.headers.items() if name != "Host"})
                    answer = upstream.getresponse()
                    self._send(answer.status, {"Content-Type": answer.getheader("Content-Type") or ""}, answer.read())
                except OSError:
                    self._send(502, {"Content-Type": "text/html"}, b"<html>Bad Gateway</html>")
                finally:
                    upstream.close()

            def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = do_LIST = _answer  # noqa: N815 - the names that http.server looks for

        return Handler
