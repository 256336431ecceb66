"""One migration file as the rules see it: both directions, with a placeholder for each variable of ENVSUB.

A name that comes from the environment is then told from one that is written into the file, whatever the environment holds, and no value of it can
get into a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from migrator import errors
from migrator.goose.annotations import ParsedMigration, Statement, parse
from migrator.targets import Direction

PLACEHOLDER = "greylag_variable"
"""The value of every variable: a name that neither grammar takes for a keyword."""

LARGEST = 1 << 20
"""Characters of a statement that is looked at: what is larger is data, and a grammar that reads it needs many times its size."""


_FALLBACK = re.compile(r"\$\{\w*DATABASE\w*:?-([^{}$\s]+)\}")


class _Placeholders(Mapping[str, str]):
    def __getitem__(self, name: str) -> str:
        return PLACEHOLDER

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Source(NamedTuple):
    """A file's path, as it is named in findings, and its bytes."""

    path: str
    data: bytes


class Found(NamedTuple):
    """A rule's id, where (characters of the statement from 0), and what is wrong."""

    rule: str
    offset: int
    message: str


@dataclass(frozen=True)
class Section:
    """One statement of a file: its direction, and whether a StatementBegin block holds it."""

    direction: Direction
    statement: Statement
    wrapped: bool

    def fallbacks(self) -> Iterator[Found]:
        """Yields the names of databases that take the place of an unset variable: another database is then changed, and nobody is told."""
        for match in _FALLBACK.finditer(self.statement.source):
            line = self.statement.source.count("\n", 0, match.start())
            offset = sum(len(item) + 1 for item in self.statement.text.split("\n")[:line])
            yield Found("H06", offset, f"the database {match[1]} is written into the file, as a fallback")


@dataclass(frozen=True)
class File:
    """A file in both directions."""

    path: str
    up: ParsedMigration
    down: ParsedMigration

    def sections(self) -> Iterator[Section]:
        """Yields the statements that are small enough to be looked at, Up first."""
        for parsed in (self.up, self.down):
            for index, statement in enumerate(parsed.statements):
                if len(statement.text) <= LARGEST:
                    yield Section(Direction(parsed.direction), statement, index in parsed.trace.blocks)


def read(source: Source) -> File | None:
    """Reads a file; None for one that can't be split, which planning and `validate` refuse with its line."""
    try:
        up, down = (parse(source.data, direction, _Placeholders(), path=source.path) for direction in Direction)
    except errors.ParseError:
        return None
    return File(source.path, up, down)
