"""Histories that can't be believed: rows that row-level security hides, a table in another schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from migrator import errors
from sandbox.databases.postgres import PostgresServer
from tests.postgres.conftest import Playground

ROLE = "greylag_reads_rows"


Administer = Callable[[str], str]


@pytest.fixture
def administer(playground: Playground, postgres_server: PostgresServer) -> Administer:
    """Executes SQL as the superuser in the playground's database."""
    name = str(playground.sql("SELECT current_database()")[0][0])
    return lambda text: postgres_server.execute(text, name)


@pytest.fixture
def guarded(playground: Playground, administer: Administer) -> Iterator[Playground]:
    """Two applied versions, and row-level security on the version table for a role that isn't its owner."""
    playground.write(1, "CREATE TABLE t1 (id int);")
    playground.write(2, "CREATE TABLE t2 (id int);")
    playground.run()
    owner = playground.sql("SELECT current_user")[0][0]
    administer(
        f"CREATE ROLE {ROLE}; GRANT {ROLE} TO {owner}; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE};"
        f" GRANT CREATE ON SCHEMA public TO {ROLE}; ALTER TABLE goose_db_version ENABLE ROW LEVEL SECURITY"
    )
    yield playground
    administer(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")


def _read(playground: Playground, role: str = ROLE) -> int:
    with playground.open(owner_role=role) as database:
        outline = database.read_outline()
        current = database.read_history().current
        assert outline is None or outline.current == current
        return current


def _refused(playground: Playground, role: str = ROLE) -> errors.PlanRefused:
    with playground.open(owner_role=role) as database:
        for read in (database.read_outline, database.read_history, database.ensure_history):
            with pytest.raises(errors.PlanRefused) as caught:
                read()
            assert caught.value.code == "rows-hidden"
    return caught.value


@pytest.mark.parametrize(
    "policy",
    [
        "",
        f"CREATE POLICY few ON goose_db_version TO {ROLE} USING (version_id < 2)",
        "CREATE POLICY few ON goose_db_version FOR SELECT USING (version_id < 2)",
        f"CREATE POLICY writes ON goose_db_version FOR INSERT TO {ROLE} WITH CHECK (true)",
        "CREATE POLICY other ON goose_db_version TO pg_monitor USING (true)",
        f"CREATE POLICY everything ON goose_db_version USING (true); CREATE POLICY few ON goose_db_version AS RESTRICTIVE TO {ROLE} USING (version_id < 2)",
        "ALTER TABLE goose_db_version DISABLE ROW LEVEL SECURITY; ALTER TABLE greylag_migration ENABLE ROW LEVEL SECURITY",
    ],
)  # fmt: skip
def test_bad_flow_rows_that_a_policy_hides_are_told(guarded: Playground, administer: Administer, policy: str) -> None:
    if policy:
        administer(policy)
    refusal = _refused(guarded)
    owner = guarded.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'goose_db_version'")[0][0]
    for word in (f"the owner is {owner}", "BYPASSRLS", f'TO "{ROLE}" USING (true)'):
        assert word in refusal.hint
    assert f"from {ROLE}" in refusal.message
    with pytest.raises(errors.PlanRefused, match="row-level security hides rows"):
        guarded.run(owner_role=ROLE)


@pytest.mark.parametrize(
    "remedy",
    [
        f'CREATE POLICY greylag ON goose_db_version TO "{ROLE}" USING (true) WITH CHECK (true)',
        "CREATE POLICY everything ON goose_db_version USING (true)",
        f"ALTER ROLE {ROLE} BYPASSRLS",
    ],
)
def test_a_role_that_sees_every_row_goes_on(guarded: Playground, administer: Administer, remedy: str) -> None:
    administer(remedy)
    assert _read(guarded) == 2


def test_the_owner_goes_on_unless_it_is_forced(guarded: Playground, administer: Administer) -> None:
    administer(f"ALTER TABLE goose_db_version OWNER TO {ROLE}; ALTER TABLE greylag_migration OWNER TO {ROLE}")
    assert _read(guarded) == 2
    administer("ALTER TABLE goose_db_version FORCE ROW LEVEL SECURITY")
    assert "NO FORCE ROW LEVEL SECURITY" in _refused(guarded).hint


# --- a table in another schema ----------------------------------------------------------------------------------------------------


def _moved(playground: Playground, *, to: str = "public") -> None:
    """Applies a file in schema `app`, after which the database's search_path leads elsewhere."""
    name = playground.sql("SELECT current_database()")[0][0]
    playground.sql("CREATE SCHEMA app")
    playground.sql(f"ALTER DATABASE {name} SET search_path TO app")
    playground.write(1, "CREATE TABLE t1 (id int);")
    playground.run()
    playground.sql(f"ALTER DATABASE {name} SET search_path TO {to}")


@pytest.mark.parametrize("facts", [True, False], ids=["greylag's", "goose's"])
def test_bad_flow_a_history_in_another_schema_is_not_applied_again(playground: Playground, facts: bool) -> None:
    _moved(playground)
    if not facts:
        playground.sql("DROP TABLE app.greylag_migration, app.greylag_journal, app.greylag_fact")
    playground.write(2, "CREATE TABLE t2 (id int);")
    with pytest.raises(errors.PlanRefused) as caught:
        playground.run()
    assert caught.value.code == "history-elsewhere"
    assert "-table app.goose_db_version" in caught.value.hint
    assert not playground.exists("public.goose_db_version")
    playground.run(table="app.goose_db_version")
    assert playground.sql("SELECT version_id FROM app.goose_db_version ORDER BY id") == [(0,), (1,), (2,)]


def test_a_second_history_needs_its_place_named_once(playground: Playground) -> None:
    _moved(playground)
    assert playground.run(table="public.goose_db_version").finished
    assert playground.run().finished == ()


def test_another_services_schema_is_no_obstacle(playground: Playground) -> None:
    _moved(playground)
    playground.clear()
    playground.write(1, "CREATE TABLE orders (id int);")
    playground.run()
    assert playground.exists("public.orders")


@pytest.mark.parametrize("twin", ["(version_id bigint, is_applied boolean)", "(version text)"], ids=["without versions", "of another kind"])
def test_a_table_of_that_name_without_applied_versions_is_no_history(playground: Playground, twin: str) -> None:
    playground.sql(f"CREATE SCHEMA app; CREATE TABLE app.goose_db_version {twin}")
    playground.write(1, "CREATE TABLE t1 (id int);")
    playground.run()
    assert playground.exists("public.t1")


def test_a_version_table_in_a_schema_that_does_not_exist_is_told_by_every_verb(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    with playground.open(table="nowhere.v") as database, pytest.raises(errors.NotFound) as caught:
        database.read_history()
    assert (caught.value.code, caught.value.exit_code) == ("no-schema", 13)
    assert "nowhere.v has no place" in caught.value.message
