"""P43: a new column that numbers the rows that are there."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule, column_constraints, is_serial


def check(part: Part) -> str | None:
    """Finds ADD COLUMN with a serial type or GENERATED … AS IDENTITY."""
    if part.kind != "AT_AddColumn":
        return None
    if not is_serial(part) and not any(kind == "CONSTR_IDENTITY" for kind, _ in column_constraints(part)):
        return None
    return f"every row gets a number of its own: {part.table} is rewritten, and nobody can read or write it meanwhile"


RULE = Rule(
    "P43", "add-auto-increment-column", check, "add a nullable column, number old rows in batches, then let a sequence go on from there"
)
