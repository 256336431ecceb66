"""The API of the sandbox's Argo CD as whoever holds a token, for tests and for the sandbox itself: JSON in, JSON out, refusals as they come."""

from __future__ import annotations

import dataclasses
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from migrator import errors

Object = dict[str, Any]
_TIMEOUT_SECONDS = 30.0


class ApiRefused(errors.Unavailable):
    """Argo CD answered with an error.

    Attributes:
        status: the HTTP status.
        reason: the gRPC code.
        text: its message.
    """

    code = "sandbox-argocd"

    def __init__(self, status: int, reason: int, text: str) -> None:
        super().__init__(f"Argo CD refused: {status}, code {reason}: {text}")
        self.status, self.reason, self.text = status, reason, text


@dataclasses.dataclass(frozen=True, slots=True)
class Api:
    """A client of one server; without a token it may only log in."""

    url: str
    token: str = dataclasses.field(default="", repr=False)

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: str) -> Object:
        """Sends one request.

        Args:
            method: GET, POST, …
            path: below `/api/v1/`.
            body: sent as JSON.
            query: the query's parameters.

        Raises:
            ApiRefused: the server answered with an error.
            Unavailable: it did not answer.
        """
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.token}"} if self.token else {})
        address = f"{self.url}/api/v1/{path}" + (f"?{urlencode(query)}" if query else "")
        text = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(address, data=text, headers=headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(asked, timeout=_TIMEOUT_SECONDS) as answer:
                found: Object = json.loads(answer.read() or b"{}")
                return found
        except urllib.error.HTTPError as refused:
            said = refused.read().decode(errors="replace")
            try:
                told = json.loads(said)
            except ValueError:
                told = {"message": said[:500]}
            raise ApiRefused(refused.code, int(told.get("code", 0)), str(told.get("message", ""))) from None
        except OSError as problem:
            raise errors.Unavailable(f"Argo CD at {self.url} does not answer: {problem}", code="sandbox-argocd") from None
