"""What would a statement make? Asked of the server itself, on an empty temporary table with the recorded definition (clickhouse.md §3).

The answer also tells whether the server would refuse it, so that nothing has to be known of error codes. A statement that can't be rehearsed (an engine
that can't be temporary, a right that is missing) has an answer that says so.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from migrator.clickhouse import failures, worlds
from migrator.clickhouse.reading import shapes
from migrator.clickhouse.session import STATEMENT_SETTINGS, Session, literal, quote
from migrator.clickhouse.worlds import Expected

_SECONDS = 60
"""How long the server keeps the session of a rehearsal that stands still: longer than a mutation of an empty table takes."""

_DATABASE = "_temporary_and_external_tables"
"""Where `system.mutations` shows temporary tables."""

_ID = r"(?:`(?:[^`\\]|\\.)+`|\w+)"
_NAME = rf"{_ID}(?:\.{_ID})?(?: ON CLUSTER (?:{_ID}|'[^']*'))?"
_ALTERED = re.compile(rf"\A(ALTER TABLE |CREATE (?:UNIQUE )?INDEX (?:IF NOT EXISTS )?{_ID} ON |DROP INDEX (?:IF EXISTS )?{_ID} ON ){_NAME}")
_DELETED = re.compile(rf"\ADELETE FROM {_NAME}(?P<part>(?: IN PARTITION .*?)?) WHERE ")
_CREATED = re.compile(
    rf"\A(?:CREATE (?:OR REPLACE )?|REPLACE |ATTACH )TABLE (?:IF NOT EXISTS )?{_ID}(?:\.{_ID})?(?: UUID '[^']*')?(?: ON CLUSTER (?:{_ID}|'[^']*'))? "
)
_ENGINE = re.compile(r"\bENGINE = (?:Replicated|Shared)?(\w+)")
_REHEARSED = re.compile(r"\w*MergeTree|\w*Log|Memory|Null|Set|Join")
"""Engines that a temporary table may have (Replicated and Shared ones without that word)."""

_NOT_READABLE = ("?",)
"""Stands for the commands of a mutation where `system.mutations` can't be read."""


class Stage:
    """A session of the server's in which statements are rehearsed; nothing in it outlives it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._parameters: dict[str, str | int] = {
            "session_id": f"{session.prefix}rehearsal-{secrets.token_hex(4)}",
            "session_timeout": _SECONDS,
        }
        self._settings = {
            key: value
            for key, value in {**session.settings, **STATEMENT_SETTINGS}.items()
            if key in session.changeable or key in session.settings
        }

    def __enter__(self) -> Stage:
        self.execute(f"USE {quote(self._session.database)}")
        return self

    def __exit__(self, *exc: object) -> None:
        """Leaves the session; the server drops it with its tables."""

    def execute(self, text: str) -> None:
        """Executes a statement; also a SET or USE of the file's, which holds for what follows.

        Raises:
            failures.Refusal, failures.Lost.
        """
        self._session.transport.write(text.encode("utf-8", "surrogateescape"), urlencode({**self._settings, **self._parameters}))

    def rehearse(self, definition: str | None, line: str) -> Expected:
        """Returns what a statement would make of a table.

        Args:
            definition: the table's `create_table_query`; None for a statement that creates it.
            line: the statement's canonical form.

        Raises:
            failures.Lost.
        """
        table = f"greylag_{secrets.token_hex(6)}"
        with self._dropped(table):
            if definition is None:
                return self._created(table, line)
            found = _ENGINE.search(definition)
            text = _altered(table, line)
            if text is None or found is None or not _REHEARSED.fullmatch(found[1]):
                return Expected()
            try:
                self.execute(f"CREATE TEMPORARY TABLE {table} {worlds.body(definition)}")
            except failures.Refusal:
                return Expected()
            try:
                self.execute(text)
            except failures.Refusal as refusal:
                if (
                    _DATABASE in refusal.message
                ):  # a subquery in a mutation: its unqualified names are looked for among the temporary tables
                    return self._in_words(table, line)
                return Expected() if refusal.code == failures.ACCESS_DENIED else Expected(refused=refusal.message)
            return self._seen(
                table, mutates=any(command.mutates for command in shapes.read(line, "").commands) or line.startswith("DELETE")
            )

    def _in_words(self, table: str, line: str) -> Expected:
        """Returns what an ALTER would make whose mutations can't be rehearsed: of its definition nothing changes if it has no other commands."""
        commands = shapes.read(line, "").commands
        if not all(command.mutates for command in commands) or not commands:
            return Expected()
        database = self._session.database
        words = (worlds.IN_WORDS, database, *(worlds.squeezed(command.text, database) for command in commands))
        return replace(self._seen(table, mutates=True), mutations=(words,))

    def _created(self, table: str, line: str) -> Expected:
        head = _CREATED.match(line)
        if head is None:
            return Expected()
        text = _emptied(worlds.body(f"CREATE TABLE x {line[head.end() :]}"))
        try:
            self.execute(f"CREATE TEMPORARY TABLE {table} {text}")
        except failures.Refusal as refusal:
            found = _ENGINE.search(text)
            told = found is not None and _REHEARSED.fullmatch(found[1]) and refusal.code != failures.ACCESS_DENIED
            return Expected(refused=refusal.message) if told else Expected()
        return self._seen(table, mutates=False)

    def _seen(self, table: str, *, mutates: bool) -> Expected:
        rows = self._rows(f"SELECT create_table_query, toString(uuid) FROM system.tables WHERE is_temporary AND name = {literal(table)}")
        if not rows:
            return Expected()
        definition, uuid = rows[0]
        try:
            found = self._rows(
                f"SELECT mutation_id, command FROM system.mutations WHERE database = '{_DATABASE}' AND table = {literal(f'_tmp_{uuid}')}"
            )
        except failures.Refusal:
            return Expected(definition, (_NOT_READABLE,) if mutates else ())
        by_id: dict[str, tuple[str, ...]] = {}
        for ident, command in found:
            by_id[ident] = (*by_id.get(ident, ()), command)
        return Expected(definition, tuple(by_id.values()))

    def _rows(self, sql: str) -> list[list[Any]]:
        return self._session.transport.read(sql, {**self._parameters, "wait_end_of_query": 1})

    @contextlib.contextmanager
    def _dropped(self, table: str) -> Iterator[None]:
        try:
            yield
        finally:
            with contextlib.suppress(failures.Refusal, failures.Lost):
                self.execute(f"DROP TEMPORARY TABLE IF EXISTS {table}")


def _altered(table: str, line: str) -> str | None:
    """Returns the statement on the temporary table; None for one that takes none. DELETE FROM is what the server makes of it."""
    deleted = _DELETED.match(line)
    if deleted is not None:
        return f"ALTER TABLE {table} UPDATE _row_exists = 0{deleted['part']} WHERE {line[deleted.end() :]}"
    found = _ALTERED.match(line)
    return f"{found[1]}{table}{line[found.end() :]}" if found is not None else None


def _emptied(text: str) -> str:
    """Has a CREATE … AS SELECT create the table without filling it."""
    depth = 0
    for token in shapes.spans(text):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth == 0 and token[0].upper() == "AS" and re.match(r"AS\s+[(\s]*(?:SELECT|WITH)\b", text[token.start() :], re.IGNORECASE):
            before = text[: token.start()]
            return text if before.rstrip().endswith("EMPTY") else f"{before}EMPTY {text[token.start() :]}"
    return text
