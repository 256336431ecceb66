"""The shipped PostgreSQL roles: enough for every example migration, and nothing in them that could be left out."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from string import Template
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from deployments.privileges import rendering
from migrator import errors
from sandbox.databases.postgres import PostgresServer
from sandbox.vault import database as vault_database
from tasks import fleet, migration, verification
from tasks.credentials import sources
from tasks.fleet.models import Engine, Target
from tasks.request import Request
from tasks.settings import Settings

SERVICES = [name for name, service in fleet.load().services.items() if service.engine is Engine.POSTGRES]


def rules(name: str) -> list[str]:
    text = (rendering.DIRECTORY / "postgres" / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.startswith(("GRANT ", "ALTER ROLE "))]


RULES = rules("migrator.sql")
DYNAMIC = sources.written({"dynamic": "database/creds/auth"})
PASSWORD = "p%/:@#?&+ '\"\\$"
SETTINGS = Settings(lock_wait_seconds=20)

Place = tuple[Target, SecretStr]


@pytest.fixture
def granted(postgres_server: PostgresServer) -> Iterator[Callable[..., Place]]:
    """Makes a database with the shipped roles, without the rule that is named; gives the target and the migrator's URL."""
    made: list[Target] = []

    def make(service: str, without: str = "", **changes: Any) -> Place:
        target = fleet.load().target(service, "dev")
        target = target.model_copy(update={"base": f"{target.base}_{secrets.token_hex(4)}", **changes})
        made.append(target)
        postgres_server.create_database(target.database)
        words = rendering.words(target)
        script = rendering.postgres([target])
        if without:
            removed = Template(without).substitute(words)
            assert removed in script
            script = script.replace(removed, "")
        if target.source is DYNAMIC:  # what Vault would do
            login = "; ".join(vault_database.creation_statements(words["owner"]))
            script += (
                login.replace("{{name}}", words["migrator"]).replace("{{password}}", "x").replace("{{expiration}}", "infinity") + ";\n"
            )
        passwords = (f'ALTER ROLE "{words[role]}" PASSWORD $greylag${PASSWORD}$greylag$;\n' for role in ("migrator", "application"))
        postgres_server.execute(script + "".join(passwords))
        return target, SecretStr(postgres_server.url(words["migrator"], PASSWORD, target.database))

    yield make
    for target in made:
        postgres_server.drop_database(target.database)
        words = rendering.words(target)
        postgres_server.execute("".join(f'DROP ROLE IF EXISTS "{words[role]}";\n' for role in ("application", "migrator", "owner")))


@pytest.mark.parametrize("service", SERVICES)
def test_every_example_migration_applies_with_the_shipped_roles(granted: Callable[..., Place], service: str) -> None:
    target, url = granted(service)
    outcome = migration.run(Request(target, url, settings=SETTINGS))
    assert outcome.changed
    found = verification.verify(Request(target, url, settings=SETTINGS))
    assert found.objects_checked > 5


@pytest.mark.parametrize("rule", RULES)
def test_bad_flow_without_any_one_of_them_the_server_refuses_a_permission(granted: Callable[..., Place], rule: str) -> None:
    target, url = granted("auth-service", without=rule)
    with pytest.raises(errors.LoginFailed) as caught:
        migration.run(Request(target, url, settings=SETTINGS))
    assert caught.value.exit_code == 12
    assert "permission denied" in caught.value.message + caught.value.detail


@pytest.mark.parametrize("service", SERVICES)
def test_every_example_migration_applies_as_a_short_lived_login(granted: Callable[..., Place], service: str) -> None:
    target, url = granted(service, source=DYNAMIC)
    assert migration.run(Request(target, url, settings=SETTINGS)).changed
    assert verification.verify(Request(target, url, settings=SETTINGS)).objects_checked > 5


@pytest.mark.parametrize("rule", rules("dynamic.sql"))
def test_bad_flow_without_any_one_rule_a_short_lived_login_is_refused_a_permission(granted: Callable[..., Place], rule: str) -> None:
    target, url = granted("auth-service", without=rule, source=DYNAMIC)
    with pytest.raises(errors.LoginFailed) as caught:
        migration.run(Request(target, url, settings=SETTINGS))
    assert caught.value.exit_code == 12
    assert "permission denied" in caught.value.message + caught.value.detail


def test_what_is_created_belongs_to_the_owner_role(granted: Callable[..., Place], postgres_server: PostgresServer) -> None:
    target, url = granted("auth-service")
    migration.run(Request(target, url, settings=SETTINGS))
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    assert postgres_server.execute(owners, target.database).split() == [rendering.words(target)["owner"]]


def test_a_named_owner_role_is_taken_by_greylag_itself(granted: Callable[..., Place], postgres_server: PostgresServer) -> None:
    owner = f"owner_{secrets.token_hex(4)}"
    target, url = granted("auth-service", owner_role=owner)
    assert "ALTER ROLE" not in rendering.postgres([target])
    migration.run(Request(target, url, settings=SETTINGS))
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    assert postgres_server.execute(owners, target.database).split() == [owner]


def test_the_service_reads_and_writes_rows_and_changes_no_table(granted: Callable[..., Place], postgres_server: PostgresServer) -> None:
    target, url = granted("auth-service")
    migration.run(Request(target, url, settings=SETTINGS))
    name = rendering.words(target)["application"]
    with psycopg.connect(postgres_server.url(name, PASSWORD, target.database), autocommit=True) as service:
        assert service.execute("SELECT count(*) FROM users").fetchone() == (0,)
        for forbidden in ("DROP TABLE users", "ALTER TABLE users ADD COLUMN x text", "CREATE TABLE x ()", "SET ROLE postgres"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                service.execute(forbidden)


def test_another_services_login_can_not_even_connect(granted: Callable[..., Place], postgres_server: PostgresServer) -> None:
    mine, _ = granted("auth-service")
    other, _ = granted("personal-service")
    elsewhere = SecretStr(postgres_server.url(rendering.words(mine)["migrator"], PASSWORD, other.database))
    with pytest.raises(errors.LoginFailed) as caught:
        migration.preview(Request(other, elsewhere, settings=SETTINGS))
    assert "permission denied for database" in caught.value.message + caught.value.detail
