"""Executes steps on a server without transactions, and journals them so that a run that is killed at any moment can be continued (architecture.md §2.5).

**What is written, and when.** Two migrations, of which version 1 has two statements and version 2 has one; each line is one insert or statement:

    read      what is there of all that the plan touches in one request (`snapshots`)
    journal   1/1 planned, 1/2 planned, 2/1 planned      the plan with that and the texts, in one insert, before anything runs (`recovery.prepare`)
    insert    greylag_fact: what the statements name     as the catalogue has it before them (`recording.begin`)
    execute   CREATE TABLE events …                      1/1; the catalogue can tell later whether it was executed
    journal   1/1 done
    journal   1/2 started                                because the catalogue can't tell whether an INSERT was executed
    execute   INSERT INTO events …                       1/2
    insert    goose_db_version: version 1                the end of version 1; its last statement needs no "done" of its own
    execute   ALTER TABLE events ADD COLUMN …            2/1
    insert    goose_db_version: version 2
    insert    greylag_migration: facts of 1 and 2        in batches: after a migration that took long, and at the end
    insert    greylag_fact: what is another now          the facts of the schema (`recording.finish`)
    journal   1/0 and 2/0: all entries are void          the close, in one insert, however the run ends

So a statement costs one insert more if it isn't its migration's last, and one more if its outcome leaves no trace in the catalogue.

**After a kill -9** the close is missing. The next run reads the journal before it executes anything (`recovery`): the first migration of the plan that is
not finished is where the run stopped, and its first statement that is not "done" is the only one with an unknown outcome. Killed during the INSERT
above, that is 1/2. Its outcome is settled from evidence (`settling`: `system.processes`, the query log, the catalogue), and if there is none, a person
is asked. Facts that the killed run still owed are written, too.

**After an error** the close is written: the entries of the failed migration stay, and those of a migration that an earlier run had partly done; those of
finished migrations and of those never begun are void. What a refused statement has done is looked up at once: if nothing, it is recorded as not done,
so that its file can be corrected and continues there. When only the connection broke under a statement, `_survived` looks for it on the server while the
lock is still held. Any other interruption (a signal, a time-out, a cancellation) stops the statement on the server first.

Every line above is sent within `lock.using`, which checks the lease first, and through the run's own HTTP session (`lock` explains the fence).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from migrator import errors
from migrator.clickhouse import clusters, failures, journalling, recording, recovery, rejections, settling, snapshots
from migrator.clickhouse import history as tables
from migrator.clickhouse.history import Planned
from migrator.clickhouse.reading import readings, subjects
from migrator.clickhouse.run import Run
from migrator.clickhouse.session import quote
from migrator.clickhouse.snapshots import Snapshot
from migrator.clickhouse.verdicts import Judgement
from migrator.goose.statements import Statement
from migrator.planning import events, journal
from migrator.planning.history import Fact
from migrator.planning.plans import Step
from migrator.targets import Direction

_FACTS_EVERY = 2.0
"""Seconds. Quick migrations share one insert of facts: an insert costs as much as a CREATE TABLE."""

_DRAIN_SECONDS = 10.0
"""How long a cancelled statement is awaited, so that the journal tells the truth about it."""

_RECOVER_SECONDS = 30.0
"""How long the server may be away after a connection broke under a statement before this attempt ends."""


class Execution:
    """The steps of one run, and how far it has come."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.facts: list[Fact] = []
        self.finished: set[int] = set()  # positions of steps that are recorded
        self.stopped_at: tuple[int, int, journal.State | None] | None = None  # position, statement, what is known of it
        self.before: Snapshot | None = None  # what the catalogue said before this run executed anything
        self.done: list[
            tuple[str, str]
        ] = []  # what has been executed since, as far as the catalogue shows it: as it was sent, as the journal keeps it
        self.sent = False  # whether anything of the statement at which it stopped may have reached the server
        self._flushed = time.monotonic()
        self._journalled = False
        self._session_changed = False  # whether a file has left something in the run's HTTP session
        self._described: recording.Begun | None = None
        self._partial: frozenset[int] = frozenset()
        """Positions of steps of which an earlier run had done something."""
        versions = [step.version for step in run.steps]
        self._twice = {version for version in versions if versions.count(version) > 1} if len(set(versions)) < len(versions) else set()

    # --- the run ------------------------------------------------------------------------------------------------------------------

    def execute(self) -> None:
        """Executes all steps. Raises what `engines.Database.execute` says."""
        starts = [1] * len(self.run.steps)
        if self.run.plan.target.versioning:
            with self._owned("to prepare the journal"):
                prepared = recovery.prepare(self.run)
                self._described = recording.begin(self.run)
            starts, self.before = list(prepared.starts), prepared.before
            self._journalled = True
            self._partial = frozenset(position for position, first in enumerate(starts) if first > 1)
        try:
            for position, step in enumerate(self.run.steps):
                self._step(position, step, starts[position])
        finally:
            self._close()

    def _step(self, position: int, step: Step, first: int) -> None:
        started = time.monotonic()
        self.run.listener(events.MigrationStarted(step.version, step.name, step.direction, len(step.statements)))
        self._restore_session()
        self._session_changed = any(item.belongs_to_session for item in readings.of(step))
        if first > 1:
            self._replay_session(step, first)
        for index in range(first, len(step.statements) + 1):
            self.stopped_at, self.sent = (position, index, None), False
            self._statement(position, step, index)
        self.stopped_at = (position, len(step.statements) + 1, None)
        seconds = time.monotonic() - started
        if self.run.plan.target.versioning:
            self._record(step, seconds)
        self.finished.add(position)
        self.stopped_at = None
        self.run.listener(events.MigrationFinished(step.version, step.name, step.direction, len(step.statements), seconds))

    def _restore_session(self) -> None:
        """Makes the session what it was when the run began, where a file may have changed it: the next one means the same as in a run of its own."""
        if self._session_changed:
            with self._owned("to begin a session"), self.run.lock.using():
                self.run.session.renew()
            self._session_changed = False
            self.done.append((opened := f"USE {quote(self.run.session.database)}", opened))

    def _replay_session(self, step: Step, first: int) -> None:
        """Repeats SET, USE and temporary tables of the statements that are done: they ended with the session of the run that executed them."""
        for index, statement in enumerate(step.statements[: first - 1], start=1):
            if readings.of(step)[index - 1].belongs_to_session:
                self._send(step, index, statement)
                self.done.append((statement.text, journalling.kept_text(statement)))

    def _statement(self, position: int, step: Step, index: int) -> None:
        statement = step.statements[index - 1]
        started = time.monotonic()
        if self._journalled and readings.of(step)[index - 1].leaves_no_trace:
            self._note(position, step, index, journal.State.STARTED, self._second_look(statement))
        self._send(step, index, statement)
        if self.before is not None and readings.of(step)[index - 1].head in subjects.LOOKED_AT | {"SET"}:
            self.done.append((statement.text, journalling.kept_text(statement)))
        if self._journalled and (index < len(step.statements) or step.version in self._twice):
            self._note(position, step, index, journal.State.DONE)
        self.run.listener(
            events.StatementFinished(step.version, index, statement.first_line, statement.last_line, time.monotonic() - started)
        )

    # --- one statement ------------------------------------------------------------------------------------------------------------

    def _send(self, step: Step, index: int, statement: Statement) -> None:
        body = statement.text.encode("utf-8", "surrogateescape")
        try:
            with self.run.lock.using():
                self.sent = True
                self._send_or_stop(body, self.run.query_id(step, index), self._limits(step))
        except failures.Refusal as refusal:
            final = self._host_by_host(step, refusal)
            if final is not None:
                raise self._refused(step, index, statement, final) from None
        except failures.Lost as lost:
            self.sent = lost.sent
            if not self._survived(step, index, statement, lost):
                raise rejections.of_lost(step, statement, lost) from None

    def _send_or_stop(self, body: bytes, query_id: str, limits: dict[str, str | int]) -> None:
        """Executes; whatever breaks the wait for the answer (a signal, a time-out of the command, a cancellation) stops the statement on the server."""
        try:
            self.run.session.execute(body, query_id, limits)
        except (failures.Refusal, failures.Lost):
            raise
        except BaseException:
            self._abandon()
            raise

    def _limits(self, step: Step) -> dict[str, str | int]:
        chosen = step.notes.statement_timeout if step.notes.statement_timeout is not None else self.run.options.locks.statement_timeout
        limits: dict[str, str | int] = {"max_execution_time": max(1, round(chosen))} if chosen else {}
        if step.notes.statement_timeout == 0:
            limits["max_execution_time"] = 0
        return limits

    def _host_by_host(self, step: Step, refusal: failures.Refusal) -> failures.Refusal | None:
        """Finds out what the hosts did with an ON CLUSTER statement for which the server stopped waiting. Returns None when all of them did it."""
        entry = clusters.entry_of(refusal)
        if entry is None:
            return refusal
        note = f"{step.name}: the server stopped waiting for {entry}; its hosts are asked one by one"
        self.run.listener(events.Note("info", "cluster-wait", note))
        try:
            return clusters.verdict(clusters.await_end(self.run.session, entry, self.run.options.locks.migration_wait), refusal)
        except failures.Refusal:  # no such table, or no right to read it
            return refusal

    def _refused(self, step: Step, index: int, statement: Statement, refusal: failures.Refusal) -> errors.GreylagError:
        """Looks up at once what a refused statement has done, notes it, and returns the error for it."""
        verdict = Judgement(journal.Outcome.UNKNOWN, "what it did could not be looked up")
        if readings.read(statement.text).head == "INSERT" and refusal.written_rows == 0:
            verdict = Judgement(journal.Outcome.NOT_DONE, "the server says that it wrote no rows")
        else:
            with contextlib.suppress(failures.Refusal, failures.Lost):
                verdict = self._ended(step, settling.settle(self.run.session, self._case(step, index, statement), refused=True))
        if clusters.failed_on_one_host(refusal):
            verdict = Judgement(journal.Outcome.UNKNOWN, "other hosts may have executed it")
        if self.stopped_at is not None and verdict.outcome is not journal.Outcome.UNKNOWN:
            self.stopped_at = (self.stopped_at[0], self.stopped_at[1], journal.State(verdict.outcome))
        if verdict.mutation is not None and verdict.mutation.fails:
            return rejections.of_failing_mutation(step, statement, verdict)
        if refusal.code == failures.UNFINISHED and verdict.outcome is not journal.Outcome.NOT_DONE:
            return rejections.of_unfinished(step, statement, refusal, verdict)
        return rejections.of_statement(
            step, statement, refusal, done=None if verdict.outcome is journal.Outcome.NOT_DONE else verdict.evidence
        )

    def _ended(self, step: Step, verdict: Judgement) -> Judgement:
        """Kills a statement's own mutation if it fails, nothing else of the statement is done and no older one is the cause: the server would try it
        for ever."""
        mine = verdict.mutation
        if (
            mine is None
            or not mine.fails
            or verdict.partly
            or (verdict.cause is not None and verdict.cause.mutation_id != mine.mutation_id)
        ):
            return verdict
        settling.kill(self.run.session, verdict.table, mine)
        note = f"{step.name}: {mine.mutation_id} failed and was killed; parts that it had rewritten already stay as they are"
        self.run.listener(events.Note("warning", "mutation-killed", note))
        return Judgement(journal.Outcome.NOT_DONE, "its mutation failed and was killed")

    def _case(self, step: Step, index: int, statement: Statement) -> settling.Case:
        done = tuple(text for text, _ in self.done)
        return settling.Case(statement.text, self.run.query_id(step, index), self.run.began, self.before, done)

    def _survived(self, step: Step, index: int, statement: Statement, lost: failures.Lost) -> bool:
        """Tells, after a connection broke under a statement, whether the server went on with it and finished it.

        A proxy that drops silent connections is the usual cause. While the lock is ours, it is simply looked up.
        """
        if not lost.sent or not self.run.plan.target.versioning:
            return False
        deadline = time.monotonic() + _RECOVER_SECONDS
        while True:
            self.run.lock.require()
            try:
                if self.run.session.running(self.run.query_id(step, index)):
                    time.sleep(1.0)
                    continue
                verdict = settling.settle(self.run.session, self._case(step, index, statement))
            except failures.Refusal:
                return False
            except failures.Lost:
                if time.monotonic() > deadline:
                    return False
                time.sleep(1.0)
                continue
            if verdict.outcome is not journal.Outcome.DONE:  # what is on its way still may arrive: the next run looks again
                return False
            self.run.listener(events.StatementSettled(step.version, index, verdict.outcome, verdict.evidence))
            return True

    def _abandon(self) -> None:
        """Stops the statement on the server and waits a little for its end. Whatever is not known then is found out by the next run."""

        def stop() -> None:
            with contextlib.suppress(failures.Refusal, failures.Lost):
                self.run.session.kill()
                deadline = time.monotonic() + _DRAIN_SECONDS
                while self.run.session.running(self.run.session.prefix) and time.monotonic() < deadline:
                    time.sleep(0.1)

        stopper = threading.Thread(target=stop, name="greylag-stop", daemon=True)
        stopper.start()
        stopper.join(_DRAIN_SECONDS)

    # --- writing down -------------------------------------------------------------------------------------------------------------

    def _record(self, step: Step, seconds: float) -> None:
        """Writes goose's row, with goose's SQL; then the fact, at the latest with the next batch."""
        doing = "failed to insert new goose version" if step.direction is Direction.UP else "failed to delete goose version"
        try:
            row = tables.row_statement(self.run.where, step.version, step.direction)
            journalling.write(self.run, row, f"{self.run.session.prefix}{step.version}-{step.direction}-row")
            journalling.consume(self.run, step)
        except (failures.Refusal, failures.Lost) as failure:
            raise rejections.of_step(step, failure, doing) from None
        if step.direction is Direction.UP:
            self.facts.append(self._fact(step, seconds))
            if time.monotonic() - self._flushed > _FACTS_EVERY:
                with self._owned("to record facts"):
                    self._flush_facts()

    def _fact(self, step: Step, seconds: float) -> Fact:
        return Fact(
            version=step.version,
            row_identity="",  # known when the facts are written
            name=step.name,
            checksum=step.checksum,
            size=step.size,
            bundle=self.run.plan.bundle,
            down_text=step.down_text,
            run_id=self.run.options.run_id,
            applied_by=self.run.options.applied_by,
            applied_at=self.run.began,
            seconds=seconds,
            oldest_app=step.notes.oldest_app,
            accepted="; ".join(map(str, step.accepted)),
        )

    def _flush_facts(self) -> None:
        self._flushed = time.monotonic()
        facts, self.facts = self.facts, []
        journalling.write_facts(self.run, tables.identified(self.run.session, self.run.where, facts))

    def _second_look(self, statement: Statement) -> str:
        """Returns what the catalogue says right before an EXCHANGE of tables that this run has made or moved: their uuids tell later whether it was done."""
        if self.before is None or readings.head(statement.text) != "EXCHANGE" or not self.done:
            return ""
        with self._owned("to look at the tables of an EXCHANGE"):
            about = subjects.of_texts([statement.text], self.run.session.database)
            return snapshots.dumped(snapshots.read(self.run.session, about).snapshot, ())

    def _note(self, position: int, step: Step, index: int, state: journal.State, evidence: str = "") -> None:
        with self._owned("to write the journal"):
            journalling.write_entries(self.run, [Planned(position, journalling.entry(self.run, step, index, state, evidence=evidence))])

    def _close(self) -> None:
        """Writes the facts that are still owed and closes the journal, however the run ends. If the server is gone, the journal stays as it is."""
        if not self._journalled:
            return
        with contextlib.suppress(failures.Refusal, failures.Lost, errors.GreylagError):
            self._restore_session()
            if self.facts:
                self._flush_facts()
            if self._described is not None and self._is_known():
                recording.finish(self.run, self._described)
            journalling.write_entries(self.run, self._closing())

    def _is_known(self) -> bool:
        """Tells whether nothing is under way any more: what a statement of unknown outcome leaves is described by the next run."""
        return self.stopped_at is None or self.stopped_at[2] is not None or not self.sent

    def _closing(self) -> list[Planned]:
        stopped = self.stopped_at
        open_version = self.run.steps[stopped[0]].version if stopped else None
        kept = {open_version, *(self.run.steps[position].version for position in self._partial - self.finished)}
        closing = [
            Planned(position, journalling.entry(self.run, step, 0, journal.State.DONE))
            for position, step in enumerate(self.run.steps)
            if step.version not in kept
        ]
        if stopped is not None:
            position, index, state = stopped
            step = self.run.steps[position]
            if index > len(step.statements) > 0:  # only the history row is missing
                closing.append(Planned(position, journalling.entry(self.run, step, index - 1, journal.State.DONE)))
            else:
                closing.append(Planned(position, self._stopped(step, index, state)))
        return closing

    def _stopped(self, step: Step, index: int, state: journal.State | None) -> journal.Entry:
        """Returns the entry of the statement at which the run stopped. Where its outcome isn't known, the entry holds all that settling it needs: those of
        the migrations before it are void now."""
        if state is not None or not self.sent:
            return journalling.entry(self.run, step, index, state or journal.State.NOT_DONE, text=True)
        evidence = snapshots.dumped(self.before, [kept for _, kept in self.done]) if self.before is not None else ""
        return journalling.entry(self.run, step, index, journal.State.STARTED, text=True, evidence=evidence)

    @contextlib.contextmanager
    def _owned(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (failures.Refusal, failures.Lost) as failure:
            raise failures.of_server(failure, doing) from None
