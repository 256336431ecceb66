"""The sandbox's OpenBao is one that tests may seal, restart and kill, keeps what it was told, and ends the database logins that it revokes.

What it says to logins, wrapped secret ids, namespaces, quotas and TLS is what the product's own tests are about: tests/flows/test_vault_*.py. Our
own secrets server is compared with it in test_secrets_server.py.
"""

from __future__ import annotations

import secrets
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hvac
import psycopg
import pytest
import requests
from hvac import exceptions

from sandbox import builds
from sandbox.databases.postgres import PostgresServer
from sandbox.vault import database
from sandbox.vault.openbao_server import OpenBaoServer
from tests import needs

SECRET = {"password": "hunter2"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBaoServer]:
    needs.openbao()
    with OpenBaoServer(tmp_path_factory.mktemp("openbao")) as running:
        running.create_policy("reader", {"secret/data/apps/*": ["read"]})
        running.write_secret("apps/auth", SECRET)
        yield running


def client(server: OpenBaoServer, token: str | None = None) -> Any:
    return hvac.Client(url=server.url, token=token or server.root_token, timeout=10)


def read(server: OpenBaoServer, token: str | None = None) -> Any:
    return client(server, token).secrets.kv.v2.read_secret_version("apps/auth", raise_on_deleted_version=True)["data"]["data"]


def test_bad_flow_a_sealed_server_is_down_until_it_is_unsealed(server: OpenBaoServer) -> None:
    for seal in (server.seal, lambda: server.restart(sealed=True)):
        seal()
        with pytest.raises(exceptions.VaultDown, match="Vault is sealed"):
            read(server)
        assert not server.healthy()
        server.unseal()
        server.wait_until_healthy()
        assert read(server) == SECRET


def test_tokens_and_secrets_survive_a_stop_and_a_crash(server: OpenBaoServer) -> None:
    token = server.create_token("reader")
    for end in (server.stop, server.crash):
        server.write_secret("apps/kept", {"before": end.__name__})
        end()
        with pytest.raises(requests.exceptions.ConnectionError):
            read(server, token)
        server.start()
        assert read(server, token) == SECRET
        assert server.read_secret("apps/kept") == {"before": end.__name__}


def test_bad_flow_a_server_that_was_never_initialised(server: OpenBaoServer, tmp_path: Path) -> None:
    fresh = OpenBaoServer(tmp_path)
    try:
        fresh.start(sealed=True)
        with pytest.raises((exceptions.VaultDown, exceptions.VaultNotInitialized)):
            read(fresh, "hvs.anything")
        assert client(fresh, "hvs.anything").sys.is_initialized() is False
    finally:
        fresh.stop()


def test_a_second_object_on_the_directory_finds_the_data_and_keeps_the_token(server: OpenBaoServer, tmp_path: Path) -> None:
    with OpenBaoServer(tmp_path, root_token="root-1") as first:
        first.write_secret("apps/auth", SECRET)
    with OpenBaoServer(tmp_path) as second:
        assert second.root_token == "root-1" and read(second) == SECRET
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, encoding="utf-8", check=True).stdout
        assert str(builds.place(builds.OPENBAO)) in listed
        assert "root-1" not in listed and second.unseal_key not in listed
    for name in ("keys.json", "root-token", "server.log"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert "root-1" not in (tmp_path / "server.log").read_text(encoding="utf-8")


def test_a_revoked_database_login_loses_the_session_that_it_has(
    server: OpenBaoServer, postgres_server: PostgresServer, request: pytest.FixtureRequest
) -> None:
    name, word = f"auth_{secrets.token_hex(4)}", secrets.token_urlsafe(16)
    request.addfinalizer(lambda: postgres_server.drop_database(name))
    database.prepare_database(postgres_server, name, f"{name}_owner", word)
    path = database.create_role(server, postgres_server, "auth-service", database=name, owner=f"{name}_owner", admin_password=word)
    login = client(server).read(path)
    where = {"host": postgres_server.host, "port": postgres_server.port, "dbname": name}
    with psycopg.connect(**where, user=login["data"]["username"], password=login["data"]["password"], autocommit=True) as connection:
        assert connection.execute("SELECT current_user, session_user").fetchone() == (f"{name}_owner", login["data"]["username"])
        client(server).sys.revoke_lease(login["lease_id"])
        with pytest.raises(psycopg.OperationalError):
            connection.execute("CREATE TABLE too_late ()")
    assert postgres_server.execute("SELECT rolsuper FROM pg_roles WHERE rolname = 'vault_admin'").strip() == "f"


def test_make_vault_prints_how_to_use_it(server: OpenBaoServer, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sandbox.vault.openbao_server", "--state", str(tmp_path), "--port", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as started:
        assert started.stdout is not None
        said = [started.stdout.readline() for _ in range(3)]
        started.terminate()
        assert started.wait(20) == 128 + 15
    assert "KV v2 at secret/" in said[0]
    assert f'VAULT_TOKEN="$(cat {tmp_path / "root-token"})"' in said[2]
