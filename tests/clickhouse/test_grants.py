"""Who may write what is recorded on ClickHouse: the shipped grants keep the service from it, and `env` names whoever else may."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from deployments.privileges import rendering
from migrator import cli, databases
from migrator.clickhouse import connection
from sandbox.databases.clickhouse import ClickHouseServer, User, owner_grants
from tasks import fleet

PASSWORD = "p%/:@#?&+ '\"\\$"
TARGET = fleet.load().target("audit-service", "dev").model_copy(update={"base": "shop", "suffix": ""})
NAMES = rendering.words(TARGET)
OPEN = ("GRANT SELECT, INSERT, ALTER DELETE, TRUNCATE ON `shop`.*",)
TABLES = ("goose_db_version", "greylag_migration", "greylag_journal", "greylag_approval", "greylag_fact", "greylag_lock")
FORGERIES = (
    "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)",
    "ALTER TABLE goose_db_version DELETE WHERE 1",
    "DELETE FROM goose_db_version WHERE 1",
    "TRUNCATE TABLE goose_db_version",
    "DROP TABLE goose_db_version",
    "RENAME TABLE goose_db_version TO other",
    "INSERT INTO greylag_migration (version) VALUES (1)",
    "ALTER TABLE greylag_migration UPDATE checksum = 'x' WHERE 1",
    "INSERT INTO greylag_journal (version) VALUES (1)",
    "ALTER TABLE greylag_lock ADD COLUMN x UInt8",
)


def printed(name: str) -> tuple[str, ...]:
    """The printed statements about one user, as a configuration of users takes them."""
    lines = rendering.clickhouse([TARGET]).splitlines()
    found = [line.rstrip(";") for line in lines if line.endswith(f"`{name}`;")]
    return tuple(line.rpartition(" FROM " if line.startswith("REVOKE") else " TO ")[0] for line in found)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    users = [
        User(NAMES["migrator"], PASSWORD, grants=(*printed(NAMES["migrator"]), "GRANT SELECT ON system.grants")),
        User(NAMES["application"], PASSWORD, grants=(*OPEN, *printed(NAMES["application"]))),
        User("careless", PASSWORD, grants=OPEN),
        User("reader", PASSWORD, grants=("GRANT SELECT ON *.*",)),
        User("column", PASSWORD, grants=("GRANT INSERT(checksum) ON `shop`.greylag_migration",)),
        User("elsewhere", PASSWORD, grants=owner_grants("bank")),
    ]
    with ClickHouseServer(tmp_path_factory.mktemp("grants"), users=users) as started:
        started.create_database("shop")
        yield started


@pytest.fixture(scope="module")
def url(server: ClickHouseServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The migrator's address; one migration is applied."""
    directory = tmp_path_factory.mktemp("files")
    (directory / "00001_users.sql").write_text(
        "-- +goose Up\nCREATE TABLE users (id Int32) ENGINE = MergeTree ORDER BY id;\n-- +goose Down\nDROP TABLE users;\n", encoding="utf-8"
    )
    found = server.url(NAMES["migrator"], PASSWORD, "shop")
    assert cli.main(["-dir", str(directory), "clickhouse", found, "up"]) == 0
    return found


@pytest.mark.usefixtures("url")
def test_the_service_reads_and_writes_rows_of_every_table_but_these(server: ClickHouseServer) -> None:
    client = clickhouse_connect.get_client(
        host=server.host, port=server.http_port, username=NAMES["application"], password=PASSWORD, database="shop"
    )
    client.command("INSERT INTO users VALUES (1)")
    assert client.query("SELECT count() FROM users").result_rows == [(1,)]
    for text in FORGERIES:
        with pytest.raises(DatabaseError, match="Not enough privileges"):
            client.command(text)
    for table in TABLES[:3]:
        client.query(f"SELECT count() FROM {table}")
    server.execute("TRUNCATE TABLE users", "shop")


def test_who_else_may_write_is_named_with_what_ends_it(url: str) -> None:
    with connection.connect(url, databases.Options()) as database:
        found = database.read_writers()
    names = {item.name for item in found}
    assert {"`careless`", "`column`"} <= names
    assert not names & {f"`{NAMES['application']}`", f"`{NAMES['migrator']}`", "`reader`", "`elsewhere`"}
    of_careless = [item for item in found if item.name == "`careless`"]
    assert [item.may for item in of_careless] == [f"INSERT, ALTER DELETE, TRUNCATE on {table}" for table in TABLES]
    assert of_careless[0].remedy == "REVOKE INSERT, ALTER DELETE, TRUNCATE ON `shop`.`goose_db_version` FROM `careless`"
    assert [item.may for item in found if item.name == "`column`"] == ["INSERT on greylag_migration"]


def test_env_warns_of_them(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("GOOSE_DRIVER", "clickhouse")
    monkeypatch.setenv("GOOSE_DBSTRING", url)
    assert cli.main(["env"]) == 0
    told = capsys.readouterr()
    assert "greylag: warning: `careless` may write the history: INSERT" in told.err and "[history-writable]" in told.err
    assert told.out.startswith('GOOSE_DRIVER="clickhouse"')


def test_a_database_without_a_history_has_no_writers_of_it(server: ClickHouseServer) -> None:
    server.create_database("empty")
    with connection.connect(server.url("admin", server.admin_password, "empty"), databases.Options()) as database:
        assert database.read_writers() == ()


def test_bad_flow_a_user_that_may_not_read_the_grants_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = "<select_from_system_db_requires_grant>true</select_from_system_db_requires_grant>"
    configuration = f"<access_control_improvements>{strict}</access_control_improvements>"
    with ClickHouseServer(
        tmp_path, users=[User("shop", PASSWORD, grants=("GRANT ALL ON `shop`.*",))], configuration=configuration
    ) as strict_server:
        strict_server.create_database("shop")
        strict_server.execute("CREATE TABLE goose_db_version (a Int32) ENGINE = MergeTree ORDER BY a", "shop")
        monkeypatch.setenv("GOOSE_DRIVER", "clickhouse")
        monkeypatch.setenv("GOOSE_DBSTRING", strict_server.url("shop", PASSWORD, "shop"))
        assert cli.main(["env"]) == 0
    told = capsys.readouterr()
    assert "who may write the history is not known" in told.err and "system.grants" in told.err
    assert PASSWORD not in told.out + told.err
