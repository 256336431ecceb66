"""Questions that only a person can answer (exit code 15): the outcome of a statement that no catalogue shows, and the command that answers it.

No statement is ever executed again blindly: if its outcome can't be determined, the run stops with one of these errors.
"""

from __future__ import annotations

from migrator import errors
from migrator.goose import excerpts
from migrator.planning.plans import Step


def unknown(step: Step, index: int, evidence: str) -> errors.NeedsAnswer:
    """Returns the error for statement `index` (from 1), which may have been executed; `evidence` says why the database doesn't tell."""
    statement = step.statements[index - 1]
    return errors.NeedsAnswer(
        f"{step.name}: was statement {index} executed? A run was broken off at it; {evidence}",
        where=errors.Location(step.path, statement.first_line),
        detail=excerpts.excerpt(statement, None),
        hint=f"look whether it took effect, then answer {_options(step, index)}, and run the migration again",
    )


def changed(step: Step, index: int, evidence: str = "") -> errors.NeedsAnswer:
    """Returns the error for statement `index`, which was or may have been executed with another text than the file has now.

    Args:
        evidence: what the database says of the earlier text.
    """
    statement = step.statements[index - 1]
    told = f": {evidence}" if evidence else ""
    return errors.NeedsAnswer(
        f"{step.name}: statement {index} was executed by an earlier run, or may have been, with another text than the file has now{told}",
        code="statement-changed",
        where=errors.Location(step.path, statement.first_line),
        detail=excerpts.excerpt(statement, None),
        hint=f"put the text back; or answer {_options(step, index, 'the database has what the file means', 'have the new text executed')}",
    )


def temporary_data_lost(step: Step, index: int, table: str, filled: int) -> errors.NeedsAnswer:
    """Returns the error for statement `index`, which needs rows of a temporary table: they ended with the session of the run that was broken off.

    Args:
        table: the temporary table.
        filled: the statement that filled it.
    """
    statement = step.statements[index - 1]
    return errors.NeedsAnswer(
        f"{step.name} would go on at statement {index}, but the rows that statement {filled} wrote into the temporary table {table} ended with the"
        " session of the broken run",
        code="temporary-data-lost",
        where=errors.Location(step.path, statement.first_line),
        detail=excerpts.excerpt(statement, None),
        hint=f"do by hand what the statements from {index} on are to do, and answer "
        f"{_options(step, index, 'the statement need not be executed any more', 'go on with the empty table')}",
    )


def none_open(version: int, index: int) -> errors.NotFound:
    """Returns the error for an answer to a question that is not open."""
    return errors.NotFound(
        f"there is no open question about statement {index} of version {version}",
        code="no-question",
        hint="run the migration again: it says which statement it asks about, if any",
    )


def _options(step: Step, index: int, done: str = "it did", not_done: str = "it did not") -> str:
    answer = f"greylag DRIVER DBSTRING repair -done {step.version}:{index}"
    return f"with `{answer}` ({done}) or with -not-done {step.version}:{index} ({not_done})"
