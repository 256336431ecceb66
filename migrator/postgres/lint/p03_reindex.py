"""P03: an index that is built anew while writers wait."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule


def check(part: Part) -> str | None:
    """Finds REINDEX without CONCURRENTLY, of a table, an index, a schema, the database."""
    if part.kind != "Reindex" or any(item.def_elem.defname == "concurrently" for item in part.node.params):
        return None
    return f"REINDEX builds {part.table or 'every index'} anew: nobody can write to the table meanwhile, nor read where the index is needed"


RULE = Rule("P03", "require-concurrent-reindex", check, "REINDEX … CONCURRENTLY, in a file of its own with `-- +goose NO TRANSACTION`")
