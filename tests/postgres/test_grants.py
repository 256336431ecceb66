"""What is recorded is written by its owner alone, whatever default privileges give; and who else may write it is known."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from deployments.privileges import rendering
from migrator import cli
from sandbox.databases.postgres import PostgresServer
from tests.conftest import AWKWARD_PASSWORD
from tests.postgres.conftest import Playground

TABLES = ("goose_db_version", "greylag_migration", "greylag_journal", "greylag_fact")
SEQUENCES = ("goose_db_version_id_seq", "greylag_journal_id_seq")
FORGERIES = (
    "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)",
    "UPDATE goose_db_version SET version_id = 7",
    "DELETE FROM goose_db_version",
    "TRUNCATE goose_db_version",
    "UPDATE greylag_migration SET checksum = 'x'",
    "DELETE FROM greylag_migration",
    "INSERT INTO greylag_journal (version, direction, statement, digest, state, run_id, at) VALUES (2, 'up', 1, '', 'done', '', now())",
    "DELETE FROM greylag_fact",
    "SELECT nextval('goose_db_version_id_seq')",
    "SELECT setval('goose_db_version_id_seq', 2147483647)",
    "SELECT setval('greylag_journal_id_seq', 1)",
    "CREATE TRIGGER t BEFORE INSERT ON goose_db_version FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
)
GIVES = "ALTER DEFAULT PRIVILEGES GRANT {} ON TABLES TO {}; ALTER DEFAULT PRIVILEGES GRANT {} ON SEQUENCES TO {}"


@pytest.fixture
def application(playground: Playground, postgres_server: PostgresServer) -> Iterator[str]:
    """The application's own login, which has been given nothing yet."""
    name = f"app_{secrets.token_hex(4)}"
    database = playground.url.rpartition("/")[2].partition("?")[0]
    postgres_server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'app'; GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {name}")
    yield name
    postgres_server.drop_database(database)
    postgres_server.execute(f"DROP ROLE {name}")


@contextmanager
def as_application(playground: Playground, name: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(playground.url, user=name, password="app", autocommit=True) as connection:
        yield connection


def require_refused(playground: Playground, name: str) -> None:
    """Everything that would change what is recorded is refused; what must not depend on that is not."""
    with as_application(playground, name) as connection:
        for text in FORGERIES:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(sql.SQL(text))
        for table in TABLES:
            connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)))
            may = "SELECT has_table_privilege(%s, 'REFERENCES, TRIGGER, TRUNCATE'), has_any_column_privilege(%s, 'INSERT, UPDATE, REFERENCES')"
            assert connection.execute(may, (table, table)).fetchone() == (False, False)
        connection.execute("INSERT INTO users VALUES (1)")
        connection.execute("UPDATE users SET id = 2; DELETE FROM users; SELECT nextval('numbers')")


def write_two(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE users (id int);\nCREATE SEQUENCE numbers;", "DROP TABLE users; DROP SEQUENCE numbers;")
    playground.write(2, "CREATE INDEX CONCURRENTLY users_id ON users (id);", "DROP INDEX users_id;", head="-- +goose NO TRANSACTION\n")


@pytest.mark.parametrize(
    ("tables", "sequences", "to"),
    [
        ("SELECT, INSERT, UPDATE, DELETE", "USAGE, SELECT", "{app}"),
        ("ALL", "ALL", "{app}"),
        ("ALL", "ALL", "PUBLIC"),
        ("ALL", "ALL", "{app} WITH GRANT OPTION"),
    ],
)
def test_default_privileges_give_the_application_every_table_but_these(
    playground: Playground, application: str, tables: str, sequences: str, to: str
) -> None:
    to = to.format(app=application)
    playground.sql(GIVES.format(tables, to, sequences, to))
    write_two(playground)
    playground.run()
    require_refused(playground, application)
    with playground.open() as database:
        assert database.read_writers() == ()


def test_what_an_event_trigger_gives_is_taken_back_too(playground: Playground, application: str, postgres_server: PostgresServer) -> None:
    gives = f"EXECUTE 'GRANT ALL ON TABLE ' || made || ' TO {application}'"
    postgres_server.execute(
        "CREATE FUNCTION give() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE made text; BEGIN"
        f" FOR made IN SELECT object_identity FROM pg_event_trigger_ddl_commands() WHERE object_type IN ('table', 'sequence') LOOP {gives}; END LOOP;"
        " END $$; CREATE EVENT TRIGGER giving ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'CREATE SEQUENCE') EXECUTE FUNCTION give()",
        playground.url.rpartition("/")[2].partition("?")[0],
    )
    write_two(playground)
    playground.run()
    require_refused(playground, application)


def test_a_run_with_nothing_to_do_asks_nothing_of_it(playground: Playground, application: str) -> None:
    playground.sql(GIVES.format("ALL", application, "ALL", application))
    write_two(playground)
    playground.run()
    playground.sql("SELECT 1")
    with playground.open() as database:
        sent: list[int] = []
        batch = database._session.batch
        database._session.batch = lambda messages: (sent.append(1), batch(messages))[1]  # type: ignore[method-assign]
        database.read_outline()
    assert len(sent) == 1


def test_tables_that_exist_already_are_taken_back_by_the_printed_privileges(
    playground: Playground, application: str, postgres_server: PostgresServer
) -> None:
    write_two(playground)
    playground.run()
    tables = ", ".join(TABLES)
    playground.sql(f"GRANT ALL ON {tables}, users TO {application}; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {application}")
    playground.sql("GRANT UPDATE (version_id) ON goose_db_version TO PUBLIC; GRANT SELECT (checksum) ON greylag_migration TO PUBLIC")
    with playground.open() as database:
        found = database.read_writers()
    assert {item.name for item in found} == {application, "PUBLIC"}
    assert any("INSERT" in item.may and "goose_db_version" in item.may for item in found)
    database_name = playground.url.rpartition("/")[2].partition("?")[0]
    text = (rendering.DIRECTORY / "postgres/history.sql").read_text(encoding="utf-8")
    for _ in range(2):  # and once more, when nothing is left
        postgres_server.execute(text, database_name)
    require_refused(playground, application)
    with playground.open() as database:
        assert database.read_writers() == ()


def test_each_remedy_does_what_it_says(playground: Playground, application: str, postgres_server: PostgresServer) -> None:
    write_two(playground)
    playground.run()
    owner = str(playground.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'goose_db_version'")[0][0])
    playground.sql(
        f"GRANT INSERT, DELETE ON goose_db_version TO {application}; GRANT UPDATE (checksum) ON greylag_migration TO {application}"
    )
    postgres_server.execute(f"GRANT pg_write_all_data TO {application}")
    postgres_server.execute(f"ALTER SCHEMA public OWNER TO {application}", playground.url.rpartition("/")[2].partition("?")[0])
    with playground.open() as database:
        found = database.read_writers()
    assert {item.may for item in found} == {
        "DELETE, INSERT on goose_db_version",
        "UPDATE on greylag_migration",
        "INSERT, UPDATE, DELETE, as a member of pg_write_all_data",
        "DROP, as the owner of schema public",
    }
    assert owner
    for item in found:
        postgres_server.execute(item.remedy, playground.url.rpartition("/")[2].partition("?")[0])
    with playground.open() as database:
        assert database.read_writers() == ()


def test_nobody_is_told_who_may_become_the_owner_and_nobody_where_no_history_is(
    playground: Playground, application: str, postgres_server: PostgresServer
) -> None:
    with playground.open() as database:
        assert database.read_writers() == ()
    write_two(playground)
    playground.run()
    owner = playground.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'goose_db_version'")[0][0]
    playground.sql(f"GRANT ALL ON goose_db_version TO {application}")
    postgres_server.execute(f'GRANT "{owner}" TO {application}')
    with playground.open() as database:
        assert database.read_writers() == ()


def test_env_warns_of_writers_and_shows_no_password(
    playground: Playground, application: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_two(playground)
    playground.run()
    playground.sql(f"GRANT UPDATE ON greylag_migration TO {application}")
    monkeypatch.setenv("GOOSE_DRIVER", "postgres")
    monkeypatch.setenv("GOOSE_DBSTRING", playground.url)
    assert cli.main(["env"]) == 0
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        f"greylag: warning: {application} may write the history: UPDATE on greylag_migration [history-writable]",
        f"greylag: hint: REVOKE UPDATE ON TABLE public.greylag_migration FROM {application} CASCADE",
    ]
    assert AWKWARD_PASSWORD not in told.out and ":***@" in told.out
    assert cli.main(["env", "-json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [item["name"] for item in document["writers"]] == [application]


@pytest.mark.parametrize(
    ("driver", "dbstring", "said"),
    [
        ("postgres", "postgres://u:s3cretWord@127.0.0.1:1/db", "is not known"),
        ("clickhouse", "http://u:s3cretWord@127.0.0.1:1/db", "is not known"),
        ("postgres", "", ""),
        ("mysql", "u:s3cretWord@tcp(h)/db", ""),
    ],
)
def test_bad_flow_env_prints_its_settings_where_no_database_can_be_asked(
    driver: str, dbstring: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GOOSE_DRIVER", driver)
    monkeypatch.setenv("GOOSE_DBSTRING", dbstring)
    assert cli.main(["env"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f'GOOSE_DRIVER="{driver}"\n') and "s3cretWord" not in told.err
    assert (said in told.err) if said else not told.err
