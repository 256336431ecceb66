"""Reading the server's canonical text of statements, and judging statements by their words alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.clickhouse import lock
from migrator.clickhouse.history import HistoryTables, Profile, located
from migrator.clickhouse.reading import readings, shapes
from migrator.clickhouse.reading.shapes import Sort
from migrator.clickhouse.session import literal, quote
from migrator.planning.objects import Action, Kind, ObjectName, fold


def _names(line: str) -> list[str]:
    return [
        f"{effect.action} {effect.subject}" + (f" -> {effect.renamed}" if effect.renamed else "")
        for effect in shapes.read(line, "db").effects
    ]


def _living(*lines: str) -> set[str]:
    return {str(item) for item in fold(effect for line in lines for effect in shapes.read(line, "db").effects)}


CREATE = (
    "CREATE TABLE `a b`.`c.d` (`e f` Int8 DEFAULT 'x,(y', `n` Nested(a Int8, b Int8), `k` Map(String, Tuple(a Int8, b Int8)),"
    " INDEX ii a TYPE minmax GRANULARITY 1, PROJECTION pp (SELECT a ORDER BY a), CONSTRAINT cc CHECK 1)"
    " ENGINE = ReplacingMergeTree(`k`) ORDER BY a TTL x + toIntervalDay(1) SETTINGS a = 1"
)


def test_create_table_names_its_columns_indexes_and_projections() -> None:
    shape = shapes.read(CREATE, "db")
    assert (shape.sort, shape.engine, shape.columns, shape.fills) == (Sort.CREATE, "ReplacingMergeTree", ("e f", "k"), False)
    assert [effect.subject for effect in shape.effects] == [
        ObjectName(Kind.TABLE, "a b", "c.d"),
        ObjectName(Kind.COLUMN, "a b", "e f", "c.d"),
        ObjectName(Kind.COLUMN, "a b", "k", "c.d"),
        ObjectName(Kind.INDEX, "a b", "ii", "c.d"),
        ObjectName(Kind.PROJECTION, "a b", "pp", "c.d"),
    ]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("CREATE TABLE x AS y", ["create table db.x"]),
        ("CREATE TABLE x UUID '1' ON CLUSTER c (`a` Int8) ENGINE = Log", ["create table db.x", "create column db.x.a"]),
        ("CREATE OR REPLACE VIEW v AS SELECT 1", ["drop view db.v", "create view db.v"]),
        ("CREATE MATERIALIZED VIEW mv TO o.t (`a` Int8) AS SELECT 1", ["create materialized view db.mv"]),
        ("CREATE MATERIALIZED VIEW mv REFRESH EVERY 1 HOUR TO t AS SELECT 1 AS to", ["create materialized view db.mv"]),
        ("CREATE DICTIONARY d (`id` UInt64) PRIMARY KEY id LAYOUT(FLAT())", ["create dictionary db.d"]),
        ("CREATE DATABASE IF NOT EXISTS x ON CLUSTER q ENGINE = Atomic", ["create database x"]),
        ("CREATE FUNCTION f AS x -> x", ["create function f"]),
        ("CREATE INDEX i ON o.t a TYPE minmax GRANULARITY 1", ["create index o.t.i"]),
        ("DROP INDEX i ON t", ["drop index db.t.i"]),
        ("DROP DATABASE x", ["drop database x"]),
        ("CREATE USER u", []),
        ("CREATE TEMPORARY TABLE t (`a` Int8)", []),
        ("TRUNCATE TABLE x", []),
        ("INSERT INTO x SELECT 1", []),
    ],
)
def test_effects_of_one_statement(line: str, names: list[str]) -> None:
    assert _names(line) == names


ALTER = (
    "ADD COLUMN IF NOT EXISTS `x` Int32 DEFAULT f(1, 2) AFTER y",
    "ADD INDEX i x TYPE minmax GRANULARITY 1",
    "DROP COLUMN IF EXISTS z",
    "RENAME COLUMN q TO r",
    "ADD PROJECTION p (SELECT x, y ORDER BY x)",
    "MODIFY SETTING a = 1, b = 2",
    "DROP COLUMN `n.a`",
    "UPDATE a = 1, b = 2 WHERE c IN (1, 2)",
)


@pytest.mark.parametrize("parenthesised", [True, False])
def test_alter_is_read_with_and_without_parentheses(parenthesised: bool) -> None:
    commands = ", ".join(f"({item})" if parenthesised else item for item in ALTER)
    shape = shapes.read(f"ALTER TABLE o.t ON CLUSTER `my cluster` {commands}", "db")
    assert shape.cluster == "my cluster"
    assert [str(effect.subject) for effect in shape.effects] == [
        "column o.t.x", "index o.t.i", "column o.t.z", "column o.t.q", "projection o.t.p", "column o.t.n.a",
    ]  # fmt: skip
    assert [command.words for command in shape.commands] == [
        "ADD COLUMN", "ADD INDEX", "DROP COLUMN", "RENAME COLUMN", "ADD PROJECTION", "MODIFY SETTING", "DROP COLUMN", "UPDATE A",
    ]  # fmt: skip
    assert [command.mutates for command in shape.commands][-1]


def test_what_is_renamed_exchanged_and_dropped_takes_its_columns_along() -> None:
    first, second = "CREATE TABLE a (`x` Int8) ENGINE = Log", "CREATE TABLE b (`y` Int8) ENGINE = Log"
    assert _living(first, "RENAME TABLE a TO o.c") == {"table o.c", "column o.c.x"}
    assert _living(first, second, "EXCHANGE TABLES a AND b") == {"table db.a", "column db.a.y", "table db.b", "column db.b.x"}
    assert _living(first, second, "RENAME TABLE a TO t, b TO a, t TO b") == {"table db.a", "column db.a.y", "table db.b", "column db.b.x"}
    assert _living(first, second, "DROP TABLE a, b SYNC") == set()
    assert _living("CREATE VIEW v AS SELECT 1", "DROP TABLE v") == set()
    assert _living("CREATE TABLE a (`x` Int8) ENGINE = Log", "CREATE OR REPLACE TABLE a (`z` Int8) ENGINE = Log") == {
        "table db.a",
        "column db.a.z",
    }


@pytest.mark.parametrize(
    ("line", "sort", "fills"),
    [
        ("CREATE TABLE x ENGINE = Memory AS SELECT 1", Sort.CREATE, True),
        ("CREATE TABLE x ENGINE = Memory AS (SELECT 1)", Sort.CREATE, True),
        ("CREATE TABLE x ENGINE = Memory AS WITH 1 AS a SELECT a", Sort.CREATE, True),
        ("CREATE MATERIALIZED VIEW m ENGINE = Log POPULATE AS SELECT 1", Sort.CREATE, True),
        ("CREATE VIEW x AS SELECT 1", Sort.CREATE, False),
        ("SET a = 1", Sort.SESSION, False),
        ("USE x", Sort.SESSION, False),
        ("SELECT 1", Sort.REPEATABLE, False),
        ("OPTIMIZE TABLE x FINAL", Sort.REPEATABLE, False),
        ("OPTIMIZE TABLE x FINAL DEDUPLICATE", Sort.OTHER, False),
        ("SYSTEM RELOAD DICTIONARIES", Sort.REPEATABLE, False),
        ("SYSTEM DROP REPLICA 'r'", Sort.OTHER, False),
        ("GRANT SELECT ON x TO y", Sort.REPEATABLE, False),
        ("CREATE USER IF NOT EXISTS u", Sort.REPEATABLE, False),
        ("CREATE USER u", Sort.OTHER, False),
        ("DELETE FROM x WHERE 1", Sort.CHANGE, False),
        ("INSERT INTO x SELECT 1", Sort.INSERT, False),
        ("ALTER USER u SETTINGS a = 1", Sort.REPEATABLE, False),
        ("ALTER USER u RENAME TO v", Sort.OTHER, False),
        ("ALTER USER u ADD IDENTIFIED WITH no_password", Sort.OTHER, False),
        ("CREATE USER OR REPLACE u", Sort.REPEATABLE, False),
        ("CREATE ROW POLICY p ON d.t USING 1", Sort.OTHER, False),
        ("DROP SETTINGS PROFILE IF EXISTS p", Sort.REPEATABLE, False),
        ("DROP NAMED COLLECTION n", Sort.OTHER, False),
    ],
)
def test_sort_of_statement(line: str, sort: Sort, fills: bool) -> None:
    shape = shapes.read(line, "db")
    assert (shape.sort, shape.fills) == (sort, fills)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("INSERT INTO t VALUES (1)", True),
        ("-- a comment; CREATE TABLE\n/* more */ insert into t select 1", True),
        ("CREATE TABLE t (a Int8) ENGINE = Log", False),
        ("CREATE TABLE t ENGINE = Log AS SELECT 1", True),
        ("CREATE MATERIALIZED VIEW v ENGINE = Log POPULATE AS SELECT 1", True),
        ("CREATE VIEW v AS SELECT 1", False),
        ("ALTER TABLE t ADD COLUMN a Int8", False),
        ("ALTER TABLE t UPDATE a = 1 WHERE 1", True),
        ("ALTER TABLE t DELETE WHERE 1", True),
        ("ALTER TABLE t DROP PARTITION 1", True),
        ("DELETE FROM t WHERE 1", True),
        ("TRUNCATE TABLE t", True),
        ("EXCHANGE TABLES a AND b", True),
        ("(SELECT 1)", False),
        ("SYSTEM FLUSH LOGS", True),
        ("", True),
    ],
)
def test_statements_without_a_trace_in_the_catalogue_are_known_by_their_words(text: str, answer: bool) -> None:
    assert readings.read(text).leaves_no_trace is answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [("SET a = 1", True), ("/* x */ use db", True), ("create or replace temporary table x (a Int8)", True), ("SELECT 1", False)],
)
def test_what_ends_with_the_session(text: str, answer: bool) -> None:
    assert readings.read(text).belongs_to_session is answer


_NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(_NAMES, _NAMES, _NAMES)
def test_quoted_names_are_read_back(database: str, table: str, column: str) -> None:
    shape = shapes.read(
        f"CREATE TABLE {quote(database)}.{quote(table)} ({quote(column)} Int8 COMMENT {literal(column)}) ENGINE = Log", "db"
    )
    assert [effect.subject for effect in shape.effects] == [
        ObjectName(Kind.TABLE, database, table),
        ObjectName(Kind.COLUMN, database, column, table),
    ]
    dropped = shapes.read(f"DROP TABLE {quote(database)}.{quote(table)}", "db")
    assert dropped.effects[0].action is Action.DROP


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    for word in ("CREATE TABLE ", "ALTER TABLE ", "DROP ", "RENAME TABLE ", ""):
        assert shapes.read(word + text, "db").sort in Sort
    assert readings.head(text) == readings.head(text).upper()
    assert readings.read(text).leaves_no_trace in (True, False)


@given(_NAMES, _NAMES)
def test_the_tables_of_a_history_with_quotes_are_read_back(database: str, table: str) -> None:
    found = located(f"{quote(database)}.{quote(table)}", "other", Profile.SINGLE, "")
    assert (found.database, found.name) == (database, table)


def test_the_tables_of_a_history_without_a_database_are_in_the_connections() -> None:
    assert located("goose_db_version", "mine", Profile.SINGLE, "") == HistoryTables("goose_db_version", "mine", "goose_db_version")


@given(
    st.text("abcdef0123456789", min_size=1), st.integers(0, 1 << 50), st.integers(0, 1 << 50), st.text(max_size=50), st.text(max_size=50)
)
def test_state_of_the_lock_is_read_back(run: str, until: int, since: int, service: str, actor: str) -> None:
    holder = lock.Holder(run, "token", until, since, lock.label(service, actor))
    assert lock.parse(str(holder)) == holder
    assert lock.parse(lock.FREE) is None


def test_takeover_waits_longer_than_any_statement_of_the_dead_can_arrive() -> None:
    for lease in (2, 15, 600):
        times = lock.Times(lease)
        assert times.grace > 2 * times.fence
        assert times.fence > 2 * times.heartbeat or lease < 4
        assert times.lease >= 4 * times.heartbeat


@pytest.mark.parametrize(
    "line",
    [
        "CREATE USER u ON CLUSTER c",
        "GRANT ON CLUSTER c SELECT ON db.* TO u",
        "CREATE ROW POLICY p ON CLUSTER c ON db.t USING 1",
        "TRUNCATE TABLE IF EXISTS t ON CLUSTER `c`",
        "OPTIMIZE TABLE t ON CLUSTER 'c' FINAL",
        "SYSTEM STOP MERGES ON CLUSTER c",
        "KILL MUTATION ON CLUSTER c WHERE 1 ASYNC",
        "DELETE FROM t ON CLUSTER c WHERE a = 1",
        "DROP FUNCTION f ON CLUSTER c",
    ],
)
def test_cluster_is_read_wherever_the_statement_names_it(line: str) -> None:
    assert shapes.read(line, "db").cluster == "c"


@pytest.mark.parametrize(
    "line",
    [
        "SELECT 1 FROM a INNER JOIN b ON cluster = 1",
        "INSERT INTO t SELECT 1 FROM a INNER JOIN b ON cluster = 1",
        "CREATE VIEW v AS SELECT * FROM a INNER JOIN b ON cluster = 1",
        "DELETE FROM t WHERE a IN (SELECT 1 FROM x INNER JOIN y ON cluster = 1)",
        "EXPLAIN AST CREATE TABLE t ON CLUSTER c (`a` Int8) ENGINE = Log",
        "SELECT 'ON CLUSTER c'",
    ],
)
def test_column_named_cluster_is_none(line: str) -> None:
    assert shapes.read(line, "db").cluster == ""
