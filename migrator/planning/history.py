"""A database's history as plain data: goose's rows, and greylag's own facts beside them (architecture.md §2.6).

goose's table decides what counts as *applied*; a fact adds checksum, who, when and the Down text. A fact whose goose row is gone is ignored,
so that goose can take over, and hand back to greylag, at any time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from migrator.targets import Engine


@dataclass(frozen=True, slots=True)
class Row:
    """One row of goose's version table.

    `identity` distinguishes rows of the same version (PostgreSQL: the `id`; ClickHouse: the `tstamp` as text), so that a fact can name the very
    row it belongs to.
    """

    version: int
    is_applied: bool
    tstamp: datetime
    identity: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One row of `greylag_migration`: what greylag knows about an applied version beyond goose's row. `accepted`: which of its lossy hazards were, and why."""

    version: int
    row_identity: str
    name: str
    checksum: str
    size: int
    bundle: str
    down_text: bytes
    run_id: str
    applied_by: str
    applied_at: datetime
    seconds: float
    oldest_app: int | None = None
    accepted: str = ""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A version table of the same name in another schema: `table` as -table takes it, its applied versions above 0, and the checksums that greylag recorded
    beside it."""

    table: str
    versions: frozenset[int]
    checksums: dict[int, str]


@dataclass(frozen=True, slots=True)
class Outline:
    """The part of a history that shows that nothing is to be done. It is cheap enough to read ten thousand versions at every start of a pod.

    `current` is as in `History`. `versions` has every version with a row, `sizes` and `names` the recorded file size and name of each version with a
    fact, `limits` tells whether a fact names an oldest app.
    """

    current: int
    versions: frozenset[int]
    sizes: dict[int, int]
    names: dict[int, str]
    limits: bool


@dataclass(frozen=True)
class History:
    """The version table in the engine's own list order (goose.md §4: PostgreSQL by id, newest first; ClickHouse by version, highest
    first), with the facts. `living_facts` are those whose row still exists.

    `exists` is False when the table is absent: nothing was ever applied, unless the table is `elsewhere`.
    """

    engine: Engine
    exists: bool
    rows: tuple[Row, ...] = ()
    facts: tuple[Fact, ...] = ()
    table: str = field(default="goose_db_version")
    elsewhere: tuple[Elsewhere, ...] = ()

    @cached_property
    def versions(self) -> frozenset[int]:
        """Versions with any row; goose's `up` regards each of them as applied (goose.md §4.4)."""
        return frozenset(row.version for row in self.rows)

    @cached_property
    def current(self) -> int:
        """The current version, as `current_without` for no deleted version."""
        return self.current_without(())

    def current_without(self, gone: Iterable[int]) -> int:
        """Returns the version that would be current if the rows of some versions were deleted: the first in the list whose newest row is applied
        (goose.md §4.4).

        Returns 0 for a table that does not exist, and -1 for an existing table without any applied row, which has no current version.
        """
        if not self.exists:
            return 0
        skipped = set(gone)
        for row in self.rows:
            if row.version in skipped:
                continue
            if row.is_applied:
                return row.version
            skipped.add(row.version)
        return -1

    @cached_property
    def newest(self) -> int:
        """The highest version with a row, 0 when there is none."""
        return max(self.versions, default=0)

    @cached_property
    def newest_rows(self) -> dict[int, Row]:
        """For each version the row that `status` shows: the newest by time (goose.md §4.1)."""
        found: dict[int, Row] = {}
        for row in self.rows:
            other = found.get(row.version)
            if other is None or row.tstamp > other.tstamp:
                found[row.version] = row
        return found

    @cached_property
    def applied(self) -> tuple[int, ...]:
        """Versions above 0 whose newest row is applied, in the engine's list order without repeats."""
        order = dict.fromkeys(row.version for row in self.rows if row.version > 0)
        return tuple(version for version in order if self.newest_rows[version].is_applied)

    @cached_property
    def living_facts(self) -> dict[int, Fact]:
        """Facts by version, only those whose goose row still exists."""
        identities = {(row.version, row.identity) for row in self.rows}
        return {fact.version: fact for fact in self.facts if (fact.version, fact.row_identity) in identities}

    @cached_property
    def unproven(self) -> tuple[int, ...]:
        """Applied versions without a fact: goose applied them, or the facts were dropped."""
        return tuple(version for version in self.applied if version not in self.living_facts)
