"""Applies a plan: takes the lock, plans again, executes what is left, and reports (architecture.md §2.3)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from migrator import engines
from migrator.databases import Database
from migrator.planning import events, journal, planner, refusals
from migrator.planning.approvals import Approval
from migrator.planning.plans import ACCEPT_NOTHING, Plan, Policy
from migrator.targets import Direction


@dataclass(frozen=True)
class Report:
    """The result of one run. `plan` is the plan as it was made again under the lock; `finished` holds one event for each recorded migration.

    `left`: the connection's `Options.leave` asked to stop at a boundary. Planning and applying again on another connection does the rest.
    """

    plan: Plan
    finished: tuple[events.MigrationFinished, ...]
    seconds: float
    left: bool = False

    @property
    def statements(self) -> int:
        """Number of statements executed, all migrations together."""
        return sum(item.statements for item in self.finished)

    def document(self) -> dict[str, object]:
        """Returns the report as JSON-ready data."""
        return {
            "verb": str(self.plan.target.verb),
            "finished": [item.document() for item in self.finished],
            "statements": self.statements,
            "seconds": round(self.seconds, 3),
        }


def apply(
    database: Database,
    plan: Plan,
    listener: events.Listener = events.ignore,
    *,
    approved_digest: str = "",
    approval: Approval | None = None,
    policy: Policy = ACCEPT_NOTHING,
    env: Mapping[str, str] | None = None,
) -> Report:
    """Executes a plan.

    Under the lock the history is read again and the plan is made again. If the remaining steps are part of the given plan, in its order, they are
    applied; so a second runner finds nothing to do and succeeds. A plan without steps takes no lock, so that a pod with nothing to do never waits.

    Args:
        approved_digest: the digest of the approved plan; only that plan, or the rest of it, passes.
        approval: the approval under which a protected environment is changed: begun before the first statement, used with the last history row.
        policy, env: as given to `planner.plan`.

    Raises:
        PlanRefused: `plan-moved`, `approval-mismatch`, `approval-used`, `proof-expired`, `cluster-unnamed`, `half-applied`.
        And whatever `Database.lock` and `Database.execute` raise; migrations that were finished before stay finished and recorded.
    """
    started = time.monotonic()
    finished: list[events.MigrationFinished] = []

    def listen(event: events.Event) -> None:
        if isinstance(event, events.MigrationFinished):
            finished.append(event)
        listener(event)

    if not plan.steps:
        return Report(plan, (), time.monotonic() - started)
    database.require_fit(plan)
    with database.lock(listen):
        history = database.ensure_history() if plan.target.versioning else database.read_history()
        rest = planner.remaining(plan, history, policy=policy, env=env)
        if rest.target.versioning and any(step.direction is Direction.DOWN for step in rest.steps):
            refusals.require_finished(rest, journal.unfinished(database.read_journal(), history.applied))
        if approved_digest:
            refusals.require_approved(approved_digest, rest, history)
        if approval is not None:
            database.begin_approval(approval, rest.steps)
        left = False
        try:
            if rest.steps:
                database.execute(rest, rest.steps, listen)
        except engines.Left:
            left = True
    return Report(rest, tuple(finished), time.monotonic() - started, left)
