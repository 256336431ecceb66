"""Whom a statement locks out: by a command's first words, and by the grammar where those leave two policies open (postgresql.md §1).

When in doubt the class is the stronger one, which only means that its lock waits are short and retried.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import Any

from migrator.postgres.reading import grammar


class LockClass(enum.IntEnum):
    """Whom the strongest lock of a statement stops, while it is held and while it is waited for."""

    NONE = 0  # takes no lock on anything that exists
    ROWS = 1  # at most ROW EXCLUSIVE: reads, INSERT, UPDATE, DELETE
    MAINTENANCE = 2  # SHARE UPDATE EXCLUSIVE: stops other maintenance only
    WRITERS = 3  # SHARE, SHARE ROW EXCLUSIVE, EXCLUSIVE: stops INSERT, UPDATE, DELETE
    EVERYONE = 4  # ACCESS EXCLUSIVE: stops SELECT too

    @property
    def blocks(self) -> bool:
        """Tells whether waiting for this lock stalls readers or writers that come after."""
        return self >= LockClass.WRITERS


# --- by words -----------------------------------------------------------------------------------------------------------------------

# fmt: off
_ROWS = frozenset({
    "SELECT", "VALUES", "TABLE", "WITH", "INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "EXPLAIN", "CALL", "EXECUTE", "DECLARE",
    "FETCH", "MOVE", "CLOSE", "PREPARE", "IMPORT",
})
# fmt: on
# fmt: off
_NO_LOCK = frozenset({
    "SET", "RESET", "SHOW", "BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "GRANT", "REVOKE",
    "DISCARD", "DEALLOCATE", "LISTEN", "NOTIFY", "UNLISTEN", "LOAD", "CHECKPOINT", "SECURITY",
})
# fmt: on
_MAINTENANCE = frozenset({"ANALYZE", "ANALYSE", "COMMENT"})
_DDL_IN_BODY = re.compile(
    r"\b(?:alter|drop|truncate|reindex|cluster|refresh|lock\s+table|create\s+(?:unique\s+)?index|create\s+(?:constraint\s+)?trigger|references)\b",
    re.IGNORECASE,
)
_CONCURRENTLY = re.compile(r"\bconcurrently\b", re.IGNORECASE)
_FULL = re.compile(r"\bfull\b", re.IGNORECASE)
_REFERENCES = re.compile(r"\breferences\b", re.IGNORECASE)
_PARTITION = re.compile(r"\b(?:partition\s+of|(?:attach|detach)\s+partition|inherits?)\b", re.IGNORECASE)
_PARTITION_OF = re.compile(r"\b(?:partition\s+of|inherits)\b", re.IGNORECASE)
# fmt: off
_GLOBAL_OBJECTS = frozenset({
    "ROLE", "USER", "GROUP", "DATABASE", "SYSTEM", "DEFAULT", "TABLESPACE", "FUNCTION", "PROCEDURE", "ROUTINE", "AGGREGATE",
    "OPERATOR", "COLLATION", "CONVERSION", "LANGUAGE", "SERVER", "TEXT", "CAST", "TRANSFORM", "ACCESS", "EVENT", "SUBSCRIPTION",
})
# fmt: on
"""Kinds whose ALTER and DROP lock no relation. (A function that a column uses can't be dropped without CASCADE, which is another matter.)"""


def of_command(words: Sequence[str], text: str) -> LockClass:
    """Returns the class of one command.

    Args:
        words: its first words in capitals (`lexer.Command.words`).
        text: the whole command, looked into where the words don't decide. When in doubt the class is the stronger one, which only means that
            its lock waits are short and retried.
    """
    if tuple(words[:2]) == ("ALTER", "TABLE") and _MILD_ALTER.search(text):
        return _of_alter_table(text)
    first = words[0] if words else ""
    if first in _ROWS or not first:  # without a word: a query in parentheses, or nothing that a server takes
        return LockClass.ROWS
    if first in _NO_LOCK:
        return LockClass.NONE
    if first in _MAINTENANCE:
        return LockClass.MAINTENANCE
    if first == "DO":
        return LockClass.EVERYONE if _DDL_IN_BODY.search(text) else LockClass.ROWS
    if first == "CREATE":
        return _of_create([word for word in words[1:] if word not in ("OR", "REPLACE")], text, replace="REPLACE" in words)
    if first == "REFRESH":
        return LockClass.WRITERS if _CONCURRENTLY.search(text) else LockClass.EVERYONE
    if first == "VACUUM":
        return LockClass.EVERYONE if _FULL.search(text) else LockClass.MAINTENANCE
    if first == "REINDEX":
        return LockClass.MAINTENANCE if _CONCURRENTLY.search(text) else LockClass.EVERYONE
    if first in ("ALTER", "DROP"):
        return _of_change(first, words[1:], text)
    return LockClass.EVERYONE


def waits(words: Sequence[str], text: str) -> int:
    """Counts the tables that one blocking command locks one after the other, as far as its words tell.

    (The partitions of a table and what CASCADE reaches are not in the words.)
    """
    listed = words[:1] and words[0] in ("DROP", "TRUNCATE", "LOCK")
    others = text.count(",") if listed else len(_REFERENCES.findall(text)) + len(_PARTITION.findall(text))
    is_new = words[:1] == ("CREATE",) and "TABLE" in words  # nobody else can hold its lock
    return max(others, 1) if is_new else 1 + others


def _of_create(words: Sequence[str], text: str, *, replace: bool) -> LockClass:
    kind = next(
        (word for word in words if word not in ("UNIQUE", "CONSTRAINT", "TEMP", "TEMPORARY", "UNLOGGED", "RECURSIVE", "FOREIGN")), ""
    )
    if kind == "TABLE":
        if _PARTITION_OF.search(text):
            return LockClass.EVERYONE
        return LockClass.WRITERS if _REFERENCES.search(text) else LockClass.NONE
    if kind == "INDEX":
        return LockClass.MAINTENANCE if _CONCURRENTLY.search(text) else LockClass.WRITERS
    if kind == "TRIGGER":
        return LockClass.WRITERS
    if kind == "VIEW":
        return LockClass.EVERYONE if replace else LockClass.ROWS
    if kind == "MATERIALIZED":
        return LockClass.ROWS
    if kind in ("RULE", "POLICY"):
        return LockClass.EVERYONE
    if kind in ("STATISTICS", "PUBLICATION"):
        return LockClass.MAINTENANCE
    if kind == "SCHEMA":  # may hold CREATE TABLE and more
        return LockClass.WRITERS if _REFERENCES.search(text) else LockClass.NONE
    return LockClass.NONE


def _of_change(verb: str, words: Sequence[str], text: str) -> LockClass:
    kind = words[0] if words else ""
    if kind in _GLOBAL_OBJECTS:
        return LockClass.NONE
    if kind == "INDEX" and verb == "DROP" and _CONCURRENTLY.search(text):
        return LockClass.MAINTENANCE
    if kind == "SEQUENCE" and verb == "ALTER":
        return LockClass.WRITERS
    return LockClass.EVERYONE


# --- by the grammar -----------------------------------------------------------------------------------------------------------------

_MILD_ALTER = re.compile(r"\b(?:validate|statistics|cluster|detach)\b|\b(?:set|reset)\s*\(", re.IGNORECASE)
"""Words of an ALTER TABLE that may be harmless: only then is the grammar asked."""

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
    tree = grammar.parse(text)
    commands = tree.commands if tree else ()
    if len(commands) != 1 or commands[0].kind != "alter_table_stmt":
        return LockClass.EVERYONE
    return max((_of_subcommand(item.alter_table_cmd) for item in commands[0].node.cmds), default=LockClass.EVERYONE)


def _of_subcommand(part: Any) -> LockClass:
    kinds = grammar.kinds()
    name = kinds.AlterTableType.Name(part.subtype)
    argument = getattr(part, "def")
    if name in _MILD_SUBCOMMANDS or (name == "AT_DetachPartition" and argument.partition_cmd.concurrent):
        return LockClass.MAINTENANCE
    if name == "AT_AddConstraint" and kinds.ConstrType.Name(argument.constraint.contype) == "CONSTR_FOREIGN":
        return LockClass.WRITERS
    return LockClass.EVERYONE
