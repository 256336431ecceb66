"""P73: a table that is written anew because of where or how it is stored."""

from __future__ import annotations

from migrator.postgres.lint.rules import Part, Rule

_WORDS = {
    "AT_SetLogged": "SET LOGGED",
    "AT_SetUnLogged": "SET UNLOGGED",
    "AT_SetTableSpace": "SET TABLESPACE",
    "AT_SetAccessMethod": "SET ACCESS METHOD",
    "AT_SetExpression": "another expression for a stored column",
    "MoveAll": "SET TABLESPACE",
}


def check(part: Part) -> str | None:
    """Finds SET LOGGED, SET UNLOGGED, SET TABLESPACE, SET ACCESS METHOD (PostgreSQL 15+), SET EXPRESSION (17+)."""
    words = _WORDS.get(part.kind)
    if words is None:
        return None
    return f"{words} writes {part.table or 'every table there'} anew, and nobody can read or write it meanwhile"


RULE = Rule(
    "P73", "rewriting-storage", check, "choose a quiet hour; or a new table or column that is filled in batches, and the readers moved over"
)
