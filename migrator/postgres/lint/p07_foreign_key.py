"""P07: a foreign key that is proven while the writers of both tables wait."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule, added_constraint, column_constraints, fills


def check(part: Part) -> str | None:
    """Finds ADD FOREIGN KEY without NOT VALID, as a constraint of the table or of a new column with a default, even NULL: PostgreSQL knows only
    of a column without one that there is nothing to prove."""
    kind, node = added_constraint(part)
    alone = kind == "CONSTR_FOREIGN" and not node.skip_validation
    inline = [item for name, item in column_constraints(part) if name == "CONSTR_FOREIGN"] if fills(part) else []
    if not alone and not inline:
        return None
    other = (node if alone else inline[0]).pktable.relname
    return f"the foreign key is proven row by row, and nobody can write to {part.table} or {other} meanwhile"


RULE = Rule(
    "P07",
    "adding-foreign-key-constraint",
    check,
    "ADD CONSTRAINT … FOREIGN KEY … NOT VALID, and VALIDATE CONSTRAINT in the next file; a new column with a default gets its REFERENCES that way too",
)
