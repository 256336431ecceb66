"""What the journal tells of a statement that may have been executed: its text, what was there before it, what its run had done until then."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from migrator import errors
from migrator.clickhouse import snapshots
from migrator.clickhouse.history import Planned
from migrator.clickhouse.lock import prefix_of
from migrator.clickhouse.reading import readings
from migrator.clickhouse.run import Run
from migrator.clickhouse.session import quote
from migrator.clickhouse.settling import Case
from migrator.goose import annotations as parsing
from migrator.goose.statements import Statement
from migrator.planning import journal
from migrator.planning.plans import Step
from migrator.targets import Direction

_PLACEHOLDER = "$"
"""In a kept text: ENVSUB may have put something else there, so that the text is not what was sent."""


def of_entry(run: Run, entries: Sequence[Planned], step: Step, entry: journal.Entry) -> Case:
    """Returns the case of a statement by its newest entry.

    Args:
        entries: the whole journal.
        step: its migration, as the file is now.
    """
    of_run = [item for item in entries if item.entry.run_id == entry.run_id]
    opening = _opening(of_run)
    here = next(
        (
            item
            for item in opening
            if item.entry.version == step.version and item.entry.direction is step.direction and item.entry.index == entry.index
        ),
        None,
    )
    known = _present(run, entries, step)
    text, exact = _text(known, here.entry if here else entry)
    before, done = None, tuple[str, ...]()
    noted = snapshots.loaded(entry.evidence) if entry.evidence else None
    if noted is not None and noted[1] is not None:
        before, done = noted[0], noted[1]
        exact = exact and not any(_PLACEHOLDER in item for item in done)
    elif here is not None and {item.position for item in opening} == set(range(max(item.position for item in opening) + 1)):
        before = _merged(opening)
        texts: list[tuple[str, bool]] = []
        position = 0
        for item in opening:
            if item.position != position:  # each file begins in the address's database
                texts.append((f"USE {quote(run.session.database)}", True))
                position = item.position
            if item is here or item.position > here.position:
                break
            if item.entry.state is not journal.State.DONE or readings.head(item.entry.text) in ("SET", "USE"):  # a run repeats these
                texts.append(_text(known, item.entry))
        done = tuple(text for text, _ in texts)
        exact = exact and all(sure for _, sure in texts)
        before = None if any(not item for item in done) else before
    started = [item.entry.at for item in of_run if item.entry.state is journal.State.STARTED and _same_place(item.entry, step, entry.index)]
    return Case(
        text,
        f"{prefix_of(entry.run_id)}{step.version}-{step.direction}-{entry.index}",
        min((item.entry.at for item in of_run), default=datetime.min),
        before,
        done,
        exact,
        max(started, default=None),
    )


def _same_place(entry: journal.Entry, step: Step, index: int) -> bool:
    return (entry.version, entry.direction, entry.index) == (step.version, step.direction, index)


def _opening(of_run: Sequence[Planned]) -> list[Planned]:
    """Returns the rows that the run wrote when it began, in the order of its statements. An attempt with the same run's id writes them again."""
    planned = [item.entry.at for item in of_run if item.entry.state is journal.State.PLANNED]
    if not planned:
        return []
    return sorted((item for item in of_run if item.entry.at == max(planned)), key=lambda item: (item.position, item.entry.index))


def _merged(opening: Iterable[Planned]) -> snapshots.Snapshot | None:
    found: snapshots.Snapshot | None = None
    for item in opening:
        if not item.entry.evidence:
            continue
        noted = snapshots.loaded(item.entry.evidence)
        if noted is None:
            return None
        found = noted[0] if found is None else found | noted[0]
    return found


def _present(run: Run, entries: Iterable[Planned], step: Step) -> dict[str, str]:
    """Returns the texts of today's files by their digests, with ENVSUB's values; of other files than the step's only where the journal's text has a
    placeholder."""
    known = _by_digest(step.statements, step.direction)
    versions = {(item.entry.version, item.entry.direction) for item in entries if _PLACEHOLDER in item.entry.text}
    for version, direction in versions - {(step.version, step.direction)}:
        file = run.plan.migrations.by_version(version)
        if file is not None:
            try:
                known |= _by_digest(parsing.parse(file.read(), direction, path=file.path).statements, direction)
            except errors.GreylagError:
                continue
    return known


def _by_digest(statements: Iterable[Statement], direction: Direction) -> dict[str, str]:
    return {journal.digest(statement, direction): statement.text for statement in statements}


def _text(known: dict[str, str], entry: journal.Entry) -> tuple[str, bool]:
    """Returns a statement's text, and whether that is what was sent to the letter: ENVSUB's values may have been others."""
    present = known.get(entry.digest, "")
    exact = _PLACEHOLDER not in entry.text
    return (present or entry.text), exact
