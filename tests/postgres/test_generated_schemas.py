"""Generated schemas: `up`, then `verify` is 0; after one change by hand it is 16 and names what was changed (facts.md §3).

A migration is drawn step by step from what exists by then, so that every one of them is valid: unnamed constraints and indexes, CASCADE, SAVEPOINT and
EXCEPTION blocks, temporary tables, partitions, DO blocks, renames.
"""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import verification
from migrator.planning import files
from tests import fuzzing
from tests.postgres.conftest import Playground


@dataclass
class Model:
    """What exists by now: tables with their columns, names of views, types and partitioned tables."""

    tables: dict[str, list[str]] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)  # with the table that each reads
    types: list[str] = field(default_factory=list)
    count: itertools.count[int] = field(default_factory=itertools.count)

    def name(self, prefix: str) -> str:
        return f"{prefix}{next(self.count)}"


def _create(draw: st.DrawFn, model: Model, name: str) -> str:
    columns = [model.name("c") for _ in range(draw(st.integers(1, 3)))]
    model.tables[name] = columns
    kinds = [
        "int",
        "int CHECK ({0} > 0)",
        "text DEFAULT 'x'",
        "int UNIQUE",
        "serial",
        "numeric(10, 2) NOT NULL DEFAULT 0",
        "int GENERATED ALWAYS AS IDENTITY",
    ]
    if model.types:
        kinds.append(f"{model.types[-1]} DEFAULT 'a'")
    parts = [f"{column} {draw(st.sampled_from(kinds)).format(column)}" for column in columns]
    parts += draw(st.sampled_from([[], [f"PRIMARY KEY ({columns[0]})"], [f"UNIQUE ({columns[0]})"], [f"CHECK ({columns[0]} IS NOT NULL)"]]))
    return f"CREATE TABLE {name} ({', '.join(parts)});"


def table(draw: st.DrawFn, model: Model) -> str:
    return _create(draw, model, model.name("t"))


def index(draw: st.DrawFn, model: Model) -> str:
    name = draw(st.sampled_from(sorted(model.tables)))
    column = draw(st.sampled_from(model.tables[name]))
    what = draw(
        st.sampled_from([column, f"({column} IS NULL)", f"({column}::text || 'x')", f"coalesce({column}::text, '')", f"{column} DESC"])
    )
    return f"CREATE INDEX ON {name} (({what}));" if what.startswith("coalesce") else f"CREATE INDEX ON {name} ({what});"


def add(draw: st.DrawFn, model: Model) -> str:
    name = draw(st.sampled_from(sorted(model.tables)))
    column = model.name("c")
    model.tables[name].append(column)
    kind = draw(st.sampled_from(["int", "text DEFAULT 'y'", "int UNIQUE", "int CHECK ({0} <> 7)"])).format(column)
    return f"ALTER TABLE {name} ADD COLUMN {column} {kind};"


def drop_column(draw: st.DrawFn, model: Model) -> str:
    name = draw(st.sampled_from(sorted(model.tables)))
    if len(model.tables[name]) < 2:
        return add(draw, model)
    column = model.tables[name].pop()
    model.views = {view: of for view, of in model.views.items() if of != name}
    return f"ALTER TABLE {name} DROP COLUMN {column} CASCADE;" + "".join(
        f"\nDROP VIEW IF EXISTS {view};" for view in _views_of(model, name)
    )


def _views_of(model: Model, name: str) -> list[str]:
    return [view for view, of in model.views.items() if of == name]


def view(draw: st.DrawFn, model: Model) -> str:
    name = draw(st.sampled_from(sorted(model.tables)))
    made = model.name("v")
    model.views[made] = name
    return f"CREATE VIEW {made} AS SELECT * FROM {name};"


def drop(draw: st.DrawFn, model: Model) -> str:
    if len(model.tables) < 2:
        return table(draw, model)
    name = draw(st.sampled_from(sorted(model.tables)))
    del model.tables[name]
    model.views = {made: of for made, of in model.views.items() if of != name}
    return f"DROP TABLE {name} CASCADE;"


def rename(draw: st.DrawFn, model: Model) -> str:
    name = draw(st.sampled_from(sorted(model.tables)))
    if draw(st.booleans()):
        new = model.name("c")
        old = model.tables[name][0]
        model.tables[name][0] = new
        return f"ALTER TABLE {name} RENAME COLUMN {old} TO {new};"
    new = model.name("t")
    model.tables[new] = model.tables.pop(name)
    model.views = {made: new if of == name else of for made, of in model.views.items()}
    return f"ALTER TABLE {name} RENAME TO {new};"


def enum(draw: st.DrawFn, model: Model) -> str:
    if model.types and draw(st.booleans()):
        old, new = model.types.pop(), model.name("e")
        model.types.append(new)
        return f"ALTER TYPE {old} RENAME TO {new};"
    model.types.append(model.name("e"))
    return f"CREATE TYPE {model.types[-1]} AS ENUM ('a', 'b');"


def undone(draw: st.DrawFn, model: Model) -> str:
    name = draw(st.sampled_from(sorted(model.tables)))
    return f"SAVEPOINT s;\nCREATE TABLE {model.name('undone')} (a int);\nDROP TABLE {name} CASCADE;\nROLLBACK TO SAVEPOINT s;"


def kept(draw: st.DrawFn, model: Model) -> str:
    return f"SAVEPOINT s;\n{table(draw, model)}\nRELEASE SAVEPOINT s;"


def block(draw: st.DrawFn, model: Model) -> str:
    made = table(draw, model).replace("'", "''")
    body = draw(st.sampled_from(["EXECUTE '{0}';", "BEGIN EXECUTE '{0}'; EXCEPTION WHEN division_by_zero THEN NULL; END;"])).format(made)
    return f"-- +goose StatementBegin\nDO $do$ BEGIN {body} END $do$;\n-- +goose StatementEnd"


def temporary(draw: st.DrawFn, model: Model) -> str:
    name = model.name("tmp")
    return f"CREATE TEMP TABLE {name} (a int);\nALTER TABLE {name} ADD COLUMN b int UNIQUE;"


def partitions(draw: st.DrawFn, model: Model) -> str:
    name = model.name("p")
    parts = "\n".join(f"CREATE TABLE {name}_{n} PARTITION OF {name} FOR VALUES IN ({n});" for n in range(draw(st.integers(0, 2))))
    more = draw(
        st.sampled_from(
            ["", f"CREATE INDEX ON {name} (b);", f"CREATE INDEX {name}_i ON ONLY {name} (b);", f"ALTER TABLE {name} ADD CHECK (a > -1);"]
        )
    )
    return f"CREATE TABLE {name} (a int, b text) PARTITION BY LIST (a);\n{parts}\n{more}"


STEPS: list[Callable[[st.DrawFn, Model], str]] = [
    table, index, add, drop_column, view, drop, rename, enum, undone, kept, block, temporary, partitions
]  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> list[str]:
    """Texts of one to three migrations."""
    model = Model()
    found = [_create(draw, model, model.name("t"))]
    for _ in range(draw(st.integers(1, 8))):
        found.append(draw(st.sampled_from(STEPS))(draw, model))
    cuts = sorted(draw(st.lists(st.integers(1, len(found)), max_size=2)))
    return ["\n".join(found[start:end]) for start, end in itertools.pairwise([0, *cuts, len(found)]) if start < end]


CHANGES = {
    "table": [
        "ALTER TABLE {0} ADD COLUMN by_hand int",
        "ALTER TABLE {0} RENAME TO by_hand",
        "DROP TABLE {0} CASCADE",
        "ALTER TABLE {0} ENABLE ROW LEVEL SECURITY",
    ],
    "column": [
        "ALTER TABLE {1} DROP COLUMN {2} CASCADE",
        "ALTER TABLE {1} RENAME COLUMN {2} TO by_hand",
        "ALTER TABLE {1} ALTER {2} SET (n_distinct = 5)",
        "ALTER TABLE {1} ALTER {2} SET NOT NULL, ALTER {2} SET STORAGE PLAIN, ALTER {2} SET (n_distinct = 7)",
    ],
    "constraint": ["ALTER TABLE {1} DROP CONSTRAINT {2} CASCADE", "ALTER TABLE {1} RENAME CONSTRAINT {2} TO by_hand"],
    "index": ["DROP INDEX {0}", "ALTER INDEX {0} RENAME TO by_hand", "ALTER INDEX {0} SET (fillfactor = 50)"],
    "view": [
        "DROP VIEW {0} CASCADE",
        "CREATE OR REPLACE VIEW {0} AS SELECT q.*, 1 AS by_hand FROM ({3}) AS q",
        "ALTER VIEW {0} RENAME TO by_hand",
    ],
    "type": ["ALTER TYPE {0} ADD VALUE 'by_hand'", "ALTER TYPE {0} RENAME TO by_hand"],
    "sequence": ["ALTER SEQUENCE {0} INCREMENT 7", "ALTER SEQUENCE {0} RENAME TO by_hand"],
}
"""What somebody may do by hand to a recorded object of a kind: its name, its table's, its own last part, its text."""


@pytest.fixture(scope="module")
def place(postgres_server: object, tmp_path_factory: pytest.TempPathFactory) -> Playground:
    from sandbox.databases.postgres import PostgresServer

    assert isinstance(postgres_server, PostgresServer)
    return Playground(postgres_server.create_database("generated_schemas"), tmp_path_factory.mktemp("generated"))


def _emptied(place: Playground) -> None:
    place.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    shutil.rmtree(place.directory)
    Path(place.directory).mkdir()


@fuzzing.drawn("GREYLAG_FUZZ_SCHEMAS", 200, shrinks=True)
@given(texts=histories(), number=st.integers(0, 1 << 32))
def test_a_generated_schema_verifies_and_a_change_by_hand_is_named(place: Playground, texts: list[str], number: int) -> None:
    choice = random.Random(number)
    _emptied(place)
    for version, text in enumerate(texts, start=1):
        place.write(version, text)
    place.run()
    with place.open() as database:
        found = verification.verify(database, files.load(place.directory), strict=True)
        assert found.findings == (), texts
        fuzzing.TALLY.update(cases=1, statements=sum(text.count("\n") + 1 for text in texts))
        rows = place.sql(
            "SELECT kind, identity, parent, definition FROM greylag_fact WHERE kind NOT IN ('home', 'note', 'comment', 'privileges')"
        )
        if not rows:
            fuzzing.TALLY["nothing is left to change"] += 1
            return
        kind, identity, parent, definition = (str(item) for item in choice.choice(sorted(rows)))
        candidates = CHANGES[kind]
        change = choice.choice(candidates).format(identity, parent, identity.rpartition(".")[2], definition)
        try:
            place.sql(change)
        except psycopg.Error:
            fuzzing.TALLY["change refused by the server"] += 1
            return  # the server doesn't allow it (a sequence of an identity, an inherited constraint): nothing was changed
        found = verification.verify(database, files.load(place.directory))
        subjects = [item.subject for item in found.findings]
        assert any(identity in item for item in subjects), (texts, change, subjects)
        fuzzing.TALLY["changed and named"] += 1
