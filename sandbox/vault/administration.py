"""What a server with Vault's API can be told by its root token, whichever server it is: secrets, policies, tokens, AppRole."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from migrator import errors

MOUNT = "secret"  # the KV v2 mount of every server here


@dataclasses.dataclass(frozen=True, slots=True)
class RoleCredentials:
    """What a workload logs in with through AppRole."""

    role_id: str
    secret_id: str = dataclasses.field(repr=False)


class NoSuchSecret(errors.NotFound):
    """The path holds nothing."""

    code = "sandbox-secret"


class Administration:
    """What every kind of server can be told over its own API, as root."""

    url: str
    root_token: str
    ca_file: Path | None = None  # what an https address is verified with; None: what the system trusts

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Sends one request below `/v1/` with the root token; returns the answer's JSON, empty for 204.

        Raises:
            NoSuchSecret: 404.
            Unavailable: the server refuses or does not answer; with its errors, never with a body that holds secrets.
        """
        call = urllib.request.Request(
            f"{self.url}/v1/{quote(path)}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": self.root_token, "Content-Type": "application/json"},
        )
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if self.ca_file is not None:
            handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=self.ca_file)))
        opener = urllib.request.build_opener(*handlers)
        try:
            with opener.open(call, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as problem:
            if problem.code == 404:
                raise NoSuchSecret(f"secrets server: nothing at {path}") from None
            told = problem.read().decode(errors="replace").strip()
            raise errors.Unavailable(f"secrets server: {method} {path}: {problem.code} {told}", code="sandbox-server") from None
        except (OSError, http.client.HTTPException) as problem:
            raise errors.Unavailable(f"secrets server at {self.url} does not answer: {problem}", code="sandbox-server") from None
        return json.loads(text) if text else {}

    def read_secret(self, path: str, mount: str = MOUNT) -> dict[str, Any] | None:
        """Reads the current version of a KV v2 secret; None where there is none, or it was deleted."""
        try:
            data = self.request("GET", f"{mount}/data/{path}")["data"]["data"]
        except NoSuchSecret:
            return None
        return None if data is None else dict(data)

    def write_secret(self, path: str, data: Mapping[str, Any], mount: str = MOUNT) -> int:
        """Writes a new version of a KV v2 secret; returns its number."""
        return int(self.request("POST", f"{mount}/data/{path}", {"data": dict(data)})["data"]["version"])

    def create_policy(self, name: str, rules: Mapping[str, list[str]]) -> None:
        """Writes a policy of path patterns and their capabilities."""
        text = json.dumps({"path": {path: {"capabilities": allowed} for path, allowed in rules.items()}})
        self.request("PUT", f"sys/policies/acl/{name}", {"policy": text})

    def create_token(self, policy: str, **options: Any) -> str:
        """Makes a token with this policy; options are those of `auth/token/create` (`ttl`, `num_uses`, …)."""
        return str(self.request("POST", "auth/token/create", {"policies": [policy], **options})["auth"]["client_token"])

    def create_role(self, name: str, policy: str, **options: Any) -> RoleCredentials:
        """Makes an AppRole with this policy and one secret id; options are the role's (`token_ttl`, `secret_id_num_uses`, …)."""
        with contextlib.suppress(errors.Unavailable):  # answers 400 where the method is enabled already
            self.request("POST", "sys/auth/approle", {"type": "approle"})
        role = f"auth/approle/role/{name}"
        self.request("POST", role, {"token_policies": [policy], **options})
        secret_id = self.request("POST", f"{role}/secret-id", {})["data"]["secret_id"]
        return RoleCredentials(self.request("GET", f"{role}/role-id")["data"]["role_id"], secret_id)

    def healthy(self) -> bool:
        """Tells whether the server answers and is not sealed."""
        with contextlib.suppress(errors.Unavailable):
            return bool(self.request("GET", "sys/health"))
        return False
