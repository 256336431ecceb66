"""The house rules on PostgreSQL's files. PostgreSQL's own grammar is asked, and only about statements that hold a word of a rule."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from typing import Any

from migrator.house.sections import PLACEHOLDER, Found, Section
from migrator.postgres.reading import grammar
from migrator.targets import Direction, Engine

_CONCERNED = re.compile(
    r'\b(?:uuid\w*|gen_random_uuid|timestamp(?:tz)?)\b|[\w"]\s*\.\s*"?\w+"?\s*\.\s*["\w]',
    re.IGNORECASE,
)
_V4 = frozenset({"gen_random_uuid", "uuid_generate_v4", "uuidv4"})
_DEFINING = frozenset({"create_stmt", "create_foreign_table_stmt", "alter_table_stmt", "composite_type_stmt", "create_domain_stmt"})
"""Commands that define columns; a SELECT's column lists (`AS t(id uuid)`) store nothing."""

_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_STRING = re.compile(r"'(?:[^']|'')*'")
DATABASE = re.compile(r'\b(?:create|drop|alter|on)\s+database\s+(?:if\s+(?:not\s+)?exists\s+)?(?P<name>"[^"]+"|[a-z_]\w*)', re.IGNORECASE)
_MAKES = re.compile(r"\bcreate\b.*?\b(?:function|procedure|extension)\b", re.IGNORECASE | re.DOTALL)
_EXTENSIONS = {
    "uuid-ossp": ("uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v3", "uuid_generate_v4", "uuid_generate_v5"),
    "pgcrypto": ("gen_random_bytes", "crypt", "gen_salt", "digest", "hmac", "encrypt", "decrypt", "pgp_sym_encrypt", "pgp_sym_decrypt"),
    "pg_uuidv7": ("uuid_generate_v7",),
    "pg_trgm": ("similarity", "word_similarity", "show_trgm"),
    "unaccent": ("unaccent",),
}
"""Functions of the extensions that services' files create most; of another extension nothing is known, and nothing is said."""


def check(section: Section) -> Iterator[Found]:
    """Yields what one statement has against the rules, except for the order of functions. Columns are looked at in Up alone: a Down brings
    back what was there."""
    text = section.statement.text
    yield from _bare_body(section)
    yield from _database(text)
    tree = grammar.parse(text) if _CONCERNED.search(text) else None
    for command in tree.commands if tree else ():
        if section.direction is Direction.UP and command.kind in _DEFINING:
            yield from _columns(text, command)
        for node in walk(command.node):
            if type(node).__name__ == "RangeVar" and node.catalogname and PLACEHOLDER not in node.catalogname:
                yield Found("H06", _characters(text, node.location), f"the database {node.catalogname} is written into the file")


def _columns(text: str, command: grammar.ParsedCommand) -> Iterator[Found]:
    kinds = grammar.kinds()
    altered = ""  # `ALTER COLUMN a TYPE …` names its column above the definition
    for node in walk(command.node):
        kind = type(node).__name__
        if kind == "AlterTableCmd":
            altered = node.name
        if kind == "ColumnDef":
            yield from _type(text, node.type_name, f"column {node.colname or altered}", node.location)
            yield from _random(text, node.constraints, node.colname)
        elif kind == "CreateDomainStmt":
            name = node.domainname[-1].string.sval
            yield from _type(text, node.type_name, f"domain {name}", command.location)
            yield from _random(text, node.constraints, name)
        elif kind == "AlterTableCmd" and kinds.AlterTableType.Name(node.subtype) == "AT_ColumnDefault":
            yield from _random(text, [getattr(node, "def")], node.name)


def _type(text: str, node: Any, what: str, location: int) -> Iterator[Found]:
    *schema, name = [item.string.sval for item in node.names] or [""]
    if schema not in ([], ["pg_catalog"]):
        return
    at = _characters(text, node.location if node.location > 0 else location)
    if name == "uuid":
        yield Found("H02", at, f"{what} is of type UUID")
    elif name == "timestamp":
        yield Found("H03", at, f"{what} is TIMESTAMP without time zone: what it means depends on who reads it")
    elif name == "timestamptz" and not node.typmods:
        yield Found("H03", at, f"{what} is TIMESTAMPTZ without precision")


def _random(text: str, nodes: Any, column: str) -> Iterator[Found]:
    for item in nodes:
        if item.WhichOneof("node") == "constraint" and grammar.kinds().ConstrType.Name(item.constraint.contype) != "CONSTR_DEFAULT":
            continue
        for node in walk(item):
            if type(node).__name__ == "FuncCall" and (name := node.funcname[-1].string.sval) in _V4:
                yield Found("H01", _characters(text, node.location), f"the default of {column} is {name}(), a random UUID (version 4)")


def _bare_body(section: Section) -> Iterator[Found]:
    if section.wrapped:
        return
    statement = section.statement
    outline = statement.outline(Engine.POSTGRES)
    for start, _, words in outline.commands:
        creates = words[:1] == ("CREATE",) and not {"FUNCTION", "PROCEDURE"}.isdisjoint(words[:4])
        if not creates and words[:1] != ("DO",):
            continue
        if outline.open or _language(statement.text, creates) == "plpgsql":
            yield Found(
                "H05", start, f"the body of this {'function' if creates else 'block'} is not between StatementBegin and StatementEnd"
            )


def _language(text: str, creates: bool) -> str:
    tree = grammar.parse(text)
    for command in tree.commands if tree else ():
        options = command.node.options if command.kind == "create_function_stmt" else command.node.args if command.kind == "do_stmt" else ()
        for item in options:
            if item.def_elem.defname == "language":
                return str(item.def_elem.arg.string.sval).lower()
    return "sql" if creates else "plpgsql"


def _database(text: str) -> Iterator[Found]:
    if "database" not in text.lower():
        return
    plain = blanked(text, _COMMENT)
    if "$" not in plain:
        plain = blanked(plain, _STRING)  # a body's strings may be executed, others are words
    for match in DATABASE.finditer(plain):
        if PLACEHOLDER not in match["name"]:
            yield Found("H06", match.start("name"), f"the database {match['name'].strip(chr(34))} is written into the file")


def functions_made(text: str) -> Iterator[str]:
    """Yields the names of the functions that a statement creates, itself or with an extension."""
    if not _MAKES.search(text):
        return
    tree = grammar.parse(text)
    for command in tree.commands if tree else ():
        if command.kind == "create_function_stmt":
            yield command.node.funcname[-1].string.sval
        elif command.kind == "create_extension_stmt":
            yield from _EXTENSIONS.get(command.node.extname, ())


def calls(text: str, names: Set[str]) -> Iterator[tuple[str, int]]:
    """Yields which of these functions a statement calls while it is executed, and where: in expressions, as a trigger, in a DO block, and in the
    body of a function in SQL, which the server reads when it is created."""
    lowered = text.lower()
    if not any(name.lower() in lowered for name in names):
        return
    tree = grammar.parse(text)
    for command in tree.commands if tree else ():
        if command.kind == "do_stmt" or (command.kind == "create_function_stmt" and _language(text, creates=True) == "sql"):
            yield from _in_body(text, names)
        elif command.kind in ("drop_stmt", "comment_stmt"):
            continue
        for node in walk(command.node):
            kind = type(node).__name__
            named = node.funcname if kind in ("FuncCall", "CreateTrigStmt", "CreateEventTrigStmt") else ()
            if named and (name := named[-1].string.sval) in names:
                at = _characters(text, node.location) if kind == "FuncCall" else max(lowered.find(name.lower()), 0)
                yield name, at


def _in_body(text: str, names: Set[str]) -> Iterator[tuple[str, int]]:
    plain = blanked(text, _COMMENT)
    for name in sorted(names):
        for match in re.finditer(rf"(?<![\w$]){re.escape(name)}\s*\(", plain, re.IGNORECASE):
            yield name, match.start()


def walk(node: Any) -> Iterator[Any]:
    """Yields a node of the grammar and every node below it; without recursion, because an expression may nest deeper than Python's stack."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        for _, value in current.ListFields():
            waiting += [item for item in (value if hasattr(value, "append") else [value]) if hasattr(item, "ListFields")]


def blanked(text: str, pattern: re.Pattern[str]) -> str:
    """Returns the text with what the pattern finds replaced by blanks; every other character stays at its place."""
    return pattern.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def _characters(text: str, location: int) -> int:
    """Returns characters for bytes, in which the grammar counts."""
    return len(text.encode("utf-8", "surrogateescape")[: max(location, 0)].decode("utf-8", "ignore"))
