"""Facts of the schema on real servers: noted in a transaction, described afterwards, compared (facts.md §1 to §4)."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from migrator import errors
from migrator.postgres import evidence, history_tables, recording, run
from migrator.postgres import history as tables
from migrator.postgres.pipelines import message
from migrator.postgres.reading import readings
from migrator.postgres.reading.readings import Work
from migrator.postgres.session import Session
from sandbox.databases import postgres

WHERE = history_tables.HistoryTables("goose_db_version", "public", "goose_db_version")


class Noting:
    """A database in which transactions are noted as versions, without anything else of a run."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = Session(psycopg.connect(url, autocommit=True, prepare_threshold=None))
        made = (tables._CREATE_HISTORY.format(table=WHERE.table), tables._CREATE_FACTS.format(facts=WHERE.facts))
        journal = tables._CREATE_JOURNAL.format(journal=WHERE.journal)
        self.session.batch([message("BEGIN"), *map(message, (*made, journal)), *recording.creating(WHERE), message("COMMIT")])

    def apply(self, version: int, text: str) -> None:
        work = max(readings.of_text(statement).work for statement in text.split(";\n"))
        self.session.simple(b"BEGIN")
        self.session.simple(text.encode())
        self.session.query(
            f"WITH r AS (INSERT INTO goose_db_version (version_id, is_applied) VALUES ({version}, true) RETURNING id)"
            " INSERT INTO greylag_migration (version, row_id, name, checksum, size, bundle, file_content, file_encoding, run_id, applied_by,"
            f" applied_at, seconds, xids, gone) SELECT {version}, id, '', '', 0, '', '', '', '', '', now(), 0, e.xids, e.gone"
            f" FROM r, {run.NOTES[work]} AS e"
        )
        self.session.simple(b"COMMIT")

    def describe(self) -> None:
        recording.describe(self.session, WHERE)

    def problems(self) -> list[str]:
        return [str(item) for item in recording.read(self.session, WHERE).compare().differences]

    def facts(self) -> set[tuple[object, ...]]:
        found = recording.read(self.session, WHERE).recorded
        return {(item.key, item.definition, item.row, item.stamp, item.version, item.direction) for item in found}


@pytest.fixture(scope="module", params=[15, 16, 18])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres.PostgresServer]:
    try:
        postgres.binaries(request.param)
    except errors.NotFound as error:
        pytest.skip(str(error))
    with postgres.PostgresServer(tmp_path_factory.mktemp(f"postgres{request.param}"), version=request.param) as found:
        yield found


@pytest.fixture
def noting(server: postgres.PostgresServer) -> Iterator[Noting]:
    found = Noting(server.create_database(f"noting_{secrets.token_hex(4)}"))
    with contextlib.closing(found.session):
        yield found


STEPS = [
    "CREATE TABLE t (a int PRIMARY KEY, b text DEFAULT 'x', s serial UNIQUE);\nCREATE INDEX ON t (b)",
    "CREATE TYPE mood AS ENUM ('x', 'y');\nCREATE TABLE u (m mood DEFAULT 'x' CHECK (m <> 'y'));\nCOMMENT ON TABLE u IS 'c'",
    "DO $$ BEGIN BEGIN CREATE TABLE in_block (a int); EXCEPTION WHEN others THEN NULL; END; END $$",
    "SAVEPOINT s;\nCREATE TABLE kept (a int);\nRELEASE s;\nSAVEPOINT s;\nCREATE TABLE undone (a int);\nROLLBACK TO s",
    "CREATE VIEW v AS SELECT a, b FROM t;\nCREATE VIEW w AS SELECT a FROM v",
    "ALTER TYPE mood RENAME TO feeling;\nALTER TABLE t RENAME TO tt;\nALTER TABLE tt RENAME COLUMN a TO aa;\nALTER TABLE u RENAME CONSTRAINT u_m_check TO c",
    "ALTER TABLE tt DROP COLUMN b CASCADE",
    "CREATE TABLE p (id int, at timestamptz) PARTITION BY RANGE (at);\nCREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
    "ALTER TABLE p DETACH PARTITION p1;\nALTER TABLE p1 ADD CHECK (id > 0)",
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';\nCREATE TRIGGER g BEFORE UPDATE ON tt EXECUTE FUNCTION f()",
    "CREATE UNIQUE INDEX k ON kept (a);\nALTER TABLE kept ADD CONSTRAINT kept_key UNIQUE USING INDEX k",
    "CREATE TABLE parent (x int);\nCREATE TABLE child (y int) INHERITS (parent)",
    "ALTER TABLE child NO INHERIT parent",
    "COMMENT ON TABLE u IS NULL;\nALTER TABLE u ALTER m DROP DEFAULT;\nDROP FUNCTION f() CASCADE",
    "CREATE SCHEMA app;\nALTER TABLE tt SET SCHEMA app;\nALTER SCHEMA app RENAME TO app2",
    "GRANT SELECT ON kept TO pg_monitor;\nALTER TABLE kept ENABLE ROW LEVEL SECURITY;\nCREATE POLICY q ON kept USING (a > 0)",
    "REVOKE SELECT ON kept FROM pg_monitor;\nDROP POLICY q ON kept",
    "DROP SCHEMA app2 CASCADE",
    "CREATE TEMP TABLE tmp (a int);\nALTER TABLE tmp ADD COLUMN b int UNIQUE",
    "ALTER TABLE IF EXISTS nope ADD COLUMN x int",
    "SELECT 1",
]


def test_each_step_is_as_it_was_recorded_described_now_or_by_the_next_run(noting: Noting) -> None:
    for version, text in enumerate(STEPS, start=1):
        noting.apply(version, text)
        assert noting.problems() == [], f"before it is described: {text}"
        before = noting.facts()
        noting.describe()
        assert noting.problems() == [], f"described: {text}"
        assert noting.facts() == before, f"`verify` and the next run describe alike: {text}"


def test_all_steps_described_at_once_are_as_those_described_one_by_one(noting: Noting) -> None:
    for version, text in enumerate(STEPS, start=1):
        noting.apply(version, text)
    noting.describe()
    assert noting.problems() == []
    assert {item[0][1] for item in noting.facts() if item[0][0] == "table"} == {
        f"public.{name}" for name in ("u", "in_block", "kept", "p", "p1", "parent", "child")
    }


def test_anothers_change_of_the_same_moment_is_not_claimed(noting: Noting) -> None:
    with psycopg.connect(noting.url, autocommit=True) as other:
        noting.session.simple(b"BEGIN; CREATE TABLE mine (a int)")
        other.execute("CREATE TABLE theirs (a int)")
        noting.session.query(
            "INSERT INTO greylag_migration (version, row_id, name, checksum, size, bundle, file_content, file_encoding, run_id, applied_by,"
            f" applied_at, seconds, xids, gone) SELECT 1, 1, '', '', 0, '', '', '', '', '', now(), 0, e.xids, e.gone FROM {evidence.DEEP} AS e"
        )
        noting.session.simple(b"COMMIT")
    noting.describe()
    found = recording.read(noting.session, WHERE).compare()
    assert (found.differences, found.foreign) == ((), ("table public.theirs",))


def test_the_tables_of_an_earlier_greylag_get_what_they_lack_and_nothing_is_proven(noting: Noting) -> None:
    noting.session.simple(
        b"DROP TABLE greylag_fact; ALTER TABLE greylag_migration DROP COLUMN xids, DROP COLUMN gone; ALTER TABLE greylag_journal DROP xids, DROP gone"
    )
    assert not recording.read(noting.session, WHERE).complete
    noting.session.batch([message("BEGIN"), *recording.creating(WHERE), message("COMMIT")])
    found = recording.read(noting.session, WHERE)
    assert found.complete and found.at_home and found.recorded == ()


def test_baseline_makes_what_is_there_what_is_recorded(noting: Noting) -> None:
    noting.apply(1, "CREATE TABLE t (a int)")
    noting.describe()
    noting.session.simple(b"ALTER TABLE t ADD b int; ALTER TABLE t ALTER a TYPE bigint; CREATE TABLE more (a int)")
    assert len(noting.problems()) == 2
    recording.record_all(noting.session, WHERE)
    assert noting.problems() == []
    versions = {item.identity: item.version for item in recording.read(noting.session, WHERE).recorded}
    assert versions == {"public.t": 1, "public.t.a": None, "public.t.b": None, "public.more": None, "public.more.a": None}


@pytest.mark.parametrize(
    ("text", "work"),
    [
        ("CREATE TABLE t (a int DEFAULT now())", Work.ADDS),
        ("-- a comment\nCREATE UNIQUE INDEX i ON t (lower(a))", Work.ADDS),
        ("ALTER TABLE t ADD COLUMN b int", Work.CHANGES),
        ("COMMENT ON TABLE t IS 'DO'", Work.CHANGES),
        ("CREATE TABLE t AS SELECT f()", Work.RUNS),
        ("CREATE MATERIALIZED VIEW m AS SELECT f()", Work.RUNS),
        ("DO $$ BEGIN END $$", Work.RUNS),
        ("SELECT f()", Work.RUNS),
        ("INSERT INTO t VALUES (1)", Work.RUNS),
        ("SAVEPOINT s", Work.RUNS),
        ("CALL p()", Work.RUNS),
        ("CREATE EXTENSION citext", Work.RUNS),
        ("CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f()", Work.RUNS),
        ("WITH x AS (SELECT 1) SELECT f()", Work.RUNS),
        ("(SELECT f())", Work.RUNS),
        ("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", Work.CHANGES),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", Work.ADDS),
        ("CREATE OR REPLACE VIEW v AS SELECT 1", Work.CHANGES),
        ("DROP TABLE t CASCADE", Work.CHANGES),
        ("CREATE TABLE t (a int); CREATE TABLE u (a int)", Work.ADDS),
        ("CREATE TABLE t (a int); DROP TABLE u", Work.CHANGES),
        ("CREATE TABLE t (a int); SELECT f()", Work.RUNS),
    ],
)
def test_only_what_adds_or_changes_plain_objects_is_known_to_run_no_code(text: str, work: Work) -> None:
    assert readings.of_text(text).work is work


def test_what_a_dump_restores_compares_by_name(server: postgres.PostgresServer, noting: Noting, tmp_path: Path) -> None:
    for version, text in enumerate(STEPS, start=1):
        noting.apply(version, text)
    last = "CREATE TABLE last (a int PRIMARY KEY, b text COLLATE \"C\" CHECK (b <> ''));\nCREATE VIEW of_last AS SELECT a FROM last"
    noting.apply(100, last + ";\nGRANT ALL ON last TO pg_monitor")
    noting.describe()
    for target in _restored(server, noting.url, tmp_path):
        with contextlib.closing(target.session):
            found = recording.read(target.session, WHERE)
            assert not found.at_home and [str(item) for item in found.compare().differences] == []
            recording.come_home(target.session, WHERE)
            found = recording.read(target.session, WHERE)
            assert found.at_home and found.compare().differences == () and found.unproven == ()
            target.apply(101, "ALTER TABLE last RENAME TO latest;\nDROP VIEW of_last")
            target.describe()
            assert target.problems() == []
            target.session.simple(b"ALTER TABLE latest DROP b")
            assert [item.partition(":")[0] for item in target.problems()] == [
                "column public.latest.b",
                "constraint public.latest.last_b_check",
            ]


class _Restored(Noting):
    def __init__(self, url: str) -> None:
        self.url = url
        self.session = Session(psycopg.connect(url, autocommit=True, prepare_threshold=None))


def _restored(server: postgres.PostgresServer, url: str, directory: Path) -> Iterator[Noting]:
    """Copies by pg_dump: on the same server, and on one of the newest major version."""
    import subprocess

    dump = subprocess.run(
        [str(postgres.binaries(18) / "pg_dump"), "--dbname", url], capture_output=True, check=True, encoding="utf-8"
    ).stdout
    dump = "\n".join(
        line for line in dump.splitlines() if "transaction_timeout" not in line and not line.startswith(("\\restrict", "\\unrestrict"))
    )
    name = f"restored_{secrets.token_hex(4)}"
    copy = server.create_database(name)
    server.execute(dump, name)
    yield _Restored(copy)
    if server.version != 18:
        with postgres.PostgresServer(directory / "newest", version=18) as newest:
            copy = newest.create_database(name)
            newest.execute(dump, name)
            yield _Restored(copy)
