"""P72: columns that change under a client's prepared statements."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule

CHANGING = frozenset({"AT_AddColumn", "AT_DropColumn", "AT_AlterColumnType", "RenameColumn"})


def check(part: Part) -> str | None:
    """Finds ADD, DROP, RENAME COLUMN, ALTER COLUMN TYPE: whoever prepared `SELECT *` before gets an error afterwards."""
    if part.kind not in CHANGING:
        return None
    return f'the columns of {part.table} change: clients with a prepared SELECT * get "cached plan must not change result type"'


RULE = Rule(
    "P72",
    "cached-plan",
    check,
    "name the columns in the clients' queries; where SELECT * stays, let clients retry outside of a transaction or reconnect after the migration",
    once=True,
)
