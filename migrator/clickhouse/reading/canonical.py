"""The server's canonical form of statements: one line each, which `shapes` reads.

The server formats a statement (`formatQuerySingleLineOrNull`, 23.11+) into one line with settled spelling, quoting and order of clauses, which
`shapes` reads. `parseQueryToJSON` (26.8+) is not used: it holds nothing that the canonical text lacks, refuses INSERT with data, and fails a
whole request for one bad element. `EXPLAIN AST` loses index names, projections and ON CLUSTER.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from migrator.clickhouse import failures
from migrator.clickhouse.reading.readings import head
from migrator.clickhouse.session import Session, array

_LONGEST = 1 << 20
"""Bytes of one request for canonical forms: large enough for hundreds of statements, small enough to stay one quick query."""

_RECORDS = re.compile(r"\b(VALUES|FORMAT)\b", re.IGNORECASE)


def line(session: Session, text: str) -> str | None:
    """Returns the canonical form of one statement. Raises as `canonical`."""
    return canonical(session, [text])[0]


def canonical(session: Session, texts: Sequence[str]) -> list[str | None]:
    """Returns the server's canonical form of each statement; None where it can't be parsed, or isn't text. Statements that carry data are cut short.

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
    known = {key: value for key, value in settings.items() if key in session.changeable}
    try:
        found = session.row(f"SELECT arrayMap(text -> formatQuerySingleLineOrNull(text), {array(texts)})", known)
    except failures.Refusal as refusal:
        if refusal.code != 46:  # a server before 23.11 has no such function: nothing can be read, nothing is guessed
            raise
        return [None] * len(texts)
    return [None if item is None else str(item) for item in found[0]]
