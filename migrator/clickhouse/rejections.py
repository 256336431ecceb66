"""The error for a statement of a migration: goose's words, the place in the file, an excerpt of the file's own text.

The server names line and column of the statement for syntax errors; otherwise the statement's first line is the place, never a guess. The
excerpt holds no value that ENVSUB filled in, and the server's words are masked where they repeat one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from migrator import errors, goquote
from migrator.clickhouse import failures
from migrator.plans import Step
from migrator.statements import Statement, masked

_COMMENT_LINES = re.compile(r"^--.*$[\r\n]*", re.MULTILINE)
_EMPTY_LINES = re.compile(r"^$[\r\n]*", re.MULTILINE)
_TOKEN = re.compile(r"\w+|\S")
_CONTEXT_LINES = 2
_LONGEST_EXCERPT = 7  # lines of a statement shown when no line is known to be the failing one
_LONGEST_LINE = 160  # characters of one shown line


@dataclass(frozen=True, slots=True)
class Place:
    """A row of the statement's text, from 0, and a column, from 1; None where the row holds a substituted value."""

    row: int
    column: int | None


def of_statement(step: Step, statement: Statement, refusal: failures.Refusal, *, partly: bool = False) -> errors.GreylagError:
    """The error for a statement that the server refused.

    Args:
        partly: whether it may have had some effect before it failed.
    """
    found = place(statement, refusal)
    kind, code, hint = failures.classify(refusal)
    if kind is errors.NotFound:  # a database that the statement names
        kind, code, hint = errors.StatementRejected, None, ""
    if kind is errors.StatementRejected:
        hint = f"correct {step.name} and run the same command again: it goes on at this statement"
        if partly:
            hint = "the server refused it on its way, so it may have had some effect; the next run looks that up, or asks"
    return kind(
        _message(step, statement, masked(str(refusal), statement.substitutions)),
        code=code,
        hint=hint,
        where=errors.Location(step.path, line_of(statement, found.row) if found else statement.first_line),
        detail=excerpt(statement, found),
    )


def of_lost(step: Step, statement: Statement, lost: failures.Lost) -> errors.GreylagError:
    """The error for a statement whose answer never came."""
    error = failures.connection_lost(lost, f"during a statement of {step.name}")
    error.where = errors.Location(step.path, statement.first_line)
    return error


def of_step(step: Step, failure: failures.Refusal | failures.Lost, doing: str) -> errors.GreylagError:
    """The error for what is around the statements: goose's "failed to insert new goose version"."""
    if isinstance(failure, failures.Lost):
        error = failures.connection_lost(failure, f"({doing})")
    else:
        kind, code, hint = failures.classify(failure)
        error = kind(f"ERROR {step.name}: failed to run SQL migration: {doing}: {failure}", code=code, hint=hint)
    error.where = errors.Location(step.path)
    return error


def question(step: Step, index: int, evidence: str, run: str) -> errors.NeedsAnswer:
    """What only a person can know."""
    statement = step.statements[index - 1]
    return errors.NeedsAnswer(
        f"{step.name}: was statement {index} executed? The run {run[:12]} sent it, or was about to, and was broken off; {evidence}",
        where=errors.Location(step.path, statement.first_line),
        detail=excerpt(statement, None),
        hint=f"look whether it took effect, then answer: greylag -dir DIR clickhouse URL repair -done {step.version}:{index}"
        f" (or -not-done {step.version}:{index}), and run the migration again",
    )


def changed(step: Step, index: int) -> errors.NeedsAnswer:
    """A statement that was executed has another text now."""
    statement = step.statements[index - 1]
    return errors.NeedsAnswer(
        f"{step.name}: statement {index} was executed by an earlier run, or may have been, with another text than the file has now",
        code="statement-changed",
        where=errors.Location(step.path, statement.first_line),
        detail=excerpt(statement, None),
        hint="put the text back; or, if what the database has is what the file means: greylag -dir DIR clickhouse URL repair"
        f" -done {step.version}:{index}; or -not-done {step.version}:{index} to have the new text executed",
    )


def _message(step: Step, statement: Statement, said: str) -> str:
    shown = _EMPTY_LINES.sub(
        "", _COMMENT_LINES.sub("", masked(statement.text, statement.substitutions))
    )  # as goose cleans it (goose.md §5.5)
    return f"ERROR {step.name}: failed to run SQL migration: failed to execute SQL query {goquote.quote(shown)}: {said}"


def place(statement: Statement, refusal: failures.Refusal) -> Place | None:
    """Where the server found the error, as far as it said. It counts columns in bytes."""
    if refusal.offset is None:
        return None
    raw = statement.text.encode("utf-8", "surrogateescape")
    before = raw[: refusal.offset - 1].decode("utf-8", "surrogateescape")
    row = before.count("\n")
    lines, shown = statement.text.split("\n"), statement.source.split("\n")
    untouched = row < len(shown) and lines[row] == shown[row]
    return Place(row, len(before) - (before.rfind("\n") + 1) + 1 if untouched else None)


def line_of(statement: Statement, row: int) -> int:
    """The file's line of a row of the statement's text."""
    return statement.line_of(sum(len(line) + 1 for line in statement.text.split("\n")[:row]))


def excerpt(statement: Statement, found: Place | None) -> str:
    """Lines of the file around the failing one, which is underlined; the beginning of the statement when no line is known."""
    lines = statement.source.split("\n")
    if found is None or statement.text.count("\n") != len(lines) - 1:  # values of several lines: rows of text and source differ
        first, last, failing = 0, min(len(lines), _LONGEST_EXCERPT) - 1, None
    else:
        first, last, failing = max(found.row - _CONTEXT_LINES, 0), min(found.row + _CONTEXT_LINES, len(lines) - 1), found.row
    numbers = [line_of(statement, row) for row in range(first, last + 1)]
    width = len(str(numbers[-1]))
    shown: list[str] = []
    for row, number in zip(range(first, last + 1), numbers, strict=True):
        line = "".join(item if item.isprintable() or item == "\t" else "\N{REPLACEMENT CHARACTER}" for item in lines[row].rstrip())
        shown.append(f"{number:>{width}} | {line[:_LONGEST_LINE]}".rstrip())
        if row == failing and found is not None:
            shown.append(f"{' ' * width} | {_underline(line, found.column)}")
    if failing is None and last < len(lines) - 1:
        shown.append(f"{' ' * width} | … (to line {statement.last_line})")
    return "\n".join(shown)


def _underline(line: str, column: int | None) -> str:
    start = column - 1 if column is not None and column <= len(line) else len(line) - len(line.lstrip())
    token = _TOKEN.match(line, start) if column is not None else None
    length = len(token[0]) if token else max(len(line.rstrip()) - start, 1)
    lead = "".join("\t" if character == "\t" else " " for character in line[:start])
    return lead[:_LONGEST_LINE] + "^" * min(length, _LONGEST_LINE)
