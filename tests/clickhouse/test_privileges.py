"""The shipped ClickHouse grants: enough for every example migration and for what follows a crash, and nothing in them that could be left out.

The server asks for every grant that it can ask for (`access_control_improvements`), as a server with the released configuration does. Its users
are made before it starts, one per grant that is left out, because the sandbox's build can't CREATE USER.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from deployments.privileges import rendering
from migrator import errors
from migrator.planning import events
from sandbox.databases.clickhouse import ClickHouseServer, User
from tasks import fleet, migration, verification
from tasks.fleet.models import Engine, Target
from tasks.request import Request
from tasks.settings import Settings
from tests.clickhouse.conftest import LEASE, Playground, start, wait_until

SERVICES = [name for name, service in fleet.load().services.items() if service.engine is Engine.CLICKHOUSE]
RULES = [
    line
    for line in (rendering.DIRECTORY / "clickhouse" / "migrator.sql").read_text(encoding="utf-8").splitlines()
    if line.startswith("GRANT ")
]
STRICT = "".join(
    f"<{name}>true</{name}>"
    for name in (
        "select_from_system_db_requires_grant",
        "select_from_information_schema_requires_grant",
        "on_cluster_queries_require_cluster_grant",
        "table_engines_require_grant",
    )
)
PASSWORD = "p%/:@#?&+ '\"\\$"
SETTINGS = Settings(lock_wait_seconds=20)


@dataclasses.dataclass(frozen=True)
class Account:
    """A database and the user that migrates it."""

    server: ClickHouseServer
    target: Target

    @property
    def url(self) -> SecretStr:
        user = rendering.words(self.target)["migrator"]
        return SecretStr(f"{self.server.url(user, PASSWORD, self.target.database)}&greylag_lease={LEASE}")

    def run(self) -> None:
        env = {"CLICKHOUSE_DATABASE": self.target.database, **self.target.env}
        migration.run(Request(self.target, self.url, env=env, settings=SETTINGS))
        verification.verify(Request(self.target, self.url, env=env, settings=SETTINGS))


def granted(target: Target, without: str = "") -> User:
    """The target's migrator with the printed grants, but the one."""
    words = rendering.words(target)
    lines = [line for line in rendering.clickhouse([target]).splitlines() if line.endswith(f" TO `{words['migrator']}`;")]
    kept = [line for rule, line in zip(RULES, lines, strict=True) if rule != without]
    return User(words["migrator"], PASSWORD, grants=tuple(line.partition(" TO ")[0] for line in kept))


def named(service: str, name: str) -> Target:
    return fleet.load().target(service, "dev").model_copy(update={"base": name})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    users = [granted(named(service, service.partition("-")[0])) for service in SERVICES]
    users += [granted(named("audit-service", "recovered"))]
    users += [granted(named("audit-service", "warned"), next(rule for rule in RULES if "system.mutations" in rule))]
    users += [granted(named("audit-service", f"{kind}_without_{number}"), rule) for number, rule in enumerate(RULES) for kind in KINDS]
    configuration = f"<access_control_improvements>{STRICT}</access_control_improvements>"
    with ClickHouseServer(tmp_path_factory.mktemp("clickhouse-privileges"), users=users, configuration=configuration) as running:
        yield running


KINDS = ("run", "recovered")


def account(server: ClickHouseServer, service: str, name: str) -> Account:
    found = Account(server, named(service, name))
    server.create_database(found.target.database)
    return found


def killed_in_a_mutation(account: Account, directory: Path) -> Playground:
    """A database whose run was killed while the server worked on a mutation: a fact of the server, whoever asked for it."""
    directory.mkdir()
    found = Playground(account.url.get_secret_value(), account.server, account.target.database, directory)
    table = "CREATE TABLE t (id UInt64, name String) ENGINE = MergeTree ORDER BY id;"
    slow = "ALTER TABLE t UPDATE name = concat(name, toString(sleepEachRow(0.09))) WHERE true;"
    found.write(1, table, "INSERT INTO t SELECT number, 'x' FROM numbers(30);", slow, "ALTER TABLE t ADD COLUMN more Int8;")
    process = found.runner()
    start(process)
    running = f"SELECT count() FROM system.mutations WHERE database = '{found.name}' AND NOT is_done"
    wait_until(lambda: process.poll() is not None or found.sql(running) != [[0]])
    process.kill()
    process.wait()
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_every_example_migration_applies_with_the_shipped_grants(server: ClickHouseServer, service: str) -> None:
    account(server, service, service.partition("-")[0]).run()


def test_a_killed_run_is_completed_with_the_shipped_grants(server: ClickHouseServer, tmp_path: Path) -> None:
    broken = killed_in_a_mutation(account(server, "audit-service", "recovered"), tmp_path / "files")
    broken.run()
    assert [(event.index, event.outcome) for event in broken.of(events.StatementSettled)] == [(3, "done")]


@pytest.mark.parametrize("rule", RULES)
def test_bad_flow_without_any_one_of_them_the_server_refuses_a_permission(server: ClickHouseServer, tmp_path: Path, rule: str) -> None:
    number = RULES.index(rule)
    with pytest.raises(errors.LoginFailed) as caught:
        account(server, "audit-service", f"run_without_{number}").run()
        killed_in_a_mutation(account(server, "audit-service", f"recovered_without_{number}"), tmp_path / "files").run()
    assert (caught.value.exit_code, caught.value.code) == (12, "permission-denied")
    assert "it's necessary to have the grant" in caught.value.message


def test_a_statement_is_cancelled_on_the_server_without_a_grant_for_it(server: ClickHouseServer, tmp_path: Path) -> None:
    """KILL QUERY of one's own statements needs none."""
    found = account(server, "audit-service", "recovered")
    (tmp_path / "00009_slow.sql").write_text(
        "-- +goose Up\nSELECT sleepEachRow(0.5) FROM numbers(600) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0;\n",
        encoding="utf-8",
    )
    slow = found.target.model_copy(update={"directory": str(tmp_path)})
    with pytest.raises(errors.TimedOut):
        migration.run(Request(slow, found.url, settings=SETTINGS, deadline=3.0))
    user = rendering.words(found.target)["migrator"]
    wait_until(
        lambda: server.execute(f"SELECT count() FROM system.processes WHERE user = '{user}' AND query LIKE '%sleepEachRow%'").strip() == "0"
    )


def test_a_right_that_only_recovery_needs_is_warned_of_before_it_is_needed(server: ClickHouseServer, tmp_path: Path) -> None:
    warned = account(server, "audit-service", "warned")
    found = Playground(warned.url.get_secret_value(), server, warned.target.database, tmp_path)
    found.write(1, "CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id;")
    found.run()
    notes = [note for note in found.of(events.Note) if note.code == "recovery-rights"]
    assert [note.level for note in notes] == ["warning"]
    assert "system.mutations" in notes[0].message and "greylag privileges" in notes[0].message
    assert found.versions() == [0, 1]
