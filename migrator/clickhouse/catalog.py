"""Do objects exist, and are they usable? Asked of the server's system tables, on every replica where a cluster is configured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from migrator.clickhouse import failures
from migrator.clickhouse.session import Session, literal
from migrator.engines import Finding
from migrator.planning.objects import Kind, ObjectName

_LOOKUPS: dict[Kind, str] = {
    Kind.TABLE: "SELECT database, '', name FROM {tables} WHERE NOT is_temporary",
    Kind.VIEW: "SELECT database, '', name FROM {tables} WHERE engine LIKE '%View'",
    Kind.MATERIALIZED_VIEW: "SELECT database, '', name FROM {tables} WHERE engine = 'MaterializedView'",
    Kind.DICTIONARY: "SELECT database, '', name FROM {dictionaries} WHERE true",
    Kind.COLUMN: "SELECT database, table, name FROM {columns} WHERE true",
    Kind.INDEX: "SELECT database, table, name FROM {data_skipping_indices} WHERE true",
    Kind.PROJECTION: "SELECT database, table, name FROM {projections} WHERE true",
    Kind.DATABASE: "SELECT '', '', name FROM {databases} WHERE true",
    Kind.FUNCTION: "SELECT '', '', name FROM {functions} WHERE origin = 'SQLUserDefined'",
}
_HOST = "concat(hostName(), ':', toString(tcpPort()))"
_UNKNOWN_TO_SERVER = frozenset({failures.UNKNOWN_TABLE, 47})


def inspect(session: Session, expected: Iterable[ObjectName]) -> list[Finding]:
    """Looks objects up on this server, or on every replica where a cluster is configured.

    Raises:
        failures.Refusal, failures.Lost.
    """
    findings: list[Finding] = []
    by_kind: dict[Kind, list[ObjectName]] = {}
    for item in sorted(expected):
        by_kind.setdefault(item.kind, []).append(item)
    for kind, items in by_kind.items():
        findings += _missing(session, kind, items)
    if Kind.DICTIONARY in by_kind:
        findings += _failed_dictionaries(session, by_kind[Kind.DICTIONARY])
    return findings


def _missing(session: Session, kind: Kind, items: list[ObjectName]) -> list[Finding]:
    if kind not in _LOOKUPS:
        return [Finding(str(item), "not checked", f"ClickHouse has no list of its {kind}s") for item in items]
    try:
        found = _hosts_by_object(session, kind, items)
    except failures.Refusal as refusal:
        if refusal.code not in _UNKNOWN_TO_SERVER:
            raise
        return [Finding(str(item), "not checked", f"this server has no list of its {kind}s") for item in items]
    hosts = frozenset().union(*found.values()) if not session.cluster else _all_hosts(session)
    findings = []
    for item in items:
        absent = hosts - found.get(item, frozenset())
        if item not in found:
            findings.append(Finding(str(item), "missing", "it does not exist"))
        elif absent:
            findings.append(Finding(str(item), "missing", f"it does not exist on {', '.join(sorted(absent))}"))
    return findings


def _hosts_by_object(session: Session, kind: Kind, items: Sequence[ObjectName]) -> dict[ObjectName, frozenset[str]]:
    tables = ("tables", "dictionaries", "columns", "data_skipping_indices", "projections", "databases", "functions")
    lookup = _LOOKUPS[kind].format(**{name: session.everywhere(f"system.{name}") for name in tables})
    lookup = lookup.replace("SELECT ", f"SELECT {_HOST}, ", 1)
    databases = sorted({item.schema or session.database for item in items})
    if kind not in (Kind.DATABASE, Kind.FUNCTION):
        lookup += f" AND database IN ({', '.join(literal(name) for name in databases)})"
    wanted = {
        (item.schema if kind in (Kind.DATABASE, Kind.FUNCTION) else item.schema or session.database, item.parent, item.name): item
        for item in items
    }
    found: dict[ObjectName, set[str]] = {}
    for host, database, parent, name in session.rows(lookup):
        item = wanted.get((database, parent, name))
        if item is not None:
            found.setdefault(item, set()).add(str(host))
    return {item: frozenset(hosts) for item, hosts in found.items()}


def _all_hosts(session: Session) -> frozenset[str]:
    return frozenset(str(row[0]) for row in session.rows(f"SELECT DISTINCT {_HOST} FROM {session.everywhere('system.one')}"))


def _failed_dictionaries(session: Session, items: Sequence[ObjectName]) -> list[Finding]:
    """Finds dictionaries that exist but can't be loaded. One that was never asked for is loaded lazily and counts as fine."""
    wanted = {(item.schema or session.database, item.name): item for item in items}
    rows = session.rows(
        f"SELECT {_HOST}, database, name, last_exception FROM {session.everywhere('system.dictionaries')} WHERE status LIKE 'FAILED%'"
    )
    return [
        Finding(str(wanted[database, name]), "invalid", f"it can't be loaded on {host}: {str(reason)[:200]}")
        for host, database, name, reason in rows
        if (database, name) in wanted
    ]


def exists(session: Session, item: ObjectName) -> bool | None:
    """Tells whether an object exists; None when only some of a cluster's replicas have it."""
    found = _hosts_by_object(session, item.kind, [item]).get(item, frozenset())
    if found and session.cluster and found != _all_hosts(session):
        return None
    return bool(found)
