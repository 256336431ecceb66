"""What kind of statement this is: how many commands, whom it locks out, whether it may run inside a transaction, how it must be sent.

The lexer and a command's first words decide nearly always. PostgreSQL's own grammar (libpg_query) is asked only for an ALTER TABLE that may
be harmless: it takes 0.2 s to load, and the answer only matters where the words leave two policies open.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from migrator import hazards, lexer, locks
from migrator.history import Engine
from migrator.locks import LockClass


@dataclass(frozen=True, slots=True)
class Shape:
    """What execution needs to know of one statement.

    Args:
        lock: the strongest class of its commands.
        waits: how many tables those that block others ask for, at least 1.
        commands: how many commands it holds; 0 for an empty one.
        pipelined: whether it can be sent through the extended protocol with goose's effect.
        transactional: whether it may share a transaction with a journal row.
        controls: whether it begins or ends a transaction itself.
        ends: whether it ends one.
        sets: which of `lock_timeout` and `statement_timeout` it sets; they are the file's own affair then.
        touches: whether it may change any time-out of the session.
        returns: whether it may return rows.
        head: first words of its first command; none where it begins with something else, as `(SELECT 1)` does.
    """

    lock: LockClass
    waits: int
    commands: int
    pipelined: bool
    transactional: bool
    controls: bool
    ends: bool
    sets: frozenset[str]
    touches: bool
    returns: bool
    head: tuple[str, ...]


_RETURNING = frozenset(
    {"SELECT", "WITH", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE", "MERGE", "EXPLAIN", "SHOW", "FETCH", "EXECUTE", "CALL", "ANALYZE"}
)
_DATA = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "COPY"})
"""Commands that may be large and whose text decides nothing: it is not searched."""

_SETTING = frozenset({"SET", "RESET", "DISCARD", "DEALLOCATE", "SELECT", "WITH", "VALUES", "DO", "CALL", "EXECUTE", "ALTER"})
"""Commands that may change a setting of the session."""

_PARAMETER = re.compile(r"\$[0-9]")
_READING_RULES = re.compile(r"standard_conforming_strings|client_encoding|set\s+names|\bdiscard\b|\bdeallocate\b", re.IGNORECASE)
_TIMEOUTS = re.compile(r"timeout|\breset\b|\bdiscard\b", re.IGNORECASE)
_NEW_TABLE = re.compile(r'^create\s+(?:unlogged\s+)?table\s+(?:if\s+not\s+exists\s+)?([\w.$"]+)', re.IGNORECASE)
_ON_TABLE = re.compile(
    r'^(?:create\s+(?:unique\s+)?index\s+(?:if\s+not\s+exists\s+)?(?:[\w."$]+\s+)?on\s+(?:only\s+)?|alter\s+table\s+(?:only\s+)?)([\w.$"]+)',
    re.IGNORECASE,
)
_SETS_TIMEOUT = re.compile(
    r"\bset\s+(?:local\s+|session\s+)?(lock|statement)_timeout\b|\bset_config\s*\(\s*'(lock|statement)_timeout'", re.IGNORECASE
)
_REFERENCES = re.compile(r"\breferences\b|\bpartition\b|\binherit\b", re.IGNORECASE)
_COMMITS = re.compile(r"\b(?:commit|rollback)\b", re.IGNORECASE)
_CONCURRENTLY = re.compile(r"\b(?:concurrently|finalize)\b", re.IGNORECASE)
_REINDEX_ALL = re.compile(r"^[\s\S]*?\breindex\s*(?:\([^)]*\)\s*)?(?:database|system|schema)\b", re.IGNORECASE)
_MILD_ALTER = re.compile(r"\b(?:validate|statistics|cluster|detach)\b|\b(?:set|reset)\s*\(", re.IGNORECASE)


def shape(text: str) -> Shape:
    """Reads one statement of a migration, as it would be sent."""
    return _remembered(text) if len(text) <= _REMEMBERED_LENGTH else _read(text)


_REMEMBERED_LENGTH = 4096  # characters; what is longer is asked about once or twice, and would be held in memory for it


@functools.lru_cache(maxsize=4096)
def _remembered(text: str) -> Shape:
    return _read(text)


_seen: dict[Shape, Shape] = {}
"""Equal shapes are one object: a dump has 200,000 INSERTs of one shape."""

_SEEN_MOST = 4096


def _read(text: str) -> Shape:
    scan = lexer.scan(text, Engine.POSTGRES)
    commands = [(item.words, "" if item.words[:1] and item.words[0] in _DATA else text[item.start : item.end]) for item in scan.commands]
    firsts = {words[0] if words else "" for words, _ in commands}  # "" may be a query in parentheses
    controls = any(_controls(words) for words, _ in commands)
    setting = not firsts.isdisjoint(_SETTING) or "" in firsts
    rules = setting and _READING_RULES.search(text) is not None
    awkward = scan.open is not None or "COPY" in firsts or ("$" in text and _PARAMETER.search(text) is not None) or rules
    classes = [_lock(words, body) for words, body in commands]
    found = Shape(
        lock=max(classes, default=LockClass.NONE),
        waits=sum(locks.waits(*command) for command, lock in zip(commands, classes, strict=True) if lock.blocks) or 1,
        commands=len(commands),
        pipelined=len(commands) <= 1 and not controls and not awkward,
        transactional=not controls and all(_transactional(words, body) for words, body in commands),
        controls=controls,
        ends=controls and any(hazards.ends_transaction(words) for words, _ in commands),
        sets=frozenset(f"{(item[1] or item[2]).lower()}_timeout" for item in _SETS_TIMEOUT.finditer(text)) if setting else frozenset(),
        touches=setting and _TIMEOUTS.search(text) is not None,
        returns=not firsts.isdisjoint(_RETURNING) or "" in firsts,
        head=commands[0][0] if commands else (),
    )
    if len(_seen) >= _SEEN_MOST:
        _seen.clear()
    return _seen.setdefault(found, found)


def locks_in_order(statements: Iterable[tuple[str, Shape]]) -> Iterator[LockClass]:
    """The class of each statement of one transaction: work on a table that the same transaction created stalls nobody."""
    created: set[str] = set()
    for text, found in statements:
        table = _NEW_TABLE.match(text) if found.commands == 1 and found.head[:1] == ("CREATE",) else None
        if table:
            created.add(table[1].lower())
        subject = _ON_TABLE.match(text) if created and found.lock.blocks and found.commands == 1 else None
        own = subject is not None and subject[1].lower() in created and not _REFERENCES.search(text)
        yield LockClass.NONE if own else found.lock


def _controls(words: tuple[str, ...]) -> bool:
    first = words[0] if words else ""
    return first in ("BEGIN", "START") or hazards.ends_transaction(words)


def _transactional(words: tuple[str, ...], body: str) -> bool:
    first, second = (*words, "", "")[:2]
    if first in ("VACUUM", "CALL", "DISCARD", "CHECKPOINT"):
        return False
    if first == "DO":
        return _COMMITS.search(body) is None
    if first == "REINDEX":
        return _CONCURRENTLY.search(body) is None and _REINDEX_ALL.match(body) is None
    if first == "CLUSTER":
        return len(words) > 1
    if first in ("CREATE", "DROP", "ALTER"):
        if second in ("DATABASE", "TABLESPACE", "SUBSCRIPTION", "SYSTEM"):
            return False
        if second in ("INDEX", "UNIQUE", "TABLE"):
            return _CONCURRENTLY.search(body) is None
    return True


def _lock(words: tuple[str, ...], body: str) -> LockClass:
    found = locks.of_words(words, body)
    if words[:2] == ("ALTER", "TABLE") and _MILD_ALTER.search(body):
        return _of_alter_table(body)
    return found


_MILD_SUBCOMMANDS = frozenset(
    {
        "AT_ValidateConstraint",
        "AT_SetStatistics",
        "AT_ClusterOn",
        "AT_DropCluster",
        "AT_SetOptions",
        "AT_ResetOptions",
        "AT_SetRelOptions",
        "AT_ResetRelOptions",
        "AT_DetachPartitionFinalize",
    }
)
"""Parts of ALTER TABLE that take SHARE UPDATE EXCLUSIVE (PostgreSQL's AlterTableGetLockLevel)."""


def _of_alter_table(text: str) -> LockClass:
    import postgast  # 0.2 s

    try:
        parsed = postgast.parse(text)
    except (postgast.PgQueryError, UnicodeEncodeError):
        return LockClass.EVERYONE
    node = parsed.stmts[0].stmt if parsed.stmts else None
    if node is None or node.WhichOneof("node") != "alter_table_stmt":
        return LockClass.EVERYONE
    return max((_of_subcommand(item.alter_table_cmd) for item in node.alter_table_stmt.cmds), default=LockClass.EVERYONE)


def _of_subcommand(part: Any) -> LockClass:
    import postgast

    kinds = postgast.pg_query_pb2
    name = kinds.AlterTableType.Name(part.subtype)
    argument = getattr(part, "def")
    if name in _MILD_SUBCOMMANDS or (name == "AT_DetachPartition" and argument.partition_cmd.concurrent):
        return LockClass.MAINTENANCE
    if name == "AT_AddConstraint" and kinds.ConstrType.Name(argument.constraint.contype) == "CONSTR_FOREIGN":
        return LockClass.WRITERS
    return LockClass.EVERYONE
