"""One pipeline on its way: what was sent, what was answered, when results must be asked for.

    sent:      BEGIN  statement  statement  INSERT INTO goose_db_version …  COMMIT  Sync
    answered:  BEGIN  statement  ERROR (what is behind it is skipped, up to the Sync)

Messages run ahead of their answers by `_WINDOW` at most. The server holds answers back until it is asked to send them: by a Flush behind a message whose
result somebody waits for, by one before a wait, or by the Sync.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from migrator.postgres import failures
from migrator.postgres.pipelines import Message, OnResult
from migrator.postgres.wire import Wire

_WINDOW = 512
"""Messages that are sent ahead of their results: enough that no round trip is waited for, few enough to be held in memory."""

_PREPARING = Message(b"")
"""Stands for the preparing of a statement, which has no rows."""


class Flight:
    """One pipeline on its way: what was sent and not yet answered, and when results must be asked for."""

    def __init__(self, wire: Wire, messages: Iterable[Message], on_result: OnResult) -> None:
        self.wire = wire
        self.pgconn = wire.pgconn
        self.messages = iter(messages)
        self.on_result = on_result
        self.waiting: deque[tuple[Message, bool]] = deque()  # with whether it is only the preparing of the message
        self.unasked = 0  # the latest of `waiting` whose results the server may still hold back
        self.failure: failures.ServerFailure | None = None

    def run(self) -> failures.ServerFailure | None:
        """Sends and reads to the end; returns the first failure."""
        self.wire.begin_pipeline()
        position, sent_all = 0, False
        while not sent_all or self.waiting:
            while not sent_all and len(self.waiting) < _WINDOW:
                item = next(self.messages, None) if self.failure is None else None
                if item is None:
                    self.wire.sync()
                    sent_all = True
                else:
                    self.send(item)
            if not self.waiting:
                break
            if not sent_all and self.unasked == len(self.waiting):
                self.ask()
            position += self.receive(position)
        self.wire.results()  # the answer to Sync
        return self.failure

    def send(self, item: Message) -> None:
        wire = self.wire
        if item.name and item.name not in wire.prepared:
            wire.prepared[item.name] = item.name + b"_%d" % wire.generation
            self.pgconn.send_prepare(wire.prepared[item.name], item.text, item.types or None)
            self.append(item, preparing=True)
        if item.name:
            self.pgconn.send_query_prepared(wire.prepared[item.name], item.parameters or None, item.formats)
        else:
            self.pgconn.send_query_params(item.text, item.parameters or None, item.types or None, item.formats)
        self.append(item)
        if item.forgets:
            wire.prepared.clear()
            wire.generation += 1
        if item.flush:
            self.ask()

    def append(self, item: Message, *, preparing: bool = False) -> None:
        self.waiting.append((item, preparing))
        self.unasked += 1

    def ask(self) -> None:
        self.pgconn.send_flush_request()
        self.unasked = 0

    def receive(self, position: int) -> int:
        """Reads the results of the oldest message; returns how many of the caller's messages that was."""
        item, preparing = self.waiting.popleft()
        self.unasked = min(self.unasked, len(self.waiting))
        try:
            rows = self.wire.results(_PREPARING if preparing else item)
        except failures.ServerFailure as error:
            if self.failure is None:
                self.failure = error.at(position)
            if preparing or error.sqlstate == failures.NO_SUCH_STATEMENT:
                self.wire.prepared.pop(item.name, None)
        else:
            if self.failure is None and not preparing:
                self.on_result(position, rows)
        return 0 if preparing else 1
