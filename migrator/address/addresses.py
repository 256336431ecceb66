"""Connection addresses: build, percent-encode, parse, redact (goose.md §7).

Users have goose's DBSTRINGs in their secrets, charts and shells: URLs and connection strings of two Go drivers. These
functions turn them into what Python's drivers take, and make DBSTRINGs from credentials that both goose and greylag take. No message
here ever quotes a DBSTRING: the usual mistake is a password that is not percent-encoded, and then any part of the text may belong to the
password.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from migrator import errors
from migrator.address import urls
from migrator.address.redaction import redact
from migrator.goose import durations

__all__ = ["ClickHouseAddress", "PostgresAddress", "build", "parse_clickhouse", "parse_postgres", "redact"]

# fmt: off
LIBPQ_KEYWORDS = frozenset({
    "service", "user", "password", "passfile", "channel_binding", "connect_timeout", "dbname", "host", "hostaddr",
    "port", "client_encoding", "options", "application_name", "fallback_application_name", "keepalives", "keepalives_idle",
    "keepalives_interval", "keepalives_count", "tcp_user_timeout", "sslmode", "sslnegotiation", "sslcompression", "sslcert", "sslkey",
    "sslcertmode", "sslpassword", "sslrootcert", "sslcrl", "sslcrldir", "sslsni", "requirepeer", "require_auth",
    "min_protocol_version", "max_protocol_version", "ssl_min_protocol_version", "ssl_max_protocol_version", "gssencmode", "krbsrvname",
    "gsslib", "gssdelegation", "replication", "target_session_attrs", "load_balance_hosts", "scram_client_key", "scram_server_key",
    "oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope",
})
# fmt: on
"""The keywords that libpq 18 understands. As in pgx, every other keyword is a runtime parameter of the server."""

PGX_ONLY = frozenset({"default_query_exec_mode", "statement_cache_capacity", "description_cache_capacity", "krbspn", "sslinline"})
"""Keywords that tune the Go driver and mean nothing to another one. `pool_max_conns` and the like are not among them: they are pgxpool's, which goose does
not use, and go to the server like any other name."""

# fmt: off
CLICKHOUSE_DRIVER_ONLY = frozenset({
    "debug", "compress", "compress_level", "max_open_conns", "max_idle_conns", "conn_max_lifetime", "connection_open_strategy",
    "block_buffer_size", "max_compression_buffer", "client_info_product",
})
# fmt: on
"""Parameters that tune clickhouse-go and have no meaning over HTTP."""

NATIVE_TO_HTTP = {9000: 8123, 9440: 8443}
"""ClickHouse's default ports: native port -> usual HTTP port. It is a guess, and messages say so."""


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """The address of a PostgreSQL database. `conninfo` is libpq's keyword form; runtime parameters are inside its `options`.

    `service_file` is pgx's `servicefile`, which libpq takes from PGSERVICEFILE only.
    """

    conninfo: str = field(repr=False)
    database: str | None
    hosts: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    service_file: str = ""


@dataclass(frozen=True, slots=True)
class ClickHouseAddress:
    """The address of a ClickHouse database (goose.md §7.2).

    `hosts` holds the ports as written (0 if there was none); `http_ports` are the ports to try for HTTP: (host, port, whether the port is a
    guess from the native one). `http_proxy` is a URL; no proxy of the environment is ever used, because it would see the password and the SQL.
    `settings` are server settings; `own` are parameters that begin with `greylag_`, without that prefix.
    Time-outs are in seconds.
    """

    hosts: tuple[tuple[str, int], ...]
    scheme: str
    username: str
    password: str = field(repr=False)
    database: str = ""
    secure: bool = False
    skip_verify: bool = False
    ca: str = ""
    server_name: str = ""
    http_ports: tuple[tuple[str, int, bool], ...] = ()
    http_path: str = ""
    http_proxy: str = field(default="", repr=False)
    dial_timeout: float = 30.0  # clickhouse-go's default
    read_timeout: float = 300.0  # read and checked but not applied: clickhouse-go gives up after it, although the server goes on
    settings: Mapping[str, str | int] = field(default_factory=dict)
    own: Mapping[str, str] = field(default_factory=dict)


# --- build ------------------------------------------------------------------------------------------------------------------------


def build(
    driver: str,
    *,
    host: str,
    port: int | str,
    username: str,
    password: str,
    database: str,
    parameters: Mapping[str, str] | None = None,
) -> str:
    """Builds a DBSTRING from credentials, every part percent-encoded; both goose and greylag understand it.

    `host` may list several hosts with commas and may be the directory of a Unix socket (PostgreSQL). A ClickHouse port of 8123 or 8443
    makes an HTTP address; 8443 and 9440, the usual TLS ports, get `secure=true` unless `parameters` decide.

    Raises UsageError: `empty-host`, `bad-port`, `unknown-driver`, or `bad-address` for text that can't be part of an address (NUL).
    """
    if driver not in ("postgres", "pgx", "clickhouse"):
        raise errors.UsageError(
            f'"{driver}": unknown dialect', code="unknown-driver", hint="greylag drives postgres (or pgx) and clickhouse"
        )
    number = urls.parse_port(str(port))
    query = dict(parameters or {})
    hosts = _hosts(host)
    if driver == "clickhouse":
        scheme = {8123: "http", 8443: "https"}.get(number, "clickhouse")
        if number in (8443, 9440):
            query.setdefault("secure", "true")
        if scheme == "http" and query.get("secure", "").lower() in ("1", "t", "true"):
            scheme = "https"
    else:
        scheme = "postgres"
    if host.startswith(("/", "@")):  # for Go, a socket's directory can't stand in a URL's authority, but it can in the query
        query = {"host": host, "port": str(number), **query}
        authority = ""
    else:
        authority = ",".join(f"{_bracketed(item)}:{number}" for item in hosts)
    encoded = "&".join(f"{_encode('parameter', key)}={_encode(key, value)}" for key, value in query.items())
    userinfo = _encode("username", username) + (f":{_encode('password', password)}" if password else "")
    return f"{scheme}://{userinfo}@{authority}/{_encode('database', database)}" + (f"?{encoded}" if encoded else "")


def _encode(what: str, text: str) -> str:
    if "\0" in text:
        raise urls.bad(f"the {what} holds a NUL character", hint="store it again without the character")
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise urls.bad(f"the {what} is not valid Unicode", hint="store it again as UTF-8") from None


def _hosts(host: str) -> list[str]:
    if not host or not host.strip():
        raise urls.bad("the host is empty", code="empty-host", hint="give the server's host name")
    names = [host] if host.startswith(("/", "@")) else host.split(",")
    for name in names:
        if not name:
            raise urls.bad("the list of hosts has an empty entry", code="empty-host", hint="give the server's host name")
        if not name.startswith("/") and re.search(r"[\s/?#@%\\\"'<>]", name):
            raise urls.bad(
                "the host holds a character that no host name has",
                code="bad-host",
                hint="give the host alone: no scheme, no path, no space",
            )
        if not name.startswith("[") and name.count(":") == 1:
            raise urls.bad("the host holds a port", code="bad-host", hint="give host and port apart")
    return names


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


# --- PostgreSQL -------------------------------------------------------------------------------------------------------------------


def parse_postgres(dbstring: str, environ: Mapping[str, str] | None = None) -> PostgresAddress:
    """Parses a PostgreSQL DBSTRING, URL or `key=value`, into libpq's form (goose.md §7.1).

    Keywords that libpq doesn't know become `-c` options (runtime parameters of the server, mostly `search_path` and `lock_timeout`);
    pgx's own are dropped; hosts, service and password files, and TLS are left to libpq and its PG* variables. PGOPTIONS stays in effect
    when options are added.

    Raises UsageError, which never quotes the DBSTRING.
    """
    environment = os.environ if environ is None else environ
    given = _url_keywords(dbstring) if re.match(r"postgres(?:ql)?://", dbstring) else _keywords(dbstring)
    known: dict[str, str] = {}
    runtime: dict[str, str] = {}
    service_file = given.pop("servicefile", "")
    for key, value in given.items():
        name = "dbname" if key == "database" else key
        if name in PGX_ONLY:
            continue
        if name not in LIBPQ_KEYWORDS and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.$\-]*", name):
            raise urls.bad("the address has a keyword that is no parameter name")
        (known if name in LIBPQ_KEYWORDS else runtime)[name] = value
    if runtime:
        options = [known.get("options", environment.get("PGOPTIONS", ""))]
        options += [f"-c {name}={_escape_option(value)}" for name, value in runtime.items()]
        known["options"] = " ".join(item for item in options if item)
    return PostgresAddress(
        conninfo=" ".join(f"{key}={_quote_keyword(value)}" for key, value in known.items()),
        database=known.get("dbname") or None,
        hosts=_shown_hosts(known, environment),
        user=known.get("user") or None,
        password=known.get("password") or None,
        service_file=service_file,
    )


def _url_keywords(dbstring: str) -> dict[str, str]:
    url = urls.split(dbstring)
    found: dict[str, str] = {}
    if url.username:
        found["user"] = url.username
    if url.password:
        found["password"] = url.password
    if any(host for host, _ in url.hosts):
        found["host"] = ",".join(host for host, _ in url.hosts)
    if any(port for _, port in url.hosts):
        found["port"] = ",".join(str(port or "") for _, port in url.hosts)
    if url.path.lstrip("/"):
        found["dbname"] = url.path.lstrip("/")
    for key, value in url.query.items():
        found["dbname" if key == "database" else key] = value
    return found


_KEYWORD = r"\s*([^\s=]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s\\']|\\.)(?:[^\s\\]|\\.)*)?)(?=\s|$)"


def _keywords(dbstring: str) -> dict[str, str]:
    found: dict[str, str] = {}
    position = 0
    end = len(dbstring.rstrip())
    while position < end:
        match = re.compile(_KEYWORD, re.DOTALL).match(dbstring, position)
        if match is None:
            raise urls.bad(
                "the address is neither a URL nor key=value pairs",
                hint="write postgres://user:password@host:port/database, or host=… user=… dbname=… with values that hold spaces in single quotes",
            )
        value = match[2] if match[2] is not None else (match[3] or "")
        found[match[1]] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        position = match.end()
    if any("\0" in value for value in found.values()):
        raise urls.bad("the address holds a NUL character", hint="neither server accepts one")
    return found


def _escape_option(value: str) -> str:
    """Escapes a value inside `options`, which the server splits at white space and in which a backslash escapes."""
    return re.sub(r"([\s\\])", r"\\\1", value)


def _quote_keyword(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _shown_hosts(known: Mapping[str, str], environment: Mapping[str, str]) -> str:
    if "service" in known and "host" not in known:
        return f"service {known['service']}"
    hosts = (known.get("host") or known.get("hostaddr") or environment.get("PGHOST") or "localhost").split(",")
    ports = (known.get("port") or environment.get("PGPORT") or "5432").split(",")
    shown = ports if len(ports) == len(hosts) else ports[:1] * len(hosts)
    return ",".join(f"{_bracketed(host)}:{port or 5432}" for host, port in zip(hosts, shown, strict=True))


# --- ClickHouse -------------------------------------------------------------------------------------------------------------------


def parse_clickhouse(dbstring: str, environ: Mapping[str, str] | None = None) -> ClickHouseAddress:
    """Parses a ClickHouse DBSTRING as clickhouse-go reads it (goose.md §7.2), and finds the server's HTTP port.

    HTTP's port is, in this order: `http_port=`; the port of an `http(s)://` address (8123, 8443 when absent); a native address that
    names 8123 or 8443; CLICKHOUSE_HTTP_PORT; a guess from 9000 or 9440. Any other native port is an error.

    Raises UsageError, which never quotes the DBSTRING.
    """
    environment = os.environ if environ is None else environ
    url = urls.split(dbstring)
    if not url.hosts or not all(host for host, _ in url.hosts):
        raise urls.bad("the address names no host", code="empty-host", hint="write clickhouse://user:password@host:9000/database")
    known = dict(url.query)
    own = {key.removeprefix("greylag_"): known.pop(key) for key in list(known) if key.startswith("greylag_")}
    secure = _flag(known, "secure") or url.scheme == "https"
    if secure and url.scheme == "http":
        raise urls.bad("the address says http and secure", hint="write https://…?secure=true, or drop secure")
    for key in CLICKHOUSE_DRIVER_ONLY:
        known.pop(key, None)
    http_port = known.pop("http_port", "")
    address = ClickHouseAddress(
        hosts=tuple((host, port or 0) for host, port in url.hosts),
        scheme=url.scheme,
        username=known.pop("username", "") or url.username or "default",
        password=known.pop("password", url.password or ""),
        database=known.pop("database", url.path.removeprefix("/")),
        secure=secure,
        skip_verify=_flag(known, "skip_verify"),
        ca=known.pop("ca_cert", ""),
        server_name=known.pop("tls_server_name", "").strip(),
        http_ports=tuple(_http_port(url.scheme, host, port, secure, http_port, environment) for host, port in url.hosts),
        http_path=known.pop("http_path", ""),
        http_proxy=_proxy(known.pop("http_proxy", "")),
        dial_timeout=_duration(known, "dial_timeout", "30s"),
        read_timeout=_duration(known, "read_timeout", "300s"),
        own=own,
        settings={key: _setting(value) for key, value in known.items() if key not in ("secure", "skip_verify")},
    )
    if address.server_name and not secure:
        raise urls.bad("tls_server_name needs secure=true", hint="add secure=true, or drop tls_server_name")
    return address


def _proxy(text: str) -> str:
    """Returns the URL of a proxy; a host and a port alone mean plain HTTP."""
    if not text:
        return ""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # an invalid port or bracket
        usable = False
    if not usable:
        raise urls.bad("http_proxy of the address is not the URL of a proxy", hint="write http_proxy=http://host:port, percent-encoded")
    return url


def _flag(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name)
    if value is None:
        return False
    if value in ("", "1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise urls.bad(f"{name} is neither true nor false", hint=f"write {name}=true or {name}=false")


def _duration(query: dict[str, str], name: str, usual: str) -> float:
    try:
        return durations.parse(query.pop(name, usual))
    except errors.UsageError as error:
        error.message = f"{name} of the address: {error.message}"
        raise


def _setting(value: str) -> str | int:
    lowered = value.lower()
    if re.fullmatch(r"[+-]?[0-9]{1,18}", lowered):
        return int(lowered)
    return {"true": 1, "false": 0}.get(lowered, lowered)


def _http_port(scheme: str, host: str, port: int | None, secure: bool, given: str, environment: Mapping[str, str]) -> tuple[str, int, bool]:
    if given:
        return host, urls.parse_port(given), False
    if scheme in ("http", "https"):
        return host, port or (8443 if secure else 8123), False
    if port in (8123, 8443):
        return host, port, False
    if environment.get("CLICKHOUSE_HTTP_PORT"):
        return host, urls.parse_port(environment["CLICKHOUSE_HTTP_PORT"]), False
    native = port or (9440 if secure else 9000)
    if native not in NATIVE_TO_HTTP:
        raise urls.bad(
            f"greylag speaks HTTP to ClickHouse, and can't tell the HTTP port from the native port {native}",
            code="native-port",
            hint="add ?http_port=8123 to the address, or set CLICKHOUSE_HTTP_PORT",
        )
    return host, NATIVE_TO_HTTP[native], True
