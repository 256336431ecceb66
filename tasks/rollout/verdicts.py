"""Where a rollout stands, and why."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Progress(enum.Enum):
    """Where a rollout stands."""

    NOT_YET = "not rolled out yet"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A progress and why."""

    progress: Progress
    reason: str
