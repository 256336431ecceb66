"""P13: another type for a column that holds data."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule


def check(part: Part) -> str | None:
    """Finds ALTER COLUMN … TYPE. The statement doesn't say what the type was, so harmless changes are warned of, too (postgresql.md §2)."""
    if part.kind != "AT_AlterColumnType":
        return None
    return (
        f"another type for {part.node.name} rewrites {part.table} and its indexes, unless what is stored stays valid as it is; "
        "nobody can read or write it meanwhile"
    )


RULE = Rule(
    "P13",
    "changing-column-type",
    check,
    "harmless are a longer varchar, varchar to text, more digits at the same scale; else a new column, filled in batches, and the readers moved over",
)
