"""Vault's tokens and AppRole logins in memory: time to live, number of uses, renewal, revocation with children."""

from __future__ import annotations

import dataclasses
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.vault.vault_kv import Refused, timestamp

_DEFAULT_TTL = 32 * 24 * 3600  # Vault's: 768 h, the system's maximum as well
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclasses.dataclass(slots=True)
class Token:
    """A login. `ttl` 0 never expires (only root's); `uses` 0 is unlimited."""

    id: str = dataclasses.field(repr=False)
    accessor: str
    policies: tuple[str, ...]
    issued: float
    ttl: int
    maximum: int
    uses: int = 0
    renewable: bool = True
    path: str = "auth/token/create"
    display_name: str = "token"
    meta: Mapping[str, str] | None = None
    parent: str | None = dataclasses.field(default=None, repr=False)
    used_up: bool = False
    expires: float = float("inf")

    @property
    def is_root(self) -> bool:
        """Whether no policy limits it."""
        return "root" in self.policies


@dataclasses.dataclass(slots=True)
class Role:
    """An AppRole: who may log in, and with what the token comes. `secret_ids` maps an id to its remaining uses (0: unlimited)."""

    role_id: str
    options: dict[str, Any]
    secret_ids: dict[str, int] = dataclasses.field(default_factory=dict, repr=False)


class Tokens:
    """Every token that is alive."""

    def __init__(self, clock: Callable[[], float], root: str) -> None:
        self._clock = clock
        self._alive: dict[str, Token] = {}
        self._add(Token(root, _accessor(), ("root",), clock(), 0, 0, path="auth/token/root", display_name="root", renewable=False))

    def use(self, token: str | None) -> Token:
        """The login behind a request; counts one use.

        Raises:
            Refused: 403 with the bare "permission denied": absent, unknown, revoked, expired or used up.
        """
        known = self._alive.get(token or "")
        if known is None or known.expires <= self._clock():
            if known is not None:
                self.revoke(known.id)
            raise Refused(403, "permission denied")
        if known.uses:
            known.uses -= 1
            known.used_up = known.uses == 0
        return known

    def settle(self, token: Token) -> None:
        """Revokes a token whose last use this request was; after the request, so that it may still revoke itself."""
        if token.used_up:
            self.revoke(token.id)

    def create(self, parent: Token, body: Mapping[str, Any]) -> dict[str, Any]:
        """A child token; its policies must be among the parent's unless the parent is root."""
        wanted = _policies(body.get("policies")) or parent.policies
        if not parent.is_root and not set(wanted) <= set(parent.policies):
            raise Refused(400, "child policies must be subset of parent")
        if "root" not in wanted and not body.get("no_default_policy"):
            wanted = tuple(sorted({*wanted, "default"}))
        ttl = 0 if "root" in wanted else seconds(body.get("ttl")) or _DEFAULT_TTL
        return self.issue(
            wanted,
            ttl=ttl,
            maximum=seconds(body.get("explicit_max_ttl")),
            uses=int(body.get("num_uses") or 0),
            renewable=bool(body.get("renewable", True)),
            display_name="-".join(("token", *filter(None, [body.get("display_name")]))),
            meta=body.get("meta"),
            parent=None if body.get("no_parent") else parent.id,
        )

    def issue(self, policies: tuple[str, ...], *, ttl: int, maximum: int = 0, **details: Any) -> dict[str, Any]:
        """Makes a token and returns the `auth` part of the answer."""
        now = self._clock()
        ttl = min(ttl, maximum) if maximum else ttl
        token = Token("s." + secrets.token_urlsafe(24), _accessor(), policies, now, ttl, maximum, **details)
        self._add(token)
        return _auth(token)

    def lookup(self, token: Token) -> dict[str, Any]:
        """What `lookup-self` tells."""
        remaining = 0 if token.ttl == 0 else max(0, int(token.expires - self._clock()))
        return {
            "accessor": token.accessor,
            "creation_time": int(token.issued),
            "creation_ttl": token.ttl,
            "display_name": token.display_name,
            "entity_id": "",
            "expire_time": None if token.ttl == 0 else timestamp(token.expires),
            "explicit_max_ttl": token.maximum,
            "id": token.id,
            "issue_time": timestamp(token.issued),
            "meta": token.meta,
            "num_uses": token.uses,
            "orphan": token.parent is None,
            "path": token.path,
            "policies": list(token.policies),
            "renewable": token.renewable,
            "ttl": remaining,
            "type": "service",
        }

    def find(self, token: str) -> Token:
        """Another token, for `lookup`; a dead one is a 403 as the server answers it."""
        known = self._alive.get(token)
        if known is None or known.expires <= self._clock():
            raise Refused(403, "bad token")
        return known

    def renew(self, token: Token, increment: int) -> dict[str, Any]:
        """Moves the expiry, never beyond the token's maximum."""
        if not token.renewable or token.ttl == 0:
            raise Refused(400, "lease is not renewable")
        now = self._clock()
        token.expires = now + (increment or token.ttl)
        if token.maximum:
            token.expires = min(token.expires, token.issued + token.maximum)
        return _auth(token) | {"lease_duration": int(token.expires - now)}

    def revoke(self, token: str) -> None:
        """Ends a token and every token that was made with it."""
        self._alive.pop(token, None)
        for child in [each.id for each in self._alive.values() if each.parent == token]:
            self.revoke(child)

    def _add(self, token: Token) -> None:
        token.expires = token.issued + token.ttl if token.ttl else float("inf")
        self._alive[token.id] = token


class AppRoles:
    """The AppRole login method."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._roles: dict[str, Role] = {}

    def exists(self, name: str) -> bool:
        """Whether there is such a role."""
        return name in self._roles

    def write(self, name: str, body: Mapping[str, Any]) -> None:
        """Makes or changes a role."""
        role = self._roles.setdefault(name, Role(secrets.token_hex(16), {}))
        role.options.update(body)

    def role(self, name: str) -> Role:
        """A role that must exist."""
        if name not in self._roles:
            raise Refused(404)
        return self._roles[name]

    def forget(self, name: str) -> None:
        """Deletes a role; its tokens live on."""
        self._roles.pop(name, None)

    def new_secret_id(self, name: str, wanted: str | None = None) -> dict[str, Any]:
        """Another secret id of a role."""
        if name not in self._roles:
            raise Refused(400, f"role {name!r} does not exist".replace("'", '"'))
        role = self._roles[name]
        uses = int(role.options.get("secret_id_num_uses") or 0)
        secret_id = wanted or secrets.token_hex(16)
        role.secret_ids[secret_id] = uses
        return {
            "secret_id": secret_id,
            "secret_id_accessor": _accessor(),
            "secret_id_num_uses": uses,
            "secret_id_ttl": seconds(role.options.get("secret_id_ttl")),
        }

    def login(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Exchanges role id and secret id for a token; the two kinds of wrong answer alike."""
        if not body.get("role_id"):
            raise Refused(400, "missing role_id")
        secret_id = str(body.get("secret_id") or "")
        found = [(name, role) for name, role in self._roles.items() if role.role_id == body["role_id"]]
        if not found or secret_id not in found[0][1].secret_ids:
            raise Refused(400, "invalid role or secret ID")
        name, role = found[0]
        if role.secret_ids[secret_id]:
            role.secret_ids[secret_id] -= 1
            if role.secret_ids[secret_id] == 0:
                del role.secret_ids[secret_id]
        policies = _policies(role.options.get("token_policies") or role.options.get("policies"))
        return self._tokens.issue(
            tuple(sorted({*policies, "default"})),
            ttl=seconds(role.options.get("token_ttl")) or _DEFAULT_TTL,
            maximum=seconds(role.options.get("token_max_ttl")),
            uses=int(role.options.get("token_num_uses") or 0),
            path="auth/approle/login",
            display_name="approle",
            meta={"role_name": name},
        )


def seconds(value: Any) -> int:
    """A duration as Vault reads it: a number of seconds, or `90s`, `15m`, `24h`, `1d`."""
    if value in (None, ""):
        return 0
    match = re.fullmatch(r"(\d+)([smhd]?)", str(value))
    if match is None:
        raise Refused(400, f"error converting input: time: invalid duration {str(value)!r}".replace("'", '"'))
    return int(match[1]) * _UNITS[match[2]]


def _policies(value: Any) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else list(value or ())
    return tuple(item.strip() for item in items if item.strip())


def _accessor() -> str:
    return secrets.token_urlsafe(18)


def _auth(token: Token) -> dict[str, Any]:
    return {
        "client_token": token.id,
        "accessor": token.accessor,
        "policies": list(token.policies),
        "token_policies": list(token.policies),
        "metadata": token.meta,
        "lease_duration": token.ttl,
        "renewable": token.renewable,
        "entity_id": "",
        "token_type": "service",
        "orphan": token.parent is None,
        "mfa_requirement": None,
        "num_uses": token.uses,
    }
