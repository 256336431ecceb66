"""Statements as words: what can be told without a server, and the server's canonical form of them.

The server formats a statement (`formatQuerySingleLineOrNull`, 23.11+) into one line with settled spelling, quoting and order of clauses, which
`shapes` reads. `parseQueryToJSON` (26.8+) is not used: it holds nothing that the canonical text lacks, refuses INSERT with data, and fails a
whole request for one bad element. `EXPLAIN AST` loses index names, projections and ON CLUSTER.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from migrator.clickhouse import failures
from migrator.clickhouse.session import Session, array
from migrator.clickhouse.shapes import READS

_LONGEST = 1 << 20
"""Bytes of one request for canonical forms: large enough for hundreds of statements, small enough to stay one quick query."""

_SKIPPED = r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/|\#!?\ [^\n]*(?:\n|\Z))*"
_WORD = re.compile(rf"{_SKIPPED}\(*\s*([A-Za-z]+)", re.DOTALL)
_RECORDS = re.compile(r"\b(VALUES|FORMAT)\b", re.IGNORECASE)
_FILLS = re.compile(r"\bPOPULATE\b|\bTABLE\b.*\bAS[\s(]+(?:SELECT|WITH)\b", re.IGNORECASE | re.DOTALL)
_CHANGES_DATA = re.compile(r"\b(?:UPDATE|DELETE|PARTITION|PART|CONSTRAINT|EXCHANGE)\b", re.IGNORECASE)
_SETTLED_BY_CATALOGUE = frozenset({"CREATE", "REPLACE", "ATTACH", "DETACH", "DROP", "RENAME", "ALTER", "SET", "USE", "OPTIMIZE"})


def head(text: str) -> str:
    """The first word of a statement, in capitals; comments and parentheses before it are passed over."""
    found = _WORD.match(text)
    return found[1].upper() if found else ""


def leaves_no_trace(text: str) -> bool:
    """Whether the catalogue can't tell later if this statement was executed, judged from its words alone. Then the journal must say that it
    was begun. A wrong yes costs one journal row; a wrong no, one question to a person after a crash."""
    word = head(text)
    if word in READS:
        return False
    if word == "ALTER":
        return bool(_CHANGES_DATA.search(text))
    return word not in _SETTLED_BY_CATALOGUE or (word in ("CREATE", "REPLACE") and bool(_FILLS.search(text)))


_TEMPORARY = re.compile(rf"{_SKIPPED}CREATE\s+(?:OR\s+REPLACE\s+)?TEMPORARY\b", re.IGNORECASE | re.DOTALL)


def belongs_to_session(text: str) -> bool:
    """Whether what a statement does ends with the session: SET, USE, a temporary table."""
    return head(text) in ("SET", "USE") or bool(_TEMPORARY.match(text))


def canonical(session: Session, texts: Sequence[str]) -> list[str | None]:
    """The server's canonical form of each statement; None where it can't be parsed, or isn't text. Statements that carry data are cut short.

    Raises:
        failures.Refusal, failures.Lost.
    """
    found: list[str | None] = []
    for batch in _batches([_without_data(text) for text in texts]):
        found += _canonical(session, batch)
    return found


def _without_data(text: str) -> str:
    if head(text) == "INSERT" and len(text) > 2000 and _RECORDS.search(text[:2000]):
        return "INSERT INTO data SELECT 1"
    return text if text.isascii() or not re.search("[\ud800-\udfff]", text) else ""


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > _LONGEST:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


def _canonical(session: Session, texts: list[str]) -> list[str | None]:
    settings: dict[str, str | int] = {"max_query_size": 64 * _LONGEST, "implicit_select": 0}
    known = {key: value for key, value in settings.items() if key in session.client.server_settings}
    if all(session.client.server_settings[key].readonly for key in known):
        known = {}
    try:
        rows = session.rows(f"SELECT arrayMap(text -> formatQuerySingleLineOrNull(text), {array(texts)})", known)
    except failures.Refusal as refusal:
        if refusal.code != 46:  # a server before 23.11 has no such function: nothing can be read, nothing is guessed
            raise
        return [None] * len(texts)
    return [None if item is None else str(item) for item in rows[0][0]]
