"""P35: a domain's constraint that is proven in every table which uses the domain."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule

_ADD, _NOT_NULL = "C", "O"  # the grammar's letters for the kinds of ALTER DOMAIN


def check(part: Part) -> str | None:
    """Finds ALTER DOMAIN … ADD CONSTRAINT without NOT VALID, or SET NOT NULL."""
    if part.kind != "AlterDomain":
        return None
    added = part.node.subtype == _ADD and not getattr(part.node, "def").constraint.skip_validation
    if not added and part.node.subtype != _NOT_NULL:
        return None
    return f"every table with a column of the domain {part.table} is read, and nobody can write to it meanwhile"


RULE = Rule(
    "P35",
    "ban-alter-domain-with-add-constraint",
    check,
    "ALTER DOMAIN … ADD CONSTRAINT … NOT VALID, and VALIDATE CONSTRAINT in the next file; or constraints on the columns",
)
