"""Follows objects from statement to statement: what exists so far, what depends on what, which names PostgreSQL picks by itself.

Dropping a column takes its indexes and constraints along, dropping a table its foreign keys elsewhere (CASCADE), and an index without a name is called
after its table and columns. None of that stands in the statement, so the reader of effects remembers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from migrator.planning.objects import Action, Effect, Kind, ObjectName

_LONGEST_NAME = 63  # bytes; the server cuts its own names in a way that isn't repeated here

_SHARED_NAMESPACE = (Kind.TABLE, Kind.INDEX, Kind.SEQUENCE, Kind.VIEW, Kind.MATERIALIZED_VIEW, Kind.CONSTRAINT)
_DEFAULT_SCHEMAS = ("", "public")
"""A name without a schema usually means public, and files mix the two spellings."""


@dataclass
class Tracker:
    """What the statements so far leave behind. Each changing method yields the effects to report."""

    needs: dict[ObjectName, frozenset[ObjectName]] = field(default_factory=dict)
    """Every living object, with what it can't live without."""
    _named: dict[tuple[Kind, str], dict[ObjectName, None]] = field(default_factory=lambda: defaultdict(dict))

    def find(self, kind: Kind, schema: str, name: str, parent: str = "") -> ObjectName:
        """The living object that a name means; a name that is not known is returned as it is written."""
        wanted = ObjectName(kind, schema, name, parent)
        if wanted in self.needs:
            return wanted
        for item in self._named.get((kind, name), ()):
            either = schema in _DEFAULT_SCHEMAS and (item.schema in _DEFAULT_SCHEMAS or not schema)
            if (either or item.schema == schema) and parent in ("", item.parent):
                return item
        return wanted

    def named(self, kind: Kind, name: str) -> tuple[ObjectName, ...]:
        """All living objects of a kind and name."""
        return tuple(self._named.get((kind, name), ()))

    def knows(self, item: ObjectName) -> bool:
        return item in self.needs

    def create(self, item: ObjectName, needs: Iterable[ObjectName] = ()) -> Iterator[Effect]:
        self.needs[item] = frozenset(needs)
        self._named[(item.kind, item.name)][item] = None
        yield Effect(Action.CREATE, item)

    def drop(self, item: ObjectName) -> Iterator[Effect]:
        """Drops an object, then everything that needed it."""
        yield Effect(Action.DROP, item)
        gone = {other for other in self.needs if other == item or _is_within(other, item)}
        for other in gone:
            self._forget(other)
        for other in [user for user, needed in self.needs.items() if item in needed or needed & gone]:
            if other in self.needs:
                yield from self.drop(other)

    def rename(self, old: ObjectName, new: ObjectName) -> Iterator[Effect]:
        """Renames an object, or moves it to another schema; what belongs to a table goes with it."""
        yield Effect(Action.RENAME, old, new)
        moved = {_renamed(item, old, new): frozenset(_renamed(other, old, new) for other in needed) for item, needed in self.needs.items()}
        self.needs = {}
        self._named.clear()
        for item, needed in moved.items():
            self.needs[item] = needed
            self._named[(item.kind, item.name)][item] = None

    def implicit_name(self, schema: str, parts: Sequence[str], suffix: str) -> str:
        """The name that PostgreSQL gives to an index, constraint or sequence without one; "" when it would be cut."""
        base = "_".join([*(part for part in parts if part), suffix])
        name, number = base, 0
        while any(item.schema in (schema, "") for kind in _SHARED_NAMESPACE for item in self._named.get((kind, name), ())):
            number += 1
            name = f"{base}{number}"
        return name if len(name.encode("utf-8", "surrogateescape")) <= _LONGEST_NAME else ""

    def _forget(self, item: ObjectName) -> None:
        self.needs.pop(item, None)
        self._named[(item.kind, item.name)].pop(item, None)


_OWNERS = (Kind.TABLE, Kind.VIEW, Kind.MATERIALIZED_VIEW)


def _is_within(item: ObjectName, owner: ObjectName) -> bool:
    if owner.kind is Kind.SCHEMA:
        return item.schema == owner.name
    return owner.kind in _OWNERS and item.schema == owner.schema and item.parent == owner.name


def _renamed(item: ObjectName, old: ObjectName, new: ObjectName) -> ObjectName:
    if item == old:
        return new
    if old.kind is Kind.SCHEMA and item.schema == old.name:
        return replace(item, schema=new.name)
    return replace(item, schema=new.schema, parent=new.name) if old.kind in _OWNERS and _is_within(item, old) else item
