"""Commands for libpq's pipeline, and one pipeline on its way: what was sent, what was answered, when results must be asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.postgres import failures

if TYPE_CHECKING:
    from migrator.postgres.session import Session

_WINDOW = 512
"""Commands that are sent ahead of their results: enough that no round trip is waited for, few enough to be held in memory."""

TEXT, BIGINT, BYTEA, DOUBLE = 25, 20, 17, 701
"""OIDs of the parameter types used here; given explicitly so that no search path is asked what `text` means."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a pipeline: SQL with `$1` parameters of greylag's own, or a migration's statement without any.

    `name` makes it a prepared statement, parsed once in a session. `flush` asks the server to send its result at once,
    `streams` says that it may return many rows, which are to be thrown away as they come.
    """

    text: bytes
    parameters: tuple[bytes | None, ...] = ()
    types: tuple[int, ...] = ()
    wants_rows: bool = False
    formats: tuple[int, ...] | None = None
    name: bytes = b""
    flush: bool = False
    streams: bool = False


_PREPARING = Command(b"")
"""Stands for the preparing of a statement, which has no rows."""


def command(text: str, *parameters: str | int | float | bytes | None) -> Command:
    """A command of greylag's own, whose result is wanted."""
    values: list[bytes | None] = []
    types: list[int] = []
    for value in parameters:
        if isinstance(value, bytes):
            values.append(value)
            types.append(BYTEA)
        else:
            values.append(None if value is None else str(value).encode("utf-8", "surrogateescape"))
            types.append(_type_of(value))
    formats = tuple(int(kind == BYTEA) for kind in types) if BYTEA in types else None  # a file is sent as it is, not as hexadecimal text
    return Command(text.encode(), tuple(values), tuple(types), wants_rows=True, formats=formats)


def _type_of(value: str | int | float | None) -> int:
    if value is None:
        return 0  # the server infers it
    return BIGINT if isinstance(value, int) else DOUBLE if isinstance(value, float) else TEXT


def milliseconds(seconds: float) -> int:
    """A time-out as the server takes it: whole milliseconds, at least one unless it is 0 for none."""
    return max(round(seconds * 1000), 1) if seconds > 0 else 0


Rows = list[tuple[str | None, ...]]
OnResult = Callable[[int, Rows], None]


class Flight:
    """One pipeline on its way: what was sent and not yet answered, and when results must be asked for."""

    def __init__(self, session: Session, commands: Iterable[Command], on_result: OnResult) -> None:
        self.session = session
        self.pgconn = session.pgconn
        self.commands = iter(commands)
        self.on_result = on_result
        self.waiting: deque[tuple[Command, bool]] = deque()  # with whether it is only the preparing of the command
        self.unasked = 0  # the latest of `waiting` whose results the server may still hold back
        self.failure: failures.ServerFailure | None = None

    def run(self) -> failures.ServerFailure | None:
        """Sends and reads to the end; returns the first failure."""
        self.session.begin_pipeline()
        position, sent_all = 0, False
        while not sent_all or self.waiting:
            while not sent_all and len(self.waiting) < _WINDOW:
                item = next(self.commands, None) if self.failure is None else None
                if item is None:
                    self.session.sync()
                    sent_all = True
                else:
                    self.send(item)
            if not self.waiting:
                break
            if not sent_all and self.unasked == len(self.waiting):
                self.ask()
            position += self.receive(position)
        self.session.results()  # the answer to Sync
        return self.failure

    def send(self, item: Command) -> None:
        if item.name and item.name not in self.session.prepared:
            self.pgconn.send_prepare(item.name, item.text, item.types or None)
            self.session.prepared.add(item.name)
            self.append(item, preparing=True)
        if item.name:
            self.pgconn.send_query_prepared(item.name, item.parameters or None, item.formats)
        else:
            self.pgconn.send_query_params(item.text, item.parameters or None, item.types or None, item.formats)
        self.append(item)
        if item.flush:
            self.ask()

    def append(self, item: Command, *, preparing: bool = False) -> None:
        self.waiting.append((item, preparing))
        self.unasked += 1

    def ask(self) -> None:
        self.pgconn.send_flush_request()
        self.unasked = 0

    def receive(self, position: int) -> int:
        """Reads the results of the oldest command; returns how many commands of the caller that was."""
        item, preparing = self.waiting.popleft()
        self.unasked = min(self.unasked, len(self.waiting))
        try:
            rows = self.session.results(_PREPARING if preparing else item)
        except failures.ServerFailure as error:
            if self.failure is None:
                self.failure = error.at(position)
            if preparing or error.sqlstate == failures.NO_SUCH_STATEMENT:
                self.session.prepared.discard(item.name)
        else:
            if self.failure is None and not preparing:
                self.on_result(position, rows)
        return 0 if preparing else 1
