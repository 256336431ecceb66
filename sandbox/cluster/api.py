"""A client of Kubernetes' HTTP API for the sandbox: JSON in, JSON out, and watches.

The `kubernetes` package would do, but takes a second and 60 MB to import, and the kubelet should start at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from migrator import errors

Object = dict[str, Any]
"""A Kubernetes object, or a list of them, as JSON."""

STRATEGIC_MERGE = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
_TIMEOUT_SECONDS = 30.0


class ApiRefused(errors.Unavailable):
    """The API server answered with an error.

    Attributes:
        status: the HTTP status.
        reason: Kubernetes' word for it (`NotFound`, `AlreadyExists`, `Conflict`, …).
    """

    code = "sandbox-kubernetes"

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"the API server refused: {status} {reason}: {message}")
        self.status = status
        self.reason = reason


@dataclasses.dataclass(frozen=True, slots=True)
class Login:
    """A user's proof of identity: a client certificate or a token."""

    certificate: Path | None = None
    key: Path | None = None
    token: str | None = dataclasses.field(default=None, repr=False)


class Api:
    """A client of one API server as one user. Usable from several threads, each with its own connection.

    Args:
        url: `https://host:port`.
        authority: the CA file that the server's certificate is verified with.
        login: the user.
    """

    def __init__(self, url: str, authority: Path, login: Login) -> None:
        self.url = url
        address = urlsplit(url)
        self.host, self.port = address.hostname or "", address.port or 443
        self._tls = ssl.create_default_context(cafile=authority)
        if login.certificate is not None:
            self._tls.load_cert_chain(login.certificate, login.key)
        self._headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {login.token}"} if login.token else {})
        self._local = threading.local()

    def get(self, path: str, **query: object) -> Object:
        """Reads an object or a list."""
        return self.request("GET", path, query=query)

    def find(self, path: str) -> Object | None:
        """Reads an object; returns None when there is none."""
        try:
            return self.get(path)
        except ApiRefused as refused:
            if refused.status == 404:
                return None
            raise

    def create(self, path: str, body: Mapping[str, Any]) -> Object:
        """Creates an object in the collection at this path."""
        return self.request("POST", path, body)

    def patch(self, path: str, body: Mapping[str, Any], kind: str = STRATEGIC_MERGE) -> Object:
        """Changes an object."""
        return self.request("PATCH", path, body, content_type=kind)

    def delete(self, path: str, body: Mapping[str, Any] | None = None) -> Object:
        """Deletes an object; the body holds DeleteOptions."""
        return self.request("DELETE", path, body)

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, object] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """Sends one request.

        Raises:
            ApiRefused: the server answered with an error.
            Unavailable: it did not answer.
        """
        text = None if body is None else json.dumps(body).encode()
        headers = self._headers | ({"Content-Type": content_type} if body is not None else {})
        try:
            answer = self._exchange(method, _with_query(path, query), text, headers)
            return _decoded(answer.status, answer.read())
        except (OSError, http.client.HTTPException) as problem:
            self._forget()
            raise errors.Unavailable(f"{method} {self.url}{path}: {problem}", code="sandbox-kubernetes") from None

    def _exchange(self, method: str, path: str, text: bytes | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        """Sends the request on this thread's connection. A connection that the server has closed while it was idle is replaced."""
        kept: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
        if kept is not None:
            try:
                kept.request(method, path, text, headers)
                return kept.getresponse()
            except TimeoutError:
                raise
            except (OSError, http.client.RemoteDisconnected):
                kept.close()
        fresh = http.client.HTTPSConnection(self.host, self.port, timeout=_TIMEOUT_SECONDS, context=self._tls)
        self._local.connection = fresh
        fresh.connect()
        fresh.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # headers and body are two writes
        fresh.request(method, path, text, headers)
        return fresh.getresponse()

    def _forget(self) -> None:
        kept: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
        if kept is not None:
            kept.close()
            self._local.connection = None

    def watch(self, path: str, *, version: str, seconds: int, **query: object) -> Iterator[tuple[str, Object]]:
        """Yields the changes of a collection after this resource version: (ADDED, MODIFIED, DELETED or ERROR; the object).

        Ends after the given seconds, or when the server ends it.

        Raises:
            ApiRefused, Unavailable: as for `request`.
        """
        asked = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(seconds), "allowWatchBookmarks": "true"} | query
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=seconds + _TIMEOUT_SECONDS, context=self._tls)
        with contextlib.closing(connection):
            try:
                connection.request("GET", _with_query(path, asked), headers=self._headers)
                answer = connection.getresponse()
                if answer.status != 200:
                    _decoded(answer.status, answer.read())
                while line := answer.readline():
                    event = json.loads(line)
                    yield event["type"], event["object"]
            except (OSError, http.client.HTTPException) as problem:
                raise errors.Unavailable(f"watch of {self.url}{path}: {problem}", code="sandbox-kubernetes") from None


def _with_query(path: str, query: Mapping[str, object] | None) -> str:
    return f"{path}?{urlencode({name: str(value) for name, value in query.items()})}" if query else path


def _decoded(status: int, text: bytes) -> Object:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        found = {"message": text.decode(errors="replace")[:500]}
    body: Object = found if isinstance(found, dict) else {"message": str(found)}
    if status >= 400:
        raise ApiRefused(status, str(body.get("reason", "")), str(body.get("message", "")))
    return body
