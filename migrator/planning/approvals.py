"""How an approval is used up in one database: begun with its first statement, used with its plan's last history row (pure).

While it is begun, it lets what is left of its plan run; once it is used, nothing. Each version that ran under it is noted too, so that it does not run
again although its history row has gone.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from migrator import errors

TABLE = "greylag_approval"
"""The table's name, in both engines: approval, version, state, run_id, at."""

WHOLE = 0
"""The version under which the approval itself is noted; goose's own row 0 is no migration either."""


class State(enum.StrEnum):
    """What a row says: of the approval itself `begun` or `used`, of a version `applied`."""

    BEGUN = "begun"
    APPLIED = "applied"
    USED = "used"


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval under which a run applies something.

    Args:
        identity: what tells it from every other approval.
        until: seconds since the epoch until which it may be begun; None sets no limit. What is begun may be resumed later.
        signed: whether `until` is the approval's own end; else it is that of the previous environment's proof.
    """

    identity: str
    until: float | None = None
    signed: bool = False


def may_go_on(approval: Approval, recorded: Mapping[int, str], versions: Iterable[int]) -> bool:
    """Tells whether the approval is begun already; False means that it is to be begun now.

    Raises PlanRefused: `approval-used` (used, or one of these versions has already run under it), `approval-expired` or `proof-expired` (too late to begin).
    """
    _require_unspent(approval, recorded, versions)
    if WHOLE in recorded:
        return True
    _require_in_time(approval, time.time())
    return False


def _require_in_time(approval: Approval, now: float) -> None:
    if approval.until is None or now <= approval.until:
        return
    if approval.signed:
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(approval.until))
        raise errors.PlanRefused(
            f"the approval ended at {moment}, before anything was applied under it",
            code="approval-expired",
            hint="plan again, and approve the new plan",
        )
    raise errors.PlanRefused(
        "the first statement comes too late: the previous environment's proof is older than ten minutes",
        code="proof-expired",
        hint="nothing was applied; Retry asks for a new proof",
    )


def _require_unspent(approval: Approval, recorded: Mapping[int, str], versions: Iterable[int]) -> None:
    short = approval.identity[:12]
    if recorded.get(WHOLE) == State.USED:
        raise errors.PlanRefused(
            f"approval {short} is used: its plan was applied here",
            code="approval-used",
            hint="promote again, and approve the new plan; if history rows have gone, find out who removed them",
        )
    again = sorted(version for version in versions if recorded.get(version) == State.APPLIED)
    if again:
        raise errors.PlanRefused(
            f"version {again[0]} was already applied under approval {short}, and its history row has gone",
            code="approval-used",
            hint="find out who removed the row; then promote again, and approve the new plan",
        )
