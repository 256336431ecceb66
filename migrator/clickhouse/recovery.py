"""What an earlier run left: where it stopped, what became of its last statement, which facts it still owes.

All of it happens under the lock and before anything new is executed, so that a question is asked while nothing has moved.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from migrator import errors
from migrator.clickhouse import history as tables
from migrator.clickhouse import journalling, settling
from migrator.clickhouse.history import Planned
from migrator.clickhouse.lock import prefix_of, short
from migrator.clickhouse.reading import canonical, readings, shapes
from migrator.clickhouse.run import Run
from migrator.goose import annotations as parsing
from migrator.planning import events, files, journal, questions
from migrator.planning.history import Fact
from migrator.planning.objects import ObjectName
from migrator.planning.plans import Step
from migrator.targets import Direction


@dataclass(frozen=True)
class Left:
    """What the journal says of earlier runs.

    Args:
        entries: everything that is not void.
        stopped: migrations at which a run stopped: the statement behind those that are done may have been executed.
        partial: migrations that a later run found partly done and never came to, because it stopped before them: what is done stays done, and
            nothing behind it was begun.
        recorded: versions that have a history row.
    """

    entries: tuple[Planned, ...]
    stopped: frozenset[tuple[int, Direction]]
    partial: frozenset[tuple[int, Direction]]
    recorded: frozenset[int]


def prepare(run: Run) -> list[int]:
    """Settles what an earlier run left open and writes this run's plan. Returns per step the first statement to execute.

    Raises:
        NeedsAnswer: a statement's outcome can't be found out.
        LockUnavailable: `still-running`: the server still works on a statement of an earlier run.
        failures.Refusal, failures.Lost.
    """
    left = look(run)
    starts = [1] * len(run.steps)
    if left.entries:
        _repay_facts(run, left)
        for position, step in enumerate(run.steps):
            if not _is_repeated(run.steps, position):
                starts[position] = _resumed(run, left, step)
    journalling.write_entries(run, _opening(run, left, starts))
    return starts


def look(run: Run) -> Left:
    """Reads the journal and tells finished migrations from the ones at which a run stopped.

    A step is finished when goose's table shows it: a row after an Up, none after a Down. The first step of a run that isn't is where it
    stopped; those behind it were not begun by that run, but may carry what an earlier one had done of them.
    """
    entries = () if run.journal_is_new else tables.read_journal(run.session, run.where)
    if not entries:
        return Left((), frozenset(), frozenset(), frozenset())
    rows = tables.identities(run.session, run.where, sorted({item.entry.version for item in entries}))
    stopped: set[tuple[int, Direction]] = set()
    partial: set[tuple[int, Direction]] = set()
    for run_id in dict.fromkeys(item.entry.run_id for item in entries):
        of_run = [item for item in entries if item.entry.run_id == run_id]
        steps = dict.fromkeys((item.position, item.entry.version, item.entry.direction) for item in of_run)
        unfinished = [item for item in sorted(steps) if not _finished(of_run, *item, applied=item[1] in rows)]
        stopped.update(item[1:] for item in unfinished[:1])
        partial.update(item[1:] for item in unfinished[1:] if _any_done(of_run, item[0]))
    return Left(entries, frozenset(stopped), frozenset(partial - stopped), frozenset(rows))


def _finished(of_run: Sequence[Planned], position: int, version: int, direction: Direction, *, applied: bool) -> bool:
    siblings = {item.position for item in of_run if item.entry.version == version}
    if len(siblings) == 1:
        return applied == (direction is Direction.UP)
    # A redo: its Down and its Up are both journalled to their last statement, because one row can't tell what both did.
    done = {place: _all_done(of_run, place) for place in siblings}
    if direction is Direction.UP:
        return applied and done[position]
    return (not applied and done[position]) or all(done.values())


def _all_done(of_run: Sequence[Planned], position: int) -> bool:
    latest: dict[int, journal.State] = {}
    for item in of_run:
        if item.position == position:
            latest[item.entry.index] = item.entry.state
    return all(state is journal.State.DONE for state in latest.values())


def _any_done(of_run: Sequence[Planned], position: int) -> bool:
    return any(item.position == position and item.entry.state is journal.State.DONE for item in of_run)


def _is_repeated(steps: Sequence[Step], position: int) -> bool:
    """Tells whether an earlier step of this run is about the same version: then nothing of this step can be done yet."""
    return any(step.version == steps[position].version for step in steps[:position])


def _resumed(run: Run, left: Left, step: Step) -> int:
    place = (step.version, step.direction)
    entries = [item.entry for item in left.entries]
    if place not in left.stopped | left.partial:
        return 1
    found = journal.resume(entries, step, planned_may_have_run=place in left.stopped)
    earlier = found.earlier_run or ""
    if found.changed_index is not None:
        raise questions.changed(step, found.changed_index)
    if found.unknown_index is not None:
        return _settled(run, left, step, found.unknown_index, earlier)
    return found.first_index_to_run


def _settled(run: Run, left: Left, step: Step, index: int, earlier: str) -> int:
    """Finds out what became of the statement; returns the first one to execute."""
    statement = step.statements[index - 1]
    known = journal.latest([item.entry for item in left.entries], step.version, step.direction)[index]
    since = min(item.entry.at for item in left.entries if item.entry.run_id == earlier)
    line = canonical.line(run.session, statement.text)
    _await_end(run, step, earlier, since, line)
    if known.state is journal.State.PLANNED and readings.of(step)[index - 1].leaves_no_trace:
        verdict = journal.Verdict(journal.Outcome.NOT_DONE, "the journal would say if it had been begun")
    else:
        query_id = f"{prefix_of(earlier)}{step.version}-{step.direction}-{index}"
        verdict = settling.settle(run.session, line, query_id, since)
    if verdict.outcome is journal.Outcome.UNKNOWN:
        raise questions.unknown(step, index, verdict.evidence)
    run.listener(events.StatementSettled(step.version, index, verdict.outcome, verdict.evidence))
    return index + 1 if verdict.outcome is journal.Outcome.DONE else index


def _await_end(run: Run, step: Step, earlier: str, since: datetime, line: str | None) -> None:
    prefix = prefix_of(earlier)
    if prefix == run.session.prefix:  # an attempt of this same run: its statements carry the version behind the prefix
        prefix = f"{prefix}{step.version}-"
    shape = shapes.read(line, run.session.database) if line else None
    tables_of_it: Iterable[ObjectName] = (shape.subject,) if shape and shape.subject and shape.sort is shapes.Sort.ALTER else ()
    if run.session.running(prefix):
        note = f"waiting for a statement of the broken run {earlier[:12]}, which the server still works on"
        run.listener(events.Note("info", "still-running", note))
    deadline = time.monotonic() + run.options.locks.migration_wait
    if not settling.wait_until_ended(run.session, prefix, tables_of_it, since, deadline):
        raise errors.LockUnavailable(
            f"the server still works on a statement of the broken run {earlier[:12]}, or on a mutation that it began",
            code="still-running",
            where=errors.Location(step.path),
            hint="run the same command again when it has ended; system.processes and system.mutations show it",
        )


def _opening(run: Run, left: Left, starts: Sequence[int]) -> list[Planned]:
    """Returns the journal's insert at the beginning of a run: what is void, and the plan, in which statements that are known to be done stay so."""
    planned = {step.version for step in run.steps}
    opening: list[Planned] = []
    for version in dict.fromkeys(item.entry.version for item in left.entries):
        still_open = any((version, direction) in left.stopped | left.partial for direction in Direction)
        if version in planned or not still_open:
            entry = journal.Entry(run.options.run_id, version, Direction.UP, 0, "", journal.State.DONE, run.began)
            opening.append(Planned(0, entry))
    for position, step in enumerate(run.steps):
        for index in range(1, len(step.statements) + 1):
            state = journal.State.DONE if index < starts[position] else journal.State.PLANNED
            opening.append(Planned(position, journalling.entry(run, step, index, state)))
    return opening


# --- facts that a killed run owes -------------------------------------------------------------------------------------------------


def _repay_facts(run: Run, left: Left) -> None:
    """Writes facts for versions that a killed run recorded without them, where it is certain that it applied this directory's files.

    Certain means: the run's lock was found unreleased, the row was written within that run's lease, and every statement in its journal is word for
    word the file's. Anything less stays unproven, for `baseline` to judge.
    """
    dead = run.lock.broke
    if dead is None:
        return
    owed = [item.entry for item in left.entries if short(item.entry.run_id) == dead.run and item.entry.direction is Direction.UP]
    known = {fact.version for fact in tables.read(run.session, run.where).living_facts.values()}
    versions = {entry.version for entry in owed if entry.version in left.recorded} - known
    rows = tables.identities(run.session, run.where, versions) if versions else {}
    facts: list[Fact] = []
    for version, identity in rows.items():
        file = run.plan.migrations.by_version(version)
        entries = [entry for entry in owed if entry.version == version]
        within = min(entry.at.timestamp() for entry in entries) - 1 <= int(identity) <= dead.until / 1000
        if file is not None and within and _same_file(file, entries):
            facts.append(_repaid(run, file, entries[0], identity))
    journalling.write_facts(run, facts)


def _same_file(file: files.MigrationFile, entries: Iterable[journal.Entry]) -> bool:
    try:
        statements = parsing.parse(file.read(), Direction.UP, path=file.path).statements
    except errors.GreylagError:
        return False
    written = {entry.index: entry.digest for entry in entries}
    return written == {index: journal.digest(statement, Direction.UP) for index, statement in enumerate(statements, start=1)}


def _repaid(run: Run, file: files.MigrationFile, entry: journal.Entry, identity: str) -> Fact:
    content = file.read()
    return Fact(
        version=file.version,
        row_identity=identity,
        name=file.name,
        checksum=file.checksum(),
        size=len(content),
        bundle=run.plan.bundle,
        down_text=content,
        run_id=entry.run_id,
        applied_by=run.lock.broke.by if run.lock.broke else "",
        applied_at=tables.moment_of(identity),
        seconds=0.0,  # only the killed run knew
    )
