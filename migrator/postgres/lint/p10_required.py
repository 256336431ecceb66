"""P10: a new column that every row must have, and none does."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule, column_constraints, fills


def check(part: Part) -> str | None:
    """Finds ADD COLUMN … NOT NULL without anything that gives existing rows a value."""
    found = column_constraints(part)
    nothing = not fills(part) or any(kind == "CONSTR_DEFAULT" and node.raw_expr.a_const.isnull for kind, node in found)
    if not nothing or not any(kind == "CONSTR_NOTNULL" for kind, _ in found):
        return None
    return f"the new column is NOT NULL and has no default: PostgreSQL refuses it as soon as {part.table} holds a row"


RULE = Rule(
    "P10", "adding-required-field", check, "give it a constant DEFAULT; or add it nullable, fill it in batches, and SET NOT NULL later"
)
