"""The error for a statement that the server refused: goose's words, the place in the file, an excerpt of the file's own text.

Where the error was: the server's position if it gives one, the `line N` of a DO block's context, else the statement's lines. Never a guess. The
excerpt and the quoted query hold no value that ENVSUB filled in, and the server's words are masked where they repeat one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from migrator import errors, goquote, gounicode, planning, statements
from migrator.postgres import failures, shapes

_COMMENT_LINES = re.compile(r"^--.*$[\r\n]*", re.MULTILINE)
_EMPTY_LINES = re.compile(r"^$[\r\n]*", re.MULTILINE)
_INLINE_BLOCK = re.compile(r"\binline_code_block\b\D*(\d+)")
_DOLLAR_QUOTE = re.compile(r"\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$|'")
_DO = re.compile(r"\bdo\b", re.IGNORECASE)
_TOKEN = re.compile(r"\w+|\S")
_CONTEXT_LINES = 2  # lines shown before and after the failing one
_LONGEST_EXCERPT = 7  # lines of a statement shown when no line is known to be the failing one
_LONGEST_LINE = 160  # characters of one shown line


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the file, from 1; `row` is the line of the statement's text, from 0. `column` counts from 1; None where the line holds a
    substituted value."""

    line: int
    row: int
    column: int | None = None


def of_statement(
    step: planning.Step, statement: statements.Statement, failure: failures.ServerFailure, *, characters: bool = True
) -> errors.GreylagError:
    """The error for one statement of a migration.

    Args:
        characters: whether the server's position counts characters (else bytes).
    """
    found = place(statement, failure, characters=characters)
    shown = statements.masked(statement.text, statement.substitutions)
    said = statements.masked(str(failure), statement.substitutions)
    message = f"ERROR {step.name}: failed to run SQL migration: failed to execute SQL query {goquote.quote(cleaned(shown))}: {said}"
    more = [excerpt(statement, found)]
    for label, text in (("DETAIL", failure.detail), ("HINT", failure.hint), ("CONTEXT", failure.context)):
        if text:
            more.append(f"{label}: {statements.masked(text, statement.substitutions)}")
    kind, code, hint = failures.classify(failure)
    if hint == failure.hint:
        hint = f"nothing of this file was applied: correct {step.name} and run the same command again"
    line = found.line if found else statement.first_line
    return kind(message, code=code, hint=hint, where=errors.Location(step.path, line), detail="\n".join(item for item in more if item))


def of_step(step: planning.Step, failure: failures.ServerFailure, doing: str) -> errors.GreylagError:
    """The error for what is around the statements: goose's "failed to commit transaction", "failed to insert new goose version"."""
    substitutions = [item for statement in step.statements for item in statement.substitutions]
    said = statements.masked(str(failure), substitutions)
    context = "\n".join(
        f"{label}: {statements.masked(text, substitutions)}"
        for label, text in (("DETAIL", failure.detail), ("CONTEXT", failure.context))
        if text
    )
    kind, code, hint = failures.classify(failure)
    if hint == failure.hint:
        hint = (
            statements.masked(hint, substitutions)
            or f"nothing of this file was recorded: correct {step.name} and run the same command again"
        )
    message = f"ERROR {step.name}: failed to run SQL migration: {doing}: {said}"
    return kind(message, code=code, hint=hint, where=errors.Location(step.path), detail=context)


def nul_byte(step: planning.Step, statement: statements.Statement) -> errors.GreylagError:
    """The error for a statement with a NUL byte: the protocol ends a text there, so the rest would silently not be executed."""
    line = statement.line_of(statement.text.index("\0"))
    return errors.StatementRejected(
        f"ERROR {step.name}: failed to run SQL migration: the statement holds a NUL byte",
        code="nul-byte",
        where=errors.Location(step.path, line),
        hint="remove the byte: PostgreSQL takes none in SQL text (a bytea value can be written as '\\x00')",
    )


def cleaned(text: str) -> str:
    """A statement as goose quotes it: without lines that begin with `--` and without empty lines (goose.md §5.5)."""
    return _EMPTY_LINES.sub("", _COMMENT_LINES.sub("", text))


def place(statement: statements.Statement, failure: failures.ServerFailure, *, characters: bool = True) -> Place | None:
    """Where in the file the server found the error; None when it didn't say."""
    text = statement.text
    if failure.position is not None:
        before = text[: failure.position - 1] if characters else _prefix(text, failure.position - 1)
        row = before.count("\n")
        untouched = _line(text, row) == _line(statement.source, row)
        column = len(before) - (before.rfind("\n") + 1) + 1
        return Place(statement.line_of(len(before)), row, column if untouched else None)
    inside = _INLINE_BLOCK.findall(failure.context)
    opening = _DOLLAR_QUOTE.search(text)
    if not inside or opening is None or len(_DO.findall(text[: opening.start()])) != 1 or shapes.shape(text).commands != 1:
        return None
    row = text.count("\n", 0, opening.end()) + int(inside[-1]) - 1
    return Place(statement.line_of(_start_of(text, row)), row) if row <= text.count("\n") else None


def _prefix(text: str, size: int) -> str:
    return gounicode.decode(gounicode.encode(text)[:size])


def _line(text: str, row: int) -> str:
    lines = text.split("\n")
    return lines[row] if row < len(lines) else ""


def _start_of(text: str, row: int) -> int:
    return sum(len(line) + 1 for line in text.split("\n")[:row])


def excerpt(statement: statements.Statement, found: Place | None) -> str:
    """Lines of the file around the failing one, which is underlined; the beginning of the statement when no line is known."""
    lines = statement.source.split("\n")
    if found is None or statement.text.count("\n") != len(lines) - 1:  # values of several lines: rows of text and source differ
        first, last, failing = 0, min(len(lines), _LONGEST_EXCERPT) - 1, None
    else:
        first, last, failing = max(found.row - _CONTEXT_LINES, 0), min(found.row + _CONTEXT_LINES, len(lines) - 1), found.row
    numbers = [statement.line_of(_start_of(statement.text, row)) for row in range(first, last + 1)]
    width = len(str(numbers[-1]))
    shown: list[str] = []
    for row, number in zip(range(first, last + 1), numbers, strict=True):
        line = _printable(lines[row])
        shown.append(f"{number:>{width}} | {line[:_LONGEST_LINE]}".rstrip())
        if row == failing and found is not None:
            shown.append(f"{' ' * width} | {_underline(line, found.column)}")
    if failing is None and last < len(lines) - 1:
        shown.append(f"{' ' * width} | … (to line {statement.last_line})")
    return "\n".join(shown)


def _printable(line: str) -> str:
    """The line with bytes that aren't UTF-8 and control characters replaced one for one, so that columns stay."""
    return "".join(
        character if character.isprintable() or character == "\t" else "\N{REPLACEMENT CHARACTER}" for character in line.rstrip()
    )


def _underline(line: str, column: int | None) -> str:
    start = column - 1 if column is not None and column <= len(line) else len(line) - len(line.lstrip())
    token = _TOKEN.match(line, start) if column is not None else None
    length = len(token[0]) if token else max(len(line.rstrip()) - start, 1)
    lead = "".join("\t" if character == "\t" else " " for character in line[:start])
    return lead[:_LONGEST_LINE] + "^" * min(length, _LONGEST_LINE)
