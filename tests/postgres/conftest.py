"""A playground for one database: write files, plan, apply, look."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from migrator import applying, databases, targets
from migrator.planning import events, files, planner, plans
from migrator.postgres import connection


@dataclass
class Playground:
    """A directory of migrations and a database to apply them to."""

    url: str
    directory: Path
    seen: list[events.Event] = field(default_factory=list)

    def write(self, version: int, up: str | bytes, down: str = "", *, head: str = "", name: str = "step") -> Path:
        """Writes one migration file; `head` comes before its Up annotation."""
        path = self.directory / f"{version:05d}_{name}.sql"
        body = up.encode() if isinstance(up, str) else up
        path.write_bytes(head.encode() + b"-- +goose Up\n" + body + b"\n\n-- +goose Down\n" + down.encode() + b"\n")
        return path

    def clear(self) -> None:
        shutil.rmtree(self.directory)
        self.directory.mkdir()

    def open(self, **options: object) -> connection.PostgresDatabase:
        """A connection to the playground's database."""
        return connection.connect(self.url, databases.Options(**options))  # type: ignore[arg-type]

    def plan(
        self, database: databases.Database, verb: targets.Verb = targets.Verb.UP, *, version: int = 0, versioning: bool = True
    ) -> plans.Plan:
        target = targets.Target(verb, version, versioning=versioning)
        policy = plans.Policy(accept_hazards=True)
        return planner.plan(files.load(self.directory), database.read_history(), target, engine=database.engine, policy=policy)

    def run(self, verb: targets.Verb = targets.Verb.UP, *, version: int = 0, versioning: bool = True, **options: object) -> applying.Report:
        """Opens, plans, applies and closes; events are kept in `seen`."""
        self.seen.clear()
        with self.open(**options) as database:
            plan = self.plan(database, verb, version=version, versioning=versioning)
            return applying.apply(database, plan, self.seen.append, policy=plans.Policy(accept_hazards=True))

    def sql(self, text: str) -> list[tuple[object, ...]]:
        """What another session sees."""
        with psycopg.connect(self.url, autocommit=True) as other:
            cursor = other.execute(text)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def versions(self) -> list[int]:
        return [int(str(row[0])) for row in self.sql("SELECT version_id FROM goose_db_version ORDER BY id")]

    def exists(self, relation: str) -> bool:
        return self.sql(f"SELECT to_regclass('{relation}') IS NOT NULL") == [(True,)]

    def of(self, kind: type[events.Event]) -> list[events.Event]:
        return [event for event in self.seen if isinstance(event, kind)]


@pytest.fixture
def playground(postgres_url: str, tmp_path: Path) -> Playground:
    """A fresh database and an empty directory."""
    directory = tmp_path / "migrations"
    directory.mkdir()
    return Playground(postgres_url, directory)


@pytest.fixture
def new_playground(new_postgres_url: Callable[[], str], tmp_path: Path) -> Iterator[Callable[[], Playground]]:
    """A maker of playgrounds."""
    count = iter(range(1000))

    def make() -> Playground:
        directory = tmp_path / f"migrations{next(count)}"
        directory.mkdir()
        return Playground(new_postgres_url(), directory)

    yield make
