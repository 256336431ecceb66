"""What is said of statements that were refused half-way, killed half-way, or whose text has changed since: the cases that went wrong once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator import errors
from migrator.planning import events
from sandbox.databases.clickhouse import ClickHouseServer
from tests.clickhouse.conftest import Playground, finish, refusal, start, wait_until
from tests.clickhouse.test_truth_table import killed

T = "CREATE TABLE t (id UInt32, v String) ENGINE = MergeTree ORDER BY id;"
BAD_ROWS = "INSERT INTO t VALUES (1, '12'), (2, 'abc');"
COUNTED = "CREATE TABLE c (id UInt64, n Int64) ENGINE = MergeTree ORDER BY id;"
CORRECTED = "SELECT 1;"


@pytest.fixture(scope="module")
def logging_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    with ClickHouseServer(tmp_path_factory.mktemp("settling"), query_log=True) as server:
        yield server


@pytest.fixture
def logged(logging_server: ClickHouseServer, tmp_path: Path) -> Playground:
    """A playground on a server that keeps a query log."""
    directory = tmp_path / "logged"
    directory.mkdir()
    name = f"logged_{abs(hash(str(tmp_path))) % 10**8}"
    logging_server.create_database(name)
    url = f"{logging_server.url('admin', logging_server.admin_password, name)}&greylag_lease=2s"
    return Playground(url, logging_server, name, directory)


def mutations(playground: Playground, table: str = "t") -> list[list[object]]:
    return playground.sql(
        f"SELECT command, is_done FROM system.mutations WHERE database = currentDatabase() AND table = '{table}' ORDER BY mutation_id"
    )


def test_mutation_that_outlived_its_run_is_not_executed_again(logged: Playground) -> None:
    """The query log says ExceptionBeforeStart of it: that is when the wait for the mutation was broken off, not the mutation."""
    logged.write(1, COUNTED, "INSERT INTO c SELECT number, 0 FROM numbers(1500);")
    logged.run()
    logged.write(2, "ALTER TABLE c UPDATE n = n + 1 + 0 * sleepEachRow(0.001) WHERE 1;")
    process = logged.runner()
    start(process)
    wait_until(lambda: mutations(logged, "c") != [])
    process.send_signal(signal.SIGTERM)
    finish(process)
    wait_until(lambda: all(row[1] for row in mutations(logged, "c")))
    logged.run()
    assert logged.sql("SELECT DISTINCT n FROM c") == [[1]]
    assert [item.outcome for item in logged.of(events.StatementSettled)] == ["done"]


@pytest.mark.parametrize("change", ["v UInt32", "v Enum8('12' = 1)"])
def test_change_of_a_type_whose_mutation_fails_is_never_called_done(playground: Playground, change: str) -> None:
    playground.write(1, T, BAD_ROWS)
    playground.write(2, f"ALTER TABLE t MODIFY COLUMN {change};")
    for _ in range(2):
        error = refusal(playground.run)
        assert (type(error), error.code, error.exit_code) == (errors.StatementRejected, "mutation-fails", 14)
        assert f"{playground.name}.t: mutation_2.txt (MODIFY COLUMN `v`" in error.message
        assert "the change of the table's definition is done, the change of its data not done" in error.message
        assert "KILL MUTATION WHERE" in error.hint and "MODIFY COLUMN" in error.hint
    playground.do("KILL MUTATION WHERE database = currentDatabase() AND mutation_id = 'mutation_2.txt' SYNC")
    assert refusal(playground.run).code == "statement-unknown", "the type has changed and the data have not"
    playground.do("ALTER TABLE t MODIFY COLUMN v String")
    playground.do("ALTER TABLE t DELETE WHERE id = 2 SETTINGS mutations_sync = 2")
    playground.run()
    assert playground.versions() == [0, 1, 2]
    assert playground.sql("SELECT * FROM t") == [[1, 12 if "UInt" in change else "12"]]


def test_later_file_is_told_of_the_mutation_that_is_the_cause(playground: Playground) -> None:
    playground.write(1, T, BAD_ROWS)
    playground.run()
    playground.do("ALTER TABLE t MODIFY COLUMN v UInt32 SETTINGS mutations_sync = 0, alter_sync = 0")
    failing = "SELECT count() FROM system.mutations WHERE database = currentDatabase() AND latest_fail_reason != ''"
    wait_until(lambda: playground.sql(failing) == [[1]])
    playground.write(2, "ALTER TABLE t DELETE WHERE id = 99;")
    error = refusal(playground.run)
    notes = [note.message for note in playground.of(events.Note) if note.code == "mutation-fails"]
    assert len(notes) == 1 and "mutation_2.txt" in notes[0] and "KILL MUTATION" in notes[0]
    assert error.code == "mutation-fails"
    assert "mutation_2.txt" in error.message and "mutation_3.txt, which waits behind it" in error.hint
    assert [row[0] for row in mutations(playground)] == ["(MODIFY COLUMN `v` UInt32)", "(DELETE WHERE id = 99)"], "nothing was killed"
    playground.do("KILL MUTATION WHERE database = currentDatabase() AND mutation_id = 'mutation_2.txt' SYNC")
    playground.do("ALTER TABLE t MODIFY COLUMN v String")
    playground.run()
    assert playground.versions() == [0, 1, 2]
    assert mutations(playground).count(["(DELETE WHERE id = 99)", 1]) == 1


def test_mutation_of_data_that_fails_is_killed_and_its_file_can_be_corrected(playground: Playground) -> None:
    playground.write(1, T, BAD_ROWS)
    playground.write(2, "ALTER TABLE t UPDATE v = toString(toUInt32(v)) WHERE 1;")
    assert refusal(playground.run).code == "sql-rejected"
    assert [note.code for note in playground.of(events.Note)] == ["mutation-killed"]
    assert mutations(playground) == []
    playground.write(2, "ALTER TABLE t UPDATE v = toString(toUInt32OrZero(v)) WHERE 1;")
    playground.run()
    assert playground.sql("SELECT v FROM t ORDER BY id") == [["12"], ["0"]]


def test_alter_that_is_half_done_says_which_half(playground: Playground) -> None:
    playground.write(1, T, BAD_ROWS)
    playground.write(2, "ALTER TABLE t ADD COLUMN n UInt32, UPDATE n = toUInt32(v) WHERE 1;")
    for _ in range(2):
        error = refusal(playground.run)
        assert error.code == "mutation-fails"
        assert "ADD COLUMN n UInt32 is done" in error.message.replace("`", "")
        assert "WHERE 1 is not done" in error.message


@pytest.mark.parametrize(
    "mistake",
    [
        "CREATE TABLE q (id UInt8 CODEC(NoSuch)) ENGINE = Memory;",
        "ALTER TABLE t MODIFY ORDER BY (id, v);",
        "SELECT throwIf(1);",
        "CREATE VIEW q AS SELECT toDate();",
        "CREATE TABLE q (id UInt8) ENGINE = NoSuch;",
        "ALTER TABLE t MODIFY COLUMN missing UInt8;",
        "CREATE MATERIALIZED VIEW q TO missing AS SELECT 1;",
        "SYSTEM RELOAD DICTIONARY missing;",
    ],
)
def test_corrected_file_is_no_question(playground: Playground, mistake: str) -> None:
    playground.write(1, T)
    playground.write(2, mistake)
    assert refusal(playground.run).code == "sql-rejected"
    playground.write(2, CORRECTED)
    playground.run()
    assert playground.versions() == [0, 1, 2]


def test_refused_statement_that_had_an_effect_is_a_question_when_its_text_changes(playground: Playground) -> None:
    """The server drops the first table before it misses the second."""
    playground.write(1, T)
    playground.write(2, "DROP TABLE t, missing;")
    error = refusal(playground.run)
    assert error.code == "sql-rejected" and "it may have had some effect" in error.hint
    playground.write(2, CORRECTED)
    assert refusal(playground.run).code == "statement-changed"


def test_changed_text_of_a_statement_that_was_executed_is_a_question(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    playground.write(1, T)
    killed(playground, 1, 1, "after", monkeypatch)
    playground.write(1, T.replace("String", "UInt8"))
    error = refusal(playground.run)
    assert error.code == "statement-changed"
    assert error.message.endswith("the query log says that it finished")


def test_changed_text_of_a_statement_that_was_not_executed_is_executed(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    playground.write(1, T)
    killed(playground, 1, 1, "before", monkeypatch)
    playground.write(1, T.replace("String", "UInt8"))
    playground.run()
    assert "`v` UInt8" in str(playground.sql("SHOW CREATE TABLE t"))


def test_the_same_mutation_again_counts_by_itself(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    playground.write(1, COUNTED, "INSERT INTO c VALUES (1, 0);", "ALTER TABLE c UPDATE n = n + 1 WHERE 1;")
    playground.write(2, "INSERT INTO c VALUES (2, 0);", "ALTER TABLE c UPDATE n = n + 1 WHERE 1;")
    killed(playground, 2, 2, "before", monkeypatch)
    playground.run()
    assert playground.sql("SELECT n FROM c ORDER BY id") == [[2], [1]]


def test_rows_of_a_temporary_table_that_are_needed_again_are_a_question(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    playground.write(1, COUNTED, "INSERT INTO c SELECT number, 0 FROM numbers(5);")
    playground.write(
        2,
        "CREATE TEMPORARY TABLE keep (id UInt64, n Int64);",
        "INSERT INTO keep SELECT id, n FROM c WHERE id < 3;",
        "ALTER TABLE c DELETE WHERE id < 3;",
        "ALTER TABLE c ADD COLUMN x UInt8;",
        "INSERT INTO c SELECT id + 100, n, 7 FROM keep;",
    )
    killed(playground, 2, 4, "before", monkeypatch)
    error = refusal(playground.run)
    assert (type(error), error.code) == (errors.NeedsAnswer, "temporary-data-lost")
    assert "statement 2 wrote into the temporary table keep" in error.message
    assert playground.sql("SELECT count() FROM c") == [[2]]
    playground.answer(2, 4, done=False)
    playground.run()
    assert playground.versions() == [0, 1, 2]


def test_uninterrupted_run_asks_the_catalogue_once(playground: Playground) -> None:
    """What is there is read once for the journal, and once before and once after for the facts; nothing per statement."""
    for number in range(1, 6):
        playground.write(number, f"CREATE TABLE t{number} (id UInt8) ENGINE = Memory;", f"ALTER TABLE t{number} ADD COLUMN a UInt8;")
    asked: list[str] = []
    with playground.open() as database:
        read = database._session.transport.read
        database._session.transport.read = lambda sql, parameters: (asked.append(sql), read(sql, parameters))[1]  # type: ignore[method-assign]
        from migrator import applying

        applying.apply(database, playground.plan(database))
    assert sum("engine AS state, create_table_query AS text" in sql for sql in asked) == 1
    assert sum("create_table_query AS text" in sql for sql in asked) == 3
    assert not any("WHERE is_temporary AND" in sql for sql in asked)  # nothing is rehearsed


def test_journal_of_an_earlier_release_is_read_and_gets_its_columns(playground: Playground) -> None:
    playground.write(1, T)
    playground.run()
    playground.do("ALTER TABLE greylag_journal DROP COLUMN text, DROP COLUMN evidence")
    playground.write(2, "ALTER TABLE t ADD COLUMN x UInt8;")
    playground.run()
    assert playground.versions() == [0, 1, 2]
    assert playground.sql("SELECT count() FROM system.columns WHERE database = currentDatabase() AND name = 'evidence'") == [[1]]


def test_text_that_envsub_filled_in_is_kept_as_the_file_has_it(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMMENT_OF_T", "a-secret-value")
    playground.write(1, "CREATE TABLE t (id UInt8) ENGINE = Memory COMMENT '${COMMENT_OF_T}';", head="-- +goose ENVSUB ON\n")
    killed(playground, 1, 1, "after", monkeypatch)
    assert "a-secret-value" not in str(playground.sql("SELECT * FROM greylag_journal"))
    playground.run()
    assert [item.outcome for item in playground.of(events.StatementSettled)] == ["done"]


def test_database_whose_engine_has_no_rename_gets_its_version_table_in_place(logging_server: ClickHouseServer, tmp_path: Path) -> None:
    logging_server.execute("CREATE DATABASE in_memory ENGINE = Memory")
    url = f"{logging_server.url('admin', logging_server.admin_password, 'in_memory')}&greylag_lease=2s"
    playground = Playground(url, logging_server, "in_memory", tmp_path)
    playground.write(1, "CREATE TABLE t (id UInt8) ENGINE = Memory;")
    playground.run()
    assert playground.versions() == [0, 1]
