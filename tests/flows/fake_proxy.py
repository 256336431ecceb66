"""A fake: a proxy before a real server with Vault's API, for faults that the real one won't produce on demand."""

from __future__ import annotations

import http.client
import http.server
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from sandbox import ports
from sandbox.vault.secrets_server import Fault


class FakeProxy:
    """Hands requests on to a server, except those that the next fault hits; a context manager.

    Attributes:
        faults: used up one by one. `requests`: "METHOD path" of all that came.
        matching: which requests a fault may hit, by that text.
        on_request: called with each of them before it is answered.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.matching: Callable[[str], bool] = lambda _: True
        self.on_request: Callable[[str], None] = lambda _: None
        self._server = http.server.ThreadingHTTPServer((ports.LOOPBACK, 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://{ports.LOOPBACK}:{self._server.server_port}"

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
        fault = self.faults[0]
        fault.times -= 1
        if fault.times <= 0:
            self.faults.pop(0)
        return fault

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
