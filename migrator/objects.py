"""Database objects that statements leave behind: plain data, and the fold from effects to what must exist.

The engines read a statement's effects (`postgres/shapes.py` through PostgreSQL's own grammar, `clickhouse/shapes.py` through the
server); `verification` folds the effects of all applied files and asks the catalogue for the result.
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
    """An object: `parent` is the table of a column, index, trigger, constraint or projection; `schema` may be empty (the search path
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
    """One change to one object; `renamed` is the new name of a RENAME. `cascades` drops everything whose parent is the object too."""

    action: Action
    subject: ObjectName
    renamed: ObjectName | None = None


def fold(effects: Iterable[Effect]) -> frozenset[ObjectName]:
    """The objects that must exist after all effects in order: created or renamed to, and not dropped since.

    Dropping or renaming a table (or a schema) takes its columns, indexes, constraints, triggers and projections with it.
    """
    living: dict[ObjectName, None] = {}
    for effect in effects:
        if effect.action is Action.CREATE:
            living[effect.subject] = None
        elif effect.action is Action.DROP:
            living = {item: None for item in living if item != effect.subject and not _belongs(item, effect.subject)}
        elif effect.renamed is not None:
            living = dict.fromkeys(_renamed(item, effect.subject, effect.renamed) for item in living)
    return frozenset(living)


_OWNERS = (Kind.TABLE, Kind.VIEW, Kind.MATERIALIZED_VIEW)


def _belongs(item: ObjectName, owner: ObjectName) -> bool:
    if owner.kind is Kind.SCHEMA or owner.kind is Kind.DATABASE:
        return item.schema == owner.name
    return owner.kind in _OWNERS and item.schema == owner.schema and item.parent == owner.name


def _renamed(item: ObjectName, old: ObjectName, new: ObjectName) -> ObjectName:
    if item == old:
        return new
    if old.kind in _OWNERS and _belongs(item, old):
        return replace(item, schema=new.schema, parent=new.name)
    return item
