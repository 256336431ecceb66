"""The kubelet's HTTPS endpoint: `kubectl logs` and `kubectl exec` ask the API server, which asks this server with its own client certificate."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sandbox import ports
from sandbox.certificates import Pair
from sandbox.cluster import execution, logs
from sandbox.cluster.pods import Pod

FindPod = Callable[[str, str], Pod | None]
"""(namespace, name) -> the pod on this node."""


class LogServer:
    """Serves `/containerLogs/<namespace>/<pod>/<container>` and `/exec/…` to clients whose certificate the cluster's authority has issued.

    Args:
        port: the port on 127.0.0.1.
        pair: the kubelet's own certificate.
        authority: the CA file.
        find: finds a pod.
    """

    def __init__(self, port: int, pair: Pair, authority: Path, find: FindPod) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED
        self._http = _Server((ports.LOOPBACK, port), _Handler)
        self._http.find = find
        # The handshake is left to the connection's own thread, so that a silent client can't hold up all others.
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)

    def start(self) -> None:
        """Serves in a thread of its own."""
        threading.Thread(target=self._http.serve_forever, name="log-server", daemon=True).start()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    find: FindPod

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores errors, which are only clients that went away."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        parts = url.path.strip("/").split("/")
        if url.path == "/healthz":
            self._answer(200, b"ok")
        elif len(parts) == 4 and parts[0] == "containerLogs":
            self._logs(parts[1], parts[2], parts[3], dict(parse_qsl(url.query)))
        elif len(parts) == 4 and parts[0] == "exec":
            self._execute(parts[1], parts[2], parts[3], parse_qsl(url.query))
        else:
            self._answer(404, b"this node serves logs and executes commands\n")

    def _execute(self, namespace: str, name: str, container: str, query: list[tuple[str, str]]) -> None:
        key = self.headers.get("Sec-WebSocket-Key", "")
        if not key or execution.PROTOCOL not in self.headers.get("Sec-WebSocket-Protocol", ""):
            self._answer(400, f"this node executes over a WebSocket with {execution.PROTOCOL}\n".encode())
            return
        if ("tty", "1") in query or ("tty", "true") in query:
            self._answer(400, b"this node has no terminals\n")
            return
        pod = self.server.find(namespace, name)
        runner = pod.find(container) if pod is not None else None
        process = runner.open([value for key, value in query if key == "command"]) if runner is not None else None
        if process is None:
            self._answer(404, f'container "{container}" in pod "{name}" does not run on this node\n'.encode())
            return
        self.protocol_version = "HTTP/1.1"
        self.send_response(101)
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Protocol": execution.PROTOCOL}
        for field, value in (upgrade | {"Sec-WebSocket-Accept": execution.accepted(key)}).items():
            self.send_header(field, value)
        self.end_headers()
        self.close_connection = True
        execution.Execution(process, self.rfile, self.connection).serve()

    def _logs(self, namespace: str, name: str, container: str, query: dict[str, str]) -> None:
        pod = self.server.find(namespace, name)
        runner = pod.find(container) if pod is not None else None
        if pod is None or runner is None:
            self._answer(404, f'container "{container}" in pod "{name}" is not on this node\n'.encode())
            return
        number = runner.restarts - (1 if query.get("previous") == "true" else 0)
        while number > 0 and query.get("previous") != "true" and not runner.log(number).exists():
            number -= 1  # it waits to be restarted: the wanted log is that of its last start
        log = runner.log(number)
        if not log.exists():
            reason = runner.state.get("waiting", {}).get("reason", "ContainerCreating")
            self._answer(400, f'container "{container}" in pod "{name}" is waiting to start: {reason}\n'.encode())
            return
        try:
            wanted = logs.options(query)
        except ValueError as problem:
            self._answer(400, f"{problem}\n".encode())
            return
        process = runner.process
        self._stream(log, wanted, lambda: process is None or not process.running)

    def _stream(self, log: Path, wanted: logs.Options, ended: Callable[[], bool]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(OSError):  # the client went away, or the pod did
            for piece in logs.read(log, wanted, ended):
                self.wfile.write(piece)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing about requests."""
