"""What a small Vault answers to a request: routing, logins, policies, key-value mounts; no sockets (those are `secrets_server`'s).

Statuses and bodies are OpenBao 2.4's as vault.md §2 records them, so that whatever copes with these copes with a real server.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.vault import vault_kv, vault_policies, vault_tokens
from sandbox.vault.vault_kv import Refused

VERSION = "2.4.0"
_SHARES = {"t": 1, "n": 1, "progress": 0}


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A request below `/v1/`; `method` LIST stands for both of its spellings."""

    method: str
    path: str
    query: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    token: str | None = dataclasses.field(default=None, repr=False)

    @property
    def writes(self) -> bool:
        """POST and PUT mean the same to Vault."""
        return self.method in ("POST", "PUT")


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Status, JSON body (None: empty) and headers beyond the usual ones."""

    status: int
    body: dict[str, Any] | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Engine:
    """The state of the server and its one entry, `answer`. Safe to call from several threads.

    Args:
        root_token: the token that may do everything.
        clock: seconds since the epoch; tests bring their own to let tokens expire.
    """

    def __init__(self, root_token: str, clock: Callable[[], float] = time.time) -> None:
        self._guard = threading.RLock()
        self._clock = clock
        self._tokens = vault_tokens.Tokens(clock, root_token)
        self._roles = vault_tokens.AppRoles(self._tokens)
        self._policies: dict[str, tuple[str, vault_policies.Policy]] = {}
        self._set_policy("default", vault_policies.DEFAULT_POLICY)
        self._mounts: dict[str, vault_kv.Versioned | vault_kv.Plain] = {"secret": vault_kv.Versioned(clock)}
        self._unseal_key = uuid.uuid4().hex
        self.sealed = False

    @property
    def unseal_key(self) -> str:
        """The one share that `sys/unseal` takes."""
        return self._unseal_key

    def answer(self, request: Request) -> Answer:
        """The answer to one request; never raises on a client's mistake."""
        with self._guard:
            try:
                return self._route(request)
            except Refused as refusal:
                return _refusal(refusal)

    def _route(self, request: Request) -> Answer:
        head, _, tail = request.path.partition("/")
        if head == "sys" and tail in ("health", "seal-status", "unseal"):
            return self._seal_state(tail, request)
        if self.sealed:
            raise Refused(503, "Vault is sealed")
        if request.path == "auth/approle/login":
            return _success(auth=self._roles.login(request.body))
        token = self._tokens.use(request.token)
        try:
            self._authorize(token, request)
            if head == "sys":
                return self._system(tail, request)
            if request.path.startswith("auth/token/"):
                return self._token(request.path.removeprefix("auth/token/"), token, request)
            if request.path.startswith("auth/approle/role"):
                return self._approle(request.path.removeprefix("auth/approle/role").strip("/"), request)
            return self._secrets(request)
        finally:
            self._tokens.settle(token)

    def _authorize(self, token: vault_tokens.Token, request: Request) -> None:
        if token.is_root:
            return
        policies = [self._policies[name][1] for name in token.policies if name in self._policies]
        # A rule for listing may be written with or without the slash at the end.
        paths = (request.path, request.path + "/") if request.method == "LIST" else (request.path,)
        allowed = set().union(*(vault_policies.capabilities(policies, path) for path in paths))
        if self._capability(request) not in allowed:
            raise Refused(403, "1 error occurred:\n\t* permission denied\n\n")

    def _capability(self, request: Request) -> str:
        if request.method in ("GET", "HEAD"):
            return "read"
        if request.method in ("LIST", "DELETE", "PATCH"):
            return request.method.lower()
        mount, store, rest = self._mount(request.path)
        if store is not None and mount is not None:
            secret = rest.partition("/")[2] if isinstance(store, vault_kv.Versioned) else rest
            return "update" if store.exists(secret) or not _creates(store, rest) else "create"
        if request.path.startswith("auth/approle/role/"):
            return "update" if self._roles.exists(request.path.split("/")[3]) else "create"
        return "update"

    def _mount(self, path: str) -> tuple[str | None, vault_kv.Versioned | vault_kv.Plain | None, str]:
        for name, store in self._mounts.items():
            if path == name or path.startswith(name + "/"):
                return name, store, path[len(name) + 1 :]
        return None, None, path

    def _seal_state(self, what: str, request: Request) -> Answer:
        if what == "unseal":
            self.sealed = self.sealed and request.body.get("key") != self._unseal_key
        if what == "health":
            state = {"initialized": True, "sealed": self.sealed, "standby": self.sealed, "version": VERSION}
            return Answer(503 if self.sealed else 200, state | {"server_time_utc": int(self._clock())})
        state = {"type": "shamir", "initialized": True, "sealed": self.sealed, "version": VERSION}
        return Answer(200, state | _SHARES)

    def _system(self, what: str, request: Request) -> Answer:
        head, _, name = what.partition("/")
        if head == "seal" and request.writes:
            self.sealed = True
            return Answer(204)
        if head == "mounts":
            return self._mount_table(name, request)
        if head == "auth":
            if name.strip("/") == "approle" and request.writes:
                raise Refused(400, "path is already in use at approle/")
            return _success({"approle/": {"type": "approle"}, "token/": {"type": "token"}})
        if what.startswith("policies/acl"):
            return self._policy(what.removeprefix("policies/acl").strip("/"), request, "policy")
        if head == "policy":
            return self._policy(name, request, "rules")
        raise Refused(404, f"no handler for route {_quoted('sys/' + what)}. route entry not found.")

    def _mount_table(self, name: str, request: Request) -> Answer:
        name = name.strip("/")
        if not name:
            listed = {f"{path}/": {"type": "kv", "options": {"version": str(each.version)}} for path, each in self._mounts.items()}
            return _success(listed)
        if request.method == "DELETE":
            self._mounts.pop(name, None)
            return Answer(204)
        if name in self._mounts:
            raise Refused(400, f"path is already in use at {name}/")
        kind, options = request.body.get("type"), request.body.get("options") or {}
        if kind not in ("kv", "kv-v2"):
            raise Refused(400, f"plugin not found in the catalog: {kind}")
        second = kind == "kv-v2" or str(options.get("version", "1")) == "2"
        self._mounts[name] = vault_kv.Versioned(self._clock) if second else vault_kv.Plain()
        return Answer(204)

    def _policy(self, name: str, request: Request, key: str) -> Answer:
        if request.method == "LIST" or not name:
            names = [*sorted(self._policies), "root"]
            return _success({"keys": names, "policies": names})
        if request.writes:
            try:
                self._set_policy(name, str(request.body.get("policy", "")))
            except vault_policies.BadPolicy as problem:
                raise Refused(400, str(problem)) from None
            return Answer(204)
        if request.method == "DELETE":
            self._policies.pop(name, None)
            return Answer(204)
        if name not in self._policies:
            raise Refused(404)
        return _success({"name": name, key: self._policies[name][0]})

    def _set_policy(self, name: str, text: str) -> None:
        self._policies[name] = (text, vault_policies.parse(text))

    def _token(self, what: str, token: vault_tokens.Token, request: Request) -> Answer:
        if what == "lookup-self":
            return _success(self._tokens.lookup(token))
        if what == "lookup":
            return _success(self._tokens.lookup(self._tokens.find(str(request.body.get("token")))))
        if what == "renew-self":
            return _success(auth=self._tokens.renew(token, vault_tokens.seconds(request.body.get("increment"))))
        if what == "revoke-self":
            self._tokens.revoke(token.id)
            return Answer(204)
        if what == "revoke":
            self._tokens.revoke(str(request.body.get("token")))
            return Answer(204)
        if what in ("create", "create-orphan"):
            orphan = {"no_parent": True} if what == "create-orphan" else {}
            return _success(auth=self._tokens.create(token, dict(request.body) | orphan))
        raise Refused(404, "unsupported path")

    def _approle(self, what: str, request: Request) -> Answer:
        name, _, part = what.partition("/")
        if not part:
            if request.writes:
                self._roles.write(name, request.body)
                return Answer(204)
            if request.method == "DELETE":
                self._roles.forget(name)
                return Answer(204)
            return _success(dict(self._roles.role(name).options))
        if part == "role-id":
            if request.writes:
                self._roles.role(name).role_id = str(request.body.get("role_id"))
                return Answer(204)
            return _success({"role_id": self._roles.role(name).role_id})
        if part in ("secret-id", "custom-secret-id") and request.writes:
            wanted = str(request.body["secret_id"]) if part == "custom-secret-id" else None
            return _success(self._roles.new_secret_id(name, wanted))
        raise Refused(404, "unsupported path")

    def _secrets(self, request: Request) -> Answer:
        name, store, rest = self._mount(request.path)
        if store is None or name is None:
            raise Refused(404, f"no handler for route {_quoted(request.path)}. route entry not found.")
        if isinstance(store, vault_kv.Versioned):
            return _versioned(store, rest, request)
        return _plain(store, rest, request)


def _versioned(store: vault_kv.Versioned, rest: str, request: Request) -> Answer:
    part, _, path = rest.partition("/")
    method, body = request.method, request.body
    if part == "config":
        store.config.update(body)
        return Answer(204) if request.writes else _success(dict(store.config))
    if part == "data" and path:
        if request.writes:
            return _success(store.write(path, body))
        if method == "PATCH":
            return _success(store.patch(path, body))
        if method == "DELETE":
            store.delete(path)
            return Answer(204)
        return _success(store.read(path, int(request.query.get("version") or 0)))
    if part in ("delete", "undelete", "destroy") and path and request.writes:
        getattr(store, part)(path, body.get("versions") or [])
        return Answer(204)
    if part == "metadata":
        if method == "LIST":
            return _success({"keys": store.keys(path)})
        if request.writes:
            store.write_metadata(path, body)
            return Answer(204)
        if method == "DELETE":
            store.forget(path)
            return Answer(204)
        return _success(store.metadata(path))
    raise Refused(404, warnings=(vault_kv.WRONG_V1_PATH,))


def _plain(store: vault_kv.Plain, path: str, request: Request) -> Answer:
    if request.method == "LIST":
        return _success({"keys": store.keys(path)})
    if request.writes:
        store.write(path, request.body)
        return Answer(204)
    if request.method == "DELETE":
        store.delete(path)
        return Answer(204)
    return _success(store.read(path))


def _creates(store: vault_kv.Versioned | vault_kv.Plain, rest: str) -> bool:
    """Whether a write to this path of a mount makes a secret that may not be there yet."""
    return isinstance(store, vault_kv.Plain) or rest.partition("/")[0] in ("data", "metadata")


def _success(data: Mapping[str, Any] | None = None, *, auth: Mapping[str, Any] | None = None, warnings: list[str] | None = None) -> Answer:
    return Answer(200, _envelope(data, auth, warnings))


def _envelope(data: Mapping[str, Any] | None, auth: Mapping[str, Any] | None, warnings: list[str] | None) -> dict[str, Any]:
    return {
        "request_id": str(uuid.uuid4()),
        "lease_id": "",
        "renewable": False,
        "lease_duration": 0,
        "data": dict(data) if data is not None else None,
        "wrap_info": None,
        "warnings": warnings,
        "auth": dict(auth) if auth is not None else None,
    }


def _refusal(refusal: Refused) -> Answer:
    if refusal.data is not None or refusal.warnings:
        return Answer(refusal.status, _envelope(refusal.data, None, refusal.warnings or None))
    return Answer(refusal.status, {"errors": refusal.messages})


def _quoted(text: str) -> str:
    return f'"{text}"'
