"""Steps 2 to 4 as plain functions on real databases: URL, plan, migration, verification."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from migrator import errors
from migrator.address import addresses
from migrator.house_rules import RULES
from migrator.house_rules import Settings as HouseRules
from migrator.planning import events
from tasks import database_url, fleet, migration, verification
from tasks.credentials import Credentials
from tasks.fleet.models import Target
from tasks.request import Request
from tasks.settings import Settings

FIRST = "-- +goose Up\nCREATE TABLE users (id bigint PRIMARY KEY);\n-- +goose Down\nDROP TABLE users;\n"
SECOND = "-- +goose Up\nALTER TABLE users ADD COLUMN email text;\nCREATE INDEX users_email ON users (email);\n-- +goose Down\n"


def located(url: str, directory: Path, **changes: Any) -> tuple[Target, Credentials]:
    """A target whose secret says where a fresh database of this session's server is."""
    parsed = addresses.parse_postgres(url)
    assert parsed.database and parsed.user and parsed.password is not None
    words = dict(part.split("=", 1) for part in parsed.conninfo.split() if part.startswith(("host=", "port=")))
    found = fleet.load().target("auth-service", "dev")
    given = {"base": parsed.database, "suffix": "", "directory": str(directory), "parameters": {"sslmode": "disable"}, **changes}
    secret = Credentials(
        host=words["host"].strip("'"),
        port=int(words["port"].strip("'")),
        username=parsed.user,
        password=SecretStr(parsed.password),
        database=parsed.database,
    )
    return found.model_copy(update=given), secret


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "migrations"
    path.mkdir()
    (path / "20250101000000_create_users.sql").write_text(FIRST, encoding="utf-8")
    (path / "20250102000000_add_email.sql").write_text(SECOND, encoding="utf-8")
    return path


@pytest.fixture
def settings() -> Settings:
    return Settings(lock_wait_seconds=2)


def test_a_url_is_built_for_the_secrets_own_database(postgres_url: str, directory: Path) -> None:
    target, secret = located(postgres_url, directory)
    url = database_url.encode(secret, target)
    again = addresses.parse_postgres(url.get_secret_value())
    assert (again.database, again.user, again.password) == (secret.database, secret.username, secret.password.get_secret_value())
    assert secret.password.get_secret_value() not in repr(url)


@pytest.mark.parametrize(
    ("change", "kind", "code"),
    [
        ({"database": "auth_db"}, errors.NotFound, "wrong-database"),
        ({"database": "auth_db_release"}, errors.NotFound, "wrong-database"),
        ({"database": "auth_db_dev "}, errors.NotFound, "wrong-database"),
        ({"host": ""}, errors.UsageError, "empty-host"),
        ({"username": ""}, errors.UsageError, "empty-username"),
        ({"port": 0}, errors.UsageError, "bad-port"),
        ({"port": 70000}, errors.UsageError, "bad-port"),
    ],
)
def test_bad_flow_credentials_of_another_place(change: dict[str, Any], kind: type[errors.GreylagError], code: str) -> None:
    target = fleet.load().target("auth-service", "dev")
    good = {"host": "h", "port": 5432, "username": "u", "password": SecretStr("p%/:@secret"), "database": "auth_db_dev"}
    assert database_url.encode(Credentials(**good), target).get_secret_value() == "postgres://u:p%25%2F%3A%40secret@h:5432/auth_db_dev"
    with pytest.raises(errors.GreylagError) as caught:
        database_url.encode(Credentials(**(good | change)), target)
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert "secret" not in caught.value.message.replace("secret/", "")


def test_a_clickhouse_url_carries_the_http_port_of_the_secret() -> None:
    target = fleet.load().target("audit-service", "dev")
    secret = Credentials(host="h", port=19000, username="u", password=SecretStr("x"), database="audit_db_dev", http_port=18123)
    assert addresses.parse_clickhouse(database_url.encode(secret, target).get_secret_value()).http_ports == (("h", 18123, False),)


def test_plan_run_verify_and_run_again(postgres_url: str, directory: Path, settings: Settings) -> None:
    target, secret = located(postgres_url, directory)
    url = database_url.encode(secret, target)
    plan = migration.preview(Request(target, url, settings=settings))
    assert [step.version for step in plan.steps] == [20250101000000, 20250102000000]

    seen: list[events.Event] = []
    done = migration.run(Request(target, url, bundle=plan.bundle, plan=plan.plan, settings=settings), listener=seen.append)
    assert (done.versions, done.statements, done.current, done.changed) == ((20250101000000, 20250102000000), 3, 20250102000000, True)
    assert (done.bundle, done.plan) == (plan.bundle, plan.plan)
    assert any("create_users" in migration.told(event)[1] for event in seen)

    proven = verification.verify(Request(target, url, bundle=plan.bundle, settings=settings))
    assert (proven.current, proven.bundle) == (20250102000000, plan.bundle)
    assert proven.objects_checked >= 3

    again = migration.run(Request(target, url, bundle=plan.bundle, plan=plan.plan, settings=settings))
    assert (again.changed, again.current) == (False, 20250102000000)
    assert secret.password.get_secret_value() not in done.model_dump_json() + proven.model_dump_json() + plan.model_dump_json()


def test_bad_flow_another_bundle_than_the_one_that_was_promoted(
    postgres_url: str, directory: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREYLAG_BUNDLES", str(directory / "20250101000000_create_users.sql" / "nothing can be kept below a file"))
    target, secret = located(postgres_url, directory)
    url = database_url.encode(secret, target)
    promoted = migration.preview(Request(target, url, settings=settings)).bundle
    (directory / "20250103000000_more.sql").write_text("-- +goose Up\nSELECT 1;\n", encoding="utf-8")
    for action in (migration.run, verification.verify, migration.preview):
        with pytest.raises(errors.PlanRefused) as caught:
            action(Request(target, url, bundle=promoted, settings=settings))
        assert caught.value.code == "bundle-changed"
    assert migration.preview(Request(target, url, settings=settings)).current == 0


def test_bad_flow_a_plan_that_was_not_approved(postgres_url: str, directory: Path, settings: Settings) -> None:
    target, secret = located(postgres_url, directory)
    url = database_url.encode(secret, target)
    with pytest.raises(errors.PlanRefused) as caught:
        migration.run(Request(target, url, plan="f" * 64, settings=settings))
    assert caught.value.code == "approval-mismatch"
    assert migration.preview(Request(target, url, settings=settings)).current == 0


def test_what_is_left_of_an_approved_plan_still_passes(postgres_url: str, directory: Path, settings: Settings) -> None:
    target, secret = located(postgres_url, directory)
    url = database_url.encode(secret, target)
    broken = directory / "20250103000000_broken.sql"
    broken.write_text("-- +goose Up\nSELECT * FROM not_there;\n", encoding="utf-8")
    approved = migration.preview(Request(target, url, settings=settings))
    with pytest.raises(errors.StatementRejected):
        migration.run(Request(target, url, plan=approved.plan, settings=settings))
    assert migration.preview(Request(target, url, settings=settings)).current == 20250102000000
    with pytest.raises(errors.StatementRejected):  # the approval covers the rest: it is executed, and rejected by the server again
        migration.run(Request(target, url, plan=approved.plan, settings=settings))


def test_bad_flow_a_table_that_somebody_dropped(postgres_url: str, directory: Path, settings: Settings) -> None:
    target, secret = located(postgres_url, directory)
    url = database_url.encode(secret, target)
    migration.run(Request(target, url, settings=settings))
    with psycopg.connect(postgres_url, autocommit=True) as somebody:
        somebody.execute("DROP INDEX users_email")
    with pytest.raises(errors.VerificationFailed, match="users_email"):
        verification.verify(Request(target, url, settings=settings))


def test_a_file_reads_the_connection_and_the_fleets_variables_and_no_password(
    postgres_url: str, directory: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_SECRET", "of the worker")
    target, secret = located(postgres_url, directory, env={"REGION": "eu"})
    (directory / "20250103000000_grant.sql").write_text(
        "-- +goose ENVSUB ON\n-- +goose Up\n"
        "CREATE TABLE seen AS SELECT '${POSTGRES_USERNAME}' AS u, '${POSTGRES_DATABASE}' AS d, '${REGION}' AS r,\n"
        "  '${POSTGRES_PASSWORD:-none}' AS p, '${WORKER_SECRET:-none}' AS w;\n",
        encoding="utf-8",
    )
    url = database_url.encode(secret, target)
    migration.run(Request(target, url, env=migration.substitutions(target, secret), settings=settings))
    assert rows(url, "SELECT u, d, r, p, w FROM seen") == [(secret.username, secret.database, "eu", "none", "none")]
    assert "POSTGRES_PASSWORD" in migration.substitutions(target.model_copy(update={"substitute_password": True}), secret)


def test_the_deadline_cancels_the_statement_on_the_server(postgres_url: str, directory: Path, settings: Settings) -> None:
    target, secret = located(postgres_url, directory)
    (directory / "20250103000000_slow.sql").write_text("-- +goose Up\nSELECT pg_sleep(60);\n", encoding="utf-8")
    url = database_url.encode(secret, target)
    with pytest.raises(errors.TimedOut) as caught:
        migration.run(Request(target, url, settings=settings, deadline=1.5))
    assert caught.value.code == "deadline-exceeded"
    assert rows(url, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()") == [(0,)]


def test_two_runs_at_once_apply_everything_once(postgres_url: str, directory: Path) -> None:
    target, secret = located(postgres_url, directory)
    url = database_url.encode(secret, target)
    outcomes: list[Any] = []

    def one() -> None:
        outcomes.append(migration.run(Request(target, url, settings=Settings(lock_wait_seconds=30))))

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(len(item.applied) for item in outcomes) == [0, 0, 2]


def test_bad_flow_the_lock_is_held_too_long(postgres_url: str, directory: Path) -> None:
    target, secret = located(postgres_url, directory)
    url = database_url.encode(secret, target)
    with holding_the_lock(url), pytest.raises(errors.LockUnavailable) as caught:
        migration.run(Request(target, url, settings=Settings(lock_wait_seconds=0.5)))
    assert caught.value.transient


def test_a_clickhouse_service_runs_and_verifies(clickhouse_url: str, tmp_path: Path, settings: Settings) -> None:
    parsed = addresses.parse_clickhouse(clickhouse_url)
    (tmp_path / "20250101000000_create_events.sql").write_text(
        "-- +goose Up\nCREATE TABLE events (id UInt64) ENGINE = MergeTree ORDER BY id;\n-- +goose Down\nDROP TABLE events;\n",
        encoding="utf-8",
    )
    found = fleet.load().target("audit-service", "dev")
    target = found.model_copy(update={"base": parsed.database, "suffix": "", "directory": str(tmp_path)})
    secret = Credentials(
        host=parsed.http_ports[0][0],
        port=parsed.hosts[0][1],
        http_port=parsed.http_ports[0][1],
        username=parsed.username,
        password=SecretStr(parsed.password),
        database=parsed.database,
    )
    url = database_url.encode(secret, target)
    done = migration.run(Request(target, url, env=migration.substitutions(target, secret), settings=settings))
    assert (done.versions, done.current) == ((20250101000000,), 20250101000000)
    assert verification.verify(Request(target, url, bundle=done.bundle, settings=settings)).objects_checked >= 1
    assert not migration.run(Request(target, url, bundle=done.bundle, plan=done.plan, settings=settings)).changed


def rows(url: SecretStr, query: str) -> list[tuple[Any, ...]]:
    import psycopg

    with psycopg.connect(addresses.parse_postgres(url.get_secret_value()).conninfo) as connection:
        return list(connection.execute(query).fetchall())


class holding_the_lock:  # noqa: N801 - reads as a statement
    """Another session that holds goose's lock."""

    def __init__(self, url: SecretStr) -> None:
        import psycopg

        self._connection = psycopg.connect(addresses.parse_postgres(url.get_secret_value()).conninfo, autocommit=True)

    def __enter__(self) -> None:
        self._connection.execute("SELECT pg_advisory_lock(4097083626)")

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def test_bad_flow_a_fleet_that_refuses_a_house_rule_applies_nothing(postgres_url: str, directory: Path, settings: Settings) -> None:
    target, secret = located(postgres_url, directory)
    url = database_url.encode(secret, target)
    warned = migration.preview(Request(target, url, settings=settings))
    assert ("H04", f"{directory}/20250102000000_add_email.sql: no statement takes this migration back (missing-down)") in [
        (item.code, item.message) for item in warned.remarks
    ]
    refusing = target.model_copy(update={"rules": HouseRules(tuple(RULES), ("H04",))})
    for step in (migration.preview, migration.run):
        with pytest.raises(errors.PlanRefused) as caught:
            step(Request(refusing, url, settings=settings))
        assert caught.value.code == "house-rule"
    assert migration.preview(Request(target, url, settings=settings)).current == 0
