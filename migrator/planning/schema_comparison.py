"""Compares recorded facts of the schema with what is found now (facts.md §3, §4)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from migrator.planning.schema_facts import COLUMN_ORDER, FOREIGN, PARTS, SchemaFact

QUERY_KINDS = frozenset({"view", "materialized view", "rule", "policy", "function", "procedure"})
"""Kinds whose text may hold a query, which each major version prints in its own way."""

_QUALIFIER = re.compile(r'(?:"(?:[^"]|"")+"|[a-z_][\w$]*)\.(?=["a-z_])')


@dataclass(frozen=True, slots=True)
class Difference:
    """One object that isn't what was recorded. `state`: `missing`, `changed`, `renamed`, `unrecorded` (on a recorded object), `invalid`."""

    subject: str
    state: str
    expected: str
    found: str
    version: int | None = None
    direction: str = "up"

    @property
    def author(self) -> str:
        """Returns the version that made what is expected."""
        if self.state == "unrecorded":
            return "no version made it"
        if self.version is None:
            return "recorded by baseline"
        return f"made by version {self.version}" + (" (its Down)" if self.direction == "down" else "")

    def __str__(self) -> str:
        if self.state == "changed":
            return f"{self.subject}: expected {_line(self.expected)}, found {_line(self.found)} ({self.author})"
        if self.state == "renamed":
            return f"{self.subject}: expected under this name, found as {self.found} ({self.author})"
        if self.state == "missing":
            return f"{self.subject}: expected {_line(self.expected)}, found nothing ({self.author})"
        return f"{self.subject}: {self.state}: {_line(self.found)} ({self.author})"


@dataclass(frozen=True)
class Comparison:
    """Facts against facts. `foreign` are objects that no version made, in schemas that versions wrote to; `notes` are worth a line and no failure."""

    differences: tuple[Difference, ...] = ()
    foreign: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    checked: int = 0


@dataclass(frozen=True)
class Schema:
    """What is recorded of a database's schema, and what is found in it.

    `at_home`: both come from the same database, not from a copy. `unproven`: applied versions of which nothing was noted (an older greylag, goose).
    `undescribed`: versions whose run ended before it could describe them; `recorded` holds them as they are found now. `complete` is False where an
    older greylag made the tables, so that nothing at all is recorded.
    """

    recorded: tuple[SchemaFact, ...]
    found: tuple[SchemaFact, ...]
    at_home: bool
    unproven: tuple[int, ...] = ()
    undescribed: tuple[int, ...] = ()
    complete: bool = True
    applied: frozenset[int] | None = None
    """Versions with a row of goose's; None where nobody asks."""

    def compare(self) -> Comparison:
        """The differences between both."""
        found = _Comparing(self.recorded, self.found, at_home=self.at_home).result()
        if self.applied is not None:
            undone = [item for item in found.differences if self._is_undone(item)]
            kept = tuple(item for item in found.differences if item not in undone)
            lines = (f"{item.subject} is gone with version {item.version}, which goose has taken back" for item in undone)
            found = replace(found, differences=kept, notes=(*found.notes, *lines))
        if not self.unproven:
            return found
        # some versions left no facts: an object without one may be theirs
        strange = [item for item in found.differences if item.state == "unrecorded"]
        differences = tuple(item for item in found.differences if item.state != "unrecorded")
        return replace(found, differences=differences, foreign=(*found.foreign, *(item.subject for item in strange)))

    def standing(self) -> tuple[SchemaFact, ...]:
        """Returns what is found of recorded objects, with their versions, and, in state `foreign`, what no version made and stands beside them."""
        return _Comparing(self.recorded, self.found, at_home=self.at_home).standing()

    def _is_undone(self, item: Difference) -> bool:
        """Tells whether what is missing was made by a version that isn't applied any more: somebody else's Down removed it."""
        gone = self.applied is not None and item.version is not None and item.version not in self.applied
        return gone and item.state == "missing" and item.direction == "up"


def _line(text: str, limit: int = 200) -> str:
    """A definition on one line, cut where it is long."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


# --- when two descriptions are equal ------------------------------------------------------------------------------------------------


def same(expected: SchemaFact, found: SchemaFact) -> bool:
    """Tells whether two descriptions say the same, across major versions too (facts.md §4)."""
    if expected.kind == "privileges":
        return not _lost_or_changed(expected, found)
    if expected.definition == found.definition:
        return True
    if expected.kind == COLUMN_ORDER:
        return _common_order(expected.definition, found.definition)
    if expected.major == found.major or expected.kind not in QUERY_KINDS:
        return False
    if unqualified(expected.definition) == unqualified(found.definition):
        return True
    return bool(expected.basis) and expected.basis == found.basis


def _common_order(expected: str, found: str) -> bool:
    """Tells whether the columns that both lists have come in the same order; one that is more or less is told itself."""
    old, new = expected.split(", "), found.split(", ")
    return [name for name in old if name in new] == [name for name in new if name in old]


def unqualified(text: str) -> str:
    """A query's text without what qualifies its names, which one major version prints and the next one doesn't."""
    return " ".join(_QUALIFIER.sub("", text).split())


def _grants(fact: SchemaFact) -> dict[str, frozenset[str]]:
    found = (line.partition(": ") for line in fact.definition.split("; ") if ": " in line)
    return {grantee: frozenset(names.split(", ")) for grantee, _, names in found}


def _lost_or_changed(expected: SchemaFact, found: SchemaFact) -> bool:
    """Tells whether a grantee has not what was recorded. One more grantee is foreign; PUBLIC is everybody, and therefore always compared."""
    old, new = _grants(expected), _grants(found)
    if expected.major != found.major:  # MAINTAIN is part of ALL from 17 on
        old, new = ({name: grants - {"MAINTAIN", "MAINTAIN*"} for name, grants in item.items()} for item in (old, new))
    return any(new.get(name) != old.get(name) for name in {*old, "PUBLIC"})


# --- comparing ----------------------------------------------------------------------------------------------------------------------


class _Comparing:
    """One comparison, kind by kind of difference."""

    def __init__(self, recorded: Sequence[SchemaFact], found: Sequence[SchemaFact], *, at_home: bool) -> None:
        self.recorded = {item.key: item for item in recorded}
        self.found = {item.key: item for item in found}
        self.at_home = at_home
        self.differences: list[Difference] = []
        self.notes: list[str] = []
        self.renamed: set[tuple[str, str]] = set()  # keys found, of objects that are recorded under another name

    @cached_property
    def found_rows(self) -> Mapping[tuple[str, str], SchemaFact]:
        return {(item.kind, item.row): item for item in self.found.values() if item.row}

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of recorded objects that others belong to."""
        return frozenset(identity for kind, identity in self.recorded if kind not in ("comment", "privileges"))

    def standing(self) -> tuple[SchemaFact, ...]:
        """Returns what is found of recorded objects and what is foreign. Grants are each database's own."""
        self.renamed = self._renamed()
        schemas = {self._root(item) for item in self.recorded.values()}
        kept: list[SchemaFact] = []
        for key, item in sorted(self.found.items()):
            known = self.recorded.get(key)
            if known is not None and item.kind != "privileges":
                kept.append(replace(item, version=known.version, direction=known.direction))
            elif known is None and item.kind != "privileges":
                part = item.kind in PARTS and (item.parent in self.names or item.parent in self._moved_names)
                if part or key in self.renamed or self._is_foreign(item, schemas):
                    kept.append(replace(item, state=FOREIGN))
        return tuple(kept)

    def _renamed(self) -> set[tuple[str, str]]:
        return {now.key for fact in self.recorded.values() if (now := self._elsewhere(fact)) is not None}

    def result(self) -> Comparison:
        self.renamed = self._renamed()
        for key in sorted(self.recorded):
            self._expected(self.recorded[key])
        foreign = self._unrecorded()
        return Comparison(tuple(self.differences), tuple(foreign), tuple(self.notes), len(self.recorded))

    def _expected(self, fact: SchemaFact) -> None:
        now = self.found.get(fact.key)
        if now is None:
            self._absent(fact)
            return
        self._state(fact, now)
        if not same(fact, now):
            if not self._untouched(fact, now):
                self._differ(fact, "changed", fact.text, now.text)
        elif self.at_home and fact.owner != now.owner and not self._untouched(fact, now):
            self._differ(fact, "changed", f"owner {fact.owner}", f"owner {now.owner}")

    def _state(self, fact: SchemaFact, now: SchemaFact) -> None:
        if now.state == "invalid":
            self._differ(fact, "invalid", fact.text, "its build was not finished (indisvalid is false): drop it and build it again")
        elif now.state == "waits":
            self.notes.append(f"{now} waits for an index of each partition to be attached")

    def _untouched(self, fact: SchemaFact, now: SchemaFact) -> bool:
        """Tells whether nobody has written the object's own rows since: then only names of others in its text have changed, and those are told themselves."""
        return self.at_home and bool(fact.stamp) and fact.row == now.row and fact.stamp == now.stamp

    def _absent(self, fact: SchemaFact) -> None:
        now = self._elsewhere(fact)
        if now is not None:
            if self._untouched(fact, now):
                return
            if now.parent in self._moved_names and _own_name(now) == _own_name(fact):
                if not same(fact, now):
                    self._differ(fact, "changed", fact.text, now.text)
                return
            self._differ(fact, "renamed", fact.text, str(now))
            return
        if fact.kind == "privileges":
            if self._holder(fact) and _lost_or_changed(fact, SchemaFact("privileges", fact.identity, definition="", server=fact.server)):
                self._differ(fact, "missing", fact.text, "")
        elif fact.kind == "comment" and not self._holder(fact):
            return
        elif not any(self._gone(parent) for parent in self._ancestors(fact)):
            self._differ(fact, "missing", fact.text, "")

    def _elsewhere(self, fact: SchemaFact) -> SchemaFact | None:
        """The same object under another name, where it has one."""
        if fact.key in self.found or not (self.at_home and fact.row):
            return None
        now = self.found_rows.get((fact.kind, fact.row))
        return now if now is not None and now.key not in self.recorded else None

    def _holder(self, fact: SchemaFact) -> bool:
        """Tells whether what a comment or a grant belongs to is still there."""
        kind, _, name = fact.identity.partition(" ")
        return not fact.parent or any(identity == fact.parent for _, identity in self.found) or (kind, name) in self.found

    def _ancestors(self, fact: SchemaFact) -> Iterator[str]:
        parents = self._parents(self.recorded)
        name = fact.parent
        while name:
            yield name
            name = parents.get(name, "")

    def _gone(self, name: str) -> bool:
        """Tells whether a recorded object of that name isn't found any more: then it is told, and what belonged to it isn't told again."""
        return name in self.names and name not in self._parents(self.found)

    def _parents(self, facts: Mapping[tuple[str, str], SchemaFact]) -> dict[str, str]:
        if facts is self.recorded:
            return self._recorded_parents
        return self._found_parents

    @cached_property
    def _recorded_parents(self) -> dict[str, str]:
        return _parents(self.recorded.values())

    @cached_property
    def _found_parents(self) -> dict[str, str]:
        return _parents(self.found.values())

    def _differ(self, fact: SchemaFact, state: str, expected: str, found: str) -> None:
        self.differences.append(Difference(str(fact), state, expected, found, fact.version, fact.direction))

    # --- what no version made ---------------------------------------------------------------------------------------------------------

    def _unrecorded(self) -> list[str]:
        """Adds what appeared on recorded objects to the differences; returns what is foreign."""
        foreign: list[str] = []
        schemas = {self._root(item) for item in self.recorded.values()}
        for key in sorted(self.found):
            if key in self.recorded:
                if key[0] == "privileges":
                    foreign += self._foreign_grants(self.recorded[key], self.found[key])
                continue
            item = self.found[key]
            if key in self.renamed or self._is_moved(item):
                continue
            on_recorded = item.parent in self.names or item.parent in self._moved_names
            if item.kind in PARTS and on_recorded:
                if item.parent not in self._moved_names or item.kind != "comment":
                    self.differences.append(Difference(str(item), "unrecorded", "", item.text))
            elif item.kind == "privileges":
                if on_recorded:
                    foreign.append(f"{item}: {item.definition}")
            elif self._is_foreign(item, schemas):
                foreign.append(str(item))
        return foreign

    def _is_moved(self, item: SchemaFact) -> bool:
        """Tells whether the object is a recorded one, under a name that its parent's rename gave it."""
        return self.at_home and any(
            item.row == fact.row and fact.key not in self.found for fact in self._recorded_rows.get((item.kind, item.row), ())
        )

    @cached_property
    def _recorded_rows(self) -> Mapping[tuple[str, str], list[SchemaFact]]:
        found: dict[tuple[str, str], list[SchemaFact]] = {}
        for item in self.recorded.values():
            if item.row:
                found.setdefault((item.kind, item.row), []).append(item)
        return found

    @cached_property
    def _moved_names(self) -> frozenset[str]:
        return frozenset(identity for _, identity in self.renamed)

    def _is_foreign(self, item: SchemaFact, schemas: set[str]) -> bool:
        """Tells whether an object is one that stands by itself, in a schema that versions wrote to. A partition is its parent's own, with all it has."""
        if item.kind in PARTS or item.kind == "schema":
            return False
        if item.parent in self.names:
            recorded_table = (("table", item.parent) in self.recorded) and item.kind == "table"
            return not recorded_table
        parents = self._found_parents
        if item.parent in parents and ("schema", item.parent) not in self.found and parents[item.parent]:
            return False  # belongs to something that is told itself, or to a partition
        root = self._root(item)
        return root in schemas or not root

    def _root(self, item: SchemaFact) -> str:
        """The schema that an object is in; nothing for what is in none."""
        if item.kind in ("comment", "privileges"):
            return ""
        name = item.parent
        parents = self._found_parents if item.key in self.found else self._recorded_parents
        seen: set[str] = set()
        while name in parents and parents[name] and name not in seen:
            seen.add(name)
            name = parents[name]
        return name

    @staticmethod
    def _foreign_grants(expected: SchemaFact, now: SchemaFact) -> list[str]:
        more = {name: names for name, names in _grants(now).items() if name not in _grants(expected)}
        return [f"{now}: {name}: {', '.join(sorted(names))}" for name, names in sorted(more.items()) if name != "PUBLIC"]


def _own_name(fact: SchemaFact) -> str:
    """A name without the one of what it belongs to."""
    return fact.identity.removeprefix(f"{fact.parent}.")


def _parents(facts: Iterable[SchemaFact]) -> dict[str, str]:
    return {item.identity: item.parent for item in facts if item.kind not in PARTS and item.kind != "privileges"}
