"""P75: a materialized view that nobody can read while it is computed."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule


def check(part: Part) -> str | None:
    """Finds REFRESH MATERIALIZED VIEW without CONCURRENTLY; WITH NO DATA computes nothing."""
    if part.kind != "Refresh" or part.node.concurrent or part.node.skip_data:
        return None
    return f"REFRESH MATERIALIZED VIEW computes {part.table} anew, and nobody can read it meanwhile"


RULE = Rule("P75", "refresh-without-concurrently", check, "REFRESH MATERIALIZED VIEW CONCURRENTLY, which needs a unique index on the view")
