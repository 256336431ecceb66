"""The server's description of an object (`create_table_query`) -> facts of the schema (facts.md §6). Pure.

A table is taken apart, so that a change of one column is told as that: its columns, their order, its data skipping indexes, projections and
constraints, and what stands behind the list. Everything else is one fact. No text holds the name of the object's own database nor its UUID: a copy
under another name is described alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from migrator.planning.schema_facts import COLUMN_ORDER, SchemaFact

DATABASE = "{database}"
"""Stands for the name of the connected database where a text holds it as a string, e.g. `Distributed('cluster', '{database}', 'events')`."""

_UUID = "{uuid}"
_NO_UUID = "00000000-0000-0000-0000-000000000000"
"""What an engine without UUIDs shows."""

_TOKEN = re.compile(r"`(?:[^`\\]|\\.|``)*`|\"(?:[^\"\\]|\\.|\"\")*\"|'(?:[^'\\]|\\.|'')*'|[A-Za-z_]\w*|\d[\w.]*|\s+|.", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PARTS = {"INDEX": "data skipping index", "PROJECTION": "projection", "CONSTRAINT": "constraint"}


@dataclass(frozen=True, slots=True)
class Description:
    """One object as the catalogue shows it.

    Args:
        kind: `table`, `view`, `materialized view`, `dictionary`, `function` or `database`.
        database: where it is; empty for a function and a database.
        text: the statement that would create it.
        uuid: empty where the server keeps none.
    """

    kind: str
    database: str
    name: str
    text: str
    uuid: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """Returns what it is found by: a table and a view can't have the same name."""
        return self.kind if self.kind in ("function", "database") else "", self.database, self.name


def plain(token: str) -> str:
    """Returns an identifier or a string without its quotes."""
    if token[:1] not in ("`", '"', "'") or len(token) < 2:
        return token
    quote = token[0]
    return re.sub(r"\\(.)", r"\1", token[1:-1].replace(quote * 2, quote), flags=re.DOTALL)


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else "`" + name.replace("`", "``") + "`"


def facts(item: Description, home: str) -> tuple[SchemaFact, ...]:
    """Returns the facts that an object consists of; `home` is the connected database, whose name is left out."""
    own = _quoted(item.name)
    parent = "" if item.kind in ("function", "database") or item.database == home else _quoted(item.database)
    identity = f"{parent}.{own}" if parent else own
    row = item.uuid if item.uuid != _NO_UUID else ""
    words = _without_home(_tokens(item.text, item.uuid), home)
    if item.kind == "database":
        return (SchemaFact(item.kind, identity, parent, "".join(words).strip(), row=row),)
    listed, rest = _taken_apart(words) if item.kind == "table" else ((), _behind_name(words))
    found = [SchemaFact(item.kind, identity, parent, rest, row=row)]
    columns = []
    for kind, name, text in map(_element, listed):
        if kind == "column":
            columns.append(_quoted(name))
        found.append(SchemaFact(kind, f"{identity}.{_quoted(name)}", identity, text, row=f"{row}/{kind}/{name}" if row else ""))
    if columns:
        found.append(SchemaFact(COLUMN_ORDER, f"{identity}.*", identity, ", ".join(columns), row=f"{row}/order" if row else ""))
    return tuple(found)


def _tokens(text: str, uuid: str) -> list[str]:
    if uuid and uuid != _NO_UUID:
        text = text.replace(uuid, _UUID)
    return _TOKEN.findall(text)


def _without_home(tokens: Sequence[str], home: str) -> list[str]:
    """Takes the connected database's name out: before a dot, and where it is a string that is an argument."""
    found: list[str] = []
    before = ""
    for index, token in enumerate(tokens):
        after = next((item for item in tokens[index + 1 : index + 3] if not item.isspace()), "")
        if after == "." and before != "." and not token.startswith("'") and plain(token) == home:
            continue
        if token == "." and before != "." and index and plain(tokens[index - 1]) == home and not tokens[index - 1].startswith("'"):
            continue
        if token.startswith("'") and (before in ("(", ",") or before.upper() == "DB") and after != "=":
            inner = plain(token)
            if inner == home or inner.startswith(f"{home}."):
                token = f"'{DATABASE}{token[1 + len(home) :]}" if token[1:].startswith(home) else token
        found.append(token)
        if not token.isspace():
            before = token
    return found


def _name_end(tokens: Sequence[str]) -> int:
    """Returns the place behind `CREATE … name`, in which the name has lost its database."""
    for index, token in enumerate(tokens):
        if token.upper() in ("TABLE", "VIEW", "DICTIONARY", "FUNCTION"):
            place = index + 1
            while place < len(tokens) and tokens[place].isspace():
                place += 1
            place += 1
            if place + 1 < len(tokens) and tokens[place] == ".":  # in another database
                place += 2
            return place
    return 0


def _behind_name(tokens: Sequence[str]) -> str:
    return "".join(tokens[_name_end(tokens) :]).strip()


def _taken_apart(tokens: Sequence[str]) -> tuple[list[str], str]:
    """Returns the elements of a table's list, and what stands behind it."""
    place = _name_end(tokens)
    while place < len(tokens) and tokens[place].isspace():
        place += 1
    if place >= len(tokens) or tokens[place] != "(":
        return [], "".join(tokens[place:]).strip()
    elements: list[str] = []
    depth, begun = 0, place + 1
    for index in range(place, len(tokens)):
        token = tokens[index]
        depth += (token in "([{") - (token in ")]}") if len(token) == 1 else 0
        if (depth == 1 and token == ",") or depth == 0:
            elements.append("".join(tokens[begun:index]).strip())
            begun = index + 1
        if depth == 0:
            return elements, "".join(tokens[index + 1 :]).strip()
    return [], "".join(tokens).strip()  # not the text of a table


def _element(text: str) -> tuple[str, str, str]:
    """Returns kind, name and text of one element of the list."""
    words = _words(text)
    first = next(words, "")
    if first in _PARTS:
        return _PARTS[first], plain(next(words, "")), text
    return "column", plain(first), text[len(first) :].strip()


def _words(text: str) -> Iterator[str]:
    return (token for token in _TOKEN.findall(text) if not token.isspace())
