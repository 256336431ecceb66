"""Short-lived PostgreSQL logins of a real OpenBao: what they create outlives them, and their end is the end (vault.md §3)."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hvac
import psycopg
import pytest
from hvac import exceptions

from sandbox import builds
from sandbox.databases import postgres
from sandbox.vault import database as vault_database
from sandbox.vault import openbao_server


@dataclasses.dataclass(frozen=True)
class Engine:
    """A database whose logins the server makes."""

    server: openbao_server.OpenBaoServer
    postgres: postgres.PostgresServer
    database: str
    owner: str
    path: str
    token: str

    def client(self, token: str | None = None) -> Any:
        return hvac.Client(url=self.server.url, token=token or self.token, timeout=10)

    def login(self, token: str | None = None) -> Any:
        """A new login: hvac's whole answer."""
        return self.client(token).read(self.path)

    def connect(self, login: Any) -> psycopg.Connection[Any]:
        data = login["data"]
        host, port = self.postgres.host, self.postgres.port
        return psycopg.connect(
            host=host, port=port, dbname=self.database, user=data["username"], password=data["password"], autocommit=True
        )


@pytest.fixture(scope="module")
def engine(postgres_server: postgres.PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if builds.binary(builds.OPENBAO) is None:
        pytest.skip(builds.missing(builds.OPENBAO))
    name = f"auth_{secrets.token_hex(4)}"
    directory: Path = tmp_path_factory.mktemp("openbao-database")
    with openbao_server.OpenBaoServer(directory) as server:
        word = secrets.token_urlsafe(16)
        vault_database.prepare_database(postgres_server, name, f"{name}_owner", word)
        path = vault_database.create_role(
            server, postgres_server, "auth-service", database=name, owner=f"{name}_owner", admin_password=word, maximum_ttl="2h"
        )
        server.create_policy("auth", vault_database.login_policy("auth-service"))
        yield Engine(server, postgres_server, name, f"{name}_owner", path, server.create_token("auth"))
        server.request("PUT", f"sys/leases/revoke-prefix/{path}")
    postgres_server.drop_database(name)


def test_each_reading_is_a_login_of_its_own(engine: Engine) -> None:
    first, second = engine.login(), engine.login()
    assert first["data"]["username"] != second["data"]["username"]
    assert first["renewable"] is True and first["lease_duration"] == 3600
    with engine.connect(first) as connection:
        assert connection.execute("SELECT current_user, session_user").fetchone() == (engine.owner, first["data"]["username"])


def test_what_a_login_created_belongs_to_the_owner_and_outlives_it(engine: Engine) -> None:
    login = engine.login()
    with engine.connect(login) as connection:
        connection.execute("CREATE TABLE kept (id integer)")
    engine.client(engine.server.root_token).sys.revoke_lease(login["lease_id"])
    with pytest.raises(psycopg.OperationalError):
        engine.connect(login)
    with engine.connect(engine.login()) as connection:
        connection.execute("INSERT INTO kept VALUES (1)")
        owner = connection.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'kept'").fetchone()
    assert owner == (engine.owner,)


def test_a_revoked_login_loses_the_session_that_it_has(engine: Engine) -> None:
    login = engine.login()
    with engine.connect(login) as connection:
        connection.execute("SELECT 1")
        engine.client(engine.server.root_token).sys.revoke_lease(login["lease_id"])
        with pytest.raises(psycopg.OperationalError):
            connection.execute("CREATE TABLE too_late ()")


def test_renewing_moves_the_end_of_the_login_itself(engine: Engine) -> None:
    login = engine.login()
    ends = f"SELECT extract(epoch FROM valid_until)::bigint FROM pg_user WHERE usename = {postgres.literal(login['data']['username'])}"
    sql = ends.replace("valid_until", "valuntil")
    before = int(engine.postgres.execute(sql))
    renewed = engine.client().sys.renew_lease(login["lease_id"], increment=7000)
    assert renewed["lease_duration"] > 3600
    assert int(engine.postgres.execute(sql)) > before


def test_renewing_beyond_the_maximum_is_cut_with_a_warning(engine: Engine) -> None:
    renewed = engine.client().sys.renew_lease(engine.login()["lease_id"], increment=999_999)
    assert renewed["lease_duration"] <= 7200
    assert renewed["warnings"]


def test_bad_flow_a_workload_may_not_revoke_leases(engine: Engine) -> None:
    login = engine.login()
    with pytest.raises(exceptions.Forbidden):
        engine.client().sys.revoke_lease(login["lease_id"])


def test_a_login_ends_with_the_token_that_took_it(engine: Engine) -> None:
    token = engine.server.create_token("auth")
    login = engine.login(token)
    with engine.connect(login) as connection:
        connection.execute("SELECT 1")
    engine.client(token).auth.token.revoke_self()
    with pytest.raises(psycopg.OperationalError):
        engine.connect(login)
    left = engine.postgres.execute(f"SELECT count(*) FROM pg_roles WHERE rolname = {postgres.literal(login['data']['username'])}")
    assert left.strip() == "0"


def test_bad_flow_another_role_is_forbidden(engine: Engine) -> None:
    with pytest.raises(exceptions.Forbidden):
        engine.client().read("database/creds/other")


def test_bad_flow_the_administrator_is_no_superuser(engine: Engine) -> None:
    assert engine.postgres.execute("SELECT rolsuper FROM pg_roles WHERE rolname = 'vault_admin'").strip() == "f"
