"""P09: NOT NULL that is proven by reading every row."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule, added_constraint


def check(part: Part) -> str | None:
    """Finds SET NOT NULL, or PostgreSQL 18's ADD CONSTRAINT … NOT NULL, on a column that no valid CHECK proves (PostgreSQL 12+)."""
    kind, node = added_constraint(part)
    added = kind == "CONSTR_NOTNULL" and not node.skip_validation
    if (part.kind != "AT_SetNotNull" and not added) or part.proven:
        return None
    column = node.keys[0].string.sval if added else part.node.name
    return f"{'NOT NULL' if added else 'SET NOT NULL'} on {column} reads all of {part.table}, and nobody can read or write it meanwhile"


RULE = Rule(
    "P09",
    "adding-not-nullable-field",
    check,
    "first CHECK (column IS NOT NULL) NOT VALID, then VALIDATE CONSTRAINT, then SET NOT NULL, which then reads nothing, then drop the CHECK; "
    "or from PostgreSQL 18 on ADD CONSTRAINT … NOT NULL column NOT VALID, then VALIDATE CONSTRAINT",
)
