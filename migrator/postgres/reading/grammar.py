"""PostgreSQL's own grammar (libpg_query): a statement's tree.

The only importer of the grammar, which takes 0.2 s to load: it is asked where the words of a statement don't decide (`readings`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

_REMEMBERED = 32
_REMEMBERED_LENGTH = 16 * 1024
"""Trees of the latest statements are kept: warnings, locks and settling ask about the same ones. Characters; a tree is many times its text."""


@dataclass(frozen=True, slots=True)
class ParsedCommand:
    """A command as the grammar parsed it: the grammar's name of its kind (`alter_table_stmt`), its node, and where it begins, in bytes from 0."""

    kind: str
    node: Any
    location: int


@dataclass(frozen=True, slots=True)
class Tree:
    """The commands of a statement. Trees are shared: whoever reads one leaves it as it is."""

    commands: tuple[ParsedCommand, ...]


def parse(text: str) -> Tree | None:
    """Returns the tree of a statement; None where the grammar refuses it. A newer server may accept it, so that is left to the server."""
    return _remembered(text) if len(text) <= _REMEMBERED_LENGTH else _parse(text)


@functools.lru_cache(maxsize=_REMEMBERED)
def _remembered(text: str) -> Tree | None:
    return _parse(text)


def _parse(text: str) -> Tree | None:
    import postgast  # 0.2 s
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        parsed = postgast.parse(text)
    except (
        postgast.PgQueryError,
        UnicodeEncodeError,
        DecodeError,
    ):  # no SQL; lone surrogates; an expression nested deeper than protobuf reads
        return None
    return Tree(
        tuple(
            ParsedCommand(kind, getattr(item.stmt, kind), item.stmt_location)
            for item in parsed.stmts
            if (kind := item.stmt.WhichOneof("node"))
        )
    )


def kinds() -> Any:
    """Returns the grammar's enumerations, by which nodes name their kinds."""
    import postgast

    return postgast.pg_query_pb2


def index_elsewhere(text: str, schema: str, table: str) -> str | None:
    """Returns the CREATE INDEX of a text for another table: built at once, unconditionally and under a name of the server's choice. None for any
    other statement."""
    import postgast
    from google.protobuf.message import DecodeError

    try:
        tree = postgast.parse(text)
        if len(tree.stmts) != 1 or tree.stmts[0].stmt.WhichOneof("node") != "index_stmt":
            return None
        node = tree.stmts[0].stmt.index_stmt
        node.relation.catalogname, node.relation.schemaname, node.relation.relname = "", schema, table
        node.idxname, node.concurrent, node.if_not_exists = "", False, False
        return str(postgast.deparse(tree))
    except (postgast.PgQueryError, UnicodeEncodeError, DecodeError):
        return None
