"""Statements as they go over the wire: one POST each, through the connections of clickhouse-connect's client.

The client opens connections (TLS, proxies), logs in and knows the server's settings. Its `command` is not used: it validates, binds and merges
anew for every statement what is the same for all of a run. `post` goes through urllib3. `post_in_turn` keeps one of urllib3's connections and
uses it without further layers (see `exchange`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from migrator.clickhouse import exchange, failures

_CODE = "x-clickhouse-exception-code"
_SUMMARY = "x-clickhouse-summary"
_PROGRESS = "x-clickhouse-progress"

_BUSY = (429, 503, 504)
"""What proxies and full servers answer instead of executing: worth another try where nothing can have been done."""


@dataclass
class Transport:
    """Sends statements through `client`, an open `clickhouse_connect` client. Threads may share `post`; `post_in_turn` has one user at a time.
    `native`: goose would speak the native protocol to this address; `proxy`: where the proxy is that the connections go through."""

    client: Any
    native: bool = False
    proxy: str = ""
    _connection: Any = field(default=None, init=False, repr=False)  # the one of `post_in_turn`, once it is open

    def parameters(self, sent: Mapping[str, str | int], database: str = "") -> str:
        """Settings and transport parameters as the query part of a URL; runs make it once for all of their statements."""
        given = dict(self.client.params) | ({"database": database} if database else {})
        return urlencode(given | dict(sent))

    def post(self, body: bytes, parameters: str, *, query_id: str = "", reads: bool = False) -> bytes:
        """Sends one statement and returns the body of the answer.

        Args:
            body: the statement, byte for byte.
            parameters: from `parameters`.
            query_id: how the server is to call it.
            reads: nothing is changed by it, so that it may be sent again after a broken connection.

        Raises:
            failures.Refusal: the server did not do it, or did not finish.
            failures.Lost: no answer came.
        """
        return self._post(self._pool, body, self._target_of(parameters, query_id), reads)[0]

    def post_in_turn(self, body: bytes, parameters: str, query_id: str) -> None:
        """As `post`, for statements that follow one another and whose answers have no body.

        Through a proxy, each goes by urllib3: it knows what a proxy wants to hear.
        """
        target = self._target_of(parameters, query_id)
        if self._pool.proxy is not None:
            self._post(self._pool, body, target)
        elif self._connection is None or not self._connection.is_connected:
            self._connection = self._post(self._pool_in_turn, body, target)[1]
        else:
            self._exchange(self._connection, body, target)

    def _exchange(self, connection: Any, body: bytes, target: str) -> None:
        keep = False
        try:
            exchange.send(connection.sock, f"POST {target}{self._rest_of_head}".encode("latin-1"), body)
            answer = exchange.receive(connection.sock)
            keep = answer.reusable
        except OSError as error:
            raise failures.read(error, self.proxy) from None
        finally:
            if not keep:  # also after a signal: what still comes belongs to a statement that was given up
                connection.close()
        self._require_success(answer.status, answer.headers, answer.body)

    def _post(self, pool: Any, body: bytes, target: str, reads: bool = False) -> tuple[bytes, Any]:
        """The answer's body, and the connection that it came over."""
        from urllib3.exceptions import HTTPError

        try:
            answer = pool.urlopen(
                "POST",
                target,
                body=body,
                headers=self._headers_of_reads if reads else self._headers,
                timeout=self.client.timeout,
                retries=self._retries_of_reads if reads else self._retries,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
            )
            connection = answer.connection
            content = answer.read()
        except HTTPError as error:
            raise failures.read(error, self.proxy) from None
        self._require_success(answer.status, answer.headers, content)
        return content, connection

    def close(self) -> None:
        """Closes the connection of `post_in_turn`; the client closes the others."""
        if self._connection is not None:
            self._connection.close()

    def _require_success(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Raises failures.Refusal, failures.Lost for an answer that isn't a whole success."""
        if not 200 <= status < 300 or _CODE in headers:
            failure = failures.of_answer(status, headers.get(_CODE), body, self.proxy)
            if isinstance(failure, failures.Refusal):
                failure.written_rows = _written_rows(headers.get(_SUMMARY))
                failure.native = self.native
            raise failure
        # Progress is sent as headers while the statement runs; http.client takes a connection that ends there for an empty answer.
        if _SUMMARY not in headers and all(name.lower() == _PROGRESS for name in headers):
            raise failures.Lost("the connection ended within the answer", proxy=self.proxy)

    @cached_property
    def _pool(self) -> Any:
        return self.client.http.connection_from_url(self.client.url)

    @cached_property
    def _pool_in_turn(self) -> Any:
        """A pool of its own, so that nobody else is given its connection."""
        from urllib3 import PoolManager

        return PoolManager(**self.client.http.connection_pool_kw).connection_from_url(self.client.url)

    @cached_property
    def _target(self) -> str:
        """The path, or the whole URL for a proxy that forwards plain HTTP (RFC 9112 §3.2.2)."""
        url = urlsplit(self.client.url)
        path = url.path or "/"
        return f"{url.scheme}://{url.netloc}{path}" if self._pool.proxy is not None and url.scheme == "http" else path

    def _target_of(self, parameters: str, query_id: str) -> str:
        return f"{self._target}?{parameters}" + (f"&query_id={quote(query_id)}" if query_id else "")

    @cached_property
    def _headers_of_reads(self) -> dict[str, str]:
        host = self.client.server_host_name
        return {**self.client.headers, **({"Host": host} if host else {})}

    @cached_property
    def _headers(self) -> dict[str, str]:
        return {**self._headers_of_reads, "X-ClickHouse-Format": "Null"}  # what a statement selects is nobody's to read

    @cached_property
    def _rest_of_head(self) -> str:
        return exchange.rest_of_head({"Host": urlsplit(self.client.url).netloc, "Accept-Encoding": "identity", **self._headers})

    @cached_property
    def _retries(self) -> Any:
        from urllib3 import Retry

        return Retry(total=1, connect=1, read=False, redirect=False)

    @cached_property
    def _retries_of_reads(self) -> Any:
        from urllib3 import Retry

        return Retry(
            total=2,
            redirect=False,
            allowed_methods=None,
            status_forcelist=_BUSY,
            raise_on_status=False,
            respect_retry_after_header=False,
            backoff_factor=0.1,
        )


def _written_rows(summary: str | None) -> int | None:
    """How many rows a failed INSERT had written; the server tells only in a header."""
    try:
        return int(json.loads(summary or "{}").get("written_rows"))
    except (TypeError, ValueError):
        return None
