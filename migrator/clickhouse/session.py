"""One ClickHouse server over HTTP: reading, commands, statements of migrations, cancelling.

Three kinds of request, because each needs other settings; all of them go over one `transport`, which decides what an answer is:

- `rows` reads. It sends no settings that a read-only user (code 164) couldn't send, so that one can look.
- `command` is greylag's own writing beside the run: lock, heartbeat.
- `execute` is everything that the run does under the lock: the file's statements and the history rows. It goes through **one HTTP session**, as goose
  uses one pooled connection: `SET`, `USE` and temporary tables of a file last. The session is also the fence of the lock (see `lock`). The database
  can't go with each of its requests, or a file's own `USE` would end with its statement; so `begin` proves that the session is there and where it is
  (clickhouse.md §2).

Statements travel as raw bytes in the body, never in the URL: ENVSUB's values don't reach access logs, no placeholder is filled in by a
client (`%s`, `{x:Type}`, `?` mean what they mean to the server), and INSERT brings its data along, in any format, as it does for goose.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from migrator import errors
from migrator.address import addresses
from migrator.clickhouse import failures
from migrator.clickhouse.transport import Transport

STATEMENT_SETTINGS: Mapping[str, str] = {
    "async_insert": "0",  # on by default from 26.3: a row that is not written yet must not count as written
    "mutations_sync": "2",  # a statement has ended when its mutation has, on every replica
    "alter_sync": "2",
    "wait_end_of_query": "1",  # the status line comes after the statement has ended, so it tells the outcome
    "send_progress_in_http_headers": "1",  # something moves on the wire while a long statement runs
    "http_headers_progress_interval_ms": "10000",  # well below the usual 60 s after which proxies drop a silent connection
}
"""Sent with every statement of a run: defaults differ between server versions and user profiles. A statement's own SETTINGS clause wins."""

OWN_SETTINGS: Mapping[str, str] = {
    "insert_deduplicate": "0",  # a row may look like an earlier one, after a redo
    "max_threads": "1",  # a single row: threads that start and end for it cost a tenth of its time
}
"""Sent besides with greylag's own rows."""

_TRANSPORT = frozenset({"wait_end_of_query", "send_progress_in_http_headers", "http_headers_progress_interval_ms"})

_CHOSEN = (STATEMENT_SETTINGS.keys() | OWN_SETTINGS.keys()) - _TRANSPORT

_STOPS_READS = "cancel_http_readonly_queries_on_client_close"
"""Has the server stop a query whose client is gone."""

_LIMITS_OF_READING = frozenset({"max_query_size", "implicit_select"})
"""What is sent with texts that the server is to read (`wording`)."""

_CANCEL_SECONDS = 5.0
"""How long a cancel may take; it runs in signal handlers and must not hang there."""

_SET = re.compile(r"\s*SET\s+(?!ROLE\b|DEFAULT\b|TRANSACTION\b)(.*)", re.IGNORECASE | re.DOTALL)
_ASSIGNMENT = re.compile(r"(?:\A|,)\s*`?(\w+)`?\s*=")


@dataclass
class Session:
    """An open server; `fence` is the id of the HTTP session once the run has begun one. Threads may use `rows`, `command` and `cancel`.

    `changeable`: which of greylag's settings this server knows, and this user may change.
    """

    transport: Transport
    place: str
    database: str
    settings: dict[str, str | int]
    prefix: str
    version: str = ""
    changeable: frozenset[str] = frozenset()
    fence: str | None = None
    fence_seconds: int = 0
    overridden: set[str] = field(default_factory=set)
    cluster: str = ""
    database_engine: str = ""

    def __post_init__(self) -> None:
        self._begun = ""  # the id of the run's first HTTP session, and how many have followed it
        self._renewals = 0
        self._prepared: dict[tuple[tuple[str, str | int], ...], str] = {}
        """By the settings of a statement: the URL's part that is the same for all that have them."""

    # --- reading and writing beside the run ---------------------------------------------------------------------------------------

    def rows(self, sql: str, settings: Mapping[str, str | int] | None = None) -> list[list[Any]]:
        """Returns the rows of a query. Text that isn't UTF-8 comes with lone surrogates.

        Raises:
            failures.Refusal, failures.Lost.
        """
        return self.transport.read(sql, self._beside({"wait_end_of_query": 1, **(settings or {})}))

    def row(self, sql: str, settings: Mapping[str, str | int] | None = None) -> list[Any]:
        """Returns the one row of a query that always has one, an aggregate above all.

        Raises:
            failures.Refusal, failures.Lost.
        """
        rows = self.rows(sql, settings)
        if len(rows) != 1:
            raise failures.Lost("the answer lacks its row", proxy=self.transport.proxy)
        return rows[0]

    def command(self, sql: str | bytes, settings: Mapping[str, str | int] | None = None) -> None:
        """Executes a writing command of greylag's own, outside of the run's HTTP session.

        Raises:
            failures.Refusal, failures.Lost.
        """
        body = sql.encode("utf-8", "surrogateescape") if isinstance(sql, str) else sql
        sent = self._known({**self.settings, **STATEMENT_SETTINGS, **(settings or {})})
        self.transport.write(body, urlencode(self._beside(sent)))

    def _beside(self, sent: Mapping[str, str | int]) -> dict[str, str | int]:
        """Returns the parameters of a request outside of the run's HTTP session."""
        return self._always | ({"database": self.database} if self.database else {}) | dict(sent)

    @property
    def _always(self) -> dict[str, str | int]:
        return {_STOPS_READS: 1} if _STOPS_READS in self.changeable else {}

    # --- the run ------------------------------------------------------------------------------------------------------------------

    def begin(self, fence: str, seconds: int) -> None:
        """Opens the run's HTTP session; from now on the server refuses its statements once it stood idle for `seconds`.

        Raises:
            PlanRefused: `no-session`: what is between here and the server doesn't pass the session on.
            failures.Refusal, failures.Lost.
        """
        self.end()
        self._prove_parameters({"session_id": f"{fence}-absent", "session_timeout": seconds, "session_check": 1})
        self._open(fence, seconds)
        self._begun = fence

    def renew(self) -> None:
        """Opens another HTTP session in place of the run's: settings, roles, temporary tables and a database that a file chose end with the old one, which is
        never used again. Call it within `lock.using`, as a statement is sent. Does nothing where the run has none (`replicated`): there nothing lasts.

        Raises as `begin`; the run then keeps the old session.
        """
        if self.fence is not None:
            self._renewals += 1
            self._open(f"{self._begun}-{self._renewals}", self.fence_seconds)

    def _open(self, fence: str, seconds: int) -> None:
        opening: dict[str, str | int] = {"session_id": fence, "session_timeout": seconds}
        checked = opening | {"session_check": 1}
        self.transport.write(f"USE {quote(self.database)}".encode(), urlencode(self._always | opening), f"{self.prefix}begin")
        try:
            found = self.transport.read("SELECT currentDatabase()", self._always | checked | {"wait_end_of_query": 1})
        except failures.Refusal as refusal:
            if refusal.code != failures.SESSION_NOT_FOUND:
                raise
            raise _no_session(self.place, "two requests of one session reached two servers") from None
        if found != [[self.database]]:
            raise _no_session(self.place, "unqualified names would belong to another database")
        self.end()
        self.fence, self.fence_seconds = fence, seconds

    def _prove_parameters(self, absent: Mapping[str, str | int]) -> None:
        """Proves that the server is told of both parameters: it must refuse a session that nobody opened, and a time-out that is no number."""
        for named, sent, code in (
            ("session_id or session_check", absent, failures.SESSION_NOT_FOUND),
            ("session_timeout", {**absent, "session_timeout": "none"}, failures.BAD_SESSION_TIMEOUT),
        ):
            try:
                self.transport.read("SELECT 1", self._always | dict(sent))
            except failures.Refusal as refusal:
                if refusal.code == code:
                    continue
                if refusal.code != failures.SESSION_NOT_FOUND:
                    raise
            raise _no_session(self.place, f"{named} does not reach it")

    def end(self) -> None:
        """Leaves the HTTP session; the server forgets it by itself."""
        self.fence = None
        self.overridden.clear()
        self._prepared.clear()

    def touch(self) -> None:
        """Uses the HTTP session, so that the server keeps it.

        Raises:
            failures.Refusal, failures.Lost.
        """
        self.transport.write(b"SELECT 1", urlencode(self._always | self._in_session), f"{self.prefix}touch")

    def execute(self, body: bytes, query_id: str, settings: Mapping[str, str | int] | None = None) -> None:
        """Executes one statement as the run.

        Args:
            body: the statement, byte for byte.
            query_id: how `system.processes` shows it.

        Raises:
            failures.Refusal, failures.Lost.
        """
        key = tuple((settings or {}).items())
        parameters = self._prepared.get(key)
        if parameters is None:
            parameters = self._prepared[key] = self._parameters(settings or {})
        # goose can send nothing at all; the server must be the one that refuses it
        self.transport.write(body or b" ", parameters, query_id)
        self._note_settings(body)

    def _parameters(self, settings: Mapping[str, str | int]) -> str:
        given = {key: value for key, value in STATEMENT_SETTINGS.items() if key not in self.overridden}
        sent = self._known({**given, **self.settings, **settings})
        return urlencode(self._always | sent | self._in_session if self.fence else self._beside(sent))

    @property
    def _in_session(self) -> dict[str, str | int]:
        return {"session_id": self.fence or "", "session_timeout": self.fence_seconds, "session_check": 1}

    def _note_settings(self, body: bytes) -> None:
        """Notes which settings a file's own SET changes, so that they aren't overridden by those sent with each statement."""
        if body[:200].lstrip()[:3].upper() == b"SET" and (found := _SET.match(body.decode("utf-8", "replace"))):
            self.overridden.update(name for name in _ASSIGNMENT.findall(found[1]) if name not in _TRANSPORT)
            self._prepared.clear()

    def _known(self, settings: Mapping[str, str | int]) -> dict[str, str | int]:
        """Leaves out what this server doesn't know or won't have changed; what the user's address names is always sent."""
        ours = {key for key in settings if key in _CHOSEN and key not in self.settings}
        return {key: value for key, value in settings.items() if key not in ours or key in self.changeable}

    # --- stopping -----------------------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """Asks the server to stop every statement of this run; doesn't wait until they have ended.

        Raises:
            failures.Refusal, failures.Lost.
        """
        self.command(f"KILL QUERY WHERE user = currentUser() AND startsWith(query_id, {literal(self.prefix)}) ASYNC")

    def cancel(self) -> None:
        """Does what `kill` does, from signal handlers and other threads: a thread of its own sends it, so that no lock of the pool is taken twice."""

        def send() -> None:
            with contextlib.suppress(failures.Refusal, failures.Lost):
                self.kill()

        sender = threading.Thread(target=send, name="greylag-cancel", daemon=True)
        sender.start()
        sender.join(_CANCEL_SECONDS)

    def running(self, prefix: str) -> list[tuple[str, float]]:
        """Returns the statements that the server works on now, by the beginning of their ids: (id, seconds)."""
        rows = self.rows(
            f"SELECT query_id, elapsed FROM {self.everywhere('system.processes')} WHERE startsWith(query_id, {literal(prefix)})"
        )
        return [(str(row[0]), float(row[1])) for row in rows]

    def everywhere(self, table: str) -> str:
        """Returns a system table of this server, or of every replica where a cluster is configured."""
        return f"clusterAllReplicas({literal(self.cluster)}, {table})" if self.cluster else table

    def close(self) -> None:
        """Closes the connections."""
        self.transport.close()


def connect(address: addresses.ClickHouseAddress, prefix: str, timeout: float) -> Session:
    """Opens the first of the address's hosts that answers, and asks the server for the database's name.

    Args:
        prefix: the beginning of every query id of this run.
        timeout: seconds for one attempt to connect.

    Raises:
        LoginFailed, NotFound, Unavailable, TimedOut, PlanRefused (`no-session`).
    """
    last: errors.GreylagError | None = None
    for (host, port, guess), (_, native) in zip(address.http_ports, address.hosts, strict=True):
        place = f"{host}:{port}"
        transport = Transport(address, host, port, max(1, round(min(timeout, address.dial_timeout))))
        guessed = f"the address names the native port {native}; greylag speaks HTTP and tried {port}" if guess else ""
        opened: Session | None = None
        try:
            opened = _log_in(transport, place, prefix)
            return opened
        except failures.Refusal as refusal:
            raise failures.at_login(refusal, place, guessed, address.username, transport.proxy) from None
        except failures.Lost as lost:
            last = failures.at_login(lost, place, guessed, address.username, transport.proxy)
        finally:
            if opened is None:
                transport.close()
    raise last or errors.UsageError("the address names no host", code="empty-host")


def _log_in(transport: Transport, place: str, prefix: str) -> Session:
    """Asks everything that a session must know in one query: servers differ in what they know, and users in what they may."""
    address = transport.address
    session = Session(transport, place, address.database, dict(address.settings), prefix)
    asked = array(sorted(_CHOSEN | _LIMITS_OF_READING | {_STOPS_READS}))
    version, name, engine, changeable = session.row(
        "SELECT version(), currentDatabase(), (SELECT any(engine) FROM system.databases WHERE name = currentDatabase()),"
        f" (SELECT groupArray(name) FROM system.settings WHERE has({asked}, name) AND NOT readonly)"
    )
    if address.database and name != address.database:
        raise _no_session(place, f'database does not reach it: "{name}" was opened instead of "{address.database}"')
    session.version, session.database, session.database_engine = str(version), str(name), str(engine)
    session.changeable = frozenset(str(item) for item in changeable)
    return session


def _no_session(place: str, why: str) -> errors.PlanRefused:
    return errors.PlanRefused(
        f"something between here and ClickHouse at {place} doesn't pass on all parameters of a request: {why}",
        code="no-session",
        hint="give the server's direct address, or have the proxy or balancer send database, session_id, session_timeout and session_check to one server",
    )


def literal(text: str) -> str:
    """Returns text as a string literal of ClickHouse's SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\0", "\\0")
    return f"'{escaped}'"


def quote(name: str) -> str:
    """Returns a name as a quoted identifier."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def array(items: Iterable[str]) -> str:
    """Returns an array literal of strings."""
    return f"[{', '.join(literal(item) for item in items)}]"
