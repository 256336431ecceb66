"""A worker whose network leads to its own environment alone: it completes its part, and another environment is out of reach even with its login."""

from __future__ import annotations

import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.databases.postgres import PostgresServer
from sandbox.stack.prefect_server import clean_environment
from sandbox.vault.secrets_server import SecretsServer
from tests.flows.island import Island, unavailable

FLEET = """\
vault: {path: "{environment}/{service}/{store}"}
environments: {dev: {suffix: _dev}, release: {suffix: _release}}
services: {shop: {engine: postgres, database: shop, migrations: sql}}
"""


@pytest.fixture
def release_server(session_directory: Path) -> Iterator[PostgresServer]:
    """The release environment's own server."""
    with PostgresServer(session_directory / "postgres-release") as server:
        yield server


@pytest.fixture
def variables(
    postgres_server: PostgresServer, release_server: PostgresServer, secrets_server: SecretsServer, tmp_path: Path
) -> Iterator[dict[str, str]]:
    """What a worker holds; its token may read both environments' secrets, so that the network alone is in the way."""
    (tmp_path / "fleet.yaml").write_text(FLEET, encoding="utf-8")
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "1_a.sql").write_text("-- +goose Up\nCREATE TABLE a (id int);\n-- +goose Down\nDROP TABLE a;\n", encoding="utf-8")
    for environment, server in (("dev", postgres_server), ("release", release_server)):
        name, password = f"shop_{environment}", secrets.token_urlsafe(12)
        server.create_database(name, name, password)
        login = {"host": server.host, "port": server.port, "username": name, "password": password, "database": name}
        secrets_server.write_secret(f"{environment}/shop/postgres", login)
    secrets_server.create_policy("both", {"secret/data/*": ["read"]})
    given = {
        "GREYLAG_FLEET": str(tmp_path / "fleet.yaml"),
        "VAULT_ADDR": secrets_server.url,
        "VAULT_TOKEN": secrets_server.create_token("both"),
    }
    yield clean_environment() | given
    postgres_server.drop_database("shop_dev", "shop_dev")


def test_a_worker_reaches_its_own_environment_and_no_other(
    variables: dict[str, str], postgres_server: PostgresServer, release_server: PostgresServer, secrets_server: SecretsServer
) -> None:
    if (reason := unavailable()) is not None:
        pytest.skip(reason)
    greylag = str(Path(sys.executable).with_name("greylag"))
    vault = int(secrets_server.url.rpartition(":")[2])
    with tempfile.TemporaryDirectory() as directory, Island(Path(directory), [postgres_server.port, vault]) as island:
        own = island.run([greylag, "up", "@dev/shop"], variables)
        other = island.run([greylag, "up", "@release/shop"], variables)
    assert own.returncode == 0, own.stderr
    assert postgres_server.execute("SELECT count(*) FROM a", "shop_dev").strip() == "0"
    assert other.returncode == 21, other.stderr
    assert "[unavailable]" in other.stderr
    assert release_server.execute("SELECT to_regclass('a') IS NULL", "shop_release").strip() == "t"
