"""Does an object exist, and what is broken? Asked of the server's system tables, on every replica where a cluster is configured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from migrator.clickhouse import failures, mutations
from migrator.clickhouse.session import Session, literal
from migrator.engines import Finding, SchemaCheck
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


def with_ailments(session: Session, check: SchemaCheck) -> SchemaCheck:
    """Adds what is there and broken: mutations that fail for ever, dictionaries that can't be loaded. What this user may not read is a note.

    Raises:
        failures.Refusal, failures.Lost.
    """
    findings, notes = list(check.findings), list(check.notes)
    for what, look in (("mutations", _failing_mutations), ("dictionaries", _failed_dictionaries)):
        try:
            findings += look(session)
        except failures.Refusal as refusal:
            if refusal.code != failures.ACCESS_DENIED:
                raise
            notes.append(f"this user may not read system.{what}, so whether one fails isn't known: GRANT SELECT ON system.{what}")
    return replace(check, findings=tuple(findings), notes=tuple(notes))


def _failing_mutations(session: Session) -> list[Finding]:
    return [
        Finding(
            f"mutation {item.mutation_id} of table {item.table}",
            "failing",
            f"it never ends, and later ones of its table wait for it: {' '.join(item.reason.split())[:300]}; to give it up: {item.kill}",
            found=item.command,
        )
        for item in mutations.failing(session, [session.database])
    ]


def _failed_dictionaries(session: Session) -> list[Finding]:
    """Finds dictionaries of the connected database that exist but can't be loaded. One that was never asked for is loaded lazily and counts as fine."""
    rows = session.rows(
        f"SELECT {_HOST}, name, last_exception FROM {session.everywhere('system.dictionaries')}"
        f" WHERE database = {literal(session.database)} AND status LIKE 'FAILED%'"
    )
    return [Finding(f"dictionary {name}", "invalid", f"it can't be loaded on {host}: {str(reason)[:200]}") for host, name, reason in rows]


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


def exists(session: Session, item: ObjectName) -> bool | None:
    """Tells whether an object exists; None when only some of a cluster's replicas have it."""
    found = _hosts_by_object(session, item.kind, [item]).get(item, frozenset())
    if found and session.cluster and found != _all_hosts(session):
        return None
    return bool(found)
