"""Mutations that fail: the server tries such a one again and again and never ends it, and every later mutation of its table waits behind it (clickhouse.md §4).

A change of a column's type is one as well: the table has the new type at once, and its mutation rewrites the data. Where that fails, every SELECT of the
column fails until the mutation is killed and the type put back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from migrator.clickhouse.session import Session, literal

_LONGEST_REASON = 300
"""Characters of the server's own words that are shown."""


@dataclass(frozen=True, slots=True)
class FailingMutation:
    """One entry of `system.mutations` that is not done and whose latest attempt failed.

    Args:
        command: what it does, in the server's words; several commands of one ALTER are joined.
        reason: the server's words on the latest failure.
    """

    database: str
    table: str
    mutation_id: str
    command: str
    reason: str

    @property
    def kill(self) -> str:
        """Returns the statement that ends it; parts that it had rewritten already stay as they are."""
        return (
            f"KILL MUTATION WHERE database = {literal(self.database)} AND table = {literal(self.table)}"
            f" AND mutation_id = {literal(self.mutation_id)}"
        )

    def __str__(self) -> str:
        """Tells table, id, command and reason in one line."""
        reason = self.reason[:_LONGEST_REASON].split("\n")[0]
        return f"{self.database}.{self.table}: {self.mutation_id} {self.command} fails again and again: {reason}"


def failing(session: Session, databases: Iterable[str], *, tables: Iterable[tuple[str, str]] | None = None) -> list[FailingMutation]:
    """Returns the failing mutations of databases, oldest first within a table: that one is the cause, those behind it only wait.

    Args:
        databases: their names.
        tables: looks at these alone (database, table).

    Raises:
        failures.Refusal: where this user may not read `system.mutations` (code 497), among others.
        failures.Lost.
    """
    where = f"database IN ({', '.join(literal(name) for name in sorted(set(databases)))})"
    if tables is not None:
        pairs = ", ".join(f"({literal(database)}, {literal(table)})" for database, table in sorted(set(tables)))
        where += f" AND (database, table) IN ({pairs})" if pairs else " AND false"
    rows = session.rows(
        "SELECT database, table, mutation_id, arrayStringConcat(groupArray(command), ', '), max(latest_fail_reason)"
        f" FROM {session.everywhere('system.mutations')} WHERE {where} AND NOT is_done AND latest_fail_reason != ''"
        " GROUP BY database, table, mutation_id"
        " ORDER BY database, table, toUInt64OrZero(extract(mutation_id, '\\\\d+')), mutation_id"
    )
    return [FailingMutation(*(str(value) for value in row)) for row in rows]
