"""P08: a new column whose default is computed for every row."""

from __future__ import annotations

from typing import Any

from migrator.postgres.lint.rules import Part, Rule, column_constraints

# fmt: off
STEADY = frozenset({
    "abs", "age", "array_append", "array_cat", "array_fill", "array_prepend", "array_to_string", "bit_length", "btrim", "ceil", "ceiling", "char_length",
    "chr", "concat", "concat_ws", "convert_from", "convert_to", "current_database", "current_schema", "current_setting", "date", "date_bin",
    "date_part", "date_trunc", "daterange", "decode", "div", "encode", "exp", "extract", "floor", "format", "initcap", "int4range", "int8range",
    "json_build_array", "json_build_object", "json_object", "jsonb_build_array", "jsonb_build_object", "jsonb_object", "left", "length", "lower", "lpad",
    "ltrim", "make_date", "make_interval", "make_time", "make_timestamp", "make_timestamptz", "md5", "mod", "now", "numrange", "overlay",
    "pg_current_xact_id", "pi", "position", "power", "quote_ident", "quote_literal", "regexp_replace", "repeat", "replace", "reverse", "right", "round",
    "row_to_json", "rpad", "rtrim", "sha224", "sha256", "sha384", "sha512", "sign", "split_part", "sqrt", "statement_timestamp", "string_to_array",
    "strpos", "substr", "substring", "text", "timezone", "to_char", "to_date", "to_hex", "to_json", "to_jsonb", "to_number", "to_timestamp", "to_tsquery",
    "to_tsvector", "transaction_timestamp", "translate", "trim", "trunc", "tsrange", "tstzrange", "txid_current", "upper", "version",
})
# fmt: on
"""PostgreSQL's own functions that are not volatile: they are computed once for the whole statement, their result is stored in the catalogue, and
no row is touched (PostgreSQL 11+)."""


def check(part: Part) -> str | None:
    """Finds ADD COLUMN … DEFAULT f(), where f may give every row another value."""
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
    """Returns the names of the functions that an expression calls; PostgreSQL's own without their schema."""
    found: list[str] = []
    if type(node).__name__ == "FuncCall" and node.funcname:
        *schema, name = (item.string.sval for item in node.funcname)
        found.append(name if schema in ([], ["pg_catalog"]) else ".".join([*schema, name]))
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
