"""A playground for one ClickHouse database: write files, plan, apply, look."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest

from migrator import applying, databases, errors, targets
from migrator.clickhouse import connection
from migrator.planning import events, files, planner, plans
from sandbox.databases.clickhouse import ClickHouseServer

LEASE = "2s"  # a killed runner's lock is free after 6 s instead of 37

RUNNER = """
import json, sys
from migrator import applying, databases, errors, targets
from migrator.planning import files, planner
url, directory, verb = sys.argv[1:4]
print("ready", flush=True)
sys.stdin.readline()
try:
    with databases.open_database("clickhouse", url) as database:
        plan = planner.plan(files.load(directory), database.read_history(), targets.Target(targets.Verb(verb)), engine=database.engine)
        report = applying.apply(database, plan, lambda event: print(json.dumps(event.document(), default=str), flush=True))
    print(json.dumps({"event": "end", "finished": len(report.finished)}), flush=True)
except errors.GreylagError as error:
    print(json.dumps({"event": "error", **error.document()}), flush=True)
    sys.exit(error.exit_code)
"""


@dataclass
class Playground:
    """A directory of migrations and a database to apply them to."""

    url: str
    server: ClickHouseServer
    name: str
    directory: Path
    seen: list[events.Event] = field(default_factory=list)

    def write(self, version: int, *statements: str, down: str = "", block: bool = False, head: str = "") -> Path:
        """Writes one migration; `block` puts each statement into StatementBegin and StatementEnd."""
        path = self.directory / f"{version:05d}_step.sql"
        path.write_text(
            f"{head}-- +goose Up\n{_section(statements, block)}-- +goose Down\n{down}\n", encoding="utf-8", errors="surrogateescape"
        )
        return path

    def open(self, **options: Any) -> connection.ClickHouseDatabase:
        """A connection to the playground's database."""
        return connection.connect(self.url, databases.Options(**options))

    def plan(
        self, database: databases.Database, verb: targets.Verb = targets.Verb.UP, version: int = 0, *, versioning: bool = True
    ) -> plans.Plan:
        target = targets.Target(verb, version, versioning=versioning)
        policy = plans.Policy(accept_hazards=True, accept_changed=True)
        return planner.plan(files.load(self.directory), database.read_history(), target, engine=database.engine, policy=policy)

    def run(self, verb: targets.Verb = targets.Verb.UP, version: int = 0, *, versioning: bool = True, **options: Any) -> applying.Report:
        """Opens, plans, applies and closes; events are kept in `seen`."""
        self.seen.clear()
        policy = plans.Policy(accept_hazards=True, accept_changed=True)
        with self.open(**options) as database:
            return applying.apply(database, self.plan(database, verb, version, versioning=versioning), self.seen.append, policy=policy)

    def answer(self, version: int, index: int, *, done: bool) -> None:
        with self.open() as database, database.lock(events.ignore):
            database.answer(version, index, done=done)

    def runner(self, verb: str = "up", **environment: str) -> subprocess.Popen[str]:
        """A process that applies the directory as soon as a line is written to it."""
        return subprocess.Popen(
            [sys.executable, "-c", RUNNER, self.url, str(self.directory), verb],
            cwd=Path(__file__).parents[2],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def sql(self, text: str) -> list[list[Any]]:
        """What an administrator sees."""
        body = self.client().raw_query(text, fmt="JSONCompactEachRow")
        return [json.loads(line) for line in body.decode("utf-8", "replace").splitlines()]

    def do(self, text: str) -> None:
        self.client().command(text)

    def client(self) -> Any:
        return clickhouse_connect.get_client(
            host="127.0.0.1",
            port=self.server.http_port,
            username="admin",
            password=self.server.admin_password,
            database=self.name,
            autogenerate_session_id=False,
        )

    def versions(self) -> list[int]:
        """Every row of goose's table, repeats included."""
        return [int(row[0]) for row in self.sql("SELECT version_id FROM goose_db_version ORDER BY version_id")]

    def of(self, kind: type[events.Event]) -> list[Any]:
        return [event for event in self.seen if isinstance(event, kind)]


def _section(statements: tuple[str, ...], block: bool) -> str:
    if block:
        return "".join(f"-- +goose StatementBegin\n{item}\n-- +goose StatementEnd\n" for item in statements)
    return "".join(f"{item}\n" for item in statements)


def finish(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Waits for a runner's end; its events."""
    output, _ = process.communicate(timeout=120)
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def start(process: subprocess.Popen[str]) -> None:
    """Lets a runner that has imported everything begin."""
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()


def has_lock(process: subprocess.Popen[str]) -> bool:
    """Waits until a runner holds the lock, or has ended."""
    assert process.stdout is not None
    return any('"lock-acquired"' in line for line in iter(process.stdout.readline, ""))


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits for something that another process or the server does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def playground(clickhouse_here: ClickHouseServer, clickhouse_database: str, clickhouse_url: str, tmp_path: Path) -> Playground:
    """An empty directory and an empty database."""
    directory = tmp_path / "migrations"
    directory.mkdir()
    return Playground(f"{clickhouse_url}&greylag_lease={LEASE}", clickhouse_here, clickhouse_database, directory)


def refusal(run: Callable[[], object]) -> errors.GreylagError:
    """The error that a call ends with."""
    with pytest.raises(errors.GreylagError) as caught:
        run()
    return caught.value
