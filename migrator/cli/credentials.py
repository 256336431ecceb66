"""A DBSTRING out of credentials in parts: what a Kubernetes Secret holds, without a shell that percent-encodes.

Three sources, the first that is there: the files of `GREYLAG_CREDENTIALS_DIRECTORY` (a mounted Secret), the variables `GREYLAG_HOST` and its
siblings, and the usual recipe's own `POSTGRES_*` or `CLICKHOUSE_*`. All of them stand behind a DBSTRING that is written out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from migrator import errors
from migrator.address import addresses, mounted_secret

DIRECTORY = "GREYLAG_CREDENTIALS_DIRECTORY"
SOURCE = "GREYLAG_CREDENTIALS_SOURCE"
"""What the Secret must have been made of, as the chart computes it. External Secrets calls an ExternalSecret ready while its Secret is still that of
the path before (kubernetes.md §3.3), and a Job has no access to the API: so the Secret itself must say it."""

SOURCE_FILE = "greylag-source"
"""The Secret's key with the same text; the chart's ExternalSecret writes it together with the credentials."""

WAIT = "GREYLAG_CREDENTIALS_WAIT"
"""A duration as Go writes it: how long to wait until both agree."""

WAIT_SECONDS = 120.0
"""Unless told: a kubelet brings a changed Secret into a running pod within about 90 seconds."""

POLL_SECONDS = 0.5

PARAMETERS = "GREYLAG_PARAMETERS"
"""A query string of connection parameters, such as `sslmode=verify-full`: no secret, so it need not lie in the Secret."""

FILES: Mapping[str, tuple[str, ...]] = {
    "host": ("host",),
    "port": ("port",),
    "username": ("username", "user"),
    "password": ("password",),
    "database": ("database", "dbname"),
    "http_port": ("http_port",),
}
"""What the files may be called; the first one present is taken."""

VERBATIM = ("username", "password")
"""Parts whose spaces belong to them; around the others they mean nothing."""

REQUIRED = ("host", "username", "password", "database")

DEFAULT_PORTS = {"postgres": "5432", "pgx": "5432", "clickhouse": "9000"}


class Parts(NamedTuple):
    """Credentials in parts, as they were found; what was not is empty."""

    host: str
    port: str = ""
    username: str = ""
    password: str = ""
    database: str = ""
    http_port: str = ""

    def dbstring(self, driver: str, parameters: str = "") -> str:
        """Builds the address, every part percent-encoded. Raises UsageError as `addresses.build`."""
        from urllib.parse import parse_qsl

        query = dict(parse_qsl(parameters, keep_blank_values=True))
        if driver == "clickhouse" and self.http_port:
            query.setdefault("http_port", self.http_port)
        return addresses.build(
            driver,
            host=self.host,
            port=self.port or DEFAULT_PORTS[driver],
            username=self.username,
            password=self.password,
            database=self.database,
            parameters=query,
        )

    def substitutions(self, driver: str) -> dict[str, str]:
        """Returns what `${NAME}` in a migration may name besides the process's own variables. The password is not among them: it is in the environment
        only where somebody put it there.
        """
        prefix = _prefix(driver)
        return {
            f"{prefix}_HOST": self.host,
            f"{prefix}_PORT": self.port or DEFAULT_PORTS[driver],
            f"{prefix}_USER": self.username,
            f"{prefix}_USERNAME": self.username,
            f"{prefix}_DATABASE": self.database,
        }


def find(driver: str, environ: Mapping[str, str]) -> Parts | None:
    """Finds the credentials for a driver; None where no source is there.

    Raises NotFound (`secret-missing`, `key-missing`) and UsageError (`bad-secret`) as `mounted_secret.read`; NotYet (`secret-stale`) when the Secret is
    not the one that GREYLAG_CREDENTIALS_SOURCE names and does not become it in time, Interrupted when a signal ends the wait.
    """
    if environ.get(DIRECTORY):
        return _from_files(Path(environ[DIRECTORY]), environ)
    if environ.get("GREYLAG_HOST"):
        return _from_variables("GREYLAG", environ)
    if environ.get(f"{_prefix(driver)}_HOST"):
        return _from_variables(_prefix(driver), environ)
    return None


def _prefix(driver: str) -> str:
    return "CLICKHOUSE" if driver == "clickhouse" else "POSTGRES"


def _from_variables(prefix: str, environ: Mapping[str, str]) -> Parts:
    def named(*names: str) -> str:
        return next((found for name in names if (found := environ.get(f"{prefix}_{name}"))), "")

    return Parts(named("HOST"), named("PORT"), named("USERNAME", "USER"), named("PASSWORD"), named("DATABASE", "DB"))


def _from_files(directory: Path, environ: Mapping[str, str]) -> Parts:
    present = _read(directory)
    if environ.get(SOURCE) and not _is_from(present, environ[SOURCE]):
        present = _awaited(directory, environ)
    found: dict[str, str] = {}
    for part, names in FILES.items():
        name = next((item for item in names if item in present), None)
        if name is not None:
            found[part] = present[name] if part in VERBATIM else present[name].strip()
    missing = [part for part in REQUIRED if not found.get(part)]
    if missing:
        raise errors.NotFound(
            f"the credentials directory {directory} lacks {', '.join(missing)}; it has {', '.join(present) or 'nothing'}",
            code="key-missing",
            hint="add the key to the Secret: host, port, username, password, database",
        )
    return Parts(**{"port": environ.get("GREYLAG_PORT", ""), **found})


def _read(directory: Path) -> dict[str, str]:
    wanted = {SOURCE_FILE, *(name for names in FILES.values() for name in names)}
    return mounted_secret.read(
        directory, wanted, name=f"the credentials directory {directory}", hint=f"mount the Secret there, or correct {DIRECTORY}"
    )


def _is_from(present: Mapping[str, str], source: str) -> bool:
    return present.get(SOURCE_FILE, "").strip() == source


def _awaited(directory: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the files once they are of the right source; credentials and source are read as one version of the Secret."""
    from migrator.cli import interruption, text
    from migrator.goose import durations

    limit = durations.parse(environ[WAIT]) if environ.get(WAIT) else WAIT_SECONDS
    deadline = time.monotonic() + limit
    text.own("waiting for the Secret: it is not yet made of this release's path, store and keys")
    with interruption.guard(0.0):
        while True:
            present = _read(directory)
            if _is_from(present, environ[SOURCE]):
                return present
            left = deadline - time.monotonic()
            if left <= 0:
                raise errors.NotYet(
                    f"the Secret in {directory} is not of this release after {limit:g} s: it says {present.get(SOURCE_FILE, '').strip() or 'nothing'} "
                    f"and {environ[SOURCE]} is expected",
                    code="secret-stale",
                    hint="look at the ExternalSecret's events: its path, its store or a key may be missing there, or External Secrets is away",
                )
            time.sleep(min(POLL_SECONDS, left))
