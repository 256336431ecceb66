"""What greylag says of a statement that was refused, or at which its run was killed, against what the server has: one row per class of statement.

A run is killed within this process: its work ends before the statement is sent or after it was answered, and nothing is written any more. The lock is
given back all the same, so that the next run need not wait for the lease to end (test_recovery has real kills).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from migrator import applying, errors
from migrator.clickhouse import execution
from migrator.planning import events
from sandbox.databases.clickhouse import ClickHouseServer
from tests.clickhouse.conftest import Playground, refusal

T = "CREATE TABLE t (id UInt64, v String, n Int64 DEFAULT 0) ENGINE = MergeTree ORDER BY id;"
ROWS = "INSERT INTO t (id, v) SELECT number, toString(number) FROM numbers(5);"
OTHER = "CREATE TABLE o (id UInt64, v String, n Int64 DEFAULT 0) ENGINE = MergeTree ORDER BY id;"
VIEW = "CREATE VIEW w AS SELECT id FROM t;"


class Killed(BaseException):
    """The end of a run's process."""


@dataclass(frozen=True)
class Row:
    """One class of statement.

    Args:
        statement: the one at which the run is killed; `{db}` is the database, for names that the whole server shares.
        before: what has been executed until then.
        again: the verdict may be `not-done` though it was executed, because executing it again makes no difference.
        asks: a kill at it ends in a question where the server keeps no query log: `before` it is sent, `after` it was answered.
    """

    statement: str
    before: tuple[str, ...] = (T, ROWS)
    again: bool = False
    asks: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """Names the row in pytest's output."""
        return self.statement.split(";")[0][:60]


ROWS_OF_DDL = [
    Row(
        "CREATE TABLE x (id UInt64, d DECIMAL(10, 2), e Enum8('a' = 1), INDEX i id TYPE minmax) ENGINE = MergeTree ORDER BY id TTL toDate(id) + 1;"
    ),
    Row("CREATE TABLE x (id INT, v VARCHAR(10)) ENGINE = Memory COMMENT 'c';"),
    Row("CREATE TABLE x (id Int8) ENGINE = Log;"),
    Row("CREATE TABLE x (id Int8) ENGINE = Null;"),
    Row("CREATE TABLE x AS t;"),
    Row("CREATE TABLE x AS t ENGINE = Log;"),
    Row("CREATE TABLE IF NOT EXISTS x (id UInt64) ENGINE = MergeTree ORDER BY id;"),
    Row("CREATE TABLE IF NOT EXISTS t (id UInt64) ENGINE = MergeTree ORDER BY id;", again=True),
    Row("CREATE OR REPLACE TABLE t (id UInt64, other Int8) ENGINE = MergeTree ORDER BY id;"),
    Row("CREATE OR REPLACE TABLE t (id UInt64, v String, n Int64 DEFAULT 0) ENGINE = MergeTree ORDER BY id;", again=True),
    Row("CREATE OR REPLACE TABLE x ENGINE = MergeTree ORDER BY a AS SELECT 1 AS a;", again=True),
    Row("CREATE TABLE x ENGINE = MergeTree ORDER BY a AS SELECT 1 AS a;", asks=frozenset({"after"})),
    Row("CREATE VIEW x AS SELECT id FROM t;"),
    Row("CREATE OR REPLACE VIEW w AS SELECT id, v FROM t;", (T, VIEW), again=True),
    Row("CREATE MATERIALIZED VIEW x TO o AS SELECT id, v FROM t;", (T, OTHER)),
    Row("CREATE MATERIALIZED VIEW x ENGINE = MergeTree ORDER BY id POPULATE AS SELECT id, v FROM t;", asks=frozenset({"after"})),
    Row("CREATE MATERIALIZED VIEW x REFRESH EVERY 1 YEAR TO o AS SELECT id, v FROM t;", (T, OTHER)),
    Row(
        "ALTER TABLE w MODIFY QUERY SELECT id + 1 AS id, v FROM t;",
        (T, OTHER, "CREATE MATERIALIZED VIEW w TO o AS SELECT id, v FROM t;"),
        again=True,
    ),
    Row("CREATE DICTIONARY x (id UInt64, v String) PRIMARY KEY id SOURCE(CLICKHOUSE(TABLE 't')) LAYOUT(FLAT()) LIFETIME(0);"),
    Row("CREATE FUNCTION {db}_f AS x -> x + 1;"),
    Row("CREATE OR REPLACE FUNCTION {db}_f AS x -> x + 100;", ("CREATE FUNCTION {db}_f AS x -> x + 1;",)),
    Row("DROP FUNCTION {db}_f;", ("CREATE FUNCTION {db}_f AS x -> x + 1;",)),
    Row("CREATE DATABASE {db}_x;"),
    Row("DROP TABLE t;"),
    Row("DROP TABLE IF EXISTS t;"),
    Row("DROP TABLE t, o;", (T, OTHER)),
    Row("DROP VIEW w;", (T, VIEW)),
    Row("DETACH TABLE t;"),
    Row("ATTACH TABLE t;", (T, ROWS, "DETACH TABLE t;")),
    Row("UNDROP TABLE t;", (T, ROWS, "DROP TABLE t;")),
    Row("RENAME TABLE t TO x;"),
    Row("RENAME TABLE t TO x, o TO t;", (T, ROWS, OTHER)),
    Row("EXCHANGE TABLES t AND o;", (T, ROWS, OTHER)),
    Row("TRUNCATE TABLE t;", again=True),
]
ROWS_OF_ALTER = [
    Row(statement)
    for statement in (
        "ALTER TABLE t ADD COLUMN c UInt8 DEFAULT 1 + 1 AFTER id;",
        "ALTER TABLE t ADD COLUMN a Int8, ADD COLUMN b Int8, ADD INDEX ib b TYPE minmax, ADD CONSTRAINT cb CHECK b >= 0;",
        "ALTER TABLE t ADD COLUMN IF NOT EXISTS c UInt8;",
        "ALTER TABLE t DROP COLUMN n;",
        "ALTER TABLE t RENAME COLUMN n TO m;",
        "ALTER TABLE t MODIFY COLUMN n Int32;",
        "ALTER TABLE t MODIFY COLUMN n DEFAULT 7;",
        "ALTER TABLE t MODIFY COLUMN v CODEC(ZSTD(3));",
        "ALTER TABLE t COMMENT COLUMN n 'counted';",
        "ALTER TABLE t MODIFY COMMENT 'a table';",
        "ALTER TABLE t CLEAR COLUMN v;",
        "ALTER TABLE t ADD INDEX i v TYPE bloom_filter;",
        "CREATE INDEX i ON t (v) TYPE bloom_filter;",
        "ALTER TABLE t ADD PROJECTION p (SELECT v ORDER BY v);",
        "ALTER TABLE t ADD CONSTRAINT c CHECK n >= 0;",
        "ALTER TABLE t MODIFY TTL toDate('2100-01-01') + toIntervalDay(n);",
        "ALTER TABLE t MODIFY SETTING merge_with_ttl_timeout = 7;",
        "ALTER TABLE t ADD COLUMN c UInt8, MODIFY ORDER BY (id, c);",
        "ALTER TABLE t UPDATE n = n + 1 WHERE 1;",
        "ALTER TABLE t DELETE WHERE id = 3;",
        "ALTER TABLE t UPDATE n = n + 1 WHERE id IN (SELECT id FROM t), DELETE WHERE id = 4;",
        "DELETE FROM t WHERE id = 3;",
        "ALTER TABLE t ADD COLUMN c UInt8, UPDATE n = n + 1 WHERE 1;",
    )
] + [
    Row("ALTER TABLE t DROP INDEX i;", (T, ROWS, "ALTER TABLE t ADD INDEX i v TYPE minmax;")),
    Row("ALTER TABLE t MATERIALIZE INDEX i;", (T, ROWS, "ALTER TABLE t ADD INDEX i v TYPE minmax;")),
    Row("ALTER TABLE t DROP PROJECTION p;", (T, ROWS, "ALTER TABLE t ADD PROJECTION p (SELECT v ORDER BY v);")),
    Row("ALTER TABLE t DROP CONSTRAINT c;", (T, ROWS, "ALTER TABLE t ADD CONSTRAINT c CHECK n >= 0;")),
    Row("ALTER TABLE t UPDATE n = n + 1 WHERE 1;", (T, ROWS, "ALTER TABLE t UPDATE n = n + 1 WHERE 1;")),
    Row("ALTER TABLE x UPDATE n = n + 1 WHERE 1;", (T, ROWS, "ALTER TABLE t UPDATE n = n + 1 WHERE 1;", "RENAME TABLE t TO x;")),
    Row("DELETE FROM t WHERE id = 3;", (T, ROWS, "DELETE FROM t WHERE id = 3;"), again=True),
    Row("ALTER TABLE t DROP PARTITION tuple();", again=True),
]
ROWS_OF_DATA = [
    Row("INSERT INTO t (id, v) VALUES (7, 'seven');", asks=frozenset({"before", "after"})),
    Row("INSERT INTO t (id, v) SELECT 8, 'eight';", asks=frozenset({"before", "after"})),
    Row("SELECT count() FROM t;", again=True),
    Row("ALTER TABLE t DETACH PARTITION tuple();", asks=frozenset({"before", "after"})),
]


@dataclass
class Place:
    """A server with a query log, and as many databases as are asked for."""

    server: ClickHouseServer
    directory: Path
    databases: list[str] = field(default_factory=list)
    undisturbed: dict[Row, list[Any]] = field(default_factory=dict)

    def playground(self, *, log: bool) -> Playground:
        """Returns an empty database; without a query log the server writes none for this user's statements."""
        name = f"truth_{len(self.databases)}"
        self.databases.append(name)
        self.server.create_database(name)
        directory = self.directory / name
        directory.mkdir()
        url = f"{self.server.url('admin', self.server.admin_password, name)}&greylag_lease=2s" + ("" if log else "&log_queries=0")
        return Playground(url, self.server, name, directory)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("truth-table")
    with ClickHouseServer(directory / "server", query_log=True) as server:
        yield Place(server, directory)


def killed(playground: Playground, version: int, index: int, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs `up` and ends it at a statement: `before` it is sent, or `after` it was answered. Nothing of the run is written after that."""
    with monkeypatch.context() as patch, playground.open() as database:
        patch.setattr(execution.Execution, "_close", lambda _: None)
        opened = database._session
        execute = opened.execute

        def dying(body: bytes, query_id: str, settings: Any = None) -> None:
            here = query_id.endswith(f"-{version}-up-{index}")
            if not here or when == "after":
                execute(body, query_id, settings)
            if here:
                raise Killed

        opened.execute = dying  # type: ignore[method-assign]
        with suppress(Killed):
            applying.apply(database, playground.plan(database), playground.seen.append)


def state(playground: Playground) -> list[Any]:
    """What the server has: definitions, rows, finished mutations, functions, databases; without the database's own name."""
    name = playground.name
    tables = "database = currentDatabase() AND name NOT LIKE 'greylag%' AND name NOT LIKE '.inner%' AND name != 'goose_db_version'"
    found = playground.sql(f"SELECT name, create_table_query FROM system.tables WHERE {tables} ORDER BY name")
    for table, definition in list(found):
        if " VIEW " not in definition.split("(")[0] and "DICTIONARY" not in definition and "ENGINE = Null" not in definition:
            found.append(playground.sql(f"SELECT * FROM {table} ORDER BY ALL"))
    found += playground.sql(
        "SELECT command, is_done FROM system.mutations WHERE database = currentDatabase() AND table NOT LIKE 'g%' ORDER BY ALL"
    )
    found += playground.sql(f"SELECT create_query FROM system.functions WHERE startsWith(name, '{name}_')")
    found += playground.sql(f"SELECT name FROM system.databases WHERE startsWith(name, '{name}_')")
    return [re.sub(rf"{name}\b|{name}(?=_)", "DB", re.sub(r" UUID '[^']*'|\.inner_id\.\S+", "", repr(item))) for item in found]


def write(playground: Playground, row: Row, *, together: bool) -> None:
    """Writes the files: what was before in a file of its own, which the same run applies or an earlier one has."""
    texts = [item.replace("{db}", playground.name) for item in (*row.before, row.statement)]
    playground.write(1, *texts[:-1])
    if not together:
        playground.run()
    playground.write(2, texts[-1], "SELECT 1;")


def undisturbed(place: Place, row: Row) -> list[Any]:
    """What a run that nobody interrupts leaves; found out once per row."""
    if row not in place.undisturbed:
        place.undisturbed[row] = _undisturbed(place, row)
    return place.undisturbed[row]


def _undisturbed(place: Place, row: Row) -> list[Any]:
    playground = place.playground(log=True)
    write(playground, row, together=True)
    playground.run()
    return state(playground)


QUICK = [("before", False), ("after", True)]
ALSO = [("before", True), ("after", False)]


@pytest.mark.parametrize(
    ("when", "together"),
    [*(pytest.param(*item) for item in QUICK), *(pytest.param(*item, marks=pytest.mark.slow) for item in ALSO)],
    ids=["before-alone", "after-together", "before-together", "after-alone"],
)
@pytest.mark.parametrize("row", [*ROWS_OF_DDL, *ROWS_OF_ALTER], ids=str)
def test_killed_at_a_statement_that_the_catalogue_shows(
    place: Place, row: Row, when: str, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = undisturbed(place, row)
    playground = place.playground(log=False)
    write(playground, row, together=together)
    killed(playground, 2, 1, when, monkeypatch)
    if when in row.asks:
        assert refusal(playground.run).code == "statement-unknown"
        playground.answer(2, 1, done=when == "after")
    playground.run()
    settled = [item.outcome for item in playground.of(events.StatementSettled)]
    right = {"before": {"not-done"}, "after": {"done", "not-done"} if row.again else {"done"}}[when]
    assert when in row.asks or (len(settled) == 1 and set(settled) <= right), playground.seen
    found = state(playground)
    assert found == expected or (row.again and found[: len(expected)] == expected)


@pytest.mark.parametrize("row", [*ROWS_OF_DATA, *(row for row in ROWS_OF_DDL if row.asks)], ids=str)
@pytest.mark.parametrize("log", [True, False], ids=["with-log", "without-log"])
def test_killed_at_a_statement_that_only_the_query_log_shows(place: Place, row: Row, log: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = undisturbed(place, row)
    for when in ("before", "after"):
        playground = place.playground(log=log)
        write(playground, row, together=True)
        killed(playground, 2, 1, when, monkeypatch)
        if not log and when in row.asks:
            assert refusal(playground.run).code == "statement-unknown", when
            playground.answer(2, 1, done=when == "after")
        playground.run()
        assert state(playground) == expected, when


def test_the_rows_are_what_they_say() -> None:
    """A row without a statement, or one that is there twice, would prove nothing."""
    rows: list[Row] = [*ROWS_OF_DDL, *ROWS_OF_ALTER, *ROWS_OF_DATA]
    assert len({replace(row, again=False) for row in rows}) == len(rows)


REFUSED = [
    (T, "ALTER TABLE t ADD COLUMN v UInt64;"),
    (T, "ALTER TABLE t ADD COLUMN z UInt64, DROP COLUMN missing;"),
    (T + "\nALTER TABLE t ADD PROJECTION p (SELECT id ORDER BY id);", "ALTER TABLE t ADD PROJECTION p (SELECT v ORDER BY v);"),
    (T, "ALTER TABLE t RENAME COLUMN v TO n;"),
    (T, "ALTER TABLE t MODIFY ORDER BY missing;"),
    (T, "ALTER TABLE t UPDATE missing = 1 WHERE 1;"),
    (T, "DELETE FROM t WHERE missing = 1;"),
    (T, "CREATE TABLE x (id UInt8 CODEC(NoSuch)) ENGINE = Memory;"),
    (T, "CREATE TABLE t (id UInt8) ENGINE = Memory;"),
    (T, "CREATE VIEW x AS SELECT toDate() FROM t;"),
    (T, "CREATE MATERIALIZED VIEW x TO missing AS SELECT id FROM t;"),
    ("CREATE FUNCTION {db}_f AS x -> x + 1;", "CREATE FUNCTION {db}_f AS x -> x + 2;"),
    (T, "DROP TABLE missing;"),
    (T, "RENAME TABLE missing TO x;"),
    (T, "EXCHANGE TABLES t AND missing;"),
    (T, "SELECT throwIf(1);"),
    (T, "INSERT INTO t (id) SELECT throwIf(number = 3) FROM numbers(5);"),
    (T, "INSERT INTO t (id) VALUES ('x');"),
    (T, "CREAT TABLE x (id Int8);"),
    (T, "TRUNCATE TABLE missing;"),
    (T, "ATTACH TABLE missing;"),
]


@pytest.mark.parametrize(("before", "statement"), REFUSED, ids=[item[1][:60] for item in REFUSED])
def test_bad_flow_refused_statement_stays_refused_and_its_correction_is_no_question(place: Place, before: str, statement: str) -> None:
    for log in (True, False):
        playground = place.playground(log=log)
        texts = [item.replace("{db}", playground.name) for item in (*before.split("\n"), statement)]
        playground.write(1, *texts[:-1])
        playground.write(2, texts[-1])
        for _ in range(2):
            error = refusal(playground.run)
            assert (type(error), error.code) == (errors.StatementRejected, "sql-rejected"), error
        playground.write(2, "CREATE TABLE corrected (id UInt8) ENGINE = Memory;")
        playground.run()
        assert playground.versions() == [0, 1, 2]


DIFFERENT: list[tuple[str, str, Callable[[list[Any]], bool]]] = [
    ("ALTER TABLE t ADD COLUMN c UInt8;", "ALTER TABLE t ADD COLUMN c String;", lambda rows: "c" in str(rows)),
    ("CREATE TABLE x (a Int8) ENGINE = Memory;", "CREATE TABLE x (b Int8) ENGINE = Memory;", lambda rows: "`a`" in str(rows)),
    ("CREATE FUNCTION {db}_f AS x -> x + 1;", "CREATE FUNCTION {db}_f AS x -> x + 2;", lambda rows: "x + 1" in str(rows)),
]


@pytest.mark.parametrize(("theirs", "ours", "is_theirs"), DIFFERENT, ids=[item[1] for item in DIFFERENT])
def test_what_somebody_else_made_before_the_run_is_not_ours(
    place: Place, theirs: str, ours: str, is_theirs: Callable[[list[Any]], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    playground = place.playground(log=False)
    playground.write(1, T)
    playground.run()
    playground.do(theirs.rstrip(";").replace("{db}", playground.name))
    playground.write(2, ours.replace("{db}", playground.name))
    killed(playground, 2, 1, "before", monkeypatch)
    assert refusal(playground.run).code == "sql-rejected"
    assert [item.outcome for item in playground.of(events.StatementSettled)] == ["not-done"]
    assert is_theirs(state(playground))


def test_what_somebody_else_made_after_the_run_began_is_a_question(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    playground = place.playground(log=False)
    playground.write(1, T)
    playground.run()
    playground.write(2, "ALTER TABLE t ADD COLUMN c String;")
    killed(playground, 2, 1, "before", monkeypatch)
    playground.do("ALTER TABLE t ADD COLUMN c UInt8")
    error = refusal(playground.run)
    assert error.code == "statement-unknown"
    assert "neither as it was before the run nor as the statement would leave it" in error.message
