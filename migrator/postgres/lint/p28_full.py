"""P28: VACUUM FULL and CLUSTER."""

from __future__ import annotations

from typing import Any

from migrator.postgres.lint.rules import Part, Rule


def check(part: Part) -> str | None:
    """Finds VACUUM FULL or CLUSTER, of a table or of all."""
    if part.kind == "Cluster":
        command = "CLUSTER"
    elif part.kind == "Vacuum" and any(_is_full(item.def_elem) for item in part.node.options):
        command = "VACUUM FULL"
    else:
        return None
    return f"{command} rewrites {part.table or 'every table'}, and nobody can read or write it meanwhile"


def _is_full(option: Any) -> bool:
    """Tells whether an option is FULL, FULL true, FULL 1 or FULL on, rather than FULL false, FULL 0 or FULL off."""
    value = option.arg
    words = (value.string.sval or value.boolean.boolval or value.integer.ival) if option.HasField("arg") else True
    return option.defname == "full" and str(words).lower() not in ("false", "off", "0")


RULE = Rule("P28", "prefer-repack", check, "plain VACUUM makes the space reusable; to give it back while the table is in use: pg_repack")
