"""What the catalogue says of the objects that a plan touches, at one moment: read in one request, kept with the plan's journal entry (clickhouse.md §3).

"It exists" proves nothing of a statement unless it is known what was there before. So a run reads this once before it executes anything, and settling
compares it with what is there now.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from migrator.clickhouse import failures
from migrator.clickhouse.mutations import FailingMutation
from migrator.clickhouse.reading.subjects import Subjects
from migrator.clickhouse.session import Session, array, literal

TableName = tuple[str, str]
"""Database and name."""

_NO_UUID = "00000000-0000-0000-0000-000000000000"
"""What databases of other engines than Atomic, Replicated and Shared give their tables."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table, view or dictionary. `uuid` is empty where the database's engine gives none."""

    uuid: str
    engine: str
    definition: str


@dataclass(frozen=True, slots=True)
class Mutation:
    """One id of `system.mutations`, with the commands of its ALTER."""

    mutation_id: str
    commands: tuple[str, ...]
    done: bool
    reason: str = ""

    @property
    def number(self) -> int:
        """Returns its place among the table's: the server numbers them in order."""
        found = re.search(r"\d+", self.mutation_id)
        return int(found[0]) if found else 0

    @property
    def fails(self) -> bool:
        """Tells whether it isn't done and its latest attempt failed."""
        return not self.done and bool(self.reason)


@dataclass(frozen=True)
class Snapshot:
    """Everything that was asked for; None stands for an object that isn't there. What is no key was not asked for.

    `mutations`: None where this user may not read them.
    """

    tables: Mapping[TableName, Table | None] = field(default_factory=dict)
    functions: Mapping[str, str | None] = field(default_factory=dict)
    databases: Mapping[str, str | None] = field(default_factory=dict)
    mutations: Mapping[TableName, tuple[Mutation, ...]] | None = field(default_factory=dict)

    def of(self, subjects: Subjects) -> Snapshot:
        """Returns the part that is about these."""
        mutations = self.mutations
        return Snapshot(
            {name: table for name, table in self.tables.items() if name in subjects.tables},
            {name: text for name, text in self.functions.items() if name in subjects.functions},
            {name: uuid for name, uuid in self.databases.items() if name in subjects.databases},
            None if mutations is None else {name: items for name, items in mutations.items() if name in subjects.tables},
        )

    def __or__(self, other: Snapshot) -> Snapshot:
        """Returns both together; they were read at one moment."""
        return Snapshot(
            {**self.tables, **other.tables},
            {**self.functions, **other.functions},
            {**self.databases, **other.databases},
            None if self.mutations is None or other.mutations is None else {**self.mutations, **other.mutations},
        )

    def failing(self) -> list[FailingMutation]:
        """Returns the mutations that fail, oldest first within a table."""
        return [
            FailingMutation(*name, item.mutation_id, ", ".join(item.commands), item.reason)
            for name, items in sorted((self.mutations or {}).items())
            for item in items
            if item.fails
        ]

    def document(self) -> dict[str, object]:
        """Returns it as JSON-ready data."""
        return {
            "tables": [[*name, *((table.uuid, table.engine, table.definition) if table else ())] for name, table in self.tables.items()],
            "functions": dict(self.functions),
            "databases": dict(self.databases),
            "mutations": None
            if self.mutations is None
            else [[*name, *(item.mutation_id for item in items)] for name, items in self.mutations.items()],
        }


def parse(document: Mapping[str, object]) -> Snapshot:
    """Reads what `document` made. Of mutations only the ids are kept: they tell which are new.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    mutations = document["mutations"]
    return Snapshot(
        {(row[0], row[1]): Table(*row[2:5]) if len(row) > 2 else None for row in document["tables"]},  # type: ignore[attr-defined]
        dict(document["functions"]),  # type: ignore[call-overload]
        dict(document["databases"]),  # type: ignore[call-overload]
        None if mutations is None else {(row[0], row[1]): tuple(Mutation(item, (), True) for item in row[2:]) for row in mutations},  # type: ignore[attr-defined]
    )


@dataclass(frozen=True)
class Reading:
    """A snapshot, and the system tables that this user may not read, each with the server's words."""

    snapshot: Snapshot
    denied: Mapping[str, str]


_OPTIONAL = ("system.mutations", "system.processes")
"""What settling needs and a run without an accident doesn't: without a right to them a run goes on, and is told."""


def read(session: Session, subjects: Subjects) -> Reading:
    """Reads what the catalogue says now, in one request (a second one where a right is missing).

    Raises:
        failures.Refusal, failures.Lost.
    """
    denied: dict[str, str] = {}
    while True:
        try:
            rows = session.rows(_query(session, subjects, set(_OPTIONAL) - denied.keys()))
        except failures.Refusal as refusal:
            missing = [
                table for table in _OPTIONAL if table not in denied and refusal.code == failures.ACCESS_DENIED and table in refusal.message
            ]
            if not missing:
                raise
            denied.update((table, refusal.message) for table in missing)
            continue
        return Reading(_snapshot(subjects, rows, readable="system.mutations" not in denied), denied)


def _query(session: Session, subjects: Subjects, readable: Iterable[str]) -> str:
    """Returns one SELECT of rows (kind, database, name, id, state, text)."""
    databases = f"database IN {_set(sorted({database for database, _ in subjects.tables}))}"
    names = _set(sorted({name for _, name in subjects.tables}))
    parts = []
    if subjects.tables:
        parts.append(
            "SELECT 'table' AS kind, database, name, toString(uuid) AS id, engine AS state, create_table_query AS text FROM system.tables"
            f" WHERE {databases} AND name IN {names} AND NOT is_temporary"
        )
    if subjects.databases:
        parts.append(
            "SELECT 'database' AS kind, known.name AS database, '' AS name, toString(uuid) AS id, engine AS state, '' AS text FROM system.databases AS known"
            f" WHERE known.name IN {_set(sorted(subjects.databases))}"
        )
    if subjects.functions:  # 15 ms, so not without need
        parts.append(
            "SELECT 'function' AS kind, '' AS database, name, '' AS id, '' AS state, create_query AS text FROM system.functions"
            f" WHERE origin = 'SQLUserDefined' AND has({array(sorted(subjects.functions))}, name)"
        )
    if subjects.tables and "system.mutations" in readable:
        parts.append(
            "SELECT 'mutation' AS kind, database, table AS name, mutation_id AS id,"
            " concat(toString(is_done), latest_fail_reason) AS state, command AS text"
            f" FROM {session.everywhere('system.mutations')} WHERE {databases} AND table IN {names}"
        )
    if "system.processes" in readable:
        parts.append("SELECT '' AS kind, '' AS database, '' AS name, '' AS id, '' AS state, '' AS text FROM system.processes WHERE false")
    return " UNION ALL ".join(parts or ["SELECT '', '', '', '', '', '' WHERE false"])


def _set(names: Iterable[str]) -> str:
    return f"({', '.join(map(literal, names)) or 'NULL'})"


def _snapshot(subjects: Subjects, rows: list[list[str]], *, readable: bool) -> Snapshot:
    tables: dict[TableName, Table | None] = dict.fromkeys(sorted(subjects.tables))
    functions: dict[str, str | None] = dict.fromkeys(sorted(subjects.functions))
    databases: dict[str, str | None] = dict.fromkeys(sorted(subjects.databases))
    found: dict[TableName, dict[str, Mutation]] = {name: {} for name in tables}
    for kind, database, name, ident, state, text in rows:
        place = (database, name)
        if kind == "table" and place in tables:
            tables[place] = Table("" if ident == _NO_UUID else ident, state, text)
        elif kind == "function":
            functions[name] = text
        elif kind == "database":
            databases[database] = "" if ident == _NO_UUID else ident
        elif kind == "mutation" and place in found:
            known = found[place].get(ident, Mutation(ident, (), True))
            found[place][ident] = Mutation(ident, (*known.commands, text), known.done and state[:1] == "1", known.reason or state[1:])
    mutations = {name: tuple(sorted(items.values(), key=lambda item: item.number)) for name, items in found.items()}
    return Snapshot(tables, functions, databases, mutations if readable else None)


def dumped(snapshot: Snapshot, since: Iterable[str] | None = None) -> str:
    """Returns the journal's text for a snapshot.

    Args:
        since: the statements that were executed after it was read and before the one whose entry holds this; None where the journal's other entries tell.
    """
    document = {**snapshot.document(), **({} if since is None else {"since": list(since)})}
    return json.dumps(document, ensure_ascii=True, separators=(",", ":"))


def loaded(text: str) -> tuple[Snapshot, tuple[str, ...] | None] | None:
    """Reads what `dumped` wrote; None for anything else (a later version's)."""
    try:
        document = json.loads(text)
        since = document.get("since")
        return parse(document), None if since is None else tuple(since)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
