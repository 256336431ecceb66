"""Splits a URL into its decoded parts, as Go's net/url does: the basis of both drivers' DBSTRINGs (goose.md §7)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from migrator import errors

ENCODE_HINT = "percent-encode the user and the password (@ is %40, / is %2F, : is %3A, ? is %3F, # is %23, % is %25)"


@dataclass(frozen=True, slots=True)
class Url:
    """A URL split as Go does it, every part decoded. `hosts` are (host, port or None)."""

    scheme: str
    username: str
    password: str | None = field(repr=False)
    hosts: tuple[tuple[str, int | None], ...]
    path: str
    query: Mapping[str, str] = field(repr=False)


def bad(message: str, *, code: str = "bad-address", hint: str = ENCODE_HINT) -> errors.UsageError:
    return errors.UsageError(message, code=code, hint=hint)


def parse_port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise bad("the port is not a number from 1 to 65535", code="bad-port", hint=f"correct the port; in a URL, {ENCODE_HINT}")
    return int(text)


def split(text: str) -> Url:
    """Splits a URL as Go's net/url does (fragment, query, authority, last `@`, first `:`) and decodes its parts.

    Refuses a text that Go would misread: an `@` after the authority means that the password has a `/` or a `?` that was not encoded.
    Raises UsageError; the message never quotes the text.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.\-]*", scheme):
        raise bad(
            "the address has no scheme",
            hint="write postgres://user:password@host:port/database or clickhouse://user:password@host:port/database",
        )
    rest, _, fragment = rest.partition("#")
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    userinfo, at, hostlist = authority.rpartition("@")
    if not at and ("@" in path or "@" in fragment or any("@" in item.partition("=")[0] for item in query.split("&"))):
        raise bad("the address has its @ behind a /, ? or #: the password is not percent-encoded")
    username, colon, password = userinfo.partition(":")
    return Url(
        scheme=scheme.lower(),
        username=_decode("user", username),
        password=_decode("password", password) if colon else None,
        hosts=_host_list(hostlist),
        path=_decode("database", slash + path),
        query=_query(query),
    )


def _decode(what: str, text: str, *, plus: bool = False) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise bad(f"the {what} in the address has a % that is not followed by two hexadecimal digits")
    try:
        decoded = unquote(text.replace("+", " ") if plus else text, errors="strict")
    except UnicodeDecodeError:
        raise bad(f"the {what} in the address is not UTF-8") from None
    if "\0" in decoded:
        raise bad(f"the {what} in the address holds a NUL character", hint="neither server accepts one")
    return decoded


def _host_list(text: str) -> tuple[tuple[str, int | None], ...]:
    found: list[tuple[str, int | None]] = []
    for item in text.split(","):
        match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::([^:]*))?", item)
        if match is None:
            raise bad("a host in the address has more than one colon", hint=f"write an IPv6 address in brackets; {ENCODE_HINT}")
        host = _decode("host", match[1].removeprefix("[").removesuffix("]"))
        if host or match[2]:
            found.append((host, parse_port(match[2]) if match[2] else None))
    return tuple(found)


def _query(text: str) -> dict[str, str]:
    """Returns the first value of each key, as Go's Get does; `+` is a space."""
    values: dict[str, str] = {}
    for item in text.split("&"):
        key, _, value = item.partition("=")
        if key:
            name = _decode("query", key, plus=True)
            values.setdefault(name, _decode(f"parameter {name}", value, plus=True))
    return values
