"""P08: a new column whose default is computed for every row."""

from __future__ import annotations

from typing import Any

from migrator.lint.rules import Part, Rule, column_constraints

# fmt: off
STEADY = frozenset({
    "now", "transaction_timestamp", "statement_timestamp", "current_setting", "current_schema", "txid_current", "pg_current_xact_id",
    "timezone", "date_trunc", "to_timestamp", "to_char", "to_date", "make_date", "make_interval", "make_timestamptz", "age", "extract", "date_part",
    "lower", "upper", "concat", "md5", "encode", "decode", "format", "length", "abs", "round",
    "json_build_object", "jsonb_build_object", "json_build_array", "jsonb_build_array", "to_json", "to_jsonb", "int4range", "tstzrange",
})
# fmt: on
"""Functions that are computed once for the whole statement: their result is stored in the catalogue and no row is touched (PostgreSQL 11+)."""


def check(part: Part) -> str | None:
    """ADD COLUMN … DEFAULT f(), where f may give every row another value."""
    for kind, node in column_constraints(part):
        if kind != "CONSTR_DEFAULT":
            continue
        found = [name for name in functions(node.raw_expr) if name not in STEADY]
        if found:
            return (
                f"the default {found[0]}() is computed for every row: {part.table} is rewritten, and nobody can read or write it meanwhile"
            )
    return None


def functions(node: Any) -> list[str]:
    """The names of the functions that an expression calls, without their schemas."""
    found: list[str] = []
    if type(node).__name__ == "FuncCall" and node.funcname:
        found.append(node.funcname[-1].string.sval)
    for _, value in node.ListFields():
        for item in value if hasattr(value, "append") else [value]:
            if hasattr(item, "ListFields"):
                found += functions(item)
    return found


RULE = Rule(
    "P08",
    "adding-field-with-default",
    check,
    "add the column without a default, SET DEFAULT in a second statement, fill old rows in batches; a default that is the same for every row is fine",
)
