"""goose's version table and greylag's side tables on ClickHouse: their SQL and what is read from it (goose.md §4.2, architecture.md §2.6).

goose's table has exactly goose's columns and is written exactly as goose writes it. The side tables lie in the same database; all carry the
name of the version table they belong to, because several services may keep their histories side by side.
"""

from __future__ import annotations

import enum
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from migrator import errors
from migrator.clickhouse import failures
from migrator.clickhouse.session import Session, array, literal, quote
from migrator.planning import journal
from migrator.planning.history import Fact, History, Row
from migrator.targets import Direction, Engine

FACTS = "greylag_migration"
DESCRIBED = "greylag_fact"
"""What the runs found before and after them in the catalogue: the facts of the schema (`recording`)."""

EVIDENCE = f"{journal.TABLE}.evidence"
"""Stands among the names of tables for the journal's columns `text` and `evidence`, which journals of earlier versions lack."""

_DRAFT = "greylag_draft_"
_EVIDENCE_COLUMNS = ("text String DEFAULT '' CODEC(ZSTD)", "evidence String DEFAULT '' CODEC(ZSTD)")
_DRAFT_SECONDS = 60  # far longer than the two statements between a draft and its renaming take


class Profile(enum.StrEnum):
    """How the tables are kept. `single` is proven on real servers; the other two are experimental."""

    SINGLE = "single"
    ON_CLUSTER = "on_cluster"
    REPLICATED = "replicated"


_IDENTIFIER = r"(?:`(?:[^`\\]|\\.)+`|\"(?:[^\"\\]|\\.)+\"|[A-Za-z_]\w*)"
_NAME = re.compile(rf"\s*(?:({_IDENTIFIER})\s*\.\s*)?({_IDENTIFIER})\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class HistoryTables:
    """goose's version table and greylag's: `table` as it was given, which goose pastes unquoted into its SQL, and its parts."""

    table: str
    database: str
    name: str
    profile: Profile = Profile.SINGLE
    cluster: str = ""

    @property
    def sql(self) -> str:
        """Returns the version table, qualified: a file's USE must not lead elsewhere."""
        return f"{quote(self.database)}.{quote(self.name)}"

    def side(self, name: str) -> str:
        """Returns a side table, qualified."""
        return f"{quote(self.database)}.{name}"

    @property
    def on_cluster(self) -> str:
        """Returns the clause behind a table's name."""
        return f" ON CLUSTER {quote(self.cluster)}" if self.profile is Profile.ON_CLUSTER else ""

    def engine(self, name: str) -> str:
        """Returns the engine of a table; a Replicated database fills in the path itself."""
        if self.profile is Profile.ON_CLUSTER:  # one log for all shards: every node knows the whole history
            return f"ReplicatedMergeTree('/clickhouse/greylag/{{database}}/{name}', '{{shard}}-{{replica}}')"
        return "ReplicatedMergeTree" if self.profile is Profile.REPLICATED else "MergeTree()"


def located(table: str, database: str, profile: Profile, cluster: str) -> HistoryTables:
    """Returns where a history lies, by goose's -table.

    Raises UsageError for a text that is no table's name.
    """
    found = _NAME.fullmatch(table)
    if found is None:
        raise errors.UsageError(f'"{table}" is not the name of a table', code="bad-table", hint="write table or database.table")
    return HistoryTables(table, _plain(found[1]) if found[1] else database, _plain(found[2]), profile, cluster)


def _plain(identifier: str) -> str:
    return re.sub(r"\\(.)", r"\1", identifier[1:-1]) if identifier[0] in '`"' else identifier


# --- reading ----------------------------------------------------------------------------------------------------------------------


def existing(session: Session, where: HistoryTables) -> frozenset[str]:
    """Returns the names of those of the four tables that exist, and `EVIDENCE`."""
    names = array((where.name, FACTS, journal.TABLE, DESCRIBED))
    rows = session.rows(
        f"SELECT name, position(create_table_query, '`evidence`') FROM system.tables WHERE database = {literal(where.database)} AND has({names}, name)"
    )
    return frozenset(str(row[0]) for row in rows) | {EVIDENCE for row in rows if row[0] == journal.TABLE and int(row[1])}


def read(session: Session, where: HistoryTables, tables: frozenset[str] | None = None) -> History:
    """Reads rows and facts. Writes nothing. The order is goose's, by version (goose.md §4.2); rows of one version newest first."""
    found = existing(session, where) if tables is None else tables
    if where.name not in found:
        return History(Engine.CLICKHOUSE, exists=False, table=where.table)
    rows = _rows(session, where)
    return History(
        Engine.CLICKHOUSE,
        exists=True,
        rows=tuple(Row(int(row[0]), bool(row[1]), datetime.fromisoformat(row[2]), str(row[3])) for row in rows),
        facts=_facts(session, where) if FACTS in found else (),
        table=where.table,
    )


def _rows(session: Session, where: HistoryTables) -> list[list[Any]]:
    """Reads goose's rows. Raises PlanRefused (`rows-hidden`) where the table's parts hold more rows than this user is shown: a row policy gives no error."""
    stored = f"(SELECT any(total_rows) FROM system.tables WHERE database = {literal(where.database)} AND name = {literal(where.name)})"
    for _ in range(2):  # a rollback may remove a row between the two counts, hardly twice
        rows = session.rows(
            f"SELECT version_id, is_applied, toString(tstamp), toString(toUnixTimestamp(tstamp)), {stored}"
            f" FROM {where.sql} ORDER BY version_id DESC, tstamp DESC",
            _consistent(where),
        )
        total = rows[0][4] if rows else session.row(f"SELECT {stored}")[0]
        hidden = int(total or 0) - len(rows)
        if hidden <= 0 or _masked(session, where):
            return rows
    raise errors.PlanRefused(
        f"{hidden} of the {total} rows of {where.sql} are hidden from this user, so what is applied can't be known",
        code="rows-hidden",
        hint=f"a row policy hides them (SHOW ROW POLICIES ON {where.sql}): exempt the migrating user, "
        f"CREATE ROW POLICY greylag ON {where.sql} USING 1 TO the user, or drop the policy",
    )


def _masked(session: Session, where: HistoryTables) -> bool:
    """Tells whether somebody used DELETE FROM on the table: such rows stay in the parts until a merge, so that counts prove nothing."""
    try:
        counted = session.row(
            f"SELECT count() FROM system.parts WHERE database = {literal(where.database)} AND table = {literal(where.name)}"
            " AND active AND has_lightweight_delete"
        )
    except failures.Refusal:  # no grant on system.parts
        return False
    return int(counted[0]) > 0


def _consistent(where: HistoryTables) -> dict[str, str | int]:
    return {} if where.profile is Profile.SINGLE else {"select_sequential_consistency": 1}


def _facts(session: Session, where: HistoryTables) -> tuple[Fact, ...]:
    rows = session.rows(
        "SELECT version, row_identity, name, checksum, size, bundle, run_id, applied_by, toUnixTimestamp64Micro(applied_at), seconds, oldest_app,"
        " COLUMNS('^accepted$')"
        f" FROM {where.side(FACTS)} WHERE history_table = {literal(where.name)}"
        " ORDER BY recorded_at DESC LIMIT 1 BY version, row_identity",
        _consistent(where),
    )
    return tuple(
        Fact(
            version=int(row[0]),
            row_identity=row[1],
            name=row[2],
            checksum=row[3],
            size=int(row[4]),
            bundle=row[5],
            down_text=b"",
            run_id=row[6],
            applied_by=row[7],
            applied_at=datetime.fromtimestamp(int(row[8]) / 1e6, UTC),
            seconds=float(row[9]),
            oldest_app=None if row[10] is None else int(row[10]),
            accepted="".join(map(str, row[11:])),
        )
        for row in reversed(rows)
    )


def down_text(session: Session, where: HistoryTables, version: int) -> bytes | None:
    """Returns the recorded file of a version that is applied; None without a fact that belongs to a living row."""
    if FACTS not in existing(session, where):
        return None
    rows = session.rows(
        f"SELECT hex(down_text) FROM {where.side(FACTS)} WHERE history_table = {literal(where.name)} AND version = {version:d} AND row_identity IN"
        f" (SELECT toString(toUnixTimestamp(tstamp)) FROM {where.sql} WHERE version_id = {version:d}) ORDER BY recorded_at DESC LIMIT 1"
    )
    return bytes.fromhex(rows[0][0]) if rows else None


def identities(session: Session, where: HistoryTables, versions: Iterable[int]) -> dict[int, str]:
    """Returns per version the identity of its newest row."""
    numbers = ", ".join(str(version) for version in versions)
    rows = session.rows(
        f"SELECT version_id, toString(toUnixTimestamp(max(tstamp))) FROM {where.sql} WHERE version_id IN ({numbers}) GROUP BY version_id",
        _consistent(where),
    )
    return {int(row[0]): str(row[1]) for row in rows}


def identified(session: Session, where: HistoryTables, facts: Sequence[Fact]) -> list[Fact]:
    """Returns facts with the identity and the time of the rows that they belong to; those without a row are left out."""
    found = identities(session, where, {fact.version for fact in facts}) if facts else {}
    return [
        replace(fact, row_identity=found[fact.version], applied_at=moment_of(found[fact.version]))
        for fact in facts
        if fact.version in found
    ]


def moment_of(identity: str) -> datetime:
    """Returns when a row was written, by the server's clock; its identity says so."""
    return datetime.fromtimestamp(int(identity), UTC)


@dataclass(frozen=True, slots=True)
class Planned:
    """A journal entry with its where in the run's order."""

    position: int
    entry: journal.Entry


def answered(asked: Planned, state: journal.State) -> Planned:
    """Returns the entry that answers a question: it holds for whatever text the file has."""
    return replace(asked, entry=replace(asked.entry, state=state, digest=""))


def read_journal(session: Session, where: HistoryTables, *, evidence: bool = False) -> tuple[Planned, ...]:
    """Reads the entries that no finished or abandoned migration has made void, oldest first.

    A version's entry of index 0 voids what was written before it, not what was written with it.

    Args:
        evidence: reads the statements' texts and what was noted before them, too.
    """
    table = where.side(journal.TABLE)
    more = "text, evidence" if evidence else "'', ''"
    rows = session.rows(
        f"SELECT run_id, position, version, direction, statement, digest, state, toUnixTimestamp64Micro(at), {more}"
        f" FROM {table} AS entry LEFT JOIN (SELECT version, max(at) AS void FROM {table}"
        f" WHERE history_table = {literal(where.name)} AND statement = 0 GROUP BY version) AS closed USING (version)"
        f" WHERE history_table = {literal(where.name)} AND statement > 0 AND at >= void ORDER BY at, position, statement",
        _consistent(where),
    )
    return tuple(
        Planned(
            int(row[1]),
            journal.Entry(
                run_id=row[0],
                version=int(row[2]),
                direction=Direction(row[3]),
                index=int(row[4]),
                digest=row[5],
                state=journal.State(row[6]),
                at=datetime.fromtimestamp(int(row[7]) / 1e6, UTC),
                text=row[8],
                evidence=row[9],
            ),
        )
        for row in rows
    )


# --- writing ----------------------------------------------------------------------------------------------------------------------


def ensure(session: Session, where: HistoryTables, tables: frozenset[str]) -> None:
    """Creates what is absent. The version table appears with row 0 in it: an empty one would stop goose for good (goose.md §4.3)."""
    if where.name not in tables:
        _create_history(session, where)
    if FACTS not in tables:
        session.command(
            f"CREATE TABLE IF NOT EXISTS {where.side(FACTS)}{where.on_cluster} (history_table String, version Int64, row_identity String,"
            " name String, checksum String, size UInt64, bundle String, down_text String CODEC(ZSTD), run_id String, applied_by String,"
            " applied_at DateTime64(6), seconds Float64, oldest_app Nullable(Int64), recorded_at DateTime64(6) DEFAULT now64(6))"
            f" ENGINE = {where.engine(FACTS)} ORDER BY (history_table, version, recorded_at)"
        )
    if journal.TABLE not in tables:
        session.command(
            f"CREATE TABLE IF NOT EXISTS {where.side(journal.TABLE)}{where.on_cluster} (history_table String, run_id String, position UInt32,"
            " version Int64, direction String, statement UInt32, digest String, state String, at DateTime64(6) DEFAULT now64(6),"
            f" {_EVIDENCE_COLUMNS[0]}, {_EVIDENCE_COLUMNS[1]}) ENGINE = {where.engine(journal.TABLE)} ORDER BY (history_table, version, at)"
        )
    elif EVIDENCE not in tables:
        added = ", ".join(f"ADD COLUMN IF NOT EXISTS {column}" for column in _EVIDENCE_COLUMNS)
        session.command(f"ALTER TABLE {where.side(journal.TABLE)}{where.on_cluster} {added}")
    if DESCRIBED not in tables:
        session.command(
            f"CREATE TABLE IF NOT EXISTS {where.side(DESCRIBED)}{where.on_cluster} (history_table String, entry String, run_id String, phase String,"
            " home String, server String, kind String, database String, name String, uuid String, text String CODEC(ZSTD),"
            f" at DateTime64(6) DEFAULT now64(6)) ENGINE = {where.engine(DESCRIBED)} ORDER BY (history_table, at)"
        )


def ensure_accepted(session: Session, where: HistoryTables) -> None:
    """Makes the column of the facts that says which lossy hazards were accepted, and why. Hardly any database ever needs it."""
    session.command(f"ALTER TABLE {where.side(FACTS)}{where.on_cluster} ADD COLUMN IF NOT EXISTS accepted String")


def _create_history(session: Session, where: HistoryTables) -> None:
    """Creates the version table by goose's own DDL, under another name until row 0 is in; the renaming is atomic."""
    if where.profile is not Profile.SINGLE:
        session.command(_history_ddl(where, where.sql))
        session.command(_first_row(where))
        return
    _drop_old_drafts(session, where)
    draft = f"{quote(where.database)}.{_DRAFT}{secrets.token_hex(4)}"
    session.command(_history_ddl(where, draft))
    try:
        session.command(f"INSERT INTO {draft} (version_id, is_applied) VALUES (0, 1)")
        session.command(f"RENAME TABLE {draft} TO {where.sql}")
    except failures.Refusal as refusal:
        session.command(f"DROP TABLE IF EXISTS {draft}")
        if refusal.code == failures.NOT_SUPPORTED:  # this database's engine has no RENAME
            session.command(_history_ddl(where, where.sql))
            session.command(_first_row(where))
        elif refusal.code != failures.TABLE_EXISTS:  # somebody else was first
            raise


def _first_row(where: HistoryTables) -> str:
    return f"INSERT INTO {where.sql} (version_id, is_applied) SELECT 0, 1 WHERE (SELECT count() FROM {where.sql}) = 0"


def _drop_old_drafts(session: Session, where: HistoryTables) -> None:
    """Drops drafts of the version table that a run left behind when it was killed between creating and renaming one."""
    rows = session.rows(
        f"SELECT name FROM system.tables WHERE database = {literal(where.database)} AND startsWith(name, '{_DRAFT}')"
        f" AND metadata_modification_time < now() - {_DRAFT_SECONDS}"
    )
    for row in rows:
        session.command(f"DROP TABLE IF EXISTS {quote(where.database)}.{quote(str(row[0]))}")


def _history_ddl(where: HistoryTables, name: str) -> str:
    return (
        f"CREATE TABLE IF NOT EXISTS {name}{where.on_cluster} (version_id Int64, is_applied UInt8, date Date default now(),"
        f" tstamp DateTime default now()) ENGINE = {where.engine(where.name)} ORDER BY (date)"
    )


def row_statement(where: HistoryTables, version: int, direction: Direction) -> bytes:
    """Returns the statement that records a finished migration, as goose writes it (goose.md §4.2)."""
    if direction is Direction.UP:
        return f"INSERT INTO {where.sql} (version_id, is_applied) VALUES ({version:d}, 1)".encode()
    return f"ALTER TABLE {where.sql} DELETE WHERE version_id = {version:d} SETTINGS mutations_sync = 2".encode()


def copy_statement(where: HistoryTables, version: int, number: int) -> bytes:
    """Writes the rows of a version under another number with their times, unless that has rows."""
    return (
        f"INSERT INTO {where.sql} (version_id, is_applied, date, tstamp) SELECT {number:d}, is_applied, date, tstamp FROM {where.sql}"
        f" WHERE version_id = {version:d} AND (SELECT count() FROM {where.sql} WHERE version_id = {number:d}) = 0"
    ).encode()


def facts_statement(where: HistoryTables, facts: Sequence[Fact]) -> bytes:
    """Writes facts, all in one insert."""
    told = any(fact.accepted for fact in facts)  # else the column may not be there
    lines = [
        line(
            where.name,
            fact.version,
            fact.row_identity,
            fact.name,
            fact.checksum,
            fact.size,
            fact.bundle,
            fact.down_text,
            fact.run_id,
            fact.applied_by,
            _moment(fact.applied_at),
            fact.seconds,
            fact.oldest_app,
            *([fact.accepted] if told else []),
        )
        for fact in facts
    ]
    columns = (
        "history_table, version, row_identity, name, checksum, size, bundle, down_text, run_id, applied_by, applied_at, seconds, oldest_app"
    ) + (", accepted" if told else "")
    return f"INSERT INTO {where.side(FACTS)} ({columns}) FORMAT TabSeparated\n".encode() + b"".join(lines)


def journal_statement(where: HistoryTables, entries: Iterable[Planned]) -> bytes:
    """Writes journal entries, all in one insert: they share one time, the server's."""
    lines = [
        line(
            where.name,
            item.entry.run_id,
            item.position,
            item.entry.version,
            item.entry.direction,
            item.entry.index,
            item.entry.digest,
            item.entry.state,
            item.entry.text,
            item.entry.evidence,
        )
        for item in entries
    ]
    columns = "history_table, run_id, position, version, direction, statement, digest, state, text, evidence"
    return f"INSERT INTO {where.side(journal.TABLE)} ({columns}) FORMAT TabSeparated\n".encode() + b"".join(lines)


def _moment(at: datetime) -> str:
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    return f"{aware.timestamp():.6f}"


_ESCAPES = {0x5C: b"\\\\", 0x09: b"\\t", 0x0A: b"\\n", 0x0D: b"\\r", 0x00: b"\\0"}
_SPECIAL = re.compile(rb"[\\\t\n\r\0]")


def line(*values: object) -> bytes:
    """Returns one line of TabSeparated."""
    fields = []
    for value in values:
        raw = value if isinstance(value, bytes) else b"\\N" if value is None else str(value).encode("utf-8", "surrogateescape")
        fields.append(raw if value is None else _SPECIAL.sub(lambda found: _ESCAPES[found[0][0]], raw))
    return b"\t".join(fields) + b"\n"
