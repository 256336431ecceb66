"""P12: a unique constraint whose index is built while everybody waits."""

from __future__ import annotations

from migrator.lint.rules import Part, Rule, added_constraint, column_constraints


def check(part: Part) -> str | None:
    """ADD UNIQUE without USING INDEX, as a constraint of the table or of a new column."""
    kind, node = added_constraint(part)
    alone = kind == "CONSTR_UNIQUE" and not node.indexname
    if not alone and not any(name == "CONSTR_UNIQUE" for name, _ in column_constraints(part)):
        return None
    return f"the unique constraint's index is built from all of {part.table}, and nobody can read or write it meanwhile"


RULE = Rule(
    "P12",
    "disallowed-unique-constraint",
    check,
    "CREATE UNIQUE INDEX CONCURRENTLY in a file of its own, then ADD CONSTRAINT … UNIQUE USING INDEX",
)
