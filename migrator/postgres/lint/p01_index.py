"""P01: an index that is built while writers wait."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule


def check(part: Part) -> str | None:
    """Finds CREATE INDEX without CONCURRENTLY. ON ONLY reads nothing: it is written for a partitioned table, whose partitions get theirs one by one."""
    if part.kind != "CreateIndex" or part.node.concurrent or not part.node.relation.inh:
        return None
    return f"CREATE INDEX reads all of {part.table}, and nobody can write to it meanwhile"


RULE = Rule(
    "P01",
    "require-concurrent-index-creation",
    check,
    "CREATE INDEX CONCURRENTLY, in a file of its own with `-- +goose NO TRANSACTION`; a partitioned table: ON ONLY it, CONCURRENTLY on each "
    "partition, ALTER INDEX … ATTACH PARTITION",
)
