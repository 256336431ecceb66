"""Which objects a statement is about, read from the file's own words: enough to ask the catalogue for them, before the server has read the statement.

One name too many costs a row of one query; one too few, a question to a person after a crash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from migrator.clickhouse.reading import readings, shapes
from migrator.planning.objects import Kind

_COMMENT = re.compile(
    r"(`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.|'')*')|--[^\n]*|\#[!\ ][^\n]*|/\*.*?\*/",
    re.DOTALL,
)
LOOKED_AT = frozenset(
    {
        "CREATE",
        "REPLACE",
        "ATTACH",
        "UNDROP",
        "DROP",
        "DETACH",
        "RENAME",
        "EXCHANGE",
        "ALTER",
        "TRUNCATE",
        "DELETE",
        "UPDATE",
        "OPTIMIZE",
        "USE",
    }
)
"""First words of statements that are about objects which the catalogue shows, and USE."""
_LONGEST = 1 << 16
_HEAD = 600
"""Characters: names stand at a statement's beginning, and reading on costs time in every run."""

_COPIED = re.compile(
    r"\)?\s*\b(?:CLONE\s+)?AS\s+((?:`[^`]+`|\"[^\"]+\"|\w+)(?:\s*\.\s*(?:`[^`]+`|\"[^\"]+\"|\w+))?)\s*(?:ENGINE\b|;|\Z)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Subjects:
    """Names to look up: tables (views, dictionaries) with their database, functions, databases."""

    tables: frozenset[tuple[str, str]] = frozenset()
    functions: frozenset[str] = frozenset()
    databases: frozenset[str] = frozenset()

    def __or__(self, other: Subjects) -> Subjects:
        """Returns the names of both."""
        return Subjects(self.tables | other.tables, self.functions | other.functions, self.databases | other.databases)

    def touches(self, other: Subjects) -> bool:
        """Tells whether a name of these is one of the others, or a database of theirs."""
        databases = {database for database, _ in other.tables} | other.databases
        return bool(self.tables & other.tables or self.functions & other.functions or self.databases & databases)

    def __bool__(self) -> bool:
        """Tells whether there is anything to look up."""
        return bool(self.tables or self.functions or self.databases)


def of_texts(texts: Iterable[str], database: str) -> Subjects:
    """Returns what statements that follow each other in one session are about; a USE among them holds for those behind it."""
    found = Subjects()
    for text in texts:
        word = readings.head(text)
        if word not in LOOKED_AT:
            continue
        plain = _COMMENT.sub(lambda match: match[1] or " ", text[:_LONGEST]).strip().rstrip(";")
        if word == "USE":
            database = used(plain, database)
            continue
        found |= of_shape(shapes.read(plain[:_HEAD] if word in ("CREATE", "REPLACE", "ALTER") else plain, database))
        if word in ("CREATE", "REPLACE") and (copied := copied_from(plain, database)):
            found |= Subjects(frozenset({copied}))
    return found


def used(line: str, database: str) -> str:
    """Returns the database that a USE opens."""
    words = line.strip().rstrip(";").split(None, 2)
    return shapes.plain(words[-1]) if len(words) > 1 and words[0].upper() == "USE" else database


def copied_from(line: str, database: str) -> tuple[str, str] | None:
    """Returns the table whose columns a `CREATE TABLE … AS other` takes."""
    found = _COPIED.search(line) if " AS " in line.upper() else None
    if found is None:
        return None
    parts = [shapes.plain(part) for part in re.findall(r"`[^`]+`|\"[^\"]+\"|\w+", found[1])]
    return (parts[0], parts[1]) if len(parts) == 2 else (database, parts[0])


def of_shape(shape: shapes.Shape) -> Subjects:
    """Returns what a statement is about that is read."""
    tables: set[tuple[str, str]] = set()
    functions: set[str] = set()
    databases: set[str] = set()
    names = [effect.subject for effect in shape.effects] + [effect.renamed for effect in shape.effects if effect.renamed is not None]
    for item in (*names, *((shape.subject,) if shape.subject else ())):
        if item.name.startswith("\0"):  # the place between the two names of an EXCHANGE
            continue
        if item.kind is Kind.FUNCTION:
            functions.add(item.name)
        elif item.kind is Kind.DATABASE:
            databases.add(item.name)
        else:
            tables.add((item.schema, item.parent or item.name))
    return Subjects(frozenset(tables), frozenset(functions), frozenset(databases))
