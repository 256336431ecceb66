"""P06: a CHECK that is proven while everybody waits."""

from __future__ import annotations

from migrator.lint.rules import Part, Rule, added_constraint


def check(part: Part) -> str | None:
    """ADD CONSTRAINT … CHECK without NOT VALID."""
    kind, node = added_constraint(part)
    if kind != "CONSTR_CHECK" or node.skip_validation:
        return None
    return f"ADD CONSTRAINT … CHECK reads all of {part.table}, and nobody can read or write it meanwhile"


RULE = Rule("P06", "constraint-missing-not-valid", check, "add it NOT VALID, and VALIDATE CONSTRAINT in the next file, which blocks nobody")
