"""The error for a statement of a migration: goose's words, the position in the file, an excerpt of the file's own text.

The server names line and column of the statement for syntax errors; otherwise the statement's first line is given, never a guess. The
excerpt holds no value that ENVSUB filled in, and the server's words are masked where they repeat one.
"""

from __future__ import annotations

from migrator import errors
from migrator.clickhouse import failures
from migrator.goose import excerpts, goquote, gounicode
from migrator.goose.statements import Statement, masked
from migrator.planning.plans import Step


def of_statement(step: Step, statement: Statement, refusal: failures.Refusal, *, partly: bool = False) -> errors.GreylagError:
    """Returns the error for a statement that the server refused.

    Args:
        partly: whether it may have had some effect before it failed.
    """
    found = position(statement, refusal)
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
        where=errors.Location(step.path, found.line if found else statement.first_line),
        detail=excerpts.excerpt(statement, found),
    )


def of_lost(step: Step, statement: Statement, lost: failures.Lost) -> errors.GreylagError:
    """Returns the error for a statement whose answer never came."""
    error = failures.connection_lost(lost, f"during a statement of {step.name}")
    error.where = errors.Location(step.path, statement.first_line)
    return error


def of_step(step: Step, failure: failures.Refusal | failures.Lost, doing: str) -> errors.GreylagError:
    """Returns the error for what is around the statements: goose's "failed to insert new goose version"."""
    if isinstance(failure, failures.Lost):
        error = failures.connection_lost(failure, f"({doing})")
    else:
        kind, code, hint = failures.classify(failure)
        error = kind(f"ERROR {step.name}: failed to run SQL migration: {doing}: {failure}", code=code, hint=hint)
    error.where = errors.Location(step.path)
    return error


def _message(step: Step, statement: Statement, said: str) -> str:
    shown = excerpts.quoted_query(masked(statement.text, statement.substitutions))
    return f"ERROR {step.name}: failed to run SQL migration: failed to execute SQL query {goquote.quote(shown)}: {said}"


def position(statement: Statement, refusal: failures.Refusal) -> excerpts.Position | None:
    """Returns the position at which the server found the error; None when it didn't say. (The server counts bytes.)"""
    if refusal.offset is None:
        return None
    before = gounicode.decode(gounicode.encode(statement.text)[: refusal.offset - 1])
    return excerpts.position_of(statement, len(before))
