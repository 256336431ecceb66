"""Database objects that statements create, as plain data, and the computation of the objects that must exist from statements' effects.

The engines read a statement's effects (`postgres/reading/effects.py` through PostgreSQL's own grammar, `clickhouse/reading/shapes.py` through the
server); `verification` folds the effects of all applied files and looks the result up in the catalogue.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace


class Kind(enum.StrEnum):
    """Kinds of object that verification can look up."""

    SCHEMA = "schema"
    TABLE = "table"
    VIEW = "view"
    MATERIALIZED_VIEW = "materialized view"
    INDEX = "index"
    SEQUENCE = "sequence"
    FUNCTION = "function"
    TYPE = "type"
    TRIGGER = "trigger"
    CONSTRAINT = "constraint"
    COLUMN = "column"
    EXTENSION = "extension"
    DICTIONARY = "dictionary"
    PROJECTION = "projection"
    DATABASE = "database"


class Action(enum.StrEnum):
    """What a statement does to an object."""

    CREATE = "create"
    DROP = "drop"
    RENAME = "rename"


@dataclass(frozen=True, slots=True, order=True)
class ObjectName:
    """An object: `parent` is the table of a column, index, trigger, constraint or projection; `schema` may be empty (then the search path
    decides)."""

    kind: Kind
    schema: str
    name: str
    parent: str = ""

    def __str__(self) -> str:
        qualified = ".".join(part for part in (self.schema, self.parent, self.name) if part)
        return f"{self.kind} {qualified}"


@dataclass(frozen=True, slots=True)
class Effect:
    """One change to one object; `renamed` is the new name of a RENAME."""

    action: Action
    subject: ObjectName
    renamed: ObjectName | None = None


def fold(effects: Iterable[Effect]) -> frozenset[ObjectName]:
    """Returns the objects that must exist after all effects in order: those created or renamed to, and not dropped since.

    Dropping or renaming a table (or a schema) takes its columns, indexes, constraints, triggers and projections with it.
    """
    living: dict[ObjectName, None] = {}
    for effect in effects:
        subject = effect.subject
        if effect.action is Action.CREATE:
            living[subject] = None
        elif effect.action is Action.DROP:
            living = {item: None for item in living if not _is(item, subject) and not _belongs(item, subject)}
        elif effect.renamed is not None:
            living = dict.fromkeys(_renamed(item, subject, effect.renamed) for item in living)
    return frozenset(living)


_RELATIONS = (Kind.TABLE, Kind.VIEW, Kind.MATERIALIZED_VIEW, Kind.DICTIONARY)


def _is(item: ObjectName, subject: ObjectName) -> bool:
    """Tells whether `item` is the object that a statement names as `subject`. DROP INDEX does not name the table, ClickHouse's DROP TABLE also drops views and
    dictionaries, and ALTER TABLE … RENAME also renames views."""
    same_kind = item.kind is subject.kind or (item.kind in _RELATIONS and subject.kind in _RELATIONS)
    return same_kind and item.schema == subject.schema and item.name == subject.name and subject.parent in ("", item.parent)


def _belongs(item: ObjectName, owner: ObjectName) -> bool:
    if owner.kind in (Kind.SCHEMA, Kind.DATABASE):
        return item.schema == owner.name
    return owner.kind in _RELATIONS and item.schema == owner.schema and item.parent == owner.name


def _renamed(item: ObjectName, old: ObjectName, new: ObjectName) -> ObjectName:
    if _is(item, old):
        return replace(item, schema=new.schema, name=new.name)
    if _belongs(item, old):
        return replace(item, schema=new.schema, parent=new.name) if old.kind in _RELATIONS else replace(item, schema=new.name)
    return item
