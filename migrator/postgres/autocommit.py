"""Executes `-- +goose NO TRANSACTION` files: statement by statement, journalled, resumable (architecture.md §2.5).

A statement that may run in a transaction shares one with its journal row, so its outcome is never unknown. The others (CREATE INDEX
CONCURRENTLY, VACUUM, a procedure that commits) are journalled as started before and as done after. The next run skips what is done, settles
what is unknown from the catalogue, and asks where that can't be.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence

from migrator import errors
from migrator.goose import gounicode
from migrator.goose.statements import Statement
from migrator.planning import events, journal, plans, questions
from migrator.postgres import (
    etiquette,
    evidence,
    execution,
    failures,
    history,
    inventory,
    journal_rows,
    locks,
    recording,
    rejections,
    restoring,
    settling,
)
from migrator.postgres.pipelines import Message
from migrator.postgres.reading import readings
from migrator.postgres.reading.lock_classes import LockClass
from migrator.postgres.reading.readings import Reading
from migrator.postgres.run import Patience, Run

_ENDS = ("COMMIT", "END")


def execute(run: Run, step: plans.Step) -> None:
    """Executes one step. Raises what `engines.Database.execute` says; NeedsAnswer when an earlier run left a question."""
    execution.refuse_nul(step)
    before = restoring.opening(run.session, step, watched=run.watched)
    etiquette.note_touches(run, step)
    began = time.monotonic()
    run.listener(events.MigrationStarted(step.version, step.name, step.direction, len(step.statements)))
    first = _resume(run, step, before) if run.versioning else 1
    if before and not run.versioning:
        run.session.batch(before)
    bound = any(readings.binds(item) for item in step.statements[: first - 1])
    for index in range(first, len(step.statements) + 1):
        if index > first:
            bound = bound or readings.binds(step.statements[index - 2])
            if not bound and not run.session.in_transaction:
                run.boundary()
        started = time.monotonic()
        with execution.located(lambda at=index: (step, at, "")):  # type: ignore[misc]
            _execute(run, step, index, skipped=first - 1)
        run.listener(execution.statement_finished(step, index, time.monotonic() - started))
    duration = time.monotonic() - began
    if run.versioning:
        _record(run, step, duration)
    run.listener(execution.migration_finished(step, duration))


def _record(run: Run, step: plans.Step, duration: float) -> None:
    """Writes the history row and ends the file's journal, in one transaction."""
    item = history.record(run.where, step, run.author, evidence.SHALLOW, clear_journal=True, seconds=duration)
    try:
        run.session.rollback()  # a file that left its own transaction open loses it, as with goose's connection
        run.session.batch([Message(b"BEGIN"), item, Message(b"COMMIT")])
    except failures.ServerFailure as failure:
        run.session.rollback()
        raise rejections.of_step(step, failure, rejections.recording(step)) from None


# --- one statement ------------------------------------------------------------------------------------------------------------------


def _execute(run: Run, step: plans.Step, index: int, *, skipped: int) -> None:
    """Executes one statement; tries again while it doesn't get its lock."""
    reading = readings.of(step).statements[index - 1]
    patience = Patience()
    shared = reading.transactional and run.versioning
    while True:
        try:
            if run.session.in_transaction or reading.controls:
                _within_own_transaction(run, step, index, reading)
            elif shared:
                _with_journal_row(run, step, index, reading, patience)
            else:
                _by_itself(run, step, index, reading)
            return
        except failures.ServerFailure as failure:
            own_transaction = run.session.in_transaction and not shared
            run.session.rollback()
            if shared and failure.sqlstate in failures.NOT_IN_TRANSACTION:
                shared = False
                continue
            again = not own_transaction and not reading.controls and not _may_have_committed(reading, failure)
            execution.retry_or_raise(run, step, index, failure, patience, again=again, skipped=skipped)


def _with_journal_row(run: Run, step: plans.Step, index: int, reading: Reading, patience: Patience) -> None:
    """Executes the statement and writes its journal row in one transaction."""
    done = journal_rows.entry(run.where, step, index, journal.State.DONE, run.author, run.note(reading.work))
    statement = step.statements[index - 1]
    opening = [
        "BEGIN",
        *(etiquette.assistance(patience.assist) if patience.assist else []),
        *_setting(_timeouts(run, step, reading), local=True),
    ]
    if reading.pipelined and run.session.standard_strings and (run.session.counts_characters or reading.commands <= 1):
        parts = list(execution.messages_of(statement, reading))
        messages = [*(Message(text.encode()) for text in opening), *(item for _, _, item in parts), done, Message(b"COMMIT")]
        try:
            run.session.batch(messages)
        except failures.ServerFailure as failure:
            at = failure.index - len(opening)
            raise failure.behind(parts[at][0]) if 0 <= at < len(parts) else failure from None
        return
    execution.send(run.session, opening)
    run.session.simple(_bytes(statement))
    run.session.batch([done, Message(b"COMMIT")])


def _by_itself(run: Run, step: plans.Step, index: int, reading: Reading) -> None:
    """Executes a statement that can't share a transaction: journalled as started before, as done after."""
    statement = step.statements[index - 1]
    noted = ""
    if run.versioning:
        noted = settling.before(run.session, statement.text)
        _write(run, step, index, journal.State.STARTED, noted, evidence.OWN_ID)
    given = _timeouts(run, step, reading)
    execution.send(run.session, _setting(given, local=False))
    try:
        run.session.simple(_bytes(statement))
    except failures.ServerFailure as failure:
        if not _may_have_committed(reading, failure):
            _not_done(run, step, index, noted, sweep=True)
        raise
    except BaseException:
        if run.session.was_cancelled and not reading.commits_itself:
            with contextlib.suppress(errors.GreylagError, failures.ServerFailure):
                _not_done(run, step, index, noted, sweep=False)
        raise
    finally:
        if not run.session.closed and not run.session.in_transaction:
            with contextlib.suppress(errors.GreylagError, failures.ServerFailure), run.session.cleaning():
                usual = {"statement_timeout": run.policy.statement_timeout, "lock_timeout": run.policy.session_lock_timeout}
                execution.send(run.session, _setting({name: usual[name] for name in given}, local=False))
    if run.versioning:
        _write(run, step, index, journal.State.DONE, noted, _bracket(run, step, index, noted))


def _bracket(run: Run, step: plans.Step, index: int, noted: str) -> str:
    """Returns SQL for what a statement without a shared transaction wrote and removed between its *started* row and now (facts.md §1)."""
    reading = readings.of(step).statements[index - 1]
    indexes = bool(set(reading.head[:3]) & {"INDEX", "REINDEX"})
    if indexes:
        known = inventory.read(noted) or inventory.Inventory()
        gone = "'{" + ",".join(f"1259:{oid}" for oid in sorted(known.oids)) + "}'::text[]"
    else:
        gone = recording.places(run.where)
    return evidence.between(journal_rows.since(run.where, step, index), gone, indexes=indexes)


def _may_have_committed(reading: Reading, failure: failures.ServerFailure) -> bool:
    """Tells whether part of a statement's work may stay after an error. An error without a context came before the statement's body ran."""
    return reading.commits_itself and bool(failure.context)


def _not_done(run: Run, step: plans.Step, index: int, noted: str, *, sweep: bool) -> None:
    """Writes down that the server refused the statement, and drops the invalid index that it made."""
    if not run.versioning:
        return
    with run.session.cleaning():
        run.session.rollback()
        _write(run, step, index, journal.State.NOT_DONE, noted)
        if sweep:
            with contextlib.suppress(failures.ServerFailure):  # an old transaction is in the way: the next run drops it
                verdict = settling.settle(run.session, step.statements[index - 1].text, noted)
                _swept(run, step, settling.sweep(run.session, verdict.leftovers, run.policy.session_lock_timeout))


def _within_own_transaction(run: Run, step: plans.Step, index: int, reading: Reading) -> None:
    """Executes a file that begins and commits by itself. Its journal rows are part of its own transaction, so they tell what was committed."""
    ends = reading.controls and reading.head[0] in _ENDS
    note = run.note(readings.of(step).work)
    if run.versioning and ends and run.session.in_transaction:
        _write(run, step, index, journal.State.DONE, "", note)
    run.session.simple(_bytes(step.statements[index - 1]))
    if run.versioning and not ends:
        _write(run, step, index, journal.State.DONE, "", note)


def _timeouts(run: Run, step: plans.Step, reading: Reading) -> dict[str, float]:
    """Returns the time-outs that one statement is given, in seconds; those that the file sets itself are left to it."""
    timeouts = run.timeouts(step, reading.lock)
    own = readings.of(step).sets
    lock = run.policy.session_lock_timeout if reading.lock <= LockClass.ROWS else locks.share(timeouts.lock, reading.waits)
    wanted = {"statement_timeout": timeouts.statement, "lock_timeout": lock}
    return {name: value for name, value in wanted.items() if name not in own}


def _setting(values: Mapping[str, float], *, local: bool) -> list[str]:
    return [f"SET {'LOCAL ' if local else ''}{name} = {etiquette.seconds(value)}" for name, value in values.items()]


def _bytes(statement: Statement) -> bytes:
    return gounicode.encode(statement.text)


def _write(run: Run, step: plans.Step, index: int, state: journal.State, noted: str, note: str = evidence.SHALLOW) -> None:
    try:
        run.session.batch([journal_rows.entry(run.where, step, index, state, run.author, note, noted or None)])
    except failures.ServerFailure as failure:
        raise rejections.of_step(step, failure, f"failed to write {journal.TABLE}") from None


# --- resuming -----------------------------------------------------------------------------------------------------------------------


def _resume(run: Run, step: plans.Step, before: Sequence[Message]) -> int:
    """Sends what restores the session, settles what an earlier run left, and returns the first statement to execute."""
    try:
        found = journal_rows.read(run.session, run.where, step.version, before)
    except failures.ServerFailure as failure:
        raise rejections.of_step(step, failure, f"failed to read {journal.TABLE}") from None
    if not found:
        return 1
    resume = journal.resume([item.entry for item in found], step)
    index = resume.first_index_to_run
    if resume.changed_index is not None:
        raise questions.changed(step, resume.changed_index)
    if index > len(step.statements):
        _replay_settings(run, step.statements)
        return index
    noted = next((item.before for item in reversed(found) if item.entry.index == index and item.entry.direction == step.direction), "")
    _replay_settings(run, step.statements[: index - 1])  # first: they decide which objects the statement's names mean
    if resume.unknown_index is not None or noted:
        index = _settled(run, step, index, noted, unknown=resume.unknown_index is not None)
    return index


def _settled(run: Run, step: plans.Step, index: int, noted: str, *, unknown: bool) -> int:
    """Settles one statement; returns the index to go on with."""
    statement = step.statements[index - 1]
    try:
        verdict = settling.settle(run.session, statement.text, noted)
        if verdict.outcome is journal.Outcome.UNKNOWN and unknown:
            raise questions.unknown(step, index, verdict.evidence)
        _swept(run, step, settling.sweep(run.session, verdict.leftovers, run.policy.session_lock_timeout))
        if verdict.finish and unknown:
            run.session.simple(verdict.finish.encode())
    except failures.ServerFailure as failure:
        raise rejections.of_statement(step, statement, failure, characters=run.session.counts_characters) from None
    if not unknown:
        return index
    run.listener(events.StatementSettled(step.version, index, str(verdict.outcome), verdict.evidence))
    done = verdict.outcome is journal.Outcome.DONE
    if done:
        note = evidence.of_indexes(verdict.made) if verdict.made else _bracket(run, step, index, noted)
        _write(run, step, index, journal.State.DONE, noted, note)
    else:
        _write(run, step, index, journal.State.NOT_DONE, noted)
    return index + 1 if done else index


def _replay_settings(run: Run, statements: Sequence[Statement]) -> None:
    """Repeats the session settings of skipped statements: they ended with the earlier run's session, and later statements may rely on them."""
    for statement in statements:
        if readings.read(statement).restores:
            run.session.simple(_bytes(statement))


def _swept(run: Run, step: plans.Step, names: Sequence[str]) -> None:
    for name in names:
        run.listener(
            events.Note("info", "invalid-index-dropped", f"{step.name}: dropped the invalid index {name} that a failed build left")
        )
