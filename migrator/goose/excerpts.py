"""Excerpts for errors: the lines of the file around the failing one, underlined, and the query as goose quotes it.

An excerpt is the file's own text, before ENVSUB, so it holds no value that was substituted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from migrator.goose.statements import Statement

_COMMENT_LINES = re.compile(r"^--.*$[\r\n]*", re.MULTILINE)
_EMPTY_LINES = re.compile(r"^$[\r\n]*", re.MULTILINE)
_TOKEN = re.compile(r"\w+|\S")
CONTEXT_LINES = 2  # lines shown before and after the failing one
_LONGEST = 7  # lines of a statement shown when no line is known to be the failing one
_LONGEST_LINE = 160  # characters of one shown line


@dataclass(frozen=True, slots=True)
class Position:
    """A position in a file.

    Attributes:
        line: the line of the file, from 1.
        row: the same line within the statement's text, from 0.
        column: from 1; None when the line holds a substituted value, or when only the line is known.
    """

    line: int
    row: int
    column: int | None = None


def position_of(statement: Statement, offset: int) -> Position:
    """Returns the position of the character at `offset` (from 0) of the statement's text."""
    before = statement.text[:offset]
    row = before.count("\n")
    column = len(before) - (before.rfind("\n") + 1) + 1
    untouched = _line(statement.text, row) == _line(statement.source, row)
    return Position(statement.line_of(len(before)), row, column if untouched else None)


def position_of_row(statement: Statement, row: int) -> Position:
    """Returns the position of a whole line of the statement's text, from 0."""
    return Position(_number(statement, row), row)


def excerpt(statement: Statement, found: Position | None) -> str:
    """Returns the lines of the file around the failing one, underlined; the beginning of the statement when the failing line is unknown."""
    lines = statement.source.split("\n")
    if found is None or statement.text.count("\n") != len(lines) - 1:  # with values of several lines, the rows of text and source differ
        first, last, failing = 0, min(len(lines), _LONGEST) - 1, None
    else:
        first, last, failing = max(found.row - CONTEXT_LINES, 0), min(found.row + CONTEXT_LINES, len(lines) - 1), found.row
    numbered = [(_number(statement, row), lines[row]) for row in range(first, last + 1)]
    shown = _shown(numbered, None if failing is None else failing - first, found.column if found else None)
    if failing is None and last < len(lines) - 1:
        shown.append(f"{' ' * len(str(numbered[-1][0]))} | … (to line {statement.last_line})")
    return "\n".join(shown)


def of_lines(before: Sequence[str], line: str, number: int) -> str:
    """Returns a line of a file, underlined as a whole, below the lines before it; `number` is the line's own, from 1."""
    numbered = [(number - len(before) + index, text) for index, text in enumerate([*before, line])]
    return "\n".join(_shown(numbered, len(before), None))


def _shown(numbered: Sequence[tuple[int, str]], failing: int | None, column: int | None) -> list[str]:
    width = len(str(numbered[-1][0]))
    shown: list[str] = []
    for index, (number, text) in enumerate(numbered):
        line = _printable(text)
        shown.append(f"{number:>{width}} | {line[:_LONGEST_LINE]}".rstrip())
        if index == failing:
            shown.append(f"{' ' * width} | {_underline(line, column)}")
    return shown


def quoted_query(text: str) -> str:
    """Returns a statement as goose quotes it in errors: without lines that begin with `--` and without empty lines (goose.md §5.5)."""
    return _EMPTY_LINES.sub("", _COMMENT_LINES.sub("", text))


def _line(text: str, row: int) -> str:
    lines = text.split("\n")
    return lines[row] if row < len(lines) else ""


def _number(statement: Statement, row: int) -> int:
    return statement.line_of(sum(len(line) + 1 for line in statement.text.split("\n")[:row]))


def _printable(line: str) -> str:
    """Replaces control characters and bytes that aren't UTF-8, each by one character, so that columns stay the same."""
    return "".join(
        character if character.isprintable() or character == "\t" else "\N{REPLACEMENT CHARACTER}" for character in line.rstrip()
    )


def _underline(line: str, column: int | None) -> str:
    start = column - 1 if column is not None and column <= len(line) else len(line) - len(line.lstrip())
    token = _TOKEN.match(line, start) if column is not None else None
    length = len(token[0]) if token else max(len(line.rstrip()) - start, 1)
    lead = "".join("\t" if character == "\t" else " " for character in line[:start])
    return lead[:_LONGEST_LINE] + "^" * min(length, _LONGEST_LINE)
