"""A database server of its own for one command: started in a temporary directory, gone at the end. Nothing has to be installed but wheels.

The login is the server's administrator: what a service's own login may not do is not found out here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from migrator import errors, targets

if TYPE_CHECKING:
    from sandbox.databases.clickhouse import ClickHouseServer
    from sandbox.databases.postgres import PostgresServer
    from tasks.credentials.source import Credentials

Snapshot = Mapping[str, str]
"""What a database holds: an object's kind and name -> the text that would make it again. goose's and greylag's own tables are left out."""

OWN_TABLES = ("goose_db_version", "greylag_migration", "greylag_journal", "greylag_fact", "greylag_approval", "greylag_lock")


@dataclass(frozen=True)
class Embedded:
    """One database on a server that ends with the command. `version` is the server's, `snapshot` reads what the database holds now."""

    engine: targets.Engine
    url: str
    version: str
    credentials: Credentials
    snapshot: Callable[[], Snapshot]

    @property
    def driver(self) -> str:
        """goose's word for the engine."""
        return "postgres" if self.engine is targets.Engine.POSTGRES else "clickhouse"


@contextmanager
def started(engine: targets.Engine, database: str, *, version: int = 0, owner_role: str = "") -> Iterator[Embedded]:
    """Starts a server with one empty database.

    Args:
        database: its name, as in the environment that is imitated: files may name it.
        version: PostgreSQL's major version, 0 for the newest that is there.
        owner_role: a role that must exist because runs take it after login (PostgreSQL).

    Raises NotFound (`sandbox-missing`) where the wheel is not installed, Unavailable when the server does not start.
    """
    with tempfile.TemporaryDirectory(prefix="greylag-embedded-") as name:
        directory = Path(name)
        directory.chmod(0o711)  # PostgreSQL's unprivileged user passes through it
        if engine is targets.Engine.POSTGRES:
            from sandbox.databases import postgres

            with postgres.PostgresServer(directory / "postgres", version=version or postgres.DEFAULT_VERSION) as server:
                yield _on_postgres(server, database, owner_role)
        else:
            from sandbox.databases import clickhouse

            with clickhouse.ClickHouseServer(directory / "clickhouse") as node:
                yield _on_clickhouse(node, database)


def _on_postgres(server: PostgresServer, database: str, owner_role: str) -> Embedded:
    from sandbox.databases import postgres

    if owner_role:
        server.execute(f"CREATE ROLE {postgres.identifier(owner_role)} NOLOGIN")
    url = server.create_database(database, owner=owner_role or None)
    found = _credentials(server.host, server.port, postgres.SUPERUSER, server.superuser_password, database)
    number = server.execute("SHOW server_version").split()[0]
    return Embedded(targets.Engine.POSTGRES, url, number, found, lambda: _postgres_snapshot(server, database))


def _on_clickhouse(node: ClickHouseServer, database: str) -> Embedded:
    from sandbox.databases import clickhouse

    url = node.create_database(database)
    found = _credentials(node.host, node.tcp_port, clickhouse.ADMIN, node.admin_password, database)
    return Embedded(
        targets.Engine.CLICKHOUSE, url, node.execute("SELECT version()").strip(), found, lambda: _clickhouse_snapshot(node, database)
    )


def _credentials(host: str, port: int, username: str, password: str, database: str) -> Credentials:
    from pydantic import SecretStr

    from tasks.credentials.source import Credentials

    return Credentials(host=host, port=port, username=username, password=SecretStr(password), database=database)


# --- what a database holds ------------------------------------------------------------------------------------------------------------

_ENTRY = re.compile(r"^--\n-- Name: (?P<name>.*); Type: (?P<type>.*); Schema: (?P<schema>.*); Owner: .*\n--\n", re.MULTILINE)
_PASSING = re.compile(r"^(?:SET default_\w+ = .*|\\(?:un)?restrict .*|--.*)\n?", re.MULTILINE)
"""Lines of a dump that belong to no object: defaults for what follows, a random word against injection, the closing comment."""


def _postgres_snapshot(server: PostgresServer, database: str) -> Snapshot:
    """Asks pg_dump, which knows every kind of object and its canonical text, and the server for its roles, which pg_dump leaves out."""
    from sandbox.databases import postgres

    excluded = [f"--exclude-table=*.{name}" for name in OWN_TABLES]
    command = [str(postgres.binaries(server.version) / "pg_dump"), "--schema-only", *excluded]
    where = ["-h", server.host, "-p", str(server.port), "-U", postgres.SUPERUSER, database]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_"))}
    done = subprocess.run(
        [*command, *where],
        env={**environment, "LANG": "C.UTF-8", "PGPASSWORD": server.superuser_password},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise errors.Unavailable(f"the schema can't be read: pg_dump: {done.stderr.strip()}", code="sandbox-dump", hint="report it")
    roles = server.execute(r"SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'").split("\n")
    return {**dump_entries(done.stdout), **{f"ROLE {name}": "" for name in roles if name}}


def dump_entries(dump: str) -> Snapshot:
    """Returns the objects of a `pg_dump --schema-only`, each with its statements; pure."""
    heads = list(_ENTRY.finditer(dump))
    found: dict[str, str] = {}
    for number, head in enumerate(heads):
        end = heads[number + 1].start() if number + 1 < len(heads) else len(dump)
        schema = "" if head["schema"] == "-" else f"{head['schema']}."
        key = f"{head['type']} {schema}{head['name']}"
        found[key] = found.get(key, "") + _PASSING.sub("", dump[head.end() : end]).strip() + "\n"
    return found


_UUID = re.compile(r" (?:TO INNER )?UUID '[0-9a-f-]{36}'")


def _clickhouse_snapshot(node: ClickHouseServer, database: str) -> Snapshot:
    """Tables, views and dictionaries of the database as the server would write them; functions and databases of the whole server."""
    from sandbox.databases import postgres

    own = ", ".join(postgres.literal(name) for name in OWN_TABLES)
    answer = node.execute(
        f"SELECT if(engine LIKE '%View', 'VIEW ', if(engine = 'Dictionary', 'DICTIONARY ', 'TABLE ')) || name AS key, create_table_query AS text "
        f"FROM system.tables WHERE database = {postgres.literal(database)} AND name NOT IN ({own}) "
        "AND NOT startsWith(name, '.inner') AND NOT startsWith(name, 'greylag_') "
        "UNION ALL SELECT 'FUNCTION ' || name, create_query FROM system.functions WHERE origin = 'SQLUserDefined' "
        "UNION ALL SELECT 'DATABASE ' || name, '' FROM system.databases FORMAT JSONEachRow"
    )
    rows = [json.loads(line) for line in answer.splitlines() if line]
    return {row["key"]: _UUID.sub("", row["text"]) for row in rows}


@dataclass(frozen=True, slots=True)
class Difference:
    """How one object differs between two snapshots: `added`, `removed` or `changed`, and for a change the lines that differ."""

    subject: str
    kind: str
    lines: tuple[str, ...] = ()


def differences(before: Snapshot, after: Snapshot) -> list[Difference]:
    """Tells what `after` has more, less and otherwise; pure, in the order of names."""
    import difflib

    found = []
    for key in sorted(before.keys() | after.keys()):
        if key not in before:
            found.append(Difference(key, "added"))
        elif key not in after:
            found.append(Difference(key, "removed"))
        elif before[key] != after[key]:
            lines = list(difflib.unified_diff(before[key].splitlines(), after[key].splitlines(), lineterm="", n=0))[2:]
            found.append(Difference(key, "changed", tuple(line for line in lines if not line.startswith("@@"))))
    return found
