"""Which tables and functions a query names: a walk over libpg_query's tree that needs no knowledge of its node types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


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
