"""Says what a source of credentials is: how fleet.yaml writes it, which of its keys is which, what is wrong with its data. Pure; never quotes a value.

A kind of source is a class of its own file and a line of the table in `sources.py`; nothing else names it. It says in `read` where its data come
from; what lies in them is read here, the same for all.
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
"""What follows POSTGRES_ or CLICKHOUSE_ in a variable's name, first match wins; the recipe's names come first."""

Contradiction = tuple[tuple[str, ...] | None, str, str]
"""What does not fit: where it is written (keys of the service's section; None for the source's own line), what it is, what to write."""


class Keys(BaseModel):
    """What the secret's keys may be called; the first one present is taken.

    `http_port` is optional: where ClickHouse listens for HTTP when `port` is the native one and not its usual neighbour.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    host: tuple[str, ...] = ("host",)
    port: tuple[str, ...] = ("port",)
    username: tuple[str, ...] = ("username", "user")
    password: tuple[str, ...] = ("password",)
    database: tuple[str, ...] = ("database", "dbname")
    http_port: tuple[str, ...] = ("http_port",)


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


class Source(BaseModel):
    """A source. References only; `{environment}`, `{service}` and `{store}` in its texts are replaced.

    Attributes:
        word: what fleet.yaml calls it. example: how it is written.
        aliased: whether `vault.keys` of fleet.yaml may call its keys otherwise.
        short_lived: whether Vault makes a login for each run, which ends; it is then taken at `creds`, kept alive and given back (`leases.py`).
        policies: the Vault rules that it needs (`deployments/privileges/vault`).
        place: what follows the word: a path, a directory, the beginning of names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    word: ClassVar[str]
    example: ClassVar[str]
    aliased: ClassVar[bool] = True
    short_lived: ClassVar[bool] = False

    place: str = ""

    # --- what a kind says of itself ----------------------------------------------------------------------------------------------

    def problem(self) -> str:
        """Says what is wrong with how it is written; empty where nothing is."""
        return ""

    def contradictions(self, service: str, *, engine: Engine, owner_role: str, substitute_password: bool) -> Iterator[Contradiction]:
        """Finds what does not fit a service of fleet.yaml that is written so."""
        yield from ()

    def read(self, target: Wanted, settings: Settings) -> Credentials:
        """Reads the credentials of what lies still. Raises as `credentials.fetch`."""
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
        """Lists what each part of the credentials may be called in it; the first one present is taken. (Not `keys`: Prefect walks parameters with dict().)"""
        found: dict[str, tuple[str, ...]] = target.secret_keys.model_dump()
        return found

    def reference(self, target: Wanted) -> str:
        """Names where the credentials lie: a Vault path, a directory, names of variables."""
        return self.place

    def holder(self, target: Wanted) -> str:
        """Names what holds the keys, as people call it."""
        return self.reference(target)

    def called(self, target: Wanted) -> str:
        """Names the holder at the beginning of a sentence."""
        return self.holder(target)

    def remedy(self, target: Wanted, key: str, value: str = "…") -> str:
        """Says what gives a key its value."""
        raise NotImplementedError

    def address(self, target: Wanted) -> Address | None:
        """Gives the address of the database, where the line itself says it."""
        return None

    def variables(self, target: Wanted) -> frozenset[str]:
        """Lists the variables of this process that hold the password: no command inherits them."""
        return frozenset()

    # --- what holds for all of them ----------------------------------------------------------------------------------------------

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts in which words may stand in braces."""
        return tuple(text for text in dict(self).values() if isinstance(text, str))

    def filled(self, fill: Callable[[str], str]) -> Source:
        """Replaces the words in braces."""
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
    """Reads host, port and database alone: what a short-lived login is for. Raises as `credentials`."""
    return Address(
        host=_value(data, "host", target).strip(),
        port=_port(_value(data, "port", target), target),
        database=_value(data, "database", target).strip(),
    )


def named_as_variables(target: Wanted, prefix: str = "") -> dict[str, tuple[str, ...]]:
    """Lists what each part of the credentials is called as a variable of the engine."""
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
