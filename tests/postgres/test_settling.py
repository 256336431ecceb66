"""The truth table of statements that no transaction protects: refused, killed before, during and after; what was there absent, equal or different.
Each verdict is held against the server."""

from __future__ import annotations

import threading

import psycopg
import pytest

from migrator import errors
from migrator.planning import events
from migrator.postgres import settling
from tests.postgres.conftest import Playground
from tests.postgres.test_autocommit import NO_TRANSACTION, Killed, killed_at

HELD = 'CREATE SCHEMA app; CREATE TABLE app.t (id int, x int, s text, "Odd y" int); INSERT INTO app.t SELECT g, g, g FROM generate_series(1, 50) g;'
PATHS = {
    "set by the file": "SET search_path TO app, public;",
    "set by a function": "SELECT set_config('search_path', 'app', false);",
    "of the database": "",
}
INDEXES = (
    "SELECT c.relname, i.indisvalid, pg_get_indexdef(c.oid) FROM pg_index i JOIN pg_class c ON c.oid = indexrelid"
    " WHERE indrelid = 'app.t'::regclass ORDER BY 1"
)


def _prepared(playground: Playground, path: str) -> str:
    """Makes the table in a schema that the session finds by `path`; returns what the file says first."""
    playground.sql(HELD)
    if path == "of the database":
        name = playground.sql("SELECT current_database()")[0][0]
        playground.sql(f'ALTER DATABASE "{name}" SET search_path = app, public')
        playground.sql("CREATE TABLE IF NOT EXISTS unused (a int)")
    return PATHS[path]


def _killed(playground: Playground, monkeypatch: pytest.MonkeyPatch, word: str, *, after: bool) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, word, after=after)
        playground.run()


def _killed_during(playground: Playground, statement: str) -> None:
    """Ends the server's session of the run while it waits for a transaction of somebody else that holds the table."""
    with psycopg.connect(playground.url) as holder:
        holder.execute("INSERT INTO app.t (id) VALUES (0)")
        stop = threading.Event()

        def end() -> None:
            while not stop.wait(0.02):
                waiting = (
                    f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%{statement}%' AND wait_event_type = 'Lock'"
                    " AND datname = current_database() AND pid <> pg_backend_pid()"
                )
                if playground.sql(waiting):
                    return

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


BUILDS = {
    "named": "CREATE INDEX CONCURRENTLY t_x ON t (x);",
    "named, IF NOT EXISTS": "CREATE INDEX CONCURRENTLY IF NOT EXISTS t_x ON t (x);",
    "unnamed": "CREATE INDEX CONCURRENTLY ON t (x);",
    "unique": "CREATE UNIQUE INDEX CONCURRENTLY t_x ON t (x, id DESC) WHERE x > 0;",
    "of an expression": "CREATE INDEX CONCURRENTLY t_x ON t (lower(s), (x + 1)) INCLUDE (id) WITH (fillfactor = 70);",
    "quoted": 'CREATE INDEX CONCURRENTLY "Odd USING x" ON t ("Odd y" NULLS FIRST);',
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("when", ["before", "during", "after"])
@pytest.mark.parametrize("build", BUILDS)
def test_a_concurrent_build(playground: Playground, monkeypatch: pytest.MonkeyPatch, build: str, when: str, path: str) -> None:
    first = _prepared(playground, path)
    playground.write(1, f"{first}\n{BUILDS[build]}\nCREATE TABLE public.finished (a int);", head=NO_TRANSACTION)
    if when == "during":
        _killed_during(playground, "CONCURRENTLY")
    else:
        _killed(playground, monkeypatch, "CONCURRENTLY", after=when == "after")
    playground.run()
    assert _outcomes(playground) == ["done" if when == "after" else "not-done"]
    assert [valid for _, valid, _ in playground.sql(INDEXES)] == [True]
    assert playground.exists("public.finished")


OTHERS = {
    "another index": ("CREATE INDEX adhoc ON app.t (id)", {"adhoc"}),
    "an index of the same name elsewhere": ("CREATE SCHEMA z; CREATE TABLE z.t (x int); CREATE INDEX t_x ON z.t (x)", set()),
    "everything built anew": ("REINDEX TABLE CONCURRENTLY app.t", set()),
    "a table of its own": ("CREATE TABLE app.adhoc (x int PRIMARY KEY)", set()),
}


@pytest.mark.parametrize("when", ["before", "during", "after"])
@pytest.mark.parametrize("build", ["named", "unnamed", "of an expression"])
@pytest.mark.parametrize("other", OTHERS)
def test_a_concurrent_build_beside_what_somebody_does(
    playground: Playground, monkeypatch: pytest.MonkeyPatch, other: str, build: str, when: str
) -> None:
    playground.sql(HELD)
    playground.sql("CREATE INDEX old ON app.t (x)")
    playground.write(1, f"SET search_path = app;\n{BUILDS[build]}", head=NO_TRANSACTION)
    if when == "during":
        _killed_during(playground, "CONCURRENTLY")
    else:
        _killed(playground, monkeypatch, "CONCURRENTLY", after=when == "after")
    text, names = OTHERS[other]
    with psycopg.connect(playground.url, autocommit=True) as somebody:
        for part in text.split("; "):
            somebody.execute(part)
    playground.run()
    found = playground.sql(INDEXES)
    assert all(valid for _, valid, _ in found)
    assert {name for name, _, _ in found} >= {"old", *names}
    assert len(found) == 2 + len(names), found


def test_an_index_of_that_name_with_another_definition_is_a_question(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    playground.sql(HELD)
    playground.write(1, "CREATE INDEX CONCURRENTLY t_x ON app.t (x);", head=NO_TRANSACTION)
    _killed(playground, monkeypatch, "CONCURRENTLY", after=False)
    playground.sql("CREATE INDEX t_x ON app.t (id)")
    with pytest.raises(errors.NeedsAnswer, match=r"t_x is there, but as USING btree \(id\)"):
        playground.run()


@pytest.mark.parametrize("build", ["named, IF NOT EXISTS", "named"])
def test_an_index_that_was_there_before_is_never_taken_for_the_one_it_made(
    playground: Playground, monkeypatch: pytest.MonkeyPatch, build: str
) -> None:
    playground.sql(HELD)
    playground.sql("CREATE INDEX t_x ON app.t (id)")
    playground.write(1, f"SET search_path = app;\n{BUILDS[build]}", head=NO_TRANSACTION)
    _killed(playground, monkeypatch, "CONCURRENTLY", after=False)
    if "EXISTS" in build:
        playground.run()
        assert _outcomes(playground) == ["not-done"]
    else:
        with pytest.raises(errors.StatementRejected, match=r"SQLSTATE 42P07"):
            playground.run()
    assert len(playground.sql(INDEXES)) == 1


def test_without_a_right_to_temporary_tables_a_finished_build_is_a_question(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    playground.sql(HELD)
    playground.write(1, "CREATE INDEX CONCURRENTLY t_x ON app.t (x);", head=NO_TRANSACTION)
    _killed(playground, monkeypatch, "CONCURRENTLY", after=True)
    monkeypatch.setattr(settling.inventory, "rehearsed", lambda *_: None)
    with pytest.raises(errors.NeedsAnswer, match="can't be tried out"):
        playground.run()


def test_the_facts_of_a_settled_build_name_its_own_index_alone(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    playground.sql(HELD)
    playground.write(1, "CREATE INDEX CONCURRENTLY t_x ON app.t (x);", head=NO_TRANSACTION)
    _killed(playground, monkeypatch, "CONCURRENTLY", after=True)
    playground.sql("CREATE INDEX adhoc ON app.t (id)")
    playground.run()
    assert playground.sql("SELECT identity FROM greylag_fact WHERE kind = 'index'") == [("app.t_x",)]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("when", ["before", "during", "after"])
@pytest.mark.parametrize("exists", ["", "IF EXISTS "])
def test_a_concurrent_drop(playground: Playground, monkeypatch: pytest.MonkeyPatch, exists: str, when: str, path: str) -> None:
    first = _prepared(playground, path)
    playground.sql("CREATE INDEX t_x ON app.t (x); CREATE TABLE public.u (x int); CREATE INDEX u_x ON public.u (x)")
    playground.write(1, f"{first}\nDROP INDEX CONCURRENTLY {exists}t_x;\nCREATE TABLE public.finished (a int);", head=NO_TRANSACTION)
    if when == "during":
        _killed_during(playground, "DROP INDEX")
    else:
        _killed(playground, monkeypatch, "DROP INDEX", after=when == "after")
    playground.run()
    assert _outcomes(playground) == ["done" if when == "after" else "not-done"]
    assert playground.sql(INDEXES) == []
    assert playground.exists("public.finished") and playground.exists("public.u_x")


@pytest.mark.parametrize("after", [False, True])
def test_a_concurrent_drop_of_what_was_built_anew_meanwhile_is_a_question(
    playground: Playground, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    playground.sql(HELD)
    playground.sql("CREATE INDEX t_x ON app.t (x)")
    playground.write(1, "DROP INDEX CONCURRENTLY app.t_x;", head=NO_TRANSACTION)
    _killed(playground, monkeypatch, "DROP INDEX", after=after)
    with psycopg.connect(playground.url, autocommit=True) as somebody:
        somebody.execute("CREATE INDEX t_x ON app.t (x)" if after else "REINDEX INDEX CONCURRENTLY app.t_x")
    with pytest.raises(errors.NeedsAnswer, match="another of its name is there"):
        playground.run()


@pytest.mark.parametrize(
    "what", ["INDEX CONCURRENTLY t_x", "TABLE CONCURRENTLY t", "SCHEMA CONCURRENTLY app", "(CONCURRENTLY, VERBOSE) TABLE t"]
)
@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_a_concurrent_reindex_is_repeated_and_leaves_nothing_invalid(
    playground: Playground, monkeypatch: pytest.MonkeyPatch, what: str, when: str
) -> None:
    playground.sql(HELD)
    playground.sql("CREATE INDEX t_x ON app.t (x)")
    with psycopg.connect(playground.url, autocommit=True) as somebody, pytest.raises(psycopg.errors.UniqueViolation):
        somebody.execute("INSERT INTO app.t (id) VALUES (1)")
        somebody.execute("CREATE UNIQUE INDEX CONCURRENTLY theirs ON app.t (id)")
    playground.write(1, f"SET search_path = app;\nREINDEX {what};", head=NO_TRANSACTION)
    if when == "during":
        _killed_during(playground, "REINDEX")
    else:
        _killed(playground, monkeypatch, "REINDEX", after=when == "after")
    before = playground.sql(INDEXES)
    playground.run()
    assert _outcomes(playground) == ["not-done"]
    assert [(name, valid) for name, valid, _ in playground.sql(INDEXES) if name != "theirs"] == [("t_x", True)], before
    assert any(name == "theirs" for name, _, _ in playground.sql(INDEXES)), "an invalid index of somebody else is not dropped"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_concurrent_detach(playground: Playground, monkeypatch: pytest.MonkeyPatch, when: str, path: str) -> None:
    first = _prepared(playground, path)
    playground.sql('CREATE TABLE app.p (id int) PARTITION BY LIST (id); CREATE TABLE app."Odd c" PARTITION OF app.p FOR VALUES IN (1)')
    playground.write(1, f'{first}\nALTER TABLE p DETACH PARTITION "Odd c" CONCURRENTLY;', head=NO_TRANSACTION)
    _killed(playground, monkeypatch, "DETACH", after=when == "after")
    playground.run()
    assert _outcomes(playground) == ["done" if when == "after" else "not-done"]
    assert playground.sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'app.p'::regclass") == [(0,)]


def test_a_concurrent_detach_that_was_begun_is_finalized(playground: Playground) -> None:
    playground.sql(HELD)
    playground.sql("CREATE TABLE app.p (id int) PARTITION BY LIST (id); CREATE TABLE app.c PARTITION OF app.p FOR VALUES IN (1)")
    playground.write(1, "SET search_path = app;\nALTER TABLE p DETACH PARTITION c CONCURRENTLY;", head=NO_TRANSACTION)
    with psycopg.connect(playground.url) as reader:
        reader.execute("SELECT * FROM app.p")
        stop = threading.Event()

        def end() -> None:
            pending = "SELECT 1 FROM pg_inherits WHERE inhparent = 'app.p'::regclass AND inhdetachpending"
            while not stop.wait(0.02):
                if playground.sql(pending):
                    playground.sql(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%DETACH%' AND pid <> pg_backend_pid()"
                    )
                    return

        watcher = threading.Thread(target=end)
        watcher.start()
        try:
            with pytest.raises(errors.Unavailable):
                playground.run()
        finally:
            stop.set()
            watcher.join()
        reader.rollback()
    playground.run()
    assert _outcomes(playground) == ["done"]
    assert playground.sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'app.p'::regclass") == [(0,)]


@pytest.mark.parametrize("text", ["VACUUM t;", "VACUUM (ANALYZE) t;", "VACUUM FULL t;", "DISCARD ALL;"])
@pytest.mark.parametrize("after", [False, True])
def test_what_leaves_the_same_however_often_it_runs_is_repeated(
    playground: Playground, monkeypatch: pytest.MonkeyPatch, text: str, after: bool
) -> None:
    playground.sql(HELD)
    playground.write(1, f"SET search_path = app;\n{text}", head=NO_TRANSACTION)
    _killed(playground, monkeypatch, text.split()[0], after=after)
    playground.run()
    assert _outcomes(playground) == ["not-done"]


REFUSED = {
    "CREATE INDEX CONCURRENTLY t_x ON nosuch (x);": "CREATE INDEX CONCURRENTLY t_x ON t (x);",
    "CREATE INDEX CONCURRENTLY t_x ON t (nosuch);": "CREATE INDEX CONCURRENTLY t_x ON t (x);",
    "CREATE UNIQUE INDEX CONCURRENTLY t_x ON t ((x % 2));": "CREATE INDEX CONCURRENTLY t_x ON t ((x % 2));",
    "DROP INDEX CONCURRENTLY nosuch;": "DROP INDEX CONCURRENTLY IF EXISTS nosuch;",
    "REINDEX TABLE CONCURRENTLY nosuch;": "REINDEX TABLE CONCURRENTLY t;",
    "ALTER TABLE t DETACH PARTITION nosuch CONCURRENTLY;": "SELECT 1;",
    "VACUUM nosuch;": "VACUUM t;",
    "CALL nosuch();": "SELECT 1;",
    "CREATE DATABASE postgres;": "SELECT 1;",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_refused_statement_can_be_corrected_and_is_no_question(playground: Playground, text: str) -> None:
    playground.sql(HELD)
    playground.write(1, f"SET search_path = app;\n{text}\nCREATE TABLE public.finished (a int);", head=NO_TRANSACTION)
    with pytest.raises((errors.StatementRejected, errors.LoginFailed)):
        playground.run()
    assert all(valid for _, valid, _ in playground.sql(INDEXES))
    playground.write(1, f"SET search_path = app;\n{REFUSED[text]}\nCREATE TABLE public.finished (a int);", head=NO_TRANSACTION)
    playground.run()
    assert playground.exists("public.finished")
    assert all(valid for _, valid, _ in playground.sql(INDEXES))


@pytest.mark.parametrize("after", [False, True])
def test_a_call_that_commits_is_a_question(playground: Playground, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    playground.sql(HELD)
    playground.sql("CREATE PROCEDURE app.p() LANGUAGE plpgsql AS 'BEGIN COMMIT; END'")
    playground.write(1, "CALL app.p();", head=NO_TRANSACTION)
    _killed(playground, monkeypatch, "CALL", after=after)
    with pytest.raises(errors.NeedsAnswer):
        playground.run()


def test_what_an_earlier_greylag_noted_is_a_question(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    playground.sql(HELD)
    playground.write(1, "CREATE INDEX CONCURRENTLY t_x ON app.t (x);", head=NO_TRANSACTION)
    _killed(playground, monkeypatch, "CONCURRENTLY", after=True)
    playground.sql("UPDATE greylag_journal SET before = '[16384]'")
    with pytest.raises(errors.NeedsAnswer, match="noted too little"):
        playground.run()
