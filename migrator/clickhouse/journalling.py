"""The journal's writer: what one run writes of its own, under the lock and behind the fence as everything else."""

from __future__ import annotations

from collections.abc import Sequence

from migrator.clickhouse import approvals
from migrator.clickhouse import history as tables
from migrator.clickhouse.history import Planned
from migrator.clickhouse.reading import readings
from migrator.clickhouse.run import Run
from migrator.clickhouse.session import OWN_SETTINGS
from migrator.goose.statements import Statement
from migrator.planning import journal
from migrator.planning.approvals import WHOLE, State
from migrator.planning.history import Fact
from migrator.planning.plans import Step

_LONGEST_TEXT = 1 << 16
"""Characters of a statement that are kept, so that it can be settled even when the file says something else by then."""

_LONGEST_DATA = 200
"""Characters of a statement that carries data or reads: what it is shows in its first words."""


def entry(run: Run, step: Step, index: int, state: journal.State, *, text: bool = False, evidence: str = "") -> journal.Entry:
    """Returns a journal entry of this run; index 0 makes the version's earlier entries void.

    Args:
        text: whether the entry is to hold the statement's text.
        evidence: what the catalogue said before (`snapshots.dumped`).
    """
    statement = step.statements[index - 1] if 0 < index <= len(step.statements) else None
    digest = journal.digest(statement, step.direction) if statement else ""
    kept = kept_text(statement) if statement and text else ""
    return journal.Entry(run.options.run_id, step.version, step.direction, index, digest, state, run.began, kept, evidence)


def kept_text(statement: Statement) -> str:
    """Returns what the journal keeps of a statement: the file's own text before ENVSUB, of data only the beginning; nothing of what is too long."""
    word = readings.head(statement.source)
    if word == "INSERT" or word in readings.READS:
        return statement.source[:_LONGEST_DATA]
    return statement.source if len(statement.source) <= _LONGEST_TEXT else ""


def write_entries(run: Run, entries: Sequence[Planned]) -> None:
    """Writes entries, in one insert. Raises as `write`."""
    if entries:
        write(run, tables.journal_statement(run.where, entries), f"{run.session.prefix}journal")


def write_facts(run: Run, facts: Sequence[Fact]) -> None:
    """Writes facts, in one insert. Raises as `write`."""
    if facts:
        write(run, tables.facts_statement(run.where, facts), f"{run.session.prefix}facts")


def consume(run: Run, step: Step) -> None:
    """Notes the run's approval, if it has one, for a version that is recorded: as used, too, with the plan's last one. Raises as `write`."""
    if run.approval is None:
        return
    states = {step.version: State.APPLIED}
    if step is run.steps[-1]:
        states[WHOLE] = State.USED
    body = approvals.statement(run.where, run.approval, states, run.options.run_id)
    write(run, body, f"{run.session.prefix}{step.version}-approval")


def write(run: Run, body: bytes, query_id: str) -> None:
    """Sends one statement of greylag's own.

    Raises:
        failures.Refusal, failures.Lost, LockUnavailable.
    """
    with run.lock.using():
        run.session.execute(body, query_id, OWN_SETTINGS)
