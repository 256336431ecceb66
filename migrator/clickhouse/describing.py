"""The catalogue as `reading.definitions` describes objects: what is there now (facts.md §6)."""

from __future__ import annotations

from collections.abc import Iterable

from migrator.clickhouse.history import DESCRIBED, FACTS, HistoryTables
from migrator.clickhouse.lock import TABLE as LOCK
from migrator.clickhouse.reading import mentions
from migrator.clickhouse.reading.definitions import Description
from migrator.clickhouse.session import Session, array, literal
from migrator.planning import approvals, journal

_SYSTEM = ("system", "INFORMATION_SCHEMA", "information_schema")
_KIND = "multiIf(engine = 'Dictionary', 'dictionary', engine = 'MaterializedView', 'materialized view', engine LIKE '%View', 'view', 'table') AS kind"
_OWN = ("greylag_draft_", FACTS, journal.TABLE, approvals.TABLE, LOCK, DESCRIBED)
HOST = "concat(hostName(), ':', toString(tcpPort()))"


def in_scope(session: Session, where: HistoryTables, scope: mentions.Scope) -> dict[tuple[str, str, str], Description]:
    """Reads what a run may change, on this server."""
    if not scope.names and not scope.whole:
        return {}
    databases = sorted({session.database, *scope.names} - set(_SYSTEM))
    if scope.whole and not scope.names:  # too many names to list
        databases = [session.database]
    asked = _tables(where, "system.tables", databases, () if scope.whole else sorted(scope.names))
    if scope.functions:
        asked += f" UNION ALL {_functions('system.functions', sorted(scope.names))}"
    if scope.databases:
        asked += f" UNION ALL {_databases('system.databases', sorted(scope.names - {session.database}))}"
    return _by_key(session.rows(asked))


def everything(
    session: Session, where: HistoryTables, databases: Iterable[str], functions: Iterable[str]
) -> dict[str, dict[tuple[str, str, str], Description]]:
    """Reads the connected database and what else is named, by host: one, or each replica where a cluster is configured."""
    others = sorted({session.database, *databases})
    parts = [_tables(where, session.everywhere("system.tables"), others, (), HOST)]
    if functions := sorted(functions):
        parts.append(_functions(session.everywhere("system.functions"), functions, HOST))
    if created := [name for name in others if name != session.database]:
        parts.append(_databases(session.everywhere("system.databases"), created, HOST))
    rows = session.rows(" UNION ALL ".join(parts))
    found: dict[str, dict[tuple[str, str, str], Description]] = {}
    if session.cluster:  # a replica that has nothing is one too
        hosts = session.rows(f"SELECT DISTINCT {HOST} FROM {session.everywhere('system.one')}")
        found = {str(host): {} for (host,) in hosts}
    for host, *row in rows:
        item = _description(row)
        found.setdefault(str(host), {})[item.key] = item
    return found or {"": {}}


def _tables(where: HistoryTables, source: str, databases: Iterable[str], names: Iterable[str], host: str = "") -> str:
    own = " OR ".join(
        [
            f"database = {literal(where.database)} AND (name = {literal(where.name)} OR name IN {_list(_OWN[1:])})",
            f"startsWith(name, '{_OWN[0]}')",
            "startsWith(name, '.inner')",  # a materialized view's, and told with it
        ]
    )
    named = f" AND name IN {_list(names)}" if names else ""
    return (
        f"SELECT {host + ', ' if host else ''}{_KIND}, database, name, create_table_query AS text, toString(uuid) AS id FROM {source}"
        f" WHERE database IN {_list(databases)}{named} AND NOT is_temporary AND NOT ({own})"
    )


def _functions(source: str, names: Iterable[str], host: str = "") -> str:
    return (
        f"SELECT {host + ', ' if host else ''}'function' AS kind, '' AS database, name, create_query AS text, '' AS id FROM {source}"
        f" WHERE origin = 'SQLUserDefined' AND name IN {_list(names)}"
    )


def _databases(source: str, names: Iterable[str], host: str = "") -> str:
    return (
        f"SELECT {host + ', ' if host else ''}'database' AS kind, '' AS database, name, engine_full AS text, toString(uuid) AS id FROM {source}"
        f" WHERE name IN {_list(names)}"
    )


def _list(names: Iterable[str]) -> str:
    return f"({array(names)[1:-1] or 'NULL'})"


def _description(row: list[object]) -> Description:
    kind, database, name, text, uuid = (str(item) for item in row)
    return Description(kind, database, name, text, uuid)


def _by_key(rows: Iterable[list[object]]) -> dict[tuple[str, str, str], Description]:
    found = map(_description, rows)
    return {item.key: item for item in found}
