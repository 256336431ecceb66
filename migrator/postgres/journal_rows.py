"""The rows of `greylag_journal`: written and read for `postgres.autocommit`, answered by a person through `repair` (architecture.md §2.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from migrator import targets
from migrator.planning import journal, plans, questions
from migrator.postgres import failures
from migrator.postgres.history import TIME, Author
from migrator.postgres.history_tables import HistoryTables
from migrator.postgres.pipelines import Message, message
from migrator.postgres.session import Session


@dataclass(frozen=True, slots=True)
class Journalled:
    """A journal entry with what the catalogue held before its statement ran (`settling` wrote it, and reads it)."""

    entry: journal.Entry
    before: str


def entry(
    where: HistoryTables, step: plans.Step, index: int, state: journal.State, author: Author, note: str, before: str | None = None
) -> Message:
    """Writes one entry of the journal. `note` is SQL for what the transaction notes of itself (`evidence`)."""
    digest = journal.digest(step.statements[index - 1], step.direction)
    return message(
        f"INSERT INTO {where.journal} (version, direction, statement, digest, state, run_id, at, before, xids, gone)"
        f" SELECT $1, $2, $3, $4, $5, $6, pg_catalog.clock_timestamp(), $7, e.xids, e.gone FROM {note} AS e",
        step.version,
        str(step.direction),
        index,
        digest,
        str(state),
        author.run_id,
        before,
    )


def since(where: HistoryTables, step: plans.Step, index: int) -> str:
    """Returns SQL for the id of the transaction that wrote a statement's *started* row."""
    return (
        f"coalesce((SELECT (s.xids)[1] FROM {where.journal} AS s WHERE s.version = {step.version} AND s.statement = {index}"
        f" AND s.state = '{journal.State.STARTED}' ORDER BY s.id DESC LIMIT 1), pg_catalog.pg_current_xact_id()::xid)"
    )


def read(session: Session, where: HistoryTables, version: int, before: Sequence[Message] = ()) -> list[Journalled]:
    """Returns the journal's entries of one migration, oldest first. `before` is sent in the same round trip."""
    asked = message(f"{_selected(where)} WHERE version = $1 ORDER BY id", version)
    return [_journalled(row) for row in session.batch([*before, asked])[-1]]


def read_all(session: Session, where: HistoryTables) -> tuple[journal.Entry, ...]:
    """Returns the entries of every migration, oldest first; none without the table. Raises as `failures.of_server`."""
    try:
        if session.query("SELECT pg_catalog.to_regclass($1)", where.journal)[0][0] is None:
            return ()
        return tuple(_journalled(row).entry for row in session.query(f"{_selected(where)} ORDER BY id"))
    except failures.ServerFailure as failure:
        raise failures.of_server(failure, f"to read {journal.TABLE}") from None


def _selected(where: HistoryTables) -> str:
    moment = f"pg_catalog.to_char(at AT TIME ZONE 'UTC', {TIME})"
    return f"SELECT run_id, version, direction, statement, digest, state, {moment}, before FROM {where.journal}"


def _journalled(row: Sequence[str | None]) -> Journalled:
    run_id, version, direction, index, digest, state, at, before = (item or "" for item in row)
    entry = journal.Entry(
        run_id=run_id,
        version=int(version),
        direction=targets.Direction(direction),
        index=int(index),
        digest=digest,
        state=journal.State(state),
        at=datetime.fromisoformat(at).replace(tzinfo=UTC),
    )
    return Journalled(entry, before)


def answer(session: Session, where: HistoryTables, version: int, index: int, state: journal.State, run_id: str) -> None:
    """Writes a person's answer about a statement whose outcome is unknown.

    The empty digest says that the answer holds whatever the file says now. Raises NotFound (`no-question`) when no entry asks.
    """
    try:
        if session.query("SELECT pg_catalog.to_regclass($1)", where.journal)[0][0] is None:
            rows: list[tuple[str | None, ...]] = []
        else:
            rows = session.query(
                f"INSERT INTO {where.journal} (version, direction, statement, digest, state, run_id, at, before)"
                " SELECT version, direction, statement, '', $3, $4, pg_catalog.clock_timestamp(), before"
                f" FROM (SELECT * FROM {where.journal} WHERE version = $1 AND statement = $2 ORDER BY id DESC LIMIT 1) AS newest RETURNING id",
                version,
                index,
                str(state),
                run_id,
            )
    except failures.ServerFailure as failure:
        raise failures.of_server(failure, f"to write {journal.TABLE}") from None
    if not rows:
        raise questions.none_open(version, index)
