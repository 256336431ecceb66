"""P44: a new column that is computed and stored for every row."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule, column_constraints


def check(part: Part) -> str | None:
    """Finds ADD COLUMN … GENERATED ALWAYS AS (…) STORED; VIRTUAL (PostgreSQL 18) touches no row."""
    stored = any(kind == "CONSTR_GENERATED" and node.generated_kind == "s" for kind, node in column_constraints(part))
    return f"the column is computed for every row: {part.table} is rewritten, and nobody can read or write it meanwhile" if stored else None


RULE = Rule(
    "P44",
    "add-generated-stored-column",
    check,
    "a plain column with a trigger, old rows filled in batches; or VIRTUAL from PostgreSQL 18 on; or a view",
)
