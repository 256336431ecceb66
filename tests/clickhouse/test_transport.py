"""Statements on the wire: through TLS and proxies, over connections that servers close, in the order in which they were sent."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import secrets
import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from migrator import applying
from migrator.planning import events
from sandbox import certificates
from sandbox.databases import clickhouse
from tests.clickhouse.conftest import Playground, refusal

TABLE = "CREATE TABLE {} (id UInt64) ENGINE = MergeTree ORDER BY id;"


@pytest.fixture(scope="module")
def closing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clickhouse.ClickHouseServer]:
    """A server that closes connections on which nothing was asked for a second."""
    more = "<keep_alive_timeout>1</keep_alive_timeout>"
    with clickhouse.ClickHouseServer(tmp_path_factory.mktemp("closing") / "server", configuration=more) as server:
        yield server


def join(one: socket.socket, other: socket.socket) -> None:
    """Carries bytes between two connections until one of them ends."""
    ends = {one: other, other: one}
    while True:
        pending = [end for end in ends if isinstance(end, ssl.SSLSocket) and end.pending()]
        for ready in pending or select.select(list(ends), [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return
            ends[ready].sendall(data)


class Terminator(socketserver.BaseRequestHandler):
    """What stands before a server and speaks TLS for it: the embedded ClickHouse is built without."""

    context: ssl.SSLContext
    port: int

    def handle(self) -> None:
        """One connection."""
        with (
            contextlib.suppress(OSError),
            self.context.wrap_socket(self.request, server_side=True) as secured,
            socket.create_connection(("127.0.0.1", self.port)) as onward,
        ):
            join(secured, onward)


@contextlib.contextmanager
def serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    """Serves each connection in a thread; yields the port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A certificate of this machine, and whom to trust."""
    authority = certificates.Authority(tmp_path_factory.mktemp("authority"))
    pair = authority.issue("server", "clickhouse", hosts=("127.0.0.1", "clickhouse.example"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context, authority.certificate


@pytest.fixture(scope="module")
def tls(closing: clickhouse.ClickHouseServer, context: tuple[ssl.SSLContext, Path]) -> Iterator[tuple[int, Path]]:
    """The port at which the server is reached by TLS, and whom to trust."""
    with serving(type("ForThisServer", (Terminator,), {"context": context[0], "port": closing.http_port})) as port:
        yield port, context[1]


class Proxy(http.server.BaseHTTPRequestHandler):
    """A forwarding proxy for plain HTTP, a tunnel for TLS. `seen` holds what was asked of it."""

    protocol_version = "HTTP/1.1"
    seen: list[str]

    def do_POST(self) -> None:
        """Forwards a request whose target is a whole URL; anything else is no request to a proxy."""
        self.seen.append(f"POST {self.path.partition('?')[0]}")
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        onward = http.client.HTTPConnection(url.hostname or "", url.port)
        onward.request("POST", f"{url.path}?{url.query}", body, {"Authorization": self.headers["Authorization"]})
        answer = onward.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower().startswith("x-"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_CONNECT(self) -> None:
        """Joins the client's connection with one to the server."""
        self.seen.append(f"CONNECT {self.path}")
        host, _, port = self.path.partition(":")
        with socket.create_connection((host, int(port))) as onward:
            self.send_response(200)
            self.end_headers()
            join(self.connection, onward)
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Silent."""


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy's address, and what was asked of it."""
    seen: list[str] = []
    with serving(type("Listening", (Proxy,), {"seen": seen})) as port:
        yield f"http://127.0.0.1:{port}", seen


@pytest.fixture
def place(closing: clickhouse.ClickHouseServer, tmp_path: Path) -> Callable[[str], Playground]:
    """Makes a playground with a fresh database for an address, in which `{login}` and `{name}` are filled in."""

    def make(address: str) -> Playground:
        name = f"d{secrets.token_hex(4)}"
        closing.create_database(name)
        return Playground(address.format(login=f"admin:{closing.admin_password}", name=name), closing, name, tmp_path)

    return make


def test_good_flow_over_tls(tls: tuple[int, Path], place: Callable[[str], Playground]) -> None:
    playground = place(f"https://{{login}}@127.0.0.1:{tls[0]}/{{name}}?secure=true&ca_cert={tls[1]}")
    for version in range(1, 6):
        playground.write(version, TABLE.format(f"t{version}"), f"INSERT INTO t{version} SELECT number FROM numbers(1000);")
    playground.run()
    assert playground.versions() == [0, 1, 2, 3, 4, 5]
    assert playground.sql("SELECT count() FROM t5") == [[1000]]


def test_good_flow_over_tls_under_the_name_in_the_certificate(tls: tuple[int, Path], place: Callable[[str], Playground]) -> None:
    playground = place(f"https://{{login}}@localhost:{tls[0]}/{{name}}?secure=true&ca_cert={tls[1]}&tls_server_name=clickhouse.example")
    playground.write(1, TABLE.format("t"), "INSERT INTO t VALUES (1);")
    playground.run()
    assert playground.versions() == [0, 1]


def test_good_flow_over_tls_by_the_authorities_of_the_system(
    tls: tuple[int, Path], place: Callable[[str], Playground], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As goose, which is Go: OpenSSL's list, SSL_CERT_FILE in its place, no list of a package's own."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    playground = place(f"https://{{login}}@127.0.0.1:{tls[0]}/{{name}}?secure=true")
    playground.write(1, TABLE.format("t"))
    playground.run()
    assert playground.versions() == [0, 1]


def test_bad_flow_certificate_of_an_unknown_authority(tls: tuple[int, Path], place: Callable[[str], Playground]) -> None:
    error = refusal(place(f"https://{{login}}@127.0.0.1:{tls[0]}/{{name}}?secure=true").open)
    assert error.code == "unavailable"
    assert "CERTIFICATE_VERIFY_FAILED" in error.message


def test_good_flow_connection_that_the_server_closed_between_two_statements_is_opened_anew(
    closing: clickhouse.ClickHouseServer, place: Callable[[str], Playground]
) -> None:
    playground = place(f"http://{{login}}@127.0.0.1:{closing.http_port}/{{name}}")
    for version in range(1, 4):
        playground.write(version, TABLE.format(f"t{version}"))
    closed: list[bool] = []
    with playground.open() as database:

        def rest(event: events.Event) -> None:
            if isinstance(event, events.MigrationFinished):
                readable = select.select([database._session.transport._idle[-1].sock], [], [], 10)[0]
                closed.append(bool(readable))  # nothing was asked: it is the end

        applying.apply(database, playground.plan(database), rest)
    assert closed == [True] * 3
    assert playground.versions() == [0, 1, 2, 3]


def test_large_insert_arrives_whole(closing: clickhouse.ClickHouseServer, place: Callable[[str], Playground]) -> None:
    playground = place(f"http://{{login}}@127.0.0.1:{closing.http_port}/{{name}}")
    values = ", ".join(f"({number})" for number in range(100_000))
    playground.write(1, TABLE.format("t"), f"INSERT INTO t VALUES {values};", "SELECT 1;")
    playground.run()
    assert playground.sql("SELECT count(), sum(id) FROM t") == [[100_000, 100_000 * 99_999 // 2]]


def test_good_flow_through_a_forwarding_proxy(
    closing: clickhouse.ClickHouseServer, place: Callable[[str], Playground], proxy: tuple[str, list[str]]
) -> None:
    playground = place(f"http://{{login}}@127.0.0.1:{closing.http_port}/{{name}}?http_proxy={proxy[0]}")
    playground.write(1, TABLE.format("t"), "INSERT INTO t VALUES (1);")
    playground.run()
    assert playground.versions() == [0, 1]
    assert len(proxy[1]) > 10 and set(proxy[1]) == {f"POST http://127.0.0.1:{closing.http_port}/"}


def test_good_flow_through_a_tunnel(tls: tuple[int, Path], place: Callable[[str], Playground], proxy: tuple[str, list[str]]) -> None:
    playground = place(f"https://{{login}}@127.0.0.1:{tls[0]}/{{name}}?secure=true&ca_cert={tls[1]}&http_proxy={proxy[0]}")
    playground.write(1, TABLE.format("t"), "INSERT INTO t VALUES (1);")
    playground.run()
    assert playground.versions() == [0, 1]
    assert set(proxy[1]) == {f"CONNECT 127.0.0.1:{tls[0]}"}


def test_good_flow_through_a_tunnel_whose_proxy_speaks_tls(
    tls: tuple[int, Path], context: tuple[ssl.SSLContext, Path], place: Callable[[str], Playground], proxy: tuple[str, list[str]]
) -> None:
    listening = int(proxy[0].rpartition(":")[2])
    with serving(type("ForTheProxy", (Terminator,), {"context": context[0], "port": listening})) as port:
        playground = place(
            f"https://{{login}}@127.0.0.1:{tls[0]}/{{name}}?secure=true&ca_cert={tls[1]}&http_proxy=https://127.0.0.1:{port}"
        )
        playground.write(1, TABLE.format("t"), "INSERT INTO t VALUES (1);")
        playground.run()
    assert playground.versions() == [0, 1]
    assert set(proxy[1]) == {f"CONNECT 127.0.0.1:{tls[0]}"}


def test_requests_of_a_run_share_few_connections(
    closing: clickhouse.ClickHouseServer, place: Callable[[str], Playground], monkeypatch: pytest.MonkeyPatch
) -> None:
    playground = place(f"http://{{login}}@127.0.0.1:{closing.http_port}/{{name}}")
    for version in range(1, 21):
        playground.write(version, TABLE.format(f"t{version}"))
    opened: list[Any] = []
    with playground.open() as database:
        connect = database._session.transport._connect

        def listening() -> Any:
            opened.append(connect())
            return opened[-1]

        monkeypatch.setattr(database._session.transport, "_connect", listening)
        applying.apply(database, playground.plan(database))
    assert len(opened) <= 3  # the run's, the heartbeat's, and one that the server closed
