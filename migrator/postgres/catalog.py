"""Do the objects that the files leave behind exist, and are they valid? One query per kind of object, whatever their number.

A name without a schema may be in any schema that isn't the server's own: which one depended on the search path of the session that made it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable

from migrator.engines import Finding
from migrator.planning.objects import Kind, ObjectName
from migrator.postgres import failures
from migrator.postgres.session import Session

_GIVEN = (
    "WITH given AS (SELECT (e ->> 0)::int AS n, e ->> 1 AS nsp, e ->> 2 AS name, e ->> 3 AS parent"
    " FROM pg_catalog.json_array_elements($1::json) AS e) "
)

_IN_SCHEMA = (
    "(given.nsp = s.nspname OR given.nsp = '' AND s.nspname NOT IN ('pg_catalog', 'information_schema')"
    " AND s.nspname NOT LIKE 'pg\\_toast%' AND s.nspname NOT LIKE 'pg\\_temp%')"
)

_NAMESPACE = "JOIN pg_catalog.pg_namespace AS s ON s.oid = {column} AND " + _IN_SCHEMA


def _relation(kinds: str, state: str = "true", more: str = "") -> str:
    letters = ", ".join(f"'{kind}'" for kind in kinds)
    return (
        f"SELECT given.n, pg_catalog.bool_or({state}) FROM given JOIN pg_catalog.pg_class AS c ON c.relname = given.name AND c.relkind IN ({letters})"
        f" {_NAMESPACE.format(column='c.relnamespace')} {more} GROUP BY given.n"
    )


def _of_table(catalog: str, state: str = "true") -> str:
    """Objects that hang on a table; `catalog` joins them as x."""
    return (
        f"SELECT given.n, pg_catalog.bool_or({state}) FROM given JOIN pg_catalog.pg_class AS c ON c.relname = given.parent"
        f" {_NAMESPACE.format(column='c.relnamespace')} JOIN {catalog} GROUP BY given.n"
    )


_QUERIES: dict[Kind, str] = {
    Kind.TABLE: _relation("rpf"),
    Kind.VIEW: _relation("v"),
    Kind.MATERIALIZED_VIEW: _relation("m"),
    Kind.SEQUENCE: _relation("S"),
    Kind.INDEX: _relation("iI", "i.indisvalid AND i.indisready", "JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.oid"),
    Kind.COLUMN: _of_table("pg_catalog.pg_attribute AS x ON x.attrelid = c.oid AND x.attname = given.name AND NOT x.attisdropped"),
    Kind.CONSTRAINT: _of_table(
        "pg_catalog.pg_constraint AS x ON x.conrelid = c.oid AND x.conname = given.name"
        " LEFT JOIN pg_catalog.pg_index AS i ON i.indexrelid = x.conindid AND x.contype IN ('p', 'u', 'x')",
        "x.convalidated AND coalesce(i.indisvalid, true)",
    ),
    Kind.TRIGGER: _of_table("pg_catalog.pg_trigger AS x ON x.tgrelid = c.oid AND x.tgname = given.name AND NOT x.tgisinternal"),
    Kind.FUNCTION: "SELECT given.n, true FROM given JOIN pg_catalog.pg_proc AS p ON p.proname = given.name "
    + _NAMESPACE.format(column="p.pronamespace")
    + " GROUP BY given.n",
    Kind.TYPE: "SELECT given.n, true FROM given JOIN pg_catalog.pg_type AS t ON t.typname = given.name "
    + _NAMESPACE.format(column="t.typnamespace")
    + " GROUP BY given.n",
    Kind.SCHEMA: "SELECT given.n, true FROM given JOIN pg_catalog.pg_namespace AS s ON s.nspname = given.name",
    Kind.EXTENSION: "SELECT given.n, true FROM given JOIN pg_catalog.pg_extension AS e ON e.extname = given.name",
}

_INVALID = {
    Kind.INDEX: "its build was not finished (indisvalid is false): drop it and build it again",
    Kind.CONSTRAINT: "it was never validated (convalidated is false): ALTER TABLE … VALIDATE CONSTRAINT",
}


def inspect(session: Session, expected: Iterable[ObjectName]) -> list[Finding]:
    """Looks each object up; returns what is missing or invalid, and what this catalogue can't be asked about. Reads only.

    Raises what the connection raises.
    """
    by_kind: dict[Kind, list[ObjectName]] = defaultdict(list)
    for item in sorted(expected):
        by_kind[item.kind].append(item)
    findings: list[Finding] = []
    for kind, items in by_kind.items():
        query = _QUERIES.get(kind)
        if query is None:
            findings += [Finding(str(item), "not checked", f"PostgreSQL has no {kind}") for item in items]
        else:
            findings += _compare(session, kind, items, query)
    return findings


def _compare(session: Session, kind: Kind, items: list[ObjectName], query: str) -> list[Finding]:
    given = json.dumps([[number, item.schema, item.name, item.parent] for number, item in enumerate(items)])
    try:
        states = {int(number or 0): valid == "t" for number, valid in session.query(_GIVEN + query, given)}
    except failures.ServerFailure as failure:
        raise failures.of_server(failure, "to look into the catalogue") from None
    missing = [Finding(str(item), "missing", _absence(item)) for number, item in enumerate(items) if number not in states]
    invalid = [Finding(str(item), "invalid", _INVALID.get(kind, "")) for number, item in enumerate(items) if states.get(number) is False]
    return missing + invalid


def _absence(item: ObjectName) -> str:
    where = f"schema {item.schema} has" if item.schema else "no schema has"
    return f"{where} {'no ' if item.schema else ''}such {item.kind}" + (f" on {item.parent}" if item.parent else "")
