"""An approval is used up on a server without transactions: begun before the first statement, each version noted right after its row."""

from __future__ import annotations

import pytest

from migrator import applying, errors
from migrator.planning.approvals import Approval
from tests.clickhouse.conftest import Playground

ONE = Approval("a" * 64)


def approved(playground: Playground, approval: Approval = ONE) -> applying.Report:
    with playground.open() as database:
        return applying.apply(database, playground.plan(database), approval=approval)


def states(playground: Playground) -> dict[int, str]:
    rows = playground.sql("SELECT version, argMax(state, at) FROM greylag_approval GROUP BY version ORDER BY version")
    return {int(version): state for version, state in rows}


def refused(playground: Playground, approval: Approval = ONE) -> str:
    with pytest.raises(errors.PlanRefused) as caught:
        approved(playground, approval)
    assert caught.value.code == "approval-used"
    return caught.value.message


def test_bad_flow_a_used_approval_applies_nothing_although_history_rows_have_gone(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE IF NOT EXISTS t (id Int64) ENGINE = MergeTree ORDER BY id;")
    playground.write(2, "INSERT INTO t VALUES (1);")
    approved(playground)
    assert states(playground) == {0: "used", 1: "applied", 2: "applied"}
    playground.do("ALTER TABLE goose_db_version DELETE WHERE version_id = 2 SETTINGS mutations_sync = 2")
    assert "is used" in refused(playground)
    assert playground.sql("SELECT count() FROM t") in ([[1]], [["1"]])


def test_a_begun_approval_resumes_what_is_left_and_nothing_that_ran(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id Int64) ENGINE = MergeTree ORDER BY id;")
    playground.write(2, "INSERT INTO t VALUES (1);")
    playground.write(3, "INSERT INTO missing VALUES (1);")
    with pytest.raises(errors.StatementRejected):
        approved(playground)
    assert states(playground) == {0: "begun", 1: "applied", 2: "applied"}
    playground.do("ALTER TABLE goose_db_version DELETE WHERE version_id = 2 SETTINGS mutations_sync = 2")
    assert "version 2 was already applied" in refused(playground)
    playground.do("INSERT INTO goose_db_version (version_id, is_applied) VALUES (2, 1)")
    playground.do("CREATE TABLE missing (id Int64) ENGINE = MergeTree ORDER BY id")
    approved(playground)
    assert states(playground) == {0: "used", 1: "applied", 2: "applied", 3: "applied"}


def test_without_an_approval_there_is_no_table_and_a_databases_identity_stays(playground: Playground) -> None:
    playground.write(1, "SELECT 1;")
    playground.run()
    assert playground.sql("EXISTS TABLE greylag_approval") in ([[0]], [["0"]])
    with playground.open() as database:
        first = database.identity()
    with playground.open() as database:
        assert database.identity() == first
    assert first.startswith(f"clickhouse:{playground.name}/")
    assert len(first) > len(f"clickhouse:{playground.name}/")
