"""The statement journal as plain data: the statements that a run planned, those that it began, and those that are known to be done (architecture.md §2.5).

Work that no transaction protects (ClickHouse; PostgreSQL's `-- +goose NO TRANSACTION`) is recorded statement by statement in the table
`greylag_journal`, beside goose's table. A run that was killed leaves at most one statement whose outcome is unknown; `resume` finds it. The engine
then settles it: by the catalogue, by the process list, or by asking a person.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from migrator.targets import Direction

if TYPE_CHECKING:
    from migrator.goose.statements import Statement
    from migrator.planning.plans import Step

TABLE = "greylag_journal"
"""The journal's table, in the schema or database of goose's table."""


class State(enum.StrEnum):
    """The state of one statement. Later entries replace earlier ones."""

    PLANNED = "planned"  # a run intends to execute it; whether it began is not recorded
    STARTED = "started"  # sent to the server; without a later entry its outcome is unknown
    NOT_DONE = "not-done"  # known to have had no effect: refused by the server, settled, or answered by a person
    DONE = "done"  # known to be executed


class Outcome(enum.StrEnum):
    """The outcome of a statement whose run was interrupted."""

    DONE = "done"
    NOT_DONE = "not-done"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of such a statement, and the evidence for it."""

    outcome: Outcome
    evidence: str


_RANK = {state: rank for rank, state in enumerate(State)}


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the journal. `index` counts a migration's statements from 1; `at` is the server's time.

    An empty `digest` stands for any text that the file may have, because a person answered for the statement. `text` is the file's own, before ENVSUB
    (of data only the beginning), and `evidence` what the engine noted before the statement; both are empty where an engine keeps none.
    """

    run_id: str
    version: int
    direction: Direction
    index: int
    digest: str
    state: State
    at: datetime
    text: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Resume:
    """The place where a migration continues.

    `first_index_to_run`: the first statement that is not known to be done (one more than their number when all are). `unknown_index`: that same
    statement when it may have been executed already. `changed_index`: that same statement when it was, or may have been, executed with another
    text than the file has now. `earlier_run`: the run that left the entries.
    """

    first_index_to_run: int = 1
    unknown_index: int | None = None
    earlier_run: str | None = None
    changed_index: int | None = None


def digest(statement: Statement, direction: Direction) -> str:
    """Returns a statement's identity: sha256 over the direction and the file's own text, before ENVSUB.

    The file's checksum is left out on purpose: a file whose third statement was refused can be corrected, and continues at the third.
    """
    import hashlib  # not at the top: every start reads this module, few runs write a journal

    text = f"{direction}\0{statement.source}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def latest(entries: Iterable[Entry], version: int, direction: Direction) -> dict[int, Entry]:
    """Returns for each statement of one migration in one direction the entry that counts: the newest; of equal times the one with the later state."""
    found: dict[int, Entry] = {}
    for entry in entries:
        if entry.version != version or entry.direction != direction:
            continue
        other = found.get(entry.index)
        if other is None or (entry.at, _RANK[entry.state]) >= (other.at, _RANK[other.state]):
            found[entry.index] = entry
    return found


def resume(entries: Iterable[Entry], step: Step, *, planned_may_have_run: bool = False) -> Resume:
    """Returns the place where a step continues, from the entries that earlier runs left and that no finished migration has made obsolete.

    Args:
        entries: entries of any migrations, in any order.
        step: the migration about to be executed.
        planned_may_have_run: whether an entry that is only PLANNED stands for a statement that may have been executed (an engine that writes STARTED
            only for some statements, for the migration at which an earlier run stopped).
    """
    known = latest(entries, step.version, step.direction)
    if not known:
        return Resume()
    earlier = max(known.values(), key=lambda entry: entry.at).run_id
    for index, statement in enumerate(step.statements, start=1):
        entry = known.get(index)
        if entry is None or entry.state is State.NOT_DONE:
            return Resume(index, None, earlier)
        if entry.state is State.DONE:
            if _changed(entry, statement):
                return Resume(index, None, earlier, changed_index=index)
            continue
        may_have_run = entry.state is State.STARTED or planned_may_have_run
        changed = may_have_run and _changed(entry, statement)
        return Resume(index, index if may_have_run else None, earlier, changed_index=index if changed else None)
    return Resume(len(step.statements) + 1, None, earlier)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A migration that an earlier run left half-way: how many of its first statements are done, and whether the next one may be, too."""

    version: int
    direction: Direction
    done: int
    unknown: bool


def unfinished(entries: Iterable[Entry], applied: Iterable[int]) -> list[Unfinished]:
    """Returns the migrations that are begun but not finished, in order of version.

    Args:
        entries: the journal's, in any order.
        applied: the versions that have a history row: for these an Up is finished, for all others a Down, no matter which tool finished it.
    """
    entries, rows = tuple(entries), frozenset(applied)
    found: list[Unfinished] = []
    for version, direction in sorted({(item.version, item.direction) for item in entries}):
        if (version in rows) == (direction is Direction.UP):
            continue
        known = latest(entries, version, direction)
        done = 0
        while (entry := known.get(done + 1)) is not None and entry.state is State.DONE:
            done += 1
        following = known.get(done + 1)
        unknown = following is not None and following.state is State.STARTED
        if done or unknown:
            found.append(Unfinished(version, direction, done, unknown))
    return found


def may_be_asked(entries: Iterable[Entry], version: int, direction: Direction, index: int) -> bool:
    """Tells whether a question about this statement can be open: it has an entry, and everything before it is done. A mistyped answer about a later
    statement would otherwise cause that statement to be skipped."""
    known = latest(entries, version, direction)
    return index in known and all(known[before].state is State.DONE for before in known if before < index)


def _changed(entry: Entry, statement: Statement) -> bool:
    return entry.digest not in ("", digest(statement, entry.direction))
