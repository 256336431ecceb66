"""The error for a statement that the server refused: goose's words, the position in the file, an excerpt of the file's own text.

Where the error was: the server's position if it gives one, the `line N` of a DO block's context, else the statement's lines. Never a guess. The
excerpt and the quoted query hold no value that ENVSUB filled in, and the server's words are masked where they repeat one.
"""

from __future__ import annotations

import re

from migrator import errors, targets
from migrator.goose import excerpts, goquote, gounicode, lexical_rules, statements
from migrator.planning import plans
from migrator.postgres import failures
from migrator.postgres.reading import readings
from migrator.targets import Direction

_INLINE_BLOCK = re.compile(r"\binline_code_block\b\D*(\d+)")
_QUOTE = re.compile(rf"{lexical_rules.POSTGRES_DOLLAR}|'")
_DO = re.compile(r"\bdo\b", re.IGNORECASE)


def of_statement(
    step: plans.Step,
    statement: statements.Statement,
    failure: failures.ServerFailure,
    *,
    characters: bool = True,
    journalled: bool = True,
    remedy: str = "",
) -> errors.GreylagError:
    """Returns the error for one statement of a migration.

    Args:
        characters: whether the server's position counts characters (else bytes).
        journalled: whether the next run of a file without a transaction knows what this one has executed.
        remedy: what to do about it (`remedies.of`).
    """
    found = position(statement, failure, characters=characters)
    message = _of_query(step, statement, statements.masked(str(failure), statement.substitutions))
    more = [excerpts.excerpt(statement, found)]
    for label, text in (("DETAIL", failure.detail), ("HINT", failure.hint), ("CONTEXT", failure.context)):
        if text:
            more.append(f"{label}: {statements.masked(text, statement.substitutions)}")
    kind, code, hint = failures.classify(failure)
    if hint == failure.hint:
        standing = _standing(step, statement, journalled)
        hint = f"{remedy} ({standing})" if remedy else f"{standing}: correct {step.name} and run the same command again"
    line = found.line if found else statement.first_line
    return kind(message, code=code, hint=hint, where=errors.Location(step.path, line), detail="\n".join(item for item in more if item))


def _of_query(step: plans.Step, statement: statements.Statement, said: str) -> str:
    """Returns goose's words for a statement that failed."""
    shown = statements.masked(statement.text, statement.substitutions)
    return (
        f"ERROR {step.name}: failed to run SQL migration: failed to execute SQL query {goquote.quote(excerpts.quoted_query(shown))}: {said}"
    )


def broken_off(error: errors.GreylagError, step: plans.Step, index: int, doing: str) -> errors.GreylagError:
    """Returns an error that broke a run off (a lost connection, the end of the time, a signal), with the file and the statement that had no answer yet.

    Args:
        index: of that statement, from 1; 0 for what is around the statements, `doing` names it.
    """
    if not index:
        message, where, detail = f"ERROR {step.name}: failed to run SQL migration: {doing}: {error.message}", errors.Location(step.path), ""
    else:
        statement = step.statements[index - 1]
        message = _of_query(step, statement, statements.masked(error.message, statement.substitutions))
        where, detail = errors.Location(step.path, statement.first_line), excerpts.excerpt(statement, None)
    return type(error)(message, code=error.code, hint=error.hint, where=where, detail=detail)


def _standing(step: plans.Step, statement: statements.Statement, journalled: bool) -> str:
    """Says which part of a file is applied after one of its statements was refused."""
    if step.mode is targets.Mode.TRANSACTION and _may_have_committed(step, statement):
        return "what the file itself committed stays, and the next run begins at its first statement"
    if step.mode is targets.Mode.TRANSACTION or statement is step.statements[0]:
        return "nothing of this file was applied"
    if journalled:
        return "what was applied before it is recorded, the next run goes on behind it"
    return "what was applied before it stays, and without versioning the next run begins at the first statement"


def _may_have_committed(step: plans.Step, statement: statements.Statement) -> bool:
    """Tells whether a transactional file may have committed something by itself before this statement failed."""
    for item, reading in zip(step.statements, readings.of(step).statements, strict=True):
        if item is statement:
            return reading.ends and reading.commands > 1
        if reading.ends:
            return True
    return False


def of_step(step: plans.Step, failure: failures.ServerFailure, doing: str) -> errors.GreylagError:
    """Returns the error for what is around the statements: goose's "failed to commit transaction", "failed to insert new goose version"."""
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


def recording(step: plans.Step) -> str:
    """Returns goose's words for a history row that can't be written, or taken away."""
    return "failed to insert new goose version" if step.direction is Direction.UP else "failed to delete goose version"


def nul_byte(step: plans.Step, statement: statements.Statement) -> errors.GreylagError:
    """Returns the error for a statement with a NUL byte: the protocol ends a text there, so the rest would silently not be executed."""
    line = statement.line_of(statement.text.index("\0"))
    return errors.StatementRejected(
        f"ERROR {step.name}: failed to run SQL migration: the statement holds a NUL byte",
        code="nul-byte",
        where=errors.Location(step.path, line),
        hint="remove the byte: PostgreSQL takes none in SQL text (a bytea value can be written as '\\x00')",
    )


def position(statement: statements.Statement, failure: failures.ServerFailure, *, characters: bool = True) -> excerpts.Position | None:
    """Returns the position in the file at which the server found the error; None when it didn't say."""
    text = statement.text
    if failure.position is not None:
        return excerpts.position_of(statement, failure.position - 1 if characters else len(_prefix(text, failure.position - 1)))
    inside = _INLINE_BLOCK.findall(failure.context)
    opening = _QUOTE.search(text)
    if not inside or opening is None or len(_DO.findall(text[: opening.start()])) != 1 or readings.read(statement).commands != 1:
        return None
    row = text.count("\n", 0, opening.end()) + int(inside[-1]) - 1
    return excerpts.position_of_row(statement, row) if row <= text.count("\n") else None


def _prefix(text: str, size: int) -> str:
    return gounicode.decode(gounicode.encode(text)[:size])
