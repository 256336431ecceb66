"""The one way to a server: each read and each write of the engine is one POST over it, and what counts as an answer is decided here alone.

`connections` opens them over plain TCP, urllib3 with TLS and through a proxy that the address names; what is said over them is `exchange`'s. An answer
counts if it is proved whole; else the request is *lost* (`failures.Lost`), and what became of it is looked up where that matters:

- Its head told where its body ends, and the body came to that end (`exchange`). A proxy that completes a head which broke off passes this test.
- So it names this request's query id, behind everything that can refuse, and sums up what was read and written (clickhouse.md §1). Where the first
  answer of all doesn't, because something on the way drops such headers, the later ones need not, either.
- Rows come as one JSON document, which is none if anything of it is missing: an empty answer is not a table without rows.

A proved answer that is no success is a `failures.Refusal` where ClickHouse gave it, and lost where somebody in between did.

A read is sent again after a broken connection; a write only if the connection couldn't be made.
"""

from __future__ import annotations

import base64
import json
import secrets
import socket
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from migrator.address import addresses
from migrator.clickhouse import connections, exchange, failures

_CODE = "x-clickhouse-exception-code"
_SUMMARY = "x-clickhouse-summary"
_QUERY_ID = "x-clickhouse-query-id"

_BUSY = (429, 503, 504)
"""What proxies and full servers answer instead of executing: worth another try of a read."""

_PAUSES = (0.0, 0.2)
"""Seconds before a read is sent for the second and for the third time."""

_SILENCE_SECONDS = 24 * 3600
"""A statement may be silent this long: progress is not sent while a mutation is awaited. A dead peer is found by TCP's own probes."""

_PROBES = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 30, "TCP_KEEPCNT": 3}
"""Seconds of silence before TCP asks whether the peer is there, seconds between two questions, and how many may stay unanswered."""


@dataclass
class Transport:
    """Sends statements to one HTTP port of an address. Threads may share it: each request has a connection to itself.

    Args:
        host, port: one of `address.http_ports`.
        timeout: seconds for connecting.
    """

    address: addresses.ClickHouseAddress
    host: str
    port: int
    timeout: float
    _idle: deque[Any] = field(
        default_factory=deque, init=False, repr=False
    )  # open connections; without a lock, on which a signal's handler could block for ever
    _closed: bool = field(default=False, init=False, repr=False)
    _told: frozenset[str] | None = field(
        default=None, init=False, repr=False
    )  # the proving headers of the first answer, once there was one

    @property
    def proxy(self) -> str:
        """Returns host and port of the proxy that the address names, without its user and password; nothing where it names none."""
        return urlsplit(self.address.http_proxy).netloc.rpartition("@")[2]

    @property
    def native(self) -> bool:
        """Tells whether goose would speak the native protocol to this address."""
        return self.address.scheme not in ("http", "https")

    def read(self, sql: str, parameters: Mapping[str, str | int]) -> list[list[Any]]:
        """Sends a query that changes nothing; its rows. Text that isn't UTF-8 comes with lone surrogates.

        Raises:
            failures.Refusal: the server did not do it, or did not finish.
            failures.Lost: no answer came that is proved whole.
        """
        body = f"{sql}\nFORMAT JSONCompactColumns".encode("utf-8", "surrogateescape")
        encoded = urlencode(parameters)
        for pause in (*_PAUSES, None):
            try:
                return self._read(body, encoded)
            except failures.Lost as lost:
                if pause is None or lost.reason == failures.TIMED_OUT or lost.status not in (0, *_BUSY):
                    raise
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def write(self, body: bytes, parameters: str, query_id: str = "") -> None:
        """Sends one statement, byte for byte; what it selects is nobody's to read.

        Args:
            parameters: settings and HTTP's own, encoded: a run makes them once for all of its statements.
            query_id: how the server is to call it.

        Raises:
            failures.Refusal: the server did not do it, or did not finish.
            failures.Lost: no answer came that is proved whole.
        """
        query_id = query_id or secrets.token_hex(16)
        try:
            answer = self._post(body, parameters, query_id, self._rest_of_write)
        except failures.Lost as lost:
            if lost.sent:
                raise
            answer = self._post(body, parameters, query_id, self._rest_of_write)
        if not answer.measured or not self._tells(answer, query_id, self._told or frozenset()):
            raise self._lost("the connection ended within the answer, or it is another request's")

    def close(self) -> None:
        """Closes the connections; those in use, when they are given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    # --- answers ------------------------------------------------------------------------------------------------------------------

    def _read(self, body: bytes, parameters: str) -> list[list[Any]]:
        query_id = secrets.token_hex(16)
        answer = self._post(body, parameters, query_id, self._rest_of_read)
        try:
            columns = json.loads(answer.body.decode("utf-8", "surrogateescape"))
            rows = [list(row) for row in zip(*columns, strict=True)]
        except (ValueError, TypeError):
            raise self._lost("the connection ended within the answer, or it is none of ClickHouse's") from None
        if self._told is None:
            self._told = frozenset(name for name in (_SUMMARY, _QUERY_ID) if self._tells(answer, query_id, {name}))
        elif not self._tells(answer, query_id, self._told):
            raise self._lost("the answer is another request's")
        return rows

    @staticmethod
    def _tells(answer: exchange.Answer, query_id: str, names: frozenset[str] | set[str]) -> bool:
        """Tells whether the named headers prove that the answer is this request's."""
        return all(answer.headers.get(_QUERY_ID) == query_id if name == _QUERY_ID else name in answer.headers for name in names)

    def _require_success(self, answer: exchange.Answer) -> None:
        if 200 <= answer.status < 300 and _CODE not in answer.headers:
            return
        failure = failures.of_answer(answer.status, answer.headers.get(_CODE), answer.body, self.proxy)
        if isinstance(failure, failures.Refusal):
            failure.written_rows = _written_rows(answer.headers.get(_SUMMARY))
            failure.native = self.native
        raise failure

    def _lost(self, reason: str) -> failures.Lost:
        return failures.Lost(reason, proxy=self.proxy)

    # --- connections --------------------------------------------------------------------------------------------------------------

    def _post(self, body: bytes, parameters: str, query_id: str, rest_of_head: str) -> exchange.Answer:
        """Makes one exchange. Raises failures.Refusal, failures.Lost for an answer that is no success."""
        connection = self._connection()
        keep = False
        try:
            exchange.send(
                connection.sock, f"POST {self._target}?{parameters}&query_id={quote(query_id)}{rest_of_head}".encode("latin-1"), body
            )
            answer = exchange.receive(connection.sock)
            keep = answer.reusable and not self._closed
        except OSError as error:
            raise failures.of_connection(error, self.proxy) from None
        finally:
            if keep:
                self._idle.append(connection)
            else:  # also after a signal: what still comes belongs to a statement that was given up
                connection.close()
        self._require_success(answer)
        return answer

    def _connection(self) -> Any:
        """Returns an open connection that nobody else uses. Raises failures.Lost, with `sent` False."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if connection.is_connected:  # the server has not closed it meanwhile
                return connection
            connection.close()
        return self._connect()

    def _connect(self) -> Any:
        try:
            connection = self._new_connection()
            connection.connect()
        except Exception as error:
            if isinstance(error, (OSError, ValueError)) or _is_of_http(error):  # ValueError: urllib3's for a certificate of another name
                raise failures.of_connection(error, self.proxy, sent=False) from None
            raise
        connection.sock.settimeout(_SILENCE_SECONDS)
        return connection

    def _new_connection(self) -> Any:
        """Returns a connection that is still to be opened: to the server, to the proxy that forwards to it, or through one that tunnels."""
        probes = [(socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in _PROBES.items() if hasattr(socket, name)]
        options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), *probes]
        common: dict[str, Any] = {"timeout": self.timeout, "socket_options": options}
        if not self.address.http_proxy and not self._secure:
            return connections.PlainConnection(self.host, self.port, **common)
        from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
        from urllib3.util import parse_url

        if not self.address.http_proxy:
            return HTTPSConnection(self.host, self.port, **common, **self._tls)
        proxy = parse_url(self.address.http_proxy)
        host, port = proxy.host or "", proxy.port or (443 if proxy.scheme == "https" else 80)
        if not self._secure:
            return (HTTPSConnection if proxy.scheme == "https" else HTTPConnection)(host, port, **common)
        tunnel = HTTPSConnection(host, port, proxy=proxy, proxy_config=ProxyConfig(None, False, None, None), **common, **self._tls)
        tunnel.set_tunnel(self.host, self.port, headers=self._login_of_proxy, scheme=proxy.scheme or "http")
        return tunnel

    @property
    def _secure(self) -> bool:
        return self.address.secure or self.port == 8443

    @property
    def _tls(self) -> dict[str, Any]:
        address = self.address
        options: dict[str, Any] = {"cert_reqs": "CERT_NONE" if address.skip_verify else "CERT_REQUIRED"}
        if address.ca:
            options["ca_certs"] = address.ca
        if address.server_name:
            options["server_hostname"] = address.server_name
            if not address.skip_verify:
                options["assert_hostname"] = address.server_name
        return options

    # --- heads --------------------------------------------------------------------------------------------------------------------

    @cached_property
    def _authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @cached_property
    def _target(self) -> str:
        """Returns the path, or the whole URL for a proxy that forwards plain HTTP (RFC 9112 §3.2.2)."""
        path = quote("/" + self.address.http_path.lstrip("/"), safe="/%:@!$&'()*+,;=~")
        return f"http://{self._authority}{path}" if self.address.http_proxy and not self._secure else path

    @cached_property
    def _rest_of_read(self) -> str:
        return exchange.rest_of_head(self._headers)

    @cached_property
    def _rest_of_write(self) -> str:
        return exchange.rest_of_head({**self._headers, "X-ClickHouse-Format": "Null"})

    @cached_property
    def _headers(self) -> dict[str, str]:
        forwarded = self._login_of_proxy if not self._secure else {}
        return {
            "Host": self.address.server_name or self._authority,
            "Accept-Encoding": "identity",
            "User-Agent": "greylag",
            "Authorization": _basic(self.address.username, self.address.password),
            **forwarded,
        }

    @property
    def _login_of_proxy(self) -> dict[str, str]:
        url = urlsplit(self.address.http_proxy)
        return {"Proxy-Authorization": _basic(unquote(url.username), unquote(url.password or ""))} if url.username else {}


def _is_of_http(error: Exception) -> bool:
    """Tells whether it is one of urllib3's or of http.client's: they can only come where both are imported."""
    from http.client import HTTPException

    from urllib3.exceptions import HTTPError

    return isinstance(error, (HTTPError, HTTPException))


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode("utf-8", "surrogateescape")).decode()


def _written_rows(summary: str | None) -> int | None:
    """Returns how many rows a failed INSERT had written, which the server tells only in a header; None without it."""
    try:
        return int(json.loads(summary or "{}").get("written_rows"))
    except (TypeError, ValueError):
        return None
