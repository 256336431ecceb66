"""P43: a new column that numbers the rows that are there."""

from __future__ import annotations

from migrator.lint.rules import Part, Rule, column_constraints

SERIAL = frozenset({"serial", "serial2", "serial4", "serial8", "bigserial", "smallserial"})


def check(part: Part) -> str | None:
    """ADD COLUMN with a serial type or GENERATED … AS IDENTITY."""
    if part.kind != "AT_AddColumn":
        return None
    names = getattr(part.node, "def").column_def.type_name.names
    serial = bool(names) and names[-1].string.sval in SERIAL
    if not serial and not any(kind == "CONSTR_IDENTITY" for kind, _ in column_constraints(part)):
        return None
    return f"every row gets a number of its own: {part.table} is rewritten, and nobody can read or write it meanwhile"


RULE = Rule(
    "P43", "add-auto-increment-column", check, "add a nullable column, number old rows in batches, then let a sequence go on from there"
)
