"""A statement of a migration file, with its lines in the file and the masking of substituted values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from migrator.goose import lexer
from migrator.targets import Engine

_SHORTEST_SECRET = 4
"""Shorter values are masked only as whole words: masking `1` or `eu` inside other words would make a message unreadable."""


@dataclass(frozen=True, slots=True)
class Substitution:
    """One variable that ENVSUB put into a statement: its name and the text that was inserted."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, as goose would send it.

    Args:
        text: the text that is sent, after ENVSUB; bytes that aren't UTF-8 are lone surrogates (surrogateescape).
        source: the file's own text before ENVSUB, which may be shown and stored.
        first_line, last_line: 1-based lines of the file in which the text begins and ends.
        substitutions: the variables that were put in, in order.
        anchors: (line of the text from 0, line of the file) for each place from which the two no longer run in parallel: after an annotation inside
        the statement, or after a substituted value of several lines.
    """

    text: str
    source: str
    first_line: int
    last_line: int
    substitutions: tuple[Substitution, ...] = ()
    anchors: tuple[tuple[int, int], ...] = ()
    _outline: lexer.Outline | None = field(default=None, init=False, repr=False, compare=False)

    def outline(self, engine: Engine) -> lexer.Outline:
        """Returns where the commands of the text begin and end on this engine; reads the text once."""
        found = self._outline
        if found is None or found.engine is not engine:
            found = lexer.outline(self.text, engine)
            object.__setattr__(self, "_outline", found)
        return found

    def line_of(self, offset: int) -> int:
        """Returns the file's line that holds the character at `offset` (from 0) of `text`; servers report positions in characters, from 1."""
        index = self.text.count("\n", 0, offset)
        start, line, limit = 0, self.first_line, self.last_line
        for anchor_index, anchor_line in self.anchors:
            if anchor_index > index:
                limit = anchor_line - 1
                break
            start, line = anchor_index, anchor_line
        return min(line + index - start, max(limit, line))


def masked(text: str, substitutions: Iterable[Substitution]) -> str:
    """Returns the text with substituted values replaced by `${NAME}`, for messages of a server that quote a statement.

    Longer values are replaced first, so that a value inside another does not leave half of it; a value of several lines is also masked line by
    line, because servers quote lines. Values that are empty or blank hide nothing.
    """
    names: dict[str, str] = {}
    for item in substitutions:
        for value in (item.value, item.value.replace("'", "''"), *item.value.splitlines()):
            if value.strip():
                names.setdefault(value, item.name)
    if not names:
        return text
    patterns = (
        re.escape(value) if len(value) >= _SHORTEST_SECRET else rf"(?<!\w){re.escape(value)}(?!\w)"
        for value in sorted(names, key=len, reverse=True)
    )
    return re.sub("|".join(patterns), lambda match: f"${{{names[match.group()]}}}", text)
