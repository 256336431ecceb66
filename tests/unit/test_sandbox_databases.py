"""The sandbox's databases are real: awkward passwords log in through every client, data survive restarts and crashes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from migrator import errors
from sandbox.databases import clickhouse, postgres

psycopg = pytest.importorskip("psycopg")
clickhouse_connect = pytest.importorskip("clickhouse_connect")


def test_postgres_accepts_an_awkward_password_in_a_percent_encoded_url(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.info.password == unquote(urlsplit(postgres_url).password or "")
        row = connection.execute("SELECT current_database() = current_user, current_setting('is_superuser')").fetchone()
    assert row == (True, "off")


def test_bad_flow_postgres_refuses_a_wrong_password(postgres_url: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_url, password="wrong")


def test_bad_flow_postgres_keeps_other_owners_out(new_postgres_url: Callable[[], str], postgres_server: postgres.PostgresServer) -> None:
    mine, theirs = new_postgres_url(), new_postgres_url()
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(mine, dbname=urlsplit(theirs).path.lstrip("/"))


def test_postgres_commits_survive_a_restart_and_a_crash(postgres_server: postgres.PostgresServer, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS a")
    postgres_server.restart()
    with psycopg.connect(postgres_url) as connection:
        connection.execute("INSERT INTO kept VALUES (2)")
    postgres_server.crash()
    assert not postgres_server.running
    postgres_server.start()
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT a FROM kept ORDER BY a").fetchall() == [(1,), (2,)]


def test_creating_a_postgres_database_again_keeps_its_data(postgres_server: postgres.PostgresServer, postgres_url: str) -> None:
    name = urlsplit(postgres_url).path.lstrip("/")
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE kept (a int)")
    renewed = postgres_server.create_database(name, owner=name, password="another password")
    with psycopg.connect(renewed) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_bad_flow_a_refused_postgres_statement_does_not_echo_its_password(postgres_server: postgres.PostgresServer) -> None:
    with pytest.raises(errors.StatementRejected) as caught:
        postgres_server.execute("CREATE ROLE someone PASSWRD 'hush-hush'")
    assert "passwrd" in str(caught.value)
    assert "hush" not in caught.value.describe()


def test_bad_flow_a_missing_postgres_version_is_named() -> None:
    with pytest.raises(errors.NotFound, match="PostgreSQL 7 is not installed"):
        postgres.binaries(7)


def test_clickhouse_accepts_an_awkward_password(clickhouse_url: str) -> None:
    url = urlsplit(clickhouse_url)
    http_port = int(url.query.removeprefix("http_port="))
    client = clickhouse_connect.get_client(
        host=url.hostname,
        port=http_port,
        username=url.username,
        password=unquote(url.password or ""),
        database=url.path.lstrip("/"),
    )
    assert client.query("SELECT currentDatabase(), currentUser()").result_rows == [(url.path.lstrip("/"), "migrator")]
    client.close()


def test_bad_flow_clickhouse_keeps_the_passwordless_default_user_powerless(clickhouse_server: clickhouse.ClickHouseServer) -> None:
    client = clickhouse_connect.get_client(host=clickhouse_server.host, port=clickhouse_server.http_port)
    with pytest.raises(clickhouse_connect.driver.exceptions.DatabaseError, match="Not enough privileges"):
        client.command("CREATE DATABASE anything")
    client.close()


def test_bad_flow_clickhouse_has_no_implicit_select(clickhouse_server: clickhouse.ClickHouseServer) -> None:
    with pytest.raises(errors.StatementRejected, match="Syntax error"):
        clickhouse_server.execute("1 + 1")


def test_clickhouse_data_survive_a_restart_and_a_crash(clickhouse_server: clickhouse.ClickHouseServer, clickhouse_database: str) -> None:
    clickhouse_server.execute("CREATE TABLE kept (a Int32) ENGINE = MergeTree ORDER BY a", clickhouse_database)
    clickhouse_server.execute("INSERT INTO kept VALUES (1)", clickhouse_database)
    clickhouse_server.restart()
    clickhouse_server.execute("INSERT INTO kept VALUES (2)", clickhouse_database)
    clickhouse_server.crash()
    assert not clickhouse_server.running
    clickhouse_server.start()
    assert clickhouse_server.execute("SELECT a FROM kept ORDER BY a", clickhouse_database) == "1\n2\n"


def test_one_clickhouse_node_serves_distributed_tables(clickhouse_server: clickhouse.ClickHouseServer, clickhouse_database: str) -> None:
    clickhouse_server.execute("CREATE TABLE part (a Int32) ENGINE = MergeTree ORDER BY a", clickhouse_database)
    clickhouse_server.execute("CREATE TABLE whole AS part ENGINE = Distributed('default', currentDatabase(), part, a)", clickhouse_database)
    clickhouse_server.execute("INSERT INTO whole SETTINGS distributed_foreground_insert = 1 VALUES (7)", clickhouse_database)
    assert clickhouse_server.execute("SELECT a FROM whole", clickhouse_database) == "7\n"


@pytest.mark.slow
def test_the_query_log_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    with clickhouse.ClickHouseServer(tmp_path, query_log=True) as server:
        server.execute("SELECT 'remember me'")
        server.execute("SYSTEM FLUSH LOGS")
        found = server.execute("SELECT count() > 0 FROM system.query_log WHERE query LIKE '%remember me%'")
    assert found == "1\n"


def test_bad_flow_a_user_name_that_xml_can_not_hold_is_refused(tmp_path: Path) -> None:
    server = clickhouse.ClickHouseServer(tmp_path, users=[clickhouse.User("a<b", "x")])
    with pytest.raises(errors.UsageError, match="can't name a ClickHouse user"):
        server.start()


@pytest.mark.slow
def test_two_clickhouse_nodes_serve_one_distributed_table(tmp_path: Path) -> None:
    nodes = clickhouse.start_cluster(tmp_path, users=[clickhouse.User("shop", "p'&<é", grants=clickhouse.owner_grants("shop"))])
    try:
        for number, node in enumerate(nodes):
            node.create_database("shop")
            node.execute("CREATE TABLE part (a Int32) ENGINE = MergeTree ORDER BY a", "shop")
            node.execute(f"INSERT INTO part VALUES ({number})", "shop")
        client = clickhouse_connect.get_client(
            host=nodes[0].host, port=nodes[0].http_port, username="shop", password="p'&<é", database="shop"
        )
        client.command("CREATE TABLE whole AS part ENGINE = Distributed('default', 'shop', 'part', rand())")
        rows = client.query("SELECT a, shardNum() FROM whole ORDER BY a").result_rows
        client.close()
    finally:
        for node in nodes:
            node.stop()
    assert rows == [(0, 1), (1, 2)]


@pytest.mark.parametrize(
    "url_fixture, driver", [("postgres_url", "postgres"), ("clickhouse_native_url", "clickhouse"), ("clickhouse_http_url", "clickhouse")]
)
def test_goose_itself_logs_in_with_an_awkward_password(
    url_fixture: str, driver: str, request: pytest.FixtureRequest, goose_binary: Path, tmp_path: Path
) -> None:
    url = request.getfixturevalue(url_fixture)
    done = subprocess.run(
        [goose_binary, "-dir", tmp_path, "create", "first", "sql"], env=os.environ, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [goose_binary, "-dir", tmp_path, "up"],
        env=os.environ | {"GOOSE_DRIVER": driver, "GOOSE_DBSTRING": url},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "successfully migrated database" in done.stderr
