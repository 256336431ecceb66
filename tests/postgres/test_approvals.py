"""An approval is used up in the database, in the transaction of the history: begun it resumes what is left, used it applies nothing."""

from __future__ import annotations

import time

import pytest

from migrator import applying, errors, targets
from migrator.planning.approvals import Approval
from tests.postgres.conftest import Playground

ONE = Approval("a" * 64)


def approved(playground: Playground, approval: Approval = ONE, **options: object) -> applying.Report:
    with playground.open(**options) as database:
        return applying.apply(database, playground.plan(database), approval=approval)


def states(playground: Playground) -> dict[object, object]:
    return dict(playground.sql("SELECT version, state FROM greylag_approval ORDER BY version"))


def refused(playground: Playground, code: str, approval: Approval = ONE) -> str:
    with pytest.raises(errors.PlanRefused) as caught:
        approved(playground, approval)
    assert caught.value.code == code
    return caught.value.message


def test_an_approval_is_used_with_the_last_history_row(playground: Playground) -> None:
    for version in (1, 2, 3):
        playground.write(version, f"CREATE TABLE t{version} (id int);")
    approved(playground)
    assert states(playground) == {0: "used", 1: "applied", 2: "applied", 3: "applied"}
    assert approved(playground).plan.steps == ()


def test_bad_flow_a_used_approval_applies_nothing_although_history_rows_have_gone(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE IF NOT EXISTS t (id int); INSERT INTO t VALUES (1);")
    approved(playground)
    playground.sql("DELETE FROM goose_db_version WHERE version_id = 1")
    assert "is used" in refused(playground, "approval-used")
    assert playground.sql("SELECT count(*) FROM t") == [(1,)]
    approved(playground, Approval("b" * 64))
    assert playground.sql("SELECT count(*) FROM t") == [(2,)]


def test_a_begun_approval_resumes_what_is_left_and_nothing_that_ran(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE IF NOT EXISTS t (id int); INSERT INTO t VALUES (1);")
    broken = playground.write(2, "SELECT 1/0;")
    with pytest.raises(errors.StatementRejected):
        approved(playground)
    assert states(playground) == {0: "begun", 1: "applied"}
    playground.sql("CREATE TABLE kept AS SELECT * FROM goose_db_version WHERE version_id = 1")
    playground.sql("DELETE FROM goose_db_version WHERE version_id = 1")
    assert "version 1 was already applied" in refused(playground, "approval-used")
    playground.sql("INSERT INTO goose_db_version SELECT * FROM kept")
    broken.write_text("-- +goose Up\nSELECT 1;\n")
    approved(playground)
    assert states(playground) == {0: "used", 1: "applied", 2: "applied"}
    assert playground.sql("SELECT count(*) FROM t") == [(1,)]


def test_a_record_that_fails_uses_nothing(playground: Playground) -> None:
    """One transaction: a history row that can't be written leaves the version unapplied and the approval begun."""
    playground.write(1, "CREATE TABLE t (id int);")
    with playground.open() as database:
        database.ensure_history()
    playground.sql("ALTER TABLE goose_db_version ADD CONSTRAINT none CHECK (version_id <> 1)")
    with pytest.raises(errors.GreylagError):
        approved(playground)
    assert states(playground) == {0: "begun"}
    assert not playground.exists("t")
    playground.sql("ALTER TABLE goose_db_version DROP CONSTRAINT none")
    approved(playground)
    assert states(playground) == {0: "used", 1: "applied"}


@pytest.mark.parametrize(
    ("head", "up"),
    [
        ("-- +goose NO TRANSACTION\n", "CREATE INDEX CONCURRENTLY ON kept (id);"),
        ("", "INSERT INTO kept VALUES (2); SET standard_conforming_strings = on;"),
        ("", "COMMIT; BEGIN; INSERT INTO kept VALUES (2);"),
    ],
)
def test_every_way_of_executing_uses_the_approval(playground: Playground, head: str, up: str) -> None:
    playground.write(1, "CREATE TABLE kept (id int);")
    playground.run()
    playground.write(2, "INSERT INTO kept VALUES (1);")
    playground.write(3, up, head=head)
    playground.write(4, "INSERT INTO kept VALUES (3);")
    with playground.open() as database:
        plan = playground.plan(database)
        from migrator.planning import plans

        applying.apply(database, plan, approval=ONE, policy=plans.Policy(accept_hazards=True))
    assert states(playground) == {0: "used", 2: "applied", 3: "applied", 4: "applied"}


def test_the_time_for_the_first_statement_ends_and_what_is_begun_resumes(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    broken = playground.write(2, "SELECT 1/0;")
    refused(playground, "proof-expired", Approval("a" * 64, time.time() - 1))
    assert not playground.exists("t")
    with pytest.raises(errors.StatementRejected):
        approved(playground, Approval("a" * 64, time.time() + 60))
    broken.write_text("-- +goose Up\nSELECT 1;\n")
    approved(playground, Approval("a" * 64, time.time() - 1))
    assert states(playground)[0] == "used"


def test_what_was_applied_by_another_run_counts_as_used_once_nothing_is_left(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    playground.write(2, "SELECT 1/0;")
    with playground.open() as database:
        plan = playground.plan(database)
        with pytest.raises(errors.StatementRejected):
            applying.apply(database, plan, approval=ONE)
    playground.sql("INSERT INTO goose_db_version (version_id, is_applied) VALUES (2, true)")
    with playground.open() as database:
        assert applying.apply(database, plan, approval=ONE).plan.steps == ()
    assert states(playground)[0] == "used"


def test_nobody_but_the_owner_can_write_the_table_whatever_the_default_privileges_are(playground: Playground) -> None:
    playground.sql("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC, pg_read_all_data")
    playground.write(1, "CREATE TABLE t (id int);")
    approved(playground)
    others = (
        "SELECT count(*) > 0 FROM pg_class AS c, aclexplode(c.relacl) AS acl WHERE c.oid = '{}'::regclass"
        " AND acl.grantee <> c.relowner AND acl.privilege_type <> 'SELECT'"
    )
    assert playground.sql(others.format("t")) == [(True,)]
    assert playground.sql(others.format("greylag_approval")) == [(False,)]


def test_the_table_is_no_foreign_object_of_the_schema(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    approved(playground)
    with playground.open() as database:
        found = database.check_schema()
    assert found.findings == ()
    assert not [name for name in found.foreign if "greylag" in name]


def test_without_an_approval_there_is_no_table(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    playground.run()
    assert not playground.exists("greylag_approval")


def test_a_databases_identity_stays_and_is_no_other_ones(playground: Playground) -> None:
    with playground.open() as database:
        first = database.identity()
    with playground.open() as database:
        assert database.identity() == first
        assert first.startswith("postgres:")
        assert first.split("/")[1] == database.name
    assert targets.Engine.POSTGRES in first
