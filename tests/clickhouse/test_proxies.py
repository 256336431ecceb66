"""Which proxy a ClickHouse database is reached through: the one that the address names, or none; the environment's would be given the password."""

from __future__ import annotations

import socketserver
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator import cli, databases, errors
from migrator.clickhouse import connection
from sandbox.databases.clickhouse import ClickHouseServer
from sandbox.vault.secrets_server import SecretsServer
from tests.clickhouse.conftest import Playground, refusal
from tests.clickhouse.test_transport import Proxy, serving
from tests.conftest import AWKWARD_PASSWORD

VARIABLES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


class Recorder(socketserver.BaseRequestHandler):
    """Keeps the first bytes of whatever connects, and hangs up."""

    seen: list[bytes]

    def handle(self) -> None:
        """One connection."""
        self.seen.append(self.request.recv(65536))


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[bytes]]]:
    """An address that would like to be a proxy, and what was sent to it. No NO_PROXY keeps anything from it."""
    for name in (*VARIABLES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    seen: list[bytes] = []
    with serving(type("Recording", (Recorder,), {"seen": seen})) as port:
        yield f"http://127.0.0.1:{port}", seen


@pytest.fixture
def directory(tmp_path: Path) -> str:
    """One migration."""
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "00001_a.sql").write_text("-- +goose Up\nCREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id;\n")
    return str(tmp_path / "sql")


@pytest.mark.parametrize("variable", VARIABLES)
def test_bad_flow_proxy_of_the_environment_is_told_nothing(
    variable: str,
    listener: tuple[str, list[bytes]],
    clickhouse_http_url: str,
    clickhouse_url: str,
    directory: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, listener[0])
    for url in (clickhouse_http_url, clickhouse_url):
        assert cli.main(["-dir", directory, "clickhouse", url, "status"]) == 0
    assert listener[1] == []


@pytest.mark.parametrize("variable", VARIABLES)
def test_bad_flow_proxy_of_the_environment_is_not_asked_for_a_tunnel(
    variable: str, listener: tuple[str, list[bytes]], clickhouse_server: ClickHouseServer, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, listener[0])
    url = f"https://migrator:secret-word@127.0.0.1:{clickhouse_server.http_port}/x?secure=true"  # which speaks no TLS
    assert cli.main(["-dir", directory, "clickhouse", url, "status"]) == 21
    assert listener[1] == []


def test_bad_flow_proxy_of_the_environment_is_told_nothing_of_a_target(
    listener: tuple[str, list[bytes]],
    clickhouse_server: ClickHouseServer,
    clickhouse_database: str,
    secrets_server: SecretsServer,
    directory: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "fleet.yaml").write_text(
        f"environments: {{dev: {{parameters: {{clickhouse: {{http_port: '{clickhouse_server.http_port}'}}}}}}}}\n"
        f"services: {{audit: {{engine: clickhouse, database: {clickhouse_database}, migrations: sql}}}}\n"
    )
    login = {"username": "migrator", "password": AWKWARD_PASSWORD, "database": clickhouse_database}
    secrets_server.write_secret("dev/audit/clickhouse", {"host": "127.0.0.1", "port": clickhouse_server.tcp_port, **login})
    monkeypatch.setenv("GREYLAG_FLEET", str(tmp_path / "fleet.yaml"))
    monkeypatch.setenv("VAULT_ADDR", secrets_server.url)
    monkeypatch.setenv("VAULT_TOKEN", secrets_server.root_token)
    for variable in VARIABLES:
        monkeypatch.setenv(variable, listener[0])
    assert cli.main(["status", "@dev/audit"]) == 0
    assert listener[1] == []


def _through(url: str, proxy: str) -> connection.ClickHouseDatabase:
    return connection.connect(f"{url}{'&' if '?' in url else '?'}http_proxy={proxy}", databases.Options())


def test_bad_flow_proxy_that_can_not_be_reached_is_named_without_its_password(clickhouse_http_url: str) -> None:
    error = refusal(lambda: _through(clickhouse_http_url, "http://somebody:proxy-word@127.0.0.1:1"))
    assert isinstance(error, errors.Unavailable)
    assert error.message.endswith("can't be reached through the proxy 127.0.0.1:1: connection refused")
    assert "http_proxy=" in error.hint
    assert "proxy-word" not in error.describe()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_bad_flow_proxy_that_hangs_up_is_named(scheme: str, listener: tuple[str, list[bytes]], clickhouse_server: ClickHouseServer) -> None:
    error = refusal(lambda: _through(f"{scheme}://migrator@127.0.0.1:{clickhouse_server.http_port}/x", listener[0]))
    assert isinstance(error, errors.Unavailable)
    assert f"through the proxy {listener[0].removeprefix('http://')}: " in error.message


class Refusing(Proxy):
    """Wants to know who asks."""

    def do_POST(self) -> None:  # noqa: N802
        """Keeps the login, and answers that it isn't one."""
        self.seen.append(self.headers.get("Proxy-Authorization", ""))
        self.send_error(407)

    do_CONNECT = do_POST  # noqa: N815


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_bad_flow_proxy_that_refuses_its_login_is_named(scheme: str, clickhouse_server: ClickHouseServer) -> None:
    seen: list[str] = []
    with serving(type("RefusingHere", (Refusing,), {"seen": seen})) as port:
        proxy = f"http://somebody:p%2525roxy-word@127.0.0.1:{port}"  # once decoded as a parameter, once as a URL
        error = refusal(lambda: _through(f"{scheme}://migrator@127.0.0.1:{clickhouse_server.http_port}/x", proxy))
    assert isinstance(error, errors.Unavailable)
    assert f"through the proxy 127.0.0.1:{port}: " in error.message and "407" in error.message
    assert "roxy-word" not in error.describe()
    assert set(seen) == {"Basic c29tZWJvZHk6cCVyb3h5LXdvcmQ="}


class Passing(Proxy):
    """Forwards one request per connection."""

    def do_POST(self) -> None:  # noqa: N802
        """Forwards and hangs up."""
        super().do_POST()
        self.close_connection = True


def test_bad_flow_proxy_that_goes_away_during_a_run_is_named(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id;")
    seen: list[str] = []
    url = playground.url
    with serving(type("PassingHere", (Passing,), {"seen": seen})) as port:
        playground.url = f"{url}&http_proxy=127.0.0.1:{port}"
        database = playground.open()
        plan = playground.plan(database)
    assert seen
    with database:
        error = refusal(lambda: database.read_history())
    assert plan.steps
    assert isinstance(error, errors.Unavailable)
    assert f"to ClickHouse through the proxy 127.0.0.1:{port} was lost to read the history" in error.message


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://", "http://h:many", "//h:1"])
def test_bad_flow_what_is_no_proxy_is_a_usage_error(proxy: str, clickhouse_http_url: str) -> None:
    error = refusal(lambda: _through(clickhouse_http_url, proxy))
    assert (type(error), error.code) == (errors.UsageError, "bad-address")
    assert "http_proxy" in error.message and proxy not in error.message
