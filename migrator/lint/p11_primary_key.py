"""P11: a primary key whose index is built while everybody waits."""

from __future__ import annotations

from migrator.lint.rules import Part, Rule, added_constraint, column_constraints


def check(part: Part) -> str | None:
    """ADD PRIMARY KEY without USING INDEX."""
    kind, node = added_constraint(part)
    alone = kind == "CONSTR_PRIMARY" and not node.indexname
    if not alone and not any(name == "CONSTR_PRIMARY" for name, _ in column_constraints(part)):
        return None
    return f"the primary key's index is built from all of {part.table}, and nobody can read or write it meanwhile"


RULE = Rule(
    "P11",
    "adding-serial-primary-key-field",
    check,
    "CREATE UNIQUE INDEX CONCURRENTLY in a file of its own, then ADD PRIMARY KEY USING INDEX",
)
