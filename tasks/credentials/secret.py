"""A secret's data as credentials: which key is which, and what is wrong with it. Pure; never quotes a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr

from migrator import errors
from tasks.fleet.models import Engine, Target
from tasks.sources import SourceKind

VARIABLES = {
    "host": ("HOST",),
    "port": ("PORT",),
    "username": ("USER", "USERNAME"),
    "password": ("PASSWORD",),
    "database": ("DATABASE", "DB"),
    "http_port": ("HTTP_PORT",),
}
"""What follows POSTGRES_ or CLICKHOUSE_ in a variable's name, first match wins; the recipe's names come first."""


class Credentials(BaseModel):
    """Where a database is and how to log in. `origin` says where they come from; `version` is the secret's version in Vault, 0 where there is none."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int
    username: str
    password: SecretStr
    database: str
    http_port: int | None = None
    version: int = 0
    origin: str = ""


class Address(BaseModel):
    """Where a database is."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int
    database: str


def credentials(data: Mapping[str, Any], target: Target, version: int = 0) -> Credentials:
    """Credentials from the data of a secret, of files or of variables.

    Raises NotFound (`key-missing`) naming the key and the keys that are present, UsageError (`bad-port`, `bad-secret`).
    """
    names = keys(target)
    has_http = target.engine is Engine.CLICKHOUSE and any(alias in data for alias in names["http_port"])
    where = address(data, target)
    return Credentials(
        host=where.host,
        port=where.port,
        username=_value(data, "username", target),
        password=SecretStr(_value(data, "password", target)),
        database=where.database,
        http_port=_port(_value(data, "http_port", target), target) if has_http else None,
        version=version,
        origin=f"version {version} of {place(target)}" if version else place(target),
    )


def address(data: Mapping[str, Any], target: Target) -> Address:
    """Host, port and database alone: what a short-lived login is for. Raises as `credentials`."""
    return Address(
        host=_value(data, "host", target).strip(),
        port=_port(_value(data, "port", target), target),
        database=_value(data, "database", target).strip(),
    )


def keys(target: Target) -> dict[str, tuple[str, ...]]:
    """What each part of the credentials may be called in the target's source; the first one present is taken.

    Files may be called as the keys in Vault or as the variables are: both are found in Secrets.
    """
    own: dict[str, tuple[str, ...]] = target.secret_keys.model_dump()
    prefix = f"{target.engine.upper()}_"
    named = {part: tuple(f"{prefix}{ending}" for ending in endings) for part, endings in VARIABLES.items()}
    match target.source.kind:
        case SourceKind.FILES:
            return {part: (*own[part], *named[part]) for part in own}
        case SourceKind.VARIABLES:
            return {part: tuple(f"{target.source.place}{name}" for name in named[part]) for part in own}
    return own


def place(target: Target) -> str:
    """Where the data lie; in Vault as `vault kv get` takes it: mount and path."""
    if target.source.kind in (SourceKind.FILES, SourceKind.VARIABLES):
        return target.secret
    return f"{target.vault_mount}/{target.vault_path}"


def remedy(target: Target, key: str, value: str = "…") -> str:
    """What gives a key its value."""
    match target.source.kind:
        case SourceKind.FILES:
            return f'give the Secret that is mounted at {target.source.place} the key "{key}"'
        case SourceKind.VARIABLES:
            return f"set {key}={value} for the worker"
    return f"`vault kv patch {place(target)} {key}={value}`"


def _value(data: Mapping[str, Any], name: str, target: Target) -> str:
    aliases = keys(target)[name]
    for alias in aliases:
        if alias in data:
            value = data[alias]
            if isinstance(value, str | int) and not isinstance(value, bool):
                return str(value)
            raise errors.UsageError(
                f'the key "{alias}" of {place(target)} holds {_kind(value)}, not a text', code="bad-secret", hint=remedy(target, alias)
            )
    if name == "port" and target.port is not None:
        return str(target.port)
    present = ", ".join(sorted(map(str, data))) or "none"
    also = f" (or {', '.join(aliases[1:])})" if len(aliases) > 1 else ""
    wanted = aliases[0] if aliases else name
    named = "" if target.source.kind is SourceKind.VARIABLES else f", or name the key in fleet.yaml under vault.keys.{name}"
    lacking = place(target) if target.source.kind in (SourceKind.FILES, SourceKind.VARIABLES) else f"the secret {place(target)}"
    raise errors.NotFound(
        f'{lacking} lacks the key "{wanted}"{also}; present: {present}', code="key-missing", hint=f"{remedy(target, wanted)}{named}"
    )


def _port(text: str, target: Target) -> int:
    # ASCII only: Python's int() takes other scripts' digits and underscores, which no driver understands
    port = int(text.strip()) if text.strip().isascii() and text.strip().isdigit() else 0
    if 1 <= port <= 65535:
        return port
    raise errors.UsageError(
        f"the port in {place(target)} is not a number from 1 to 65535",
        code="bad-port",
        hint=remedy(target, keys(target)["port"][0], "5432" if target.engine is Engine.POSTGRES else "8123"),
    )


def _kind(value: object) -> str:
    return {type(None): "null", bool: "a boolean", list: "a list", dict: "a mapping"}.get(type(value), f"a {type(value).__name__}")
