"""Short-lived logins during one run, without Prefect: taken, renewed in the background, replaced, given back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from migrator import databases, errors
from migrator.planning import events
from sandbox.databases.postgres import PostgresServer
from tasks import database_url, migration
from tasks.credentials import Credentials, LifetimeWatcher
from tasks.request import Request
from tests.flows.dynamic_stage import DynamicStage, renew_early, staged, until

NAMES = [(1, "table"), (2, "one"), (3, "two"), (4, "three_no_transaction")]


@pytest.fixture(scope="module")
def server_stage(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[DynamicStage]:
    with staged(tmp_path_factory.mktemp("credentials-lifetimes"), postgres_server) as found:
        yield found


@pytest.fixture
def stage(server_stage: DynamicStage) -> Iterator[DynamicStage]:
    server_stage.clear()
    server_stage.lives()
    yield server_stage


def works(stage: DynamicStage, found: Credentials) -> bool:
    """Whether PostgreSQL takes the login."""
    url = database_url.encode(found, stage.target()).get_secret_value()
    try:
        with databases.open_database("postgres", url):
            return True
    except errors.LoginFailed:
        return False


def test_a_run_has_one_login_and_gives_it_back_with_its_token(stage: DynamicStage) -> None:
    before = stage.tokens()
    with LifetimeWatcher(stage.target(), stage.settings()) as watcher:
        found = watcher.current()
        assert watcher.current() == found and not watcher.superseded(found)
        assert found.database == stage.database and found.origin.startswith(f"a login of database/creds/{stage.base}")
        assert works(stage, found) and stage.logins() == [found.username]
        assert stage.tokens() == before + 1
    assert stage.tokens() == before
    assert until(lambda: not stage.logins(), "the login is gone")
    assert not works(stage, found)


def test_what_a_migration_makes_belongs_to_the_owner_and_the_login_can_go(stage: DynamicStage) -> None:
    stage.write(
        users="CREATE TABLE users (id text);\nCREATE TABLE named AS SELECT '${POSTGRES_USER}' AS name, session_user::text AS login;"
    )
    target = stage.target()
    with LifetimeWatcher(target, stage.settings()) as watcher:
        found = watcher.current()
        url = database_url.encode(found, target)
        outcome = migration.run(
            Request(target, url, env=migration.substitutions(target, found), settings=stage.settings(), watcher=watcher)
        )
    assert len(outcome.applied) == 1
    assert stage.sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'") == [stage.owner]
    assert stage.sql("SELECT login FROM named") == [found.username]
    assert until(lambda: not stage.logins(), "the login is gone")


def test_host_and_port_may_come_from_the_kv_secret_whose_password_nobody_reads(stage: DynamicStage) -> None:
    target = stage.target()
    target = target.model_copy(update={"source": target.source.model_copy(update={"host": ""}), "port": None})
    stage.vault.write_secret(target.vault_path, {"host": stage.postgres.host, "port": stage.postgres.port, "database": stage.database})
    stage.vault.create_policy("worker", {f"database/creds/{stage.base}": ["read"], f"secret/data/{target.vault_path}": ["read"]})
    with LifetimeWatcher(target, stage.settings()) as watcher:
        assert works(stage, watcher.current())


def test_a_run_goes_on_with_a_fresh_login_at_the_next_boundary_bound_to_the_plan_that_was_approved(stage: DynamicStage) -> None:
    """Each migration finds that a fresh login stands ready, as the maximum of a life brings it about."""
    insert = "INSERT INTO seen SELECT session_user;"
    stage.write(table="CREATE TABLE seen (login text);", one=insert, two=insert, three_no_transaction=f"{insert}\n{insert}")
    target, settings, unused = stage.target(), stage.settings(), SecretStr("postgres://unused")
    notes: list[str] = []
    with LifetimeWatcher(target, settings) as watcher:

        def listen(event: events.Event) -> None:
            if isinstance(event, events.Note):
                notes.append(event.code)
            if isinstance(event, events.MigrationFinished | events.StatementFinished):
                watcher.doubt()
                watcher.current()

        planned = migration.preview(Request(target, unused, settings=settings, watcher=watcher))
        outcome = migration.run(Request(target, unused, plan=planned.plan, settings=settings, watcher=watcher), listener=listen)
    assert notes.count("credentials-replaced") == 4
    assert [item.name for item in outcome.applied] == [f"{20250101000000 + n}_{name}.sql" for n, name in NAMES]
    assert outcome.plan == planned.plan and outcome.current == 20250101000004
    assert stage.versions() == [1, 2, 3, 4]
    assert len(stage.sql("SELECT DISTINCT login FROM seen")) == 4 == int(stage.sql("SELECT count(*) FROM seen")[0])
    assert until(lambda: not stage.logins(), "every login is gone")


@pytest.mark.slow
def test_token_and_lease_are_renewed_in_the_background(stage: DynamicStage, monkeypatch: pytest.MonkeyPatch) -> None:
    renew_early(monkeypatch)
    stage.lives(ttl="4s", maximum_ttl="1h")
    with LifetimeWatcher(stage.target(), stage.settings(token_ttl="4s", token_max_ttl="1h")) as watcher:
        found = watcher.current()
        lease = stage.leases()[0]

        def ends() -> str:
            return str(stage.vault.request("PUT", "sys/leases/lookup", {"lease_id": lease})["data"]["expire_time"])

        first = ends()
        until(lambda: stage.sql(f"SELECT now() > '{first}'::timestamptz") == ["t"], "the life that it was given first is over")
        assert ends() > first
        assert works(stage, found) and not watcher.superseded(found)
    assert until(lambda: not stage.logins(), "the login is gone")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lease", "token"),
    [
        ({"ttl": "3s", "maximum_ttl": "3s"}, {}),
        ({"ttl": "1h"}, {"token_ttl": "3s", "token_explicit_max_ttl": "3s"}),
        ({"ttl": "3s"}, {"token_ttl": "4s", "token_no_default_policy": True}),  # can't even end itself
    ],
    ids=["lease at its maximum", "token at its maximum", "not allowed to renew"],
)
def test_where_a_life_can_be_renewed_no_more_fresh_logins_stand_ready(
    stage: DynamicStage, lease: dict[str, str], token: dict[str, Any]
) -> None:
    stage.lives(**lease)
    before = stage.tokens()
    with LifetimeWatcher(stage.target(), stage.settings(**token)) as watcher:
        found = watcher.current()
        until(lambda: watcher.superseded(found), "there is a fresh login")
        assert works(stage, watcher.current())
        until(lambda: found.username not in stage.logins(), "the first one has ended")
        assert works(stage, watcher.current())
    assert until(lambda: not stage.logins() and stage.tokens() == before, "everything was given back")


def test_a_login_that_was_revoked_is_noticed_and_the_next_attempt_has_another(stage: DynamicStage) -> None:
    with LifetimeWatcher(stage.target(), stage.settings()) as watcher:
        found = watcher.current()
        assert watcher.alive(found) is True
        stage.revoke_leases()
        assert watcher.alive(found) is False
        watcher.doubt()
        assert watcher.current() != found and works(stage, watcher.current())


def test_a_login_whose_token_was_revoked_is_noticed_and_the_next_attempt_has_another(stage: DynamicStage) -> None:
    known = set(stage.vault.request("LIST", "auth/token/accessors")["data"]["keys"])
    with LifetimeWatcher(stage.target(), stage.settings()) as watcher:
        found = watcher.current()
        (accessor,) = set(stage.vault.request("LIST", "auth/token/accessors")["data"]["keys"]) - known
        stage.vault.request("POST", "auth/token/revoke-accessor", {"accessor": accessor})
        assert watcher.alive(found) is None, "a dead token is answered as one that may not ask"
        watcher.doubt()
        assert works(stage, watcher.current())
    assert until(lambda: not stage.logins(), "no login is left")


def test_bad_flow_a_refused_login_that_is_alive_stays_a_refusal(stage: DynamicStage) -> None:
    """Somebody changed the role in PostgreSQL: no fresh login helps, so nothing is tried again."""
    stage.write(users="CREATE TABLE users (id text);")
    target = stage.target()
    with LifetimeWatcher(target, stage.settings()) as watcher:
        found = watcher.current()
        stage.postgres.execute(f'ALTER ROLE "{found.username}" NOLOGIN')
        with pytest.raises(errors.LoginFailed):
            migration.run(Request(target, SecretStr("postgres://unused"), settings=stage.settings(), watcher=watcher))


def test_bad_flow_a_login_that_ended_before_it_was_used_is_worth_another_attempt(stage: DynamicStage) -> None:
    stage.write(users="CREATE TABLE users (id text);")
    target, settings = stage.target(), stage.settings()
    with LifetimeWatcher(target, settings) as watcher:
        watcher.current()
        stage.revoke_leases()
        with pytest.raises(errors.Unavailable) as caught:
            migration.run(Request(target, SecretStr("postgres://unused"), settings=settings, watcher=watcher))
        assert caught.value.code == "credentials-ended" and caught.value.transient
        assert migration.run(Request(target, SecretStr("postgres://unused"), settings=settings, watcher=watcher)).current


@pytest.mark.parametrize("default_policy", [True, False], ids=["default policy", "that rule alone"])
def test_bad_flow_a_rejected_statement_is_permanent_whatever_the_login_may(stage: DynamicStage, default_policy: bool) -> None:
    stage.write(broken="SELECT nothing FROM nowhere;")
    target, settings = stage.target(), stage.settings(token_no_default_policy=not default_policy)
    with LifetimeWatcher(target, settings) as watcher, pytest.raises(errors.StatementRejected):
        migration.run(Request(target, SecretStr("postgres://unused"), settings=settings, watcher=watcher))
    stage.revoke_leases()


def test_bad_flow_vault_is_away_at_the_end(stage: DynamicStage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.credentials.lifetimes.GIVE_BACK_SECONDS", 0.5)
    with caplog.at_level(logging.WARNING), LifetimeWatcher(stage.target(), stage.settings(token_ttl="20m")) as watcher:
        watcher.current()
        stage.vault.seal()
    stage.vault.unseal()
    stage.vault.wait_until_healthy()
    assert "the Vault token could not be revoked; it and its login end in" in caplog.text and "Vault is sealed" in caplog.text


@pytest.mark.parametrize(("policy", "left"), [("ending", 0), ("worker", 1)], ids=["may revoke leases", "default policy"])
def test_a_token_that_is_somebody_elses_lives_on_and_its_login_is_ended_where_that_is_allowed(
    stage: DynamicStage, caplog: pytest.LogCaptureFixture, policy: str, left: int
) -> None:
    stage.vault.create_policy("ending", {f"database/creds/{stage.base}": ["read"], "sys/leases/revoke": ["update"]})
    token = stage.vault.create_token(policy, ttl="30m")
    settings = stage.settings().model_copy(update={"vault_role_id": "", "vault_token": SecretStr(token)})
    with caplog.at_level(logging.WARNING), LifetimeWatcher(stage.target(), settings) as watcher:
        watcher.current()
    assert until(lambda: len(stage.logins()) == left, f"{left} logins are left")
    assert bool(left) == ("the database login stays for" in caplog.text)
    assert bool(left) == ("sys/leases/revoke" in caplog.text)
    assert stage.vault.request("POST", "auth/token/lookup", {"token": token})["data"]["ttl"] > 0


@pytest.mark.slow
def test_a_token_file_that_an_agent_renews_is_followed(stage: DynamicStage, tmp_path: Path) -> None:
    """The first token can't be renewed by us; its login dies with it. The file holds another by then."""
    path = tmp_path / "token"
    path.write_text(stage.vault.create_token("worker", ttl="4s", renewable=False), encoding="utf-8")
    settings = stage.settings().model_copy(update={"vault_role_id": "", "vault_token_file": path})
    with LifetimeWatcher(stage.target(), settings) as watcher:
        found = watcher.current()
        path.write_text(stage.vault.create_token("worker", ttl="30m"), encoding="utf-8")
        until(lambda: watcher.superseded(found), "there is a fresh login")
        until(lambda: found.username not in stage.logins(), "the first token has ended, and its login with it")
        assert works(stage, watcher.current())
        assert len(stage.logins()) == 1, "no more than were needed"
    stage.revoke_leases()


def test_bad_flow_without_a_session_a_short_lived_login_is_not_even_asked_for(stage: DynamicStage) -> None:
    from tasks import credentials

    with pytest.raises(errors.UsageError) as caught:
        credentials.fetch(stage.target(), stage.settings())
    assert caught.value.code == "credentials-dynamic"
    assert not stage.logins()
