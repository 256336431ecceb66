"""`greylag_fact`: what the catalogue held before each run and what was another after it; written by the run, read by `verify` (facts.md §6).

An entry is one run. Its *before* is in the table ere anything is executed, with everything that its statements name; so nothing is lost when the run is
killed: the next one writes the *after* that is missing, and `verify` takes what it finds for it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from migrator.clickhouse import describing, folding, journalling
from migrator.clickhouse import history as tables
from migrator.clickhouse.folding import Key, Snapshot
from migrator.clickhouse.history import DESCRIBED, HistoryTables
from migrator.clickhouse.reading import canonical, definitions, mentions
from migrator.clickhouse.reading.definitions import Description
from migrator.clickhouse.run import Run
from migrator.clickhouse.session import Session, literal
from migrator.engines import Finding, SchemaCheck
from migrator.planning import journal, schema_comparison

_BEFORE, _AFTER, _GONE = "before", "after", "gone"
_HEAD = "run"
"""The kind of the row that each phase of an entry has, whatever it found: with it the phase is complete."""


@dataclass(frozen=True)
class Begun:
    """The entry of a run that has begun; `finish` completes it."""

    snapshot: Snapshot


def begin(run: Run) -> Begun | None:
    """Completes what broken runs owe and records what this one's statements name. Returns None when they name nothing, so that nothing is left to do.

    Raises:
        failures.Refusal, failures.Lost, LockUnavailable.
    """
    if not run.journal_is_new:
        _pay(run)
    scope = mentions.of(run.steps)
    nothing = not scope.names and not scope.whole
    before = describing.in_scope(run.session, run.where, scope)
    snapshot = Snapshot(secrets.token_hex(8), run.session.database, run.session.version, scope, before)
    head = json.dumps(scope.document(), separators=(",", ":"))
    rows = [_row(_BEFORE, _HEAD, text=head), *(_described(_BEFORE, item) for item in before.values())]
    _write(run, snapshot, [*rows, _row(_AFTER, _HEAD)] if nothing else rows)
    return None if nothing else Begun(snapshot)


def finish(run: Run, begun: Begun) -> None:
    """Records what is another now. Raises as `begin`."""
    assert begun.snapshot.scope is not None
    _complete(run, begun.snapshot, describing.in_scope(run.session, run.where, begun.snapshot.scope))


def _pay(run: Run) -> None:
    """Writes what is missing of the runs that were broken off."""
    for item in read(run.session, run.where, unfinished=True):
        if item.scope is not None and item.after is None and item.home == run.session.database:
            _complete(run, item, describing.in_scope(run.session, run.where, item.scope))


def _complete(run: Run, snapshot: Snapshot, now: folding.Objects) -> None:
    changed = folding.changes(snapshot.before, now)
    rows = [
        _described(_AFTER, item) if item is not None else _described(_GONE, replace(snapshot.before[key], text="", uuid=""))
        for key, item in changed.items()
    ]
    _write(run, snapshot, [_row(_AFTER, _HEAD), *rows])


# --- rows -------------------------------------------------------------------------------------------------------------------------


def _row(phase: str, kind: str, database: str = "", name: str = "", uuid: str = "", text: str = "") -> tuple[str, ...]:
    return phase, kind, database, name, uuid, text


def _described(phase: str, item: Description) -> tuple[str, ...]:
    return _row(phase, item.kind, item.database, item.name, item.uuid, item.text)


def _statement(where: HistoryTables, snapshot: Snapshot, run_id: str, rows: Iterable[tuple[str, ...]]) -> bytes:
    columns = "history_table, entry, run_id, home, server, phase, kind, database, name, uuid, text"
    same = (where.name, snapshot.identity, run_id, snapshot.home, snapshot.server)
    lines = b"".join(tables.line(*same, *row) for row in rows)
    return f"INSERT INTO {where.side(DESCRIBED)} ({columns}) FORMAT TabSeparated\n".encode() + lines


def _write(run: Run, snapshot: Snapshot, rows: Iterable[tuple[str, ...]]) -> None:
    described_now = replace(snapshot, server=run.session.version)
    journalling.write(run, _statement(run.where, described_now, run.options.run_id, rows), f"{run.session.prefix}schema")


def read(session: Session, where: HistoryTables, *, unfinished: bool = False) -> list[Snapshot]:
    """Reads the entries, oldest first; those alone whose *after* is missing, if asked. Raises failures.Refusal, failures.Lost."""
    table = where.side(DESCRIBED)
    of_history = f"history_table = {literal(where.name)}"
    only = (
        f" AND entry NOT IN (SELECT entry FROM {table} WHERE {of_history} AND phase = '{_AFTER}' AND kind = '{_HEAD}')"
        if unfinished
        else ""
    )
    rows = session.rows(
        f"SELECT entry, home, server, phase, kind, database, name, uuid, text FROM {table} WHERE {of_history}{only} ORDER BY at",
        {} if where.profile is tables.Profile.SINGLE else {"select_sequential_consistency": 1},
    )
    by_entry: dict[str, list[list[str]]] = {}
    for entry, *row in rows:
        by_entry.setdefault(entry, []).append(row)
    return [_snapshot(entry, group) for entry, group in by_entry.items()]


def _snapshot(entry: str, rows: Sequence[Sequence[str]]) -> Snapshot:
    before: dict[Key, Description] = {}
    after: dict[Key, Description | None] = {}
    heads: dict[str, str] = {}
    home, server = rows[0][0], rows[-1][1]
    for _, _, phase, kind, *described, text in rows:
        if kind == _HEAD:
            heads[phase] = text
            continue
        item = Description(kind, described[0], described[1], text, described[2])
        if phase == _BEFORE:
            before[item.key] = item
        else:
            after[item.key] = item if phase == _AFTER else None
    scope = mentions.of_document(json.loads(heads[_BEFORE])) if _BEFORE in heads else None
    proven = json.loads(heads[_AFTER])["proven"] if scope is None else ()
    return Snapshot(entry, home, server, scope, before, after if _AFTER in heads else None, tuple(proven))


# --- baseline ---------------------------------------------------------------------------------------------------------------------


def record_all(session: Session, where: HistoryTables, run_id: str) -> str:
    """Makes what is there what is recorded. Returns what there is to say about it. Raises failures.Refusal, failures.Lost."""
    earlier = _schemas(session, where)
    different = len(next(iter(earlier.values())).compare().differences)
    databases, functions = _named(read(session, where), session.database)
    found = next(iter(describing.everything(session, where, databases, functions).values()))
    snapshot = Snapshot(secrets.token_hex(8), session.database, session.version, None)
    head = json.dumps({"proven": _applied(session, where)})
    rows = [_row(_AFTER, _HEAD, text=head), *(_described(_AFTER, item) for item in found.values())]
    session.command(_statement(where, snapshot, run_id, rows))
    count = len(folding.facts_of(found.values(), session.database))
    changed = f"; {different} difference(s) count as they are now" if different else ""
    return f"recorded {count} object(s) of the schema{changed}"


def _applied(session: Session, where: HistoryTables) -> list[int]:
    rows = session.rows(
        f"SELECT version_id, argMax(is_applied, tstamp) AS applied FROM {where.sql} WHERE version_id > 0 GROUP BY version_id ORDER BY version_id"
    )
    return [int(version) for version, applied in rows if int(applied)]


# --- comparing --------------------------------------------------------------------------------------------------------------------


def schema(session: Session, where: HistoryTables) -> schema_comparison.Schema:
    """Returns what is recorded and what is found on this server. Writes nothing. Raises failures.Refusal, failures.Lost."""
    return next(iter(_schemas(session, where).values()))


def _schemas(session: Session, where: HistoryTables) -> dict[str, schema_comparison.Schema]:
    """Returns the same for each replica where a cluster is configured, by host."""
    existing = tables.existing(session, where)
    applied = _applied(session, where) if where.name in existing else []
    if DESCRIBED not in existing:  # an older greylag, goose, or nobody
        return {"": schema_comparison.Schema((), (), at_home=False, unproven=tuple(applied), complete=False)}
    recorded = read(session, where)
    databases, functions = _named(recorded, session.database)
    hosts = describing.everything(session, where, databases, functions)
    foreign = _of_other_histories(session, where)
    begun = {item.entry.version for item in tables.read_journal(session, where)} if journal.TABLE in existing else set()
    known = _Known(tuple(applied), frozenset(begun), foreign)
    found = {host: _schema(session, recorded, now, known) for host, now in hosts.items()}
    if all(item.server == session.version for item in recorded) or not any(item.compare().differences for item in found.values()):
        return found
    # another release may print the same thing in another way: this one is asked how it would print what was recorded
    recorded, hosts = _reprinted(session, recorded, hosts)
    return {host: _schema(session, recorded, now, known) for host, now in hosts.items()}


@dataclass(frozen=True)
class _Known:
    """What the tables say beside the entries: applied versions, those that a run has begun and not finished, and what other histories have recorded."""

    applied: tuple[int, ...]
    begun: frozenset[int]
    others: frozenset[tuple[str, str]]


def _schema(session: Session, recorded: Sequence[Snapshot], now: folding.Objects, known: _Known) -> schema_comparison.Schema:
    folded = folding.fold(recorded, now, session.database)
    own = {fact.key for fact in folded.facts}
    found = [
        item
        for key, item in now.items()
        if (item.kind not in ("function", "database") and key[1:] not in known.others)
        or definitions.facts(item, session.database)[0].key in own
    ]
    return schema_comparison.Schema(
        recorded=folded.facts,
        found=folding.facts_of(found, session.database),
        at_home=True,
        unproven=tuple(version for version in known.applied if version not in folded.versions),
        undescribed=folded.undescribed,
        applied=known.begun.union(known.applied),
    )


def _named(recorded: Sequence[Snapshot], database: str) -> tuple[frozenset[str], frozenset[str]]:
    """Returns the other databases and the functions that entries hold something of."""
    databases: set[str] = set()
    functions: set[str] = set()
    for item in recorded:
        for kind, within, name in item.after or ():
            if kind == "function":
                functions.add(name)
            else:
                databases.add(name if kind == "database" else within)
        if item.scope is not None and item.after is None:  # broken off: what it names is looked at
            functions |= item.scope.names if item.scope.functions else set()
            databases |= item.scope.names
        databases.discard(item.home)
    return frozenset(databases - {database}), frozenset(functions)


def _of_other_histories(session: Session, where: HistoryTables) -> frozenset[tuple[str, str]]:
    """Returns database and name of what other services' histories in the same database have recorded, and of their version tables."""
    rows = session.rows(
        f"SELECT DISTINCT database, name FROM {where.side(DESCRIBED)} WHERE history_table != {literal(where.name)} AND phase = '{_AFTER}'"
        f" UNION ALL SELECT DISTINCT home, history_table FROM {where.side(DESCRIBED)} WHERE history_table != {literal(where.name)}"
    )
    return frozenset((str(database), str(name)) for database, name in rows)


def _reprinted(
    session: Session, recorded: Sequence[Snapshot], hosts: Mapping[str, dict[Key, Description]]
) -> tuple[list[Snapshot], dict[str, dict[Key, Description]]]:
    described = [
        item for snapshot in recorded for item in (*snapshot.before.values(), *(snapshot.after or {}).values()) if item is not None
    ]
    described += [item for now in hosts.values() for item in now.values()]
    texts = sorted({item.text for item in described if item.kind != "database"})
    printed = dict(zip(texts, canonical.canonical(session, texts), strict=True))

    def again(item: Description) -> Description:
        return replace(item, text=printed.get(item.text) or item.text)

    snapshots_again = [
        replace(
            snapshot,
            before={key: again(item) for key, item in snapshot.before.items()},
            after=None if snapshot.after is None else {key: again(item) if item else None for key, item in snapshot.after.items()},
        )
        for snapshot in recorded
    ]
    return snapshots_again, {host: {key: again(item) for key, item in now.items()} for host, now in hosts.items()}


def check(session: Session, where: HistoryTables) -> SchemaCheck:
    """Compares what is recorded with what is found, as `engines.Database.check_schema` promises. Raises failures.Refusal, failures.Lost."""
    schemas = _schemas(session, where)
    compared = {host: item.compare() for host, item in schemas.items()}
    first = next(iter(compared.values()))
    everywhere = [item for item in first.differences if all(item in other.differences for other in compared.values())]
    findings = [_finding(item) for item in everywhere]
    for host, comparison in compared.items():
        findings += [_finding(item, host) for item in comparison.differences if item not in everywhere]
    return SchemaCheck(
        findings=tuple(findings),
        checked=first.checked,
        foreign=tuple(dict.fromkeys(item for comparison in compared.values() for item in comparison.foreign)),
        notes=tuple(dict.fromkeys(item for comparison in compared.values() for item in comparison.notes)),
        unproven=next(iter(schemas.values())).unproven,
    )


def _finding(item: schema_comparison.Difference, host: str = "") -> Finding:
    author = f"{item.author}; on {host}" if host else item.author
    return Finding(item.subject, item.state, author, item.expected, item.found, item.version)
