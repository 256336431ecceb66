"""The objects of a plan as they are expected to be between its statements: a snapshot, and what each statement makes of it. Pure.

What a statement makes of a table is the server's answer to a rehearsal (`rehearsing`), handed in as a function; everything else follows from names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from migrator.clickhouse.reading import shapes, subjects
from migrator.clickhouse.reading.shapes import Sort
from migrator.clickhouse.snapshots import Snapshot, TableName
from migrator.planning.objects import Kind

_ID = r"(?:`(?:[^`\\]|\\.)+`|\w+)"
_HEAD = re.compile(rf"\A(?:CREATE|ATTACH) (?:OR REPLACE )?(?:TEMPORARY )?TABLE (?:IF NOT EXISTS )?{_ID}(?:\.{_ID})?(?: UUID '[^']*')? ?")
_REPLICATED = re.compile(r"\b(?:Replicated|Shared)(\w*MergeTree)(?:\((?:'[^']*', ?'[^']*')?(?:, ?)?|(?=[ ,]|\Z))")
_FUNCTION = re.compile(r"\ACREATE (?:OR REPLACE )?FUNCTION (?:IF NOT EXISTS )?(.*)\Z", re.DOTALL)
_ON_CLUSTER = re.compile(r"( ON CLUSTER (?:`(?:[^`\\]|\\.)+`|'[^']*'|\w+))")
_DEFAULT_SETTINGS = " SETTINGS index_granularity = 8192"


IN_WORDS = "in words"
"""Begins a mutation's commands that are the statement's own words, squeezed, behind the database of its unqualified names."""


def squeezed(command: str, database: str) -> str:
    """Returns a command without blanks, quotes, parentheses around it and the name of one database: the server adds that to what a subquery reads."""
    text = "".join(command.replace("`", "").split())
    text = text[1:-1] if text.startswith("(") and text.endswith(")") else text
    return text.replace(f"{database}.", "")


@dataclass(frozen=True, slots=True)
class Expected:
    """The server's answer to a rehearsal.

    Args:
        definition: of the table afterwards; empty where it couldn't be rehearsed.
        mutations: the commands of each ALTER that would be recorded.
        refused: the server's words, if it would refuse the statement.
    """

    definition: str = ""
    mutations: tuple[tuple[str, ...], ...] = ()
    refused: str = ""


Rehearse = Callable[[str | None, str], Expected]
"""(a table's definition, None for a CREATE; the statement's canonical line) -> what the server says."""


@dataclass(frozen=True, slots=True)
class Thing:
    """A table, view or dictionary. What is empty isn't known; `other_than` is a uuid that it can't have, because it replaced that one."""

    uuid: str = ""
    definition: str = ""
    other_than: str = ""


@dataclass(frozen=True)
class World:
    """What is there at one moment. A name that is no key was never looked at.

    Args:
        ids: the mutations that each table had when the run began; None where they can't be read.
        registered: the mutations that statements of the run have recorded since, by their commands.
        detached: what was detached or dropped and may come back.
    """

    tables: Mapping[TableName, Thing | None] = field(default_factory=dict)
    functions: Mapping[str, str | None] = field(default_factory=dict)
    databases: Mapping[str, str | None] = field(default_factory=dict)
    ids: Mapping[TableName, frozenset[str]] | None = field(default_factory=dict)
    registered: Mapping[TableName, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    detached: Mapping[TableName, Thing] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """The statement would be refused; `why` are the server's words or the fact."""

    why: str


@dataclass(frozen=True, slots=True)
class Read:
    """A statement as the server writes it, and what it is."""

    line: str
    shape: shapes.Shape
    database: str


def of_snapshot(snapshot: Snapshot) -> World:
    """Returns the world as a snapshot shows it."""
    return World(
        {name: None if table is None else Thing(table.uuid, table.definition) for name, table in snapshot.tables.items()},
        dict(snapshot.functions),
        dict(snapshot.databases),
        None
        if snapshot.mutations is None
        else {name: frozenset(item.mutation_id for item in items) for name, items in snapshot.mutations.items()},
    )


def body(definition: str) -> str:
    """Returns a definition without the table's name, and without what differs between a table and its rehearsal: the place in Keeper, a default."""
    text = _HEAD.sub("", definition).replace(_DEFAULT_SETTINGS, "")
    return _REPLICATED.sub(lambda found: f"{found[1]}(" if found[0].endswith(("(", "'", " ")) else found[1], text).replace(
        "MergeTree()", "MergeTree"
    )


def function_text(line: str) -> str:
    """Returns what `system.functions` will say of a CREATE FUNCTION."""
    found = _FUNCTION.match(line)
    return f"CREATE FUNCTION {_ON_CLUSTER.sub('', found[1], count=1)}" if found else line


def after(world: World, read: Read, rehearse: Rehearse) -> World | Refused:
    """Returns the world once a statement has been executed, or why it would be refused. What leaves no trace in the catalogue changes nothing."""
    handler = _HANDLERS.get(read.shape.sort)
    return world if handler is None else handler(world, read, rehearse)


def after_done(world: World, read: Read, rehearse: Rehearse) -> World:
    """Returns the world after a statement that is known to be done: where that can't be rehearsed, its table's definition is unknown from now on."""
    found = after(world, read, rehearse)
    if isinstance(found, World):
        return found
    tables = dict(world.tables)
    for name in subjects.of_shape(read.shape).tables:
        thing = tables.get(name)
        if thing is not None:
            tables[name] = replace(thing, definition="")
        else:
            tables.pop(name, None)
    return replace(world, tables=tables)


def _created(world: World, read: Read, rehearse: Rehearse) -> World | Refused:
    shape, subject = read.shape, read.shape.subject
    if subject is None:
        return world
    if subject.kind in (Kind.FUNCTION, Kind.DATABASE):
        of_function = subject.kind is Kind.FUNCTION
        known = world.functions if of_function else world.databases
        if known.get(subject.name) is not None and not shape.replaces:
            return world if shape.conditional else Refused(f"{subject} exists")
        if of_function:
            return replace(world, functions={**known, subject.name: function_text(read.line)})
        return replace(world, databases={**known, subject.name: ""})
    name = (subject.schema, subject.name)
    there = world.tables.get(name)
    if there is not None and not shape.replaces:
        return world if shape.conditional else Refused(f"{subject} exists")
    if shape.verb in ("ATTACH", "UNDROP"):
        return replace(world, tables={**world.tables, name: world.detached.get(name, Thing())})
    definition = ""
    if subject.kind is Kind.TABLE:
        copied = None if shape.columns or shape.engine else subjects.copied_from(read.line, read.database)
        if copied is not None:
            origin = world.tables.get(copied)
            definition = origin.definition if origin is not None else ""
        else:
            expected = rehearse(None, read.line)
            if expected.refused:
                return Refused(expected.refused)
            definition = expected.definition
    made = Thing("", definition, there.uuid if there is not None else "")
    ids = world.ids if world.ids is None else {**world.ids, name: frozenset()}
    return replace(world, tables={**world.tables, name: made}, ids=ids, registered={**world.registered, name: ()})


def _dropped(world: World, read: Read, _rehearse: Rehearse) -> World | Refused:
    shape = read.shape
    tables, functions, databases, detached = dict(world.tables), dict(world.functions), dict(world.databases), dict(world.detached)
    found = subjects.of_shape(shape)
    missing = [str(name) for name in found.functions if functions.get(name, "") is None]
    missing += [str(name) for name in found.databases if databases.get(name, "") is None]
    missing += [".".join(name) for name in sorted(found.tables) if tables.get(name, Thing()) is None]
    if missing and not shape.conditional:
        return Refused(f"{missing[0]} does not exist")
    for name in found.tables:
        thing = tables.get(name)
        if thing is not None:
            detached[name] = thing
        tables[name] = None
    functions.update(dict.fromkeys(found.functions))
    databases.update(dict.fromkeys(found.databases))
    for name in tables:
        if name[0] in found.databases:
            tables[name] = None
    return replace(world, tables=tables, functions=functions, databases=databases, detached=detached)


def _renamed(world: World, read: Read, _rehearse: Rehearse) -> World | Refused:
    moves = [
        (item.subject, item.renamed) for item in read.shape.effects if item.subject.kind in (Kind.TABLE, Kind.DATABASE) and item.renamed
    ]
    for old, new in moves:
        if old.kind is Kind.DATABASE:
            moved = _database_renamed(world, old.name, new.name)
        else:
            moved = _moved(world, (old.schema, old.name), (new.schema, new.name), conditional=read.shape.conditional)
        if isinstance(moved, Refused):
            return moved
        world = moved
    return world


def _moved(world: World, old: TableName, new: TableName, *, conditional: bool) -> World | Refused:
    tables = dict(world.tables)
    if old not in tables:
        tables.pop(new, None)  # nothing is known of either any more
        return replace(world, tables=tables)
    if tables[old] is None:
        return world if conditional else Refused(f"{'.'.join(old)} does not exist")
    if tables.get(new) is not None:
        return Refused(f"{'.'.join(new)} exists")
    tables[new], tables[old] = tables[old], None
    ids = world.ids if world.ids is None else {**world.ids, new: world.ids.get(old, frozenset()), old: frozenset()}
    registered = {**world.registered, new: world.registered.get(old, ()), old: ()}
    return replace(world, tables=tables, ids=ids, registered=registered)


def _database_renamed(world: World, old: str, new: str) -> World | Refused:
    if world.databases.get(new) is not None:
        return Refused(f"database {new} exists")
    databases = {**world.databases, new: world.databases.get(old), old: None}
    tables = {(new if name[0] == old else name[0], name[1]): thing for name, thing in world.tables.items()}
    return replace(world, databases=databases, tables=tables)


def _altered(world: World, read: Read, rehearse: Rehearse) -> World | Refused:
    subject = read.shape.subject
    if subject is None:
        return world
    name = (subject.schema, subject.name)
    thing = world.tables.get(name, Thing())
    if thing is None:
        return Refused(f"{'.'.join(name)} does not exist")
    expected = rehearse(thing.definition, read.line) if thing.definition else Expected()
    if expected.refused:
        return Refused(expected.refused)
    registered = {**world.registered, name: (*world.registered.get(name, ()), *expected.mutations)}
    return replace(world, tables={**world.tables, name: replace(thing, definition=expected.definition)}, registered=registered)


_HANDLERS: Mapping[Sort, Callable[[World, Read, Rehearse], World | Refused]] = {
    Sort.CREATE: _created,
    Sort.DROP: _dropped,
    Sort.RENAME: _renamed,
    Sort.ALTER: _altered,
    Sort.CHANGE: _altered,
}
