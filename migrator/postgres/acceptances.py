"""Which lossy hazards of a file were accepted, and why: a column of greylag's facts that is there once it was needed.

Hardly any database ever has one, so nobody pays for it: the column is made before the first file that has something to record, and read by `history`
alone.
"""

from __future__ import annotations

from migrator.postgres import failures
from migrator.postgres.history_tables import FACTS, HistoryTables
from migrator.postgres.session import Session

_COLUMN = "accepted"


def prepare(session: Session, where: HistoryTables) -> None:
    """Makes the column, where it is missing."""
    try:
        if not _exists(session, where):
            session.query(f"ALTER TABLE {where.facts} ADD COLUMN IF NOT EXISTS {_COLUMN} text")
    except failures.ServerFailure as failure:
        raise failures.of_server(failure, f"to add a column to {FACTS}") from None


def read(session: Session, where: HistoryTables) -> dict[int, str]:
    """Returns what was accepted, by version; nothing where nothing ever was."""
    try:
        rows = session.query(f"SELECT version, {_COLUMN} FROM {where.facts} WHERE {_COLUMN} IS NOT NULL") if _exists(session, where) else []
    except failures.ServerFailure as failure:
        raise failures.of_server(failure, f"to read {FACTS}") from None
    return {int(version or 0): accepted or "" for version, accepted in rows}


def _exists(session: Session, where: HistoryTables) -> bool:
    return bool(
        session.query(
            "SELECT 1 FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass($1) AND attname = $2 AND NOT attisdropped",
            where.facts,
            _COLUMN,
        )
    )
