"""`-- +goose NO TRANSACTION`: journalled statement by statement, resumed, settled from the catalogue, or asked about."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from migrator import errors, registry, targets
from migrator.planning import events, journal
from migrator.postgres import failures, settling
from migrator.postgres.session import Session
from tests.postgres.conftest import Playground

NO_TRANSACTION = "-- +goose NO TRANSACTION\n"


class Killed(BaseException):
    """Stands for a process that ends between two steps."""


def killed_at(monkeypatch: pytest.MonkeyPatch, text: str, *, after: bool) -> None:
    """The run ends when the statement with `text` is about to be sent, or was just executed; nothing more reaches the server."""
    real = Session.simple

    def simple(self: Session, statement: bytes) -> None:
        if text.encode() in statement:
            if after:
                real(self, statement)
            self.close()
            raise Killed
        real(self, statement)

    monkeypatch.setattr(Session, "simple", simple)


def journalled(playground: Playground) -> list[tuple[object, ...]]:
    return playground.sql("SELECT statement, state FROM greylag_journal ORDER BY id")


def test_statements_run_one_by_one_and_the_journal_is_cleared(playground: Playground) -> None:
    playground.write(
        1,
        "CREATE TABLE t (id int);\nCREATE INDEX CONCURRENTLY t_id ON t (id);\nVACUUM t;\nINSERT INTO t VALUES (1);",
        "DROP INDEX CONCURRENTLY t_id;\nDROP TABLE t;",
        head=NO_TRANSACTION,
    )
    playground.run()
    assert playground.versions() == [0, 1]
    assert playground.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 't_id'::regclass") == [(True,)]
    assert journalled(playground) == []
    assert [event.index for event in playground.of(events.StatementFinished)] == [1, 2, 3, 4]  # type: ignore[attr-defined]
    playground.run(targets.Verb.DOWN)
    assert playground.versions() == [0] and not playground.exists("t")


def test_a_resumed_file_skips_what_is_done(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);\nINSERT INTO t VALUES (1);\nSELEC 1;\nINSERT INTO t VALUES (2);", head=NO_TRANSACTION)
    with pytest.raises(errors.StatementRejected):
        playground.run()
    assert playground.versions() == [0]
    assert journalled(playground) == [(1, "done"), (2, "done")]
    playground.write(1, "CREATE TABLE t (id int);\nINSERT INTO t VALUES (1);\nSELECT 1;\nINSERT INTO t VALUES (2);", head=NO_TRANSACTION)
    playground.run()
    assert playground.sql("SELECT id FROM t ORDER BY id") == [(1,), (2,)]
    assert playground.versions() == [0, 1]


def test_up_after_down_starts_from_the_first_statement(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);\nVACUUM t;", "DROP TABLE t;", head=NO_TRANSACTION)
    playground.run()
    playground.run(targets.Verb.REDO)
    assert playground.exists("t") and playground.versions() == [0, 1]


def test_a_done_statement_with_another_text_is_a_question(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);\nSELEC 1;", head=NO_TRANSACTION)
    with pytest.raises(errors.StatementRejected):
        playground.run()
    playground.write(1, "CREATE TABLE t (id bigint);\nSELECT 1;", head=NO_TRANSACTION)
    with pytest.raises(errors.NeedsAnswer) as caught:
        playground.run()
    assert caught.value.code == "statement-changed" and "-done 1:1" in caught.value.hint
    with playground.open() as database:
        database.answer(1, 1, done=True)
    playground.run()
    assert playground.versions() == [0, 1]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ["t_id", ""])
def test_a_killed_concurrent_build_is_settled_from_the_catalogue(
    playground: Playground, monkeypatch: pytest.MonkeyPatch, name: str, after: bool
) -> None:
    playground.write(1, "CREATE TABLE t (id int);\nCREATE INDEX ON t (id);")
    playground.run()
    playground.write(2, f"SELECT 1;\nCREATE INDEX CONCURRENTLY {name} ON t (id);\nSELECT 2;", head=NO_TRANSACTION)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, "CONCURRENTLY", after=after)
        playground.run()
    assert journalled(playground)[-1] == (2, "started")
    playground.run()
    settled = playground.of(events.StatementSettled)
    assert [(event.index, event.outcome) for event in settled] == [(2, "done" if after else "not-done")]  # type: ignore[attr-defined]
    assert playground.sql("SELECT count(*), bool_and(indisvalid) FROM pg_index WHERE indrelid = 't'::regclass") == [(2, True)]
    assert playground.versions() == [0, 1, 2]


def test_an_invalid_index_left_by_a_killed_build_is_dropped_by_oid_before_the_retry(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    playground.write(1, "CREATE TABLE t (id int);\nINSERT INTO t VALUES (1), (1);")
    playground.run()
    foreign = "CREATE UNIQUE INDEX CONCURRENTLY somebody_elses ON t (id)"
    with psycopg.connect(playground.url, autocommit=True) as other, pytest.raises(psycopg.errors.UniqueViolation):
        other.execute(foreign)
    playground.write(2, "CREATE UNIQUE INDEX CONCURRENTLY ours ON t (id);", head=NO_TRANSACTION)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        real = Session.simple

        def simple(self: Session, statement: bytes) -> None:
            try:
                real(self, statement)
            except failures.ServerFailure:
                self.close()
                raise Killed from None

        patch.setattr(Session, "simple", simple)
        playground.run()
    invalid = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1"
    assert playground.sql(invalid) == [("ours",), ("somebody_elses",)]
    playground.sql("DELETE FROM t")
    playground.run()
    assert playground.sql(invalid) == [("somebody_elses",)]
    assert playground.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'ours'::regclass") == [(True,)]
    assert "ours" in playground.of(events.Note)[0].message  # type: ignore[attr-defined]


def test_a_refused_concurrent_build_leaves_no_invalid_index(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);\nINSERT INTO t VALUES (1), (1);")
    playground.run()
    playground.write(2, "CREATE UNIQUE INDEX CONCURRENTLY t_id ON t (id);", head=NO_TRANSACTION)
    with pytest.raises(errors.StatementRejected, match=r"SQLSTATE 23505"):
        playground.run()
    assert not playground.exists("t_id")
    playground.sql("DELETE FROM t")
    playground.run()
    assert playground.exists("t_id") and playground.versions() == [0, 1, 2]


PARTLY = (
    "-- +goose StatementBegin\nCREATE PROCEDURE fill() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (1); COMMIT; {then} END $$;\n"
    "-- +goose StatementEnd"
)


@pytest.mark.parametrize(
    "call", ["CALL fill();", "-- +goose StatementBegin\nDO $$ BEGIN CALL fill(); COMMIT; END $$;\n-- +goose StatementEnd"]
)
def test_bad_flow_error_behind_a_commit_of_the_statement_itself_is_a_question(playground: Playground, call: str) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    playground.write(2, PARTLY.format(then="PERFORM 1 / 0;"))
    playground.run()
    playground.write(3, call, head=NO_TRANSACTION)
    with pytest.raises(errors.StatementRejected):
        playground.run()
    with pytest.raises(errors.NeedsAnswer):
        playground.run()
    assert playground.sql("SELECT count(*) FROM t") == [(1,)], "what was committed is not executed again"


def test_bad_flow_cancelled_behind_a_commit_of_the_statement_itself_is_a_question(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    playground.write(2, PARTLY.format(then="PERFORM pg_sleep(60);"))
    playground.run()
    playground.write(3, "CALL fill();", head=NO_TRANSACTION)
    stopped = threading.Event()

    def stop() -> None:
        while playground.sql("SELECT count(*) FROM t") == [(0,)] and not stopped.wait(0.05):
            pass
        registry.cancel_all()

    watcher = threading.Thread(target=stop)
    watcher.start()
    try:
        with pytest.raises(errors.Interrupted):
            playground.run()
    finally:
        stopped.set()
        watcher.join()
    with pytest.raises(errors.NeedsAnswer):
        playground.run()
    assert playground.sql("SELECT count(*) FROM t") == [(1,)]


def test_error_before_the_body_of_a_procedure_ran_is_no_question(playground: Playground) -> None:
    playground.write(1, "CALL fill();", head=NO_TRANSACTION)
    for _ in range(2):
        with pytest.raises(errors.StatementRejected):
            playground.run()


def test_a_statement_that_commits_by_itself_ends_in_a_question(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    playground.write(
        2,
        "-- +goose StatementBegin\nCREATE PROCEDURE fill() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (1); COMMIT; END $$;\n"
        "-- +goose StatementEnd",
    )
    playground.run()
    playground.write(3, "CALL fill();", head=NO_TRANSACTION)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, "CALL", after=True)
        playground.run()
    for _ in range(2):
        with pytest.raises(errors.NeedsAnswer) as caught:
            playground.run()
    assert caught.value.exit_code == errors.ExitCode.QUESTION
    assert "repair -done 3:1" in caught.value.hint and "CALL fill()" in caught.value.detail
    with playground.open() as database:
        with pytest.raises(errors.NotFound):
            database.answer(3, 7, done=True)
        database.answer(3, 1, done=True)
    playground.run()
    assert playground.sql("SELECT count(*) FROM t") == [(1,)]
    assert playground.versions() == [0, 1, 2, 3]


def test_a_dynamic_statement_that_can_not_share_a_transaction_is_run_alone(playground: Playground) -> None:
    playground.write(
        1,
        "CREATE TABLE t (id int);\n-- +goose StatementBegin\nDO $$ BEGIN INSERT INTO t VALUES (1); EXECUTE 'COM' || 'MIT'; END $$;\n"
        "-- +goose StatementEnd",
        head=NO_TRANSACTION,
    )
    with pytest.raises(errors.StatementRejected):  # EXECUTE of transaction commands is not implemented, in goose neither
        playground.run()
    playground.write(2, "SELECT 1;")
    playground.write(
        1,
        "CREATE TABLE t (id int);\n-- +goose StatementBegin\nDO $$ BEGIN FOR i IN 1..3 LOOP INSERT INTO t VALUES (i); COMMIT; END LOOP; END $$;\n"
        "-- +goose StatementEnd",
        head=NO_TRANSACTION,
    )
    playground.run()
    assert playground.sql("SELECT count(*) FROM t") == [(3,)]


def test_settings_of_skipped_statements_hold_for_the_resumed_ones(playground: Playground) -> None:
    body = "CREATE SCHEMA app;\nSET search_path TO app;\n{0};\nCREATE TABLE t (id int);"
    playground.write(1, body.format("SELEC 1"), head=NO_TRANSACTION)
    with pytest.raises(errors.StatementRejected):
        playground.run()
    playground.write(1, body.format("SELECT 1"), head=NO_TRANSACTION)
    playground.run()
    assert playground.exists("app.t")


def test_time_outs_hold_for_one_statement_and_the_files_own_are_left_alone(playground: Playground) -> None:
    look = "INSERT INTO seen SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
    playground.write(1, "CREATE TABLE seen (st text, lt text);")
    playground.write(
        2, f"{look};\nVACUUM seen;\nCREATE INDEX CONCURRENTLY i ON seen (st);", head=f"{NO_TRANSACTION}-- greylag: statement-timeout 7s\n"
    )
    playground.write(3, f"{look};")
    playground.write(4, f"SET statement_timeout = '9s';\nSET lock_timeout = '8s';\n{look};\nVACUUM seen;\n{look};", head=NO_TRANSACTION)
    playground.write(5, f"{look};")
    playground.run()
    assert playground.sql("SELECT st, lt FROM seen") == [("7s", "0"), ("0", "0"), ("9s", "8s"), ("9s", "8s"), ("0", "0")]


@pytest.mark.parametrize("failing", [False, True])
def test_a_file_with_its_own_transaction_keeps_it(playground: Playground, failing: bool) -> None:
    last = "SELEC 1" if failing else "SELECT 1"
    body = f"CREATE TABLE a (id int);\nBEGIN;\nCREATE TABLE b (id int);\n{last};\nCOMMIT;\nCREATE TABLE c (id int);"
    playground.write(1, body, head=NO_TRANSACTION)
    if failing:
        with pytest.raises(errors.StatementRejected):
            playground.run()
        assert playground.exists("a") and not playground.exists("b")
        playground.write(1, body.replace("SELEC 1", "SELECT 1"), head=NO_TRANSACTION)
    playground.run()
    assert all(playground.exists(name) for name in "abc") and playground.versions() == [0, 1]


def test_detach_concurrently_is_settled_and_finalized(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    playground.write(1, "CREATE TABLE p (id int) PARTITION BY LIST (id);\nCREATE TABLE c PARTITION OF p FOR VALUES IN (1);")
    playground.run()
    playground.write(2, "ALTER TABLE p DETACH PARTITION c CONCURRENTLY;", head=NO_TRANSACTION)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, "DETACH", after=True)
        playground.run()
    playground.run()
    assert playground.sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'p'::regclass") == [(0,)]
    assert playground.of(events.StatementSettled)[0].outcome == "done"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("VACUUM", journal.Outcome.NOT_DONE),
        ("REINDEX INDEX CONCURRENTLY i", journal.Outcome.NOT_DONE),
        ("DROP INDEX CONCURRENTLY i", journal.Outcome.NOT_DONE),
        ("DROP INDEX CONCURRENTLY nosuch", journal.Outcome.NOT_DONE),
        ("CREATE DATABASE postgres", journal.Outcome.NOT_DONE),
        ("DROP DATABASE nosuch", journal.Outcome.NOT_DONE),
        ("CALL p()", journal.Outcome.UNKNOWN),
        ("SELECT 1; SELECT 2", journal.Outcome.UNKNOWN),
    ],
)
def test_each_kind_of_statement_is_settled_by_what_the_catalogue_can_tell(
    playground: Playground, text: str, outcome: journal.Outcome
) -> None:
    playground.sql("CREATE TABLE t (id int); CREATE INDEX i ON t (id)")
    with playground.open() as database:
        session = database._session
        assert settling.settle(session, text, settling.before(session, text)).outcome is outcome


def test_without_versioning_nothing_is_journalled(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);\nVACUUM t;", head=NO_TRANSACTION)
    playground.run(versioning=False)
    assert playground.exists("t") and not playground.exists("greylag_journal")


def test_every_file_of_a_run_has_its_own_journal(new_playground: Callable[[], Playground]) -> None:
    playground = new_playground()
    for version in (1, 2, 3):
        playground.write(version, f"CREATE TABLE t{version} (id int);\nVACUUM t{version};", head=NO_TRANSACTION)
    playground.run()
    assert playground.versions() == [0, 1, 2, 3] and journalled(playground) == []


def test_a_statement_that_does_not_get_its_lock_is_tried_again(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    playground.run()
    playground.write(2, "INSERT INTO t VALUES (1);\nALTER TABLE t ADD COLUMN a int;\nVACUUM FULL t;", head=NO_TRANSACTION)
    with psycopg.connect(playground.url) as other:
        other.execute("SELECT * FROM t")
        thread = threading.Thread(target=playground.run)
        thread.start()
        while not playground.of(events.StatementRetried):
            time.sleep(0.02)
        other.rollback()
        thread.join()
    assert playground.versions() == [0, 1, 2]
    assert playground.sql("SELECT id FROM t") == [(1,)]
    assert {event.index for event in playground.of(events.StatementRetried)} <= {2, 3}  # type: ignore[attr-defined]
