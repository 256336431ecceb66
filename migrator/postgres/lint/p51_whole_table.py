"""P51: every row changed by one statement."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule


def check(part: Part) -> str | None:
    """Finds UPDATE or DELETE without WHERE."""
    if part.kind not in ("Update", "Delete") or part.node.HasField("where_clause"):
        return None
    return f"{part.kind.upper()} without WHERE changes every row of {part.table}: whoever writes to one of them waits until the COMMIT"


RULE = Rule(
    "P51", "one-query-backfill", check, "fill old rows in batches with a WHERE, each its own transaction; to empty a table: TRUNCATE"
)
