"""Who may write what is recorded, on ClickHouse: whoever migrates, and nobody else.

ClickHouse has no owner of a table and no default privileges: a grant on `database.*` is one on every table of it, these, too, and only who manages
access can take a part of it back. So nothing is revoked where greylag makes its tables; `greylag privileges clickhouse` prints the statements, which may
be executed before the tables are there (https://clickhouse.com/docs/sql-reference/statements/revoke).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from migrator.clickhouse.history import DESCRIBED, FACTS, HistoryTables
from migrator.clickhouse.lock import TABLE as LOCK
from migrator.clickhouse.session import Session, quote
from migrator.engines import Writer
from migrator.planning import approvals, journal

_WRITING = {
    "INSERT": ("INSERT", "ALL"),
    "ALTER UPDATE": ("ALTER UPDATE", "ALTER TABLE", "ALTER", "ALL"),
    "ALTER DELETE": ("ALTER DELETE", "ALTER TABLE", "ALTER", "ALL"),
    "TRUNCATE": ("TRUNCATE", "ALL"),
    "DROP TABLE": ("DROP TABLE", "DROP", "ALL"),
}
"""Privileges that write rows or do away with them, each with the groups that it is in (system.privileges)."""

_MANAGING = frozenset({"ALL", "ACCESS MANAGEMENT", "CREATE USER", "ALTER USER"})
"""Who has one of these on everything may give itself any other: an administrator."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A row of system.grants: of a user or a role, of a privilege on a database and a table, each empty for all; `revoked` takes away a part of a
    wider one; `prefix`: the last name given is a beginning (`db*.*`)."""

    user: str
    role: str
    privilege: str
    database: str
    table: str
    column: str
    revoked: bool
    prefix: bool

    @property
    def holder(self) -> str:
        return quote(self.user) if self.user else f"role {quote(self.role)}"

    @property
    def width(self) -> int:
        """Tells how narrow it is: 0 for everything, 3 for a column."""
        return sum(bool(name) for name in (self.database, self.table, self.column))

    def covers(self, database: str, table: str) -> bool:
        """Tells whether it is about this table, or a column of it."""
        in_database = (
            not self.database or database == self.database or (self.prefix and not self.table and database.startswith(self.database))
        )
        return in_database and (not self.table or table == self.table or (self.prefix and table.startswith(self.table)))


def read(session: Session, where: HistoryTables) -> tuple[Writer, ...]:
    """Returns who may write the tables beside this user and its roles, and those who manage access; none where there is no version table.

    Raises failures.Refusal (no SELECT on system.grants) and failures.Lost.
    """
    tables = (where.name, FACTS, journal.TABLE, approvals.TABLE, DESCRIBED, LOCK)
    rows = session.rows(
        "SELECT user_name, role_name, toString(access_type), database, table, column, is_partial_revoke, COLUMNS('^is_wildcard$')"
        " FROM system.grants WHERE coalesce(user_name, '') != currentUser() AND NOT has(enabledRoles(), coalesce(role_name, ''))"
    )
    return tuple(writers([_grant(row) for row in rows], where.database, tables))


def _grant(row: Sequence[Any]) -> Grant:
    user, role, privilege, database, table, column = (str(item or "") for item in row[:6])
    return Grant(user, role, privilege, database, table, column, revoked=bool(row[6]), prefix=any(row[7:]))


def writers(given: Sequence[Grant], database: str, tables: Iterable[str]) -> Iterator[Writer]:
    """Yields who may write which of the tables by these grants, one for each user or role and table."""
    held: dict[str, list[Grant]] = {}
    for grant in given:
        held.setdefault(grant.holder, []).append(grant)
    for holder, grants in sorted(held.items()):
        if any(item.privilege in _MANAGING and not item.database and not item.revoked for item in grants):
            continue
        for table in tables:
            found = [item for item, groups in _WRITING.items() if _has(grants, groups, database, table)]
            if found:
                privileges = ", ".join(found)
                place = f"{quote(database)}.{quote(table)}"
                yield Writer(holder, f"{privileges} on {table}", f"REVOKE {privileges} ON {place} FROM {holder.removeprefix('role ')}")


def _has(grants: Sequence[Grant], groups: Sequence[str], database: str, table: str) -> bool:
    """Tells whether the narrowest of the rows about a table gives; a column that is taken away leaves others."""
    about = [item for item in grants if item.privilege in groups and item.covers(database, table) and not (item.revoked and item.column)]
    return bool(about) and not max(about, key=lambda item: (item.width, not item.revoked)).revoked
