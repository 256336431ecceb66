"""What a statement is, read once and kept with its step: how many commands, whom it locks out, how it must be sent, what of the session it changes.

The lexer and a command's first words decide nearly always (`migrator.goose.lexer`; a statement's outline is read when its file is parsed). PostgreSQL's own
grammar is asked only for an ALTER TABLE that may be harmless (`lock_classes`): it takes 0.2 s to load.

    INSERT INTO t VALUES (1);                      one command, sent through a pipeline, ROWS
    CREATE TABLE t (a int); CREATE INDEX ON t (a); two commands, two messages of one pipeline
    COPY t FROM STDIN;                             sent alone, as goose sends it
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from migrator.goose import hazards, lexer, transactions
from migrator.goose.statements import Statement
from migrator.planning import plans
from migrator.postgres.reading import lock_classes
from migrator.postgres.reading.lock_classes import LockClass
from migrator.targets import Engine


class Work(enum.IntEnum):
    """What a statement may do to the catalogue, the least first (facts.md §1)."""

    ADDS = 0
    """It makes new objects; none is removed."""
    CHANGES = 1
    """It changes or removes plain objects."""
    RUNS = 2
    """It may run code that opens subtransactions and does anything: a function, a block, a savepoint."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One statement.

    Args:
        lock: the strongest class of its commands.
        waits: how many tables those that block others ask for, at least 1.
        commands: how many commands it holds; 0 for an empty one.
        separators: where the semicolons between its commands are, offsets from 0.
        pipelined: whether its commands can be sent one by one through the extended protocol with the effect that goose's one message has.
        transactional: whether it may share a transaction with a journal row.
        controls: whether it begins or ends a transaction itself.
        ends: whether it ends one.
        sets: which of `lock_timeout`, `statement_timeout` and `synchronous_commit` it sets; they are the file's own affair then.
        touches: whether it may change any time-out of the session.
        restores: whether it is a setting of the session that a later session must be given again.
        returns: whether it may return rows.
        work: how much it may do to the catalogue; what its transaction has to note of itself depends on that.
        leaves: whether it may leave something in the session: a setting, a role, a temporary object, a prepared statement; what isn't known not to, may.
        head: first words of its first command; none where it begins with something else, as `(SELECT 1)` does.
        creates: the table that it makes, if it is one command that does.
        changes: the table that it changes, if it is one command that concerns no other.
    """

    lock: LockClass
    waits: int
    commands: int
    separators: tuple[int, ...]
    pipelined: bool
    transactional: bool
    controls: bool
    ends: bool
    sets: frozenset[str]
    touches: bool
    restores: bool
    returns: bool
    work: Work
    leaves: bool
    head: tuple[str, ...]
    creates: str = ""
    changes: str = ""

    def messages(self, text: str) -> Iterator[tuple[int, str]]:
        """Returns the statement's text cut at its separators, comments included: where each command's part begins, and the part."""
        start = 0
        for end in self.separators:
            yield start, text[start:end]
            start = end + 1
        yield start, text[start:]

    @property
    def commits_itself(self) -> bool:
        """Tells whether the statement may commit part of its work before it ends: a procedure, a DO block with COMMIT."""
        return self.head[:1] in (("CALL",), ("DO",)) and not self.transactional


# fmt: off
_RETURNING = frozenset({
    "SELECT", "WITH", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE", "MERGE", "EXPLAIN", "SHOW", "FETCH", "EXECUTE", "CALL", "ANALYZE",
})
# fmt: on
_DATA = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "COPY"})
"""Commands that may be large and whose text decides nothing: it is not searched."""

_DATA_HEADS = frozenset((word,) for word in _DATA)
_SETTING = frozenset({"SET", "RESET", "DISCARD", "DEALLOCATE", "SELECT", "WITH", "VALUES", "DO", "CALL", "EXECUTE", "ALTER"})
"""Commands that may change a setting of the session."""

_PARAMETER = re.compile(r"\$[0-9]")
_READING_RULES = re.compile(
    r"standard_conforming_strings|backslash_quote|client_encoding|set\s+names|\bdiscard\b|\bdeallocate\b", re.IGNORECASE
)
_TOGETHER = re.compile(r"\b(?:statement_timestamp|current_query)\b|[0-9]\$", re.IGNORECASE)
"""Text that makes it matter how commands are sent. statement_timestamp() and current_query() return the same for all commands of one message, and
something else in messages of their own; an older server may end a command elsewhere after a number that a dollar sign follows."""

_TIMEOUTS = re.compile(r"timeout|\breset\b|\bdiscard\b", re.IGNORECASE)
_NEW_TABLE = re.compile(r'^create\s+(?:unlogged\s+)?table\s+(?:if\s+not\s+exists\s+)?([\w.$"]+)', re.IGNORECASE)
_ON_TABLE = re.compile(
    r'^(?:create\s+(?:unique\s+)?index\s+(?:if\s+not\s+exists\s+)?(?:[\w."$]+\s+)?on\s+(?:only\s+)?|alter\s+table\s+(?:only\s+)?)([\w.$"]+)',
    re.IGNORECASE,
)
_SETS_TIMEOUT = re.compile(
    r"\bset\s+(?:local\s+|session\s+)?(lock|statement)_timeout\b|\bset_config\s*\(\s*'(lock|statement)_timeout'", re.IGNORECASE
)
_DURABILITY = "synchronous_commit"
_PLAIN = frozenset({"CREATE", "ALTER", "DROP"})
_BESIDE = frozenset({"COMMENT", "GRANT", "REVOKE", "SET", "RESET", "LOCK", "BEGIN", "START", "COMMIT", "END", "REINDEX"})
_BETWEEN = frozenset({"OR", "REPLACE", "UNIQUE", "UNLOGGED", "CONSTRAINT"})
# fmt: off
_PLAIN_OBJECTS = frozenset({
    "TABLE", "INDEX", "SEQUENCE", "VIEW", "TYPE", "DOMAIN", "SCHEMA", "FUNCTION", "PROCEDURE", "TRIGGER", "POLICY", "STATISTICS", "RULE",
})
# fmt: on
_FILLED = frozenset({"TABLE", "SCHEMA"})
_FROM_QUERY = re.compile(r"\bas\s*(?:\(|--|/\*|select\b|with\b|table\b|values\b|execute\b)", re.IGNORECASE)
_REFERENCES = re.compile(r"\breferences\b|\bpartition\b|\binherit\b", re.IGNORECASE)
_COMMITS = re.compile(r"\b(?:commit|rollback)\b", re.IGNORECASE)
_FINALIZE = re.compile(r"\bfinalize\b", re.IGNORECASE)
_ONLY_IN_TRANSACTION = ("LOCAL", "TRANSACTION", "CONSTRAINTS")
_TEMPORARY_SCHEMA = re.compile(r"\bpg_temp\b", re.IGNORECASE)
_COMPUTES = re.compile(r"\b(?:default|check|using|generated)\b.*\(", re.IGNORECASE | re.DOTALL)
"""What of an ALTER TABLE may call functions for the rows that are there."""

_OF_A_SESSION = re.compile(r"\b(?:TEMP|TEMPORARY|PREPARE|DECLARE|LISTEN|LOAD)\b|pg_temp|advisory_lock", re.IGNORECASE)


def read(statement: Statement) -> Reading:
    """Reads one statement of a migration. Whoever has its step asks `of`."""
    return _read(statement.text, statement.outline(Engine.POSTGRES))


def of_text(text: str) -> Reading:
    """Reads a statement that is not one of a file's."""
    return _read(text, lexer.outline(text, Engine.POSTGRES))


def binds(statement: Statement) -> bool:
    """Tells whether a statement may leave something in the session that can't be restored in a later one: temporary tables, prepared statements,
    cursors, locks. A match too many only keeps a file on its connection."""
    return _OF_A_SESSION.search(statement.text) is not None


def _read(text: str, outline: lexer.Outline) -> Reading:
    if len(outline.commands) == 1 and outline.commands[0][2][:1] in _DATA_HEADS and "$" not in text:
        return _of_data(outline)
    return _of_commands(text, outline)


@functools.lru_cache(maxsize=4096)
def _of_data(outline: lexer.Outline) -> Reading:
    return _of_commands("", outline)


_seen: dict[Reading, Reading] = {}
"""Equal readings are one object: a dump has 200,000 INSERTs of one reading."""

_SEEN_MOST = 4096


def _of_commands(text: str, outline: lexer.Outline) -> Reading:
    size = len(text)
    commands = [(words, "" if words[:1] in _DATA_HEADS else text[start : size - behind]) for start, behind, words in outline.commands]
    firsts = {words[0] if words else "" for words, _ in commands}  # "" may be a query in parentheses
    ends = any(hazards.ends_transaction(words) for words, _ in commands)
    controls = ends or not firsts.isdisjoint(("BEGIN", "START"))
    setting = not firsts.isdisjoint(_SETTING) or "" in firsts
    rules = setting and _READING_RULES.search(text) is not None
    awkward = outline.open is not None or "COPY" in firsts or ("$" in text and _PARAMETER.search(text) is not None) or rules
    classes = [lock_classes.of_command(*command) for command in commands]
    lock = max(classes, default=LockClass.NONE)
    single = len(commands) == 1
    work = max((_work(words, body) for words, body in commands), default=Work.ADDS)
    found = Reading(
        lock=lock,
        waits=sum(lock_classes.waits(*command) for command, each in zip(commands, classes, strict=True) if each.blocks) or 1,
        commands=len(commands),
        separators=tuple(size - behind for _, behind, _ in outline.commands[:-1]),
        pipelined=not controls and not awkward and (len(commands) <= 1 or _is_divisible(text, outline)),
        transactional=not controls and all(_transactional(words, body) for words, body in commands),
        controls=controls,
        ends=ends,
        sets=frozenset(_sets(text)) if setting else frozenset(),
        touches=setting and _TIMEOUTS.search(text) is not None,
        restores=single and _restores(commands[0][0], text),
        returns=not firsts.isdisjoint(_RETURNING) or "" in firsts,
        work=work,
        leaves=work is Work.RUNS or any(_leaves(words, body) for words, body in commands),
        head=commands[0][0] if commands else (),
        creates=_match(_NEW_TABLE, text) if single and firsts == {"CREATE"} else "",
        changes=_match(_ON_TABLE, text) if single and lock.blocks and not _REFERENCES.search(text) else "",
    )
    if not single:
        return found
    if len(_seen) >= _SEEN_MOST:
        _seen.clear()
    return _seen.setdefault(found, found)


def _work(words: Sequence[str], body: str) -> Work:
    """Tells the most that a command may do. Only commands that change plain objects are known to run no code, and only a CREATE that replaces nothing
    is known to remove nothing."""
    first, *more = words or ("",)
    if first not in _PLAIN:
        return Work.CHANGES if first in _BESIDE else Work.RUNS
    kind = next((word for word in more if word not in _BETWEEN), "")
    if kind not in _PLAIN_OBJECTS or (kind in _FILLED and first == "CREATE" and _FROM_QUERY.search(body) is not None):
        return Work.RUNS
    return Work.ADDS if first == "CREATE" and "REPLACE" not in more[:2] else Work.CHANGES


def _leaves(words: Sequence[str], body: str) -> bool:
    """Tells whether a command that runs no code by itself may leave something in the session."""
    if words[:1] in (("SET",), ("RESET",)):
        return not set(words[1:2]) & set(_ONLY_IN_TRANSACTION)
    return _TEMPORARY_SCHEMA.search(body) is not None or (words[:2] == ("ALTER", "TABLE") and _COMPUTES.search(body) is not None)


def _is_divisible(text: str, outline: lexer.Outline) -> bool:
    """Tells whether several commands mean the same when each is a message of its own, within a transaction: it is certain where each begins, and none
    of them behaves differently. (An error in the last is found after those before it were executed, not before; the transaction is rolled back in
    both cases.)"""
    return not outline.nested and _TOGETHER.search(text) is None


def _match(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.match(text)
    return found[1].lower() if found else ""


def _sets(text: str) -> Iterator[str]:
    for item in _SETS_TIMEOUT.finditer(text):
        yield f"{(item[1] or item[2]).lower()}_timeout"
    if _DURABILITY in text:
        yield _DURABILITY


def _restores(words: Sequence[str], text: str) -> bool:
    if words[:1] in (("SET",), ("RESET",)):
        return not set(words[1:2]) & set(_ONLY_IN_TRANSACTION)
    return words[:2] in (("SELECT", "SET_CONFIG"), ("SELECT", "PG_CATALOG")) and "set_config" in text.lower()


def _transactional(words: Sequence[str], body: str) -> bool:
    first = words[0] if words else ""
    if first in ("CALL", "DISCARD", "CHECKPOINT") or transactions.refused(words, body):
        return False
    if first == "DO":
        return _COMMITS.search(body) is None
    return words[:2] != ("ALTER", "TABLE") or _FINALIZE.search(body) is None


# --- a whole step -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepReading:
    """The statements of one step.

    Args:
        statements: a reading of each.
        locks: the class of each within one transaction.
        size: characters of all of them.
        pipelined: whether all can be sent through one pipeline.
        divided: whether a statement among them is sent as several messages.
        sets, touches, ends, leaves: of any of them, see `Reading`.
        work: the most that any of them may do.
    """

    statements: tuple[Reading, ...]
    locks: tuple[LockClass, ...]
    size: int
    pipelined: bool
    divided: bool
    sets: frozenset[str]
    touches: bool
    ends: bool
    work: Work
    leaves: bool


def of(step: plans.Step) -> StepReading:
    """Returns the reading of a step; made once, and kept with it."""
    return step.kept(_of_step)


def _of_step(step: plans.Step) -> StepReading:
    found = tuple(read(statement) for statement in step.statements)
    return StepReading(
        statements=found,
        locks=tuple(locks_in_order(found)),
        size=sum(len(statement.text) for statement in step.statements),
        pipelined=all(item.pipelined for item in found) and not any("\0" in statement.text for statement in step.statements),
        divided=any(item.commands > 1 for item in found),
        sets=frozenset[str]().union(*{item.sets for item in found}),
        touches=any(item.touches for item in found),
        ends=any(item.ends for item in found),
        work=max((item.work for item in found), default=Work.ADDS),
        leaves=any(item.leaves for item in found),
    )


def locks_in_order(statements: Sequence[Reading]) -> Iterator[LockClass]:
    """Returns the class of each statement of one transaction: work on a table that the same transaction created stalls nobody."""
    created: set[str] = set()
    for found in statements:
        if found.creates:
            created.add(found.creates)
        yield LockClass.NONE if found.changes in created else found.lock
