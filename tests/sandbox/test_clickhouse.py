"""The sandbox's ClickHouse: passwords count, a user changes its own database alone, written rows survive. What greylag does with it is in
tests/clickhouse, several nodes of it in tests/clickhouse/test_cluster.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from migrator import errors
from sandbox.databases import clickhouse_releases
from sandbox.databases.clickhouse import ClickHouseServer, User, owner_grants
from sandbox.databases.clickhouse_releases import Release
from tests.conftest import on_each_release, without_query_log


def client(server: ClickHouseServer, **login: Any) -> Any:
    return clickhouse_connect.get_client(host=server.host, port=server.http_port, **login)


def test_a_user_logs_in_with_an_awkward_password(clickhouse_server: ClickHouseServer, clickhouse_url: str) -> None:
    url = urlsplit(clickhouse_url)
    login = {"username": url.username, "password": unquote(url.password or ""), "database": url.path.lstrip("/")}
    with client(clickhouse_server, **login) as connection:
        assert connection.query("SELECT currentDatabase(), currentUser()").result_rows == [(url.path.lstrip("/"), "migrator")]
    with pytest.raises(DatabaseError, match="Authentication failed"):
        client(clickhouse_server, **login | {"password": "wrong"})


def test_an_owner_changes_its_own_database_alone_and_nobody_without_a_password_changes_anything(tmp_path: Path) -> None:
    with ClickHouseServer(tmp_path, users=[User("shop", "p'&<é", grants=owner_grants("shop"))]) as server:
        for name in ("shop", "bank"):
            server.create_database(name)
        with client(server, username="shop", password="p'&<é", database="shop") as owner:
            owner.command("CREATE TABLE proof (a Int32) ENGINE = MergeTree ORDER BY a")
            with pytest.raises(DatabaseError, match="Not enough privileges"):
                owner.command("CREATE TABLE bank.proof (a Int32) ENGINE = MergeTree ORDER BY a")
        with client(server) as nobody, pytest.raises(DatabaseError, match="Not enough privileges"):
            nobody.command("CREATE DATABASE anything")


@on_each_release
def test_each_release_is_what_it_says_and_keeps_a_query_log(release: Release, clickhouse_here: ClickHouseServer) -> None:
    assert clickhouse_here.execute("SELECT version()").startswith(f"{release}.")
    clickhouse_here.execute("SELECT 1 AS something_to_be_found")
    clickhouse_here.execute("SYSTEM FLUSH LOGS")
    found = clickhouse_here.execute(
        "SELECT count() FROM system.query_log WHERE query LIKE 'SELECT 1 AS something_to_be_f%' AND type = 'QueryFinish'"
    )
    assert int(found) > 0


@without_query_log
def test_a_server_without_a_query_log_has_none(clickhouse_here: ClickHouseServer) -> None:
    assert clickhouse_here.execute("EXISTS system.query_log") == "0\n"


def test_bad_flow_a_release_that_is_not_fetched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREYLAG_CACHE", str(tmp_path))
    with pytest.raises(errors.NotFound, match=r"ClickHouse 25\.8 is not fetched") as caught:
        ClickHouseServer(tmp_path / "node", release=Release.LONG_TERM).start()
    assert caught.value.hint == "make install"


def test_bad_flow_a_release_that_can_not_be_fetched_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GREYLAG_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # as without a network
    monkeypatch.setattr("sys.argv", ["clickhouse_releases"])
    assert clickhouse_releases.main() == int(errors.ExitCode.NOT_FOUND)
    assert "ClickHouse 25.8 can't be fetched" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_survives_a_restart_and_a_crash(clickhouse_server: ClickHouseServer, clickhouse_database: str) -> None:
    clickhouse_server.execute("CREATE TABLE kept (a Int32) ENGINE = MergeTree ORDER BY a", clickhouse_database)
    clickhouse_server.execute("INSERT INTO kept VALUES (1)", clickhouse_database)
    clickhouse_server.restart()
    clickhouse_server.execute("INSERT INTO kept VALUES (2)", clickhouse_database)
    clickhouse_server.crash()
    assert not clickhouse_server.running
    clickhouse_server.start()
    assert clickhouse_server.execute("SELECT a FROM kept ORDER BY a", clickhouse_database) == "1\n2\n"


def test_bad_flow_text_that_is_no_statement_is_refused_as_on_a_full_server(clickhouse_server: ClickHouseServer) -> None:
    with pytest.raises(errors.StatementRejected, match="Syntax error"):
        clickhouse_server.execute("1 + 1")  # by chDB's own default it would be SELECT 1 + 1


def test_bad_flow_a_user_name_that_xml_can_not_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="can't name a ClickHouse user"):
        ClickHouseServer(tmp_path, users=[User("a<b", "x")]).start()
