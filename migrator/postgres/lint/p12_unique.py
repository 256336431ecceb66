"""P12: a unique constraint whose index is built while everybody waits."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule, builds_index


def check(part: Part) -> str | None:
    """Finds ADD UNIQUE without USING INDEX, as a constraint of the table or of a new column."""
    if not builds_index(part, "CONSTR_UNIQUE"):
        return None
    return f"the unique constraint's index is built from all of {part.table}, and nobody can read or write it meanwhile"


RULE = Rule(
    "P12",
    "disallowed-unique-constraint",
    check,
    "CREATE UNIQUE INDEX CONCURRENTLY in a file of its own, then ADD CONSTRAINT … UNIQUE USING INDEX",
)
