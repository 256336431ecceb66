"""What the server says and what to do about it: with file, line and the way out that the SQLSTATE, the file or the catalogue knows."""

from __future__ import annotations

import psycopg
import pytest

from migrator import errors
from migrator.cli import interruption
from tests.postgres.conftest import Playground
from tests.unit.test_in_transaction import REFUSED

NO_TRANSACTION = "-- +goose NO TRANSACTION\n"


def refused(playground: Playground, up: str, *, head: str = "", version: int = 2) -> errors.GreylagError:
    playground.write(version, up, head=head)
    with pytest.raises(errors.GreylagError) as caught:
        playground.run()
    assert caught.value.where is not None and caught.value.where.line is not None
    return caught.value


# --- the server's last words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["", NO_TRANSACTION])
@pytest.mark.parametrize("behind", ["", "\n-- +goose StatementBegin\nBEGIN; SELECT 2; COMMIT;\n-- +goose StatementEnd"])
def test_a_session_that_was_ended_names_file_statement_and_sqlstate(playground: Playground, head: str, behind: str) -> None:
    error = refused(playground, f"CREATE TABLE t (id int);\nSELECT\n  pg_terminate_backend(pg_backend_pid());{behind}", head=head)
    line = 3 + head.count("\n")
    assert (error.code, error.exit_code, str(error.where)) == ("connection-lost", 21, f"{playground.directory}/00002_step.sql:{line}")
    assert error.message.startswith('ERROR 00002_step.sql: failed to run SQL migration: failed to execute SQL query "SELECT')
    assert "FATAL: terminating connection due to administrator command (SQLSTATE 57P01)" in error.message
    assert f"{line + 1} |   pg_terminate_backend" in error.detail
    assert "pg_terminate_backend" in error.hint and "run the same command again" in error.hint


def test_the_statement_is_named_among_many_files_of_one_pipeline(playground: Playground) -> None:
    for version in range(1, 31):
        playground.write(version, f"CREATE TABLE t{version} (id int);\nINSERT INTO t{version} VALUES (1);")
    playground.write(25, "CREATE TABLE t25 (id int);\n\nSELECT pg_terminate_backend(pg_backend_pid());")
    with pytest.raises(errors.Unavailable) as caught:
        playground.run()
    assert str(caught.value.where) == f"{playground.directory}/00025_step.sql:4"
    assert playground.versions() == list(range(25))


def test_the_time_limit_of_a_transaction_has_its_own_remedy(playground: Playground) -> None:
    if playground.sql("SELECT count(*) FROM pg_settings WHERE name = 'transaction_timeout'") == [(0,)]:
        pytest.skip("transaction_timeout came with PostgreSQL 17")
    error = refused(playground, "CREATE TABLE t (id int);\nSET LOCAL transaction_timeout = 200;\nSELECT pg_sleep(10);")
    assert "SQLSTATE 25P04" in error.message and "transaction_timeout" in error.hint
    assert error.where is not None and error.where.line == 4


@pytest.mark.parametrize("head", ["", NO_TRANSACTION])
def test_the_end_of_the_time_names_file_and_statement(playground: Playground, head: str) -> None:
    playground.write(1, "CREATE TABLE t (id int);\nSELECT\n  pg_sleep(30);", head=head)
    with pytest.raises(errors.TimedOut) as caught, interruption.guard(1.5):
        playground.run()
    error = caught.value
    line = 3 + head.count("\n")
    assert (error.code, str(error.where)) == ("deadline", f"{playground.directory}/00001_step.sql:{line}")
    assert error.message.endswith('pg_sleep(30);": timeout: context deadline exceeded')
    assert error.message.startswith("ERROR 00001_step.sql: failed to run SQL migration: failed to execute SQL query")


def test_the_end_of_the_time_is_told_where_a_lock_was_waited_for(playground: Playground) -> None:
    playground.sql("CREATE TABLE t (id int)")
    playground.write(1, "SELECT 1;\nALTER TABLE t ADD COLUMN a int;")
    with psycopg.connect(playground.url) as other:
        other.execute("SELECT * FROM t")
        with pytest.raises(errors.TimedOut) as caught, interruption.guard(2):
            playground.run()
    assert str(caught.value.where) == f"{playground.directory}/00001_step.sql:3"


def test_the_end_of_the_time_among_many_files_names_the_file_and_never_guesses_a_line(playground: Playground) -> None:
    for version in range(1, 25):
        playground.write(version, f"CREATE TABLE t{version} (id int);\nINSERT INTO t{version} VALUES (1);")
    playground.write(20, "SELECT 1;\nSELECT pg_sleep(30);\nSELECT 2;")
    with pytest.raises(errors.TimedOut) as caught, interruption.guard(2):
        playground.run()
    assert str(caught.value.where) == f"{playground.directory}/00020_step.sql"
    assert "no answer yet to the statements of lines 2 to 4" in caught.value.message
    assert playground.versions() == list(range(20))
    playground.write(20, "SELECT\n  pg_sleep(30);")
    with pytest.raises(errors.TimedOut) as caught, interruption.guard(2):
        playground.run()
    assert str(caught.value.where) == f"{playground.directory}/00020_step.sql:2"


# --- what can't run in a transaction ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "VACUUM t;",
        "CREATE INDEX CONCURRENTLY ON t (id);",
        "CREATE DATABASE other;",
        "DROP INDEX CONCURRENTLY t_id;",
        "REINDEX (CONCURRENTLY) TABLE t;",
        "ALTER SYSTEM SET work_mem = '8MB';",
        "CLUSTER;",
        "CALL commits();",
    ],
)
def test_the_servers_refusal_names_no_transaction(playground: Playground, text: str) -> None:
    commits = "CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;"
    playground.write(
        1, f"CREATE TABLE t (id int);\nCREATE INDEX t_id ON t (id);\n-- +goose StatementBegin\n{commits}\n-- +goose StatementEnd"
    )
    error = refused(playground, f"SELECT 1;\n{text}")
    assert (error.code, error.where and error.where.line) == ("sql-rejected", 3)
    assert "`-- +goose NO TRANSACTION`" in error.hint and "nothing of this file was applied" in error.hint
    assert "correct 00002" not in error.hint


def test_the_server_refuses_what_is_warned_of(playground: Playground) -> None:
    """The list beside the server's own word; what needs an object that isn't there is refused for that first."""
    other = {}
    with psycopg.connect(playground.url) as session:
        for text in REFUSED:
            with pytest.raises(psycopg.Error) as caught:
                session.execute("SELECT 1")
                session.execute(text)  # type: ignore[call-overload]
            session.rollback()
            if caught.value.sqlstate != "25001":
                other[text] = caught.value.sqlstate
    missing = ("DROP SUBSCRIPTION", "ALTER SUBSCRIPTION", "ALTER DATABASE", "ALTER TABLE")
    assert [text for text in other if not text.startswith(missing)] == []


def test_a_files_own_transaction_is_not_mended_by_no_transaction(playground: Playground) -> None:
    error = refused(playground, "CREATE TABLE t (id int);\nBEGIN;\nVACUUM t;\nCOMMIT;", head=NO_TRANSACTION)
    assert "BEGIN … COMMIT" in error.hint and "NO TRANSACTION" not in error.hint


# --- others -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["\\restrict abc\n\nSET statement_timeout = 0;", "\\connect shop\nSELECT 1;", "SELECT 1 \\gset\n;"])
def test_a_meta_command_is_told_by_the_refusal_too(playground: Playground, text: str) -> None:
    error = refused(playground, text)
    assert "is a psql meta-command" in error.hint


@pytest.mark.parametrize("change", ["ALTER TABLE child ADD COLUMN a int;", "TRUNCATE child;", "DROP TABLE child;"])
def test_rows_whose_checks_wait_for_the_commit(playground: Playground, change: str) -> None:
    playground.write(
        1,
        "CREATE TABLE t (id int PRIMARY KEY);\nCREATE TABLE child (id int REFERENCES t DEFERRABLE INITIALLY DEFERRED);\nINSERT INTO t VALUES (1);",
    )
    error = refused(playground, f"INSERT INTO child VALUES (1);\n{change}")
    assert "SET CONSTRAINTS ALL IMMEDIATE" in error.hint and "line 3" in error.hint
    playground.write(2, f"INSERT INTO child VALUES (1);\nSET CONSTRAINTS ALL IMMEDIATE;\n{change}")
    playground.run()
    assert playground.versions() == [0, 1, 2]


def test_a_table_that_a_cursor_reads_has_another_remedy(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    error = refused(
        playground, "INSERT INTO t VALUES (1);\nDECLARE c CURSOR FOR SELECT * FROM t;\nFETCH c;\nALTER TABLE t ADD COLUMN a int;"
    )
    assert "SQLSTATE 55006" in error.message and "SET CONSTRAINTS" not in error.hint


@pytest.mark.parametrize("unique", ["", "UNIQUE "])
def test_an_index_of_a_partitioned_table(playground: Playground, unique: str) -> None:
    playground.write(1, "CREATE SCHEMA app;\nCREATE TABLE app.t (id int) PARTITION BY RANGE (id);\nCREATE INDEX t_id ON app.t (id);")
    error = refused(playground, f"CREATE {unique}INDEX CONCURRENTLY i ON app.t (id);", head=NO_TRANSACTION)
    assert "ON ONLY app.t" in error.hint and "ATTACH PARTITION" in error.hint
    error = refused(playground, "DROP INDEX CONCURRENTLY app.t_id;", head=NO_TRANSACTION)
    assert "DROP INDEX without CONCURRENTLY" in error.hint


def test_another_thing_that_is_not_supported_is_not_about_partitions(playground: Playground) -> None:
    error = refused(playground, "CREATE INDEX CONCURRENTLY i ON pg_class (relname);", head=NO_TRANSACTION)
    assert "partition" not in error.hint


@pytest.mark.parametrize("use", ["INSERT INTO t VALUES ('glad');", "ALTER TABLE t ALTER m SET DEFAULT 'glad';"])
def test_an_enums_value_in_the_transaction_that_adds_it(playground: Playground, use: str) -> None:
    playground.write(1, "CREATE TYPE mood AS ENUM ('sad');\nCREATE TABLE t (m mood);")
    error = refused(playground, f"ALTER TYPE mood ADD VALUE 'glad';\n{use}")
    assert "SQLSTATE 55P04" in error.message and "file of its own" in error.hint


@pytest.mark.parametrize(
    ("make", "use", "kind"),
    [
        ("CREATE TEMP TABLE stage AS SELECT 1 AS id;", "INSERT INTO t SELECT id FROM stage;", "temporary table"),
        ("SELECT 1 AS id INTO TEMPORARY stage;", "INSERT INTO t SELECT id FROM stage;", "temporary table"),
        ("CREATE TEMP VIEW stage AS SELECT 1 AS id;", "INSERT INTO t SELECT id FROM stage;", "temporary table"),
        ("PREPARE stage AS INSERT INTO t VALUES (1);", "EXECUTE stage;", "prepared statement"),
    ],
)
def test_what_ended_with_the_session_of_a_broken_run(playground: Playground, make: str, use: str, kind: str) -> None:
    broken = f"CREATE TABLE t (id int);\n{make}\nSELEC 1;\n{use}"
    assert refused(playground, broken, head=NO_TRANSACTION).where
    error = refused(playground, broken.replace("SELEC 1", "SELECT 1"), head=NO_TRANSACTION)
    assert f"the {kind} stage ended with the session" in error.hint and "repair -not-done 2:2" in error.hint
    with playground.open() as database:
        database.answer(2, 2, done=False)
    playground.run()
    assert playground.versions() == [0, 2] and playground.sql("SELECT id FROM t") == [(1,)]


def test_a_table_that_never_was_has_not_ended_with_a_session(playground: Playground) -> None:
    error = refused(playground, "CREATE TEMP TABLE stage (id int);\nSELECT * FROM nowhere;", head=NO_TRANSACTION)
    assert "repair" not in error.hint
