"""What an earlier run left: where it stopped, what became of its last statement, which facts it still owes.

All of it happens under the lock and before anything new is executed, so that a question is asked while nothing has moved.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from migrator import errors
from migrator.clickhouse import cases, journalling, outlook, rejections, settling, snapshots, temporaries
from migrator.clickhouse import history as tables
from migrator.clickhouse.history import Planned
from migrator.clickhouse.lock import prefix_of, short
from migrator.clickhouse.reading import canonical, readings, shapes
from migrator.clickhouse.run import Run
from migrator.clickhouse.snapshots import Snapshot
from migrator.clickhouse.verdicts import Judgement
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


@dataclass(frozen=True)
class Prepared:
    """The beginning of a run: per step the first statement to execute, and what the catalogue says before anything is."""

    starts: tuple[int, ...]
    before: Snapshot


def prepare(run: Run) -> Prepared:
    """Settles what an earlier run left open, reads what is there now and writes this run's plan.

    Raises:
        NeedsAnswer: a statement's outcome can't be found out.
        StatementRejected: `mutation-fails`: a statement's mutation fails for ever.
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
    before, evidence = _looked(run)
    journalling.write_entries(run, _opening(run, left, starts, evidence))
    return Prepared(tuple(starts), before)


def _looked(run: Run) -> tuple[Snapshot, list[str]]:
    """Reads what the catalogue says of all that the plan touches, in one request; and returns the part of each step as the journal keeps it."""
    found = outlook.read(run.session, run.steps)
    for remark in found.remarks:
        run.listener(events.Note("warning", remark.code, f"{remark.message}; {remark.hint}"))
    return found.snapshot, [snapshots.dumped(found.snapshot.of(part)) if part else "" for part in found.about]


def look(run: Run) -> Left:
    """Reads the journal and tells finished migrations from the ones at which a run stopped.

    A step is finished when goose's table shows it: a row after an Up, none after a Down. The first step of a run that isn't is where it
    stopped; those behind it were not begun by that run, but may carry what an earlier one had done of them.
    """
    entries = () if run.journal_is_new else tables.read_journal(run.session, run.where, evidence=True)
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
    known = journal.latest(entries, *place)
    first = found.first_index_to_run
    if found.changed_index is not None and known[found.changed_index].state is journal.State.DONE:
        raise questions.changed(step, found.changed_index)
    open_index = found.unknown_index if found.changed_index is None else found.changed_index
    if open_index is not None:
        first = _settled(run, left, step, known[open_index], changed=found.changed_index is not None)
    answered = first in known and known[first].state is journal.State.NOT_DONE and not known[first].digest
    lost = temporaries.needed_again(step, first)
    if lost is not None and not answered:
        raise questions.temporary_data_lost(step, first, *lost)
    return first


def _settled(run: Run, left: Left, step: Step, entry: journal.Entry, *, changed: bool) -> int:
    """Finds out what became of a statement; returns the first one to execute. The text that may have been executed is the journal's, not the file's."""
    case = cases.of_entry(run, left.entries, step, entry)
    _await_end(run, step, entry.run_id, case)
    if entry.state is journal.State.PLANNED and readings.read(case.text).leaves_no_trace:
        verdict = Judgement(journal.Outcome.NOT_DONE, "the journal would say if it had been begun")
    else:
        verdict = settling.settle(run.session, case)
    if verdict.mutation is not None and verdict.mutation.fails:
        raise rejections.of_failing_mutation(step, step.statements[entry.index - 1], verdict)
    if changed and (verdict.outcome is not journal.Outcome.NOT_DONE or verdict.repeat):
        raise questions.changed(step, entry.index, verdict.evidence)
    if verdict.outcome is journal.Outcome.UNKNOWN:
        raise questions.unknown(step, entry.index, verdict.evidence)
    run.listener(events.StatementSettled(step.version, entry.index, verdict.outcome, verdict.evidence))
    return entry.index + 1 if verdict.outcome is journal.Outcome.DONE else entry.index


def _await_end(run: Run, step: Step, earlier: str, case: settling.Case) -> None:
    prefix = prefix_of(earlier)
    if prefix == run.session.prefix:  # an attempt of this same run: its statements carry the version behind the prefix
        prefix = f"{prefix}{step.version}-"
    line = canonical.line(run.session, case.text)
    shape = shapes.read(line, run.session.database) if line else None
    mutates = shape is not None and shape.sort in (shapes.Sort.ALTER, shapes.Sort.CHANGE)
    tables_of_it: Iterable[ObjectName] = (shape.subject,) if shape and shape.subject and mutates else ()
    if run.session.running(prefix):
        note = f"waiting for a statement of the broken run {earlier[:12]}, which the server still works on"
        run.listener(events.Note("info", "still-running", note))
    deadline = time.monotonic() + run.options.locks.migration_wait
    if not settling.wait_until_ended(run.session, prefix, tables_of_it, case.since, deadline):
        raise errors.LockUnavailable(
            f"the server still works on a statement of the broken run {earlier[:12]}, or on a mutation that it began",
            code="still-running",
            where=errors.Location(step.path),
            hint="run the same command again when it has ended; system.processes and system.mutations show it",
        )


def _opening(run: Run, left: Left, starts: Sequence[int], evidence: Sequence[str]) -> list[Planned]:
    """Returns the journal's insert at the beginning of a run: what is void, and the plan, in which statements that are known to be done stay so.

    Each statement's row holds its text, and a step's first row what the catalogue says of the step's objects.
    """
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
            noted = evidence[position] if index == 1 else ""
            opening.append(Planned(position, journalling.entry(run, step, index, state, text=True, evidence=noted)))
    return opening


# --- facts that a killed run owes -------------------------------------------------------------------------------------------------


def _repay_facts(run: Run, left: Left) -> None:
    """Writes facts for versions that killed runs recorded without them, where it is certain that such a run applied this directory's files.

    Certain means: the row was written while that run could have had the lock, and every statement in its journal is word for word the file's. Anything
    less stays unproven, for `baseline` to judge. A run between that was killed itself, while it paid, changes nothing of that.
    """
    known = {fact.version for fact in tables.read(run.session, run.where).living_facts.values()}
    facts: dict[int, Fact] = {}
    for run_id in dict.fromkeys(item.entry.run_id for item in left.entries):
        owed = [item.entry for item in left.entries if item.entry.run_id == run_id and item.entry.direction is Direction.UP]
        versions = {entry.version for entry in owed if entry.version in left.recorded} - known
        rows = tables.identities(run.session, run.where, versions) if versions else {}
        for version, identity in rows.items():
            file = run.plan.migrations.by_version(version)
            entries = [entry for entry in owed if entry.version == version]
            within = min(entry.at.timestamp() for entry in entries) - 1 <= int(identity) <= _end_of(run, run_id)
            if file is not None and within and _same_file(file, entries):
                facts[version] = _repaid(run, file, entries[0], identity)
    journalling.write_facts(run, list(facts.values()))


def _end_of(run: Run, run_id: str) -> float:
    """Returns the time, by the server's clock, until which a broken run can have had the lock: its lease's end, or when the next run took it."""
    dead = run.lock.broke
    if dead is None:
        return run.began.timestamp()
    return (dead.until if short(run_id) == dead.run else dead.since) / 1000


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
        applied_by=run.lock.broke.by if run.lock.broke and run.lock.broke.run == short(entry.run_id) else "",
        applied_at=tables.moment_of(identity),
        seconds=0.0,  # only the killed run knew
    )
