"""P46: an exclusion constraint on rows that are there."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule, added_constraint


def check(part: Part) -> str | None:
    """Finds ADD CONSTRAINT … EXCLUDE."""
    if added_constraint(part)[0] != "CONSTR_EXCLUSION":
        return None
    return f"the exclusion constraint's index is built from all of {part.table}, and nobody can read or write it meanwhile"


RULE = Rule(
    "P46", "exclusion-constraint", check, "there is no way without the wait: choose a quiet hour, or a new table that is filled first"
)
