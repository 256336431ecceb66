"""Which tables a statement makes or changes, read with regular expressions: cheap enough for ten thousand statements, exact enough to know
whether the grammar must be asked at all."""

from __future__ import annotations

import re
from collections.abc import Iterator

Name = tuple[str, str]
"""Schema (empty where none is written) and name."""

_PART = r'(?:"(?:[^"]|"")+"|[\w$]+)'
_NAME = rf"({_PART}(?:\s*\.\s*{_PART})?)"
_NEW = re.compile(
    r"\bcreate\s+(?:(?:global|local)\s+)?(?:(?:temp|temporary|unlogged|foreign)\s+)?(?:table|materialized\s+view|domain)\s+(?:if\s+not\s+exists\s+)?"
    + _NAME,
    re.IGNORECASE,
)
_RENAMED = re.compile(rf"\balter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?{_NAME}\s+rename\s+to\s+{_NAME}", re.IGNORECASE)
_CHANGED = re.compile(
    r"\balter\s+(?:foreign\s+)?(?:table|materialized\s+view|index|domain)\s+(?:if\s+exists\s+)?(?:only\s+)?"
    + _NAME
    + r"|\brefresh\s+materialized\s+view\s+(?:concurrently\s+)?"
    + _NAME
    + r"|(?:^|;|\*/|\n)\s*(?:update|delete\s+from)\s+(?:only\s+)?"
    + _NAME
    + r"|\bcreate\s+(?:unique\s+)?index\b(?:(?!;).)*?\bon\s+(?:only\s+)?"
    + _NAME
    + r"|\b(vacuum|cluster|reindex)\b",
    re.IGNORECASE | re.DOTALL,
)


def created(text: str) -> Iterator[Name]:
    """Returns the tables, materialized views and domains that a statement creates, and the names that new ones are given later."""
    for found in _NEW.finditer(text):
        yield name_of(found[1])
    for found in _RENAMED.finditer(text):
        yield name_of(found[2])


def concerns_old(text: str, new: set[Name]) -> bool:
    """Tells whether a statement may change a table that is not among the new ones."""
    return any(found[5] or not is_new(name_of(next(filter(None, found.groups()))), new) for found in _CHANGED.finditer(text))


def is_new(name: Name, new: set[Name]) -> bool:
    """Tells whether a table was made in the same plan. Schemas are compared only if both names have one."""
    return any(other[1] == name[1] and (not other[0] or not name[0] or other[0] == name[0]) for other in _alike(name, new))


def _alike(name: Name, new: set[Name]) -> Iterator[Name]:
    """Yields the new names that may mean the same table: one look-up in the set decides, unless the name has no schema; then every one is yielded."""
    if name in new or ("", name[1]) in new:
        yield ("", name[1])
    elif not name[0]:
        yield from new


def name_of(text: str) -> Name:
    """Returns schema and name of an identifier as a file writes it."""
    parts = [part[1:-1].replace('""', '"') if part.startswith('"') else part.lower() for part in re.findall(r'"(?:[^"]|"")+"|[\w$]+', text)]
    return (parts[0], parts[1]) if len(parts) > 1 else ("", parts[0])
