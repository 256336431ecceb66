"""What to do about a statement that PostgreSQL refused, where its SQLSTATE, the file's own text and the catalogue say more than the server's message.

25001, 2D000    VACUUM and its like in a transaction              `-- +goose NO TRANSACTION`
42601           psql's own commands, as pg_dump writes them       delete them
55006           ALTER behind changed rows whose checks wait       SET CONSTRAINTS … IMMEDIATE, or two files
55P04           an enum's value in the transaction that adds it   a file of its own
0A000           an index of a partitioned table, CONCURRENTLY     ON ONLY, each partition, ATTACH
42P01 …         what ended with the session that made it          `repair -not-done VERSION:STATEMENT`
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from migrator import errors, targets
from migrator.goose import hazards, psql, transactions
from migrator.goose.statements import Statement, masked
from migrator.planning import plans
from migrator.postgres import failures
from migrator.postgres.reading import grammar
from migrator.postgres.session import Session
from migrator.targets import Engine

_SYNTAX = "42601"
_IN_USE = "55006"
_NEW_VALUE_USED = "55P04"
_NOT_SUPPORTED = "0A000"
_NO_CURSOR = "34000"

_CHANGES_ROWS = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "WITH", "SELECT", "DO", "CALL", "EXECUTE"})
_CHANGES_TABLES = frozenset({"ALTER", "DROP", "TRUNCATE", "CREATE", "REINDEX", "CLUSTER", "REFRESH"})

_IDENTIFIER = r'("(?:[^"]|"")+"|[\w$]+)'
_OF_A_SESSION = (
    (
        failures.UNDEFINED_TABLE,
        "temporary table",
        re.compile(
            rf"\bcreate\s+(?:or\s+replace\s+)?(?:(?:(?:global|local)\s+)?temp(?:orary)?\s+(?:recursive\s+)?(?:table|view|sequence)\s+"
            rf"(?:if\s+not\s+exists\s+)?(?:pg_temp\s*\.\s*)?|(?:table|view|sequence)\s+(?:if\s+not\s+exists\s+)?pg_temp\s*\.\s*){_IDENTIFIER}"
            rf"|\binto\s+(?:local\s+|global\s+)?temp(?:orary)?\s+(?:table\s+)?{_IDENTIFIER}",
            re.IGNORECASE,
        ),
    ),
    (failures.NO_SUCH_STATEMENT, "prepared statement", re.compile(rf"\bprepare\s+(?!transaction\b){_IDENTIFIER}", re.IGNORECASE)),
    (_NO_CURSOR, "cursor", re.compile(rf"\bdeclare\s+{_IDENTIFIER}\s", re.IGNORECASE)),
)
"""What ends with its session: the SQLSTATE of its absence, what it is called, and how a file makes it."""


def of(session: Session, step: plans.Step, index: int, failure: failures.ServerFailure, *, skipped: int = 0) -> str:
    """Says what to do about a refused statement; "" where nothing more than the server's words is known.

    Args:
        session: asked what is there, where the file can't tell.
        index: of the statement, from 1.
        skipped: how many statements at the beginning of the file an earlier run has executed.
    """
    statement = step.statements[index - 1]
    found = of_text(step, index, failure) or _ended_with_session(session, step, index, failure, skipped)
    if not found and failure.sqlstate == _NOT_SUPPORTED:
        found = _of_partitioned(session, statement)
    return masked(found, statement.substitutions)


def of_text(step: plans.Step, index: int, failure: failures.ServerFailure) -> str:
    """Says what the SQLSTATE and the file's text tell."""
    statement = step.statements[index - 1]
    if failure.sqlstate in failures.NOT_IN_TRANSACTION:
        return _of_transaction(step, statement, failure)
    if failure.sqlstate == _SYNTAX:
        found = psql.find(statement.text)
        here = found is not None and (failure.position is None or failure.position - 1 == found.offset)
        return f"{found.name} is a psql meta-command, not SQL: {found.hint}" if found and here else ""
    if failure.sqlstate == _NEW_VALUE_USED:
        return transactions.OWN_FILE
    if failure.sqlstate == _IN_USE:
        return _of_waiting_checks(step, index, failure)
    return ""


def _commands(statement: Statement) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields first words and text of each command of a statement."""
    size = len(statement.text)
    for start, behind, words in statement.outline(Engine.POSTGRES).commands:
        yield words, statement.text[start : size - behind]


def _of_transaction(step: plans.Step, statement: Statement, failure: failures.ServerFailure) -> str:
    commands = list(_commands(statement))
    names = [name for words, text in commands if (name := transactions.refused(words, text))]
    first = commands[0][0][:1] if commands else ()
    if not names and (first == ("SET",) or not first):
        return ""  # SET TRANSACTION behind a query: the server's own words say it
    name = names[0] if names else first[0]
    if not names and failure.sqlstate != failures.CANT_END_TRANSACTION and failure.context:
        return (
            "PostgreSQL executes such a command neither in a transaction nor from a function or a block: make it a statement of its own, "
            + (transactions.NO_TRANSACTION)
        )
    why = f"PostgreSQL executes {name} only outside of a transaction"
    if failure.sqlstate == failures.CANT_END_TRANSACTION:
        why = "what ends a transaction itself can't be executed inside another one"
    if step.mode is targets.Mode.TRANSACTION:
        return f"{why}: {transactions.NO_TRANSACTION}"
    if len(commands) > 1:
        return f"{why}, and several commands in one statement are one: give it a statement of its own"
    return f"{why}: move it out of the file's own BEGIN … COMMIT"


def _of_waiting_checks(step: plans.Step, index: int, failure: failures.ServerFailure) -> str:
    """Tells the remedy where rows that the same transaction has changed have checks or triggers that wait for its COMMIT. (A table that an open query
    uses has the same SQLSTATE: a cursor, or code that reads it; then nothing is said.)"""
    statement = step.statements[index - 1]
    before: list[str] = []
    for item in step.statements[:index]:
        for words, _ in _commands(item):
            before = [] if hazards.ends_transaction(words) else [*before, *words[:1]]
    firsts = set(before)
    own = {words[0] for words, _ in _commands(statement) if words}
    if failure.context or "DECLARE" in firsts or firsts.isdisjoint(_CHANGES_ROWS) or own.isdisjoint(_CHANGES_TABLES):
        return ""
    line = statement.first_line
    return (
        "rows that this transaction has changed have deferred checks or triggers that wait for its COMMIT: write `SET CONSTRAINTS ALL IMMEDIATE;` "
        f"before line {line}, or put what begins in line {line} into a file of its own"
    )


def _ended_with_session(session: Session, step: plans.Step, index: int, failure: failures.ServerFailure, skipped: int) -> str:
    """Tells the remedy for a temporary table, a prepared statement, a cursor that a skipped statement had made in the session of an earlier run."""
    text = step.statements[index - 1].text
    for sqlstate, kind, pattern in _OF_A_SESSION:
        if failure.sqlstate != sqlstate:
            continue
        for number in range(min(skipped, index - 1), 0, -1):
            made = pattern.search(step.statements[number - 1].text)
            name = next(filter(None, made.groups()), "") if made else ""
            if name and re.search(rf"(?<![\w$]){re.escape(name)}(?![\w$])", text, re.IGNORECASE) and not _exists(session, sqlstate, name):
                again = f"statement {number} is" if number == index - 1 else f"statements {number} to {index - 1} are"
                return (
                    f"the {kind} {name} ended with the session of the run that made it: `greylag DRIVER DBSTRING repair -not-done {step.version}:{number}`"
                    f" has it made again; {again} executed once more then, so undo first what must not be done twice"
                )
    return ""


def _exists(session: Session, sqlstate: str, name: str) -> bool:
    if sqlstate != failures.UNDEFINED_TABLE:
        return False  # the SQLSTATE says it
    try:
        return session.query("SELECT pg_catalog.to_regclass($1)", name)[0][0] is not None
    except (failures.ServerFailure, errors.GreylagError):
        return True


def _of_partitioned(session: Session, statement: Statement) -> str:
    """Tells the remedy for CONCURRENTLY on a partitioned table, or on an index of one."""
    tree = grammar.parse(statement.text)
    command = tree.commands[0] if tree and len(tree.commands) == 1 else None
    if command is None or command.kind not in ("index_stmt", "drop_stmt") or not command.node.concurrent:
        return ""
    if command.kind == "index_stmt":
        relation = command.node.relation
        names = [_quoted(relation.schemaname, relation.relname)]
    else:
        names = [_quoted(*(part.string.sval for part in item.list.items)) for item in command.node.objects]
    for name in names:
        try:
            kind = session.query("SELECT c.relkind FROM pg_catalog.pg_class AS c WHERE c.oid = pg_catalog.to_regclass($1)", name)
        except (failures.ServerFailure, errors.GreylagError):
            return ""
        if kind and kind[0][0] == "p":
            return (
                f"{name} is partitioned: CREATE INDEX … ON ONLY {name} (without CONCURRENTLY, it reads nothing), CREATE INDEX CONCURRENTLY on each "
                "partition, then ALTER INDEX … ATTACH PARTITION … for each"
            )
        if kind and kind[0][0] == "I":
            return f"{name} is the index of a partitioned table, which goes with those of its partitions at once: DROP INDEX without CONCURRENTLY"
    return ""


def _quoted(*parts: str) -> str:
    return ".".join(part if re.fullmatch(r"[a-z_][a-z0-9_]*", part) else '"' + part.replace('"', '""') + '"' for part in parts if part)
