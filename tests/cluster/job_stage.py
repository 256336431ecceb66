"""A service with a database, an image with its migrations, and a Secret in a namespace: what a migration Job needs, on real servers."""

from __future__ import annotations

import contextvars
import json
import os
import shutil
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from migrator.address import addresses
from sandbox.cluster import images, kubeconfigs
from sandbox.cluster.api import Object
from tasks import migration, settings
from tasks.fleet import Engine, Keys, Target, Workload
from tasks.fleet.job_section import Job
from tasks.job import running
from tasks.outcomes import MigrationOutcome
from tasks.request import Request
from tests.cluster.workloads import Namespace

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "auth-service"
DIRECTORY = "/app/services/auth-service/migrations"
SECRET = "auth-service-credentials"

USERS = "-- +goose Up\nCREATE TABLE users (id bigint PRIMARY KEY);\n-- +goose Down\nDROP TABLE users;\n"
EVENTS = "-- +goose Up\nCREATE TABLE events (id String) ENGINE = MergeTree ORDER BY id;\n-- +goose Down\nDROP TABLE events;\n"

GATE = 77
"""The advisory lock at which a migration of a test waits, until the test lets it pass."""

GATED = f"-- +goose Up\nCREATE TABLE gated (id bigint);\nSELECT pg_advisory_xact_lock({GATE});\n-- +goose Down\nDROP TABLE gated;\n"


@dataclass
class JobStage:
    """One service in one namespace. `told` is what a run's log would hold; `job` and `changes` are what fleet.yaml would say otherwise."""

    namespace: Namespace
    directory: Path
    dbstring: str
    engine: Engine
    sql: Callable[[str], str]
    told: list[tuple[str, str]] = field(default_factory=list)
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4))
    job: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    patience: float = 60.0
    _tags: int = 0

    @property
    def repository(self) -> str:
        """The service's image without its tag: one per namespace, so that tests don't share images."""
        return f"registry.example/{self.namespace.name}/{SERVICE}"

    @property
    def files(self) -> Path:
        """The checkout's migration files, as the worker has them."""
        return self.directory / "migrations"

    @property
    def database(self) -> str:
        """The database's name."""
        return self.parts["database"]

    @property
    def parts(self) -> dict[str, str]:
        """The credentials, as the Secret has them."""
        if self.engine is Engine.CLICKHOUSE:
            found = addresses.parse_clickhouse(self.dbstring, {})
            (host, port), (_, http_port, _) = found.hosts[0], found.http_ports[0]
            given = {"host": host, "port": str(port), "username": found.username, "password": found.password, "database": found.database}
            return {**given, "http_port": str(http_port)}
        address = addresses.parse_postgres(self.dbstring, {})
        host, _, port = address.hosts.rpartition(":")
        return {
            "host": host,
            "port": port,
            "username": address.user or "",
            "password": address.password or "",
            "database": address.database or "",
        }

    @property
    def target(self) -> Target:
        """The service in its environment, as the fleet would have it."""
        return Target(
            service=SERVICE,
            environment="dev",
            engine=self.engine,
            base=self.database,
            suffix="",
            vault_mount="secret",
            vault_path="apps/dev/auth-service",
            secret_keys=Keys(),
            namespace=self.namespace.name,
            work_pool="greylag-dev",
            kube_context=kubeconfigs.CONTEXT,
            workload=Workload(name=SERVICE),
            root=str(self.directory),
            directory=str(self.files),
            protected=False,
            job=Job(image=self.repository, directory=DIRECTORY, secret=SECRET, **self.job),
        ).model_copy(update=self.changes)

    def write(self, name: str, content: str) -> None:
        """Writes a migration file."""
        (self.files / name).write_text(textwrap.dedent(content), encoding="utf-8")

    def push(self) -> str:
        """Makes an image of the files as they are now; gives its tag."""
        self._tags += 1
        copy = self.directory / f"image-{self._tags}"
        shutil.copytree(self.files, copy)
        copy.chmod(0o755)
        reference = f"{self.repository}:{self._tags}"
        self.namespace.cluster.register(images.checkout(reference, ROOT, Path(sys.executable), {DIRECTORY: str(copy)}))
        return str(self._tags)

    def store_secret(self, **changes: str | None) -> None:
        """Writes the Secret, with changes; a value of None leaves the key out."""
        data = {key: value for key, value in {**self.parts, **changes}.items() if value is not None}
        self.namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "stringData": data})

    def run(self, tag: str = "", backoff_limit: int = 3, **given: Any) -> MigrationOutcome:
        """Step 3 as a Job, in this process; `tag` is the image's, a new one of the present files where it is empty."""
        target = self.target
        request = Request(
            target,
            SecretStr(self.dbstring),
            env={},
            settings=settings.load().model_copy(update={"job_patience_seconds": self.patience}),
            **{"run_id": os.urandom(16).hex(), "deadline": 120.0, **given},
        )
        image = target.image(tag or self.push())

        def tell(level: str, text: str) -> None:
            self.told.append((level, text))

        return running.run(request, image=image, tell=tell, backoff_limit=backoff_limit)

    def start(self, *given: Any, **named: Any) -> Future[MigrationOutcome]:
        """`run` in another thread."""
        context = contextvars.copy_context()
        return self.pool.submit(lambda: context.run(lambda: self.run(*given, **named)))

    def plan(self) -> migration.Prepared:
        """What there is to do now."""
        return migration.prepare(Request(self.target, SecretStr(self.dbstring), env={}))

    def jobs(self) -> list[Object]:
        """The namespace's Jobs."""
        return self.namespace.list("job")

    def only_job(self) -> Object:
        """The namespace's only Job."""
        (found,) = self.jobs()
        return found

    def pods(self) -> list[Object]:
        """The namespace's pods, oldest first."""
        return self.namespace.list("pod")

    def wait_for_pod(self, phase: str = "Running") -> Object:
        """The newest pod, once it is in that phase."""
        self.namespace.cluster.wait_until(lambda: any(pod["status"].get("phase") == phase for pod in self.pods()), f"a pod is {phase}")
        return [pod for pod in self.pods() if pod["status"].get("phase") == phase][-1]

    def wait_until_sql(self, statement: str, expected: str) -> None:
        """Polls the database until a statement gives what is expected."""
        self.namespace.cluster.wait_until(lambda: self.sql(statement).strip() == expected, f"{statement} gives {expected}")

    def wait_at_gate(self) -> None:
        """Returns once a migration waits at the gate."""
        self.wait_until_sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 77", "1")

    def applied(self) -> list[int]:
        """The versions in goose's table; [] where there is none."""
        there = (
            "EXISTS TABLE goose_db_version" if self.engine is Engine.CLICKHOUSE else "SELECT to_regclass('goose_db_version') IS NOT NULL"
        )
        if self.sql(there).strip() not in ("1", "t"):
            return []
        return [int(line) for line in self.sql("SELECT version_id FROM goose_db_version WHERE version_id > 0 ORDER BY 1").split()]

    def said(self) -> str:
        """Everything that was told, as one text."""
        return "\n".join(text for _, text in self.told)

    def everything(self) -> str:
        """Every object of the namespace but the Secret itself, and every pod's log."""
        found = [self.namespace.list(kind) for kind in ("job", "pod", "event")]
        logs = [self.namespace.said(pod["metadata"]["name"]) for pod in self.pods()]
        return json.dumps([*found, *logs], ensure_ascii=False)


def gate(url: str) -> Any:
    """Closes the gate; the connection's end opens it."""
    import psycopg

    connection = psycopg.connect(url, autocommit=True)
    connection.execute("SELECT pg_advisory_lock(%s)", [GATE])
    return connection


def soon(event: threading.Event) -> None:
    """Waits for an event that is about to come; a test's time-out ends it otherwise."""
    assert event.wait(120)
