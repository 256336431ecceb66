"""One PostgreSQL session, as execution uses it: single statements, batches and pipelines, over the `wire`.

There are four ways to send. All of them return once every answer has been read:

    simple(text)          a migration's text over the simple protocol, as goose sends it; it may hold several commands
    query(text, …)        one command of greylag's own; returns its rows
    batch(messages)       several messages in one round trip, all or none of them
    pipeline(messages)    any number of messages, each with its result as soon as it arrives

`batch` is all or none without a BEGIN: messages between two Syncs are one transaction for the server, unless they begin or end one themselves.
"""

from __future__ import annotations

from collections.abc import Iterable

import psycopg

from migrator.postgres import failures
from migrator.postgres.flight import Flight
from migrator.postgres.pipelines import Message, OnResult, Rows, message
from migrator.postgres.wire import Wire


class Session(Wire):
    """A connection in autocommit mode, and what the migrations of a run have done to it."""

    def __init__(self, connection: psycopg.Connection[object]) -> None:
        super().__init__(connection)
        self.timeouts_touched = False  # whether a migration may have changed statement_timeout or lock_timeout
        self.changed = False  # whether a file may have left something in the session (`restoring`)
        self.runs_blocks = True  # whether this role may execute a DO block (PL/pgSQL)
        self.settings: tuple[str, ...] = ()  # SQL that gives the session, after RESET ALL, the role and the settings of the run's start

    def query(self, text: str, *parameters: str | int | float | bytes | None) -> Rows:
        """Executes one command of greylag's own and returns its rows, every value as the server's text."""
        return self.batch([message(text, *parameters)])[0]

    def batch(self, messages: Iterable[Message]) -> list[Rows]:
        """Executes messages in one round trip, all or none of them, and returns the rows of each. Raises as `pipeline`."""
        found: list[Rows] = []
        self.pipeline(messages, lambda _index, rows: found.append(rows))
        return found

    def pipeline(self, messages: Iterable[Message], on_result: OnResult) -> None:
        """Sends all messages and one Sync; no round trip lies between them. What is sent runs ahead of what is answered by `_WINDOW`
        messages at most, so `messages` may be a generator over a whole run.

        Args:
            on_result: called with each finished message's index and rows, in order.

        Raises:
            failures.ServerFailure: with the index of the message; nothing after it was executed.
            Interrupted: `cancel` was called. Any exception that breaks the wait: the server was told to cancel, and was waited for.
        """
        with self.conversation():
            failure = Flight(self, messages, on_result).run()
            self.pgconn.exit_pipeline_mode()
        if failure is not None:
            self.refuse(failure)

    def pause(self, seconds: float) -> None:
        """Waits; `cancel` ends the wait. Raises Interrupted."""
        if self._stop.wait(seconds):
            raise failures.interrupted()
