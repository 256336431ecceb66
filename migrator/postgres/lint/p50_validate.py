"""P50: a constraint that is proven while the transaction's own lock keeps everybody out."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule


def check(part: Part) -> str | None:
    """Finds VALIDATE CONSTRAINT in a transaction that has changed the same table before: the stronger lock is held until COMMIT."""
    if part.kind != "AT_ValidateConstraint" or not part.held:
        return None
    return f"VALIDATE CONSTRAINT reads all of {part.table} while the lock of an earlier statement of this file is held until its COMMIT"


RULE = Rule("P50", "validate-under-write-lock", check, "VALIDATE CONSTRAINT in a file of its own: then it blocks nobody")
