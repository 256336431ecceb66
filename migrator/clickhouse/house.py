"""The house rules on ClickHouse's files, read word by word: which names are databases is decided by the word before them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from typing import NamedTuple

from migrator.house.sections import PLACEHOLDER, Found, Section

_TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*|\#[ !][^\n]*|/\*.*?\*/)
      | (?P<string>'(?:[^'\\]|\\.|'')*')
      | (?P<quoted>`(?:[^`\\]|\\.|``)*`|"(?:[^"\\]|\\.|"")*")
      | (?P<word>[A-Za-z_]\w*)
      | (?P<other>\d[\w.]*|.)""",
    re.VERBOSE | re.DOTALL,
)

_BEFORE_TABLE = frozenset({"TABLE", "TABLES", "VIEW", "DICTIONARY", "INTO", "FROM", "JOIN", "TO", "AND", "TRUNCATE", "EXISTS", "UPDATE"})
"""Words after which a table's name may stand with its database. AND: `EXCHANGE TABLES a AND b` alone."""

_BEFORE_DATABASE = frozenset(
    {"CREATE", "DROP", "ALTER", "RENAME", "ATTACH", "DETACH", "TRUNCATE", "DEFAULT", "FROM", "SYNC", "BACKUP", "RESTORE", "USE"}
)
"""Words after which DATABASE is a keyword and not a column."""

_SYSTEM = frozenset({"system", "information_schema", "INFORMATION_SCHEMA"})
"""Databases that every server has under this name."""

_OF_EXPRESSIONS = frozenset({"EXTRACT", "TRIM", "SUBSTRING", "POSITION", "OVERLAY"})
"""Functions in whose parentheses FROM stands before a value."""

_NAMING = {
    "distributed": 1,
    "buffer": 0,
    "merge": 0,
    "cluster": 1,
    "clusterallreplicas": 1,
    "remote": 1,
    "remotesecure": 1,
    "loop": 0,
}
"""Engines and table functions -> which of their arguments is a database, from 0."""

_WITH_DOT = re.compile(r"dict(?:Get|Has|IsIn)\w*|joinGet\w*|dictionary", re.IGNORECASE)
"""Functions whose first argument names a dictionary or a table, with its database before a dot."""


_ROWS = re.compile(r"\s*INSERT\s+INTO\s[^;'()]*(?:\([^;'()]*\)\s*)?VALUES\b", re.IGNORECASE)
"""The head of an INSERT of rows: what follows is data."""


class Token(NamedTuple):
    """A word, quoted name, string or sign: its kind, its text without quotes, its offset."""

    kind: str
    text: str
    offset: int

    @property
    def is_name(self) -> bool:
        """Tells whether it may be a name."""
        return self.kind in ("word", "quoted")

    @property
    def upper(self) -> str:
        """Returns a word in capitals; nothing of what isn't one."""
        return self.text.upper() if self.kind == "word" else ""


_END = Token("end", "", 0)


def check(section: Section) -> Iterator[Found]:
    """Yields what one statement has against the rules, except for the order of functions."""
    text = section.statement.text
    rows = _ROWS.match(text)
    tokens = read(text[: rows.end()] if rows else text)
    defines = bool(tokens) and tokens[0].upper in ("CREATE", "ALTER", "ATTACH")
    for index, token in enumerate(tokens):
        if token.upper == "GENERATEUUIDV4" and defines and _is_default(tokens, index):
            yield Found("H01", token.offset, "the default is generateUUIDv4(), a random UUID (version 4)")
        for name in _databases(tokens, index):
            if PLACEHOLDER not in name.text and name.text not in _SYSTEM:
                yield Found("H06", name.offset, f"the database {name.text} is written into the file")


def read(text: str) -> list[Token]:
    """Returns the tokens of a statement, without comments."""
    found = []
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind != "blank":
            found.append(Token(kind, match[0][1:-1] if kind in ("string", "quoted") else match[0], match.start()))
    return found


def _is_default(tokens: Sequence[Token], index: int) -> bool:
    """Tells whether an expression belongs to a column's default: no comma of the column list stands between."""
    depth = 0
    for token in reversed(tokens[:index]):
        depth += {")": 1, "(": -1}.get(token.text, 0) if token.kind == "other" else 0
        if token.text == "," and depth == 0:
            return False
        if token.upper in ("DEFAULT", "MATERIALIZED", "EPHEMERAL"):
            return True
    return False


def _databases(tokens: Sequence[Token], index: int) -> Iterator[Token]:
    """Yields the names of databases that follow the token at `index`."""
    token = tokens[index]
    if (
        (token.upper == "DATABASE" and _at(tokens, index - 1).upper in _BEFORE_DATABASE)
        or (token.upper == "USE" and index == 0)
        or (token.upper == "DB" and _enclosing(tokens, index) == "CLICKHOUSE")
    ):
        name = _at(tokens, _after_exists(tokens, index + 1))
        if name.is_name or name.kind == "string":
            yield name
    listed = token.text == "," and tokens[0].upper in ("RENAME", "DROP")
    if listed or token.upper in _BEFORE_TABLE or _names_a_grant(tokens, index) or _copies(tokens, index):
        yield from _qualified(tokens, index)
    yield from _of_function(tokens, index)


def _qualified(tokens: Sequence[Token], index: int) -> Iterator[Token]:
    word, before = tokens[index].upper, _at(tokens, index - 1).upper
    if word == "AND" and tokens[0].upper != "EXCHANGE":
        return
    if word == "JOIN" and before == "ARRAY":
        return
    if word == "FROM" and (
        (before == "DISTINCT" and _at(tokens, index - 2).upper in ("IS", "NOT")) or _enclosing(tokens, index) in _OF_EXPRESSIONS
    ):
        return
    at = _after_exists(tokens, index + 1)
    if _at(tokens, at).is_name and _at(tokens, at + 1).text == "." and (_at(tokens, at + 2).is_name or _at(tokens, at + 2).text == "*"):
        yield tokens[at]


def _names_a_grant(tokens: Sequence[Token], index: int) -> bool:
    """`GRANT … ON db.*`, `CREATE ROW POLICY p ON db.t`: in a SELECT a column stands after ON."""
    policy = {item.upper for item in tokens[1:4]} & {"POLICY", "QUOTA"}
    return (
        tokens[index].upper == "ON"
        and (tokens[0].upper in ("GRANT", "REVOKE") or bool(policy))
        and _at(tokens, index + 1).upper != "CLUSTER"
    )


def _copies(tokens: Sequence[Token], index: int) -> bool:
    """`CREATE TABLE a AS db.b`: the copy of another table's columns; after AS in a SELECT an alias stands."""
    after = _at(tokens, index + 4)
    return (
        tokens[index].upper == "AS"
        and tokens[0].upper == "CREATE"
        and (after.text in ("", ";") or after.upper in ("ENGINE", "ON", "COMMENT", "PARTITION", "PRIMARY", "ORDER", "SETTINGS", "TTL"))
    )


def _of_function(tokens: Sequence[Token], index: int) -> Iterator[Token]:
    token = tokens[index]
    if token.kind != "word" or _at(tokens, index + 1).text != "(":
        return
    if _WITH_DOT.fullmatch(token.text):
        first = _at(tokens, index + 2)
        database, dot, _ = first.text.partition(".")
        if first.kind == "string" and dot:
            yield Token("word", database, first.offset)
        return
    wanted = _NAMING.get(token.text.lower())
    if wanted is None:
        return
    arguments = list(_arguments(tokens, index + 2))
    found = arguments[wanted] if len(arguments) > wanted else []
    alone = len(found) == 1 and len(arguments) > wanted + 1 and (found[0].is_name or found[0].kind == "string")
    qualified = len(found) == 3 and found[1].text == "."  # remote('host', db.table)
    if (alone or qualified) and found[0].text:
        yield found[0]


def _arguments(tokens: Sequence[Token], start: int) -> Iterator[list[Token]]:
    depth, current = 0, list[Token]()
    for token in tokens[start:]:
        sign = token.text if token.kind == "other" else ""
        if depth == 0 and sign in (",", ")"):
            yield current
            current = []
            if sign == ")":
                return
            continue
        depth += {"(": 1, ")": -1}.get(sign, 0)
        current.append(token)


def _enclosing(tokens: Sequence[Token], index: int) -> str:
    """Returns the word before the parenthesis that is open at `index`."""
    depth = 0
    for at in range(index - 1, -1, -1):
        sign = tokens[at].text if tokens[at].kind == "other" else ""
        depth += {")": 1, "(": -1}.get(sign, 0)
        if depth < 0:
            return _at(tokens, at - 1).upper
    return ""


def _after_exists(tokens: Sequence[Token], at: int) -> int:
    """Returns the position behind `IF [NOT] EXISTS` and the words between a command's word and its table."""
    while _at(tokens, at).upper in ("IF", "NOT", "EXISTS", "TABLE") and _at(tokens, at + 1).text != ".":
        at += 1
    return at


def _at(tokens: Sequence[Token], index: int) -> Token:
    return tokens[index] if 0 <= index < len(tokens) else _END


def functions_made(text: str) -> Iterator[str]:
    """Yields the name of the function that a statement creates."""
    if "function" not in text.lower():
        return
    tokens = read(text)
    words = [item.upper for item in tokens[:4]]
    if words[:1] == ["CREATE"] and "FUNCTION" in words:
        name = _at(tokens, _after_exists(tokens, words.index("FUNCTION") + 1))
        if name.is_name:
            yield name.text


def calls(text: str, names: Set[str]) -> Iterator[tuple[str, int]]:
    """Yields which of these functions a statement calls, and where."""
    if not any(name in text for name in names):
        return
    tokens = read(text)
    for index, token in enumerate(tokens):
        if token.is_name and token.text in names and _at(tokens, index + 1).text == "(":
            yield token.text, token.offset
