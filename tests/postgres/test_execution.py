"""One migration, one transaction, one history row: on a real server, through the engine's own `Database`."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from migrator import applying, cli, errors, targets
from migrator.planning import events
from migrator.planning.history import Fact
from migrator.postgres import flight, session
from tests.postgres.conftest import Playground

Verb = targets.Verb


def test_up_down_and_redo_leave_gooses_rows(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE a (id int);", "DROP TABLE a;")
    playground.write(2, "CREATE TABLE b (id int);\nCREATE INDEX b_id ON b (id);", "DROP TABLE b;")
    report = playground.run()
    assert [item.version for item in report.finished] == [1, 2]
    assert playground.versions() == [0, 1, 2]
    assert playground.exists("b_id")
    playground.run(Verb.REDO)
    assert playground.versions() == [0, 1, 2]
    playground.run(Verb.DOWN)
    assert playground.versions() == [0, 1]
    assert not playground.exists("b")
    playground.run(Verb.RESET)
    assert playground.versions() == [0]


def test_the_history_table_is_gooses_own(playground: Playground) -> None:
    playground.write(1, "SELECT 1;")
    playground.run()
    columns = playground.sql(
        "SELECT column_name, data_type, is_nullable, column_default, is_identity FROM information_schema.columns"
        " WHERE table_name = 'goose_db_version' ORDER BY ordinal_position"
    )
    assert columns == [
        ("id", "integer", "NO", None, "YES"),
        ("version_id", "bigint", "NO", None, "NO"),
        ("is_applied", "boolean", "NO", None, "NO"),
        ("tstamp", "timestamp without time zone", "NO", "now()", "NO"),
    ]


def test_a_failed_statement_rolls_back_its_migration_and_keeps_the_earlier_ones(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE a (id int);")
    playground.write(2, "CREATE TABLE b (id int);\nINSERT INTO b VALUES (1);\nSELEC 1;")
    playground.write(3, "CREATE TABLE c (id int);")
    with pytest.raises(errors.StatementRejected) as caught:
        playground.run()
    assert playground.versions() == [0, 1]
    assert playground.exists("a") and not playground.exists("b") and not playground.exists("c")
    assert 'failed to execute SQL query "SELEC 1;": ERROR: syntax error at or near "SELEC" (SQLSTATE 42601)' in caught.value.message
    assert str(caught.value.where).endswith("00002_step.sql:4")
    assert "^^^^^" in caught.value.detail


def test_a_failed_commit_is_told_as_goose_tells_it(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE p (id int PRIMARY KEY);\nCREATE TABLE c (id int REFERENCES p DEFERRABLE INITIALLY DEFERRED);")
    playground.write(2, "INSERT INTO c VALUES (1);")
    with pytest.raises(errors.StatementRejected, match=r"failed to commit transaction: ERROR: .*SQLSTATE 23503"):
        playground.run()
    assert playground.versions() == [0, 1]


@pytest.mark.parametrize("head", ["", "-- +goose NO TRANSACTION\n"])
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("(SELECT 1)", True),
        ("/* c */ ((SELECT 1) UNION (SELECT 2))", True),
        ("(SELECT generate_series(1, 5000))", True),
        ("\\echo hello", False),
        ("<<<<<<< HEAD", False),
        ("1", False),
        ("$$x$$", False),
        ("@x", False),
        ("COPY a FROM stdin;\n1\t2\n\\.", False),
    ],
)
def test_a_statement_may_begin_with_anything(playground: Playground, text: str, taken: bool, direction: str, head: str) -> None:
    playground.write(1, "CREATE TABLE a (id int);")
    up, down = (f"{text};", "SELECT 1;") if direction == "up" else ("SELECT 1;", f"{text};")
    playground.write(2, up, down, head=head)
    if direction == "down":
        playground.run()
    verb = Verb.UP if direction == "up" else Verb.DOWN
    if taken:
        playground.run(verb)
        assert playground.versions() == ([0, 1, 2] if direction == "up" else [0, 1])
        return
    with pytest.raises(errors.StatementRejected) as caught:
        playground.run(verb)
    assert "00002_step.sql" in str(caught.value.where)
    assert playground.versions() == ([0, 1] if direction == "up" else [0, 1, 2])


@pytest.mark.parametrize("head", ["", "-- +goose NO TRANSACTION\n"])
def test_a_history_row_that_can_not_be_written_or_taken_away_is_told_in_gooses_words(playground: Playground, head: str) -> None:
    playground.write(1, "SELECT 1;", "DROP TABLE goose_db_version;", head=head)
    playground.run()
    with pytest.raises(errors.StatementRejected, match=r"failed to delete goose version: ERROR: .*SQLSTATE 42P01"):
        playground.run(Verb.DOWN)
    playground.clear()
    playground.write(2, "DROP TABLE IF EXISTS goose_db_version;", "SELECT 1;", head=head)
    with pytest.raises(errors.StatementRejected, match=r"failed to insert new goose version: ERROR: .*SQLSTATE 42P01"):
        playground.run()


def test_a_table_in_a_schema_that_does_not_exist_is_a_missing_place(playground: Playground, capsys: pytest.CaptureFixture[str]) -> None:
    playground.write(1, "SELECT 1;")
    words = ["-dir", str(playground.directory), "-table", "custom.v", "postgres", playground.url]
    assert cli.main([*words, "up"]) == errors.ExitCode.NOT_FOUND
    assert "[no-schema]" in capsys.readouterr().err
    playground.sql("CREATE SCHEMA custom")
    assert cli.main([*words, "up"]) == errors.ExitCode.DONE, capsys.readouterr().err


def test_shared_pipelines_keep_each_migration_its_own_transaction(playground: Playground) -> None:
    for version in range(1, 8):
        playground.write(version, f"CREATE TABLE t{version} (id int);\nINSERT INTO t{version} SELECT txid_current()::bigint % 100000;")
    playground.write(5, "CREATE TABLE t5 (id int);\nINSERT INTO t5 VALUES (1 / 0);")
    with pytest.raises(errors.StatementRejected) as caught:
        playground.run()
    assert playground.versions() == [0, 1, 2, 3, 4]
    assert str(caught.value.where).endswith("00005_step.sql:3")
    ids = {playground.sql(f"SELECT id FROM t{version}")[0][0] for version in range(1, 5)}
    assert len(ids) == 4
    assert [event.version for event in playground.of(events.MigrationFinished)] == [1, 2, 3, 4]  # type: ignore[attr-defined]
    playground.write(5, "CREATE TABLE t5 (id int);")
    playground.run()
    assert playground.versions() == [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    "body",
    [
        "SELECT 1; SELECT 2;",
        "INSERT INTO seen VALUES ('%s $1 100%');",
        ";",
        "SELECT 'é漢', E'a\\\\b', $$x ; y$$;",
        "SELECT generate_series(1, 20000), repeat('x', 100);",
        "CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT $1';",
        "COPY seen TO STDOUT;",
        "SET standard_conforming_strings = off;\nINSERT INTO seen VALUES ('a\\';b');\nSET standard_conforming_strings = on;",
        "SAVEPOINT s;\nINSERT INTO seen VALUES ('gone');\nROLLBACK TO SAVEPOINT s;",
        "-- +goose StatementBegin\nDO $do$ BEGIN PERFORM 1; END $do$;\n-- +goose StatementEnd",
    ],
)
def test_statements_of_every_shape_are_executed(playground: Playground, body: str) -> None:
    playground.write(1, "CREATE TABLE seen (what text);")
    playground.write(2, body)
    playground.write(3, "CREATE TABLE after (id int);")
    playground.run()
    assert playground.versions() == [0, 1, 2, 3]


def test_percent_and_dollar_reach_the_server_as_they_are(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE seen (what text);\nINSERT INTO seen VALUES ('%s %% 100% $1 {x}');")
    playground.run()
    assert playground.sql("SELECT what FROM seen") == [("%s %% 100% $1 {x}",)]


def test_bytes_that_are_not_utf8_are_the_servers_business(playground: Playground) -> None:
    playground.write(1, b"CREATE TABLE seen (what text);\nINSERT INTO seen VALUES ('\xff\xfe');")
    with pytest.raises(errors.StatementRejected, match="SQLSTATE 22021"):
        playground.run()
    assert playground.versions() == [0]


def test_carriage_returns_do_not_shift_the_line(playground: Playground) -> None:
    playground.write(1, b"SELECT 1;\r\n\r\nCREATE TABLE a (\r\n  id int,\r\n  nonsense nosuchtype\r\n);\r\n")
    with pytest.raises(errors.StatementRejected) as caught:
        playground.run()
    assert str(caught.value.where).endswith("00001_step.sql:6")


def test_a_nul_byte_is_refused_before_anything_is_sent(playground: Playground) -> None:
    playground.write(1, b"CREATE TABLE a (id int);\nSELECT 'a\x00b';")
    with pytest.raises(errors.StatementRejected) as caught:
        playground.run()
    assert caught.value.code == "nul-byte"
    assert not playground.exists("a")


def test_copy_from_stdin_fails_at_once(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE a (id int);\nCOPY a FROM STDIN;")
    with pytest.raises(errors.StatementRejected) as caught:
        playground.run()
    assert caught.value.code == "copy-from-stdin"
    assert not playground.exists("a")


def test_a_chunk_of_several_commands_fails_as_one(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE a (id int); CREATE TABLE b (id int); SELEC 2;")
    with pytest.raises(errors.StatementRejected):
        playground.run()
    assert not playground.exists("a")


def test_a_file_that_commits_by_itself_has_gooses_effect(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE a (id int);\nCOMMIT;\nCREATE TABLE b (id int);")
    playground.run()
    assert playground.versions() == [0, 1]
    playground.write(2, "CREATE TABLE c (id int);\nCOMMIT;\nSELEC 1;")
    with pytest.raises(errors.StatementRejected):
        playground.run()
    assert playground.exists("c") and playground.versions() == [0, 1]


def test_search_path_set_by_a_file_holds_for_that_file_and_not_for_the_history(playground: Playground) -> None:
    playground.write(1, "CREATE SCHEMA app;\nSELECT pg_catalog.set_config('search_path', '', false);\nCREATE TABLE public.a (id int);")
    playground.write(2, "SET search_path TO app;\nCREATE TABLE b (id int);")
    playground.write(3, "CREATE TABLE c (id int);")
    playground.run()
    assert playground.exists("app.b") and playground.exists("public.c")
    assert playground.sql("SELECT count(*) FROM public.goose_db_version") == [(4,)]
    assert playground.sql("SELECT count(*) FROM public.greylag_migration") == [(3,)]


def test_empty_migrations_are_recorded(playground: Playground) -> None:
    playground.write(1, "")
    playground.run()
    assert [event.statements for event in playground.of(events.MigrationFinished)] == [0]  # type: ignore[attr-defined]
    assert playground.versions() == [0, 1]


def test_without_versioning_no_table_is_made(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE a (id int);", "DROP TABLE a;")
    playground.run(versioning=False)
    assert playground.exists("a")
    assert not any(playground.exists(name) for name in ("goose_db_version", "greylag_migration", "greylag_journal"))
    playground.run(Verb.DOWN, versioning=False)
    assert not playground.exists("a")


def test_events_tell_each_statement_with_its_lines(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE a (\n  id int\n);\nSELECT pg_sleep(0.05);")
    playground.run()
    found = playground.of(events.StatementFinished)
    assert [(event.index, event.first_line, event.last_line) for event in found] == [(1, 2, 4), (2, 5, 5)]  # type: ignore[attr-defined]
    finished = playground.of(events.MigrationFinished)[0]
    assert finished.seconds >= 0.05  # type: ignore[attr-defined]


def test_a_file_larger_than_the_pipelines_limit_is_executed(playground: Playground) -> None:
    rows = "\n".join(f"INSERT INTO big VALUES ('{'x' * 1000}{number}');" for number in range(1200))
    path = playground.write(1, f"CREATE TABLE big (what text);\n{rows}")
    playground.run()
    assert playground.sql("SELECT count(*) FROM big") == [(1200,)]
    with playground.open() as database:
        assert database.read_down_text(1) == path.read_bytes()
    assert playground.sql("SELECT length(file_content) < 100000, file_encoding FROM greylag_migration") == [(True, "zlib")]


def test_values_from_the_environment_are_masked_everywhere(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2secret")
    playground.write(1, "-- +goose ENVSUB ON\nCREATE TABLE t (\n  id int,\n  what ${SECRET}\n);")
    with pytest.raises(errors.StatementRejected) as caught:
        playground.run()
    told = caught.value.describe() + str(caught.value.document())
    assert "hunter2secret" not in told and "${SECRET}" in told
    assert str(caught.value.where).endswith("00001_step.sql:5")


def test_an_error_inside_a_do_block_names_its_line(playground: Playground) -> None:
    body = "-- +goose StatementBegin\n-- why\nDO $body$\nBEGIN\n  PERFORM 1;\n  PERFORM 1 / 0;\nEND\n$body$;\n-- +goose StatementEnd"
    playground.write(1, body)
    with pytest.raises(errors.StatementRejected) as caught:
        playground.run()
    assert str(caught.value.where).endswith("00001_step.sql:7")
    assert "PERFORM 1 / 0" in caught.value.detail


def test_the_tables_of_older_goose_versions_work(playground: Playground) -> None:
    playground.sql(
        "CREATE TABLE goose_db_version (id serial NOT NULL, version_id bigint NOT NULL, is_applied boolean NOT NULL,"
        " tstamp timestamp NULL DEFAULT now(), PRIMARY KEY (id))"
    )
    playground.sql("INSERT INTO goose_db_version (version_id, is_applied, tstamp) VALUES (0, true, NULL), (1, true, now())")
    playground.write(1, "SELECT 1;")
    playground.write(2, "CREATE TABLE a (id int);")
    playground.run()
    assert playground.versions() == [0, 1, 2]


@pytest.mark.parametrize("table", ["app.versions", '"Weird Name"', '"App"."Weird.Name"'])
def test_table_names_are_pasted_as_goose_pastes_them(playground: Playground, table: str) -> None:
    playground.sql('CREATE SCHEMA app; CREATE SCHEMA "App"')
    playground.write(1, "CREATE TABLE a (id int);")
    playground.run(table=table)
    assert playground.sql(f"SELECT version_id FROM {table} ORDER BY id") == [(0,), (1,)]
    with playground.open(table=table) as database:
        assert database.read_history().current == 1


def test_reading_creates_nothing(playground: Playground) -> None:
    playground.write(1, "SELECT 1;")
    with playground.open() as database:
        found = database.read_history()
        assert not found.exists and found.current == 0
        assert database.read_down_text(1) is None
        playground.plan(database)
    assert not playground.exists("goose_db_version") and not playground.exists("greylag_migration")


def test_facts_hold_checksum_author_and_the_whole_file(playground: Playground) -> None:
    path = playground.write(1, "SELECT 1;", "SELECT 2;")
    playground.run(run_id="0123456789abcdef", applied_by="somebody@somewhere")
    with playground.open() as database:
        found = database.read_history()
        fact = found.living_facts[1]
        assert (fact.run_id, fact.applied_by, fact.name) == ("0123456789abcdef", "somebody@somewhere", path.name)
        assert fact.size == len(path.read_bytes()) and found.unproven == ()
        assert database.read_down_text(1) == path.read_bytes()


def test_many_databases_have_their_own_rows(new_playground: Callable[[], Playground]) -> None:
    first, second = new_playground(), new_playground()
    for one in (first, second):
        one.write(1, "CREATE TABLE a (id int);")
        one.run()
    assert first.versions() == second.versions() == [0, 1]


def test_facts_can_be_recorded_for_rows_that_goose_wrote(playground: Playground) -> None:
    path = playground.write(1, "SELECT 1;")
    playground.sql(
        "CREATE TABLE goose_db_version (id serial PRIMARY KEY, version_id bigint, is_applied boolean, tstamp timestamp DEFAULT now())"
    )
    playground.sql("INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, true), (1, true)")
    with playground.open() as database:
        before = database.read_history()
        assert before.unproven == (1,)
        content = path.read_bytes()
        fact = Fact(
            1, before.rows[0].identity, path.name, "c" * 64, len(content), "b" * 64, content, "run", "me", datetime.now(UTC), 0.0, 7
        )
        database.record_facts([fact, replace(fact, checksum="d" * 64)])
        after = database.read_history()
        assert after.unproven == () and after.living_facts[1].checksum == "d" * 64 and after.living_facts[1].oldest_app == 7
        assert database.read_down_text(1) == content


def test_a_run_asks_the_server_as_seldom_as_it_can(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    trips: list[flight.Flight] = []
    run = flight.Flight.run
    monkeypatch.setattr(flight.Flight, "run", lambda one: trips.append(one) or run(one))

    def trips_of(migrations: int) -> int:
        first = len(list(playground.directory.iterdir())) + 1
        for version in range(first, first + migrations):
            playground.write(version, f"CREATE TABLE t{version} (id int);\nCREATE INDEX ON t{version} (id);")
        trips.clear()
        assert len(playground.run().finished) == migrations
        return len(trips)

    trips_of(1)
    with_one, with_fifty, with_none = trips_of(1), trips_of(50), trips_of(0)
    assert with_fifty == with_one, "migrations that follow each other share a round trip"
    assert with_one <= 8, "opening, history, lock, its proof, history again, the migrations, what they made, unlock"
    assert with_none <= 2, "opening, history"


CHUNK = """-- +goose StatementBegin
CREATE TABLE t{0} (id int, name text DEFAULT ';');
/* ; */ CREATE INDEX ON t{0} (id);
DO $$ BEGIN INSERT INTO t{0} VALUES (1); END $$;
-- +goose StatementEnd
INSERT INTO t{0} VALUES (2, E'\\';'); SELECT generate_series(1, 2000); INSERT INTO t{0} VALUES (3, current_query());
INSERT INTO t{0} VALUES (4, 'x'); UPDATE t{0} SET name = name || '!' WHERE id = 4;"""


@pytest.mark.parametrize("head", ["", "-- +goose NO TRANSACTION\n"])
def test_the_commands_of_a_chunk_do_what_one_message_does(playground: Playground, head: str) -> None:
    playground.write(1, CHUNK.format(1), head=head)
    playground.run()
    rows = playground.sql("SELECT id, name FROM t1 ORDER BY id")
    assert rows[0] == (1, ";") and rows[1] == (2, "';") and rows[3] == (4, "x!")
    assert str(rows[2][1]).startswith("INSERT INTO t1 VALUES (2"), "who asks for the query is given the whole message, as with goose"
    finished = playground.of(events.StatementFinished)
    assert [(item.index, item.first_line) for item in finished] == [(1, 3 + bool(head)), (2, 7 + bool(head)), (3, 8 + bool(head))]  # type: ignore[attr-defined]


def test_chunks_share_the_round_trip_of_their_file(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[bytes] = []
    simple = session.Session.simple
    monkeypatch.setattr(session.Session, "simple", lambda self, text: texts.append(text) or simple(self, text))
    for version in range(1, 6):
        playground.write(version, CHUNK.format(version).replace("current_query()", "'q'"))
    playground.run()
    assert playground.versions() == [0, 1, 2, 3, 4, 5]
    assert texts == []


@pytest.mark.parametrize("head", ["", "-- +goose NO TRANSACTION\n"])
@pytest.mark.parametrize(
    ("chunk", "line", "column"),
    [
        ("CREATE TABLE a (id int);\nSELECT 'é;', nope FROM a;", 4, 14),
        ("CREATE TABLE a (id int); SELECT nope; SELECT 1;", 3, 33),
        ("SELECT 1;\n-- ;\nSELEC 2;", 5, 1),
    ],
)
def test_an_error_in_a_chunk_is_shown_where_it_is(playground: Playground, chunk: str, line: int, column: int, head: str) -> None:
    playground.write(1, f"-- +goose StatementBegin\n{chunk}\n-- +goose StatementEnd", head=head)
    with pytest.raises(errors.StatementRejected) as caught:
        playground.run()
    assert str(caught.value.where).endswith(f"00001_step.sql:{line + bool(head)}")
    shown = caught.value.detail.splitlines()
    marked = next(number for number, text in enumerate(shown) if "^" in text)
    assert shown[marked].index("^") - len("1 | ") == column - 1
    assert not playground.exists("a") and playground.versions() == [0]
    assert (
        'failed to execute SQL query "' in caught.value.message and "SELECT 1" in caught.value.message
    ) or "CREATE TABLE a" in caught.value.message


def test_a_table_that_is_gone_since_the_session_began_is_made_again(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    playground.run()
    playground.write(2, "CREATE TABLE u (id int);")
    with playground.open() as database:
        playground.sql("DROP TABLE greylag_migration")
        history = database.read_history()
        assert history.unproven == (1,)
        applying.apply(database, playground.plan(database))
        assert database.read_history().unproven == (1,)
    assert playground.versions() == [0, 1, 2]


@pytest.mark.parametrize(
    ("up", "tables"),
    [
        ("CREATE TABLE b (id int);\nCOMMIT;", True),
        ("BEGIN;\nCREATE TABLE b (id int);\nSELECT pg_sleep(0.2);\nEND;\n-- the end\n;", True),
        ("-- +goose StatementBegin\nBEGIN;\nCREATE TABLE b (id int);\nCOMMIT;\n-- +goose StatementEnd", True),
        ("CREATE TABLE b (id int);\nSELECT pg_sleep(0.2);\nCOMMIT AND CHAIN;", True),
        ("CREATE TABLE b (id int);\nCOMMIT;\nCOMMIT;", True),
        ("CREATE TABLE b (id int);\nROLLBACK;", False),
    ],
)
def test_a_file_that_ends_its_transaction_at_its_end_is_recorded_as_goose_does(playground: Playground, up: str, tables: bool) -> None:
    playground.write(1, "CREATE TABLE a (id int);")
    playground.write(2, up)
    playground.write(3, "CREATE TABLE c (id int);")
    playground.run()
    assert playground.versions() == [0, 1, 2, 3]
    assert playground.exists("b") is tables
    assert playground.exists("c")
    ((seconds,),) = playground.sql("SELECT seconds FROM greylag_migration WHERE version = 2")
    assert float(str(seconds)) >= (0.2 if "pg_sleep" in up else 0.0)


def test_a_file_with_its_own_commit_at_its_end_is_tried_again_like_any_other(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE a (id int);")
    playground.run()
    playground.write(2, "BEGIN;\nCREATE TABLE b (id int);\nALTER TABLE a ADD COLUMN x int;\nCOMMIT;")
    with psycopg.connect(playground.url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SELECT * FROM a")
        running = pool.submit(playground.run)
        deadline = time.monotonic() + 20
        while not playground.of(events.StatementRetried):
            assert time.monotonic() < deadline, "it was never tried again"
            time.sleep(0.02)
        other.rollback()
        running.result(30)
    assert playground.versions() == [0, 1, 2] and playground.exists("b")


def test_what_a_file_committed_itself_is_neither_tried_again_nor_denied(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE a (id int);\nCOMMIT;\nSELEC 1;")
    with pytest.raises(errors.StatementRejected) as caught:
        playground.run()
    assert "what the file itself committed stays" in caught.value.hint
    assert playground.versions() == [0] and playground.exists("a")
