"""What a statement is by its words alone, without a server: read once, and kept with its step."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from migrator.planning import plans


@dataclass(frozen=True, slots=True)
class Reading:
    """One statement.

    Args:
        head: its first word in capitals.
        leaves_no_trace: whether the catalogue can't tell later if it was executed. Then the journal must say that it was begun. A wrong yes costs one
            journal row; a wrong no, one question to a person after a crash.
        belongs_to_session: whether what it does ends with the session: SET, USE, a temporary table.
    """

    head: str
    leaves_no_trace: bool
    belongs_to_session: bool


QUERIES = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK", "("})
READS = QUERIES | {"GRANT", "REVOKE"}
"""What only reads, or leaves the same state however often it runs."""

_SKIPPED = r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/|\#!?\ [^\n]*(?:\n|\Z))*"
_WORD = re.compile(rf"{_SKIPPED}\(*\s*([A-Za-z]+)", re.DOTALL)
_FILLS = re.compile(r"\bPOPULATE\b|\bTABLE\b.*\bAS[\s(]+(?:SELECT|WITH)\b", re.IGNORECASE | re.DOTALL)
_CHANGES_DATA = re.compile(r"\b(?:UPDATE|DELETE|PARTITION|PART|CONSTRAINT|EXCHANGE)\b", re.IGNORECASE)
_TEMPORARY = re.compile(rf"{_SKIPPED}CREATE\b{_SKIPPED}(?:OR\b{_SKIPPED}REPLACE\b{_SKIPPED})?TEMPORARY\b", re.IGNORECASE | re.DOTALL)
_OF_ACCESS = re.compile(
    rf"{_SKIPPED}(?:CREATE|ALTER|DROP)\b{_SKIPPED}(?:OR\b{_SKIPPED}REPLACE\b{_SKIPPED})?"
    rf"(?:USER|ROLE|QUOTA|(?:ROW{_SKIPPED})?POLICY|(?:SETTINGS{_SKIPPED})?PROFILE|NAMED{_SKIPPED}COLLECTION|WORKLOAD|RESOURCE)\b",
    re.IGNORECASE | re.DOTALL,
)
"""Users, roles, quotas, policies, profiles, named collections, workloads: no table of the catalogue that a run reads shows them."""

_SETTLED_BY_CATALOGUE = frozenset({"CREATE", "REPLACE", "ATTACH", "DETACH", "DROP", "RENAME", "ALTER", "SET", "USE", "OPTIMIZE"})


def head(text: str) -> str:
    """Returns the first word of a statement, in capitals; comments and parentheses before it are passed over."""
    found = _WORD.match(text)
    return found[1].upper() if found else ""


def _leaves_no_trace(word: str, text: str) -> bool:
    if word in READS:
        return False
    if word in ("CREATE", "ALTER", "DROP") and _OF_ACCESS.match(text):
        return True
    if word == "ALTER":
        return bool(_CHANGES_DATA.search(text))
    return word not in _SETTLED_BY_CATALOGUE or (word in ("CREATE", "REPLACE") and bool(_FILLS.search(text)))


def of(step: plans.Step) -> tuple[Reading, ...]:
    """Returns the readings of a step's statements; made once, and kept with it."""
    return step.kept(_of_step)


def left(step: plans.Step) -> list[tuple[int, str]]:
    """Returns line and words of what a step leaves in the session."""
    return [
        (statement.first_line, reading.head if reading.head in ("SET", "USE") else "CREATE TEMPORARY")
        for statement, reading in zip(step.statements, of(step), strict=True)
        if reading.belongs_to_session
    ]


def _of_step(step: plans.Step) -> tuple[Reading, ...]:
    return tuple(read(statement.text) for statement in step.statements)


def read(text: str) -> Reading:
    """Reads one statement. Whoever has its step asks `of`."""
    word = head(text)
    return _reading(word, _leaves_no_trace(word, text), word in ("SET", "USE") or bool(_TEMPORARY.match(text)))


@functools.lru_cache(maxsize=1024)
def _reading(word: str, leaves_no_trace: bool, belongs_to_session: bool) -> Reading:
    """Makes equal readings one object: a file may have 200,000 INSERTs."""
    return Reading(word, leaves_no_trace, belongs_to_session)
