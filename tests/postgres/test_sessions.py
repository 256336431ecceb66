"""A file means the same however many run together: what one leaves in the session is gone before the next begins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest

from migrator import errors, targets, verification
from migrator.planning import events, files
from migrator.postgres import lock, restoring, session
from sandbox.databases.postgres import PostgresServer
from tests.postgres.conftest import Playground

Verb = targets.Verb
NO_TRANSACTION = "-- +goose NO TRANSACTION\n"
ASK = "CREATE TABLE answer AS SELECT {} AS said;"

LEFT = {
    "search_path": ("CREATE SCHEMA billing;\nSET search_path TO billing;", "current_setting('search_path')", '"$user", public'),
    "as pg_dump writes it": (
        "SELECT pg_catalog.set_config('search_path', '', false);",
        "current_setting('search_path')",
        '"$user", public',
    ),
    "a setting": ("SET work_mem = '99MB';", "current_setting('work_mem')", "4MB"),
    "a setting, SESSION": ("SET SESSION work_mem TO '99MB';", "current_setting('work_mem')", "4MB"),
    "a time zone": ("SET TIME ZONE 'Asia/Seoul';", "current_setting('TimeZone')", None),
    "a time-out": ("SET lock_timeout = '77s';", "current_setting('lock_timeout')", "0"),
    "in a block": ("DO $$ BEGIN SET work_mem = '99MB'; END $$;", "current_setting('work_mem')", "4MB"),
    "in a function": (
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT set_config(''work_mem'', ''99MB'', false); SELECT 1';\nSELECT f();",
        "current_setting('work_mem')",
        "4MB",
    ),
    "in a trigger": (
        "CREATE TABLE t (a int);\n-- +goose StatementBegin\nCREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN SET work_mem = '99MB'; RETURN NEW; END $$;\n-- +goose StatementEnd\n"
        "CREATE TRIGGER t BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();\nINSERT INTO t VALUES (1);",
        "current_setting('work_mem')",
        "4MB",
    ),
    "in a default that is computed": (
        "CREATE TABLE t (a int);\nINSERT INTO t VALUES (1);\nCREATE FUNCTION f() RETURNS text LANGUAGE sql AS"
        " 'SELECT set_config(''work_mem'', ''99MB'', false)';\nALTER TABLE t ADD COLUMN b text DEFAULT f();",
        "current_setting('work_mem')",
        "4MB",
    ),
    "a temporary table": ("CREATE TABLE t (a int);\nCREATE TEMP TABLE t (a int);", "to_regclass('t')::text", "t"),
    "a temporary view": ("CREATE TEMPORARY VIEW v AS SELECT 1;", "coalesce(to_regclass('v')::text, 'none')", "none"),
    "a function of the session": (
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1';",
        "(SELECT count(*) FROM pg_proc WHERE proname = 'f')::text",
        "0",
    ),
    "a prepared statement": ("PREPARE p AS SELECT 1;", "(SELECT count(*) FROM pg_prepared_statements WHERE name = 'p')::text", "0"),
    "a cursor": ("DECLARE c CURSOR WITH HOLD FOR SELECT 1;", "(SELECT count(*) FROM pg_cursors WHERE name = 'c')::text", "0"),
    "a channel": ("LISTEN news;", "(SELECT count(*) FROM pg_listening_channels())::text", "0"),
    "how transactions begin": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE;",
        "current_setting('transaction_isolation')",
        "read committed",
    ),
    "how strings are read": (r"SET standard_conforming_strings = off;", r"'a\b'", r"a\b"),
    "an encoding": ("SET client_encoding = 'LATIN1';", "length('é')::text", "1"),
    "a parameter of its own": ("SET app.name = 'x';", "coalesce(current_setting('app.name', true), '')", ""),
    "the deallocation of everything": ("DEALLOCATE ALL;", "'fine'", "fine"),
}
"""What the first file does, what the second asks, and the answer (None: what a session of its own says)."""


def _answer(playground: Playground) -> object:
    return playground.sql("SELECT said FROM public.answer")[0][0]


MODES = {
    "in one pipeline": ("", "{}"),
    "without transactions": (NO_TRANSACTION, "{}"),
    "sent alone": ("", "COPY (SELECT 1) TO STDOUT;\n{}"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("left", LEFT)
def test_what_a_file_leaves_in_the_session_the_next_one_does_not_see(playground: Playground, left: str, mode: str) -> None:
    first, asked, expected = LEFT[left]
    head, body = MODES[mode]
    if left == "a cursor" and head:
        first = f"BEGIN;\n{first}\nCOMMIT;"
    playground.write(1, body.format(first), head=head)
    playground.write(2, body.format(f"CREATE TABLE public.answer AS SELECT {asked} AS said;"), head=head)
    playground.run()
    assert _answer(playground) == (expected or playground.sql(f"SELECT {asked}")[0][0])


ROLE = "sessions_of_another"


@pytest.fixture
def with_role(playground: Playground, postgres_server: PostgresServer) -> Iterator[Playground]:
    """The playground as its superuser sees it, who may become ROLE; that may write everywhere."""
    name = str(playground.sql("SELECT current_database()")[0][0])
    postgres_server.execute(f"CREATE ROLE {ROLE}; GRANT pg_read_all_data, pg_write_all_data TO {ROLE}")
    postgres_server.execute(f"GRANT CREATE ON SCHEMA public TO {ROLE}", name)
    yield Playground(postgres_server.superuser_url(name), playground.directory)
    postgres_server.execute(f"DROP OWNED BY {ROLE}", name)
    postgres_server.execute(f"DROP ROLE {ROLE}")


@pytest.mark.parametrize(
    "taking", [f"SET ROLE {ROLE};", f"SET SESSION AUTHORIZATION {ROLE};", f"SELECT set_config('role', '{ROLE}', false);"]
)
@pytest.mark.parametrize("head", ["", NO_TRANSACTION], ids=["in a transaction", "without one"])
def test_a_role_ends_with_its_file(with_role: Playground, taking: str, head: str) -> None:
    with_role.write(1, f"{taking}\nCREATE TABLE theirs (a int);", head=head)
    with_role.write(2, "CREATE TABLE ours (a int);", head=head)
    with_role.run()
    assert with_role.sql("SELECT tableowner FROM pg_tables WHERE tablename IN ('ours', 'theirs') ORDER BY tablename") == [
        ("postgres",),
        (ROLE,),
    ]
    assert with_role.of(events.Note) == []  # what was made is described as the run's own role
    assert _verified(with_role) == []


def test_the_role_that_the_run_has_taken_is_taken_again(with_role: Playground) -> None:
    with_role.write(1, "RESET ROLE;\nSET work_mem = '99MB';")
    with_role.write(2, "CREATE TABLE b (a int);")
    with_role.run(owner_role=ROLE)
    assert with_role.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'b'") == [(ROLE,)]


def test_what_the_address_sets_is_there_again(playground: Playground) -> None:
    playground.url += "&options=-c%20search_path%3Dapp%20-c%20work_mem%3D7MB%20-c%20lock_timeout%3D3s"
    playground.sql("CREATE SCHEMA app")
    playground.write(1, "SET search_path = ''; SET work_mem = '99MB'; SET lock_timeout = 0;")
    playground.write(2, "CREATE TABLE answer AS SELECT current_setting('work_mem') AS memory, current_setting('lock_timeout') AS patience;")
    playground.run()
    assert playground.sql("SELECT * FROM app.answer") == [("7MB", "3s")]


def test_the_migration_lock_stays(playground: Playground) -> None:
    held = f"SELECT count(*) AS said FROM pg_locks WHERE locktype = 'advisory' AND objid = {lock.KEY} AND pid = pg_backend_pid()"
    playground.write(1, "SET work_mem = '99MB';")
    playground.write(2, f"CREATE TABLE answer AS {held};")
    playground.run()
    assert _answer(playground) == 1


def test_a_file_may_begin_with_what_nothing_may_precede(playground: Playground) -> None:
    playground.write(1, "SET work_mem = '99MB';")
    playground.write(
        2, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;\nCREATE TABLE answer AS SELECT current_setting('transaction_isolation') AS said;"
    )
    playground.run()
    assert _answer(playground) == "serializable"


LEAVES_MUCH = "SET search_path = nowhere;\nPREPARE p AS SELECT 1;\nCREATE TEMP TABLE u (a int);\nCREATE TABLE public.t{0} (a int);"


@pytest.mark.parametrize("count", [3, 40], ids=["few", "many"])
def test_the_session_is_restored_in_the_round_trip_of_the_next_file(
    new_playground: Callable[[], Playground], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    trips: list[int] = []
    pipeline = session.Session.pipeline
    monkeypatch.setattr(session.Session, "pipeline", lambda *given: (trips.append(1), pipeline(*given))[1])

    def number(body: str) -> int:
        playground = new_playground()
        for version in range(1, count + 1):
            playground.write(version, body.format(version))
        trips.clear()
        playground.run()
        assert _verified(playground) == []
        return len(trips)

    assert number(LEAVES_MUCH) == number("CREATE TABLE public.t{0} (a int);")


def test_a_file_that_is_tried_again_finds_the_session_as_it_was(playground: Playground) -> None:
    playground.sql("CREATE TABLE busy (a int)")
    playground.write(1, "SET search_path = nowhere;")
    playground.write(2, "PREPARE p AS SELECT 1;\nALTER TABLE busy ADD COLUMN b int;\nCREATE TABLE c (a int);")
    with psycopg.connect(playground.url) as reader:
        reader.execute("SELECT * FROM busy")
        threading.Timer(1.0, reader.rollback).start()
        playground.run()
    assert playground.of(events.StatementRetried)
    assert playground.exists("public.c")
    assert playground.versions() == [0, 1, 2]


@pytest.mark.parametrize("head", ["", NO_TRANSACTION], ids=["in a transaction", "without one"])
def test_after_a_failed_file_the_run_ends_as_itself(with_role: Playground, head: str) -> None:
    with_role.write(1, f"SET ROLE {ROLE};\nCREATE TABLE theirs (a int);", head=head)
    with_role.write(2, "CREATE TABLE ours (a int);\nSELEC;")
    with pytest.raises(errors.StatementRejected):
        with_role.run()
    assert with_role.of(events.Note) == []
    assert _verified(with_role) == []


def test_without_versioning_files_mean_the_same(playground: Playground) -> None:
    playground.write(1, "SET search_path = nowhere;")
    playground.write(2, "CREATE TABLE a (a int);\nSET search_path = nowhere;", head=NO_TRANSACTION)
    playground.write(3, "CREATE TABLE b (a int);", head=NO_TRANSACTION)
    playground.run(versioning=False)
    assert playground.exists("public.a") and playground.exists("public.b")


def test_down_restores_too(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE a (a int);", "DROP TABLE a;")
    playground.write(2, "CREATE TABLE b (a int);", "SET search_path = nowhere;\nDROP TABLE public.b;")
    playground.run()
    playground.run(Verb.RESET)
    assert playground.versions() == [0]


@pytest.mark.parametrize("count", [3, 40], ids=["few", "many"])
def test_prepared_statements_go_also_where_no_block_may_be_executed(
    playground: Playground, postgres_server: PostgresServer, count: int
) -> None:
    name = str(playground.sql("SELECT current_database()")[0][0])
    postgres_server.execute("REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC", name)
    for version in range(1, count):
        playground.write(version, "PREPARE p AS SELECT 1;")
    playground.write(count, "SELEC;\nPREPARE p AS SELECT 1;")
    with pytest.raises(errors.StatementRejected):
        playground.run()
    playground.write(count, "PREPARE p AS SELECT 1;")
    playground.run()
    assert playground.versions() == list(range(count + 1))


def test_plain_changes_of_plain_objects_restore_nothing(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    def restore(opened: session.Session) -> None:
        raise AssertionError("nothing was left")

    playground.write(1, "CREATE TABLE a (id int);\nCREATE INDEX ON a (id);\nSET LOCAL work_mem = '99MB';\nCOMMENT ON TABLE a IS 'x';")
    playground.write(2, "ALTER TABLE a ADD COLUMN b int;\nDROP TABLE a;")
    monkeypatch.setattr(restoring, "_TAKEN_AWAY", property(restore))
    playground.run()
    assert playground.versions() == [0, 1, 2]


def _verified(playground: Playground) -> list[object]:
    with playground.open() as database:
        return [*verification.verify(database, files.load(playground.directory)).findings]
