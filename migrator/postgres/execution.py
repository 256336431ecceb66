"""Executes migrations in transactions: one migration, one transaction, no round trip of its own (architecture.md §2.4).

**One pipeline for many migrations.** A pipeline is libpq's way to send many messages before their answers arrive, up to a Sync at its end. After an
error the server skips every further message up to the Sync. Consecutive migrations share one pipeline, and each brings its own transaction:

    BEGIN
    SET LOCAL synchronous_commit = off          if a later COMMIT of the pipeline waits for the disk
    SET LOCAL lock_timeout = 200                before the first statement whose lock blocks others (`etiquette`)
    ALTER TABLE users ADD COLUMN name text      statement 1 of migration 1
    UPDATE users SET name = ''                  statement 2
    WITH recorded AS (INSERT INTO goose_db_version …) INSERT INTO greylag_migration …      `history.record`
    COMMIT
    BEGIN …                                     migration 2, and so on
    Sync

**An error.** If statement 2 of migration 2 fails, the answers end with that error: migration 1 is committed and recorded, migration 2 is rolled back,
and migration 3 was skipped and has not begun. So no migration ever runs inside a failed one. When the error is a lock time-out, a deadlock or a
serialization failure, `retry_or_raise` finds the blocker, waits, and returns; then a new pipeline starts with migration 2. Every other error of
a migration is raised, as is LockUnavailable once the budget for retries is used up.

**Messages.** goose sends a statement as one message, even if it holds several commands. Here each command is a message of its own if that means
the same (`readings`), so that it has its own result and its own text in pg_stat_activity. Some files can't go through a pipeline: those with COPY,
with a COMMIT of their own, with several commands that can't be separated beyond doubt, and very large ones. `_execute_alone` sends their statements
one by one over the simple protocol, as goose does.

**The disk.** Only every 64th COMMIT and the last one wait for the disk. All COMMITs before such a one are then on the disk too, because the write-ahead
log is one sequence. A server that loses power in between loses whole migrations, each together with its history row, and the run fails.

**The session.** What a file may have left in it, settings above all, is taken away in front of the next BEGIN (`restoring`).
"""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from migrator import errors
from migrator.goose import gounicode
from migrator.goose.statements import Statement
from migrator.planning import events, plans
from migrator.postgres import blockers, etiquette, evidence, failures, history, locks, recording, rejections, remedies, restoring
from migrator.postgres.pipelines import Message, Rows, message
from migrator.postgres.reading import readings
from migrator.postgres.reading.lock_classes import LockClass
from migrator.postgres.reading.readings import Reading
from migrator.postgres.run import Patience, Run
from migrator.postgres.session import Session

_FLUSHED_EACH = 64
"""Migrations between two COMMITs that wait for the disk, which bounds what a loss of power can take back."""

_BULK = 20
"""From this many migrations on, the server is asked for results once per migration instead of once per statement."""

_OWN_ID = "SELECT pg_catalog.pg_current_xact_id()::xid"
"""Takes a transaction id: everything that is written from then on has a later one."""

_LARGEST_PIPELINED = 1024 * 1024
"""Bytes of statements; a larger file goes statement by statement, so that it doesn't lie in memory twice."""


def execute(run: Run, steps: Sequence[plans.Step]) -> None:
    """Executes transactional steps in order. Raises what `engines.Database.execute` says."""
    position = 0
    while position < len(steps):
        if not (run.session.standard_strings and run.session.counts_characters):
            restoring.restore(run.session)  # a file may have changed how the server reads the next one
        if _is_pipelined(run.session, steps[position]):
            position += _execute_pipelined(run, steps[position:])
        else:
            _execute_alone(run, steps[position])
            position += 1


def _is_pipelined(session: Session, step: plans.Step) -> bool:
    reading = readings.of(step)
    if not session.standard_strings or not reading.pipelined or reading.size > _LARGEST_PIPELINED:
        return False
    return session.counts_characters or not reading.divided  # in other encodings only the server can tell where commands end


# --- pipelines --------------------------------------------------------------------------------------------------------------------


class _Role(enum.Enum):
    RESTORING = enum.auto()
    BEGIN = enum.auto()
    SETTING = enum.auto()
    STATEMENT = enum.auto()
    RECORD = enum.auto()
    COMMIT = enum.auto()


@dataclass(frozen=True, slots=True)
class _Sent:
    """One message. `index` is its statement's, from 1; a statement of several commands has as many messages: `begins` is where in the statement's text
    this one's part begins, `last` whether it is the last."""

    message: Message
    role: _Role
    step: plans.Step
    index: int = 0
    begins: int = 0
    last: bool = True


@dataclass(frozen=True, slots=True)
class _Sending:
    """How the steps of one pipeline are sent."""

    bulk: bool
    retried: plans.Step | None = None
    assist: str = ""


def _composed(run: Run, step: plans.Step, sending: _Sending, *, waits: bool) -> Iterator[_Sent]:
    each = not sending.bulk
    for item in restoring.opening(run.session, step, watched=run.watched):
        yield _Sent(item, _Role.RESTORING, step)
    yield _Sent(Message(b"BEGIN"), _Role.BEGIN, step)
    if sending.assist and step is sending.retried:
        for text in etiquette.assistance(sending.assist):
            yield _Sent(Message(text.encode()), _Role.SETTING, step)
    reading = readings.of(step)
    if not waits and "synchronous_commit" not in reading.sets:
        yield _Sent(Message(b"SET LOCAL synchronous_commit = off"), _Role.SETTING, step)
    settings = etiquette.settings(run, step)
    for index, statement in enumerate(step.statements, start=1):
        for text in settings.get(index, ()):
            yield _Sent(Message(text.encode()), _Role.SETTING, step)
        for begins, last, item in messages_of(statement, reading.statements[index - 1], flush=each):
            yield _Sent(item, _Role.STATEMENT, step, index, begins, last)
    if run.versioning:
        yield _Sent(history.record(run.where, step, run.author, run.note(reading.work)), _Role.RECORD, step)
    yield _Sent(Message(b"COMMIT", flush=True), _Role.COMMIT, step)


def messages_of(statement: Statement, reading: Reading, *, flush: bool = False) -> Iterator[tuple[int, bool, Message]]:
    """Returns a statement's messages: where in its text each one's part begins, and whether it is the last. Each command is sent by itself, so that it has its
    own result and stands in pg_stat_activity with its own text."""
    for number, (begins, part) in enumerate(reading.messages(statement.text), start=1):
        last = number > len(reading.separators)
        yield begins, last, Message(gounicode.encode(part), flush=flush and last, streams=reading.returns)


def _execute_pipelined(run: Run, steps: Sequence[plans.Step]) -> int:
    """Executes the steps up to the first one that no pipeline can carry; returns how many."""
    retries: dict[int, Patience] = {}
    started: set[int] = set()
    position, count = 0, _pipelined_length(run.session, steps)
    sending = _Sending(bulk=count >= _BULK)
    while position < count:
        progress = _Progress(run, started)
        try:
            with located(progress.at_work):
                run.session.pipeline(progress.sending(steps[position:count], sending), progress.on_result)
            break
        except failures.ServerFailure as failure:
            position += progress.finished
            failed = progress.sent[failure.index]
            run.session.rollback()
            run.session.changed = True  # how much of the session a broken pipeline has restored or changed is not followed
            if failure.sqlstate == failures.NO_SUCH_STATEMENT and failed.role is _Role.RECORD:
                continue  # a file deallocated the prepared statement; the session has noted that, and prepares it again
            patience = retries.setdefault(failed.step.version, Patience())
            retry_or_raise(run, failed.step, failed.index, failure.behind(failed.begins), patience, _doing(failed.role, failed.step))
            sending = replace(sending, retried=failed.step, assist=patience.assist)
    return count


def _pipelined_length(session: Session, steps: Sequence[plans.Step]) -> int:
    """Counts the steps at the beginning that a pipeline can carry. A step that may change how later ones are read ends the count."""
    return next((index for index, step in enumerate(steps) if not _is_pipelined(session, step)), len(steps))


def _doing(role: _Role, step: plans.Step) -> str:
    return {
        _Role.RESTORING: "failed to restore the session",
        _Role.BEGIN: "failed to begin transaction",
        _Role.SETTING: "failed to prepare the transaction",
        _Role.RECORD: rejections.recording(step),
        _Role.COMMIT: "failed to commit transaction",
    }.get(role, "")


AtWork = tuple[plans.Step, int, str]
"""A step, the index of one of its statements (0: what is around them), and what is around them (`_doing`)."""


@contextlib.contextmanager
def located(at_work: Callable[[], AtWork | None]) -> Iterator[None]:
    """Stands around the sending of migrations: what breaks it off from outside (a lost connection, the end of the time, a signal) says where it did."""
    try:
        yield
    except (errors.Unavailable, errors.TimedOut, errors.Interrupted) as error:
        found = at_work() if error.where is None else None
        if found is None:
            raise
        raise rejections.broken_off(error, *found) from None


class _Progress:
    """What of a pipeline was sent, and its results as events, as they arrive."""

    def __init__(self, run: Run, started: set[int]) -> None:
        self.run = run
        self.started = started
        self.sent: dict[int, _Sent] = {}  # those without a result yet, by their place in the pipeline
        self.finished = 0
        self.bulk = False
        self.began = self.last = time.monotonic()
        self.seconds: float | None = None

    def sending(self, steps: Sequence[plans.Step], how: _Sending) -> Iterator[Message]:
        place = 0
        self.bulk = how.bulk
        for number, step in enumerate(steps, start=1):
            waits = number == len(steps) or number % _FLUSHED_EACH == 0
            for item in _composed(self.run, step, how, waits=waits):
                self.sent[place] = item
                place += 1
                yield item.message

    def at_work(self) -> AtWork | None:
        """Tells the statement that was at work. Results come in order, so it is the oldest one without a result, except where the server still holds results
        back (`bulk`) and has not ended the session, which sends them: then it is one of several."""
        item = next(iter(self.sent.values()), None)
        if item is None:
            return None
        waiting = [other for other in self.sent.values() if other.step is item.step and other.role is _Role.STATEMENT]
        if item.role in (_Role.RECORD, _Role.COMMIT) or not waiting:
            return (item.step, 0, _doing(item.role, item.step))
        first, last = waiting[0].index, waiting[-1].index
        if first == last or not self.bulk or self.run.session.parting is not None:
            return (item.step, first, "")
        lines = f"{item.step.statements[first - 1].first_line} to {item.step.statements[last - 1].last_line}"
        return (item.step, 0, f"no answer yet to the statements of lines {lines}")

    def on_result(self, index: int, rows: Rows) -> None:
        item = self.sent.pop(index)
        if not item.last:
            return
        step = item.step
        now = time.monotonic()
        if item.role is _Role.BEGIN:
            self.began, self.seconds = now, None
            announce(self.run, step, self.started)
        elif item.role is _Role.STATEMENT:
            self.run.listener(statement_finished(step, item.index, now - self.last))
        elif item.role is _Role.RECORD:
            self.seconds = float(rows[0][0] or 0)
        elif item.role is _Role.COMMIT:
            self.finished += 1
            self.run.listener(migration_finished(step, now - self.began if self.seconds is None else self.seconds))
        self.last = now


def announce(run: Run, step: plans.Step, started: set[int]) -> None:
    """Emits MigrationStarted, once however often the migration is tried."""
    if step.version not in started:
        started.add(step.version)
        run.listener(events.MigrationStarted(step.version, step.name, step.direction, len(step.statements)))


def statement_finished(step: plans.Step, index: int, duration: float) -> events.StatementFinished:
    statement = step.statements[index - 1]
    return events.StatementFinished(step.version, index, statement.first_line, statement.last_line, duration)


def migration_finished(step: plans.Step, duration: float) -> events.MigrationFinished:
    return events.MigrationFinished(step.version, step.name, step.direction, len(step.statements), duration)


# --- retries ----------------------------------------------------------------------------------------------------------------------


def retry_or_raise(
    run: Run,
    step: plans.Step,
    index: int,
    failure: failures.ServerFailure,
    patience: Patience,
    doing: str = "",
    *,
    again: bool = True,
    skipped: int = 0,
) -> None:
    """Returns when the work, which was rolled back as a whole, is to be tried again; it has waited until then.

    Args:
        index: of the failed statement, from 1; 0 for what is around the statements, `doing` names it.
        again: whether the work can be repeated (a file that commits by itself can't).
        skipped: how many statements of the file an earlier run has executed.

    Raises: the error of the failure; LockUnavailable when the budget is used up, naming who was in the way.
    """
    characters = run.session.counts_characters
    if index:
        remedy = remedies.of(run.session, step, index, failure, skipped=skipped)
        statement = step.statements[index - 1]
        error = rejections.of_statement(step, statement, failure, characters=characters, journalled=run.versioning, remedy=remedy)
    else:
        error = rejections.of_step(step, failure, doing)
    if failure.sqlstate not in failures.RETRIED or not again:
        raise error from None
    at = max(index, 1) - 1
    text, lock = (step.statements[at].text, readings.of(step).statements[at].lock) if step.statements else ("", LockClass.NONE)
    blocker = blockers.find(run.session, text, lock)
    patience.attempt += 1
    if patience.attempt == 1:
        patience.since = time.monotonic()
    patience.assist = blocker.relation if blocker.is_autovacuum else ""
    delay = locks.delay(patience.attempt)
    budget = run.timeouts(step, lock).budget
    if time.monotonic() - patience.since + delay > budget:
        raise _budget_used_up(error, blocker, patience, budget) from None
    first_line = step.statements[index - 1].first_line if index else 0
    run.listener(events.StatementRetried(step.version, index, first_line, blocker.text, patience.attempt, delay))
    with located(lambda: (step, index, doing)):
        run.session.pause(delay)


def _budget_used_up(error: errors.GreylagError, blocker: blockers.Blocker, patience: Patience, budget: float) -> errors.LockUnavailable:
    return errors.LockUnavailable(
        f"{error.message}; tried {patience.attempt} times within {budget:g} s; in the way: {blocker.text}",
        code="lock-budget",
        where=error.where,
        detail=error.detail,
        hint="nothing of this file was applied; run it again when the blocking transaction has ended (pg_terminate_backend(pid) ends it),"
        " or allow more with `-- greylag: lock-budget 5m`",
    )


# --- one statement after the other --------------------------------------------------------------------------------------------------


def _execute_alone(run: Run, step: plans.Step) -> None:
    """Executes one migration in a transaction over the simple protocol, as goose does."""
    refuse_nul(step)
    patience, started = Patience(), set[int]()
    while True:
        position = _Position()
        try:
            with located(lambda position=position: (step, position.index, position.doing)):  # type: ignore[misc]
                _try_alone(run, step, patience, position, started)
            return
        except failures.ServerFailure as failure:
            run.session.rollback()
            run.session.changed = True
            retry_or_raise(run, step, position.index, failure, patience, position.doing, again=not position.committed)


@dataclass
class _Position:
    """Where the trying of a migration is: `index` of the statement, 0 for what is around them; `committed`: the file may have ended its transaction."""

    index: int = 0
    committed: bool = False
    doing: str = "failed to begin transaction"


def _try_alone(run: Run, step: plans.Step, patience: Patience, position: _Position, started: set[int]) -> None:
    session = run.session
    began = time.monotonic()
    before = restoring.opening(run.session, step, watched=run.watched)
    settings = etiquette.settings(run, step)
    if run.versioning and readings.of(step).ends:
        since = f"'{session.batch([*before, message(_OWN_ID)])[-1][0][0]}'::xid"
        session.simple(b"BEGIN")
    else:
        since = ""
        session.batch([*before, Message(b"BEGIN")])
    announce(run, step, started)
    if patience.assist:
        send(session, etiquette.assistance(patience.assist))
    for index, statement in enumerate(step.statements, start=1):
        position.index, position.doing = 0, "failed to prepare the transaction"
        send(session, settings.get(index, ()))
        position.index = index
        reading = readings.of(step).statements[index - 1]
        position.committed = position.committed or (reading.ends and reading.commands > 1)
        sent_at = time.monotonic()
        session.simple(gounicode.encode(statement.text))
        position.committed = position.committed or reading.ends
        run.listener(statement_finished(step, index, time.monotonic() - sent_at))
    duration: float | None = None
    if run.versioning:
        position.index, position.doing = 0, rejections.recording(step)
        whole = session.in_transaction and not position.committed
        duration = record(run, step, None if whole else time.monotonic() - began, since)
    position.index, position.doing = 0, "failed to commit transaction"
    session.simple(b"COMMIT")
    run.listener(migration_finished(step, time.monotonic() - began if duration is None else duration))


def record(run: Run, step: plans.Step, duration: float | None, since: str = "") -> float:
    """Records a step; returns its seconds. `duration` is given where the open transaction isn't the whole of it; `since` is the id of a transaction
    before it, where the file may have ended its own."""
    note = evidence.between(since, recording.places(run.where), indexes=False) if since else run.note(readings.of(step).work)
    item = replace(history.record(run.where, step, run.author, note, seconds=duration), name=b"")  # the file may have deallocated it
    return float(run.session.batch([item])[0][0][0] or 0)


def send(session: Session, texts: Iterable[str]) -> None:
    """Sends commands of greylag's own without a result, in one round trip."""
    messages = [replace(message(text), wants_rows=False) for text in texts]
    if messages:
        session.batch(messages)


def refuse_nul(step: plans.Step) -> None:
    """Raises for a statement with a NUL byte, before anything is sent."""
    for statement in step.statements:
        if "\0" in statement.text:
            raise rejections.nul_byte(step, statement)
