"""PostgreSQL's own grammar (libpg_query): a statement's tree, and walks over it that need no knowledge of its node types.

The only importer of the grammar, which takes 0.2 s to load: it is asked where the words of a statement don't decide (`readings`), and for what a
statement does to objects.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_REMEMBERED = 32
_REMEMBERED_LENGTH = 16 * 1024
"""Trees of the latest statements are kept: warnings, locks and settling ask about the same ones. Characters; a tree is many times its text."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a statement: the grammar's name of its kind (`alter_table_stmt`), its node, and where it begins, in bytes from 0."""

    kind: str
    node: Any
    location: int


@dataclass(frozen=True, slots=True)
class Tree:
    """The commands of a statement. Trees are shared: whoever reads one leaves it as it is."""

    commands: tuple[Command, ...]


def parse(text: str) -> Tree | None:
    """The tree of a statement; None where the grammar doesn't take it, which is the server's to judge: it may be newer."""
    return _remembered(text) if len(text) <= _REMEMBERED_LENGTH else _parse(text)


@functools.lru_cache(maxsize=_REMEMBERED)
def _remembered(text: str) -> Tree | None:
    return _parse(text)


def _parse(text: str) -> Tree | None:
    import postgast  # 0.2 s

    try:
        parsed = postgast.parse(text)
    except (postgast.PgQueryError, UnicodeEncodeError):  # bytes that are no UTF-8 are lone surrogates
        return None
    return Tree(
        tuple(
            Command(kind, getattr(item.stmt, kind), item.stmt_location) for item in parsed.stmts if (kind := item.stmt.WhichOneof("node"))
        )
    )


def kinds() -> Any:
    """The grammar's enumerations, by which nodes name their kinds."""
    import postgast

    return postgast.pg_query_pb2


def relations_of(node: Any) -> Iterator[tuple[str, str]]:
    """(schema, name) of every relation that the query reads; names of its WITH queries are among them."""
    for item in _messages(node):
        if item.DESCRIPTOR.name == "RangeVar":
            yield item.schemaname, item.relname


def functions_of(node: Any) -> Iterator[tuple[str, str]]:
    """(schema, name) of every function that the query calls."""
    for item in _messages(node):
        if item.DESCRIPTOR.name == "FuncCall":
            parts = [part.string.sval for part in item.funcname]
            yield (parts[-2] if len(parts) > 1 else "", parts[-1] if parts else "")


def _messages(node: Any) -> Iterator[Any]:
    """The node and all below it; without recursion, as expressions may be nested deeply."""
    waiting = [node]
    while waiting:
        item = waiting.pop()
        yield item
        for descriptor, value in item.ListFields():
            if descriptor.message_type is None:
                continue
            waiting.extend(value if descriptor.is_repeated else [value])
