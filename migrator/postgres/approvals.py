"""`greylag_approval` on PostgreSQL: read and begun under the lock, used in the very transaction that writes the last history row.

The table is writable by its owner alone from the moment it exists, whatever default privileges the schema has: who could delete its rows could use an
approval twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from migrator.planning import approvals
from migrator.planning.approvals import Approval, State
from migrator.postgres import failures, grants
from migrator.postgres.history_tables import HistoryTables
from migrator.postgres.pipelines import message
from migrator.postgres.session import Session

_CREATE = """CREATE TABLE IF NOT EXISTS {table} (
  approval text NOT NULL,
  version bigint NOT NULL,
  state text NOT NULL,
  run_id text NOT NULL,
  at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  PRIMARY KEY (approval, version)
)"""


def begin(session: Session, where: HistoryTables, approval: Approval, versions: Sequence[int], run_id: str) -> None:
    """Notes that the approval is begun, before the first statement; the caller holds the lock. Raises PlanRefused (`approval-used`)."""
    table = where.approvals
    try:
        if session.query("SELECT pg_catalog.to_regclass($1)", table)[0][0] is None:
            made = session.batch([message("BEGIN"), message(_CREATE.format(table=table)), grants.revocations([table])])[-1]
            session.batch([*(message(text or "") for (text,) in made), message("COMMIT")])
        if approvals.may_go_on(approval, _read(session, table, approval), versions):
            return
        session.batch(
            [
                message(
                    f"INSERT INTO {table} (approval, version, state, run_id) VALUES ($1, $2, $3, $4) ON CONFLICT (approval, version) DO NOTHING",
                    approval.identity,
                    approvals.WHOLE,
                    State.BEGUN,
                    run_id,
                )
            ]
        )
    except failures.ServerFailure as failure:
        session.rollback()
        raise failures.of_server(failure, f"to note the approval in {approvals.TABLE}") from None


def end(session: Session, where: HistoryTables, approval: Approval) -> None:
    """Notes that nothing is left of a begun approval's plan; the caller holds the lock."""
    try:
        if session.query("SELECT pg_catalog.to_regclass($1)", where.approvals)[0][0] is not None:
            session.batch(
                [message(f"UPDATE {where.approvals} SET state = '{State.USED}' WHERE approval = $1 AND version = 0", approval.identity)]
            )
    except failures.ServerFailure as failure:
        session.rollback()
        raise failures.of_server(failure, f"to note the approval in {approvals.TABLE}") from None


def _read(session: Session, table: str, approval: Approval) -> dict[int, str]:
    rows = session.query(f"SELECT version, state FROM {table} WHERE approval = $1", approval.identity)
    return {int(version or 0): state or "" for version, state in rows}


def consuming(where: HistoryTables, *, identity: int, run_id: int, last: int) -> str:
    """Returns the part of a record's statement that notes a version as applied, and with the plan's last one the approval as used.

    Args:
        identity, run_id, last: the numbers of the statement's parameters: the approval, the run, whether this is the plan's last version; the version is $1.
    """
    table = where.approvals
    return (
        f", noted AS (INSERT INTO {table} (approval, version, state, run_id) VALUES (${identity}, $1, '{State.APPLIED}', ${run_id})"
        f" ON CONFLICT (approval, version) DO UPDATE SET state = excluded.state, run_id = excluded.run_id, at = excluded.at)"
        f", used AS (UPDATE {table} SET state = '{State.USED}', at = pg_catalog.clock_timestamp()"
        f" WHERE approval = ${identity} AND version = {approvals.WHOLE} AND ${last}::boolean)"
    )
