"""Facts of a ClickHouse schema: recorded by the run, compared by `verify`, whatever kills the run and wherever the schema is copied (facts.md §6)."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from migrator import applying, cli, errors, targets, verification
from migrator.clickhouse import recording
from migrator.planning import events, files, schema_environments
from sandbox.databases.clickhouse import ClickHouseServer
from sandbox.databases.clickhouse_releases import Release
from tests.clickhouse.conftest import Playground, start, wait_until
from tests.conftest import AWKWARD_PASSWORD, ClickHouses, on_each_release

TABLE = "CREATE TABLE {0} (id UInt64, name String) ENGINE = MergeTree ORDER BY id;"
SCHEMA = (
    "CREATE TABLE t (id UInt64, name String DEFAULT 'x', n Int32, INDEX ix name TYPE minmax, PROJECTION p (SELECT name ORDER BY name),"
    " CONSTRAINT positive CHECK id > 0) ENGINE = MergeTree ORDER BY id;",
    "CREATE VIEW v AS SELECT id, name FROM t WHERE id > 1;",
    "CREATE TABLE counted (id UInt64, c UInt64) ENGINE = SummingMergeTree ORDER BY id;",
    "CREATE MATERIALIZED VIEW mv TO counted AS SELECT id, count() AS c FROM t GROUP BY id;",
    "CREATE DICTIONARY words (id UInt64, name String) PRIMARY KEY id SOURCE(CLICKHOUSE(TABLE 't' DB '{database}' USER 'reader')) LIFETIME(0) LAYOUT(FLAT());",
    "CREATE TABLE spread AS t ENGINE = Distributed('default', '{database}', 't');",
    "CREATE FUNCTION {database}_more AS x -> x + 1;",
    "CREATE DATABASE {database}_second;",
    "CREATE TABLE {database}_second.o (a Int8) ENGINE = Memory;",
)


def write_schema(playground: Playground) -> None:
    playground.write(1, *(statement.replace("{database}", playground.name) for statement in SCHEMA))
    playground.write(2, "ALTER TABLE t ADD COLUMN later Int8 AFTER id;", "ALTER TABLE t MODIFY SETTING merge_with_ttl_timeout = 7200;")


@pytest.fixture
def made(playground: Playground) -> Iterator[Playground]:
    """A database with one object of each kind."""
    write_schema(playground)
    playground.run()
    yield playground
    playground.do(f"DROP DATABASE IF EXISTS {playground.name}_second SYNC")
    playground.do(f"DROP FUNCTION IF EXISTS {playground.name}_more")


def verified(playground: Playground, *, strict: bool = True) -> verification.Verification:
    with playground.open() as database:
        return verification.verify(database, files.load(playground.directory), strict=strict)


def told(playground: Playground) -> list[tuple[str, str, int | None]]:
    return [(item.subject, item.state, item.version) for item in verified(playground).findings]


CHANGES: list[tuple[str, list[tuple[str, str, int | None]]]] = [
    ("ALTER TABLE t ADD COLUMN hand Int8", [("column t.hand", "unrecorded", None)]),
    ("ALTER TABLE t DROP COLUMN later", [("column t.later", "missing", 2)]),
    ("ALTER TABLE t MODIFY COLUMN n Int64", [("column t.n", "changed", 1)]),
    ("ALTER TABLE t MODIFY COLUMN n DEFAULT 7", [("column t.n", "changed", 1)]),
    ("ALTER TABLE t COMMENT COLUMN n 'by hand'", [("column t.n", "changed", 1)]),
    ("ALTER TABLE t MODIFY COLUMN n Int32 FIRST", [("order of the columns of t", "changed", 2)]),
    ("ALTER TABLE t RENAME COLUMN n TO m", [("column t.n", "missing", 1), ("column t.m", "unrecorded", None)]),
    ("ALTER TABLE t DROP INDEX ix", [("data skipping index t.ix", "missing", 1)]),
    ("ALTER TABLE t ADD INDEX more n TYPE minmax", [("data skipping index t.more", "unrecorded", None)]),
    ("ALTER TABLE t DROP PROJECTION p", [("projection t.p", "missing", 1)]),
    ("ALTER TABLE t DROP CONSTRAINT positive", [("constraint t.positive", "missing", 1)]),
    ("ALTER TABLE t MODIFY SETTING merge_with_ttl_timeout = 1", [("table t", "changed", 2)]),
    ("ALTER TABLE t MODIFY TTL toDateTime(n) + INTERVAL 1 DAY", [("table t", "changed", 2)]),
    ("ALTER TABLE t MODIFY COMMENT 'by hand'", [("table t", "changed", 2)]),
    ("RENAME TABLE counted TO other", [("table counted", "renamed", 1)]),
    ("CREATE OR REPLACE VIEW v AS SELECT id FROM t", [("view v", "changed", 1)]),
    ("DROP VIEW v", [("view v", "missing", 1)]),
    ("DROP VIEW mv", [("materialized view mv", "missing", 1)]),
    ("DETACH TABLE spread", [("table spread", "missing", 1)]),
    ("DROP DICTIONARY words", [("dictionary words", "missing", 1)]),
    ("CREATE OR REPLACE FUNCTION {0}_more AS x -> x + 2", [("function {0}_more", "changed", 1)]),
    ("DROP FUNCTION {0}_more", [("function {0}_more", "missing", 1)]),
    ("DROP TABLE {0}_second.o SYNC", [("table {0}_second.o", "missing", 1)]),
    ("DROP DATABASE {0}_second SYNC", [("database {0}_second", "missing", 1)]),
    ("CREATE TABLE strange (a Int8) ENGINE = Memory", [("table strange", "foreign", None)]),
    ("CREATE TABLE {0}_second.strange (a Int8) ENGINE = Memory", [("table {0}_second.strange", "foreign", None)]),
    ("CREATE OR REPLACE TABLE counted (id UInt64, c UInt64) ENGINE = SummingMergeTree ORDER BY id", []),
]


@on_each_release
def test_each_change_by_hand_is_named_with_what_was_expected_and_who_made_it(made: Playground) -> None:
    assert told(made) == []
    for change, _ in CHANGES[:4]:
        made.do(change)
    found = {item.subject: item for item in verified(made).findings}
    assert (found["column t.n"].expected, found["column t.n"].found) == ("Int32", "Int64 DEFAULT 7")
    assert "made by version 1" in str(found["column t.n"])


@pytest.mark.parametrize(("change", "expected"), CHANGES, ids=[change for change, _ in CHANGES])
def test_a_change_by_hand_is_a_finding(made: Playground, change: str, expected: list[tuple[str, str, int | None]]) -> None:
    made.do(change.replace("{0}", made.name))
    wanted = [(subject.replace("{0}", made.name), state, version) for subject, state, version in expected]
    assert sorted(told(made)) == sorted(wanted)


def test_what_no_version_made_is_foreign_and_no_failure_unless_strict(made: Playground) -> None:
    made.do("CREATE TABLE strange (a Int8) ENGINE = Memory")
    loose = verified(made, strict=False)
    assert (loose.succeeded, loose.schema.foreign) == (True, ("table strange",))
    assert not verified(made).succeeded


@on_each_release
def test_a_version_that_takes_back_or_changes_is_recorded_as_its_last_word(playground: Playground) -> None:
    playground.write(1, TABLE.format("a"), down="DROP TABLE a;")
    playground.write(
        2, "ALTER TABLE a ADD COLUMN n Int8;", "RENAME TABLE a TO b;", down="RENAME TABLE b TO a;\nALTER TABLE a DROP COLUMN n;"
    )
    playground.write(3, TABLE.format("a"), "EXCHANGE TABLES a AND b;", down="EXCHANGE TABLES a AND b;\nDROP TABLE a;")
    for verb in ("up", "down", "up", "redo", "reset", "up-by-one", "up"):
        playground.run(targets.Verb(verb))
        assert told(playground) == [], verb
    playground.do("ALTER TABLE b ADD COLUMN hand Int8")
    playground.do("ALTER TABLE a DROP COLUMN n")
    assert told(playground) == [("column a.n", "missing", 3), ("column b.hand", "unrecorded", None)]


def test_a_change_by_hand_before_a_run_is_not_taken_for_the_runs_work(playground: Playground) -> None:
    playground.write(1, TABLE.format("t"))
    playground.run()
    playground.do("ALTER TABLE t MODIFY COLUMN name FixedString(7)")
    playground.do("CREATE TABLE strange (a Int8) ENGINE = Memory")
    playground.write(2, "ALTER TABLE t ADD COLUMN n Int8;")
    playground.run()
    assert sorted(told(playground)) == [("column t.name", "changed", 1), ("table strange", "foreign", None)]


def test_a_table_that_was_there_before_is_recorded_as_the_version_that_changes_it_left_it(playground: Playground) -> None:
    playground.do("CREATE TABLE old (id UInt64) ENGINE = MergeTree ORDER BY id")
    playground.write(1, "ALTER TABLE old ADD COLUMN n Int8;")
    playground.run()
    assert told(playground) == []
    playground.do("ALTER TABLE old DROP COLUMN n")
    assert told(playground) == [("column old.n", "missing", 1)]


# --- broken runs ------------------------------------------------------------------------------------------------------------------------


@on_each_release
@pytest.mark.parametrize("when", ["before it reads", "before it writes"])
def test_a_run_that_dies_before_it_records_has_lost_nothing(playground: Playground, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    write_schema(playground)
    with monkeypatch.context() as patch, playground.open() as database:

        def dying(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(recording, "finish" if when == "before it reads" else "_complete", dying)
        with pytest.raises(KeyboardInterrupt):
            applying.apply(database, playground.plan(database), events.ignore)
    try:
        assert told(playground) == [], "verify takes what it finds"
        playground.write(3, TABLE.format("more"))
        playground.run()
        playground.do("ALTER TABLE t DROP COLUMN later")
        assert told(playground) == [("column t.later", "missing", 2)], "the next run has recorded it"
    finally:
        playground.do(f"DROP DATABASE IF EXISTS {playground.name}_second SYNC")
        playground.do(f"DROP FUNCTION IF EXISTS {playground.name}_more")


def test_a_run_that_is_killed_is_described_by_verify_and_by_the_next(playground: Playground) -> None:
    playground.write(1, TABLE.format("first"))
    playground.write(
        2, TABLE.format("second"), "SELECT sleepEachRow(1) FROM numbers(3) SETTINGS max_block_size = 1;", TABLE.format("third")
    )
    process = playground.runner()
    start(process)
    wait_until(lambda: playground.sql("SELECT count() FROM system.processes WHERE query_id LIKE 'greylag-%-2-up-2'") != [[0]])
    process.kill()
    process.wait()
    found = verified(playground)
    assert (found.pending, found.findings) == ((2,), ())
    playground.run()
    assert told(playground) == []
    playground.do("DROP TABLE first")
    playground.do("ALTER TABLE third DROP COLUMN name")
    assert sorted(told(playground)) == [("column third.name", "missing", 2), ("table first", "missing", 1)]


def test_what_a_refused_file_has_done_before_its_refusal_is_recorded(playground: Playground) -> None:
    playground.write(1, TABLE.format("first"), "ALTER TABLE nowhere ADD COLUMN a Int8;")
    with pytest.raises(errors.StatementRejected):
        playground.run()
    assert verified(playground).findings == ()
    playground.do("ALTER TABLE first DROP COLUMN name")
    assert told(playground) == [("column first.name", "missing", 1)]


def test_a_run_with_nothing_to_do_reads_and_writes_nothing_of_the_schema(playground: Playground) -> None:
    playground.write(1, TABLE.format("t"))
    playground.run()
    count = playground.sql("SELECT count() FROM greylag_fact")
    playground.run()
    assert playground.sql("SELECT count() FROM greylag_fact") == count


# --- elsewhere --------------------------------------------------------------------------------------------------------------------------


def restore(source: Playground, target: ClickHouseServer, name: str) -> None:
    """What a backup tool does: each object by its own description, and greylag's tables with their rows."""
    target.create_database(name)
    for (text,) in source.sql(f"SELECT create_query FROM system.functions WHERE startsWith(name, '{source.name}_')"):
        with contextlib.suppress(errors.StatementRejected):  # there already
            target.execute(text)
    objects = source.sql(
        "SELECT name, create_table_query, engine FROM system.tables WHERE database = currentDatabase() AND NOT startsWith(name, '.inner')"
        " ORDER BY engine LIKE '%View', name = 'spread' OR engine = 'Buffer' OR name = 'usesdict', engine = 'MaterializedView', name"
    )
    for table, text, _ in objects:
        text = text.replace(f"{source.name}.", f"{name}.").replace(f"'{source.name}'", f"'{name}'").replace(f"'{source.name}.", f"'{name}.")
        target.execute(text, name)
        if table.startswith("greylag_") or table == "goose_db_version":
            rows = source.client().raw_query(f"SELECT * FROM {table}", fmt="Native")
            put(target, name, f"INSERT INTO {table} FORMAT Native", rows)


def put(target: ClickHouseServer, database: str, sql: str, rows: bytes) -> None:
    query = urlencode({"query": sql, "database": database, "user": "admin", "password": target.admin_password})
    request = urllib.request.Request(f"http://127.0.0.1:{target.http_port}/?{query}", data=rows, method="POST")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        answer.read()


CORPUS = [
    line for line in (Path(__file__).parent / "objects.sql").read_text(encoding="utf-8").splitlines() if line and not line.startswith("--")
]


@pytest.fixture
def elsewhere(clickhouse_servers: ClickHouses) -> Iterator[Callable[[Playground, Release, str], Playground]]:
    """Restores a playground's database on a server of a release, under a name."""
    made: list[tuple[ClickHouseServer, str]] = []

    def there(source: Playground, release: Release, name: str) -> Playground:
        server = clickhouse_servers(release)
        made.append((server, name))
        restore(source, server, name)
        return Playground(server.url("migrator", AWKWARD_PASSWORD, name), server, name, source.directory)

    yield there
    for server, name in made:
        server.drop_database(name)


@on_each_release
@pytest.mark.parametrize("onto", list(Release), ids=lambda release: f"onto-{release}")
def test_a_restored_database_verifies_on_either_release_and_under_another_name(
    playground: Playground, elsewhere: Callable[[Playground, Release, str], Playground], onto: Release
) -> None:
    for number, statement in enumerate(CORPUS, start=1):
        playground.write(number, statement.replace("{database}", playground.name), block=True)
    playground.run()
    assert told(playground) == []
    copy = elsewhere(playground, onto, f"{playground.name}_copy")
    assert told(copy) == []
    copy.do("ALTER TABLE simple DROP COLUMN name")
    copy.write(len(CORPUS) + 1, "ALTER TABLE simple ADD COLUMN n Int8;")
    copy.run()
    assert told(copy) == [("column simple.name", "missing", 1)]


def test_two_environments_with_other_database_names_have_the_same_facts(
    playground: Playground, new_clickhouse_database: Callable[[], str]
) -> None:
    name = new_clickhouse_database()
    other = Playground(playground.server.url("migrator", AWKWARD_PASSWORD, name), playground.server, name, playground.directory)
    both = []
    for place in (playground, other):
        for number, statement in enumerate((item for item in CORPUS if "CREATE FUNCTION" not in item), start=1):
            place.write(number, statement.replace("{database}", place.name), block=True)
        place.run()
    playground.do("ALTER TABLE simple MODIFY COLUMN name LowCardinality(String)")
    for place in (playground, other):
        with place.open() as database:
            both.append(database.read_schema())
    assert schema_environments.compare(both[0].recorded, both[1].recorded).differences == ()
    found = schema_environments.compare(both[0].found, both[1].found)
    assert [(item.subject, item.state) for item in found.differences] == [("column simple.name", "changed")]


# --- baseline, other tools, what is broken ----------------------------------------------------------------------------------------------


def test_what_goose_left_is_unproven_until_baseline_records_it(
    playground: Playground, goose_binary: Path, clickhouse_native_url: str
) -> None:
    write_schema(playground)
    subprocess.run([goose_binary, "-dir", playground.directory, "clickhouse", clickhouse_native_url, "up"], check=True, capture_output=True)
    try:
        before = verified(playground, strict=False)
        assert (before.findings, before.schema.unproven) == ((), (1, 2))
        with playground.open() as database:
            said = database.record_schema()
        assert said.startswith("recorded ")
        assert verified(playground).findings == ()
        playground.do("ALTER TABLE t DROP COLUMN later")
        (finding,) = verified(playground).findings
        assert (finding.subject, finding.state, finding.reason) == ("column t.later", "missing", "recorded by baseline")
        with playground.open() as database:
            assert "1 difference(s) count as they are now" in database.record_schema()
        assert verified(playground).findings == ()
    finally:
        playground.do(f"DROP DATABASE IF EXISTS {playground.name}_second SYNC")
        playground.do(f"DROP FUNCTION IF EXISTS {playground.name}_more")


def test_versions_of_an_earlier_greylag_are_unproven_and_later_ones_are_compared(playground: Playground) -> None:
    playground.write(1, TABLE.format("t"))
    playground.run()
    playground.do("DROP TABLE greylag_fact SYNC")  # as it was before there were facts of the schema
    assert (verified(playground).succeeded, verified(playground).schema.unproven) == (True, (1,))
    playground.write(2, TABLE.format("u"))
    playground.run()
    playground.do("ALTER TABLE u DROP COLUMN name")
    found = verified(playground, strict=False)
    assert [item.subject for item in found.findings] == ["column u.name"]
    assert (found.schema.unproven, found.schema.foreign) == ((1,), ("table t",))


def test_what_goose_takes_back_is_a_note(playground: Playground, goose_binary: Path, clickhouse_native_url: str) -> None:
    for number in (1, 2):
        playground.write(number, TABLE.format(f"t{number}"), down=f"DROP TABLE t{number};")
    playground.run()
    subprocess.run(
        [goose_binary, "-dir", playground.directory, "clickhouse", clickhouse_native_url, "down"], check=True, capture_output=True
    )
    found = verified(playground)
    assert (found.findings, found.pending) == ((), (2,))
    assert any("which goose has taken back" in line for line in found.remarks())


def test_two_services_in_one_database_are_not_foreign_to_each_other(playground: Playground, tmp_path: Path) -> None:
    playground.write(1, TABLE.format("ours"))
    playground.run()
    other = Playground(playground.url, playground.server, playground.name, tmp_path / "theirs")
    other.directory.mkdir()
    other.write(1, TABLE.format("theirs"))
    other.run(table="their_versions")
    assert told(playground) == []
    with other.open(table="their_versions") as database:
        assert verification.verify(database, files.load(other.directory), strict=True).findings == ()


def planned(playground: Playground, capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    """What `greylag plan` warns of."""
    capsys.readouterr()
    assert cli.main(["-env", "none", "-dir", str(playground.directory), "-json", "clickhouse", playground.url, "plan"]) == 0
    remarks: list[dict[str, str]] = json.loads(capsys.readouterr().out)["remarks"]
    return remarks


@on_each_release
def test_bad_flow_a_mutation_that_fails_for_ever_is_a_finding_with_the_way_to_end_it(
    playground: Playground, capsys: pytest.CaptureFixture[str]
) -> None:
    playground.write(
        1, "CREATE TABLE t (id UInt32, v String) ENGINE = MergeTree ORDER BY id;", "INSERT INTO t VALUES (1, '12'), (2, 'abc');"
    )
    playground.run()
    playground.do("ALTER TABLE t UPDATE v = toString(toUInt32(v)) WHERE 1 SETTINGS mutations_sync = 0")
    wait_until(
        lambda: (
            playground.sql("SELECT count() FROM system.mutations WHERE database = currentDatabase() AND latest_fail_reason != ''") == [[1]]
        )
    )
    found = verified(playground)
    (finding,) = found.findings
    assert (finding.subject, finding.state) == ("mutation mutation_2.txt of table t", "failing")
    assert "Cannot parse" in finding.reason
    with pytest.raises(errors.VerificationFailed) as caught:
        found.raise_for_failure()
    assert "KILL MUTATION" in (caught.value.hint or "")
    playground.write(2, TABLE.format("other"))
    assert planned(playground, capsys) == []
    playground.write(2, "ALTER TABLE t DELETE WHERE id = 99;")
    (warning,) = planned(playground, capsys)
    assert warning["code"] == "mutation-fails"
    assert "mutation_2.txt" in warning["message"]
    assert "Cannot parse" in warning["message"]
    (playground.directory / "00002_step.sql").unlink()
    assert warning["hint"] == f"it ends with: {finding.reason.partition('to give it up: ')[2]}"
    playground.do(finding.reason.partition("to give it up: ")[2])
    assert verified(playground).succeeded
