"""Commands that PostgreSQL executes only outside of a transaction block, told by their first words (PostgreSQL's PreventInTransactionBlock).

    VACUUM t;                                    VACUUM
    REINDEX (CONCURRENTLY) INDEX i;              REINDEX CONCURRENTLY
    CLUSTER;                                     CLUSTER without a table
    ALTER TABLE t DETACH PARTITION p;            nothing: it runs in a transaction

`Block` follows a file's commands and finds those that are refused where they stand. What only the catalogue tells (CLUSTER and REINDEX of a partitioned
table, a CALL of a procedure that commits) is the server's to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_FIRSTS = frozenset({"VACUUM", "CREATE", "DROP", "ALTER", "REINDEX", "CLUSTER", "DISCARD"})
_OFF = r"(?:\s*=)?\s*'?(?:false|off|0|no)\b"
_NO_SLOT = re.compile(rf"\b(?:create_slot|connect){_OFF}", re.IGNORECASE)
_NO_REFRESH = re.compile(rf"\brefresh{_OFF}", re.IGNORECASE)
_REINDEX_OPTIONS = re.compile(r"reindex\s*\(([^)]*)\)\s*(\w*)", re.IGNORECASE)
_CONCURRENTLY = re.compile(rf"\bconcurrently\b(?!{_OFF})", re.IGNORECASE)
_DETACH = re.compile(r'\bdetach\s+partition\s+[\w.$"]+\s+concurrently\b', re.IGNORECASE)
_SET_TABLESPACE = re.compile(r"\bset\s+tablespace\b", re.IGNORECASE)
_CLUSTER_ALL = re.compile(r"cluster\s*(?:\([^)]*\)|verbose\b)?\s*;?\s*\Z", re.IGNORECASE)
_REFRESHES = re.compile(r"\b(?:refresh|(?:set|add|drop)\s+publication)\b", re.IGNORECASE)
_SLOT_NONE = re.compile(r"\bslot_name\s*=\s*'?none\b", re.IGNORECASE)
_NAME = r'((?:(?:"(?:[^"]|"")+"|[\w$]+)\s*\.\s*)?(?:"(?:[^"]|"")+"|[\w$]+))'
_NEW_TYPE = re.compile(rf"create\s+type\s+{_NAME}\s+as\s+enum\b", re.IGNORECASE)
_NEW_VALUE = re.compile(rf"alter\s+type\s+{_NAME}\s+add\s+value\s+(?:if\s+not\s+exists\s+)?('(?:[^']|'')*')", re.IGNORECASE)
_LATE_BODY = re.compile(r"\blanguage\s+'?plpgsql\b", re.IGNORECASE)
_OF_CLICKHOUSE = re.compile(r"\bif\s+not\s+exists\b|\bengine\s*=|\bon\s+cluster\b", re.IGNORECASE)
"""What no CREATE or DROP DATABASE of PostgreSQL holds: `validate` doesn't know for which engine a file is."""

_COMMENT = re.compile(r"--[^\n\r]*|/\*.*?\*/", re.DOTALL)


def refused(words: Sequence[str], text: str) -> str:
    """Returns the name of a command that a transaction block refuses, and "" for any other.

    Args:
        words: its first words in capitals (`lexer.Command.words`).
        text: the command from its first word on; looked into where the words don't decide.
    """
    first, second = (*words, "", "")[:2]
    if first not in _FIRSTS:
        return ""
    if first == "VACUUM":
        return first
    if first == "DISCARD":
        return "DISCARD ALL" if second == "ALL" else ""
    if first == "CLUSTER":
        return "CLUSTER without a table" if _CLUSTER_ALL.match(_COMMENT.sub(" ", text)) else ""
    if first == "REINDEX":
        return _of_reindex(words, text)
    if first == "ALTER":
        return _of_alter(second, text)
    return _of_object(words, text)


def _of_object(words: Sequence[str], text: str) -> str:
    first, second = (*words, "", "")[:2]
    if second in ("DATABASE", "TABLESPACE"):
        return "" if _OF_CLICKHOUSE.search(text) else f"{first} {second}"
    if second == "SUBSCRIPTION":
        return "" if first == "CREATE" and _NO_SLOT.search(text) else f"{first} {second}"
    indexes = ("INDEX", "CONCURRENTLY")
    if words[1:3] == indexes or words[1:4] == ("UNIQUE", *indexes):
        return f"{first} INDEX CONCURRENTLY"
    return ""


def _of_reindex(words: Sequence[str], text: str) -> str:
    options = _REINDEX_OPTIONS.match(_COMMENT.sub(" ", text))
    kind = options[2].upper() if options else (*words, "")[1]
    if (options and _CONCURRENTLY.search(options[1])) or "CONCURRENTLY" in words[1:3]:
        return "REINDEX CONCURRENTLY"
    behind = re.match(rf"{kind}\s+concurrently\b", text[options.start(2) :], re.IGNORECASE) if options and kind else None
    if behind:
        return "REINDEX CONCURRENTLY"
    return f"REINDEX {kind}" if kind in ("DATABASE", "SYSTEM", "SCHEMA") else ""


def _of_alter(second: str, text: str) -> str:
    if second == "SYSTEM":
        return "ALTER SYSTEM"
    if second == "DATABASE":
        return "ALTER DATABASE … SET TABLESPACE" if _SET_TABLESPACE.search(text) else ""
    if second == "TABLE":
        return "DETACH PARTITION … CONCURRENTLY" if _DETACH.search(text) else ""
    if second == "SUBSCRIPTION" and _REFRESHES.search(text):
        return "" if _NO_REFRESH.search(text) else "ALTER SUBSCRIPTION, which refreshes its publications,"
    return ""


# --- a file's commands, in order ------------------------------------------------------------------------------------------------------

NO_TRANSACTION = "write `-- +goose NO TRANSACTION` at the beginning of a file of its own"
OWN_FILE = "put the ALTER TYPE into a file of its own, before this one: a value can be used when the transaction that added it is committed"

_USES_VALUES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "SELECT", "WITH", "VALUES", "DO", "COPY", "CALL", "EXECUTE"})
_CONTROLS = frozenset({"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "PREPARE"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that PostgreSQL refuses where it stands: a stable code, why, and what to write instead."""

    code: str
    message: str
    hint: str


@dataclass(slots=True)
class Block:
    """The transaction in which a file's commands stand, as far as their words tell.

    Args:
        inside: whether a transaction is open.
        own: whether the file itself opened it.
        values: the values, quoted, that the open transaction added to enums, and the lines where it did.
        types: the enums that it created: their values can be used at once.
        slotless: whether the file took the slot from a subscription, which can be dropped in a transaction then.
    """

    inside: bool
    own: bool = False
    values: list[tuple[str, int]] = field(default_factory=list)
    types: set[str] = field(default_factory=set)
    slotless: bool = False

    def concerns(self, first: str) -> bool:
        """Tells whether a command with this first word must be entered."""
        return first in _FIRSTS or first in _CONTROLS or (bool(self.values) and first in _USES_VALUES)

    def enter(self, words: Sequence[str], text: str, line: int, *, ends: bool) -> Refusal | None:
        """Takes the next command of the file; returns why PostgreSQL would refuse it inside the transaction. `ends`: it ends the transaction."""
        if ends or words[0] in ("BEGIN", "START"):
            self.own = not ends and (self.own or not self.inside)
            self.inside = not ends or ("CHAIN" in words and "NO" not in words)
            if ends:
                self.values.clear()
                self.types.clear()
            return None
        if not self.inside:
            return None
        self.slotless = self.slotless or (words[:2] == ("ALTER", "SUBSCRIPTION") and _SLOT_NONE.search(text) is not None)
        name = refused(words, text)
        if name and not (self.slotless and name == "DROP SUBSCRIPTION"):
            hint = "move it out of the file's own BEGIN … COMMIT" if self.own else NO_TRANSACTION
            return Refusal("in-transaction", f"PostgreSQL refuses {name} inside a transaction", hint)
        return self._value(words, text, line)

    def _value(self, words: Sequence[str], text: str, line: int) -> Refusal | None:
        """Returns the refusal of a command that holds a value which the same transaction has added to an enum."""
        if made := _NEW_TYPE.match(text):
            self.types.add(_plain(made[1]))
        elif added := _NEW_VALUE.match(text):
            if _plain(added[1]) not in self.types:
                self.values.append((added[2], line))
        elif self.values and words[:2] != ("ALTER", "TYPE") and not (words[0] == "CREATE" and _LATE_BODY.search(text)):
            for value, at in self.values:
                if value in text:
                    why = f"the enum value that line {at} adds stands here, too: PostgreSQL refuses its use in the same transaction"
                    return Refusal("enum-value-used", why, OWN_FILE)
        return None


def _plain(name: str) -> str:
    """Returns a type's name without its schema, as the server folds it."""
    last = re.split(r"\.(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", name)[-1].strip()
    return last[1:-1] if last.startswith('"') else last.lower()
