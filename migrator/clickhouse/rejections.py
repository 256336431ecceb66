"""The error for a statement of a migration: goose's words, the position in the file, an excerpt of the file's own text.

The server names line and column of the statement for syntax errors; otherwise the statement's first line is given, never a guess. The
excerpt holds no value that ENVSUB filled in, and the server's words are masked where they repeat one.
"""

from __future__ import annotations

from migrator import errors
from migrator.clickhouse import failures, mutations
from migrator.clickhouse.verdicts import Judgement
from migrator.goose import excerpts, goquote, gounicode
from migrator.goose.statements import Statement, masked
from migrator.planning.plans import Step


def of_statement(step: Step, statement: Statement, refusal: failures.Refusal, *, done: str | None = None) -> errors.GreylagError:
    """Returns the error for a statement that the server refused.

    Args:
        done: what is known of its effects; None where it is certain that it had none.
    """
    found = position(statement, refusal)
    kind, code, hint = failures.classify(refusal)
    if kind is errors.NotFound:  # a database that the statement names
        kind, code, hint = errors.StatementRejected, None, ""
    if kind is errors.StatementRejected:
        hint = f"correct {step.name} and run the same command again: it goes on at this statement"
        if done is not None:
            hint = f"the server refused it on its way, and it may have had some effect ({done}); the next run looks that up, or asks"
    return kind(
        _message(step, statement, masked(str(refusal), statement.substitutions)),
        code=code,
        hint=hint,
        where=errors.Location(step.path, found.line if found else statement.first_line),
        detail=excerpts.excerpt(statement, found),
    )


def of_failing_mutation(step: Step, statement: Statement, verdict: Judgement) -> errors.StatementRejected:
    """Returns the error for a statement whose mutation fails for ever: what is done of it, which mutation it is, and what ends it."""
    mine, database, table = verdict.mutation, *verdict.table
    cause = verdict.cause or mine
    assert mine is not None and cause is not None
    failing = mutations.FailingMutation(
        database, table, cause.mutation_id, ", ".join(cause.commands), masked(cause.reason, statement.substitutions)
    )
    behind = f"{mine.mutation_id}, which waits behind it, " if cause is not mine else "it "
    hint = f"correct the rows that it can't read, and the server goes on by itself; or {failing.kill}, then put back what is done of the statement"
    if cause is not mine:
        hint = f"end that one with {failing.kill}; {behind}goes on by itself then. Run the same command again"
    elif verdict.partly:
        hint += " (a column's type by MODIFY COLUMN to what it was), correct the file, and run the same command again"
    shown = excerpts.quoted_query(masked(statement.text, statement.substitutions))
    return errors.StatementRejected(
        f"ERROR {step.name}: failed to run SQL migration: failed to execute SQL query {goquote.quote(shown)}: {failing}"
        f" ({masked(verdict.evidence.split(';')[0], statement.substitutions)})",
        code="mutation-fails",
        hint=hint,
        where=errors.Location(step.path, statement.first_line),
        detail=excerpts.excerpt(statement, None),
    )


def of_unfinished(step: Step, statement: Statement, refusal: failures.Refusal, verdict: Judgement) -> errors.Unavailable:
    """Returns the error for a statement whose mutation has not ended and does not fail: other replicas are inactive, or slow."""
    return errors.Unavailable(
        _message(step, statement, masked(str(refusal), statement.substitutions)),
        code="mutation-unfinished",
        hint=f"{verdict.evidence}; the server goes on with it: run the same command again, and it is looked up",
        where=errors.Location(step.path, statement.first_line),
        detail=excerpts.excerpt(statement, None),
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
