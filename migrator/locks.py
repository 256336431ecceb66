"""Lock and time-out policy by statement shape (promises.md §5; the locks: postgresql.md §1).

A DDL statement that waits for its lock makes everybody wait who comes after it: the lock queue is the outage, not the DDL. So work that
blocks readers or writers waits briefly, gives up as a whole and tries again later; work that blocks nobody waits as long as it takes.
Pure: words in, classes and seconds out.
"""

from __future__ import annotations

import enum
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from migrator import notes


class LockClass(enum.IntEnum):
    """Whom the strongest lock of a statement stops, while it is held and while it is waited for."""

    NONE = 0  # takes no lock on anything that exists
    ROWS = 1  # at most ROW EXCLUSIVE: reads, INSERT, UPDATE, DELETE
    MAINTENANCE = 2  # SHARE UPDATE EXCLUSIVE: stops other maintenance only
    WRITERS = 3  # SHARE, SHARE ROW EXCLUSIVE, EXCLUSIVE: stops INSERT, UPDATE, DELETE
    EVERYONE = 4  # ACCESS EXCLUSIVE: stops SELECT too

    @property
    def blocks(self) -> bool:
        """Whether waiting for it stalls readers or writers that come after."""
        return self >= LockClass.WRITERS


@dataclass(frozen=True, slots=True)
class Timeouts:
    """What a transaction is given, in seconds; 0 is no limit. `lock` is for all its waits together, `budget` bounds their retries."""

    lock: float
    statement: float
    budget: float


def timeouts(lock_class: LockClass, file: notes.Notes, *, lock_timeout: float, statement_timeout: float, budget: float) -> Timeouts:
    """The time-outs for one statement; the file's own notes win over the run's.

    Work that stalls nobody gets no lock time-out: CREATE INDEX CONCURRENTLY under a short one leaves an invalid index behind (postgresql.md §3).
    """
    lock = lock_timeout if file.lock_timeout is None else file.lock_timeout
    return Timeouts(
        lock=lock if lock_class.blocks else 0.0,
        statement=statement_timeout if file.statement_timeout is None else file.statement_timeout,
        budget=budget if file.lock_budget is None else file.lock_budget,
    )


def least(whole: float) -> float:
    """Seconds that a wait is always given, whatever earlier ones have used up: enough for a lock that is about to become free."""
    return whole / 8


def share(whole: float, waits: int) -> float:
    """Seconds for each of the waits of one statement, so that all together take no longer than `whole`; 0 stays 0, no limit."""
    return max(whole / max(waits, 1), least(whole))


def longest(whole: float) -> float:
    """Seconds after its first strong lock beyond which a transaction can't only have waited: it works, others are stalled by that, and a lock that
    is given up too soon would only have the work done again."""
    return 2 * whole


_FIRST_DELAY = 0.3
_LONGEST_DELAY = 1.4
"""Seconds. With a lock time-out of 0.2 s a try starts at most 1.6 s after the blocker has gone, so that the work is done within 2 s; and others
are stalled for at most a fifth of the time."""


def delay(attempt: int, chance: Callable[[], float] = random.random) -> float:
    """Seconds to wait before try number `attempt` + 1: growing, and with jitter, so that several runs don't stay in step."""
    longest = min(_LONGEST_DELAY, _FIRST_DELAY * 1.6 ** (attempt - 1))
    return longest * (0.5 + 0.5 * chance())


# --- classes by the words of a command ----------------------------------------------------------------------------------------------

# fmt: off
_ROWS = frozenset({
    "SELECT", "VALUES", "TABLE", "WITH", "INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "EXPLAIN", "CALL", "EXECUTE", "DECLARE",
    "FETCH", "MOVE", "CLOSE", "PREPARE", "IMPORT",
})
# fmt: on
# fmt: off
_NO_LOCK = frozenset({
    "SET", "RESET", "SHOW", "BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "GRANT", "REVOKE",
    "DISCARD", "DEALLOCATE", "LISTEN", "NOTIFY", "UNLISTEN", "LOAD", "CHECKPOINT", "SECURITY",
})
# fmt: on
_MAINTENANCE = frozenset({"ANALYZE", "ANALYSE", "COMMENT"})
_DDL_IN_BODY = re.compile(
    r"\b(?:alter|drop|truncate|reindex|cluster|refresh|lock\s+table|create\s+(?:unique\s+)?index|create\s+(?:constraint\s+)?trigger|references)\b",
    re.IGNORECASE,
)
_CONCURRENTLY = re.compile(r"\bconcurrently\b", re.IGNORECASE)
_FULL = re.compile(r"\bfull\b", re.IGNORECASE)
_REFERENCES = re.compile(r"\breferences\b", re.IGNORECASE)
_PARTITION = re.compile(r"\b(?:partition\s+of|(?:attach|detach)\s+partition|inherits?)\b", re.IGNORECASE)
_PARTITION_OF = re.compile(r"\b(?:partition\s+of|inherits)\b", re.IGNORECASE)
# fmt: off
_GLOBAL_OBJECTS = frozenset({
    "ROLE", "USER", "GROUP", "DATABASE", "SYSTEM", "DEFAULT", "TABLESPACE", "FUNCTION", "PROCEDURE", "ROUTINE", "AGGREGATE",
    "OPERATOR", "COLLATION", "CONVERSION", "LANGUAGE", "SERVER", "TEXT", "CAST", "TRANSFORM", "ACCESS", "EVENT", "SUBSCRIPTION",
})
# fmt: on
"""Kinds whose ALTER and DROP lock no relation. (A function that a column uses can't be dropped without CASCADE, which is another matter.)"""


def of_words(words: Sequence[str], text: str) -> LockClass:
    """The class of one command.

    Args:
        words: its first words in capitals (`lexer.Command.words`).
        text: the whole command, looked into where the words don't decide. When in doubt the class is the stronger one, which only means that
            its lock waits are short and retried.
    """
    first = words[0] if words else ""
    if first in _ROWS or not first:  # without a word: a query in parentheses, or nothing that a server takes
        return LockClass.ROWS
    if first in _NO_LOCK:
        return LockClass.NONE
    if first in _MAINTENANCE:
        return LockClass.MAINTENANCE
    if first == "DO":
        return LockClass.EVERYONE if _DDL_IN_BODY.search(text) else LockClass.ROWS
    if first == "CREATE":
        return _of_create([word for word in words[1:] if word not in ("OR", "REPLACE")], text, replace="REPLACE" in words)
    if first == "REFRESH":
        return LockClass.WRITERS if _CONCURRENTLY.search(text) else LockClass.EVERYONE
    if first == "VACUUM":
        return LockClass.EVERYONE if _FULL.search(text) else LockClass.MAINTENANCE
    if first == "REINDEX":
        return LockClass.MAINTENANCE if _CONCURRENTLY.search(text) else LockClass.EVERYONE
    if first in ("ALTER", "DROP"):
        return _of_change(first, words[1:], text)
    return LockClass.EVERYONE


def waits(words: Sequence[str], text: str) -> int:
    """How many tables one command that blocks others asks for, one after the other, as far as its words tell.

    (The partitions of a table and what CASCADE reaches are not in the words.)
    """
    listed = words[:1] and words[0] in ("DROP", "TRUNCATE", "LOCK")
    others = text.count(",") if listed else len(_REFERENCES.findall(text)) + len(_PARTITION.findall(text))
    is_new = words[:1] == ("CREATE",) and "TABLE" in words  # nobody else can hold its lock
    return max(others, 1) if is_new else 1 + others


def _of_create(words: Sequence[str], text: str, *, replace: bool) -> LockClass:
    kind = next(
        (word for word in words if word not in ("UNIQUE", "CONSTRAINT", "TEMP", "TEMPORARY", "UNLOGGED", "RECURSIVE", "FOREIGN")), ""
    )
    if kind == "TABLE":
        if _PARTITION_OF.search(text):
            return LockClass.EVERYONE
        return LockClass.WRITERS if _REFERENCES.search(text) else LockClass.NONE
    if kind == "INDEX":
        return LockClass.MAINTENANCE if _CONCURRENTLY.search(text) else LockClass.WRITERS
    if kind == "TRIGGER":
        return LockClass.WRITERS
    if kind == "VIEW":
        return LockClass.EVERYONE if replace else LockClass.ROWS
    if kind == "MATERIALIZED":
        return LockClass.ROWS
    if kind in ("RULE", "POLICY"):
        return LockClass.EVERYONE
    if kind in ("STATISTICS", "PUBLICATION"):
        return LockClass.MAINTENANCE
    if kind == "SCHEMA":  # may hold CREATE TABLE and more
        return LockClass.WRITERS if _REFERENCES.search(text) else LockClass.NONE
    return LockClass.NONE


def _of_change(verb: str, words: Sequence[str], text: str) -> LockClass:
    kind = words[0] if words else ""
    if kind in _GLOBAL_OBJECTS:
        return LockClass.NONE
    if kind == "INDEX" and verb == "DROP" and _CONCURRENTLY.search(text):
        return LockClass.MAINTENANCE
    if kind == "SEQUENCE" and verb == "ALTER":
        return LockClass.WRITERS
    return LockClass.EVERYONE
