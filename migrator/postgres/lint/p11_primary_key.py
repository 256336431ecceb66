"""P11: a primary key whose index is built while everybody waits."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule, builds_index


def check(part: Part) -> str | None:
    """Finds ADD PRIMARY KEY without USING INDEX."""
    if not builds_index(part, "CONSTR_PRIMARY"):
        return None
    return f"the primary key's index is built from all of {part.table}, and nobody can read or write it meanwhile"


RULE = Rule(
    "P11",
    "adding-serial-primary-key-field",
    check,
    "CREATE UNIQUE INDEX CONCURRENTLY in a file of its own, then ADD PRIMARY KEY USING INDEX; its columns must be NOT NULL before (P09), or every "
    "row is read all the same",
)
