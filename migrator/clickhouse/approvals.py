"""`greylag_approval` on ClickHouse, which has no transactions: begun before the first statement, a version noted right after its history row.

A run that is killed between a history row and its note leaves the approval begun with nothing left of its plan; the next run that finds nothing left
notes it as used.
"""

from __future__ import annotations

from collections.abc import Sequence

from migrator.clickhouse import failures
from migrator.clickhouse.history import HistoryTables, Profile
from migrator.clickhouse.session import Session, literal
from migrator.planning import approvals
from migrator.planning.approvals import Approval, State


def begin(session: Session, where: HistoryTables, approval: Approval, versions: Sequence[int], run_id: str) -> None:
    """Notes that the approval is begun, before the first statement; the caller holds the lock. Raises PlanRefused (`approval-used`)."""
    name = approvals.TABLE
    session.command(
        f"CREATE TABLE IF NOT EXISTS {where.side(name)}{where.on_cluster} (history_table String, approval String, version Int64, state String,"
        f" run_id String, at DateTime64(6) DEFAULT now64(6)) ENGINE = {where.engine(name)} ORDER BY (history_table, approval, version, at)"
    )
    if not approvals.may_go_on(approval, _read(session, where, approval), versions):
        session.command(statement(where, approval, {approvals.WHOLE: State.BEGUN}, run_id))


def end(session: Session, where: HistoryTables, approval: Approval, run_id: str) -> None:
    """Notes that nothing is left of a begun approval's plan; the caller holds the lock."""
    try:
        recorded = _read(session, where, approval)
    except failures.Refusal as refusal:
        if refusal.code == failures.UNKNOWN_TABLE:
            return
        raise
    if recorded.get(approvals.WHOLE) == State.BEGUN:
        session.command(statement(where, approval, {approvals.WHOLE: State.USED}, run_id))


def statement(where: HistoryTables, approval: Approval, states: dict[int, State], run_id: str) -> bytes:
    """Returns the one insert that notes versions, or the approval itself."""
    rows = ", ".join(
        f"({literal(where.name)}, {literal(approval.identity)}, {version:d}, {literal(state)}, {literal(run_id)})"
        for version, state in states.items()
    )
    return f"INSERT INTO {where.side(approvals.TABLE)} (history_table, approval, version, state, run_id) VALUES {rows}".encode()


def _read(session: Session, where: HistoryTables, approval: Approval) -> dict[int, str]:
    settings: dict[str, str | int] = {} if where.profile is Profile.SINGLE else {"select_sequential_consistency": 1}
    rows = session.rows(
        f"SELECT version, argMax(state, (state = '{State.USED}', at)) FROM {where.side(approvals.TABLE)}"
        f" WHERE history_table = {literal(where.name)} AND approval = {literal(approval.identity)} GROUP BY version",
        settings,
    )
    return {int(row[0]): str(row[1]) for row in rows}
