"""What a run finds that was broken off: killed at any point, answered by a person, healed by the next run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from migrator import applying, errors, targets, verification
from migrator.clickhouse import failures
from migrator.planning import events, files
from tests.clickhouse.conftest import Playground, finish, refusal, start, wait_until
from tests.conftest import on_each_release, without_query_log

TABLE = "CREATE TABLE {0} (id UInt64, name String) ENGINE = MergeTree ORDER BY id;"
SLOW = "SELECT number, toString(sleepEachRow(0.1)) FROM numbers({0}) SETTINGS max_block_size = 1, max_insert_block_size = 1"


def _kill_when(playground: Playground, condition: Callable[[], bool], **environment: str) -> None:
    """Starts a runner and kills it (SIGKILL) as soon as the condition holds."""
    process = playground.runner(**environment)
    start(process)
    wait_until(condition)
    process.kill()
    process.wait()


def _running(playground: Playground, pattern: str) -> bool:
    return playground.sql(f"SELECT count() FROM system.processes WHERE query_id LIKE '{pattern}'") != [[0]]


def _exists(playground: Playground, table: str) -> bool:
    return playground.sql(f"SHOW TABLES LIKE '{table}'") != []


def test_killed_between_statements_goes_on_where_it_stopped(playground: Playground) -> None:
    pause = "SELECT sleepEachRow(1) FROM numbers(2) SETTINGS max_block_size = 1;"
    playground.write(
        1, TABLE.format("t"), "INSERT INTO t VALUES (1, 'once');", "ALTER TABLE t ADD COLUMN more Int8;", pause, TABLE.format("last")
    )
    _kill_when(playground, lambda: _running(playground, "greylag-%-1-up-4"))
    playground.run()
    assert playground.sql("SELECT * FROM t") == [[1, "once", 0]]
    assert playground.versions() == [0, 1]
    assert [event.index for event in playground.of(events.StatementFinished)] == [4, 5]
    assert [(event.index, event.outcome) for event in playground.of(events.StatementSettled)] == [(4, "not-done")]


@on_each_release
def test_killed_during_a_create_that_the_server_finished_is_settled_as_done(playground: Playground) -> None:
    playground.write(1, TABLE.format("first"), "CREATE TABLE slow (id UInt64) ENGINE = MergeTree ORDER BY id;", TABLE.format("last"))
    playground.run()
    # The journal of a run that was killed after the server's answer, before it was noted: the plan, one statement done, no history row.
    playground.do("TRUNCATE TABLE goose_db_version")
    playground.do("INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, 1)")
    playground.do("DROP TABLE last")
    playground.do(
        "ALTER TABLE greylag_journal DELETE WHERE statement = 0 OR (statement = 2 AND state = 'done') SETTINGS mutations_sync = 2"
    )
    playground.run()
    assert [(event.index, event.outcome) for event in playground.of(events.StatementSettled)] == [(2, "done")]
    assert [event.index for event in playground.of(events.StatementFinished)] == [3]
    assert playground.versions() == [0, 1]


@without_query_log
def test_unknown_insert_is_a_question_and_the_answer_goes_on(playground: Playground) -> None:
    path = playground.write(1, TABLE.format("t"), f"INSERT INTO t {SLOW.format(40)};", TABLE.format("last"))
    _kill_when(playground, lambda: _running(playground, "greylag-%-1-up-2"))
    error = refusal(playground.run)  # waits until the server has ended the statement
    assert (type(error), error.code, error.exit_code) == (errors.NeedsAnswer, "statement-unknown", errors.ExitCode.QUESTION)
    assert error.where == errors.Location(str(path), 3)
    assert "repair -done 1:2" in error.hint and "-not-done 1:2" in error.hint
    assert playground.sql("SELECT count() FROM t") == [[40]], "nothing was executed again"
    assert refusal(playground.run).code == "statement-unknown", "the question stays until it is answered"
    playground.answer(1, 2, done=True)
    playground.run()
    assert playground.sql("SELECT count() FROM t") == [[40]]
    assert playground.versions() == [0, 1]


@without_query_log
def test_bad_flow_answer_about_a_statement_behind_the_one_in_question_is_refused(playground: Playground) -> None:
    playground.write(1, TABLE.format("t"), f"INSERT INTO t {SLOW.format(10)};", TABLE.format("last"))
    _kill_when(playground, lambda: _running(playground, "greylag-%-1-up-2"))
    assert refusal(playground.run).code == "statement-unknown"
    assert refusal(lambda: playground.answer(1, 3, done=True)).code == "no-question"
    playground.answer(1, 2, done=True)
    playground.run()
    assert playground.sql("SHOW TABLES LIKE 'last'") == [["last"]]


@without_query_log
def test_answer_not_done_executes_the_statement(playground: Playground) -> None:
    playground.write(1, TABLE.format("t"), f"INSERT INTO t {SLOW.format(10)};")
    _kill_when(playground, lambda: _running(playground, "greylag-%-1-up-2"))
    assert refusal(playground.run).code == "statement-unknown"
    playground.do("TRUNCATE TABLE t")
    playground.answer(1, 2, done=False)
    playground.run()
    assert playground.sql("SELECT count() FROM t") == [[10]]


def test_answer_without_a_question_is_refused(playground: Playground) -> None:
    playground.write(1, TABLE.format("t"), "SELECT 1;")
    error = refusal(lambda: playground.answer(1, 1, done=True))
    assert (type(error), error.code) == (errors.NotFound, "no-question")
    playground.run()
    assert refusal(lambda: playground.answer(1, 1, done=True)).code == "no-question"


@on_each_release
def test_killed_mutation_is_awaited_and_not_run_again(playground: Playground) -> None:
    playground.write(
        1,
        TABLE.format("t"),
        "INSERT INTO t SELECT number, 'x' FROM numbers(30);",
        "ALTER TABLE t UPDATE name = concat(name, toString(sleepEachRow(0.09))) WHERE true;",
        TABLE.format("last"),
    )
    _kill_when(playground, lambda: playground.sql("SELECT count() FROM system.mutations WHERE database = currentDatabase()") != [[0]])
    playground.run()
    assert [(event.index, event.outcome) for event in playground.of(events.StatementSettled)] == [(3, "done")]
    assert playground.sql("SELECT DISTINCT name FROM t") == [["x0"]]
    assert playground.sql("SELECT count() FROM system.mutations WHERE database = currentDatabase() AND table = 't'") == [[1]]


def test_killed_before_the_history_row_only_writes_the_row(playground: Playground) -> None:
    playground.write(1, TABLE.format("t"))
    playground.run()
    playground.do("ALTER TABLE goose_db_version DELETE WHERE version_id = 1 SETTINGS mutations_sync = 2")
    playground.do("ALTER TABLE greylag_journal DELETE WHERE statement = 0 SETTINGS mutations_sync = 2")
    playground.run()
    assert playground.versions() == [0, 1]
    assert playground.of(events.StatementFinished) == []


def test_migration_rolled_back_by_goose_starts_from_its_first_statement(playground: Playground) -> None:
    playground.write(1, TABLE.format("t"), "ALTER TABLE t ADD COLUMN more Int8;", down="DROP TABLE t;")
    playground.run()
    playground.do("DROP TABLE t SYNC")  # as goose's down would
    playground.do("ALTER TABLE goose_db_version DELETE WHERE version_id = 1 SETTINGS mutations_sync = 2")
    playground.run()
    assert [event.index for event in playground.of(events.StatementFinished)] == [1, 2]


def test_partial_migration_survives_other_runs_in_between(playground: Playground) -> None:
    playground.write(1, TABLE.format("one"), down="DROP TABLE one;")
    playground.run()
    playground.write(2, TABLE.format("two"), "SELECT broken;")
    refusal(playground.run)
    for verb in (targets.Verb.DOWN, targets.Verb.REDO, targets.Verb.RESET):
        with pytest.raises(errors.PlanRefused) as refused:
            playground.run(verb)
        assert refused.value.code == "half-applied"
    assert playground.versions() == [0, 1]
    playground.run(targets.Verb.UP_TO, 1)
    playground.write(2, TABLE.format("two"), "SELECT 1;")
    playground.run()
    assert [event.index for event in playground.of(events.StatementFinished)] == [2]
    assert playground.versions() == [0, 1, 2]


def test_partial_migration_survives_a_run_that_stops_before_it(playground: Playground) -> None:
    playground.write(1, TABLE.format("t"))
    playground.write(2, TABLE.format("two"), down="DROP TABLE two;")
    playground.write(3, "INSERT INTO t VALUES (1, 'once');", "SELECT broken;", "INSERT INTO t VALUES (2, 'later');")
    refusal(playground.run)
    playground.do("DROP TABLE two SYNC")  # as goose's down, which knows nothing of what is half applied
    playground.do("ALTER TABLE goose_db_version DELETE WHERE version_id = 2 SETTINGS mutations_sync = 2")
    playground.write(2, "SELECT broken;")
    for _ in range(2):  # what was done must not be forgotten by the second run that does not come to it either
        refusal(playground.run)
    playground.write(2, TABLE.format("two"), down="DROP TABLE two;")
    playground.write(3, "INSERT INTO t VALUES (1, 'once');", "SELECT 1;", "INSERT INTO t VALUES (2, 'later');")
    playground.run()
    assert playground.sql("SELECT name FROM t ORDER BY id") == [["once"], ["later"]]
    assert playground.versions() == [0, 1, 2, 3]


def test_set_is_repeated_when_a_run_goes_on_behind_it(playground: Playground) -> None:
    playground.write(
        1,
        "SET max_threads = 3;",
        "CREATE TEMPORARY TABLE lost (a Int8);",
        "SELECT throwIf(getSetting('max_threads') != 3), broken;",
        block=False,
    )
    refusal(playground.run)
    playground.write(
        1,
        "SET max_threads = 3;",
        "CREATE TEMPORARY TABLE lost (a Int8);",
        "SELECT throwIf(getSetting('max_threads') != 3), count() FROM lost;",
    )
    playground.run()
    assert playground.versions() == [0, 1]


def test_broken_redo_goes_on(playground: Playground) -> None:
    playground.write(1, TABLE.format("t"), "INSERT INTO t VALUES (1, 'a');", down="DROP TABLE t;")
    playground.run()
    playground.write(1, TABLE.format("t"), "INSERT INTO t VALUES (1, 'a');", "SELECT broken;", down="DROP TABLE t;")
    refusal(lambda: playground.run(targets.Verb.REDO))
    assert playground.versions() == [0]
    playground.write(1, TABLE.format("t"), "INSERT INTO t VALUES (1, 'a');", "SELECT 1;", down="DROP TABLE t;")
    playground.run()
    assert playground.sql("SELECT count() FROM t") == [[1]]
    assert playground.versions() == [0, 1]


@on_each_release
def test_facts_that_a_killed_run_owes_are_written_by_the_next(playground: Playground) -> None:
    for number in range(1, 6):
        playground.write(number, TABLE.format(f"t{number}"))
    playground.write(6, "SELECT sleepEachRow(1) FROM numbers(3) SETTINGS max_block_size = 1;")
    _kill_when(playground, lambda: _running(playground, "greylag-%-6-up-1"))
    assert playground.sql("SELECT count() FROM greylag_migration") == [[0]]
    playground.run()
    with playground.open() as database:
        history = database.read_history()
    assert history.unproven == ()
    assert {fact.run_id for fact in history.living_facts.values() if fact.version < 6} != {history.living_facts[6].run_id}


def test_connection_lost_under_a_statement_is_looked_up_and_goes_on(playground: Playground) -> None:
    """A proxy that drops a silent connection: the statement is finished by the server, and its outcome found out within the same run."""
    playground.write(1, TABLE.format("t"), TABLE.format("u"))
    with playground.open() as database:
        opened = database._session
        execute = opened.execute

        def dropping(body: bytes, query_id: str, settings: Any = None) -> None:
            execute(body, query_id, settings)
            if query_id.endswith("-1-up-1"):
                raise failures.Lost("the proxy closed the connection")

        opened.execute = dropping  # type: ignore[method-assign]
        applying.apply(database, playground.plan(database), playground.seen.append)
    assert [(event.index, event.outcome) for event in playground.of(events.StatementSettled)] == [(1, "done")]
    assert playground.versions() == [0, 1]


def test_exception_in_the_middle_of_a_wait_stops_the_statement_on_the_server(playground: Playground) -> None:
    playground.write(
        1,
        TABLE.format("t"),
        "SELECT sleepEachRow(1) FROM numbers(300) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0;",
    )
    process = playground.runner()
    start(process)
    wait_until(lambda: _running(playground, "greylag-%-1-up-2"))
    process.send_signal(2)  # KeyboardInterrupt
    finish(process)
    assert not _running(playground, "greylag-%")
    assert playground.versions() == [0]
    playground.write(1, TABLE.format("t"), "SELECT 1;")
    playground.run()  # a SELECT has no effect, so another text is no question
    assert playground.versions() == [0, 1]


@on_each_release
def test_query_log_is_the_witness_for_an_insert(playground: Playground) -> None:
    playground.write(1, TABLE.format("t"), f"INSERT INTO t {SLOW.format(20)};")
    _kill_when(playground, lambda: _running(playground, "greylag-%-1-up-2"))
    playground.run()
    settled = playground.of(events.StatementSettled)
    assert [(event.index, event.outcome, event.evidence) for event in settled] == [(2, "done", "the query log says that it finished")]
    assert playground.sql("SELECT count() FROM t") == [[20]]
    assert playground.versions() == [0, 1]


@on_each_release
@pytest.mark.parametrize("killed", ["paying", "before its own plan"])
def test_facts_of_a_killed_run_are_paid_though_the_next_is_killed_while_it_pays(playground: Playground, killed: str) -> None:
    for number in range(1, 4):
        playground.write(number, TABLE.format(f"t{number}"))
    playground.write(4, "SELECT sleepEachRow(1) FROM numbers(3) SETTINGS max_block_size = 1;")
    _kill_when(playground, lambda: _running(playground, "greylag-%-4-up-1"))
    word = "facts" if killed == "paying" else "journal"
    with playground.open() as database:
        execute = database._session.execute

        def dying(body: bytes, query_id: str, settings: Any = None) -> None:
            if query_id.endswith(word):
                raise KeyboardInterrupt
            execute(body, query_id, settings)

        database._session.execute = dying  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            applying.apply(database, playground.plan(database), playground.seen.append)
    playground.run()
    with playground.open() as database:
        assert database.read_history().unproven == ()
        found = verification.verify(database, files.load(playground.directory), strict=True)
    assert found.problems() == []
