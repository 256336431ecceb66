"""Opening a ClickHouse database: addresses, failures, rights."""

from __future__ import annotations

import logging
import socket

import pytest

from migrator import applying, databases, errors, targets
from migrator.address import addresses
from migrator.clickhouse import connection
from migrator.planning import events, planner
from migrator.planning import files as migration_files
from sandbox.databases.clickhouse import ClickHouseServer
from tests.clickhouse.conftest import Playground, refusal
from tests.conftest import AWKWARD_PASSWORD


def _url(server: ClickHouseServer, user: str, password: str, database: str, **parameters: str) -> str:
    given = {"http_port": str(server.http_port), **parameters}
    return addresses.build(
        "clickhouse", host="127.0.0.1", port=server.tcp_port, username=user, password=password, database=database, parameters=given
    )


def test_password_with_every_awkward_character_logs_in(clickhouse_server: ClickHouseServer, clickhouse_database: str) -> None:
    with connection.connect(_url(clickhouse_server, "migrator", AWKWARD_PASSWORD, clickhouse_database), databases.Options()) as database:
        assert database.name == clickhouse_database
        assert database.server_version.split(".")[0].isdigit()


def test_http_address_works_as_goose_takes_it(clickhouse_http_url: str, clickhouse_database: str) -> None:
    with connection.connect(clickhouse_http_url, databases.Options()) as database:
        assert (database.name, database.notes) == (clickhouse_database, ())


def test_wrong_password_is_a_failed_login_that_shows_no_password(clickhouse_server: ClickHouseServer, clickhouse_database: str) -> None:
    error = refusal(lambda: connection.connect(_url(clickhouse_server, "migrator", "wr0ng%pass", clickhouse_database), databases.Options()))
    assert (type(error), error.exit_code) == (errors.LoginFailed, errors.ExitCode.LOGIN)
    assert "wr0ng" not in error.describe()


def test_database_that_does_not_exist_is_not_found(clickhouse_server: ClickHouseServer) -> None:
    error = refusal(lambda: connection.connect(_url(clickhouse_server, "migrator", AWKWARD_PASSWORD, "nowhere"), databases.Options()))
    assert (type(error), error.code) == (errors.NotFound, "unknown-database")


def test_refused_connection_is_unavailable_and_logs_nothing(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with caplog.at_level(logging.CRITICAL):
        error = refusal(lambda: connection.connect(f"http://default:secret-word@127.0.0.1:{port}/x", databases.Options()))
    assert (type(error), error.transient) == (errors.Unavailable, True)
    assert error.message == f"ClickHouse at 127.0.0.1:{port} can't be reached: connection refused"
    assert "secret-word" not in error.describe() + capfd.readouterr().err


def test_unknown_host_is_unavailable() -> None:
    error = refusal(lambda: connection.connect("clickhouse://default@no-such-host.invalid:9000/x", databases.Options()))
    assert isinstance(error, errors.Unavailable)
    assert "the address names the native port 9000; greylag speaks HTTP and tried 8123" in error.hint


def test_server_that_never_answers_times_out() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        with socket.socket() as first, socket.socket() as second:  # fill its queue: the next connection is not even accepted
            for other in (first, second):
                other.setblocking(False)
                other.connect_ex(silent.getsockname())
            url = f"http://default@127.0.0.1:{silent.getsockname()[1]}/x"
            error = refusal(lambda: connection.connect(url, databases.Options(connect_timeout=1)))
    assert (type(error), error.code) == (errors.TimedOut, "connect-timeout")


def test_native_port_given_as_http_port_says_so(clickhouse_server: ClickHouseServer, clickhouse_database: str) -> None:
    url = f"http://migrator@127.0.0.1:{clickhouse_server.tcp_port}/{clickhouse_database}"
    error = refusal(lambda: connection.connect(url, databases.Options()))
    assert isinstance(error, errors.Unavailable)
    assert error.message.endswith("is for clickhouse-client program")


def test_other_native_port_is_an_error_with_the_way_out(clickhouse_server: ClickHouseServer) -> None:
    error = refusal(lambda: connection.connect(f"clickhouse://x@127.0.0.1:{clickhouse_server.tcp_port}/y", databases.Options()))
    assert isinstance(error, errors.UsageError)
    assert "http_port" in error.hint


def test_guessed_port_is_said_before_the_lock_is_taken(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "NATIVE_TO_HTTP", {playground.server.tcp_port: playground.server.http_port})
    url = addresses.build(
        "clickhouse",
        host="127.0.0.1",
        port=playground.server.tcp_port,
        username="migrator",
        password=AWKWARD_PASSWORD,
        database=playground.name,
    )
    seen: list[events.Event] = []
    with connection.connect(url, databases.Options()) as database, database.lock(seen.append):
        pass
    assert isinstance(seen[0], events.Note)
    assert seen[0].code == "http-port"
    assert str(playground.server.http_port) in seen[0].message


@pytest.mark.parametrize("user", ["reader", "selecting"])
def test_user_that_may_only_read_sees_the_status_but_is_denied_the_rest(playground: Playground, user: str) -> None:
    playground.write(1, "CREATE TABLE t (a Int8) ENGINE = Log;")
    playground.run()
    playground.write(2, "CREATE TABLE u (a Int8) ENGINE = Log;")
    with connection.connect(_url(playground.server, user, AWKWARD_PASSWORD, playground.name), databases.Options()) as database:
        assert database.read_history().applied == (1,)
        plan = planner.plan(
            migration_files.load(playground.directory), database.read_history(), targets.Target(targets.Verb.UP), engine=database.engine
        )
        error = refusal(lambda: applying.apply(database, plan))
    assert (type(error), error.code) == (errors.LoginFailed, "permission-denied")


def test_unknown_setting_in_the_address_is_refused_as_by_goose(playground: Playground) -> None:
    playground.url += "&no_such_setting=1"
    playground.write(1, "SELECT 1;")
    error = refusal(playground.run)
    assert "no_such_setting" in error.message


@pytest.mark.parametrize(
    ("parameters", "code"),
    [("greylag_profile=cloudy", "bad-profile"), ("greylag_profile=on_cluster", "bad-profile"), ("greylag_lease=1ms", "bad-lease")],
)
def test_bad_parameter_of_greylags_own_is_a_usage_error(clickhouse_url: str, parameters: str, code: str) -> None:
    error = refusal(lambda: connection.connect(f"{clickhouse_url}&{parameters}", databases.Options()))
    assert (type(error), error.code) == (errors.UsageError, code)
