"""P74: a partition whose rows are proven to belong there."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule


def check(part: Part) -> str | None:
    """Finds ATTACH PARTITION of a table that was there before. With a CHECK that equals the partition's bounds PostgreSQL reads no row."""
    if part.kind != "AT_AttachPartition":
        return None
    return f"ATTACH PARTITION reads all of {part.table}, and of the default partition if there is one, and nobody can use them meanwhile"


RULE = Rule(
    "P74",
    "attach-partition-scan",
    check,
    "before it a valid CHECK with the partition's bounds on the table, and with their opposite on the default partition (NOT VALID, then VALIDATE): "
    "then nothing is read; drop them afterwards",
)
