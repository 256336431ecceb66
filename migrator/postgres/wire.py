"""The wire to one PostgreSQL server, at the level of libpq: one conversation at a time, waits that can be broken, cancelling.

Statements are bytes and go out as they are: no parameters are filled in, nothing is prepared, `%` and `$1` mean what they mean to the
server. psycopg's own cursor is not used because it doesn't tell which message of a pipeline a result or an error belongs to, and because a
migration's statement may be of any encoding.

A wait polls the socket. Whatever breaks it (a signal's exception, Prefect's, a time-out of the command) is handled before it goes on: the server is told
to cancel, its answers are read until it is idle, an open transaction is rolled back; where that can't be had, the connection is closed.
"""

from __future__ import annotations

import contextlib
import enum
import select
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

import psycopg
from psycopg import pq

from migrator import errors
from migrator.postgres import failures
from migrator.postgres.pipelines import Message, Rows

_POLL_MILLISECONDS = 100
"""How long one poll lasts: an exception that another thread throws into this one (Prefect does) is seen between two polls."""

_DRAIN_SECONDS = 10.0
"""After a cancel the server gets this long to answer; then the connection is closed, which ends the session too."""

_CANCEL_SECONDS = 5.0
"""A cancel request that takes longer than this is given up; it is sent again while the statement keeps running."""

_CANCEL_AGAIN_SECONDS = 1.0
"""A cancel that arrives between two commands is lost; it is repeated while the wait goes on."""

_CHUNK_ROWS = 1000
"""Rows that a SELECT in a migration may hold in memory at once; they are thrown away."""


class _Sync(enum.Enum):
    """Where the Sync of the pipeline is, so that a broken wait knows what is still to come."""

    NONE = enum.auto()
    SENT = enum.auto()
    ANSWERED = enum.auto()


class Wire:
    """A connection in autocommit mode. `cancel` is safe from any thread and from signal handlers; everything else belongs to one thread."""

    def __init__(self, connection: psycopg.Connection[object]) -> None:
        self._connection = connection
        self.pgconn = connection.pgconn
        self.pgconn.nonblocking = 1
        self._stop = threading.Event()
        self._cancel_sent = 0.0
        self._cleaning = 0
        self._sync = _Sync.NONE
        self.prepared: dict[bytes, bytes] = {}
        """By its name in messages: the name of each statement that this session has prepared."""
        self.generation = 0
        """How often all of them were deallocated. Each time they get new names: whether a broken pipeline came as far as that is then of no account."""
        self.parting: failures.ServerFailure | None = None  # the error with which the server ended the session
        self.was_cancelled = False  # whether the wait that broke last ended with the server's "query canceled"

    @property
    def closed(self) -> bool:
        return self.pgconn.status != pq.ConnStatus.OK

    @property
    def login_pid(self) -> int:
        """Returns the backend's process id as the login told it; a connection pooler tells another one."""
        return self.pgconn.backend_pid

    @property
    def server_version(self) -> int:
        """Returns the server's version as a number: 160004 is 16.4."""
        return self.pgconn.server_version

    @property
    def in_transaction(self) -> bool:
        return not self.closed and self.pgconn.transaction_status not in (pq.TransactionStatus.IDLE, pq.TransactionStatus.UNKNOWN)

    @property
    def counts_characters(self) -> bool:
        """Tells whether error positions count characters of UTF-8 (else bytes: SQL_ASCII and single-byte encodings)."""
        return self.pgconn.parameter_status(b"client_encoding") == b"UTF8"

    @property
    def standard_strings(self) -> bool:
        """Tells whether a backslash in a plain string is an ordinary character, as `migrator.goose.lexer` takes it."""
        return self.pgconn.parameter_status(b"standard_conforming_strings") == b"on"

    @property
    def stopped(self) -> bool:
        """Tells whether `cancel` was called."""
        return self._stop.is_set()

    # --- talking -----------------------------------------------------------------------------------------------------------------

    def simple(self, text: bytes) -> None:
        """Sends one text over the simple protocol, as goose does; it may hold several commands. Rows are thrown away as they come.

        Raises failures.ServerFailure, Interrupted, Unavailable.
        """
        failure: failures.ServerFailure | None = None
        with self.conversation():
            self.pgconn.send_query(text)
            while True:
                try:
                    if self._result(streamed=True) is None:
                        break
                except failures.ServerFailure as error:
                    failure = failure or error
        if failure is not None:
            self.refuse(failure)

    @contextlib.contextmanager
    def cleaning(self) -> Iterator[None]:
        """Allows commands although `cancel` was called: to roll back, to give back the lock."""
        self._cleaning += 1
        try:
            yield
        finally:
            self._cleaning -= 1

    def rollback(self) -> None:
        """Leaves a transaction, if one is open, also after a cancel."""
        if self.in_transaction:
            with self.cleaning():
                self.simple(b"ROLLBACK")

    def cancel(self) -> None:
        """Tells the server to cancel; whoever waits gets Interrupted, as does everything that is started afterwards."""
        self._stop.set()
        self._send_cancel()

    def close(self) -> None:
        """Ends the session; its locks go with it."""
        self._connection.close()

    # --- inside a conversation ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def conversation(self) -> Iterator[None]:
        """Guards a conversation with the server: whatever breaks the wait from outside, the server is told to cancel and is waited for.

        A connection may end while something is being sent as well as while an answer is awaited; libpq then refuses the next call, whichever it is.
        """
        if self._stop.is_set() and not self._cleaning:
            raise failures.interrupted()
        if self.closed:
            raise failures.connection_lost("the connection is closed")
        try:
            yield
        except errors.Unavailable:
            self.close()
            raise
        except psycopg.OperationalError as error:
            said = self._last_words(str(error))
            self.close()
            raise failures.connection_lost(said, self.parting) from None
        except BaseException:
            with contextlib.suppress(Exception):
                self._drain()
                self.rollback()
            raise

    def _last_words(self, said: str) -> str:
        """Says why the connection ended, where the server said nothing: libpq's own words, else the driver's."""
        return self.pgconn.error_message.decode("utf-8", "replace").strip() or said

    def refuse(self, failure: failures.ServerFailure) -> NoReturn:
        """Raises the failure of a conversation: Interrupted, where `cancel` was the reason."""
        if self._stop.is_set() and failure.sqlstate == failures.QUERY_CANCELED:
            self.was_cancelled = True
            raise failures.interrupted() from None
        raise failure

    def begin_pipeline(self) -> None:
        """Enters libpq's pipeline mode."""
        self._sync = _Sync.NONE
        self.pgconn.enter_pipeline_mode()

    def sync(self) -> None:
        """Sends the one Sync of a pipeline."""
        self.pgconn.pipeline_sync()
        self._sync = _Sync.SENT

    def results(self, item: Message | None = None) -> Rows:
        """Reads all results of one message of a pipeline (None: of its Sync). Rows that nobody wants are thrown away as they come."""
        wanted = item is not None and item.wants_rows
        streamed = item is not None and item.streams
        rows: Rows = []
        failure: failures.ServerFailure | None = None
        while True:
            try:
                result = self._result(streamed=streamed)
            except failures.ServerFailure as error:
                failure = error
                continue
            if result is None or self._sync is _Sync.ANSWERED:
                break
            if wanted:
                rows += [tuple(_text(result.get_value(row, column)) for column in range(result.nfields)) for row in range(result.ntuples)]
        if failure is not None:
            raise failure
        return rows

    def _result(self, *, streamed: bool) -> pq.abc.PGresult | None:
        pgconn = self.pgconn
        if streamed:
            with contextlib.suppress(psycopg.Error):  # not every state of the connection takes it
                pgconn.set_chunked_rows_mode(_CHUNK_ROWS) if _HAS_CHUNKS else pgconn.set_single_row_mode()
        if pgconn.is_busy():
            self._wait_for_result()
        result = pgconn.get_result()
        if result is not None and (status := result.status) != _COMMAND_OK:
            self._handle(result, status)
        return result

    def _handle(self, result: pq.abc.PGresult, status: int) -> None:
        """Acts on a result other than a finished command. Raises ServerFailure for an error, Unavailable when the connection is gone."""
        if status == pq.ExecStatus.PIPELINE_SYNC:
            self._sync = _Sync.ANSWERED
        elif status == pq.ExecStatus.COPY_IN:
            self.pgconn.put_copy_end(b"a migration has no data to send")
        elif status in (pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH):
            self._discard_copy()
        elif status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE, pq.ExecStatus.PIPELINE_ABORTED):
            if failures.ends_session(result):
                self.parting = failures.from_result(result)
            if self.closed or (status == pq.ExecStatus.FATAL_ERROR and failures.is_of_libpq(result)):
                raise failures.connection_lost(self._last_words(failures.text_of(result)), self.parting)
            raise failures.from_result(result)

    def _discard_copy(self) -> None:
        while True:
            size, _data = self.pgconn.get_copy_data(1)
            if size < 0:
                return
            if size == 0:
                self._poll(writing=False)

    def _wait_for_result(self) -> None:
        pgconn = self.pgconn
        while True:
            writing = bool(pgconn.flush())
            if not pgconn.is_busy():
                return
            self._poll(writing=writing)

    def _poll(self, *, writing: bool) -> None:
        """Waits until the socket is ready, and reads what there is. A wait that lasts repeats a cancel that the server did not see."""
        poller = select.poll()
        poller.register(self.pgconn.socket, select.POLLIN | (select.POLLOUT if writing else 0))
        ready = poller.poll(_POLL_MILLISECONDS)
        if any(mask & ~select.POLLOUT for _, mask in ready):
            self.pgconn.consume_input()
        if self._stop.is_set() and not self._cleaning and time.monotonic() - self._cancel_sent > _CANCEL_AGAIN_SECONDS:
            self._send_cancel()

    def _send_cancel(self) -> None:
        self._cancel_sent = time.monotonic()
        if not self.closed:
            with contextlib.suppress(psycopg.Error, OSError):
                self._connection.cancel_safe(timeout=_CANCEL_SECONDS)

    def _drain(self) -> None:
        """Cancels what runs and reads until the server is idle; closes the connection when that can't be had."""
        self.was_cancelled = False
        try:
            self._send_cancel()
            deadline = time.monotonic() + _DRAIN_SECONDS
            while not self.closed and time.monotonic() < deadline:
                if self._drained():
                    return
            self.close()
        except BaseException:
            self.close()
            raise

    def _drained(self) -> bool:
        pgconn = self.pgconn
        in_pipeline = pgconn.pipeline_status != pq.PipelineStatus.OFF
        if in_pipeline and self._sync is _Sync.ANSWERED:
            pgconn.exit_pipeline_mode()
            return True
        if in_pipeline and self._sync is _Sync.NONE:
            self.sync()
        writing = bool(pgconn.flush())
        if pgconn.is_busy():
            self._poll(writing=writing)
            return False
        result = pgconn.get_result()
        if result is None:
            return not in_pipeline
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            self._sync = _Sync.ANSWERED
        elif result.status == pq.ExecStatus.COPY_IN:
            pgconn.put_copy_end(b"interrupted")
        elif result.status == pq.ExecStatus.COPY_OUT:
            self._discard_copy()
        elif result.status == pq.ExecStatus.FATAL_ERROR:
            self.was_cancelled = self.was_cancelled or failures.from_result(result).sqlstate == failures.QUERY_CANCELED
        return False


_COMMAND_OK = int(pq.ExecStatus.COMMAND_OK)
_HAS_CHUNKS = psycopg.capabilities.has_stream_chunked() if hasattr(psycopg, "capabilities") else False


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "surrogateescape")
