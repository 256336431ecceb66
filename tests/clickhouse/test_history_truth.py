"""Rows of the version table that a row policy hides. A server of its own, because policies stand in its users.xml: it can't CREATE ROW POLICY."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from migrator import errors
from migrator.targets import Verb
from sandbox.databases import clickhouse
from tests.clickhouse.conftest import Playground

PASSWORD = "p-1"

SHOWN = {"newest": "version_id < 2", "between": "version_id != 2", "all": "0", "nothing": "1"}
"""Per database, which is called after what is hidden: the rows that the policy shows."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clickhouse.ClickHouseServer]:
    tables = "".join(
        f"<{name}><goose_db_version><filter>{escape(rule)}</filter></goose_db_version></{name}>" for name, rule in SHOWN.items()
    )
    written = clickhouse._users_xml
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            clickhouse, "_users_xml", lambda users: written(users).replace("</migrator>", f"<databases>{tables}</databases></migrator>")
        )
        running = clickhouse.ClickHouseServer(tmp_path_factory.mktemp("clickhouse-policies"), users=[clickhouse.User("migrator", PASSWORD)])
        running.__enter__()
    yield running
    running.__exit__(None, None, None)


def migrated(server: clickhouse.ClickHouseServer, name: str, directory: Path) -> Playground:
    """Three versions that somebody without a policy applied, as the user with one finds them."""
    server.create_database(name)
    found = Playground(server.url("admin", server.admin_password, name), server, name, directory)
    for version in (1, 2, 3):
        found.write(version, f"CREATE TABLE t{version} (id Int32) ENGINE = MergeTree ORDER BY id;", down=f"DROP TABLE t{version};")
    found.run()
    found.url = server.url("migrator", PASSWORD, name)
    return found


@pytest.mark.parametrize(("hidden", "number"), [("newest", 2), ("between", 1), ("all", 4)])
def test_bad_flow_rows_that_a_row_policy_hides_are_told(
    server: clickhouse.ClickHouseServer, tmp_path: Path, hidden: str, number: int
) -> None:
    playground = migrated(server, hidden, tmp_path)
    with pytest.raises(errors.PlanRefused, match=f"{number} of the 4 rows") as caught:
        playground.run()
    assert caught.value.code == "rows-hidden"
    with playground.open() as database, pytest.raises(errors.PlanRefused):
        database.ensure_history()


def test_rows_that_were_rolled_back_or_deleted_by_hand_are_not_hidden(server: clickhouse.ClickHouseServer, tmp_path: Path) -> None:
    playground = migrated(server, "nothing", tmp_path)
    assert playground.run().finished == ()
    playground.run(Verb.DOWN)
    with playground.open() as database:
        assert database.read_history().current == 2
    playground.do("DELETE FROM goose_db_version WHERE version_id = 2")
    with playground.open() as database:
        assert database.read_history().current == 1
