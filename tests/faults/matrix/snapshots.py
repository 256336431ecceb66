"""What two databases are compared by: schema, data, history. Read past greylag, by SQL of the tests' own."""

from __future__ import annotations

from typing import Any

import psycopg

from sandbox.databases.clickhouse import ClickHouseServer, identifier

Snapshot = tuple[tuple[str, ...], ...]

_PG_CLASS = "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
_POSTGRES = (
    "SELECT 'table', n.nspname, c.relname, c.relkind::text, c.relispartition::text, pg_get_userbyid(c.relowner)"
    " FROM {classes} WHERE {own} AND c.relkind <> 'i' AND c.relkind <> 'I'",
    "SELECT 'column', c.relname, a.attnum::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,"
    " pg_get_expr(d.adbin, d.adrelid) FROM {classes} JOIN pg_attribute a ON a.attrelid = c.oid"
    " LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
    " WHERE {own} AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm')",
    "SELECT 'index', c.relname, pg_get_indexdef(i.indexrelid), i.indisvalid::text"
    " FROM {classes} JOIN pg_index i ON i.indrelid = c.oid WHERE {own}",
    "SELECT 'constraint', c.relname, k.conname, pg_get_constraintdef(k.oid), k.convalidated::text"
    " FROM {classes} JOIN pg_constraint k ON k.conrelid = c.oid WHERE {own}",
    "SELECT 'function', p.proname, pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
    " WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND p.prokind IN ('f', 'p')",
    "SELECT 'view', c.relname, pg_get_viewdef(c.oid) FROM {classes} WHERE {own} AND c.relkind IN ('v', 'm')",
    "SELECT 'trigger', c.relname, pg_get_triggerdef(t.oid) FROM {classes} JOIN pg_trigger t ON t.tgrelid = c.oid"
    " WHERE {own} AND NOT t.tgisinternal",
    "SELECT 'enum', t.typname, e.enumlabel, (row_number() OVER (PARTITION BY t.oid ORDER BY e.enumsortorder))::text"
    " FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid",
    "SELECT 'version', version_id::text, is_applied::text FROM goose_db_version",
    "SELECT 'record', version::text, checksum FROM greylag_migration",
    "SELECT 'journal', version::text FROM greylag_journal",
)
_OWN = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relname !~ '^(greylag_|goose_)'"


def postgres(url: str, *, counts_only: bool) -> Snapshot:
    """Reads a PostgreSQL database."""
    found: list[tuple[Any, ...]] = []
    with psycopg.connect(url, autocommit=True) as connection:
        for query in _POSTGRES:
            found += connection.execute(query.format(classes=_PG_CLASS, own=_OWN)).fetchall()  # type: ignore[arg-type]
        for _, schema, table, kind, *_ in [row for row in found if row[0] == "table" and row[3] in ("r", "p", "m")]:
            what = (
                "count(*)::text" if counts_only else "count(*)::text || ' ' || coalesce(md5(string_agg(t::text, ',' ORDER BY t::text)), '')"
            )
            row = connection.execute(f'SELECT {what} FROM "{schema}"."{table}" AS t').fetchone()  # type: ignore[arg-type]
            found.append(("data", schema, table, row[0] if row else "", kind))
    return tuple(sorted(tuple(str(item) for item in row) for row in found))


_CLICKHOUSE = (
    "SELECT 'table', name, engine, replaceRegexpAll(create_table_query, ' UUID \\'[-0-9a-f]+\\'', '') FROM system.tables"
    " WHERE database = currentDatabase() AND NOT is_temporary"
    " AND name NOT LIKE '.inner%' AND name NOT LIKE 'greylag%' AND name NOT LIKE 'goose%'",
    "SELECT 'unfinished mutation', table, command FROM system.mutations WHERE database = currentDatabase() AND NOT is_done",
    "SELECT 'function', name, create_query FROM system.functions"
    " WHERE origin = 'SQLUserDefined' AND startsWith(name, concat(currentDatabase(), '_'))",
    "SELECT 'version', version_id, argMax(is_applied, tstamp), count() FROM goose_db_version GROUP BY version_id",
)


def clickhouse(server: ClickHouseServer, database: str, *, counts_only: bool) -> Snapshot:
    """Reads a ClickHouse database; its own name reads as DB."""
    found: list[tuple[str, ...]] = []
    for query in _CLICKHOUSE:
        text = server.execute(f"{query} FORMAT TSVRaw", database).replace(database, "DB")
        found += [tuple(line.split("\t")) for line in text.splitlines()]
    for row in [row for row in found if row[0] == "table" and (row[2].endswith("MergeTree") or row[2] == "MaterializedView")]:
        name = row[1]
        what = "count()" if counts_only else "concat(toString(count()), ' ', toString(sum(cityHash64(*))))"
        found.append(("data", name, server.execute(f"SELECT {what} FROM {identifier(database)}.{identifier(name)}", database).strip()))
    return tuple(sorted(found))
