"""Facts of the schema: what was recorded of each object when a version made it (facts.md §3).

Nothing here is predicted from a file's text. A fact is the server's own description of one object, read when the run that made it ended; a
finding is the same description, read now. Objects are told apart by kind and name, never by an OID, so that a restored copy compares like the
original. In the very database that a fact was recorded in, `row` and `stamp` tell more: whose rows they are and which transactions wrote them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

COLUMN_ORDER = "column order"
"""The kind of a fact that lists a ClickHouse table's columns: INSERT without names goes by their order."""

PARTS = frozenset({"column", "constraint", "trigger", "rule", "policy", "comment", "data skipping index", "projection", COLUMN_ORDER})
"""Kinds without a life of their own: one that appears on a recorded object is a change of that object. PostgreSQL's indexes and grants aren't: such a
one is foreign."""

FOREIGN = "foreign"
"""The state of a fact of an object that no version made."""

COMMENTS_REMOVED = "2609:0"
"""Stands among what a transaction removed for comments, whose removal leaves no lock: the server's count of deleted rows tells of it."""


@dataclass(frozen=True, slots=True)
class SchemaFact:
    """The description of one object.

    `parent` is the name of what it belongs to: the table of a column or an index, the parent of a partition, the schema of a table. `basis` is what a
    view yields and depends on, the same in every major version. `row` and `stamp` hold in the database where they were read only. `version` is None
    for what `baseline` recorded, `state` says of an index found now that it is `invalid`, or that it `waits` for those of the partitions,
    of any object that no version made it (`foreign`).
    """

    kind: str
    identity: str
    parent: str = ""
    definition: str = ""
    basis: str = ""
    owner: str = ""
    row: str = ""
    stamp: str = ""
    server: int = 0
    version: int | None = None
    direction: str = "up"
    state: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.identity

    @property
    def major(self) -> int:
        """The major version of the server that wrote the description."""
        return self.server // 10000

    @property
    def text(self) -> str:
        """The description as people read it."""
        return self.definition or self.kind

    def __str__(self) -> str:
        if self.kind == COLUMN_ORDER:
            return f"order of the columns of {self.parent}"
        return self.identity if self.kind == "privileges" else f"{self.kind} {self.identity}"


@dataclass(frozen=True, slots=True)
class Note:
    """What a transaction noted of itself: its ids, and places (`classid:objid`) of what it locked against everybody, of which some is gone."""

    version: int
    direction: str
    xids: frozenset[str]
    gone: frozenset[str]


def in_state(fact: SchemaFact, state: str) -> SchemaFact:
    return replace(fact, state=state) if state else fact


def described(recorded: Sequence[SchemaFact], found: Iterable[SchemaFact], notes: Sequence[Note]) -> tuple[SchemaFact, ...]:
    """The facts as the next run will write them, which describes what a broken one has noted. Newer notes come last."""
    now = {(item.kind, item.row): item for item in found}
    authors = {xid: note for note in notes for xid in note.xids}
    claimed = {}
    for key, item in now.items():
        author = next((authors[xid] for xid in reversed(item.stamp.split()) if xid in authors), None)
        if author is not None:
            claimed[key] = replace(item, version=author.version, direction=author.direction)
    known = {(fact.kind, fact.row) for fact in recorded}
    altered = {item.identity: item for key, item in claimed.items() if key not in known and item.kind not in (*PARTS, "privileges")}
    for key, item in now.items():  # a table that was there before, and that a version has changed, is recorded as that version left it
        if item.kind in PARTS and item.parent in altered and key not in claimed and key not in known:
            owner = altered[item.parent]
            claimed[key] = replace(item, version=owner.version, direction=owner.direction)
    gone = frozenset[str]().union(*(note.gone for note in notes))
    columns = {_place(row): item for (kind, row), item in claimed.items() if kind == "column"}
    kept = []
    for fact in recorded:
        key = (fact.kind, fact.row)
        current = now.get(key)
        if key in claimed or (current is None and _is_removed(fact, gone, claimed)):
            continue
        only_names = current is not None and current.stamp == fact.stamp
        writer = columns.get(_place(fact.row)) if fact.kind in ("table", "foreign table") else None
        if current is not None and (only_names or writer):  # NO INHERIT leaves its mark on the columns alone
            written = fact if only_names or writer is None else writer
            kept.append(replace(current, version=written.version, direction=written.direction))
        else:
            kept.append(fact)
    return (*kept, *claimed.values())


def _place(row: str) -> str:
    """The object that a row is of, or that its column belongs to."""
    return row.rpartition(":")[0]


def _is_removed(fact: SchemaFact, gone: frozenset[str], claimed: Mapping[tuple[str, str], SchemaFact]) -> bool:
    """Tells whether an object that isn't found was removed by what noted `gone`. Its grants go with what was written anew without them."""
    if fact.kind == "comment" and COMMENTS_REMOVED in gone:
        return True
    if fact.kind == "privileges" and any(row == fact.row and kind != "comment" for kind, row in claimed):
        return True
    return fact.row in gone or _place(fact.row) in gone
