"""The rule by which a statement's outcome is told: what was there before it, what it would make, what is there now (architecture.md §2.5). Pure.

now = before, and not what the statement makes: not done · now = what it makes, and not before: done · both: it changes nothing · neither: ask. A statement that
records a mutation is done when one with its commands is there that neither was there before nor is another statement's, and is done itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from migrator.clickhouse.reading import shapes, subjects
from migrator.clickhouse.reading.shapes import Sort
from migrator.clickhouse.snapshots import Mutation, Snapshot, Table, TableName
from migrator.clickhouse.worlds import IN_WORDS, Read, Refused, Thing, World, body, squeezed
from migrator.planning.journal import Outcome, Verdict


@dataclass(frozen=True, slots=True)
class Judgement(Verdict):
    """A verdict.

    Args:
        repeat: with NOT_DONE: it may have been executed, and executing it again makes no difference.
        mutation: its own mutation, where that fails or isn't done.
        cause: the oldest failing mutation of the table.
        table: of these two.
        partly: with UNKNOWN: some of it is done.
    """

    repeat: bool = False
    mutation: Mutation | None = None
    cause: Mutation | None = None
    table: TableName = ("", "")
    partly: bool = False


_OF_PARTITIONS = ("PARTITION", "PART", "DETACHED")
_REPEATABLE_OF_PARTITIONS = frozenset({"DROP PARTITION", "DROP PART", "DROP DETACHED", "REPLACE PARTITION", "FORGET PARTITION"})
"""What may be executed again as long as nothing came after it."""

_KEPT = 90
"""Finished mutations: the server keeps the last hundred of a table, and forgets older ones now and then."""

NOTHING_RECORDED = "what was there before it is not recorded"


def without_catalogue(shape: shapes.Shape) -> Judgement | None:
    """Returns the verdict on statements that may be executed again whatever they did, or have no effect; None for others."""
    if shape.sort is Sort.REPEATABLE:
        return Judgement(Outcome.NOT_DONE, "it leaves the same state however often it runs", repeat=bool(shape.verb))
    if shape.sort is Sort.SESSION:
        return Judgement(Outcome.NOT_DONE, "what it does ends with the session")
    if shape.sort is Sort.TRUNCATE:
        return Judgement(Outcome.NOT_DONE, "nothing came after it, so it may be executed again", repeat=True)
    if shape.sort is Sort.ALTER and shape.commands and all(command.words in _REPEATABLE_OF_PARTITIONS for command in shape.commands):
        return Judgement(Outcome.NOT_DONE, "nothing came after it, so it may be executed again", repeat=True)
    return None


def last_resort(shape: shapes.Shape, line: str, found: Judgement) -> Judgement:
    """Returns the verdict where the catalogue left it open: some statements may be executed again all the same."""
    if found.outcome is not Outcome.UNKNOWN or found.mutation is not None:
        return found
    if shape.sort is Sort.CREATE and shape.replaces and not (shape.fills and _reads_itself(shape, line)):
        return Judgement(Outcome.NOT_DONE, "OR REPLACE: executing it again makes no difference", repeat=True)
    if shape.conditional and not shape.fills:
        return Judgement(Outcome.NOT_DONE, "it says IF EXISTS or IF NOT EXISTS: running it again changes nothing", repeat=True)
    return found


def _reads_itself(shape: shapes.Shape, line: str) -> bool:
    return shape.subject is not None and line.count(shape.subject.name) > 1


def decide(before: World, after: World | Refused, now: Snapshot, read: Read, *, exact: bool = True) -> Judgement:
    """Tells whether a statement was executed.

    Args:
        before: what was there before it.
        after: what it makes of that.
        now: what is there.
        exact: whether its text is known to the letter; ENVSUB may have put another value into it.
    """
    about = subjects.of_shape(read.shape)
    unknown = [".".join(name) for name in sorted(about.tables) if name not in before.tables]
    unknown += sorted(name for name in about.functions if name not in before.functions)
    unknown += sorted(name for name in about.databases if name not in before.databases)
    if unknown or not about:
        return Judgement(Outcome.UNKNOWN, NOTHING_RECORDED if unknown else "the catalogue keeps no trace of such a statement")
    if read.shape.sort in (Sort.ALTER, Sort.CHANGE):
        return _of_alter(before, after, now, read, exact=exact)
    unchanged = _same(before, now, about)
    if isinstance(after, Refused):
        if unchanged:
            return Judgement(Outcome.NOT_DONE, f"it would be refused: {_short(after.why)}")
        return Judgement(Outcome.UNKNOWN, f"it would be refused ({_short(after.why)}), and yet {_named(about)} is not as it was")
    made = _same(after, now, about)
    if made and unchanged and read.shape.sort is Sort.RENAME:
        return Judgement(Outcome.UNKNOWN, f"{_named(about)} look the same before and after")
    if made and unchanged:
        return Judgement(Outcome.NOT_DONE, f"{_named(about)} is as it was, and as the statement would leave it", repeat=True)
    if unchanged:
        return Judgement(Outcome.NOT_DONE, f"{_named(about)} is as it was before the run")
    if made and read.shape.fills and not read.shape.replaces:
        return Judgement(Outcome.UNKNOWN, f"{_named(about)} exists since, but whether all of its data was written can't be seen")
    if made:
        return Judgement(Outcome.DONE, f"{_named(about)} is as the statement leaves it, and was not before")
    return Judgement(Outcome.UNKNOWN, f"{_named(about)} is neither as it was before the run nor as the statement would leave it")


# --- ALTER, and what is a mutation ------------------------------------------------------------------------------------------------


def _of_alter(before: World, after: World | Refused, now: Snapshot, read: Read, *, exact: bool) -> Judgement:
    subject = read.shape.subject
    if subject is None:
        return Judgement(Outcome.UNKNOWN, "its table can't be read")
    name = (subject.schema, subject.name)
    was, table = before.tables[name], now.tables.get(name)
    added = _added(before, now, name)
    if was is not None and not was.definition:
        return _not_rehearsed(read.shape, name, added)
    unchanged = _same_table(was, table)
    if isinstance(after, Refused):
        if unchanged and not _has_its_words(before, name, added, read.shape):
            return Judgement(Outcome.NOT_DONE, f"it would be refused: {_short(after.why)}")
        return Judgement(Outcome.UNKNOWN, f"it would be refused ({_short(after.why)}), and yet {'.'.join(name)} is not as it was")
    will = after.tables.get(name)
    if will is None or not will.definition:
        if unchanged and added is not None and not _has_its_words(before, name, added, read.shape) and not _of_parts(read.shape):
            return Judgement(Outcome.NOT_DONE, f"{'.'.join(name)} is as it was before the run")
        return _not_rehearsed(read.shape, name, added)
    made, changes = _same_table(will, table), body(will.definition) != body(was.definition if was else "")
    expected = after.registered.get(name, ())[len(before.registered.get(name, ())) :]
    of_data = (
        bool(expected) and not changes and _same_table(replace(will, definition=""), table)
    )  # its mutation tells, whatever became of the definition
    if not unchanged and not made and not of_data:
        return Judgement(Outcome.UNKNOWN, f"{'.'.join(name)} is neither as it was before the run nor as the statement would leave it")
    if _of_parts(read.shape):
        if changes and not made and not added:
            return Judgement(Outcome.UNKNOWN, "what it changes of the table's definition is not done; its partitions can't be seen")
        return _not_rehearsed(read.shape, name, added)
    if not exact and len(added or ()) > len(before.registered.get(name, ())):
        return Judgement(Outcome.UNKNOWN, f"{'.'.join(name)} has new mutations, and what ENVSUB put into the statement then is not known")
    if not expected:
        return _of_definition(name, changes=changes, made=made)
    return _of_mutation(before, now, name, added, expected[-1], read.shape, changes=changes, made=made)


def _of_definition(name: TableName, *, changes: bool, made: bool) -> Judgement:
    where = ".".join(name)
    if not changes:
        return Judgement(Outcome.NOT_DONE, f"{where} is as it was, and as the statement would leave it", repeat=True)
    if made:
        return Judgement(Outcome.DONE, f"the definition of {where} is as the statement leaves it, and was not before")
    return Judgement(Outcome.NOT_DONE, f"the definition of {where} is as it was before it")


def _of_mutation(
    before: World,
    now: Snapshot,
    name: TableName,
    added: list[Mutation] | None,
    commands: tuple[str, ...],
    shape: shapes.Shape,
    *,
    changes: bool,
    made: bool,
) -> Judgement:
    where = ".".join(name)
    if added is None:
        if changes and not made:
            return Judgement(Outcome.NOT_DONE, f"the definition of {where} is as it was before it")
        return Judgement(Outcome.UNKNOWN, "its mutation can't be seen: this user may not read system.mutations")
    same = [item for item in added if _same_commands(item.commands, commands)]
    others = sum(1 for item in before.registered.get(name, ()) if _same_commands(item, commands))
    mine = same[-1] if len(same) > others else None
    cause = next((item for item in (now.mutations or {}).get(name, ()) if item.fails), None)
    if mine is None:
        if changes and made:
            return Judgement(Outcome.UNKNOWN, f"{_parts(shape, 'done', 'not done, or killed')}: no mutation of {where} has its words")
        if sum(item.done for item in added) >= _KEPT:
            return Judgement(Outcome.UNKNOWN, f"{where} has had so many mutations since that the server has forgotten some")
        if commands[:1] == (IN_WORDS,) and len(added) > len(before.registered.get(name, ())):
            return Judgement(Outcome.UNKNOWN, f"{where} has new mutations, and none with its words")
        return Judgement(Outcome.NOT_DONE, f"{where} has no mutation of it")
    if changes and not made:
        return Judgement(Outcome.UNKNOWN, f"{mine.mutation_id} of {where} is its mutation, but the table's definition is as it was before")
    if mine.done:
        return Judgement(Outcome.DONE, f"its mutation is finished ({mine.mutation_id} of {where})")
    told = f"its mutation {mine.mutation_id} of {where} {'fails: ' + _short(mine.reason) if mine.reason else 'is not finished'}"
    if changes:
        told = f"{_parts(shape, 'done', 'not done')}; {told}"
    return Judgement(Outcome.UNKNOWN, told, mutation=mine, cause=cause, table=name, partly=changes)


def _has_its_words(before: World, name: TableName, added: list[Mutation] | None, shape: shapes.Shape) -> bool:
    """Tells whether a mutation that no statement before it accounts for has the words of one of its commands."""
    own = {squeezed(command.text, name[0]) for command in shape.commands}
    named = [item for item in added or () if any(squeezed(command, name[0]) in own for command in item.commands)]
    others = [commands for commands in before.registered.get(name, ()) if any(squeezed(command, name[0]) in own for command in commands)]
    return len(named) > len(others)


def _same_commands(recorded: tuple[str, ...], expected: tuple[str, ...]) -> bool:
    """Compares a mutation's commands with those of a rehearsal, or with a statement's own where those can't be rehearsed (`worlds.in_words`)."""
    if expected[:1] == (IN_WORDS,):
        return sorted(squeezed(item, expected[1]) for item in recorded) == sorted(expected[2:])
    if recorded[:1] == (IN_WORDS,):
        return _same_commands(expected, recorded)
    return recorded == expected


def _parts(shape: shapes.Shape, of_definition: str, of_data: str) -> str:
    """Tells of each command of an ALTER what has become of it."""
    if len(shape.commands) < 2:
        return f"the change of the table's definition is {of_definition}, the change of its data {of_data}"
    return ", ".join(
        f"{command.text[:60] or command.words} is {of_data if command.mutates else of_definition}" for command in shape.commands
    )


def _not_rehearsed(shape: shapes.Shape, name: TableName, added: list[Mutation] | None) -> Judgement:
    repeatable = all(shapes.repeats(command) or command.words in _REPEATABLE_OF_PARTITIONS for command in shape.commands)
    if shape.commands and repeatable and added is not None and all(item.done for item in added):
        return Judgement(Outcome.NOT_DONE, "it leaves the same state however often it runs", repeat=True)
    return Judgement(Outcome.UNKNOWN, f"what it would make of {'.'.join(name)} can't be rehearsed")


def _of_parts(shape: shapes.Shape) -> bool:
    return any(command.words.split(" ")[-1] in _OF_PARTITIONS for command in shape.commands)


def _added(before: World, now: Snapshot, name: TableName) -> list[Mutation] | None:
    """Returns the table's mutations since the run began, in their order; None where they can't be read."""
    if before.ids is None or now.mutations is None:
        return None
    known = before.ids.get(name, frozenset())
    return [item for item in now.mutations.get(name, ()) if item.mutation_id not in known]


# --- comparing --------------------------------------------------------------------------------------------------------------------


def _same(world: World, now: Snapshot, about: subjects.Subjects) -> bool:
    return (
        all(_same_table(world.tables.get(name), now.tables.get(name)) for name in about.tables)
        and all(world.functions.get(name) == now.functions.get(name) for name in about.functions)
        and all(_same_database(world.databases.get(name), now.databases.get(name)) for name in about.databases)
    )


def _same_table(thing: Thing | None, table: Table | None) -> bool:
    if thing is None or table is None:
        return thing is None and table is None
    if thing.uuid and table.uuid and thing.uuid != table.uuid:
        return False
    if thing.other_than and table.uuid == thing.other_than:
        return False
    return not thing.definition or body(thing.definition) == body(table.definition)


def _same_database(uuid: str | None, found: str | None) -> bool:
    return (uuid is None) == (found is None) and (not uuid or not found or uuid == found)


def _named(about: subjects.Subjects) -> str:
    names: Sequence[str] = [*(".".join(name) for name in sorted(about.tables)), *sorted(about.functions), *sorted(about.databases)]
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _short(words: str) -> str:
    return words.split("\n")[0][:300]
