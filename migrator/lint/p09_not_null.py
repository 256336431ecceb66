"""P09: NOT NULL that is proven by reading every row."""

from __future__ import annotations

from migrator.lint.rules import Part, Rule


def check(part: Part) -> str | None:
    """SET NOT NULL on a column that no valid CHECK proves (PostgreSQL 12+)."""
    if part.kind != "AT_SetNotNull" or part.proven:
        return None
    return f"SET NOT NULL on {part.node.name} reads all of {part.table}, and nobody can read or write it meanwhile"


RULE = Rule(
    "P09",
    "adding-not-nullable-field",
    check,
    "first CHECK (column IS NOT NULL) NOT VALID, then VALIDATE CONSTRAINT, then SET NOT NULL, which then reads nothing, then drop the CHECK",
)
