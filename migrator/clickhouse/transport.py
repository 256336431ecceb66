"""Requests as they go over the wire: one POST per statement, through the connections of clickhouse-connect's client.

The client opens the connections, logs in and knows the server's settings. Its `command` is not used: it validates, binds and merges anew for
every statement what is the same for all of a run, which costs a fifth of a quick statement's time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

from migrator.clickhouse import failures

_CODE = "X-ClickHouse-Exception-Code"
_SUMMARY = "X-ClickHouse-Summary"
_PROGRESS = "x-clickhouse-progress"

_BUSY = (429, 503, 504)
"""What proxies and full servers answer instead of executing: worth another try where nothing can have been done."""


@dataclass(frozen=True)
class Transport:
    """Sends statements through `client`, an open `clickhouse_connect` client. Threads may share it."""

    client: Any

    def parameters(self, sent: Mapping[str, str | int], database: str = "") -> str:
        """Settings and transport parameters as the part of a URL that `post` takes; runs make it once for all of their statements."""
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
        from urllib3.exceptions import HTTPError

        url = f"{self._url}?{parameters}" + (f"&query_id={quote(query_id)}" if query_id else "")
        try:
            answer = self._request(
                "POST",
                url,
                body=body,
                headers=self._headers_of_reads if reads else self._headers,
                timeout=self.client.timeout,
                retries=self._retries_of_reads if reads else self._retries,
                redirect=False,
            )
        except HTTPError as error:
            raise failures.read(error) from None
        headers = answer.headers
        if not 200 <= answer.status < 300 or _CODE in headers:
            failure = failures.of_answer(answer.status, headers.get(_CODE), answer.data)
            if isinstance(failure, failures.Refusal):
                failure.written_rows = _written_rows(headers.get(_SUMMARY))
            raise failure
        # Progress is sent as headers while the statement runs, and a connection that ends there looks like an empty answer.
        if _SUMMARY not in headers and all(name.lower() == _PROGRESS for name in headers):
            raise failures.Lost("the connection ended within the answer")
        return bytes(answer.data)

    @property
    def _request(self) -> Callable[..., Any]:
        return self.client.http.urlopen  # type: ignore[no-any-return]

    @cached_property
    def _url(self) -> str:
        return self.client.url if "/" in self.client.url.partition("://")[2] else f"{self.client.url}/"

    @cached_property
    def _headers_of_reads(self) -> dict[str, str]:
        host = getattr(self.client, "server_host_name", None)
        return {**self.client.headers, **({"Host": host} if host else {})}

    @cached_property
    def _headers(self) -> dict[str, str]:
        return {**self._headers_of_reads, "X-ClickHouse-Format": "Null"}  # what a statement selects is nobody's to read

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
