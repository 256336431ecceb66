"""P01: an index that is built while writers wait."""

from __future__ import annotations

from migrator.lint.rules import Part, Rule


def check(part: Part) -> str | None:
    """CREATE INDEX without CONCURRENTLY."""
    if part.kind != "CreateIndex" or part.node.concurrent:
        return None
    return f"CREATE INDEX reads all of {part.table}, and nobody can write to it meanwhile"


RULE = Rule(
    "P01",
    "require-concurrent-index-creation",
    check,
    "CREATE INDEX CONCURRENTLY, in a file of its own with `-- +goose NO TRANSACTION`",
)
