"""The data that all parts of one run under the lock share: the session, the tables, the lock, the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from migrator.clickhouse.history import HistoryTables
from migrator.clickhouse.lock import MigrationLock
from migrator.clickhouse.session import Session
from migrator.engines import Options
from migrator.planning import events
from migrator.planning.approvals import Approval
from migrator.planning.plans import Plan, Step


@dataclass(frozen=True)
class Run:
    """One `execute` of `engines.Database`.

    Args:
        began: by the server's clock.
        journal_is_new: this very run made its table: no earlier run left anything.
    """

    session: Session
    where: HistoryTables
    lock: MigrationLock
    options: Options
    plan: Plan
    steps: Sequence[Step]
    listener: events.Listener
    began: datetime
    journal_is_new: bool
    approval: Approval | None = None

    def query_id(self, step: Step, index: int) -> str:
        """Returns a statement's id in `system.processes` and the query log: greylag-<12 of the run>-<version>-<direction>-<statement>."""
        return f"{self.session.prefix}{step.version}-{step.direction}-{index}"
