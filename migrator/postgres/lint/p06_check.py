"""P06: a CHECK that is proven while everybody waits."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule, added_constraint, column_constraints


def check(part: Part) -> str | None:
    """Finds ADD CONSTRAINT … CHECK without NOT VALID, or a new column with a CHECK: it is proven for every row, even where all are NULL."""
    kind, node = added_constraint(part)
    added = kind == "CONSTR_CHECK" and not node.skip_validation
    inline = any(name == "CONSTR_CHECK" and item.is_enforced for name, item in column_constraints(part))
    if not added and not inline:
        return None
    return f"{'ADD CONSTRAINT … CHECK' if added else 'the CHECK of the new column'} reads all of {part.table}, and nobody can read or write it meanwhile"


RULE = Rule(
    "P06",
    "constraint-missing-not-valid",
    check,
    "ADD CONSTRAINT … CHECK … NOT VALID, and VALIDATE CONSTRAINT in the next file, which blocks nobody",
)
