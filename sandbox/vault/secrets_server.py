"""A small secrets server of our own with Vault's HTTP API, for the demo and for tests that need no more than a secret (`secrets_engine.py`).

`SecretsServer` runs in a thread of this process (tests), `SecretsProcess` as a child process (the demo, where OpenBao is not built). Secrets are in
memory only: whoever starts a server writes them again. Logins of other kinds, leases, sealing and TLS are `openbao_server.OpenBaoServer`'s.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import secrets
import signal
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sandbox import builds, ports, processes
from sandbox.vault import administration, openbao_server, secrets_engine

_ROOT_TOKEN_VARIABLE = "GREYLAG_SANDBOX_ROOT_TOKEN"  # argv would show it to every user of the machine
_READY_SECONDS = 30.0
_MAXIMUM_BODY = 1 << 20
_ROOT_DIRECTORY = Path(__file__).resolve().parents[2]


class SecretsServer(administration.Administration):
    """The server in a thread; a context manager.

    Args:
        port: None takes a free one.
        root_token: None makes one.
    """

    def __init__(self, *, port: int | None = None, root_token: str | None = None) -> None:
        self.root_token = root_token or _new_token()
        self._http = _HttpServer((ports.LOOPBACK, port or 0), _Handler)
        self._http.engine = secrets_engine.Engine(self.root_token)
        self.port = self._http.server_port
        self.url = f"http://{ports.LOOPBACK}:{self.port}"

    def __enter__(self) -> SecretsServer:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), name="secrets-server", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    engine: secrets_engine.Engine

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: a client that went away is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "greylag-sandbox"
    # Headers and body are two writes; with Nagle's algorithm the second waits 40 ms for the client's delayed acknowledgement.
    disable_nagle_algorithm = True
    server: _HttpServer

    def _serve(self) -> None:
        raw = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), _MAXIMUM_BODY))
        answer = self._answer(unquote(urlsplit(self.path).path), raw)
        body = b"" if answer.body is None else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Cache-Control", "no-store")
        if answer.status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, path: str, raw: bytes) -> secrets_engine.Answer:
        if not path.startswith("/v1/"):
            return secrets_engine.Answer(404, {"errors": []})
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            return secrets_engine.Answer(400, {"errors": ["failed to parse JSON input"]})
        token = self.headers.get("X-Vault-Token")
        return self.server.engine.answer(secrets_engine.Request(self.command, path.removeprefix("/v1/").strip("/"), body, token))

    do_GET = do_POST = do_PUT = do_DELETE = do_LIST = _serve  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: a path may name what nobody should read about."""


class SecretsProcess(administration.Administration):
    """The server as a child process; a context manager.

    Args:
        directory: of its log.
        port: None takes a free one.
        root_token: None makes one.
    """

    name = "secrets server"

    def __init__(self, directory: Path, *, port: int | None = None, root_token: str | None = None) -> None:
        self.port = port or ports.free_port()
        self.root_token = root_token or _new_token()
        self.url = f"http://{ports.LOOPBACK}:{self.port}"
        self._process = processes.ServerProcess(
            self.name,
            [sys.executable, "-m", "sandbox.vault.secrets_server", "--port", str(self.port)],
            log=directory.absolute() / "server.log",
            environment=os.environ | {_ROOT_TOKEN_VARIABLE: self.root_token},
            directory=_ROOT_DIRECTORY,
        )

    def __enter__(self) -> SecretsProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> SecretsProcess:
        """Starts the server, empty, and returns once it is healthy.

        Raises:
            Unavailable: it did not start; the detail shows the log's last lines.
        """
        self._process.start()
        self._process.wait_until(self.healthy, _READY_SECONDS)
        return self

    def stop(self) -> None:
        """Stops the server; its secrets are gone."""
        self._process.stop()


def open_server(
    directory: Path, *, port: int | None = None, root_token: str | None = None
) -> SecretsProcess | openbao_server.OpenBaoServer:
    """Makes the most real server there is, not yet started: OpenBao where it is built, which keeps its data, else our own. Both are ready within 0.2 s."""
    kind = SecretsProcess if builds.binary(builds.OPENBAO) is None else openbao_server.OpenBaoServer
    return kind(directory, port=port, root_token=root_token)


def _new_token() -> str:
    return "root-" + secrets.token_urlsafe(24)


def main(arguments: list[str] | None = None) -> int:
    """Serves until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.vault.secrets_server", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    root_token = os.environ.pop(_ROOT_TOKEN_VARIABLE, None)
    if not root_token:
        parser.error(f"{_ROOT_TOKEN_VARIABLE} must hold the root token")
    with SecretsServer(port=options.port, root_token=root_token):
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
    return 0


if __name__ == "__main__":
    # Blocked before the first thread starts, so that no thread but the waiting one gets them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    sys.exit(main())
