"""What the runs left -> the recorded facts of the schema: the difference of each run's *before* and *after*, one after the other (facts.md §6). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from migrator.clickhouse.reading import definitions, mentions
from migrator.clickhouse.reading.definitions import Description
from migrator.planning.schema_facts import SchemaFact

Key = tuple[str, str, str]
Objects = Mapping[Key, Description]


@dataclass(frozen=True)
class Snapshot:
    """What one run recorded.

    Args:
        identity: of the run's entry.
        home: the database that it was connected to.
        server: the version of the server that described.
        scope: what it may have changed; None for `baseline`, which recorded everything that was there.
        before: the objects of the scope before its first statement.
        after: those that were another afterwards; None for one that was gone. None as a whole while it isn't known: the run was broken off.
        proven: versions that `baseline` proved.
    """

    identity: str
    home: str
    server: str
    scope: mentions.Scope | None
    before: Objects = field(default_factory=dict)
    after: Mapping[Key, Description | None] | None = None
    proven: tuple[int, ...] = ()


@dataclass(frozen=True)
class Recorded:
    """The facts, the versions that they cover, and of those the versions whose run was broken off before it could describe them."""

    facts: tuple[SchemaFact, ...]
    versions: frozenset[int]
    undescribed: tuple[int, ...] = ()


def changes(before: Objects, now: Objects) -> dict[Key, Description | None]:
    """Returns what is another now: None for what is gone."""
    found: dict[Key, Description | None] = dict.fromkeys(before.keys() - now.keys())
    found.update((key, item) for key, item in now.items() if before.get(key) != item)
    return found


def within(scope: mentions.Scope, home: str, found: Objects) -> dict[Key, Description]:
    """Returns the objects that a run of this scope may have changed."""
    return {key: item for key, item in found.items() if _covers(scope, home, item)}


def _covers(scope: mentions.Scope, home: str, item: Description) -> bool:
    if item.kind == "function":
        return scope.functions and item.name in scope.names
    if item.kind == "database":
        return scope.databases and item.name in scope.names
    return (item.database == home or item.database in scope.names) and (scope.whole or item.name in scope.names)


def fold(snapshots: Sequence[Snapshot], now: Objects, home: str) -> Recorded:
    """Returns what the runs, oldest first, have recorded.

    Args:
        now: the catalogue, for a run that was broken off: what its statements name is taken as it is.
        home: the connected database, under whose name `now` was read.
    """
    folding = _Folding()
    for item in snapshots:
        if item.scope is None:
            folding.baseline(item)
            continue
        after = item.after
        if after is None:
            after = changes(item.before, within(item.scope, item.home, _renamed(now, home, item.home)))
            folding.undescribed |= {version for version, _ in item.scope.steps}
        folding.run(item, item.scope, after)
    return Recorded(tuple(folding.facts.values()), frozenset(folding.versions), tuple(sorted(folding.undescribed)))


def _renamed(found: Objects, home: str, former: str) -> Objects:
    """Returns objects of the connected database under the name that it had: the run was broken off in a database that was copied since."""
    if home == former:
        return found
    moved = (replace(item, database=former) if item.database == home else item for item in found.values())
    return {item.key: item for item in moved}


class _Folding:
    def __init__(self) -> None:
        self.facts: dict[tuple[str, str], SchemaFact] = {}
        self.versions: set[int] = set()
        self.undescribed: set[int] = set()

    def run(self, item: Snapshot, scope: mentions.Scope, after: Mapping[Key, Description | None]) -> None:
        for version, direction in scope.steps:
            (self.versions.add if direction == "up" else self.versions.discard)(version)
        # what is gone goes first: another object may have got its name, or a part of it
        for key in sorted(after, key=lambda key: after[key] is not None):
            self._object(item, scope, item.before.get(key), after[key])

    def _object(self, item: Snapshot, scope: mentions.Scope, before: Description | None, after: Description | None) -> None:
        old = _by_key(before, item.home)
        new = _by_key(after, item.home)
        if after is None or not any(key in self.facts for key in old):
            unknown = True  # all that it has is recorded as this run left it
        else:
            unknown = False
        for key in old.keys() - new.keys():
            self.facts.pop(key, None)
        if after is None and old:
            whole = next(iter(old.values())).identity
            for key in [key for key, fact in self.facts.items() if fact.parent == whole and fact.kind != "table"]:
                del self.facts[key]
        name = after.name if after is not None else ""
        for key, fact in new.items():
            same = key in old and old[key].definition == fact.definition
            if same and key in self.facts:
                self.facts[key] = replace(self.facts[key], row=fact.row)
            elif not same or unknown:
                version, direction = scope.author(fact, name)
                self.facts[key] = replace(fact, version=version, direction=direction)

    def baseline(self, item: Snapshot) -> None:
        """Records everything as it is; what was recorded so keeps its version."""
        known, self.facts = self.facts, {}
        for described in (item.after or {}).values():
            for key, fact in _by_key(described, item.home).items():
                earlier = known.get(key)
                same = earlier is not None and earlier.definition == fact.definition
                self.facts[key] = replace(fact, version=earlier.version, direction=earlier.direction) if earlier and same else fact
        self.versions |= set(item.proven)
        self.undescribed.clear()


def _by_key(item: Description | None, home: str) -> dict[tuple[str, str], SchemaFact]:
    return {fact.key: fact for fact in definitions.facts(item, home)} if item is not None else {}


def facts_of(found: Iterable[Description], home: str) -> tuple[SchemaFact, ...]:
    """Returns the facts of what is found."""
    return tuple(fact for item in found for fact in definitions.facts(item, home))
