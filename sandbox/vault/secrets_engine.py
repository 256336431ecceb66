"""What the sandbox's own secrets server answers: KV v2 at `secret/`, AppRole logins, policies of paths. No sockets (those are `secrets_server`'s).

Statuses and bodies are those of OpenBao (vault.md §2); `tests/sandbox/test_secrets_server.py` asks both. It is as small as the demo allows:
a secret's current version alone is kept, and a token lives until it is revoked, whatever its role says. What it lacks it refuses.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import secrets
import threading
import uuid
from collections.abc import Mapping
from typing import Any

MOUNT = "secret"
_CAPABILITY = {"GET": "read", "LIST": "list", "DELETE": "delete"}
_DENIED = "1 error occurred:\n\t* permission denied\n\n"  # for a token without the right; for an unknown token the text is `permission denied` alone


class Refused(Exception):
    """An answer other than success: an HTTP status and the `errors` of its body."""

    def __init__(self, status: int, *messages: str) -> None:
        super().__init__(status, *messages)
        self.status, self.messages = status, list(messages)


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A request below `/v1/`."""

    method: str
    path: str
    body: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    token: str | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Status and JSON body; None is an empty one."""

    status: int
    body: dict[str, Any] | None = None


@dataclasses.dataclass(slots=True)
class _Role:
    """An AppRole: who may log in, and as what."""

    role_id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))
    secret_ids: set[str] = dataclasses.field(default_factory=set, repr=False)
    policies: tuple[str, ...] = ()


class Engine:
    """The state of the server and its one entry, `answer`. Safe to call from several threads."""

    def __init__(self, root_token: str) -> None:
        self._guard = threading.Lock()
        self._tokens: dict[str, tuple[str, ...]] = {root_token: ("root",)}
        self._policies: dict[str, Mapping[str, frozenset[str]]] = {}
        self._roles: dict[str, _Role] = {}
        self._secrets: dict[str, dict[str, Any]] = {}

    def answer(self, request: Request) -> Answer:
        """Answers one request; never raises on a client's mistake."""
        with self._guard:
            try:
                return self._route(request)
            except Refused as refusal:
                return Answer(refusal.status, {"errors": refusal.messages})

    def _route(self, request: Request) -> Answer:
        match request.method, *request.path.split("/"):
            case "GET", "sys", "health":
                return Answer(200, {"initialized": True, "sealed": False, "standby": False})
            case "POST" | "PUT", "auth", "approle", "login":
                return self._log_in(request.body)
        self._authorize(request)
        match request.method, *request.path.split("/"):
            case "POST" | "PUT", "auth", "token", "revoke-self":
                del self._tokens[request.token or ""]
                return Answer(204)
            case "POST" | "PUT", "auth", "token", "create":
                return self._new_token(tuple(request.body["policies"]), set(request.body) - {"policies"})
            case "POST" | "PUT", "sys", "policies", "acl", name:
                self._policies[name] = parse_policy(str(request.body.get("policy", "")))
                return Answer(204)
            case "POST" | "PUT", "sys", "auth", "approle":
                raise Refused(400, "path is already in use at approle/")
            case method, "auth", "approle", "role", name, *part:
                return self._role(method, name, "/".join(part), request.body)
            case method, mount, "data" | "metadata" as part, *path if mount == MOUNT and path:
                return self._secret(method, part, "/".join(path), request.body)
            case _, "sys" | "auth" | "secret", *_:
                raise Refused(405, f"the sandbox's own secrets server lacks {request.method} {request.path}; OpenBao has it (`make vault`)")
        raise Refused(404, f'no handler for route "{request.path}". route entry not found.')

    def _authorize(self, request: Request) -> None:
        held = self._tokens.get(request.token or "")
        if held is None:
            raise Refused(403, "permission denied")
        own = request.path == "auth/token/revoke-self"  # what the policy `default` allows
        wanted = _CAPABILITY.get(request.method, "update")
        if "root" not in held and not own and wanted not in allowed([self._policies.get(name, {}) for name in held], request.path):
            raise Refused(403, _DENIED)

    def _new_token(self, policies: tuple[str, ...], unknown: set[str], **metadata: str) -> Answer:
        if unknown:
            raise Refused(400, f"the sandbox's own secrets server makes no tokens with {', '.join(sorted(unknown))}; OpenBao does")
        token = f"s.{secrets.token_urlsafe(24)}"
        self._tokens[token] = policies
        told = {"client_token": token, "policies": sorted({*policies, "default"}), "metadata": metadata}
        return _success(auth=told | {"lease_duration": 0, "renewable": False})

    def _role(self, method: str, name: str, part: str, body: Mapping[str, Any]) -> Answer:
        match method, part:
            case "POST" | "PUT", "":
                self._roles.setdefault(name, _Role()).policies = tuple(body["token_policies"])
                return Answer(204)
            case "POST" | "PUT", "secret-id" if name in self._roles:
                secret_id = str(uuid.uuid4())
                self._roles[name].secret_ids.add(secret_id)
                return _success({"secret_id": secret_id})
            case "GET", "role-id" if name in self._roles:
                return _success({"role_id": self._roles[name].role_id})
        raise Refused(404)

    def _log_in(self, body: Mapping[str, Any]) -> Answer:
        for name, role in self._roles.items():
            if body.get("role_id") == role.role_id and body.get("secret_id") in role.secret_ids:
                return self._new_token(role.policies, set(), role_name=name)
        raise Refused(400, "invalid role or secret ID")

    def _secret(self, method: str, part: str, path: str, body: Mapping[str, Any]) -> Answer:
        found = self._secrets.get(path)
        match method, part:
            case "GET", "data":
                if found is None:
                    raise Refused(404)
                return _success(found)
            case "POST" | "PUT", "data":
                if not isinstance(body.get("data"), dict):
                    raise Refused(400, "no data provided")
                metadata = {"version": found["metadata"]["version"] + 1 if found else 1, "created_time": _now()}
                metadata |= {"deletion_time": "", "destroyed": False, "custom_metadata": None}
                self._secrets[path] = {"data": dict(body["data"]), "metadata": metadata}
                return _success(metadata)
            case "DELETE", "metadata":
                self._secrets.pop(path, None)
                return Answer(204)
        raise Refused(405, f"the sandbox's own secrets server lacks {method} of {part}; OpenBao has it (`make vault`)")


def parse_policy(text: str) -> Mapping[str, frozenset[str]]:
    """Reads the rules of a policy in JSON: a path, or the beginning of paths with `*` after it, and the capabilities there.

    Raises:
        Refused: it is anything else that Vault would understand, or would not.
    """
    try:
        rules = {path: frozenset(rule["capabilities"]) for path, rule in json.loads(text)["path"].items()}
    except (ValueError, AttributeError, KeyError, TypeError):
        raise Refused(400, "failed to parse policy: the sandbox's own secrets server reads JSON alone") from None
    for path in rules:
        if "+" in path or "*" in path[:-1]:
            raise Refused(400, f'path "{path}": the sandbox\'s own secrets server knows no wildcard but `*` at the end')
    return rules


def allowed(policies: list[Mapping[str, frozenset[str]]], path: str) -> frozenset[str]:
    """Returns what policies together allow on a path: the rules of the path itself, else of the longest beginning. `deny` beats what is beside it."""
    every = {pattern for rules in policies for pattern in rules}
    matching = [each for each in every if each == path or (each.endswith("*") and path.startswith(each[:-1]))]
    best = max(matching, key=lambda each: (each == path, len(each)), default=None)
    found: frozenset[str] = frozenset().union(*(rules.get(best, frozenset()) for rules in policies if best is not None))
    return frozenset() if "deny" in found else found


def _success(data: Mapping[str, Any] | None = None, *, auth: Mapping[str, Any] | None = None) -> Answer:
    return Answer(200, {"request_id": str(uuid.uuid4()), "lease_id": "", "data": data, "auth": auth, "warnings": None})


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
