"""Executing migrations on a real ClickHouse server: what is sent, recorded and said."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from migrator import applying, databases, errors, targets, verification
from migrator.clickhouse import connection, exchange, execution
from migrator.planning import events
from migrator.planning import files as migration_files
from sandbox.databases import clickhouse
from sandbox.databases.clickhouse_releases import Release
from tests.clickhouse.conftest import Playground, refusal
from tests.conftest import on_each_release

pytestmark = on_each_release

UP, DOWN, DOWN_TO, REDO, RESET = (targets.Verb(word) for word in ("up", "down", "down-to", "redo", "reset"))
TABLE = "CREATE TABLE {0} (id UInt64, name String) ENGINE = MergeTree ORDER BY id;"

INSERTS: list[str | tuple[str, ...]] = [
    "INSERT INTO t VALUES (1,'x;? {a:Int32} %s $1', '2020-01-01 00:00:00'),(2,'y','2020-01-01 00:00:00');",
    "INSERT INTO t VALUES (1+2, concat('x', '%%s'), '2020-01-01 00:00:00');",
    "INSERT INTO t FORMAT CSV\n4,abc,2020-01-01 00:00:00\n5,def,2020-01-01 00:00:00",
    'INSERT INTO t FORMAT JSONEachRow {"a":6,"b":"q","d":"2020-01-01 00:00:00"}',
    "INSERT INTO t SELECT 7, 's', '2020-01-01 00:00:00'",
    "INSERT INTO t FORMAT TabSeparated\n8\tx\\ty\t2020-01-01 00:00:00\n",
    "INSERT INTO t VALUES (10,'iso','2020-01-01T00:00:00Z');",
    "INSERT INTO t VALUES (11,'x','2020-01-01 00:00:00');;",
    ("SET max_threads = 1", "SELECT throwIf(getSetting('max_threads') != 1)"),
    (
        "CREATE TEMPORARY TABLE tt (a Int8)",
        "INSERT INTO tt VALUES (1)",
        "INSERT INTO t SELECT 12, toString(count()), '2020-01-01 00:00:00' FROM tt",
    ),
    "INSERT INTO t VALUES (13,'x','2020-01-01 00:00:00') -- c",
    "SELECT 1;;",
    "SELECT 1; -- c",
    "INSERT INTO t (a, b, d) VALUES (14, 'é漢\\'', toDateTime('2020-01-01 00:00:00', 'UTC'))",
]
"""What one file holds each: a setting and a temporary table last to the end of theirs."""

NEWER = [INSERTS[6], INSERTS[10]]
"""What 25.8 refuses: such a time, and a comment behind VALUES."""


def test_up_leaves_what_goose_leaves(playground: Playground, goose_binary: Path, clickhouse_here, new_clickhouse_database, release) -> None:
    inserts = [statement for statement in INSERTS if release is Release.CURRENT or statement not in NEWER]
    playground.write(1, "CREATE TABLE t (a Int32, b String, d DateTime('UTC')) ENGINE = MergeTree ORDER BY a;", down="DROP TABLE t;")
    for number, statement in enumerate(inserts, start=2):
        playground.write(number, *((statement,) if isinstance(statement, str) else statement), block=True)
    other = new_clickhouse_database()
    url = clickhouse_here.native_url("admin", clickhouse_here.admin_password, other)
    done = subprocess.run(
        [goose_binary, "-dir", playground.directory, "clickhouse", url, "up"], check=False, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    playground.run()
    rows = playground.sql("SELECT * FROM t ORDER BY a")
    assert rows == playground.sql(f"SELECT * FROM {other}.t ORDER BY a")
    assert len(rows) == (13 if release is Release.CURRENT else 11)
    assert playground.versions() == list(range(len(inserts) + 2))
    ours = playground.sql("SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = 'goose_db_version'")[
        0
    ][0]
    theirs = playground.sql(f"SELECT create_table_query FROM system.tables WHERE database = '{other}' AND name = 'goose_db_version'")[0][0]
    assert ours.replace(playground.name, other) == theirs


def test_goose_takes_over_and_gives_back(playground: Playground, goose_binary: Path, clickhouse_native_url: str) -> None:
    for number in (1, 2, 3):
        playground.write(number, TABLE.format(f"t{number}"), down=f"DROP TABLE t{number};")

    def goose(*words: str) -> str:
        done = subprocess.run(
            [goose_binary, "-dir", playground.directory, "clickhouse", clickhouse_native_url, *words],
            check=True,
            capture_output=True,
            encoding="utf-8",
        )
        return done.stderr

    goose("up-to", "1")
    playground.run()
    assert playground.versions() == [0, 1, 2, 3]
    assert "no migrations to run. current version: 3" in goose("up")
    goose("down")
    with playground.open() as database:
        history = database.read_history()
    assert history.applied == (2, 1)
    assert history.unproven == (1,)
    assert set(history.living_facts) == {2}
    playground.run()
    assert playground.versions() == [0, 1, 2, 3]


def test_down_redo_and_reset_delete_rows_and_forget_facts(playground: Playground) -> None:
    for number in (1, 2, 3):
        playground.write(number, TABLE.format(f"t{number}"), f"ALTER TABLE t{number} ADD COLUMN more Int8;", down=f"DROP TABLE t{number};")
    playground.run()
    playground.run(DOWN)
    assert playground.versions() == [0, 1, 2]
    playground.run(REDO)
    assert playground.versions() == [0, 1, 2]
    playground.run(UP)
    with playground.open() as database:
        assert set(database.read_history().living_facts) == {1, 2, 3}
        recorded = database.read_down_text(2)
        assert recorded == (playground.directory / "00002_step.sql").read_bytes()
    playground.run(RESET)
    assert playground.versions() == [0]
    assert playground.sql("SHOW TABLES LIKE 't%'") == []
    with playground.open() as database:
        assert database.read_down_text(2) is None


def test_no_versioning_runs_every_file_and_writes_no_table(playground: Playground) -> None:
    playground.write(1, TABLE.format("seed"))
    playground.write(2, "INSERT INTO seed VALUES (1, 'a');")
    playground.run(versioning=False)
    assert playground.sql("SELECT count() FROM seed") == [[1]]
    assert playground.sql("SHOW TABLES LIKE 'goose%'") == []
    assert playground.sql("SHOW TABLES LIKE 'greylag_journal'") == []


def test_syntax_error_names_the_line_of_the_file_and_underlines_the_place(playground: Playground) -> None:
    path = playground.write(1, TABLE.format("fine"), "SELECT 1,", "       2 frm system.one;")
    error = refusal(playground.run)
    assert isinstance(error, errors.StatementRejected)
    assert error.where == errors.Location(str(path), 4)
    assert 'failed to execute SQL query "SELECT 1,\\n       2 frm system.one;": code: 62, message: Syntax error' in error.message
    assert error.detail.splitlines()[1:3] == ["4 |        2 frm system.one;", "  |              ^^^^^^"]
    assert playground.versions() == [0]


def test_error_without_a_position_names_the_statements_first_line(playground: Playground) -> None:
    path = playground.write(1, TABLE.format("fine"), "INSERT INTO nowhere", "VALUES (1);")
    error = refusal(playground.run)
    assert (type(error), error.where) == (errors.StatementRejected, errors.Location(str(path), 3))
    assert "code: 60, message:" in error.message


def test_corrected_file_goes_on_at_the_refused_statement(playground: Playground) -> None:
    playground.write(
        1, TABLE.format("t"), "INSERT INTO t VALUES (1, 'once');", "ALTER TABLE t ADD COLUM x Int8;", "ALTER TABLE t ADD COLUMN y Int8;"
    )
    refusal(playground.run)
    playground.write(
        1, TABLE.format("t"), "INSERT INTO t VALUES (1, 'once');", "ALTER TABLE t ADD COLUMN x Int8;", "ALTER TABLE t ADD COLUMN y Int8;"
    )
    playground.run()
    assert playground.sql("SELECT * FROM t") == [[1, "once", 0, 0]]
    assert [event.index for event in playground.of(events.StatementFinished)] == [3, 4]


def test_refused_insert_that_wrote_nothing_can_simply_be_corrected(playground: Playground) -> None:
    playground.write(1, TABLE.format("t"), "INSERT INTO t VALUES (1, 'a'), ('b', 2);")
    refusal(playground.run)
    playground.write(1, TABLE.format("t"), "INSERT INTO t VALUES (1, 'a'), (2, 'b');")
    playground.run()
    assert playground.sql("SELECT count() FROM t") == [[2]]


def test_changed_statement_that_was_executed_is_a_question(playground: Playground) -> None:
    playground.write(1, TABLE.format("t"), "SELECT broken;")
    refusal(playground.run)
    path = playground.write(1, TABLE.format("other"), "SELECT 1;")
    error = refusal(playground.run)
    assert (error.code, error.where) == ("statement-changed", errors.Location(str(path), 2))
    playground.answer(1, 1, done=False)
    playground.run()
    assert playground.sql("SELECT count() FROM other") == [[0]]


def test_set_of_a_file_lasts_to_its_end_and_wins_over_what_is_always_sent(playground: Playground) -> None:
    playground.write(
        1,
        "SET mutations_sync = 0;",
        "SET max_memory_usage = 12345678901;",
        "SELECT throwIf(getSetting('mutations_sync') != 0);",
        "SELECT throwIf(getSetting('max_memory_usage') != 12345678901);",
    )
    playground.write(2, "SELECT throwIf(getSetting('mutations_sync') != 2);")
    playground.run()
    assert playground.versions() == [0, 1, 2]


def test_always_sent_settings_and_those_of_the_address_reach_the_server(playground: Playground) -> None:
    playground.url += "&max_threads=3"
    checks = {"async_insert": 0, "mutations_sync": 2, "alter_sync": 2, "max_threads": 3}
    playground.write(1, *(f"SELECT throwIf(getSetting('{name}') != {value}, '{name}');" for name, value in checks.items()))
    playground.run()
    assert playground.versions() == [0, 1]


def test_use_lasts_to_the_end_of_its_file_and_does_not_lead_the_history_astray(playground: Playground, new_clickhouse_database) -> None:
    other = new_clickhouse_database()
    playground.write(1, f"USE {other};", TABLE.format("elsewhere"))
    playground.write(2, TABLE.format("elsewhere_too"))
    playground.run()
    assert playground.versions() == [0, 1, 2]
    assert playground.sql(f"SHOW TABLES FROM {other}") == [["elsewhere"]]
    assert ["elsewhere_too"] in playground.sql("SHOW TABLES")


def test_bytes_that_are_not_utf8_arrive_as_they_are(playground: Playground) -> None:
    playground.write(1, TABLE.format("t"), "INSERT INTO t VALUES (1, '\udcff\udc80é');")
    playground.run()
    assert playground.sql("SELECT hex(name) FROM t") == [["FF80C3A9"]]


def test_empty_statement_is_refused_by_the_server_as_for_goose(playground: Playground) -> None:
    playground.write(1, ";")
    error = refusal(playground.run)
    assert "code: 62, message: Empty query" in error.message


def test_substituted_values_are_neither_shown_nor_stored(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "s3cr3t-of-envsub"
    monkeypatch.setenv("API_KEY", secret)
    playground.write(1, TABLE.format("t"))
    playground.write(2, "-- +goose ENVSUB ON", "INSERT INTO t SELECT 1, toUInt8('$API_KEY');")
    error = refusal(playground.run)
    assert secret not in error.describe() and secret not in str(error.document())
    assert "toUInt8('${API_KEY}')" in error.message
    stored = playground.sql("SELECT * FROM greylag_journal") + playground.sql("SELECT * FROM greylag_migration")
    assert secret not in str(stored) and secret not in str([event.document() for event in playground.seen])


def listen(database: connection.ClickHouseDatabase, monkeypatch: pytest.MonkeyPatch, sent: list[str]) -> None:
    """Appends the parameters of every request from now on to `sent`."""
    transport = database._session.transport
    post = transport._post

    def listening(body: bytes, parameters: str, query_id: str, rest_of_head: str) -> exchange.Answer:
        sent.append(f"{parameters}&query_id={query_id}")
        return post(body, parameters, query_id, rest_of_head)

    monkeypatch.setattr(transport, "_post", listening)


def test_substituted_values_travel_in_the_body_never_in_the_url(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "s3cr3t of envsub"
    monkeypatch.setenv("API_KEY", secret)
    playground.write(1, TABLE.format("t"), "-- +goose ENVSUB ON", "INSERT INTO t VALUES (1, '$API_KEY');")
    sent: list[str] = []
    with playground.open() as database:
        listen(database, monkeypatch, sent)
        applying.apply(database, playground.plan(database))
    assert playground.sql("SELECT name FROM t") == [[secret]]
    assert len(sent) > 5
    assert not [url for url in sent if "s3cr3t" in url or "INSERT" in url]


def test_services_own_login_may_do_all_that_is_needed(tmp_path: Path) -> None:
    owner = clickhouse.User("owner", "secret word", grants=clickhouse.owner_grants("one"))
    directory = tmp_path / "migrations"
    directory.mkdir()
    with clickhouse.ClickHouseServer(tmp_path / "server", users=[owner]) as server:
        server.create_database("one")
        playground = Playground(f"{server.url('owner', 'secret word', 'one')}&greylag_lease=2s", server, "one", directory)
        playground.write(1, TABLE.format("t"), "ALTER TABLE t ADD COLUMN more Int8;", down="DROP TABLE t;")
        playground.write(2, "INSERT INTO t VALUES (1, 'a', 1);", "ALTER TABLE t UPDATE more = 2 WHERE true;")
        playground.run()
        with playground.open() as database:
            assert verification.verify(database, migration_files.load(directory)).problems() == []
        playground.run(RESET)
        assert playground.versions() == [0]


def test_failing_mutation_is_killed_and_can_be_corrected(playground: Playground) -> None:
    playground.write(
        1, TABLE.format("t"), "INSERT INTO t VALUES (1, 'x');", "ALTER TABLE t UPDATE name = toString(throwIf(id = 1)) WHERE true;"
    )
    error = refusal(playground.run)
    assert "code: 341" in error.message
    assert [event.code for event in playground.of(events.Note)] == ["mutation-killed"]
    assert playground.sql("SELECT count() FROM system.mutations WHERE database = currentDatabase() AND NOT is_done AND NOT is_killed") == [
        [0]
    ]
    playground.write(1, TABLE.format("t"), "INSERT INTO t VALUES (1, 'x');", "ALTER TABLE t UPDATE name = 'y' WHERE true;")
    playground.run()
    assert playground.sql("SELECT * FROM t") == [[1, "y"]]


def test_statement_timeout_of_a_file_ends_the_statement(playground: Playground) -> None:
    playground.write(1, "SELECT sleepEachRow(1) FROM numbers(30) SETTINGS max_block_size = 1;", head="-- greylag: statement-timeout 1s\n")
    error = refusal(playground.run)
    assert (type(error), error.code, error.transient) == (errors.TimedOut, "statement-timeout", True)


def test_cancel_from_another_thread_ends_the_statement_on_the_server(playground: Playground) -> None:
    playground.write(
        1, "SELECT sleepEachRow(1) FROM numbers(300) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0;"
    )
    with playground.open() as database:

        def cancel_when_it_runs(event: events.Event) -> None:
            if isinstance(event, events.MigrationStarted):
                _later(database)

        def _later(opened: databases.Database) -> None:
            import threading

            def cancel() -> None:
                from tests.clickhouse.conftest import wait_until

                wait_until(lambda: playground.sql("SELECT count() FROM system.processes WHERE query_id LIKE 'greylag-%-1-up-1'") == [[1]])
                opened.cancel()

            threading.Thread(target=cancel).start()

        with pytest.raises(errors.Interrupted):
            applying.apply(database, playground.plan(database), cancel_when_it_runs)
    assert playground.sql("SELECT count() FROM system.processes WHERE query_id LIKE 'greylag-%'") == [[0]]


def test_verify_finds_what_is_missing(playground: Playground) -> None:
    playground.write(
        1,
        "CREATE TABLE t (id UInt64, name String, gone Int8, INDEX by_name name TYPE bloom_filter,"
        " PROJECTION p (SELECT name ORDER BY name)) ENGINE = MergeTree ORDER BY id;",
        "ALTER TABLE t ADD COLUMN IF NOT EXISTS score Float64, DROP COLUMN gone;",
        "CREATE MATERIALIZED VIEW watcher TO t AS SELECT 1 AS id;",
        "CREATE VIEW seen AS SELECT * FROM t;",
        "CREATE TABLE old (a Int8) ENGINE = Log;",
        "RENAME TABLE old TO new;",
        "CREATE TABLE dropped (a Int8) ENGINE = Log;",
        "DROP TABLE dropped;",
        "CREATE DICTIONARY words (id UInt64, name String) PRIMARY KEY id"
        f" SOURCE(CLICKHOUSE(TABLE 't' DB '{playground.name}')) LIFETIME(0) LAYOUT(FLAT());",
    )
    playground.run()
    migrations = migration_files.load(playground.directory)
    with playground.open() as database:
        fine = verification.verify(database, migrations)
        assert (fine.succeeded, fine.remarks()) == (True, [])
        assert fine.checked == 13
        playground.do("ALTER TABLE t DROP COLUMN score")
        playground.do("DROP VIEW watcher")
        broken = verification.verify(database, migrations)
    assert {finding.subject for finding in broken.findings} == {
        "column t.score",
        "materialized view watcher",
    }


def test_baseline_records_facts_of_rows_that_goose_wrote(playground: Playground) -> None:
    playground.write(1, TABLE.format("t"))
    playground.run()
    playground.do("TRUNCATE TABLE greylag_migration")
    with playground.open() as database:
        history = database.read_history()
        assert history.unproven == (1,)
        from migrator.cli.baseline import fact_of

        file = migration_files.load(playground.directory).migrations[0]
        database.record_facts([fact_of(history, file, "bundle", "somebody")])
        assert database.read_history().unproven == ()


def test_history_in_another_table_and_another_database(playground: Playground, new_clickhouse_database) -> None:
    other = new_clickhouse_database()
    playground.write(1, TABLE.format("t"))
    playground.run(table=f"{other}.service_versions")
    assert playground.sql(f"SELECT version_id FROM {other}.service_versions ORDER BY 1") == [[0], [1]]
    assert playground.sql(f"SELECT count() FROM {other}.greylag_migration WHERE history_table = 'service_versions'") == [[1]]
    error = refusal(lambda: playground.open(table="no; table"))
    assert error.code == "bad-table"


def test_cancelled_connection_is_registered_while_it_is_open(playground: Playground) -> None:
    from migrator import registry

    with playground.open() as database:
        assert database in registry.live()
        assert isinstance(database, connection.ClickHouseDatabase)
    assert database not in registry.live()


def test_a_migration_costs_two_requests_however_many_there_are(
    new_clickhouse_database: Callable[[], str],
    clickhouse_here: clickhouse.ClickHouseServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(execution, "_FACTS_EVERY", float("inf"))  # neither facts nor heartbeats by the clock

    def requests(migrations: int) -> int:
        directory = tmp_path / str(migrations)
        directory.mkdir()
        url = clickhouse_here.url("admin", clickhouse_here.admin_password, new_clickhouse_database())
        place = Playground(f"{url}&greylag_lease=10m", clickhouse_here, "", directory)
        for number in range(1, migrations + 1):
            place.write(number, TABLE.format(f"t{number}"))
        with place.open() as database:
            plan = place.plan(database)
            sent: list[str] = []
            listen(database, monkeypatch, sent)
            assert len(applying.apply(database, plan).finished) == migrations
        return len(sent)

    few, many = requests(3), requests(23)
    assert many - few == 2 * 20, "the statement and goose's row"


def test_an_applied_file_gets_another_number_and_keeps_its_time(playground: Playground) -> None:
    old = playground.write(2, "CREATE TABLE t2 (id Int32) ENGINE = MergeTree ORDER BY id;", down="DROP TABLE t2;")
    playground.write(1, "CREATE TABLE t1 (id Int32) ENGINE = MergeTree ORDER BY id;")
    playground.run()
    before = playground.sql("SELECT tstamp FROM goose_db_version WHERE version_id = 2")
    old.rename(old.with_name("00003_step.sql"))
    with pytest.raises(errors.PlanRefused, match="was applied already, as version 2"):
        playground.run()
    file = migration_files.load(playground.directory).by_version(3)
    assert file is not None
    with playground.open() as database, database.lock(events.ignore):
        fact = replace(database.read_history().living_facts[2], version=3, name=file.name, down_text=file.read())
        database.renumber(2, fact)
        database.renumber(2, fact)  # as after a kill
    assert playground.sql("SELECT version_id FROM goose_db_version ORDER BY version_id") == [[0], [1], [3]]
    assert playground.sql("SELECT tstamp FROM goose_db_version WHERE version_id = 3") == before
    with playground.open() as database:
        assert database.read_history().living_facts[3].name == "00003_step.sql"
        assert database.read_down_text(3) == file.read()
    assert playground.run().finished == ()
