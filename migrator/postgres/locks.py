"""How long statements may wait for their locks, and how often (promises.md §5; the locks: postgresql.md §1).

A DDL statement that waits for its lock makes everybody wait who comes after it: the lock queue is the outage, not the DDL. So work that
blocks readers or writers waits briefly, gives up as a whole and tries again later; work that blocks nobody waits as long as it takes.
Pure: classes in, seconds out.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from migrator.goose import notes
from migrator.postgres.reading.lock_classes import LockClass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """What a transaction is given, in seconds; 0 is no limit. `lock` is for all its waits together, `budget` bounds their retries."""

    lock: float
    statement: float
    budget: float


def timeouts(lock_class: LockClass, file: notes.Notes, *, lock_timeout: float, statement_timeout: float, budget: float) -> Timeouts:
    """Returns the time-outs for one statement; the file's own notes win over the run's.

    Work that stalls nobody gets no lock time-out: CREATE INDEX CONCURRENTLY under a short one leaves an invalid index behind (postgresql.md §3).
    """
    lock = lock_timeout if file.lock_timeout is None else file.lock_timeout
    return Timeouts(
        lock=lock if lock_class.blocks else 0.0,
        statement=statement_timeout if file.statement_timeout is None else file.statement_timeout,
        budget=budget if file.lock_budget is None else file.lock_budget,
    )


def least(whole: float) -> float:
    """Returns the seconds that a wait is always given, whatever earlier ones have used up: enough for a lock that is about to become free."""
    return whole / 8


def share(whole: float, waits: int) -> float:
    """Returns the seconds for each of the waits of one statement, so that all together take no longer than `whole`; 0 stays 0, no limit."""
    return max(whole / max(waits, 1), least(whole))


def longest(whole: float) -> float:
    """Returns the seconds after its first strong lock beyond which a transaction can't only have waited. It works then, which stalls the others anyway,
    and a lock that is given up too soon would only mean that the work is done again."""
    return 2 * whole


_FIRST_DELAY = 0.3
_LONGEST_DELAY = 1.4
"""Seconds. With a lock time-out of 0.2 s a try starts at most 1.6 s after the blocker has gone, so that the work is done within 2 s; and others
are stalled for at most a fifth of the time."""


def delay(attempt: int, chance: Callable[[], float] = random.random) -> float:
    """Returns the seconds to wait before try number `attempt` + 1: growing, and with jitter, so that several runs don't stay in step."""
    longest = min(_LONGEST_DELAY, _FIRST_DELAY * 1.6 ** (attempt - 1))
    return longest * (0.5 + 0.5 * chance())
