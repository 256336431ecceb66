"""A real ClickHouse server, 26.9 from the chdb-core wheel or 25.8 (`clickhouse_releases`), HTTP and native TCP, on 127.0.0.1 (servers.md §2).

Its users come from a file read at start: 26.9 has no writable access storage in this build, so CREATE USER is refused with code 514 and every user
must be named before the start. Passwords are kept as SHA-256. The user `default`, under which the process itself starts, has no password and no rights.

Every node defines the cluster `default` (`CLUSTER`): itself alone, or every node of the `nodes` list as one shard each, so that
`Distributed('default', …)` works; macros `cluster`, `shard`, `replica`. ON CLUSTER and Replicated databases don't work in the build of 26.9.

As every server in production, a node keeps a query log, though it writes it to disk more often: evidence of a statement isn't waited for.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import hashlib
import http.client
import importlib.util
import os
import re
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape

from migrator import errors
from sandbox import ports, processes
from sandbox.databases import clickhouse_releases
from sandbox.databases.clickhouse_releases import Release

ADMIN = "admin"
CLUSTER = "default"
_READY_SECONDS = 90.0  # 0.5 s with a warm file cache, 12 s when 555 MB of library come from a slow disk
_STOP_SECONDS = 15.0
_LOG_MILLISECONDS = 500  # between two writes of the query log to disk; 7,500 by default
_NODE_PROGRAM = Path(__file__).with_name("clickhouse_node.py")
_USER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")  # it becomes an XML element's name


_MANAGES = "<access_management>{0}</access_management><named_collection_control>{0}</named_collection_control>"
"""What a user of the file may hand out: users, roles, quotas, policies; named collections."""


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """A user of a node.

    Args:
        name: letters, digits, `_` and `-`.
        password: any text.
        grants: GRANT statements without TO, e.g. `GRANT ALL ON auth.*`; empty grants everything but access management.
        readonly: refuses every write and setting (code 164).
        access_management: may CREATE ROLE and GRANT.
    """

    name: str
    password: str = dataclasses.field(repr=False)
    grants: tuple[str, ...] = ()
    readonly: bool = False
    access_management: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class NodePorts:
    """The ports on which a node listens on 127.0.0.1."""

    http: int
    tcp: int


class ClickHouseServer:
    """One node with its data directory; a context manager. Data survive `stop`, and a new object on the same directory finds them.

    Args:
        directory: holds `data/`, the configuration (mode 0600), `server.log` and the admin's password; made if missing.
        http_port, tcp_port: None takes free ones.
        users: in addition to `admin`, whose password is made once and kept in the directory.
        nodes: the ports of every node of the cluster, this one included; None makes a cluster of this node alone.
        cluster_secret: the secret that the nodes of one cluster share.
        query_log: whether `system.query_log` is written, as by default on every server.
        release: which ClickHouse it is.
        configuration: more XML inside `<clickhouse>`, e.g. a `<zookeeper>` section.
    """

    host = ports.LOOPBACK

    def __init__(
        self,
        directory: Path,
        *,
        http_port: int | None = None,
        tcp_port: int | None = None,
        users: Sequence[User] = (),
        nodes: Sequence[NodePorts] | None = None,
        cluster_secret: str = "sandbox",
        query_log: bool = True,
        release: Release = Release.CURRENT,
        configuration: str = "",
    ) -> None:
        self.directory = directory.absolute()
        self.ports = NodePorts(http_port or ports.free_port(), tcp_port or ports.free_port())
        self.users = tuple(users)
        self.nodes = tuple(nodes) if nodes is not None else (self.ports,)
        self.query_log = query_log
        self.release = release
        self._cluster_secret = cluster_secret
        self._configuration = configuration
        self._process = processes.ServerProcess(
            "ClickHouse",
            # -P: the sandbox's own modules must not shadow anything that chdb imports.
            [sys.executable, "-P", _NODE_PROGRAM, self.directory, *([clickhouse_releases.place()] if release is Release.LONG_TERM else [])],
            log=self.directory / "server.log",
        )

    def __enter__(self) -> ClickHouseServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def http_port(self) -> int:
        """The port for HTTP."""
        return self.ports.http

    @property
    def tcp_port(self) -> int:
        """The port for the native protocol."""
        return self.ports.tcp

    @property
    def running(self) -> bool:
        """Tells whether the server's process is alive."""
        return self._process.running

    @functools.cached_property
    def admin_password(self) -> str:
        """The password of `admin`, made once and kept in the directory."""
        path = self.directory / "admin.password"
        if not path.exists():
            _write_private(path, secrets.token_urlsafe(24) + "\n")
        return path.read_text(encoding="utf-8").strip()

    def start(self) -> ClickHouseServer:
        """Writes the configuration, starts the node and returns once both listeners answer.

        Raises:
            NotFound: chdb-core is not installed, or the other release isn't fetched.
            Unavailable: the node did not start; the detail shows the log's last lines.
        """
        if self.release is Release.LONG_TERM and clickhouse_releases.library() is None:
            raise errors.NotFound(clickhouse_releases.missing(), code="sandbox-missing", hint="make install")
        if importlib.util.find_spec("chdb") is None:
            raise errors.NotFound(
                "ClickHouse is not installed: the package chdb-core is missing",
                code="sandbox-missing",
                hint="pip install 'greylag[sandbox]'",
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        administrator = User(ADMIN, self.admin_password, access_management=True)
        _write_private(self.directory / "users.xml", _users_xml((administrator, *self.users)))
        _write_private(self.directory / "config.xml", self._config_xml())
        self._process.start()
        self._process.wait_until(self._ready, _READY_SECONDS)
        return self

    def stop(self) -> None:
        """Stops the node; data are kept."""
        self._process.stop(_STOP_SECONDS)

    def restart(self) -> None:
        """Restarts the node on the same ports."""
        self.stop()
        self.start()

    def crash(self) -> None:
        """Kills the node; `start` finds whatever had been written."""
        self._process.kill()

    def url(self, username: str, password: str, database: str) -> str:
        """Returns a DBSTRING that names the native port, each part percent-encoded; its `http_port` tells greylag the HTTP port."""
        return f"{self.native_url(username, password, database)}?http_port={self.http_port}"

    def native_url(self, username: str, password: str, database: str) -> str:
        """Returns the same DBSTRING for goose, whose driver sends every unknown parameter as a setting (`http_port`: code 115); greylag then takes
        the HTTP port from CLICKHOUSE_HTTP_PORT."""
        return f"clickhouse://{self._address(username, password, self.tcp_port, database)}"

    def http_url(self, username: str, password: str, database: str) -> str:
        """Returns the same DBSTRING for HTTP, which goose understands too."""
        return f"http://{self._address(username, password, self.http_port, database)}"

    def admin_url(self, database: str) -> str:
        """Returns a DBSTRING that logs in as `admin`."""
        return self.url(ADMIN, self.admin_password, database)

    def execute(self, sql: str, database: str = "system") -> str:
        """Runs one statement as `admin` over HTTP and returns the answer in TabSeparated.

        Raises:
            StatementRejected: with the server's message.
            Unavailable: the node doesn't answer.
        """
        return self._request(sql, {"database": database})

    def create_database(self, name: str) -> str:
        """Creates a database (engine Atomic; an existing one is kept), and returns `admin`'s URL for it."""
        self.execute(f"CREATE DATABASE IF NOT EXISTS {identifier(name)}")
        return self.admin_url(name)

    def drop_database(self, name: str) -> None:
        """Drops the database with its data at once."""
        self.execute(f"DROP DATABASE IF EXISTS {identifier(name)} SYNC")

    def _request(self, sql: str, parameters: dict[str, str]) -> str:
        credentials = base64.b64encode(f"{ADMIN}:{self.admin_password}".encode()).decode()
        request = urllib.request.Request(
            f"http://{self.host}:{self.http_port}/?{urlencode(parameters)}",
            data=sql.encode(),
            headers={"Authorization": f"Basic {credentials}"},
        )
        try:
            # An opener without proxies: a proxy from HTTP_PROXY must not be used for the loopback.
            with _direct().open(request, timeout=120) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as problem:
            message = problem.read().decode(errors="replace").strip()
            raise errors.StatementRejected(f"ClickHouse: {message}", code="sandbox-sql") from None
        except (OSError, http.client.HTTPException) as problem:
            raise errors.Unavailable(f"ClickHouse does not answer: {problem}", code="sandbox-server") from None

    def _ready(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            with _direct().open(f"http://{self.host}:{self.http_port}/ping", timeout=2) as answer:
                pinged = answer.read() == b"Ok.\n"
            return pinged and ports.accepts_connections(self.tcp_port)
        return False

    def _address(self, username: str, password: str, port: int, database: str) -> str:
        user, word, name = (quote(part, safe="") for part in (username, password, database))
        return f"{user}:{word}@{self.host}:{port}/{name}"

    def _config_xml(self) -> str:
        shards = "".join(f"<shard><replica><host>{self.host}</host><port>{node.tcp}</port></replica></shard>" for node in self.nodes)
        number = self.nodes.index(self.ports) + 1
        query_log = (
            "<query_log><database>system</database><table>query_log</table>"
            f"<flush_interval_milliseconds>{_LOG_MILLISECONDS}</flush_interval_milliseconds></query_log>"
        )
        homes = (
            "<path>data/</path><tmp_path>tmp/</tmp_path><user_files_path>user_files/</user_files_path>"
            "<format_schema_path>format_schemas/</format_schema_path><default_profile>default</default_profile>"
            "<user_directories><users_xml><path>users.xml</path></users_xml><local_directory><path>access/</path></local_directory></user_directories>"
            f"<interserver_http_host>{self.host}</interserver_http_host>"
        )
        return f"""<clickhouse>
<listen_host>{self.host}</listen_host><http_port>{self.http_port}</http_port><tcp_port>{self.tcp_port}</tcp_port>
<logger><level>warning</level><log>{escape(str(self._process.log))}</log><size>20M</size><count>1</count></logger>
<users_config>users.xml</users_config><timezone>UTC</timezone>
<mark_cache_size>16777216</mark_cache_size><uncompressed_cache_size>0</uncompressed_cache_size>
<max_server_memory_usage>4294967296</max_server_memory_usage>
<remote_servers><{CLUSTER}><secret>{escape(self._cluster_secret)}</secret>{shards}</{CLUSTER}></remote_servers>
<macros><cluster>{CLUSTER}</cluster><shard>{number}</shard><replica>replica{number}</replica></macros>
{query_log if self.query_log else ""}{homes if self.release is Release.LONG_TERM else ""}{self._configuration}
</clickhouse>
"""


def start_cluster(directory: Path, count: int = 2, *, users: Sequence[User] = ()) -> list[ClickHouseServer]:
    """Starts several nodes whose cluster `default` has one shard on each; the caller stops them."""
    nodes = [NodePorts(ports.free_port(), ports.free_port()) for _ in range(count)]
    word = secrets.token_urlsafe(16)
    started: list[ClickHouseServer] = []
    try:
        for number, node in enumerate(nodes, 1):
            server = ClickHouseServer(
                directory / f"node{number}",
                http_port=node.http,
                tcp_port=node.tcp,
                users=users,
                nodes=nodes,
                cluster_secret=word,
            )
            started.append(server.start())
    except BaseException:
        for server in started:
            server.stop()
        raise
    return started


def owner_grants(database: str) -> tuple[str, ...]:
    """Returns the grants that a service's own login needs: everything inside its database, every table engine, and its own work in `system`."""
    return (
        f"GRANT ALL ON {identifier(database)}.*",
        "GRANT TABLE ENGINE ON *",
        "GRANT SELECT ON system.*",
        "GRANT KILL QUERY, REMOTE, CLUSTER ON *.*",
    )


def identifier(name: str) -> str:
    """Quotes a name for SQL."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


@functools.cache
def _direct() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _users_xml(users: Sequence[User]) -> str:
    return f"""<clickhouse>
<profiles>
<default><implicit_select>0</implicit_select></default>
<readonly><implicit_select>0</implicit_select><readonly>1</readonly></readonly>
</profiles>
<quotas><default></default></quotas>
<users>
<default><password></password><networks><ip>{ports.LOOPBACK}</ip></networks><profile>default</profile><quota>default</quota>
<grants><query>GRANT SYSTEM LISTEN ON *.*</query><query>GRANT SELECT ON system.numbers</query></grants></default>
{"".join(_user_xml(user) for user in users)}</users>
</clickhouse>
"""


def _user_xml(user: User) -> str:
    if not _USER_NAME.fullmatch(user.name):
        raise errors.UsageError(
            f"{user.name!r} can't name a ClickHouse user of the sandbox",
            hint="use letters, digits, `_` and `-`, and start with a letter",
        )
    digest = hashlib.sha256(user.password.encode()).hexdigest()
    profile = "readonly" if user.readonly else "default"
    grants = "".join(f"<query>{escape(grant)}</query>" for grant in user.grants)
    return (
        f"<{user.name}><password_sha256_hex>{digest}</password_sha256_hex><networks><ip>{ports.LOOPBACK}</ip></networks>"
        f"<profile>{profile}</profile><quota>default</quota>"
        + (f"<grants>{grants}</grants>" if grants else "")
        + (_MANAGES.format(int(user.access_management)) if not grants else "")
        + f"</{user.name}>\n"
    )


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
