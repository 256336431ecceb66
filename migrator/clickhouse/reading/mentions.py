"""Which objects the statements of a run name, and which version named what (facts.md §6). Pure.

What a run has changed is known from the catalogue before it and after it, never from a text. The texts say which objects to look at, so that a run on
a server of ten thousand tables doesn't read them all; and, where a run has several versions, to which of them a change belongs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from migrator.clickhouse.reading import definitions, readings
from migrator.planning.plans import Step
from migrator.planning.schema_facts import COLUMN_ORDER, SchemaFact

_CHANGES = frozenset({"CREATE", "REPLACE", "ATTACH", "DETACH", "DROP", "UNDROP", "RENAME", "EXCHANGE", "ALTER", "RESTORE", "USE", "SET"})
"""How statements begin that can change the catalogue, or what names mean to those that do."""

_WHOLE = re.compile(r"\b(?:DATABASE|RESTORE|TABLES)\b|:\s*Identifier\b", re.IGNORECASE)
"""Where a text doesn't name every object that it changes."""

_TOKEN = re.compile(r"`(?:[^`\\]|\\.|``)*`|\"(?:[^\"\\]|\\.|\"\")*\"|'(?:[^'\\]|\\.|'')*'|\w+|--[^\n]*|/\*.*?\*/|\s+|.", re.DOTALL)
_MOST_NAMES = 4000
"""Names that a query can list; beyond, the whole database is read."""

_LONGEST_NAME = 200
_OF_TABLE = frozenset({"ORDER", "TTL", "SETTING", "SETTINGS", "COMMENT", "QUERY", "SAMPLE", "RESET", "REMOVE"})
_OF_ORDER = frozenset({"ADD", "DROP", "RENAME", "FIRST", "AFTER", "MODIFY"})


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement that can change the catalogue: the step that it belongs to, its first word, what it is about, and every word in it."""

    step: int
    head: str
    subjects: frozenset[str]
    words: frozenset[str]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a run may change.

    Args:
        steps: version and direction of each step, in order.
        statements: of a run of several steps; where there is one, everything is its work.
        names: every name in the statements.
        whole: whether they may change what they don't name.
        functions: whether one of them is about a function of the server.
        databases: whether one of them is about a database.
    """

    steps: tuple[tuple[int, str], ...]
    statements: tuple[Statement, ...]
    names: frozenset[str]
    whole: bool = False
    functions: bool = False
    databases: bool = False

    def author(self, fact: SchemaFact, name: str) -> tuple[int | None, str]:
        """Returns version and direction of the step that left a fact as it is; `name` is the object that it is of, as the catalogue has it."""
        if len(self.steps) == 1 or not self.statements:
            return self.steps[-1] if self.steps else (None, "up")
        part = definitions.plain(fact.identity.removeprefix(f"{fact.parent}.")) if fact.parent else ""
        found = None
        for statement in self.statements:
            if name in statement.subjects and (statement.head != "ALTER" or _touches(statement, fact.kind, part)):
                found = statement
        if found is None:
            named = [item for item in self.statements if name in item.subjects] or [item for item in self.statements if name in item.words]
            found = named[-1] if named else None
        return self.steps[found.step if found else -1]

    def document(self) -> dict[str, object]:
        """Returns it as JSON-ready data, for the next run if this one is killed."""
        return {
            "steps": [list(item) for item in self.steps],
            "statements": [[item.step, item.head, sorted(item.subjects), sorted(item.words)] for item in self.statements],
            "names": sorted(self.names),
            "whole": self.whole,
            "functions": self.functions,
            "databases": self.databases,
        }


def _touches(statement: Statement, kind: str, part: str) -> bool:
    if kind == COLUMN_ORDER:
        return bool(statement.words & _OF_ORDER)
    if kind in ("column", "data skipping index", "projection", "constraint"):
        return part in statement.words
    return bool(statement.words & _OF_TABLE)


def of_document(document: Mapping[str, Any]) -> Scope:
    """Returns what `Scope.document` made."""
    return Scope(
        steps=tuple((int(version), str(direction)) for version, direction in document["steps"]),
        statements=tuple(Statement(step, head, frozenset(about), frozenset(words)) for step, head, about, words in document["statements"]),
        names=frozenset(document["names"]),
        whole=document["whole"],
        functions=document["functions"],
        databases=document["databases"],
    )


def of(steps: Sequence[Step]) -> Scope:
    """Returns what the statements of a run's steps name."""
    found: list[Statement] = []
    whole = functions = databases = False
    for number, step in enumerate(steps):
        for statement, reading in zip(step.statements, readings.of(step), strict=True):
            if reading.head not in _CHANGES:
                continue
            text = statement.text
            whole = whole or bool(_WHOLE.search(text))
            words = _names(text)
            functions = functions or "FUNCTION" in words
            databases = databases or "DATABASE" in words
            found.append(Statement(number, reading.head, _subjects(reading.head, text), words))
    names = frozenset[str]().union(*(item.words for item in found))
    of_several = len(steps) > 1
    return Scope(
        steps=tuple((step.version, str(step.direction)) for step in steps),
        statements=tuple(found) if of_several else (),
        names=frozenset() if len(names) > _MOST_NAMES else names,
        whole=whole or len(names) > _MOST_NAMES,
        functions=functions,
        databases=databases,
    )


def _words(text: str) -> Iterable[str]:
    for token in _TOKEN.findall(text):
        if not token.isspace() and not token.startswith(("--", "/*")):
            yield token


def _names(text: str) -> frozenset[str]:
    """Returns everything in a text that may be a name, keywords in capitals besides as they are written. A name that follows AFTER is told of, not changed."""
    found: set[str] = set()
    before = ""
    for token in _words(text):
        if (len(token) > 1 or token.isalnum() or token == "_") and len(token) <= _LONGEST_NAME and before != "AFTER":
            name = definitions.plain(token)
            found.add(name)
            if token.isalpha() and len(token) < 12:
                found.add(token.upper())
            if token[0] == "'":
                found.update(name.split("."))
        before = token.upper()
    return frozenset(found)


def _subjects(head: str, text: str) -> frozenset[str]:
    """Returns what a statement is about: the name behind CREATE TABLE or ALTER TABLE; every name of a RENAME, EXCHANGE or DROP."""
    if head not in ("CREATE", "REPLACE", "ATTACH", "ALTER"):
        return _names(text)
    found: list[str] = []
    kind_seen = False
    for token in _words(text):
        word = token.upper()
        if not kind_seen:
            kind_seen = word in ("TABLE", "VIEW", "DICTIONARY", "FUNCTION", "DATABASE", "COLUMN")
        elif word in ("IF", "NOT", "EXISTS") and not found:
            continue
        elif token == "." or not found or found[-1] == ".":
            found.append(definitions.plain(token))
        else:
            break
    return frozenset(found[-1:])
