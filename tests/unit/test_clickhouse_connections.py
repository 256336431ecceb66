"""Plain connections to ClickHouse: opened, found closed, refused, and nothing heavy imported for them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from migrator.address import addresses
from migrator.clickhouse import failures
from migrator.clickhouse.connections import PlainConnection
from migrator.clickhouse.transport import Transport


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def opened(server: socket.socket) -> tuple[PlainConnection, socket.socket]:
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    connection = PlainConnection("127.0.0.1", server.getsockname()[1], timeout=5, socket_options=options)
    connection.connect()
    return connection, server.accept()[0]


def test_it_is_connected_until_the_server_closes_or_speaks_unasked(server: socket.socket) -> None:
    for act in (socket.socket.close, lambda peer: peer.sendall(b"HTTP/1.1 408")):
        connection, peer = opened(server)
        assert connection.is_connected
        assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        act(peer)
        deadline = time.monotonic() + 5
        while connection.is_connected and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not connection.is_connected
        connection.close()
        connection.close()
        assert not connection.is_connected
        peer.close()


@pytest.mark.parametrize(
    ("host", "reason"), [("127.0.0.1", "connection refused"), ("no-such-host.invalid", "nown|resolution"), ("a..b", "label|nown")]
)
def test_bad_flow_what_can_not_be_opened_is_lost_and_nothing_was_sent(host: str, reason: str) -> None:
    address = addresses.parse_clickhouse("http://u:p@localhost:8123/d")
    with pytest.raises(failures.Lost, match=reason) as caught:
        Transport(address, host, 1, 2.0).read("SELECT 1", {})
    assert not caught.value.sent


def test_plain_http_imports_neither_urllib3_nor_ssl() -> None:
    code = (
        "import sys\n"
        "from migrator.clickhouse import connection, failures\n"
        "from migrator import engines, errors\n"
        "try:\n"
        "    connection.connect('clickhouse://u:p@127.0.0.1:1/d?http_port=1', engines.Options())\n"
        "except errors.Unavailable:\n"
        "    sys.exit(bool({'urllib3', 'ssl', 'http.client', 'email'} & set(sys.modules)))\n"
        "sys.exit(2)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_with_tls_it_is_urllib3_that_connects() -> None:
    from urllib3.connection import HTTPSConnection

    address = addresses.parse_clickhouse("https://u:p@localhost:8443/d")
    assert isinstance(Transport(address, "localhost", 8443, 2.0)._new_connection(), HTTPSConnection)
