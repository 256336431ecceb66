"""Which columns a valid CHECK (column IS NOT NULL) proves, so that SET NOT NULL reads nothing (PostgreSQL 12+)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from migrator.postgres.lint.tables import name_of

_CHECKED = re.compile(
    r"\badd\s+constraint\s+(?P<name>\"[^\"]+\"|[\w$]+)\s+check\s*\(\s*\(?\s*(?P<column>\"[^\"]+\"|[\w$]+)\s+is\s+not\s+null\s*\)?\s*\)(?P<later>\s*not\s+valid)?",
    re.IGNORECASE,
)
_VALIDATED = re.compile(r"\bvalidate\s+constraint\s+(\"[^\"]+\"|[\w$]+)", re.IGNORECASE)
_TABLE = re.compile(r"\balter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?([\w$.\"]+)", re.IGNORECASE)


def columns(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Returns (table, column) of each column that these statements, in their order, have proven to be not null; schemas are ignored."""
    waiting: dict[tuple[str, str], str] = {}
    for text in texts:
        found = _TABLE.search(text)
        if found is None:
            continue
        table = name_of(found[1])[1]
        for check in _CHECKED.finditer(text):
            name, column = name_of(check["name"])[1], name_of(check["column"])[1]
            if check["later"]:
                waiting[table, name] = column
            else:
                yield table, column
        for valid in _VALIDATED.finditer(text):
            known = waiting.get((table, name_of(valid[1])[1]))
            if known is not None:
                yield table, known
