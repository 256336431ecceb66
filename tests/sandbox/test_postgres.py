"""The sandbox's PostgreSQL: passwords count, owners are kept apart, committed rows survive. What greylag does with it is in tests/postgres."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote, urlsplit

import psycopg
import pytest

from migrator import errors
from sandbox.databases import postgres
from sandbox.databases.postgres import PostgresServer


def name_of(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


def test_an_owner_logs_in_with_an_awkward_password_and_is_no_superuser(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.info.password == unquote(urlsplit(postgres_url).password or "")
        row = connection.execute("SELECT current_database() = current_user, current_setting('is_superuser')").fetchone()
    assert row == (True, "off")


def test_bad_flow_a_wrong_password_and_another_owners_database_are_refused(new_postgres_url: Callable[[], str]) -> None:
    mine, theirs = new_postgres_url(), new_postgres_url()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(mine, password="wrong")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(mine, dbname=name_of(theirs))


def test_what_was_committed_survives_a_restart_a_crash_and_making_the_database_again(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS a")
    postgres_server.restart()
    with psycopg.connect(postgres_url) as connection:
        connection.execute("INSERT INTO kept VALUES (2)")
    postgres_server.crash()
    assert not postgres_server.running
    postgres_server.start()
    name = name_of(postgres_url)
    renewed = postgres_server.create_database(name, owner=name, password="another password")
    with psycopg.connect(renewed) as connection:
        assert connection.execute("SELECT a FROM kept ORDER BY a").fetchall() == [(1,), (2,)]


def test_bad_flow_a_refused_statement_does_not_echo_its_password(postgres_server: PostgresServer) -> None:
    with pytest.raises(errors.StatementRejected) as caught:
        postgres_server.execute("CREATE ROLE someone PASSWRD 'hush-hush'")
    assert "passwrd" in str(caught.value)
    assert "hush" not in caught.value.describe()


def test_bad_flow_a_missing_version_is_named() -> None:
    with pytest.raises(errors.NotFound, match="PostgreSQL 7 is not installed"):
        postgres.binaries(7)
