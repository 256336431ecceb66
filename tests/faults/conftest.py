"""A place to go wrong in: one fresh database of either engine, a directory of migrations, a team's fleet with its secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from migrator import cli
from migrator.address import addresses
from sandbox.databases import clickhouse, postgres
from sandbox.vault.secrets_server import SecretsServer
from tests.conftest import AWKWARD_PASSWORD

GOOD = {
    "00001_create_things.sql": "-- +goose Up\nCREATE TABLE things (id bigint PRIMARY KEY);\n-- +goose Down\nDROP TABLE things;\n",
    "00002_create_others.sql": "-- +goose Up\nCREATE TABLE others (id bigint PRIMARY KEY);\n-- +goose Down\nDROP TABLE others;\n",
}
SERVERS = {"postgres": "postgres_server", "clickhouse": "clickhouse_here"}
ENGINE = {"postgres": "", "clickhouse": " ENGINE = MergeTree ORDER BY id"}


@dataclass(frozen=True)
class Said:
    """What the command did: its exit code, both streams, and with `-json` the error of its document."""

    code: int
    out: str
    err: str

    @property
    def own(self) -> list[str]:
        """greylag's own lines."""
        return [line.removeprefix("greylag: ") for line in self.err.splitlines() if line.startswith("greylag: ")]

    def document(self) -> dict[str, Any]:
        """The last document on standard output."""
        lines = self.out.strip()
        try:
            return dict(json.loads(lines))
        except json.JSONDecodeError:
            return dict(json.loads(lines.splitlines()[-1]))


@dataclass
class Place:
    """One fresh database, the way to it, and what SQL past greylag finds in it."""

    driver: str
    url: str
    database: str
    directory: Path
    sql: Callable[[str, str], str]
    capture: pytest.CaptureFixture[str]

    def write(self, files: dict[str, str]) -> None:
        """Writes migration files; `{engine}` is filled in."""
        for name, text in files.items():
            text = re.sub(r"(CREATE TABLE [^;]*\))", rf"\1{ENGINE[self.driver]}", text)
            (self.directory / name).write_text(text, encoding="utf-8")

    def greylag(self, *words: str) -> Said:
        """Runs the command in this process."""
        self.capture.readouterr()
        code = cli.main(["-env", "none", *words])
        out, err = self.capture.readouterr()
        return Said(code, out, err)

    def on(self, verb: str, *flags: str, url: str | None = None, directory: Path | None = None) -> Said:
        """Runs a verb on the database, or on another address."""
        return self.greylag("-dir", str(directory or self.directory), *flags, self.driver, url or self.url, verb)

    def tables(self, database: str = "") -> list[str]:
        """Every table in the database; goose's own among them."""
        if self.driver == "postgres":
            question = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1"
        else:
            question = "SELECT name FROM system.tables WHERE database = currentDatabase() ORDER BY 1"
        return self.sql(question, database or self.database).split()

    def versions(self) -> list[int]:
        """The history, row 0 left out."""
        return [
            int(word) for word in self.sql("SELECT version_id FROM goose_db_version WHERE version_id > 0 ORDER BY 1", self.database).split()
        ]

    def exchanged(self, **parts: Any) -> str:
        """The address with other parts: host, port, username, password, database."""
        given: dict[str, Any] = {**self.parts, **parts}
        options = {} if self.driver == "postgres" else {"http_port": str(given["http_port"])}
        given.pop("http_port", None)
        return addresses.build(self.driver, **given, parameters=options)

    @property
    def parts(self) -> dict[str, Any]:
        """What the address says, part by part."""
        if self.driver == "clickhouse":
            found = addresses.parse_clickhouse(self.url)
            host, port = found.hosts[0]
            return {
                "host": host,
                "port": port,
                "username": found.username,
                "password": found.password,
                "database": found.database,
                "http_port": found.http_ports[0][1],
            }
        parsed = addresses.parse_postgres(self.url)
        words = dict(part.split("=", 1) for part in parsed.conninfo.split() if part.startswith(("host=", "port=")))
        return {
            "host": words["host"].strip("'"),
            "port": int(words["port"].strip("'")),
            "username": parsed.user,
            "password": parsed.password,
            "database": parsed.database,
        }


@pytest.fixture(params=["postgres", "clickhouse"])
def place(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    """A fresh database of each engine, with two good migrations waiting."""
    server: postgres.PostgresServer | clickhouse.ClickHouseServer = request.getfixturevalue(SERVERS[request.param])
    url: str = request.getfixturevalue(f"{request.param}_url")
    parse = addresses.parse_postgres if request.param == "postgres" else addresses.parse_clickhouse
    directory = tmp_path / "migrations"
    directory.mkdir()
    found = Place(request.param, url, parse(url).database or "", directory, server.execute, capsys)
    found.write(GOOD)
    return found


FLEET = """\
root: .
vault: {{path: "apps/{{environment}}/{{service}}"}}
environments:
  dev: {{suffix: _dev}}
  prod: {{suffix: "", aliases: [production], protected: true}}
services:
  shop-service: {{engine: {driver}, database: "{base}", migrations: migrations}}
"""


@dataclass
class Team:
    """A fleet of one service, its secrets server, and the database of its dev environment."""

    place: Place
    vault: SecretsServer
    database: str
    secret: dict[str, Any]

    def write(self, environment: str = "dev", **changes: Any) -> None:
        """Writes the service's secret; None leaves a key out."""
        data = {name: value for name, value in {**self.secret, **changes}.items() if value is not None}
        self.vault.write_secret(f"apps/{environment}/shop-service", data)


@pytest.fixture
def team(
    place: Place,
    secrets_server: SecretsServer,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Team]:
    """`place` is the service's prod database `base`; its dev database `base_dev` is made beside it."""
    server: Any = request.getfixturevalue(SERVERS[place.driver])
    name = f"{place.database}_dev"
    if place.driver == "postgres":
        server.create_database(name, owner=f"{place.database}_dev", password=AWKWARD_PASSWORD)
        login = {"username": name}
    else:
        server.create_database(name)
        login = {"username": "migrator"}
    (tmp_path / "fleet.yaml").write_text(FLEET.format(driver=place.driver, base=place.database), encoding="utf-8")
    secrets_server.create_policy("dev", {"secret/data/apps/dev/*": ["read"]})
    monkeypatch.setenv("GREYLAG_FLEET", str(tmp_path / "fleet.yaml"))
    monkeypatch.setenv("GREYLAG_VAULT_ADDRESS", secrets_server.url)
    monkeypatch.setenv("GREYLAG_VAULT_TOKEN", secrets_server.create_token("dev"))
    yield Team(place, secrets_server, name, {**place.parts, **login, "password": AWKWARD_PASSWORD, "database": name})
    if place.driver == "postgres":
        server.drop_database(name, owner=name)
    else:
        server.drop_database(name)
