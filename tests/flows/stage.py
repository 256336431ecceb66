"""A small fleet on real servers: three environments, each with its own databases, its own Vault policy and token.

`Stage` is what a team has: a fleet.yaml, migration files, secrets. Its paths stay the same for the session, so that workers may hold them;
`fresh` gives each test new databases and new files.
"""

from __future__ import annotations

import itertools
import os
import secrets
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sandbox.databases.clickhouse import ClickHouseServer
from sandbox.databases.postgres import PostgresServer, identifier, literal
from sandbox.vault.secrets_server import SecretsServer

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = {"dev": "_dev", "release": "_release", "prod": ""}
CLICKHOUSE_USER, CLICKHOUSE_PASSWORD = "migrator", "p%/:@#?&+ '\"\\$=;{}é漢"

FLEET = """\
root: .
vault:
  path: "apps/{tag}/{{environment}}/{{service}}/{{store}}"
environments:
  dev: {{suffix: _dev}}
  release: {{suffix: _release}}
  prod: {{suffix: "", aliases: [production], protected: true}}
services:
  auth-service:
    engine: postgres
    database: auth_{tag}
    migrations: services/auth-service/migrations
    env: {{TENANT: "{tenant}"}}
  personal-service:
    engine: postgres
    database: personal_{tag}
    migrations: services/personal-service/migrations
    depends_on: [auth-service]
  identity-service:
    engine: postgres
    database: identity_{tag}
    migrations: services/identity-service/migrations/postgres
"""

CLICKHOUSE_SERVICE = """\
  audit-service:
    engine: clickhouse
    database: audit_{tag}
    migrations: services/audit-service/migrations
    parameters: {{http_port: "{http_port}"}}
"""

FILES = {
    "auth-service/migrations/20250101000000_create_users.sql": """\
        -- +goose Up
        CREATE TABLE users (id text PRIMARY KEY, created_at timestamptz(6) NOT NULL DEFAULT now());
        -- +goose Down
        DROP TABLE users;
        """,
    "auth-service/migrations/20250102000000_index_users.sql": """\
        -- +goose NO TRANSACTION
        -- +goose Up
        CREATE INDEX CONCURRENTLY users_created_at ON users (created_at);
        -- +goose Down
        DROP INDEX CONCURRENTLY users_created_at;
        """,
    "personal-service/migrations/20250101000000_create_profiles.sql": """\
        -- +goose Up
        CREATE TABLE profiles (id text PRIMARY KEY);
        -- +goose Down
        DROP TABLE profiles;
        """,
    "identity-service/migrations/postgres/20250101000000_create_identities.sql": """\
        -- +goose Up
        CREATE TABLE identities (id text PRIMARY KEY);
        -- +goose Down
        DROP TABLE identities;
        """,
    "audit-service/migrations/20250101000000_create_events.sql": """\
        -- +goose Up
        CREATE TABLE events (id String, at DateTime64(6)) ENGINE = MergeTree ORDER BY (at, id);
        -- +goose Down
        DROP TABLE events;
        """,
}


@dataclass
class Stage:
    """One fleet on real servers."""

    directory: Path
    postgres: PostgresServer
    vault: SecretsServer
    clickhouse: ClickHouseServer | None = None
    tag: str = ""
    passwords: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)
    _names: Iterator[int] = field(default_factory=itertools.count)

    @property
    def services(self) -> dict[str, str]:
        """Base database name per service."""
        names = ["auth", "personal", "identity"] + (["audit"] if self.clickhouse else [])
        return {f"{name}-service": f"{name}_{self.tag}" for name in names}

    def fresh(self, *environments: str, tenant: str = "") -> None:
        """New databases and secrets of these environments, and the first files again."""
        self.tag = f"{next(self._names)}{secrets.token_hex(3)}"
        self.passwords.clear()
        text = FLEET.format(tag=self.tag, tenant=tenant)
        if self.clickhouse:
            text += CLICKHOUSE_SERVICE.format(tag=self.tag, http_port=self.clickhouse.http_port)
        (self.directory / "fleet.yaml").write_text(text, encoding="utf-8")
        for path in (self.directory / "services").rglob("*.sql"):
            path.unlink()
        for name, content in FILES.items():  # unlike those of any other test: an approval of theirs must not fit here
            self.write(name, f"{textwrap.dedent(content)}-- {self.tag}\n")
        for environment in ENVIRONMENTS:
            self._admit(environment, environment)
        self.prepare(*environments)

    def prepare(self, *environments: str) -> None:
        """Makes the databases and secrets of environments."""
        script = [line for environment in environments for service in self.services for line in self._create(service, environment)]
        self.postgres.execute("\n".join(script))  # one psql for all of them: each costs a connection and a process

    def write(self, name: str, content: str) -> Path:
        """Writes a migration file; `name` is relative to services/."""
        path = self.directory / "services" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content), encoding="utf-8")
        return path

    def admit(self, worker: str, to: str) -> None:
        """Gives the worker of one environment the Vault policy of another."""
        self._admit(worker, to)

    def secret_path(self, service: str, environment: str) -> str:
        """Where a service's secret lies in its mount."""
        store = "clickhouse" if service == "audit-service" else "postgres"
        return f"apps/{self.tag}/{environment}/{service}/{store}"

    def secret(self, service: str, environment: str, **changes: Any) -> dict[str, Any]:
        """Writes a service's secret, with changes; a value of None leaves the key out."""
        path = self.secret_path(service, environment)
        data = {**(self.vault.read_secret(path) or {}), **changes}
        data = {name: value for name, value in data.items() if value is not None}
        self.vault.write_secret(path, data)
        return data

    def database(self, service: str, environment: str) -> str:
        """The name of a service's database."""
        return self.services[service] + ENVIRONMENTS[environment]

    def sql(self, service: str, environment: str, statement: str) -> list[str]:
        """What a statement gives, line by line, read by SQL past greylag."""
        server: Any = self.clickhouse if service == "audit-service" else self.postgres
        return str(server.execute(statement, self.database(service, environment))).split()

    def versions(self, service: str, environment: str) -> list[int]:
        """The history's rows above 0; [] where there is no table."""
        if service == "audit-service":
            exists = self.sql(service, environment, "EXISTS TABLE goose_db_version") == ["1"]
        else:
            exists = self.sql(service, environment, "SELECT to_regclass('goose_db_version') IS NOT NULL") == ["t"]
        if not exists:
            return []
        return [
            int(line) for line in self.sql(service, environment, "SELECT version_id FROM goose_db_version WHERE version_id > 0 ORDER BY 1")
        ]

    def newest(self, service: str) -> int:
        """The newest version among a service's files."""
        return max(int(path.name.split("_")[0]) for path in (self.directory / "services" / service).rglob("*.sql"))

    def variables(self, environment: str) -> dict[str, str]:
        """What a worker of that environment holds."""
        return {
            "GREYLAG_HOME": str(ROOT),
            "GREYLAG_FLEET": str(self.directory / "fleet.yaml"),
            "GREYLAG_VAULT_ADDRESS": self.vault.url,
            "GREYLAG_VAULT_TOKEN_FILE": str(self.directory / f"token-{environment}"),
            "GREYLAG_BACKOFF_BASE_SECONDS": "0.2",
            "GREYLAG_LOCK_WAIT_SECONDS": "20",
        }

    def drop(self) -> None:
        """Drops this test's databases."""
        if not self.postgres.running:
            self.postgres.start()
        script: list[str] = []
        for service, environment in itertools.product(self.services, ENVIRONMENTS):
            name = self.database(service, environment)
            if service == "audit-service":
                assert self.clickhouse is not None
                self.clickhouse.drop_database(name)
            else:
                script += [f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE);", f"DROP ROLE IF EXISTS {identifier(name)};"]
        self.postgres.execute("\n".join(script))

    def _admit(self, worker: str, environment: str) -> None:
        policy = f"{environment}-{self.tag}"
        self.vault.create_policy(policy, {f"secret/data/apps/{self.tag}/{environment}/*": ["read"]})
        token = self.vault.create_token(policy)
        (self.directory / f"token-{worker}").write_text(token + "\n", encoding="utf-8")

    def _create(self, service: str, environment: str) -> list[str]:
        """Writes the secret and returns the SQL that makes the database; a ClickHouse database is made here."""
        name = self.database(service, environment)
        password = f"marker-{secrets.token_hex(8)}%/:@#?&+ '\"\\$é漢"
        script: list[str] = []
        if service == "audit-service":
            assert self.clickhouse is not None
            self.clickhouse.create_database(name)
            user, password, port = CLICKHOUSE_USER, CLICKHOUSE_PASSWORD, self.clickhouse.tcp_port
        else:
            script = [
                f"CREATE ROLE {identifier(name)} LOGIN PASSWORD {literal(password)};",
                f"CREATE DATABASE {identifier(name)} OWNER {identifier(name)};",
            ]
            user, port = name, self.postgres.port
        self.passwords[service, environment] = password
        self.secret(service, environment, host="127.0.0.1", port=port, username=user, password=password, database=name)
        return script


def drain() -> None:
    """Sends what this process still holds of logs and events, while the server is there to take it."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all()
    EventsWorker.drain_all()


def become(monkeypatch: pytest.MonkeyPatch, stage: Stage, environment: str) -> None:
    """Lets this process hold what that environment's worker holds."""
    for name in list(os.environ):
        if name.startswith("GREYLAG_") and not name.startswith(("GREYLAG_TEST_", "GREYLAG_CACHE")):
            monkeypatch.delenv(name)
    for name, value in stage.variables(environment).items():
        monkeypatch.setenv(name, value)
