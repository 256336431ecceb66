"""Opening a database: who is told what when it can't be done, and what a session looks like to the server."""

from __future__ import annotations

import socket
from urllib.parse import quote, urlsplit

import pytest

from migrator import databases, errors, registry
from migrator.planning import events
from migrator.postgres import connection
from sandbox.databases import postgres
from tests.conftest import AWKWARD_PASSWORD
from tests.postgres.conftest import Playground


def refused(url: str, **options: object) -> errors.GreylagError:
    with pytest.raises(errors.GreylagError) as caught:
        connection.connect(url, databases.Options(**options)).close()  # type: ignore[arg-type]
    told = caught.value.describe() + repr(caught.value) + str(caught.value.__cause__) + str(caught.value.document())
    for form in (AWKWARD_PASSWORD, quote(AWKWARD_PASSWORD, safe=""), "wrong-pass"):
        assert form not in told
    return caught.value


def parts(playground: Playground) -> tuple[str, int, str]:
    found = urlsplit(playground.url)
    assert found.hostname and found.port and found.username
    return found.hostname, found.port, found.username


def test_a_wrong_password_is_a_failed_login(playground: Playground) -> None:
    host, port, user = parts(playground)
    error = refused(f"postgres://{user}:wrong-pass@{host}:{port}/{user}")
    assert isinstance(error, errors.LoginFailed) and not error.transient
    assert "percent-encoded" in error.hint


def test_an_unknown_role_is_a_failed_login(playground: Playground) -> None:
    host, port, user = parts(playground)
    assert isinstance(refused(f"postgres://nobody_here:wrong-pass@{host}:{port}/{user}"), errors.LoginFailed)


def test_an_unknown_database_is_not_found(playground: Playground) -> None:
    host, port, user = parts(playground)
    error = refused(f"postgres://{user}:{quote(AWKWARD_PASSWORD, safe='')}@{host}:{port}/nosuchdb")
    assert isinstance(error, errors.NotFound) and error.code == "unknown-database"
    assert "nosuchdb" in error.message


def test_a_closed_port_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = refused(f"postgres://u:{quote(AWKWARD_PASSWORD, safe='')}@127.0.0.1:{port}/d")
    assert isinstance(error, errors.Unavailable) and error.transient and f"127.0.0.1:{port}" in error.message


def test_a_host_that_does_not_exist_is_unavailable() -> None:
    assert isinstance(refused("postgres://u:wrong-pass@nosuch.invalid/d"), errors.Unavailable)


def test_a_server_that_does_not_answer_is_a_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = refused(f"postgres://u:wrong-pass@127.0.0.1:{silent.getsockname()[1]}/d", connect_timeout=1.0)
    assert isinstance(error, errors.TimedOut) and error.transient


@pytest.mark.parametrize(
    "text", ["postgres://u:p@h:notaport/d", "nonsense", "postgres://u:wrong-pass@127.0.0.1:1/d?sslmode=nonsense", "host=h sslmode"]
)
def test_an_address_that_is_not_understood_is_a_usage_error(text: str) -> None:
    assert isinstance(refused(text), errors.UsageError)


@pytest.mark.parametrize("table", ["a.b.c.d", "a-b", "", "a b", 'x"'])
def test_a_table_name_that_is_none_is_a_usage_error(playground: Playground, table: str) -> None:
    error = refused(playground.url, table=table)
    assert isinstance(error, errors.UsageError) and error.code == "bad-table"


def test_a_session_says_who_it_is_and_ends_with_its_client(playground: Playground) -> None:
    options = databases.Options(service="auth-service", run_id="0123456789abcdef0123456789abcdef")
    with connection.connect(playground.url, options) as database:
        assert database.name == urlsplit(playground.url).path.removeprefix("/")
        assert database.server_version[0].isdigit()
        session = database._session
        name, interval = session.query("SELECT current_setting('application_name'), current_setting('client_connection_check_interval')")[0]
        assert (name, interval) == ("greylag/auth-service/0123456789ab", "1s")
        assert session.query("SELECT count(*) FROM pg_prepared_statements")[0] == ("0",)


def test_a_long_service_name_fits_into_the_application_name() -> None:
    name = connection.application_name(databases.Options(service="s" * 100, run_id="0123456789abcdef"))
    assert len(name) == 63 and name.endswith("/0123456789ab")


def test_runtime_parameters_of_the_address_reach_the_server(playground: Playground) -> None:
    playground.sql("CREATE SCHEMA app")
    playground.write(1, "CREATE TABLE t (id int);")
    separator = "&" if "?" in playground.url else "?"
    with connection.connect(f"{playground.url}{separator}search_path=app", databases.Options()) as database:
        plan = playground.plan(database)
        database.ensure_history()
        database.execute(plan, plan.steps, events.ignore)
    assert playground.exists("app.goose_db_version") and playground.exists("app.greylag_migration") and playground.exists("app.t")


def test_a_search_path_without_any_schema_has_no_place_for_the_history(playground: Playground) -> None:
    separator = "&" if "?" in playground.url else "?"
    with connection.connect(f"{playground.url}{separator}search_path=nosuch", databases.Options()) as database:
        assert not database.read_history().exists
        with pytest.raises(errors.NotFound) as caught:
            database.ensure_history()
    assert caught.value.code == "no-schema"


def test_work_is_done_as_the_owner_role(playground: Playground, postgres_server: postgres.PostgresServer) -> None:
    user = urlsplit(playground.url).username
    postgres_server.execute(f'CREATE ROLE "{user}_owner" NOLOGIN; GRANT "{user}_owner" TO "{user}"')
    postgres_server.execute(f'GRANT CREATE ON DATABASE "{user}" TO "{user}_owner"')
    try:
        playground.write(1, "CREATE SCHEMA app;\nCREATE TABLE app.t (id int);")
        playground.sql(f'GRANT CREATE, USAGE ON SCHEMA public TO "{user}_owner"')
        playground.run(owner_role=f"{user}_owner")
        assert playground.sql("SELECT tableowner FROM pg_tables WHERE tablename = 't'") == [(f"{user}_owner",)]
    finally:
        postgres_server.execute(f'DROP OWNED BY "{user}_owner" CASCADE', str(user))
        postgres_server.execute(f'DROP OWNED BY "{user}_owner" CASCADE; DROP ROLE "{user}_owner"')


def test_an_owner_role_that_may_not_be_taken_is_a_failed_login(playground: Playground) -> None:
    error = refused(playground.url, owner_role="postgres")
    assert isinstance(error, errors.LoginFailed) and error.code == "permission-denied"


def test_what_the_role_may_not_do_is_a_question_of_permission(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE pg_catalog.t (id int);")
    with pytest.raises(errors.LoginFailed, match=r"SQLSTATE 42501") as caught:
        playground.run()
    assert caught.value.code == "permission-denied" and caught.value.where is not None


def test_open_connections_are_registered_until_they_are_closed(playground: Playground) -> None:
    before = len(registry.live())
    with playground.open() as database:
        assert database in registry.live() and len(registry.live()) == before + 1
    assert len(registry.live()) == before


def test_a_server_restart_during_a_run_is_unavailable_and_the_next_run_goes_on(
    playground: Playground, postgres_server: postgres.PostgresServer
) -> None:
    playground.write(1, "CREATE TABLE a (id int);")
    playground.write(2, "CREATE TABLE b (id int);\nSELECT pg_sleep(30);")
    playground.write(3, "CREATE TABLE c (id int);")

    def on_event(event: events.Event) -> None:
        if isinstance(event, events.StatementFinished) and event.version == 2:
            postgres_server.stop()

    with playground.open() as database:
        database.ensure_history()
        plan = playground.plan(database)
        with pytest.raises(errors.Unavailable) as caught:
            database.execute(plan, plan.steps, on_event)
    assert caught.value.transient
    postgres_server.start()
    assert playground.versions() == [0, 1] and not playground.exists("b")
    playground.write(2, "CREATE TABLE b (id int);")
    playground.run()
    assert playground.versions() == [0, 1, 2, 3]
