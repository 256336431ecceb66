"""What a statement does, read from its canonical line (`canonical`). Pure: `read(line, database) -> Shape`."""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from migrator.clickhouse.reading.readings import QUERIES, READS
from migrator.planning.objects import Action, Effect, Kind, ObjectName


class Sort(enum.StrEnum):
    """Sorts of statement by how one finds out later whether it was executed (`catalog.settle`)."""

    REPEATABLE = "repeatable"  # reads, or leaves the same state however often it runs
    SESSION = "session"  # SET, USE: ends with the session
    CREATE = "create"
    DROP = "drop"
    RENAME = "rename"
    ALTER = "alter"
    INSERT = "insert"
    TRUNCATE = "truncate"
    CHANGE = "change"  # DELETE FROM, UPDATE … SET
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class AlterCommand:
    """One command of an ALTER TABLE. `mutates`: it becomes an entry of `system.mutations` that rewrites data."""

    words: str
    effect: Effect | None = None
    mutates: bool = False
    text: str = ""
    conditional: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """One statement. `subject` is the table (view, dictionary, database) it is about; `fills` says that it writes data after creating; `verb` is its
    first word where several make the same sort (CREATE, ATTACH, UNDROP; DROP, DETACH), and empty for what only reads."""

    sort: Sort
    effects: tuple[Effect, ...] = ()
    subject: ObjectName | None = None
    commands: tuple[AlterCommand, ...] = ()
    cluster: str = ""
    conditional: bool = False  # IF EXISTS, IF NOT EXISTS
    replaces: bool = False  # OR REPLACE
    fills: bool = False
    engine: str = ""
    columns: tuple[str, ...] = ()
    verb: str = ""


_TABLES = (Kind.TABLE, Kind.VIEW, Kind.MATERIALIZED_VIEW, Kind.DICTIONARY)
"""What a RENAME TABLE or DROP TABLE may mean: the statement doesn't tell which."""


# --- reading the canonical line ---------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[A-Za-z_]\w*|\d[\w.]*|\s+|.", re.DOTALL)


@dataclass
class _Reader:
    """Tokens of one line, without white space."""

    tokens: list[str]
    database: str
    at: int = 0

    def peek(self, offset: int = 0) -> str:
        return self.tokens[self.at + offset] if self.at + offset < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def accept(self, words: str) -> bool:
        """Passes over the words when they come next."""
        expected = words.split()
        if [item.upper() for item in self.tokens[self.at : self.at + len(expected)]] != expected:
            return False
        self.at += len(expected)
        return True

    def seek(self, words: str) -> bool:
        """Goes behind the next occurrence of the words outside of parentheses."""
        depth = 0
        while self.at < len(self.tokens):
            if depth == 0 and self.accept(words):
                return True
            depth += {"(": 1, ")": -1}.get(self.take(), 0)
        return False

    def name(self) -> str:
        return plain(self.take())

    def qualified(self) -> tuple[str, str]:
        """Returns `database.name`, or `name` with the default database."""
        first = self.name()
        if self.peek() == ".":
            self.take()
            return first, self.name()
        return self.database, first

    def rest(self) -> list[str]:
        return self.tokens[self.at :]


def plain(token: str) -> str:
    """Returns an identifier without its quotes."""
    return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL) if token[:1] in ("`", '"') else token


def spans(text: str) -> Iterator[re.Match[str]]:
    """Yields the tokens of a text with their places, without white space."""
    return (found for found in _TOKEN.finditer(text) if not found[0].isspace())


def read(line: str, database: str) -> Shape:
    """Returns the shape of a statement from its canonical line; `database` is what unqualified names belong to."""
    tokens = [token for token in _TOKEN.findall(line) if not token.isspace()]
    shape = _read(_Reader(tokens, database))
    if shape.cluster or shape.sort not in (Sort.REPEATABLE, Sort.OTHER) or "".join(tokens[:1]).upper() in QUERIES:
        return shape
    anywhere = _Reader(tokens, database)  # users, grants, TRUNCATE, OPTIMIZE, SYSTEM …: each has the clause at a place of its own
    return replace(shape, cluster=anywhere.name().strip("'")) if anywhere.seek("ON CLUSTER") else shape


def _read(reader: _Reader) -> Shape:
    word = reader.take().upper()
    if word in ("CREATE", "REPLACE", "ATTACH", "UNDROP"):
        return replace(_created(reader, word), verb=word)
    if word in ("DROP", "DETACH"):
        return replace(_dropped(reader), verb=word)
    if word in ("RENAME", "EXCHANGE"):
        return _renamed(reader, exchange=word == "EXCHANGE")
    if word == "ALTER":
        return _altered(reader)
    if word in ("SET", "USE"):
        return Shape(Sort.REPEATABLE, verb=word) if reader.peek().upper() in ("ROLE", "DEFAULT") else Shape(Sort.SESSION)
    if word == "INSERT":
        return Shape(Sort.INSERT)
    if word in ("TRUNCATE", "DELETE", "UPDATE"):
        return _emptied(reader, word)
    return Shape(_sort_of_rest(word, reader), verb="" if word in QUERIES else word)


def _emptied(reader: _Reader, word: str) -> Shape:
    """Reads TRUNCATE TABLE, DELETE FROM, UPDATE … SET; TRUNCATE has forms that name no table (ALL TABLES FROM a database)."""
    if word == "TRUNCATE" and not reader.accept("TABLE"):
        return Shape(Sort.TRUNCATE)
    reader.accept("IF EXISTS")
    reader.accept("FROM")
    database, name = reader.qualified()
    sort = Sort.TRUNCATE if word == "TRUNCATE" else Sort.CHANGE
    return Shape(sort, subject=ObjectName(Kind.TABLE, database, name), cluster=_cluster(reader), verb=word)


_HARMLESS_SYSTEM = frozenset({"RELOAD", "FLUSH", "SYNC", "START", "STOP", "ENABLE", "DISABLE", "WAIT"})


def _sort_of_rest(word: str, reader: _Reader) -> Sort:
    if word in READS or (word == "OPTIMIZE" and "DEDUPLICATE" not in reader.tokens):
        return Sort.REPEATABLE
    if word == "SYSTEM" and reader.peek().upper() in _HARMLESS_SYSTEM:
        return Sort.REPEATABLE
    return Sort.OTHER


_CREATED = {"TABLE": Kind.TABLE, "VIEW": Kind.VIEW, "DICTIONARY": Kind.DICTIONARY, "DATABASE": Kind.DATABASE, "FUNCTION": Kind.FUNCTION}


def _created(reader: _Reader, word: str) -> Shape:
    replaces = reader.accept("OR REPLACE") or word == "REPLACE"
    if reader.accept("TEMPORARY"):
        return Shape(Sort.SESSION)
    if reader.accept("INDEX") or reader.accept("UNIQUE INDEX"):
        return _index(reader, Action.CREATE)
    materialized = reader.accept("MATERIALIZED")
    kind = Kind.MATERIALIZED_VIEW if materialized else _CREATED.get(reader.peek().upper())
    if kind is None:
        again = replaces or _says(reader, "OR", "REPLACE") or _says(reader, "NOT", "EXISTS")
        return Shape(Sort.REPEATABLE if again else Sort.OTHER)
    reader.take()
    conditional = reader.accept("IF NOT EXISTS")
    subject = _subject(reader, kind)
    if reader.accept("UUID"):
        reader.take()
    cluster = _cluster(reader)
    populates = "POPULATE" in reader.tokens[reader.at :]
    if materialized and (reader.seek("TO") if "TO" in reader.rest() and not _comes_first(reader, "AS", "TO") else False):
        reader.qualified()
    elements = _elements(reader) if kind in (Kind.TABLE, Kind.MATERIALIZED_VIEW) and reader.peek() == "(" else []
    parts, columns = _parts(subject, elements) if kind is Kind.TABLE else ((), ())
    effects = tuple(Effect(Action.CREATE, item) for item in (subject, *parts))
    if replaces:
        effects = (Effect(Action.DROP, subject), *effects)
    return Shape(
        Sort.CREATE,
        effects,
        subject,
        cluster=cluster,
        conditional=conditional,
        replaces=replaces,
        fills=populates or (kind is Kind.TABLE and _selects(reader)),
        engine=_engine(reader),
        columns=columns,
    )


def _says(reader: _Reader, first: str, second: str) -> bool:
    """Tells whether two words follow each other at the beginning: users and their like have OR REPLACE and IF EXISTS behind their kind."""
    words = [token.upper() for token in reader.tokens[:7]]
    return (first, second) in itertools.pairwise(words)


def _comes_first(reader: _Reader, word: str, other: str) -> bool:
    rest = reader.rest()
    return word in rest and rest.index(word) < rest.index(other)


def _subject(reader: _Reader, kind: Kind) -> ObjectName:
    if kind in (Kind.DATABASE, Kind.FUNCTION):
        return ObjectName(kind, "", reader.name())
    database, name = reader.qualified()
    return ObjectName(kind, database, name)


def _cluster(reader: _Reader) -> str:
    return reader.name().strip("'") if reader.accept("ON CLUSTER") else ""


def _elements(reader: _Reader) -> list[list[str]]:
    """Returns the comma-separated elements inside the parentheses that begin here."""
    elements: list[list[str]] = [[]]
    depth = 0
    while reader.at < len(reader.tokens):
        token = reader.take()
        if token == "(":
            depth += 1
            if depth == 1:
                continue
        elif token == ")":
            depth -= 1
            if depth == 0:
                break
        elif token == "," and depth == 1:
            elements.append([])
            continue
        elements[-1].append(token)
    return [element for element in elements if element]


_PART_KINDS = {"INDEX": Kind.INDEX, "PROJECTION": Kind.PROJECTION}


def _parts(table: ObjectName, elements: list[list[str]]) -> tuple[tuple[ObjectName, ...], tuple[str, ...]]:
    """Returns columns, indexes and projections of a CREATE TABLE. A Nested column appears under other names, so it is left out."""
    found: list[ObjectName] = []
    for element in elements:
        first = element[0]
        if first in _PART_KINDS and len(element) > 2:
            found.append(_part(_PART_KINDS[first], table, plain(element[1])))
        elif first not in ("CONSTRAINT", "PRIMARY", "FOREIGN", *_PART_KINDS) and "Nested" not in element[1:2]:
            found.append(_part(Kind.COLUMN, table, plain(first)))
    return tuple(found), tuple(item.name for item in found if item.kind is Kind.COLUMN)


def _part(kind: Kind, table: ObjectName, name: str) -> ObjectName:
    return ObjectName(kind, table.schema, name, table.name)


def _selects(reader: _Reader) -> bool:
    start = reader.at
    found = reader.seek("AS SELECT") or False
    reader.at = start
    found = found or reader.seek("AS WITH") or False
    reader.at = start
    found = found or reader.seek("AS (") or False
    reader.at = start
    return found


def _engine(reader: _Reader) -> str:
    start = reader.at
    found = reader.name() if reader.seek("ENGINE =") else ""
    reader.at = start
    return found


def _index(reader: _Reader, action: Action) -> Shape:
    conditional = reader.accept("IF NOT EXISTS") or reader.accept("IF EXISTS")
    name = reader.name()
    reader.accept("ON")
    database, table = reader.qualified()
    effect = Effect(action, ObjectName(Kind.INDEX, database, name, table))
    subject = ObjectName(Kind.TABLE, database, table)
    command = AlterCommand(f"{'ADD' if action is Action.CREATE else 'DROP'} INDEX", effect, conditional=conditional)
    return Shape(Sort.ALTER, (effect,), subject, (command,), _cluster(reader), conditional)


def _dropped(reader: _Reader) -> Shape:
    temporary = reader.accept("TEMPORARY")
    if reader.accept("INDEX"):
        return _index(reader, Action.DROP)
    word = reader.take().upper()
    conditional = reader.accept("IF EXISTS") or reader.accept("IF EMPTY")
    if word not in _CREATED or temporary:
        again = conditional or _says(reader, "IF", "EXISTS")
        return Shape(Sort.SESSION if temporary else Sort.REPEATABLE if again else Sort.OTHER)
    names: list[ObjectName] = []
    while True:
        subject = _subject(reader, _CREATED[word])
        names += [subject] if subject.kind in (Kind.DATABASE, Kind.FUNCTION) else [_as(kind, subject) for kind in _TABLES]
        if reader.peek() != ",":
            break
        reader.take()
    effects = tuple(Effect(Action.DROP, item) for item in names)
    return Shape(Sort.DROP, effects, names[0], cluster=_cluster(reader), conditional=conditional)


def _as(kind: Kind, name: ObjectName) -> ObjectName:
    return ObjectName(kind, name.schema, name.name, name.parent)


def _renamed(reader: _Reader, *, exchange: bool) -> Shape:
    word = reader.take().upper().removesuffix("S")
    pairs: list[tuple[ObjectName, ObjectName]] = []
    kind = Kind.DATABASE if word == "DATABASE" else Kind.TABLE
    while reader.peek():
        conditional = reader.accept("IF EXISTS")
        old = _subject(reader, kind)
        reader.take()  # TO or AND
        pairs.append((old, _subject(reader, kind)))
        if reader.peek() != ",":
            break
        reader.take()
    kinds = (Kind.DATABASE,) if kind is Kind.DATABASE else _TABLES
    if not pairs:
        return Shape(Sort.OTHER)
    moves = [move for old, new in pairs for move in (_exchanged(old, new) if exchange else [(old, new)])]
    effects = [Effect(Action.RENAME, _as(each, old), _as(each, new)) for old, new in moves for each in kinds]
    return Shape(Sort.RENAME, tuple(effects), pairs[0][0], cluster=_cluster(reader), conditional=conditional, replaces=exchange)


def _exchanged(old: ObjectName, new: ObjectName) -> list[tuple[ObjectName, ObjectName]]:
    between = ObjectName(old.kind, old.schema, f"\0{old.name}")  # no object can have this name
    return [(old, between), (new, old), (between, new)]


# --- ALTER ------------------------------------------------------------------------------------------------------------------------

_VERBS = frozenset({
    "ADD", "DROP", "RENAME", "MODIFY", "ALTER", "COMMENT", "CLEAR", "MATERIALIZE", "UPDATE", "DELETE", "RESET", "REMOVE", "ATTACH", "DETACH", "MOVE",
    "REPLACE", "FREEZE", "UNFREEZE", "FETCH", "REWRITE", "APPLY", "UNLOCK", "FORGET", "EXECUTE", "EXPORT",
})  # fmt: skip
_MUTATING = ("UPDATE", "DELETE", "MATERIALIZE", "CLEAR", "APPLY", "REWRITE")
_SAME_AGAIN = ("MODIFY", "ALTER", "COMMENT", "RESET", "REMOVE", "MATERIALIZE", "CLEAR", "APPLY", "REWRITE")
"""Commands that leave the same state however often they run."""

_COLUMN_KINDS = {"COLUMN": Kind.COLUMN, "INDEX": Kind.INDEX, "PROJECTION": Kind.PROJECTION}


def _altered(reader: _Reader) -> Shape:
    reader.accept("TEMPORARY")
    if not reader.accept("TABLE"):
        return _access_altered(reader)
    database, name = reader.qualified()
    table = ObjectName(Kind.TABLE, database, name)
    cluster = _cluster(reader)
    commands = tuple(_alter_command(table, tokens) for tokens in _alter_commands(reader.rest()))
    effects = tuple(command.effect for command in commands if command.effect)
    return Shape(Sort.ALTER, effects, table, commands, cluster)


def _access_altered(reader: _Reader) -> Shape:
    """Reads ALTER USER and its like: another name, or one more way to log in, isn't the same when it is executed again."""
    words = [token.upper() for token in reader.rest()]
    same_again = "RENAME" not in words and ("ADD", "IDENTIFIED") not in itertools.pairwise(words)
    of_access = words[:1] in (["USER"], ["ROLE"], ["QUOTA"], ["POLICY"], ["ROW"], ["PROFILE"], ["SETTINGS"])
    return Shape(Sort.REPEATABLE if of_access and same_again else Sort.OTHER, verb="ALTER")


def _alter_commands(tokens: list[str]) -> list[list[str]]:
    """Splits commands with or without parentheses around each (servers before 24.10 print none); a comma inside one doesn't begin another."""
    reader = _Reader(["(", *tokens, ")"], "")
    commands: list[list[str]] = []
    for element in _elements(reader):
        bare = element[1:-1] if element[0] == "(" and element[-1] == ")" else element
        if not commands or element[0] == "(" or bare[0].upper() in _VERBS:
            commands.append(bare)
        else:
            commands[-1] += [",", *bare]
    return commands


def repeats(command: AlterCommand) -> bool:
    """Tells whether a command may run again without changing the result."""
    return command.conditional or command.words.split(" ")[0] in _SAME_AGAIN


def _alter_command(table: ObjectName, tokens: list[str]) -> AlterCommand:
    reader = _Reader(tokens, table.schema)
    verb = reader.take().upper()
    kind = _COLUMN_KINDS.get(reader.peek().upper())
    words = f"{verb} {reader.peek().upper()}"
    mutates = verb in _MUTATING
    text = " ".join(tokens)
    if kind is None or verb not in ("ADD", "DROP", "RENAME"):
        return AlterCommand(words, None, mutates, text)
    reader.take()
    conditional = reader.accept("IF NOT EXISTS") or reader.accept("IF EXISTS")
    name = plain(reader.take())
    while reader.peek() == "." and len(reader.rest()) > 1:  # a column of a Nested structure: `n`.`a` or n.a
        reader.take()
        name += f".{plain(reader.take())}"
    subject = _part(kind, table, name)
    if verb == "ADD":
        nested = kind is Kind.COLUMN and reader.peek() == "Nested"
        return AlterCommand(words, None if nested else Effect(Action.CREATE, subject), False, text, conditional)
    if verb == "DROP":
        return AlterCommand(words, Effect(Action.DROP, subject), False, text, conditional)
    reader.accept("TO")
    return AlterCommand(words, Effect(Action.RENAME, subject, _part(kind, table, reader.name())), False, text, conditional)
