"""One ClickHouse server over HTTP: reading, commands, statements of migrations, cancelling.

Three kinds of request, because each needs other settings:

- `rows` reads. It sends no settings of its own, so that a read-only user (code 164 for any setting) can look.
- `command` is greylag's own writing beside the run: lock, heartbeat.
- `execute` is everything that the run does under the lock: the file's statements and the history rows. It goes through **one HTTP session**, as goose
  uses one pooled connection: `SET`, `USE` and temporary tables of a file last. The session is also the fence of the lock (see `lock`).

Statements travel as raw bytes in the body, never in the URL: ENVSUB's values don't reach access logs, no placeholder is filled in by a
client (`%s`, `{x:Type}`, `?` mean what they mean to the server), and INSERT brings its data along, in any format, as it does for goose.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from migrator import errors
from migrator.address import addresses
from migrator.clickhouse import failures
from migrator.clickhouse.transport import Transport

STATEMENT_SETTINGS: Mapping[str, str] = {
    "async_insert": "0",  # on by default from 26.3: a row that is not written yet must not count as written
    "mutations_sync": "2",  # a statement has ended when its mutation has, on every replica
    "alter_sync": "2",
    "wait_end_of_query": "1",  # the status line is the verdict, not the beginning of an answer
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

_CANCEL_SECONDS = 5.0
"""How long a cancel may take; it runs in signal handlers and must not hang there."""

_SILENCE_SECONDS = 24 * 3600
"""A statement may be silent this long: progress is not sent while a mutation is awaited. A dead peer is found by TCP's own probes."""

_SET = re.compile(r"\s*SET\s+(?!ROLE\b|DEFAULT\b|TRANSACTION\b)(.*)", re.IGNORECASE | re.DOTALL)
_ASSIGNMENT = re.compile(r"(?:\A|,)\s*`?(\w+)`?\s*=")


@dataclass
class Session:
    """An open client; `fence` is the id of the HTTP session once the run has begun one. Threads may use `rows`, `command` and `cancel`."""

    client: Any = field(repr=False)
    place: str
    database: str
    settings: dict[str, str | int]
    prefix: str
    fence: str | None = None
    fence_seconds: int = 0
    overridden: set[str] = field(default_factory=set)
    cluster: str = ""
    database_engine: str = ""
    native: bool = False  # goose would speak the native protocol to this address
    proxy: str = ""  # host:port of the proxy that the address names

    def __post_init__(self) -> None:
        self._transport = Transport(self.client, native=self.native, proxy=self.proxy)
        self._prepared: dict[tuple[tuple[str, str | int], ...], str] = {}
        """By the settings of a statement: the URL's part that is the same for all that have them."""

    @property
    def version(self) -> str:
        """The server's version."""
        return str(self.client.server_version)

    # --- reading and writing beside the run ---------------------------------------------------------------------------------------

    def rows(self, sql: str, settings: Mapping[str, str | int] | None = None) -> list[list[Any]]:
        """Rows of a query. Text that isn't UTF-8 comes with lone surrogates.

        Raises:
            failures.Refusal, failures.Lost.
        """
        sent: dict[str, str | int] = {"wait_end_of_query": 1, **(settings or {})}
        parameters = self._transport.parameters(sent, self.database)
        body = self._transport.post(f"{sql}\nFORMAT JSONCompactEachRow".encode("utf-8", "surrogateescape"), parameters, reads=True)
        return [json.loads(line) for line in body.decode("utf-8", "surrogateescape").splitlines() if line]

    def command(self, sql: str | bytes, settings: Mapping[str, str | int] | None = None) -> None:
        """A writing command of greylag's own, outside of the run's HTTP session.

        Raises:
            failures.Refusal, failures.Lost.
        """
        body = sql.encode("utf-8", "surrogateescape") if isinstance(sql, str) else sql
        sent = self._known({**self.settings, **STATEMENT_SETTINGS, **(settings or {})})
        self._transport.post(body, self._transport.parameters(sent, self.database))

    # --- the run ------------------------------------------------------------------------------------------------------------------

    def begin(self, fence: str, seconds: int) -> None:
        """Opens the run's HTTP session; from now on the server refuses its statements once it stood idle for `seconds`."""
        self.end()
        use = f"USE {quote(self.database)}".encode()
        sent: dict[str, str | int] = {"session_id": fence, "session_timeout": seconds}
        self._transport.post(use, self._transport.parameters(sent), query_id=f"{self.prefix}begin")
        self.fence, self.fence_seconds = fence, seconds

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
        self._transport.post(b"SELECT 1", self._transport.parameters(self._in_session), query_id=f"{self.prefix}touch")

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
        self._transport.post_in_turn(body or b" ", parameters, query_id)
        self._note_settings(body)

    def _parameters(self, settings: Mapping[str, str | int]) -> str:
        given = {key: value for key, value in STATEMENT_SETTINGS.items() if key not in self.overridden}
        sent = self._known({**given, **self.settings, **settings})
        if self.fence:
            return self._transport.parameters(sent | self._in_session)
        return self._transport.parameters(sent, self.database)

    @property
    def _in_session(self) -> dict[str, str | int]:
        return {"session_id": self.fence or "", "session_timeout": self.fence_seconds, "session_check": 1}

    def _note_settings(self, body: bytes) -> None:
        """A file's own SET must win over what is sent with each statement."""
        if body[:200].lstrip()[:3].upper() == b"SET" and (found := _SET.match(body.decode("utf-8", "replace"))):
            self.overridden.update(name for name in _ASSIGNMENT.findall(found[1]) if name not in _TRANSPORT)
            self._prepared.clear()

    def _known(self, settings: Mapping[str, str | int]) -> dict[str, str | int]:
        """Leaves out what this server doesn't know or won't have changed; what the user's address names is always sent."""
        known = self.client.server_settings
        ours = [key for key in settings if key in _CHOSEN and key not in self.settings]
        unwanted = {key for key in ours if key not in known or known[key].readonly}
        return {key: value for key, value in settings.items() if key not in unwanted}

    # --- stopping -----------------------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """Asks the server to stop every statement of this run; doesn't wait until they have ended.

        Raises:
            failures.Refusal, failures.Lost.
        """
        self.command(f"KILL QUERY WHERE user = currentUser() AND startsWith(query_id, {literal(self.prefix)}) ASYNC")

    def cancel(self) -> None:
        """As `kill`, from signal handlers and other threads: a thread of its own sends it, so that no lock of the pool is taken twice."""

        def send() -> None:
            with contextlib.suppress(failures.Refusal, failures.Lost):
                self.kill()

        sender = threading.Thread(target=send, name="greylag-cancel", daemon=True)
        sender.start()
        sender.join(_CANCEL_SECONDS)

    def running(self, prefix: str) -> list[tuple[str, float]]:
        """Statements that the server works on now, by the beginning of their ids: (id, seconds)."""
        rows = self.rows(
            f"SELECT query_id, elapsed FROM {self.everywhere('system.processes')} WHERE startsWith(query_id, {literal(prefix)})"
        )
        return [(str(row[0]), float(row[1])) for row in rows]

    def everywhere(self, table: str) -> str:
        """A system table of this server, or of every replica where a cluster is configured."""
        return f"clusterAllReplicas({literal(self.cluster)}, {table})" if self.cluster else table

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()
        self.client.close_connections()
        self.client.close()


def connect(address: addresses.ClickHouseAddress, prefix: str, timeout: float) -> Session:
    """Opens the first of the address's hosts that answers, and asks the server for the database's name.

    Args:
        prefix: the beginning of every query id of this run.
        timeout: seconds for one attempt to connect.

    Raises:
        LoginFailed, NotFound, Unavailable, TimedOut.
    """
    last: errors.GreylagError | None = None
    for (host, port, guess), (_, native) in zip(address.http_ports, address.hosts, strict=True):
        place = f"{host}:{port}"
        guessed = f"the address names the native port {native}; greylag speaks HTTP and tried {port}" if guess else ""
        try:
            return _open(address, host, port, place, prefix, timeout)
        except failures.Refusal as refusal:
            raise failures.at_login(refusal, place, guessed, address.username, _proxy_place(address)) from None
        except failures.Lost as lost:
            last = failures.at_login(lost, place, guessed, address.username, _proxy_place(address))
    raise last or errors.UsageError("the address names no host", code="empty-host")


def _open(address: addresses.ClickHouseAddress, host: str, port: int, place: str, prefix: str, timeout: float) -> Session:
    import clickhouse_connect
    from clickhouse_connect import common
    from clickhouse_connect.driver import exceptions, httputil

    # The driver warns of every broken connection; without a handler those lines would go to stderr, past goose's own.
    logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())
    common.set_setting("use_protocol_version", False)  # saves one request; only the Native format needs it
    common.set_setting("max_error_size", 16384)  # a message is masked and shown as a whole
    secure = address.secure or port == 8443
    interface = "https" if secure else "http"
    try:
        client = clickhouse_connect.get_client(
            interface=interface,
            host=host,
            port=port,
            username=address.username,
            password=address.password,
            database=address.database or "__default__",
            connect_timeout=max(1, round(min(timeout, address.dial_timeout))),
            send_receive_timeout=_SILENCE_SECONDS,
            compress=False,
            autogenerate_session_id=False,
            autogenerate_query_id=False,
            client_name="greylag",
            show_clickhouse_errors="scrub",
            proxy_path=address.http_path,
            pool_mgr=httputil.get_pool_manager(**_pool_options(address, secure)),
            **({"server_host_name": address.server_name} if address.server_name else {}),
        )
        # What clickhouse-connect sets for itself would change what a file's literals mean; goose sends neither.
        for name in ("date_time_input_format", "cast_string_to_dynamic_use_inference"):
            client.params.pop(name, None)
        native = address.scheme not in ("http", "https")
        session = Session(client, place, address.database, dict(address.settings), prefix, native=native, proxy=_proxy_place(address))
        name, engine = session.rows("SELECT currentDatabase(), (SELECT engine FROM system.databases WHERE name = currentDatabase())")[0]
        session.database, session.database_engine = str(name), str(engine)
        client.database = session.database
    except exceptions.Error as error:
        raise failures.read(error) from None
    return session


def _pool_options(address: addresses.ClickHouseAddress, secure: bool) -> dict[str, Any]:
    """What `get_client` would give to the pool that it makes itself, but for the environment's proxy: whoever listens at HTTP_PROXY would be
    given the database's password and the SQL. Only a proxy that the address names is used. The pool isn't shared with other users of the library.
    """
    options: dict[str, Any] = {}
    if address.http_proxy:
        options["https_proxy" if secure else "http_proxy"] = address.http_proxy
        url = urlsplit(address.http_proxy)
        if url.username:
            login = f"{unquote(url.username)}:{unquote(url.password or '')}"
            options["proxy_headers"] = {"Proxy-Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    if secure:
        options["verify"] = not address.skip_verify
        if address.ca:
            options["ca_cert"] = address.ca
        if address.server_name:
            options["server_hostname"] = address.server_name
            if not address.skip_verify:
                options["assert_hostname"] = address.server_name
    return options


def _proxy_place(address: addresses.ClickHouseAddress) -> str:
    """Host and port of the proxy that the address names, without its user and password; nothing where it names none."""
    return urlsplit(address.http_proxy).netloc.rpartition("@")[2]


def literal(text: str) -> str:
    """Text as a string literal of ClickHouse's SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\0", "\\0")
    return f"'{escaped}'"


def quote(name: str) -> str:
    """A name as a quoted identifier."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def array(items: Iterable[str]) -> str:
    """An array literal of strings."""
    return f"[{', '.join(literal(item) for item in items)}]"
