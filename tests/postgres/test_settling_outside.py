"""The truth table of what lies outside of one database, or blocks while it runs: databases, tablespaces, settings of the server, VACUUM, CALL, DETACH,
each refused, killed before, during and after; absent, there and equal, there and different. Each verdict is held against the server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from migrator import errors, verification
from migrator.planning import events, files
from sandbox.databases.postgres import PostgresServer
from tests.postgres.conftest import Playground
from tests.postgres.test_autocommit import NO_TRANSACTION, Killed, killed_at

SETTING = "log_autovacuum_min_duration"
WRITTEN = f"SELECT setting FROM pg_file_settings WHERE sourcefile LIKE '%postgresql.auto.conf' AND name = '{SETTING}'"


@pytest.fixture
def outside(postgres_url: str, postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Playground]:
    """A playground whose role may do what concerns the whole server; what files call `{name}` is dropped in the end."""
    database = psycopg.conninfo.conninfo_to_dict(postgres_url)["dbname"]
    directory = tmp_path / "migrations"
    directory.mkdir()
    yield Playground(postgres_server.superuser_url(str(database)), directory)
    for name, suffix in ((f"{database}_made", ""), (f"{database}_other", "")):
        postgres_server.execute(f'DROP DATABASE IF EXISTS "{name}{suffix}"')
        postgres_server.execute(f'DROP TABLESPACE IF EXISTS "{name}_space"')
    postgres_server.execute(f"ALTER SYSTEM RESET {SETTING}")
    postgres_server.execute(f'DROP ROLE IF EXISTS "{database}_somebody"')


def _killed(playground: Playground, monkeypatch: pytest.MonkeyPatch, word: str, when: str) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, word, after=when == "after")
        playground.run()


def _killed_while_it_waits(playground: Playground, statement: str, holding: str) -> None:
    """Ends the server's session of the run while it waits for a transaction of somebody else."""
    with psycopg.connect(playground.url) as holder:
        holder.execute(holding)
        stop = threading.Event()

        def end() -> None:
            waiting = (
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ILIKE '%{statement}%' AND wait_event_type = 'Lock'"
                " AND application_name LIKE 'greylag/%'"
            )
            while not stop.wait(0.02) and not playground.sql(waiting):
                pass

        watcher = threading.Thread(target=end)
        watcher.start()
        try:
            with pytest.raises(errors.Unavailable):
                playground.run()
        finally:
            stop.set()
            watcher.join()
        holder.rollback()


def _outcomes(playground: Playground) -> list[str]:
    return [str(event.outcome) for event in playground.of(events.StatementSettled)]  # type: ignore[attr-defined]


def _name(playground: Playground) -> str:
    return f"{playground.sql('SELECT current_database()')[0][0]}_made"


def _finished(playground: Playground) -> None:
    assert playground.exists("public.finished") and playground.versions() == [0, 1]
    with playground.open() as database:
        assert verification.verify(database, files.load(playground.directory)).succeeded


LAST = "\nCREATE TABLE public.finished (a int);"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("text", ['CREATE DATABASE "{name}";', 'CREATE DATABASE "{name}" TEMPLATE template0 CONNECTION LIMIT 7;'])
def test_a_database_is_made_once(outside: Playground, monkeypatch: pytest.MonkeyPatch, text: str, when: str) -> None:
    name = _name(outside)
    outside.write(1, text.format(name=name) + LAST, head=NO_TRANSACTION)
    _killed(outside, monkeypatch, "CREATE DATABASE", when)
    outside.run()
    assert _outcomes(outside) == ["done" if when == "after" else "not-done"]
    assert outside.sql(f"SELECT count(*) FROM pg_database WHERE datname = '{name}'") == [(1,)]
    _finished(outside)


def test_a_database_that_somebody_else_made_meanwhile_is_not_taken_for_it(outside: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    name = _name(outside)
    somebody = name.replace("_made", "_somebody")
    outside.write(1, f'CREATE DATABASE "{name}" CONNECTION LIMIT 7;{LAST}', head=NO_TRANSACTION)
    _killed(outside, monkeypatch, "CREATE DATABASE", "before")
    outside.sql(f'CREATE ROLE "{somebody}"')
    outside.sql(f'CREATE DATABASE "{name}" OWNER "{somebody}"')
    with pytest.raises(errors.NeedsAnswer, match="another owner"):
        outside.run()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_database_is_dropped_once_and_one_of_its_name_is_not(outside: Playground, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    name = _name(outside)
    outside.sql(f'CREATE DATABASE "{name}"')
    outside.write(1, f'DROP DATABASE "{name}" WITH (FORCE);{LAST}', head=NO_TRANSACTION)
    _killed(outside, monkeypatch, "DROP DATABASE", when)
    if when == "after":
        outside.sql(f'CREATE DATABASE "{name}"')
    outside.run()
    assert _outcomes(outside) == ["done" if when == "after" else "not-done"]
    assert outside.sql(f"SELECT count(*) FROM pg_database WHERE datname = '{name}'") == [(1 if when == "after" else 0,)]
    _finished(outside)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_tablespace_is_made_and_a_database_moved_into_it_once(outside: Playground, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    name = _name(outside)
    outside.sql(f'CREATE DATABASE "{name}"')
    space = f"SET allow_in_place_tablespaces = on;\nCREATE TABLESPACE \"{name}_space\" LOCATION '';"
    outside.write(1, f'{space}\nALTER DATABASE "{name}" SET TABLESPACE "{name}_space";{LAST}', head=NO_TRANSACTION)
    _killed(outside, monkeypatch, "CREATE TABLESPACE", when)
    _killed(outside, monkeypatch, "SET TABLESPACE", when)
    assert _outcomes(outside) == ["done" if when == "after" else "not-done"]
    outside.run()
    assert _outcomes(outside) == ["not-done"]  # it is repeated: a database that is there already is left where it is
    where = f"SELECT spcname FROM pg_tablespace AS t JOIN pg_database AS d ON d.dattablespace = t.oid WHERE datname = '{name}'"
    assert outside.sql(where) == [(f"{name}_space",)]
    _finished(outside)
    outside.write(2, f'ALTER DATABASE "{name}" SET TABLESPACE pg_default;\nDROP TABLESPACE "{name}_space";', head=NO_TRANSACTION)
    _killed(outside, monkeypatch, "DROP TABLESPACE", when)
    outside.run()
    assert _outcomes(outside) == ["done" if when == "after" else "not-done"]
    assert outside.sql(f"SELECT count(*) FROM pg_tablespace WHERE spcname = '{name}_space'") == [(0,)]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_setting_of_the_server_is_written_again(outside: Playground, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    outside.write(1, f"ALTER SYSTEM SET {SETTING} = '77s';\nALTER SYSTEM RESET {SETTING};{LAST}", head=NO_TRANSACTION)
    _killed(outside, monkeypatch, "ALTER SYSTEM SET", when)
    _killed(outside, monkeypatch, "ALTER SYSTEM RESET", when)
    assert _outcomes(outside) == ["not-done"]
    assert outside.sql(WRITTEN) == ([] if when == "after" else [("77s",)])
    outside.run()
    assert _outcomes(outside) == ["not-done"]
    assert outside.sql(WRITTEN) == []
    _finished(outside)


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_can_be_repeated_is_repeated(outside: Playground, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    outside.sql("CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY)")
    own = outside.sql("SELECT current_database()")[0][0]
    texts = (f'REINDEX DATABASE "{own}"', f'REINDEX SYSTEM "{own}"', "REINDEX SCHEMA app", "CLUSTER;", "CHECKPOINT", "VACUUM;")
    outside.write(1, "\n".join(f"{text.rstrip(';')};" for text in texts) + LAST, head=NO_TRANSACTION)
    for number, text in enumerate(texts):
        _killed(outside, monkeypatch, text.rstrip(";"), when)
        assert _outcomes(outside) == ["not-done"] * min(number, 1)
    outside.run()
    assert _outcomes(outside) == ["not-done"]
    _finished(outside)


HELD = "CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY, x int); INSERT INTO app.t SELECT g, g FROM generate_series(1, 50) AS g;"
WAITING = {
    "VACUUM app.t;": "LOCK TABLE app.t IN SHARE UPDATE EXCLUSIVE MODE",
    "VACUUM (ANALYZE, VERBOSE) app.t (x);": "LOCK TABLE app.t IN SHARE UPDATE EXCLUSIVE MODE",
    "VACUUM FULL app.t;": "SELECT * FROM app.t",
    "ANALYZE app.t;": "LOCK TABLE app.t IN SHARE UPDATE EXCLUSIVE MODE",
    "CLUSTER app.t USING t_pkey;": "SELECT * FROM app.t",
    "REINDEX SCHEMA app;": "LOCK TABLE app.t IN SHARE UPDATE EXCLUSIVE MODE",
    "REINDEX INDEX CONCURRENTLY app.t_pkey;": "LOCK TABLE app.t IN SHARE UPDATE EXCLUSIVE MODE",
    "REINDEX TABLE CONCURRENTLY app.t;": "INSERT INTO app.t VALUES (0)",
    "REINDEX (VERBOSE, CONCURRENTLY) SCHEMA app;": "INSERT INTO app.t VALUES (0)",
}


@pytest.mark.parametrize("text", WAITING)
def test_killed_while_it_waits_it_is_repeated_and_leaves_nothing_behind(playground: Playground, text: str) -> None:
    playground.sql(HELD)
    playground.write(1, text + LAST, head=f"{NO_TRANSACTION}-- greylag: lock-timeout 60s\n")
    _killed_while_it_waits(playground, text.split()[0], WAITING[text])
    playground.run()
    assert _outcomes(playground) in ([], ["not-done"])
    indexes = (
        "SELECT c.relname, i.indisvalid FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid WHERE i.indrelid = 'app.t'::regclass"
    )
    assert playground.sql(indexes) == [("t_pkey", True)]
    assert playground.sql("SELECT count(*) FROM app.t") == [(50,)]
    _finished(playground)


COMMITS = (
    "CREATE PROCEDURE app.p() LANGUAGE plpgsql AS 'BEGIN INSERT INTO app.t VALUES (100); COMMIT; UPDATE app.t SET x = -1; COMMIT; END'"
)
DO = "-- +goose StatementBegin\nDO $$ BEGIN INSERT INTO app.t VALUES (100); COMMIT; UPDATE app.t SET x = -1; COMMIT; END $$;\n-- +goose StatementEnd"


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("text", ["CALL app.p();", DO])
def test_a_call_that_is_killed_between_its_commits_is_asked_about_with_nothing_done_twice(
    playground: Playground, text: str, done: bool
) -> None:
    playground.sql(HELD + COMMITS)
    playground.write(1, text + LAST, head=NO_TRANSACTION)
    _killed_while_it_waits(playground, "app.", "UPDATE app.t SET x = x WHERE id = 1")
    assert playground.sql("SELECT count(*), count(*) FILTER (WHERE x = -1) FROM app.t") == [(51, 0)]
    for _ in range(2):
        with pytest.raises(errors.NeedsAnswer, match=r"keeps no trace|several") as asked:
            playground.run()
        assert "repair -done 1:1" in asked.value.hint
    assert playground.sql("SELECT count(*), count(*) FILTER (WHERE x = -1) FROM app.t") == [(51, 0)]
    if not done:
        playground.sql("DELETE FROM app.t WHERE id = 100")  # undone by hand, as the answer says
    with playground.open() as database:
        database.answer(1, 1, done=done)
    playground.run()
    assert playground.sql("SELECT count(*), count(*) FILTER (WHERE x = -1) FROM app.t") == [(51, 0 if done else 51)]
    _finished(playground)


@pytest.mark.parametrize(
    ("holding", "outcome"),
    [
        ("LOCK TABLE app.p IN SHARE UPDATE EXCLUSIVE MODE", "not-done"),
        ("LOCK TABLE app.c IN ACCESS SHARE MODE", "done"),
        ("SELECT * FROM app.p", "done"),
    ],
)
def test_a_detach_that_is_killed_while_it_waits(playground: Playground, holding: str, outcome: str) -> None:
    playground.sql("CREATE SCHEMA app; CREATE TABLE app.p (id int) PARTITION BY LIST (id)")
    playground.sql("CREATE TABLE app.c PARTITION OF app.p FOR VALUES IN (1); INSERT INTO app.p VALUES (1)")
    playground.write(
        1, f"ALTER TABLE app.p DETACH PARTITION app.c CONCURRENTLY;{LAST}", head=f"{NO_TRANSACTION}-- greylag: lock-timeout 60s\n"
    )
    _killed_while_it_waits(playground, "DETACH", holding)
    playground.run()
    assert _outcomes(playground) == [outcome], playground.seen
    assert playground.sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'app.p'::regclass") == [(0,)]
    assert playground.sql("SELECT count(*) FROM app.c") == [(1,)]
    _finished(playground)
