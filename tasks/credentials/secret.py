"""A secret's data as credentials: which key is which, and what is wrong with it. Pure; never quotes a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr

from migrator import errors
from tasks.fleet_models import Target


class Credentials(BaseModel):
    """Where a database is and how to log in. `version` is the secret's version in Vault, 0 where unknown."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int
    username: str
    password: SecretStr
    database: str
    http_port: int | None = None
    version: int = 0


def credentials(data: Mapping[str, Any], target: Target, version: int = 0) -> Credentials:
    """Credentials from the data of a secret.

    Raises NotFound (`key-missing`) naming the key and the keys that are present, UsageError (`bad-port`, `bad-secret`).
    """
    names: dict[str, tuple[str, ...]] = target.secret_keys.model_dump()
    http = names.pop("http_port")
    values = {name: _value(data, name, aliases, target) for name, aliases in names.items()}
    has_http = target.engine == "clickhouse" and any(alias in data for alias in http)
    return Credentials(
        host=values["host"].strip(),
        port=_port(values["port"], target),
        username=values["username"],
        password=SecretStr(values["password"]),
        database=values["database"].strip(),
        http_port=_port(_value(data, "http_port", http, target), target) if has_http else None,
        version=version,
    )


def _value(data: Mapping[str, Any], name: str, aliases: tuple[str, ...], target: Target) -> str:
    for alias in aliases:
        if alias in data:
            value = data[alias]
            if isinstance(value, str | int) and not isinstance(value, bool):
                return str(value)
            raise errors.UsageError(
                f'the key "{alias}" of {place(target)} holds {_kind(value)}, not a text',
                code="bad-secret",
                hint=f"`vault kv patch {place(target)} {alias}=…`",
            )
    if name == "port" and target.port is not None:
        return str(target.port)
    present = ", ".join(sorted(map(str, data))) or "none"
    also = f" (or {', '.join(aliases[1:])})" if len(aliases) > 1 else ""
    raise errors.NotFound(
        f'the secret {place(target)} lacks the key "{aliases[0] if aliases else name}"{also}; present: {present}',
        code="key-missing",
        hint=f"`vault kv patch {place(target)} {aliases[0] if aliases else name}=…`, or name the key in fleet.yaml under vault.keys.{name}",
    )


def place(target: Target) -> str:
    """A secret as `vault kv get` takes it: mount and path."""
    return f"{target.vault_mount}/{target.vault_path}"


def _port(text: str, target: Target) -> int:
    # ASCII only: Python's int() takes other scripts' digits and underscores, which no driver understands
    port = int(text.strip()) if text.strip().isascii() and text.strip().isdigit() else 0
    if 1 <= port <= 65535:
        return port
    raise errors.UsageError(
        f"the port in {place(target)} is not a number from 1 to 65535",
        code="bad-port",
        hint=f"`vault kv patch {place(target)} port={5432 if target.engine == 'postgres' else 8123}`",
    )


def _kind(value: object) -> str:
    return {type(None): "null", bool: "a boolean", list: "a list", dict: "a mapping"}.get(type(value), f"a {type(value).__name__}")
