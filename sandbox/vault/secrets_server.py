"""A secrets server with Vault's HTTP API for the demo and the tests: a small one of our own, or OpenBao / Vault where a binary is at hand.

All four classes answer on `url` and are administered alike (`write_secret`, `create_policy`, `create_token`, `create_role`, `seal`):

- `SecretsServer`: our own in a thread of this process, with faults on demand (tests);
- `SecretsProcess`: our own as a child process, `python -m sandbox.vault.secrets_server` (demo);
- `OpenBaoServer`: `bao` or `vault` in dev mode (GREYLAG_TEST_VAULT, or found on PATH);
- `openbao_server.OpenBaoServer`: the OpenBao core that `make vault` builds, once.

The first three keep secrets in memory only: whoever starts a server writes them again.
"""

from __future__ import annotations

import argparse
import dataclasses
import http.server
import json
import os
import secrets
import shutil
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from migrator import errors
from sandbox import builds, ports, processes
from sandbox.vault import administration, openbao_server, vault_engine

_ROOT_TOKEN_VARIABLE = "GREYLAG_SANDBOX_ROOT_TOKEN"  # argv would show it to every user of the machine
_READY_SECONDS = 30.0
_MAXIMUM_BODY = 1 << 20
_ROOT_DIRECTORY = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(slots=True)
class Fault:
    """What the server does to the next requests instead of answering them.

    Args:
        status: HTTP status; 0 hangs up without an answer.
        body: the text sent.
        times: how many requests it hits.
        headers: e.g. `Location`, `Retry-After`.
        content_type: JSON, or `text/html` for what a proxy says.
        delay: seconds to wait first (a hang, for a client with a shorter time-out).
    """

    status: int
    body: str = ""
    times: int = 1
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    content_type: str = "application/json"
    delay: float = 0.0


RATE_LIMITED = '{"errors":["request path \\"secret/data\\": rate limit quota exceeded"]}'
NO_LEADER = '{"errors":["local node not active but active cluster node not found"]}'


class SecretsServer(administration.Administration):
    """Our own server in a thread; a context manager.

    Args:
        port: None takes a free one.
        root_token: None makes one.
        certificate, key: PEM files; the server then speaks TLS.
        clock: seconds since the epoch; tests bring their own to let tokens expire.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        root_token: str | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.port = port or ports.free_port()
        self.root_token = root_token or "root-" + secrets.token_urlsafe(24)
        self.engine = vault_engine.Engine(self.root_token, clock)
        self.unseal_key = self.engine.unseal_key
        self.url = f"{'https' if certificate else 'http'}://{ports.LOOPBACK}:{self.port}"
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self._tls = (certificate, key)
        self._http: _HttpServer | None = None

    def __enter__(self) -> SecretsServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> SecretsServer:
        """Opens the port; what was stored before a `stop` is still there."""
        self._http = _HttpServer((ports.LOOPBACK, self.port), _Handler)
        self._http.owner = self
        certificate, key = self._tls
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._http.serve_forever, args=(0.05,), name="secrets-server", daemon=True).start()
        return self

    def stop(self) -> None:
        """Closes the port."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def seal(self) -> None:
        """Seals the server: every request answers 503 until `unseal`."""
        self.engine.sealed = True

    def unseal(self) -> None:
        """Takes `seal` back."""
        self.engine.sealed = False

    def next_fault(self) -> Fault | None:
        """The fault that hits this request, if any."""
        if not self.faults:
            return None
        fault = self.faults[0]
        fault.times -= 1
        if fault.times <= 0:
            self.faults.pop(0)
        return fault


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    owner: SecretsServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or spoke no TLS, is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "greylag-sandbox"
    # Headers and body are two writes; with Nagle's algorithm the second waits 40 ms for the client's delayed acknowledgement.
    disable_nagle_algorithm = True
    server: _HttpServer

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(min(length, _MAXIMUM_BODY))
        url = urlsplit(self.path)
        owner = self.server.owner
        if url.path != "/v1/sys/health":
            owner.requests.append(f"{self.command} {unquote(url.path)}")
            fault = owner.next_fault()
            if fault is not None:
                self._fail(fault)
                return
        answer = self._answer(owner.engine, url.path, dict(parse_qsl(url.query)), raw)
        body = b"" if answer.body is None else json.dumps(answer.body).encode()
        self._reply(answer.status, body, "application/json", answer.headers)

    def _answer(self, engine: vault_engine.Engine, path: str, query: dict[str, str], raw: bytes) -> vault_engine.Answer:
        if not path.startswith("/v1/"):
            return vault_engine.Answer(404, {"errors": []})
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            return vault_engine.Answer(400, {"errors": ["failed to parse JSON input"]})
        method = "LIST" if self.command == "GET" and query.get("list") == "true" else self.command
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        request = vault_engine.Request(
            method,
            unquote(path.removeprefix("/v1/")).strip("/"),
            query,
            body if isinstance(body, dict) else {},
            self.headers.get("X-Vault-Token") or bearer,
        )
        return engine.answer(request)

    def _fail(self, fault: Fault) -> None:
        time.sleep(fault.delay)
        if fault.status == 0:
            self.close_connection = True
            self.connection.close()
            return
        self._reply(fault.status, fault.body.encode(), fault.content_type, fault.headers)

    def _reply(self, status: int, body: bytes, content_type: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Cache-Control", "no-store")
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_LIST = do_HEAD = _serve  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged: a path may name what nobody should read about."""


class SecretsProcess(administration.Administration):
    """Our own server as a child process; a context manager.

    Args:
        directory: of its log.
        port: None takes a free one.
        root_token: None makes one.
    """

    name = "secrets server"

    def __init__(self, directory: Path, *, port: int | None = None, root_token: str | None = None) -> None:
        self.port = port or ports.free_port()
        self.root_token = root_token or "root-" + secrets.token_urlsafe(24)
        self.url = f"http://{ports.LOOPBACK}:{self.port}"
        self._process = processes.ServerProcess(
            self.name,
            self._command(),
            log=directory.absolute() / "server.log",
            environment=os.environ | self._variables(),
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

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "sandbox.vault.secrets_server", "--port", str(self.port)]

    def _variables(self) -> dict[str, str]:
        return {_ROOT_TOKEN_VARIABLE: self.root_token}


class OpenBaoServer(SecretsProcess):
    """A real one, in memory, unsealed, KV v2 at `secret/`: `bao` or `vault` in dev mode, or (any other
    name) the trimmed one that `openbao/` builds.

    Args:
        directory: of its log.
        binary: the program; None takes what `openbao_binary` finds.
        port, root_token: as for `SecretsProcess`.
    """

    name = "OpenBao"

    def __init__(self, directory: Path, *, binary: Path | None = None, port: int | None = None, root_token: str | None = None) -> None:
        found = binary or openbao_binary()
        if found is None:
            raise errors.NotFound(
                "there is no OpenBao or Vault to start",
                code="sandbox-missing",
                hint="put `bao` or `vault` on PATH, or name one in GREYLAG_TEST_VAULT",
            )
        self._binary = found
        # The trimmed server knows no dev mode: it starts uninitialised, as production servers do.
        self._dev_mode = found.name.startswith(("bao", "vault"))
        super().__init__(directory, port=port, root_token=root_token)

    def start(self) -> OpenBaoServer:
        """Starts the server, empty, and returns once it is healthy and takes the root token.

        Raises:
            Unavailable: it did not start; the detail shows the log's last lines.
        """
        self._process.start()
        if not self._dev_mode:
            self._process.wait_until(lambda: ports.accepts_connections(self.port), _READY_SECONDS)
            self._initialise()
        self._process.wait_until(self.healthy, _READY_SECONDS)
        return self

    def seal(self) -> None:
        """Seals the server.

        Raises:
            UsageError: in dev mode, whose only unseal key is in the log and nowhere else.
        """
        if self._dev_mode:
            raise errors.UsageError("a dev server is not sealed in the sandbox", hint="use SecretsServer")
        super().seal()

    def _initialise(self) -> None:
        wanted = self.root_token
        made = self.request("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self.unseal_key, self.root_token = made["keys"][0], made["root_token"]
        self.unseal()
        self.request("POST", "auth/token/create", {"id": wanted, "policies": ["root"], "no_parent": True})
        self.request("POST", f"sys/mounts/{administration.MOUNT}", {"type": "kv", "options": {"version": "2"}})
        self.request("POST", "auth/token/revoke-self", {})
        self.root_token = wanted

    def _command(self) -> list[str]:
        if self._dev_mode:
            return [str(self._binary), "server", "-dev", "-dev-no-store-token"]
        return [str(self._binary), "-listen", f"{ports.LOOPBACK}:{self.port}"]

    def _variables(self) -> dict[str, str]:
        address = f"{ports.LOOPBACK}:{self.port}"
        return {
            f"{prefix}_DEV_{name}": value
            for prefix in ("BAO", "VAULT")
            for name, value in (("ROOT_TOKEN_ID", self.root_token), ("LISTEN_ADDRESS", address))
        }


def openbao_binary() -> Path | None:
    """The binary that GREYLAG_TEST_VAULT names, or `bao` or `vault` on PATH."""
    found = os.environ.get("GREYLAG_TEST_VAULT") or shutil.which("bao") or shutil.which("vault")
    return Path(found) if found else None


def open_server(
    directory: Path, *, port: int | None = None, root_token: str | None = None
) -> SecretsProcess | openbao_server.OpenBaoServer:
    """The most real server there is, not yet started: OpenBao or Vault where a binary is found, the cached OpenBao, else our own.

    All are ready within 0.2 s; the cached OpenBao alone keeps its data.
    """
    if openbao_binary() is not None:
        return OpenBaoServer(directory, port=port, root_token=root_token)
    if builds.binary(builds.OPENBAO) is not None:
        return openbao_server.OpenBaoServer(directory, port=port, root_token=root_token)
    return SecretsProcess(directory, port=port, root_token=root_token)


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
