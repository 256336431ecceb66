"""The data that all parts of one execution share: the session, the tables, the author of the records, the limits of patience.

`connection` makes one `Run` for each call of `execute`, and passes it to `execution` (migrations in transactions) and `autocommit` (files with
`-- +goose NO TRANSACTION`), which ask it for a statement's time-outs. `boundary` is called where another connection could continue: between two
migrations, and between two statements of a file that isn't one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from migrator import engines
from migrator.planning import events, plans
from migrator.postgres import evidence, locks
from migrator.postgres.history import Author
from migrator.postgres.history_tables import HistoryTables
from migrator.postgres.reading import readings
from migrator.postgres.reading.lock_classes import LockClass
from migrator.postgres.session import Session

NOTES = {readings.Work.ADDS: evidence.OWN_ID, readings.Work.CHANGES: evidence.SHALLOW, readings.Work.RUNS: evidence.DEEP}
"""What a transaction notes, by the most that its statements may do: looking through the locks costs a small migration a tenth of its time."""


@dataclass(frozen=True)
class Run:
    """One `execute` of `engines.Database`."""

    session: Session
    where: HistoryTables
    policy: engines.LockPolicy
    author: Author
    listener: events.Listener
    versioning: bool
    leave: Callable[[], bool] = engines.stay
    watched: bool = False
    """Whether the database has event triggers, which run code at any statement."""

    def note(self, work: readings.Work) -> str:
        """Returns SQL for what a transaction notes about itself (facts.md §1). `work`: the most that its statements may do."""
        return NOTES[readings.Work.RUNS if self.watched else work]

    def boundary(self) -> None:
        """Marks a point at which another connection could continue the work. Raises `engines.Left` when this connection is to be left."""
        if self.leave():
            raise engines.Left

    def timeouts(self, step: plans.Step, lock: LockClass) -> locks.Timeouts:
        """Returns the time-outs of one statement; the file's own notes win over the run's."""
        return locks.timeouts(
            lock,
            step.notes,
            lock_timeout=self.policy.statement_lock_timeout,
            statement_timeout=self.policy.statement_timeout,
            budget=self.policy.budget,
        )


@dataclass
class Patience:
    """Retries of one migration's lock waits. `assist` is a table from which an autovacuum worker is to be sent away first."""

    attempt: int = 0
    since: float = field(default_factory=time.monotonic)
    assist: str = ""
