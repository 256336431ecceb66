"""Defines a source of credentials: its form in fleet.yaml, the names of its keys, the faults of its data. Pure; never quotes a value.

A kind of source is a class in a file of its own and one line of the table in `sources.py`; no other module names it. Its method `read` gets
the data; this module reads the credentials in them, in the same way for every kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

from migrator import errors
from migrator.targets import Engine
from tasks.settings import Settings

VARIABLES = {
    "host": ("HOST",),
    "port": ("PORT",),
    "username": ("USER", "USERNAME"),
    "password": ("PASSWORD",),
    "database": ("DATABASE", "DB"),
    "http_port": ("HTTP_PORT",),
}
"""The part of a variable's name after POSTGRES_ or CLICKHOUSE_; the first match wins; the recipe's names come first."""

Contradiction = tuple[tuple[str, ...] | None, str, str]
"""A setting that does not fit: where it is written (keys of the service's section; None for the source's own line), what is wrong, what to write instead."""


class Keys(BaseModel):
    """The names that a secret's keys may have; the first one present is taken.

    `http_port` is optional: ClickHouse's HTTP port, for a `port` that is the native one while HTTP is not on the port that usually goes with it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    host: tuple[str, ...] = ("host",)
    port: tuple[str, ...] = ("port",)
    username: tuple[str, ...] = ("username", "user")
    password: tuple[str, ...] = ("password",)
    database: tuple[str, ...] = ("database", "dbname")
    http_port: tuple[str, ...] = ("http_port",)


class Credentials(BaseModel):
    """A database's address and login. `origin` says where they come from; `version` is the secret's version in Vault, 0 when it has none."""

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
    """A database's address."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int
    database: str


class Wanted(Protocol):
    """The database whose credentials are wanted, as far as a source has to know it (`fleet.models.Target`)."""

    @property
    def label(self) -> str: ...

    @property
    def engine(self) -> Engine: ...

    @property
    def database(self) -> str: ...

    @property
    def port(self) -> int | None: ...

    @property
    def vault_mount(self) -> str: ...

    @property
    def vault_path(self) -> str: ...

    @property
    def secret_keys(self) -> Keys: ...

    @property
    def source(self) -> Source: ...


class SecretReader(Protocol):
    """What reads the secrets of several targets with one login to Vault (`vault.Clients`)."""

    def read_secret(self, target: Wanted) -> tuple[Mapping[str, Any], int]: ...


class Source(BaseModel):
    """A source of credentials. It holds references only; `{environment}`, `{service}` and `{store}` in its texts are replaced.

    Attributes:
        word: its name in fleet.yaml. example: how it is written there.
        aliased: whether `vault.keys` of fleet.yaml may give its keys other names.
        short_lived: whether Vault makes a login that expires for each run; it is then taken at `creds`, renewed and given back (`leases.py`).
        policies: the Vault rules that it needs (`deployments/privileges/vault`).
        place: the text after the word: a path, a directory, a prefix of names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    word: ClassVar[str]
    example: ClassVar[str]
    aliased: ClassVar[bool] = True
    short_lived: ClassVar[bool] = False

    place: str = ""

    # --- what a kind says of itself ----------------------------------------------------------------------------------------------

    def problem(self) -> str:
        """Says what is wrong with the way it is written; returns an empty text when nothing is."""
        return ""

    def contradictions(self, service: str, *, engine: Engine, owner_role: str, substitute_password: bool) -> Iterator[Contradiction]:
        """Yields the settings of its service in fleet.yaml that do not fit this source."""
        yield from ()

    def read(self, target: Wanted, settings: Settings, reader: SecretReader | None = None) -> Credentials:
        """Reads the credentials of a static source, by the `reader` that several targets share where there is one. Raises as `credentials.fetch`."""
        raise NotImplementedError(f"{self.word} has nothing that lies still")

    @property
    def creds(self) -> str:
        """The path at which a short-lived login is taken."""
        return ""

    @property
    def policies(self) -> tuple[str, ...]:
        """The Vault rules that reading it needs, by their files' names."""
        return ()

    def key_names(self, target: Wanted) -> dict[str, tuple[str, ...]]:
        """Returns the names that each part of the credentials may have; the first one present is taken. (Not `keys`: Prefect walks parameters with dict().)"""
        found: dict[str, tuple[str, ...]] = target.secret_keys.model_dump()
        return found

    def reference(self, target: Wanted) -> str:
        """Names the place of the credentials: a Vault path, a directory, names of variables."""
        return self.place

    def holder(self, target: Wanted) -> str:
        """Names the holder of the keys, as people call it."""
        return self.reference(target)

    def called(self, target: Wanted) -> str:
        """Names the holder at the beginning of a sentence."""
        return self.holder(target)

    def remedy(self, target: Wanted, key: str, value: str = "…") -> str:
        """Says how to give a key its value."""
        raise NotImplementedError

    def address(self, target: Wanted) -> Address | None:
        """Returns the database's address, if the line in fleet.yaml itself holds it."""
        return None

    def variables(self, target: Wanted) -> frozenset[str]:
        """Lists the variables of this process that hold the password, so that no command inherits them."""
        return frozenset()

    # --- what holds for all of them ----------------------------------------------------------------------------------------------

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts in which words may stand in braces."""
        return tuple(text for text in dict(self).values() if isinstance(text, str))

    def filled(self, fill: Callable[[str], str]) -> Source:
        """Replaces the words in braces, with `fill`."""
        return self.model_copy(update={name: fill(text) for name, text in dict(self).items() if isinstance(text, str)})

    @model_validator(mode="after")
    def _written_well(self) -> Source:
        if problem := self.problem():
            raise ValueError(problem)
        return self


def credentials(data: Mapping[str, Any], target: Wanted, version: int = 0) -> Credentials:
    """Makes credentials of the data of a secret, of files or of variables.

    Raises NotFound (`key-missing`) naming the key and the keys that are present, UsageError (`bad-port`, `bad-secret`).
    """
    holder = target.source.holder(target)
    has_http = target.engine is Engine.CLICKHOUSE and any(alias in data for alias in target.source.key_names(target)["http_port"])
    where = address(data, target)
    return Credentials(
        host=where.host,
        port=where.port,
        username=_value(data, "username", target),
        password=SecretStr(_value(data, "password", target)),
        database=where.database,
        http_port=_port(_value(data, "http_port", target), target) if has_http else None,
        version=version,
        origin=f"version {version} of {holder}" if version else holder,
    )


def address(data: Mapping[str, Any], target: Wanted) -> Address:
    """Reads host, port and database alone, to which a short-lived login is added. Raises as `credentials`."""
    return Address(
        host=_value(data, "host", target).strip(),
        port=_port(_value(data, "port", target), target),
        database=_value(data, "database", target).strip(),
    )


def named_as_variables(target: Wanted, prefix: str = "") -> dict[str, tuple[str, ...]]:
    """Lists the names that each part of the credentials has as a variable of the engine."""
    return {part: tuple(f"{prefix}{target.engine.upper()}_{ending}" for ending in endings) for part, endings in VARIABLES.items()}


def _value(data: Mapping[str, Any], name: str, target: Wanted) -> str:
    source = target.source
    holder, aliases = source.holder(target), source.key_names(target)[name]
    for alias in aliases:
        if alias in data:
            value = data[alias]
            if isinstance(value, str | int) and not isinstance(value, bool):
                return str(value)
            raise errors.UsageError(
                f'the key "{alias}" of {holder} holds {_kind(value)}, not a text', code="bad-secret", hint=source.remedy(target, alias)
            )
    if name == "port" and target.port is not None:
        return str(target.port)
    present = ", ".join(sorted(map(str, data))) or "none"
    also = f" (or {', '.join(aliases[1:])})" if len(aliases) > 1 else ""
    wanted = aliases[0] if aliases else name
    renamed = f", or name the key in fleet.yaml under vault.keys.{name}" if source.aliased else ""
    raise errors.NotFound(
        f'{source.called(target)} lacks the key "{wanted}"{also}; present: {present}',
        code="key-missing",
        hint=f"{source.remedy(target, wanted)}{renamed}",
    )


def _port(text: str, target: Wanted) -> int:
    # ASCII only: Python's int() takes other scripts' digits and underscores, which no driver understands
    port = int(text.strip()) if text.strip().isascii() and text.strip().isdigit() else 0
    if 1 <= port <= 65535:
        return port
    source = target.source
    raise errors.UsageError(
        f"the port in {source.holder(target)} is not a number from 1 to 65535",
        code="bad-port",
        hint=source.remedy(target, source.key_names(target)["port"][0], "5432" if target.engine is Engine.POSTGRES else "8123"),
    )


def _kind(value: object) -> str:
    return {type(None): "null", bool: "a boolean", list: "a list", dict: "a mapping"}.get(type(value), f"a {type(value).__name__}")
