"""Generated schemas: `up`, then `verify` is 0; after one change by hand to a recorded object it is 16 and names it (facts.md §6).

A migration is drawn step by step from what exists by then, so that every one of them is valid: columns with defaults and codecs, indexes, projections,
constraints, TTL, views, materialized views, dictionaries, functions, renames, exchanges, replaced, detached and dropped tables.
"""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from hypothesis import given
from hypothesis import strategies as st

from migrator import verification
from migrator.planning import files
from migrator.planning.schema_facts import SchemaFact
from sandbox.databases.clickhouse import ClickHouseServer
from tests import fuzzing
from tests.clickhouse.conftest import Playground
from tests.conftest import AWKWARD_PASSWORD

NAME = "generated_schemas"
MERGING = ("MergeTree", "ReplacingMergeTree", "SummingMergeTree", "AggregatingMergeTree")


@dataclass
class Table:
    """What a table has; `free` are columns that nothing else names."""

    merging: bool
    free: list[str] = field(default_factory=list)
    parts: list[tuple[str, str]] = field(default_factory=list)  # kind and name of its indexes, projections and constraints
    ordered: list[str] = field(default_factory=lambda: ["id"])
    expires: bool = False
    tuned: bool = False
    pinned: bool = False  # a dictionary reads it, so that the server lets nobody drop or rename it
    read: bool = False  # a materialized view reads it, so that rows of it go elsewhere


@dataclass
class Model:
    """What exists by now."""

    tables: dict[str, Table] = field(default_factory=dict)
    views: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)  # materialized views that write into a table of their own name
    dictionaries: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    count: Iterator[int] = field(default_factory=itertools.count)

    def name(self, prefix: str) -> str:
        return f"{prefix}{next(self.count)}"

    def merging(self) -> list[str]:
        return sorted(name for name, item in self.tables.items() if item.merging)

    def loose(self) -> list[str]:
        return sorted(name for name, item in self.tables.items() if not item.pinned)


Step = Callable[[st.DrawFn, Model], str]

TYPES = [
    "Int32",
    "String DEFAULT 'it''s (x), y'",
    "Nullable(Float64)",
    "LowCardinality(String)",
    "Decimal(10, 2) DEFAULT 0",
    "DateTime DEFAULT now()",
    "DateTime64(3, 'UTC') DEFAULT now64(3)",
    "Array(UInt8) DEFAULT [1, 2]",
    "Map(String, UInt8)",
    "Enum8('a' = 1, 'b' = 2) DEFAULT 'b'",
    "Tuple(x Int8, y String)",
    "UUID DEFAULT generateUUIDv4()",
    "UInt8 MATERIALIZED id % 7",
    "String ALIAS toString(id)",
    "String CODEC(ZSTD(3))",
    "UInt64 DEFAULT id + 1 CODEC(Delta(8), LZ4) COMMENT 'said: `so`'",
    "INT",
    "VARCHAR(10) COMMENT 'c'",
]
PLAIN = ["Int32", "String DEFAULT 'it''s (x), y'", "UInt64", "LowCardinality(String)", "DateTime"]


def _columns(draw: st.DrawFn, model: Model, table: Table, types: Sequence[str] = TYPES) -> list[str]:
    found = []
    for _ in range(draw(st.integers(0, 4))):
        column = model.name("c")
        table.free.append(column)
        found.append(f"{column} {draw(st.sampled_from(types))}")
    return found


def _merge_tree(draw: st.DrawFn, model: Model, name: str, create: str = "CREATE TABLE") -> str:
    table = model.tables[name] = Table(merging=True)
    columns = ["id UInt64", "at DateTime", *_columns(draw, model, table)]
    if draw(st.booleans()):
        table.parts.append(("INDEX", model.name("i")))
        columns.append(f"INDEX {table.parts[-1][1]} {draw(st.sampled_from(['id', '(id, at)', 'id % 3']))} TYPE minmax GRANULARITY 2")
    engine = draw(st.sampled_from(MERGING))
    if engine == "MergeTree" and draw(st.booleans()):
        table.parts.append(("PROJECTION", model.name("p")))
        columns.append(f"PROJECTION {table.parts[-1][1]} ({draw(st.sampled_from(PROJECTIONS))})")
    if draw(st.booleans()):
        table.parts.append(("CONSTRAINT", model.name("k")))
        columns.append(f"CONSTRAINT {table.parts[-1][1]} CHECK id >= 0 AND at != toDateTime('2001-01-01 00:00:00')")
    behind = draw(st.sampled_from(["", " PARTITION BY toYYYYMM(at)", " PARTITION BY id % 2", " PRIMARY KEY id"])) + " ORDER BY id"
    if draw(st.booleans()):
        table.expires = True
        behind += draw(st.sampled_from([" TTL at + INTERVAL 1 YEAR", " TTL at + INTERVAL 100 DAY DELETE WHERE id % 2 = 0"]))
    if draw(st.booleans()):
        table.tuned = True
        behind += " SETTINGS merge_with_ttl_timeout = 7200, index_granularity = 1024"
    behind += draw(st.sampled_from(["", " COMMENT 'a, (b) ''c'''"]))
    return f"{create} {name} ({', '.join(columns)}) ENGINE = {engine}{behind};"


PROJECTIONS = ["SELECT id, at ORDER BY at", "SELECT at, count() GROUP BY at", "SELECT id % 7 AS k, max(at) GROUP BY k"]


def merge_tree(draw: st.DrawFn, model: Model) -> str:
    return _merge_tree(draw, model, model.name("t"))


def small(draw: st.DrawFn, model: Model) -> str:
    name = model.name("t")
    table = model.tables[name] = Table(merging=False)
    columns = ["id UInt64", "at DateTime", *_columns(draw, model, table, PLAIN)]
    engine = draw(st.sampled_from(["Memory", "Log", "TinyLog", "StripeLog", "Null"]))
    return f"CREATE TABLE {name} ({', '.join(columns)}) ENGINE = {engine}{draw(st.sampled_from(['', ' COMMENT $$q$$']))};".replace(
        "$$", "'"
    )


def copied(draw: st.DrawFn, model: Model) -> str:
    source = draw(st.sampled_from(sorted(model.tables)))
    name = model.name("t")
    of = model.tables[source]
    model.tables[name] = Table(of.merging, list(of.free), list(of.parts), list(of.ordered), of.expires, of.tuned)
    if draw(st.booleans()):
        model.tables[name] = Table(merging=True)
        return f"CREATE TABLE {name} ENGINE = MergeTree ORDER BY id AS SELECT id, toDateTime(1) AS at FROM {source};"
    return f"CREATE TABLE {name} AS {source};"


def replaced(draw: st.DrawFn, model: Model) -> str:
    return _merge_tree(draw, model, draw(st.sampled_from(model.loose() or [model.name("t")])), "CREATE OR REPLACE TABLE")


def add(draw: st.DrawFn, model: Model) -> str:
    name = draw(st.sampled_from(model.merging()))
    column = model.name("c")
    model.tables[name].free.append(column)
    place = draw(st.sampled_from(["", " FIRST", " AFTER id"]))
    return f"ALTER TABLE {name} ADD COLUMN {column} {draw(st.sampled_from(TYPES))}{place};"


def _with_free(draw: st.DrawFn, model: Model) -> tuple[str, str] | None:
    names = [name for name in model.merging() if model.tables[name].free]
    if not names:
        return None
    name = draw(st.sampled_from(names))
    return name, draw(st.sampled_from(model.tables[name].free))


def drop_column(draw: st.DrawFn, model: Model) -> str:
    if (found := _with_free(draw, model)) is None:
        return add(draw, model)
    name, column = found
    model.tables[name].free.remove(column)
    return f"ALTER TABLE {name} DROP COLUMN {column};"


def rename_column(draw: st.DrawFn, model: Model) -> str:
    if (found := _with_free(draw, model)) is None:
        return add(draw, model)
    name, column = found
    new = model.name("c")
    model.tables[name].free[model.tables[name].free.index(column)] = new
    return f"ALTER TABLE {name} RENAME COLUMN {column} TO {new};"


def modify_column(draw: st.DrawFn, model: Model) -> str:
    if (found := _with_free(draw, model)) is None:
        return add(draw, model)
    name, column = found
    return draw(
        st.sampled_from(
            [
                f"ALTER TABLE {name} COMMENT COLUMN {column} 'of {column}';",
                f"ALTER TABLE {name} MODIFY COLUMN {column} COMMENT 'it is `{column}`';",
                f"ALTER TABLE {name} MODIFY COLUMN {column} String DEFAULT '';",
                f"ALTER TABLE {name} MODIFY COLUMN at DateTime AFTER {column};",
                f"ALTER TABLE {name} MODIFY COLUMN at DateTime DEFAULT toDateTime('2020-01-01 00:00:00') CODEC(DoubleDelta, ZSTD(1));",
            ]
        )
    )


def add_part(draw: st.DrawFn, model: Model) -> str:
    name = draw(st.sampled_from(model.merging()))
    made = model.name("x")
    kind, text = draw(
        st.sampled_from(
            [
                ("INDEX", f"ALTER TABLE {name} ADD INDEX {made} id TYPE set(100) GRANULARITY 4;"),
                ("INDEX", f"CREATE INDEX {made} ON {name} (at) TYPE bloom_filter(0.01);"),
                ("CONSTRAINT", f"ALTER TABLE {name} ADD CONSTRAINT {made} CHECK id BETWEEN 0 AND 1000000;"),
                ("CONSTRAINT", f"ALTER TABLE {name} ADD CONSTRAINT {made} ASSUME at > toDateTime(0) OR NOT id = 0;"),
            ]
        )
    )
    model.tables[name].parts.append((kind, made))
    return text


def drop_part(draw: st.DrawFn, model: Model) -> str:
    names = [name for name in model.merging() if model.tables[name].parts]
    if not names:
        return add_part(draw, model)
    name = draw(st.sampled_from(names))
    kind, part = draw(st.sampled_from(model.tables[name].parts))
    model.tables[name].parts.remove((kind, part))
    return f"ALTER TABLE {name} DROP {kind} {part};"


def tune(draw: st.DrawFn, model: Model) -> str:
    name = draw(st.sampled_from(model.merging()))
    table = model.tables[name]
    texts = [f"ALTER TABLE {name} MODIFY COMMENT 'tuned';"]
    if table.expires:
        texts.append(f"ALTER TABLE {name} REMOVE TTL;")
    if table.tuned:
        texts.append(f"ALTER TABLE {name} RESET SETTING merge_with_ttl_timeout;")
    texts.append(f"ALTER TABLE {name} MODIFY TTL at + INTERVAL 7 MONTH;")
    texts.append(f"ALTER TABLE {name} MODIFY SETTING merge_with_ttl_timeout = 86400;")
    text = draw(st.sampled_from(texts))
    table.expires = (table.expires or "MODIFY TTL" in text) and "REMOVE" not in text
    table.tuned = (table.tuned or "MODIFY SETTING" in text) and "RESET" not in text
    return text


def mixed(draw: st.DrawFn, model: Model) -> str:
    """One ALTER with several commands."""
    name = draw(st.sampled_from(model.merging()))
    table = model.tables[name]
    first, second, index = model.name("c"), model.name("c"), model.name("x")
    table.free.append(second)
    table.parts.append(("INDEX", index))
    table.ordered.append(first)
    return (
        f"ALTER TABLE {name} ADD COLUMN {first} UInt8, ADD COLUMN {second} String DEFAULT 'y' AFTER id,"
        f" ADD INDEX {index} {first} TYPE minmax, MODIFY ORDER BY ({', '.join(table.ordered)});"
    )


def view(draw: st.DrawFn, model: Model) -> str:
    source = draw(st.sampled_from(sorted(model.tables)))
    query = draw(
        st.sampled_from(
            [
                f"SELECT id, at FROM {source}",
                f"WITH q AS (SELECT id FROM {source} WHERE id > 1) SELECT count() AS n, max(id) AS most FROM q",
                f"SELECT a.id, CASE WHEN b.id = 1 THEN 'a' ELSE 'b' END AS x FROM {source} AS a LEFT JOIN {source} AS b ON a.id = b.id",
            ]
        )
    )
    if model.views and draw(st.booleans()):
        return f"CREATE OR REPLACE VIEW {draw(st.sampled_from(model.views))} AS {query};"
    model.views.append(model.name("v"))
    return f"CREATE VIEW {model.views[-1]} AS {query};"


def materialized(draw: st.DrawFn, model: Model) -> str:
    source = draw(st.sampled_from(model.merging()))
    model.tables[source].read = True
    made = model.name("m")
    if draw(st.booleans()):
        target = model.name("t")
        model.tables[target] = Table(merging=True)
        refreshed = draw(st.sampled_from(["", "REFRESH EVERY 1 YEAR "]))
        return (
            f"CREATE TABLE {target} (id UInt64, at DateTime) ENGINE = MergeTree ORDER BY id;\n"
            f"CREATE MATERIALIZED VIEW {made} {refreshed}TO {target} AS SELECT id, at FROM {source};"
        )
    model.targets.append(made)
    return f"CREATE MATERIALIZED VIEW {made} ENGINE = SummingMergeTree ORDER BY id AS SELECT id, count() AS n FROM {source} GROUP BY id;"


def dictionary(draw: st.DrawFn, model: Model) -> str:
    source = draw(st.sampled_from(sorted(model.tables)))
    if model.dictionaries and draw(st.booleans()):
        made, verb = draw(st.sampled_from(model.dictionaries)), "CREATE OR REPLACE DICTIONARY"
    else:
        made, verb = model.name("d"), "CREATE DICTIONARY"
        model.dictionaries.append(made)
    model.tables[source].pinned = True
    layout = draw(st.sampled_from(["FLAT()", "HASHED()", "CACHE(SIZE_IN_CELLS 100)"]))
    return (
        f"{verb} {made} (id UInt64, at DateTime DEFAULT '2000-01-01 00:00:00') PRIMARY KEY id SOURCE(CLICKHOUSE(TABLE '{source}' DB '{NAME}' USER 'reader'))"
        f" LIFETIME(MIN 1 MAX 10) LAYOUT({layout});"
    )


def function(draw: st.DrawFn, model: Model) -> str:
    body = draw(st.sampled_from(["x -> x + 1", "(x, y) -> if(x > y, x - y, y - x) * -1", "x -> concat('a', toString(x))"]))
    if model.functions and draw(st.booleans()):
        return f"CREATE OR REPLACE FUNCTION {draw(st.sampled_from(model.functions))} AS {body};"
    model.functions.append(f"{NAME}_{model.name('f')}")
    return f"CREATE FUNCTION {model.functions[-1]} AS {body};"


def rename(draw: st.DrawFn, model: Model) -> str:
    if not model.loose():
        return merge_tree(draw, model)
    name, new = draw(st.sampled_from(model.loose())), model.name("t")
    model.tables[new] = model.tables.pop(name)
    return f"RENAME TABLE {name} TO {new};"


def exchange(draw: st.DrawFn, model: Model) -> str:
    if len(model.loose()) < 2:
        return merge_tree(draw, model)
    one, other = draw(st.lists(st.sampled_from(model.loose()), min_size=2, max_size=2, unique=True))
    model.tables[one], model.tables[other] = model.tables[other], model.tables[one]
    return f"EXCHANGE TABLES {one} AND {other};"


def drop(draw: st.DrawFn, model: Model) -> str:
    choices = [("TABLE", name) for name in model.loose() if len(model.merging()) > 1 or name not in model.merging()]
    choices += [("VIEW", name) for name in model.views] + [("DICTIONARY", name) for name in model.dictionaries]
    choices += [("FUNCTION", name) for name in model.functions] + [("VIEW", name) for name in model.targets]
    if not choices:
        return merge_tree(draw, model)
    kind, name = draw(st.sampled_from(choices))
    model.tables.pop(name, None)
    for names in (model.views, model.dictionaries, model.functions, model.targets):
        if name in names:
            names.remove(name)
    return f"DROP {kind} {draw(st.sampled_from(['', 'IF EXISTS ']))}{name};"


def away_and_back(draw: st.DrawFn, model: Model) -> str:
    name = draw(st.sampled_from(model.merging()))
    if model.tables[name].pinned:
        return merge_tree(draw, model)
    away, back = draw(st.sampled_from([("DETACH TABLE", "ATTACH TABLE"), ("DROP TABLE", "UNDROP TABLE")]))
    return f"{away} {name};\n{back} {name};"


def rows(draw: st.DrawFn, model: Model) -> str:
    names = [name for name in model.merging() if not model.tables[name].read]
    if not names:
        return merge_tree(draw, model)
    name = draw(st.sampled_from(names))
    insert = f"INSERT INTO {name} (id, at) SELECT number, toDateTime('2026-01-01 00:00:00') FROM numbers(3);"
    change = draw(st.sampled_from(["", f"\nALTER TABLE {name} DELETE WHERE id = 1;", f"\nDELETE FROM {name} WHERE id = 2;"]))
    return insert + ("" if any(kind == "PROJECTION" for kind, _ in model.tables[name].parts) and "DELETE FROM" in change else change)


def temporary(draw: st.DrawFn, model: Model) -> str:
    name = model.name("tmp")
    return f"CREATE TEMPORARY TABLE {name} (id UInt64);\nINSERT INTO {name} VALUES (1);"


STEPS: list[Step] = [
    merge_tree, small, copied, replaced, add, drop_column, rename_column, modify_column, add_part, drop_part, tune, mixed, view, materialized, dictionary,
    function, rename, exchange, drop, away_and_back, rows, temporary,
]  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> list[list[str]]:
    """Statements of one to three migrations."""
    model = Model()
    found = [merge_tree(draw, model)]
    for _ in range(draw(st.integers(1, 10))):
        found.append(draw(st.sampled_from(STEPS))(draw, model))
    cuts = sorted(draw(st.lists(st.integers(1, len(found)), max_size=2)))
    return [found[start:end] for start, end in itertools.pairwise([0, *cuts, len(found)]) if start < end]


CHANGES = {
    "table": [
        "ALTER TABLE {0} ADD COLUMN by_hand Int8",
        "ALTER TABLE {0} ADD INDEX by_hand id TYPE minmax",
        "ALTER TABLE {0} ADD PROJECTION by_hand (SELECT id ORDER BY id)",
        "ALTER TABLE {0} ADD CONSTRAINT by_hand CHECK id >= 0",
        "ALTER TABLE {0} MODIFY COMMENT 'by hand'",
        "ALTER TABLE {0} MODIFY SETTING merge_with_ttl_timeout = 4321",
        "ALTER TABLE {0} MODIFY TTL at + INTERVAL 13 DAY",
        "RENAME TABLE {0} TO by_hand",
        "DETACH TABLE {0}",
        "DROP TABLE {0}",
        "CREATE OR REPLACE TABLE {0} (by_hand Int8) ENGINE = Memory",
    ],
    "column": [
        "ALTER TABLE {1} DROP COLUMN {2}",
        "ALTER TABLE {1} RENAME COLUMN {2} TO by_hand",
        "ALTER TABLE {1} COMMENT COLUMN {2} 'by hand'",
        "ALTER TABLE {1} MODIFY COLUMN {2} CODEC(ZSTD(9))",
        "ALTER TABLE {1} MODIFY COLUMN {2} TTL at + INTERVAL 3 MONTH",
        "CREATE OR REPLACE TABLE {1} (by_hand Int8) ENGINE = Memory",
    ],
    "column order": ["ALTER TABLE {1} MODIFY COLUMN id UInt64 AFTER {3}", "CREATE OR REPLACE TABLE {1} (by_hand Int8) ENGINE = Memory"],
    "data skipping index": [
        "ALTER TABLE {1} DROP INDEX {2}",
        "ALTER TABLE {1} DROP INDEX {2}, ADD INDEX {2} id TYPE minmax GRANULARITY 77",
    ],
    "projection": ["ALTER TABLE {1} DROP PROJECTION {2}"],
    "constraint": ["ALTER TABLE {1} DROP CONSTRAINT {2}", "ALTER TABLE {1} DROP CONSTRAINT {2}, ADD CONSTRAINT {2} CHECK id < 77"],
    "view": ["DROP VIEW {0}", "CREATE OR REPLACE VIEW {0} AS SELECT 1 AS by_hand", "RENAME TABLE {0} TO by_hand", "DETACH VIEW {0}"],
    "materialized view": [
        "DROP VIEW {0}",
        "RENAME TABLE {0} TO by_hand",
        "DETACH VIEW {0}",
        "ALTER TABLE {0} MODIFY COMMENT 'by hand'",
        "ALTER TABLE {0} MODIFY QUERY SELECT toUInt64(77) AS id",
    ],
    "dictionary": [
        "DROP DICTIONARY {0}",
        "RENAME DICTIONARY {0} TO by_hand",
        "CREATE OR REPLACE DICTIONARY {0} (id UInt64, by_hand String) PRIMARY KEY id SOURCE(NULL()) LIFETIME(0) LAYOUT(FLAT())",
    ],
    "function": ["DROP FUNCTION {0}", "CREATE OR REPLACE FUNCTION {0} AS by_hand -> by_hand"],
}
"""What somebody may do by hand to a recorded object of a kind: its name, its table's, its own last part, the last of a list of columns. The first that
the server accepts counts."""


@pytest.fixture(scope="module")
def place(clickhouse_server: ClickHouseServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    url = clickhouse_server.url("migrator", AWKWARD_PASSWORD, NAME)
    found = Playground(url, clickhouse_server, "default", tmp_path_factory.mktemp("generated"))
    yield found
    _emptied(found)
    found.do(f"DROP DATABASE {NAME} SYNC")


def _emptied(place: Playground) -> None:
    place.do(f"DROP DATABASE IF EXISTS {NAME} SYNC")
    for (name,) in place.sql(f"SELECT name FROM system.functions WHERE startsWith(name, '{NAME}_')"):
        place.do(f"DROP FUNCTION {name}")
    place.do(f"CREATE DATABASE {NAME}")
    shutil.rmtree(place.directory)
    place.directory.mkdir()


def _changed_by_hand(place: Playground, fact: SchemaFact, choice: random.Random) -> str:
    """Does one change that the server accepts; returns it, or nothing."""
    last = fact.definition.rpartition(", ")[2]
    for change in choice.sample(CHANGES[fact.kind], len(CHANGES[fact.kind])):
        text = change.format(fact.identity, fact.parent, fact.identity.rpartition(".")[2], last)
        try:
            Playground(place.url, place.server, NAME, place.directory).do(text)
        except DatabaseError:
            continue  # a key's column, say: nothing was changed
        return text
    return ""


@fuzzing.drawn("GREYLAG_FUZZ_SCHEMAS", 12)
@given(texts=histories(), number=st.integers(0, 1 << 32))
def test_a_generated_schema_verifies_and_a_change_by_hand_is_named(place: Playground, texts: list[list[str]], number: int) -> None:
    choice = random.Random(number)
    _emptied(place)
    for version, statements in enumerate(texts, start=1):
        place.write(version, *statements)
    place.run()
    fuzzing.TALLY.update(cases=1, statements=sum(text.count(";\n") + 1 for statements in texts for text in statements))
    with place.open() as database:
        found = verification.verify(database, files.load(place.directory), strict=True)
        assert found.findings == (), texts
        fact = choice.choice(sorted(database.read_schema().recorded, key=lambda item: item.key))
        if not (change := _changed_by_hand(place, fact, choice)):
            fuzzing.TALLY["not changed"] += 1
            return
        subjects = [item.subject for item in verification.verify(database, files.load(place.directory)).findings]
        assert any(fact.identity.removesuffix(".*") in item for item in subjects), (texts, change, subjects)
        fuzzing.TALLY["changed and named"] += 1
