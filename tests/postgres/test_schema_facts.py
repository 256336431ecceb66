"""`up`, then `verify`: what the versions made is as it was then, whatever made it (facts.md)."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from migrator import errors, targets, verification
from migrator.cli import baseline
from migrator.planning import events, files
from migrator.postgres import recording
from tests.postgres.conftest import Playground

T = "CREATE TABLE t (a int, b int, s text, s2 text, arr int[], j jsonb);\n"
CITEXT = "CREATE EXTENSION citext;\nCREATE TABLE c (a citext);\nDROP EXTENSION citext CASCADE;"


def block(text: str) -> str:
    """Statements that goose is not to cut."""
    return f"-- +goose StatementBegin\n{text}\n-- +goose StatementEnd\n"


ON_ONLY = """CREATE TABLE ev (id int) PARTITION BY RANGE (id);
CREATE TABLE ev1 PARTITION OF ev FOR VALUES FROM (0) TO (9);
CREATE INDEX ev_i ON ONLY ev (id);"""
BLOCK = block("""DO $$ BEGIN
  EXECUTE 'CREATE TABLE made (a int)';
  BEGIN CREATE TABLE made2 (a int); EXCEPTION WHEN others THEN NULL; END;
END $$;""")
FUNCTION = block("""CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
  CREATE TABLE of_f (a int);
EXCEPTION WHEN others THEN NULL; END $$;""")
TRIGGER = block("""CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  BEGIN CREATE TABLE of_g (a int); EXCEPTION WHEN duplicate_table THEN NULL; END;
  RETURN NEW;
END $$;""")
FIRED = "CREATE TABLE q (a int);\nCREATE TRIGGER g BEFORE INSERT ON q FOR EACH ROW EXECUTE FUNCTION g();\nINSERT INTO q VALUES (1), (2);"
SETTINGS = """SET search_path = pg_catalog;
SET TimeZone = 'Asia/Tokyo';
SET DateStyle = 'German';
CREATE TABLE public.r (at timestamptz DEFAULT '2026-01-01 00:00+00') PARTITION BY RANGE (at);
CREATE TABLE public.r1 PARTITION OF public.r FOR VALUES FROM ('2026-01-01 00:00+00') TO ('2026-02-01 00:00+00');"""
PROCEDURE = block("""CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN
  CREATE TABLE one (a int); COMMIT;
  CREATE TABLE two (a int); DROP TABLE one; COMMIT;
END $$;""")
KEYS = "CREATE TABLE p (id int PRIMARY KEY);\nCREATE TABLE c (id int REFERENCES p);\n"

FILES = {
    "primary key and unique": "CREATE TABLE t1 (id int PRIMARY KEY UNIQUE);",
    "serial key and unique": "CREATE TABLE t (id serial PRIMARY KEY, UNIQUE (id));",
    "unique twice": "CREATE TABLE t (a int UNIQUE, UNIQUE (a));",
    "key and unique of two columns": "CREATE TABLE t (a int, b int, PRIMARY KEY (a, b), UNIQUE (a, b));",
    "named unique": "CREATE TABLE t (a int UNIQUE, CONSTRAINT foo_u UNIQUE (a));",
    "including": "CREATE TABLE t (a int, b int, UNIQUE (a) INCLUDE (b));",
    "check of two columns": "CREATE TABLE t (a int CHECK (a > 0), b int CHECK (b > a));",
    "index of expressions": T + "CREATE INDEX ON t ((a+1), (a+2));",
    "index of functions": T + "CREATE INDEX ON t (lower(s), lower(s2));",
    "index of coalesce": T + "CREATE INDEX ON t (COALESCE(s, ''));",
    "index of a cast": T + "CREATE INDEX ON t (((j->>'n')::int));",
    "index of an element": T + "CREATE INDEX ON t ((arr[1]));",
    "drop column cascade": T + "CREATE VIEW v AS SELECT a FROM t;\nALTER TABLE t DROP COLUMN a CASCADE;",
    "drop constraint cascade": KEYS + "ALTER TABLE p DROP CONSTRAINT p_pkey CASCADE;",
    "alter if exists": "ALTER TABLE IF EXISTS nope ADD COLUMN x int;",
    "temporary table": "CREATE TEMP TABLE tmp (a int);\nALTER TABLE tmp ADD COLUMN b int UNIQUE;",
    "savepoint undone": "SAVEPOINT s;\nCREATE TABLE t18 (a int);\nROLLBACK TO SAVEPOINT s;",
    "savepoint kept": "SAVEPOINT s;\nCREATE TABLE t19 (a int);\nRELEASE SAVEPOINT s;",
    "index on only": ON_ONLY,
    "block": BLOCK,
    "function": FUNCTION + "SELECT f();",
    "trigger that makes tables": TRIGGER + FIRED,
    "settings": SETTINGS,
    "sent alone": "SET standard_conforming_strings = on;\nCREATE TABLE t (a int);\nSAVEPOINT s;\nCREATE TABLE u (a int);",
    "text search alone": "CREATE TEXT SEARCH DICTIONARY d (TEMPLATE = simple);",
    "rare objects in a block": block("""DO $$ BEGIN
  BEGIN CREATE TEXT SEARCH CONFIGURATION c (COPY = english); EXCEPTION WHEN others THEN NULL; END;
  BEGIN CREATE CONVERSION cv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8; EXCEPTION WHEN undefined_table THEN NULL; END;
END $$;"""),
    "own transaction": "CREATE TABLE before (a int);\nCOMMIT;\nBEGIN;\nCREATE TABLE behind (a int);\nDROP TABLE before;",
}


def verified(playground: Playground, *, strict: bool = False) -> verification.Verification:
    with playground.open() as database:
        return verification.verify(database, files.load(playground.directory), strict=strict)


@pytest.mark.parametrize("name", FILES)
def test_what_a_file_made_verifies(playground: Playground, name: str) -> None:
    playground.write(1, FILES[name])
    playground.run()
    found = verified(playground, strict=True)
    assert (found.findings, found.remarks() if name != "index on only" else []) == ((), [])
    assert found.succeeded


def test_removing_an_extension_with_what_hangs_on_it_verifies(playground: Playground) -> None:
    if not playground.sql("SELECT 1 FROM pg_available_extensions WHERE name = 'citext'"):
        pytest.skip("this server has no extension citext (the wheels have none; Debian's postgresql-contrib brings it)")
    playground.write(1, CITEXT)
    playground.run()
    assert verified(playground, strict=True).succeeded


def test_an_index_that_waits_for_its_partitions_is_a_note_until_they_are_attached(playground: Playground) -> None:
    playground.write(1, FILES["index on only"])
    playground.run()
    assert ["waits for an index of each partition" in line for line in verified(playground).remarks()] == [True]
    playground.write(
        2, "CREATE INDEX CONCURRENTLY ev1_i ON ev1 (id);\nALTER INDEX ev_i ATTACH PARTITION ev1_i;", head="-- +goose NO TRANSACTION\n"
    )
    playground.run()
    found = verified(playground, strict=True)
    assert found.succeeded and found.remarks() == []


WITHOUT_TRANSACTION = {
    "create": "CREATE TABLE t (a int);\nCREATE INDEX CONCURRENTLY i ON t (a);",
    "reindex": "CREATE TABLE t (a int PRIMARY KEY);\nCREATE INDEX i ON t (a);\nREINDEX TABLE CONCURRENTLY t;",
    "drop": "CREATE TABLE t (a int);\nCREATE INDEX i ON t (a);\nDROP INDEX CONCURRENTLY i;",
    "detach": "CREATE TABLE t (a int) PARTITION BY LIST (a);\nCREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);\n"
    "ALTER TABLE t DETACH PARTITION t1 CONCURRENTLY;",
    "vacuum": "CREATE TABLE t (a int);\nVACUUM FULL t;",
    "procedure": PROCEDURE + "CALL p();",
    "own transaction": "BEGIN;\nCREATE TABLE one (a int);\nCOMMIT;\nCREATE TABLE two (a int);",
}


@pytest.mark.parametrize("name", WITHOUT_TRANSACTION)
def test_what_a_file_made_without_a_transaction_verifies(playground: Playground, name: str) -> None:
    playground.write(1, WITHOUT_TRANSACTION[name], head="-- +goose NO TRANSACTION\n")
    playground.run()
    found = verified(playground, strict=True)
    assert (found.findings, found.remarks()) == ((), []) and found.checked


@pytest.mark.parametrize("name", ["reindex", "drop", "detach"])
def test_what_an_earlier_file_made_and_one_without_a_transaction_changed_verifies(playground: Playground, name: str) -> None:
    *made, last = WITHOUT_TRANSACTION[name].splitlines()
    playground.write(1, "\n".join(made))
    playground.run()
    playground.write(2, last, head="-- +goose NO TRANSACTION\n")
    playground.run()
    found = verified(playground, strict=True)
    assert (found.findings, found.remarks()) == ((), [])


@pytest.mark.parametrize(
    ("change", "subject", "state", "version"),
    [
        ("ALTER TABLE t ADD COLUMN z int", "column public.t.z", "unrecorded", None),
        ("ALTER TABLE t DROP COLUMN b", "column public.t.b", "missing", 1),
        ("ALTER TABLE t ALTER a TYPE bigint", "column public.t.a", "changed", 1),
        ("ALTER TABLE t ALTER b SET DEFAULT 2", "column public.t.b", "changed", 1),
        ("ALTER TABLE t RENAME b TO bb", "column public.t.b", "renamed", 1),
        ("ALTER TABLE t RENAME TO u", "table public.t", "renamed", 1),
        ("ALTER TABLE t DROP CONSTRAINT t_a_check", "constraint public.t.t_a_check", "missing", 1),
        ("DROP INDEX t_b_idx", "index public.t_b_idx", "missing", 2),
        ("DROP INDEX t_b_idx; CREATE INDEX t_b_idx ON t (b DESC)", "index public.t_b_idx", "changed", 2),
        ("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'", "function public.f()", "changed", 2),
        ("DROP TABLE t CASCADE", "table public.t", "missing", 1),
        ("DROP TABLE in_block", "table public.in_block", "missing", 2),
        ("DROP SCHEMA app CASCADE", "schema app", "missing", 2),
        ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", "table public.t", "changed", 1),
        ("COMMENT ON TABLE t IS 'other'", "comment table public.t", "changed", 2),
        ("INSERT INTO t VALUES (1, 1), (1, 1); CREATE UNIQUE INDEX CONCURRENTLY t_bad ON t (a)", "", "", None),
    ],
)  # fmt: skip
def test_a_change_by_hand_is_found_and_named(playground: Playground, change: str, subject: str, state: str, version: int | None) -> None:
    playground.write(1, "CREATE TABLE t (a int CHECK (a > 0), b int);")
    playground.write(
        2,
        "CREATE INDEX ON t (b);\nCREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';\nDO 'BEGIN CREATE TABLE in_block (a int); END';\n"
        "CREATE SCHEMA app;\nCREATE TABLE app.x (a int);\nCOMMENT ON TABLE t IS 'c';",
    )
    playground.run()
    assert verified(playground, strict=True).succeeded
    with psycopg.connect(playground.url, autocommit=True) as other:
        for text in change.split("; "):
            try:
                other.execute(text)  # type: ignore[call-overload]
            except psycopg.errors.UniqueViolation:
                subject, state = "index public.t_bad", "invalid"
    found = verified(playground).findings
    if state == "invalid":  # nobody recorded it: it is foreign
        assert found == () and verified(playground).schema.foreign == (subject,)
        return
    told = [(item.subject, item.state, item.version) for item in found]
    assert (subject, state, version) in told and len(told) == (2 if "DROP COLUMN" in change else 1)  # its index went too
    with pytest.raises(errors.VerificationFailed, match=subject.split(" ")[-1].replace("(", r"\(").replace(")", r"\)")):
        verified(playground).raise_for_failure()


def test_what_no_version_made_is_foreign_and_fails_strictly(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (a int);")
    playground.run()
    playground.sql("CREATE TABLE other (a int); CREATE INDEX by_hand ON t (a); GRANT SELECT ON t TO pg_monitor")
    found = verified(playground)
    assert found.succeeded and set(found.schema.foreign) == {
        "index public.by_hand",
        "table public.other",
        "table public.t: pg_monitor: SELECT",
    }
    assert not verified(playground, strict=True).succeeded


def test_down_and_redo_leave_facts_as_the_schema_is(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (a int);", "DROP TABLE t;")
    playground.write(2, "ALTER TABLE t ADD b int;\nCREATE VIEW v AS SELECT a FROM t;", "DROP VIEW v;\nALTER TABLE t DROP b;")
    playground.run()
    playground.run(targets.Verb.REDO)
    assert verified(playground, strict=True).succeeded
    playground.run(targets.Verb.DOWN)
    found = verified(playground, strict=True)
    assert found.findings == () and found.checked == 2 and found.pending == (2,)
    playground.run(targets.Verb.DOWN)
    assert verified(playground).checked == 0
    assert playground.sql("SELECT kind FROM greylag_fact") == [("home",)]


def test_a_run_that_fails_has_described_what_it_finished(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (a int);")
    playground.write(2, "CREATE TABLE t (a int);")
    with pytest.raises(errors.StatementRejected):
        playground.run()
    assert playground.sql("SELECT count(*) FROM greylag_fact WHERE version = 1") == [(2,)]


def test_what_a_killed_run_did_not_describe_is_verified_and_described_by_the_next(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    playground.write(1, "CREATE TABLE t (a int);")
    with monkeypatch.context() as patch:
        patch.setattr(recording, "describe", lambda session, where: None)  # stands for a kill after COMMIT
        playground.run()
    assert playground.sql("SELECT kind FROM greylag_fact") == [("home",)]
    assert (verified(playground, strict=True).findings, verified(playground).checked) == ((), 2)
    playground.sql("ALTER TABLE t ADD z int")
    assert [item.subject for item in verified(playground).findings] or verified(playground).schema.foreign
    playground.sql("ALTER TABLE t DROP z")
    playground.write(2, "CREATE TABLE u (a int);")
    playground.run()
    assert playground.sql("SELECT count(*) FROM greylag_fact WHERE version = 2") == [(2,)]


def test_a_description_that_can_not_be_had_is_a_warning(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    playground.write(1, "CREATE TABLE t (a int);")
    monkeypatch.setattr(recording, "_describe", lambda where: "SELECT 1 / 0")
    playground.run()
    assert [note.code for note in playground.seen if isinstance(note, events.Note)] == ["not-described"]
    monkeypatch.undo()
    assert verified(playground, strict=True).succeeded


def test_versions_of_an_older_greylag_are_unproven_until_baseline(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (a int);")
    playground.run()
    playground.sql(
        "DROP TABLE greylag_fact; ALTER TABLE greylag_migration DROP xids, DROP gone; ALTER TABLE greylag_journal DROP xids, DROP gone"
    )
    found = verified(playground)
    assert found.succeeded and found.schema.unproven == (1,) and "baseline" in found.remarks()[0]
    playground.write(2, "ALTER TABLE t ADD b int;")
    playground.run()  # gives the tables what they lack
    found = verified(playground)
    assert found.succeeded and found.schema.unproven == (1,)
    with playground.open() as database:
        database.record_schema()
    found = verified(playground, strict=True)
    assert found.succeeded and found.schema.unproven == () and found.checked == 3


def test_a_table_that_was_there_before_is_recorded_as_a_version_left_it(playground: Playground) -> None:
    playground.sql("CREATE TABLE old (a int PRIMARY KEY, b int CHECK (b > 0))")
    playground.write(1, "ALTER TABLE old ADD c int;")
    playground.run()
    assert verified(playground, strict=True).succeeded
    playground.sql("ALTER TABLE old DROP b")
    assert {item.subject for item in verified(playground).findings} == {"column public.old.b", "constraint public.old.old_b_check"}


def test_partitions_that_a_job_makes_belong_to_their_parent(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE p (id int PRIMARY KEY, at date) PARTITION BY RANGE (id);\nCREATE INDEX ON p (at);")
    playground.run()
    playground.sql("CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (9)")
    found = verified(playground, strict=True)
    assert (found.findings, found.remarks()) == ((), [])


def test_event_triggers_make_every_note_a_deep_one(new_playground: Callable[[], Playground], postgres_server: object) -> None:
    from sandbox.databases.postgres import PostgresServer

    assert isinstance(postgres_server, PostgresServer)
    playground = new_playground()
    name = playground.sql("SELECT current_database()")[0][0]
    postgres_server.execute(
        "CREATE FUNCTION public.ev() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN BEGIN CREATE TABLE IF NOT EXISTS public.of_ev (a int);"
        " EXCEPTION WHEN division_by_zero THEN NULL; END; END $$; CREATE EVENT TRIGGER ev ON ddl_command_end WHEN TAG IN ('CREATE VIEW')"
        " EXECUTE FUNCTION public.ev(); GRANT ALL ON SCHEMA public TO PUBLIC",
        str(name),
    )
    playground.write(1, "CREATE VIEW v AS SELECT 1 AS one;")
    playground.run()
    assert "table public.of_ev" not in verified(playground).schema.foreign
    assert playground.exists("of_ev")


def test_baseline_records_what_goose_left(playground: Playground) -> None:
    playground.sql("CREATE TABLE t (a int)")
    playground.write(1, "CREATE TABLE t (a int);")
    with playground.open() as database:
        baseline._mark(database, files.load(playground.directory), 1)
        assert "recorded 2 object(s)" in database.record_schema()
    assert verified(playground, strict=True).succeeded
    playground.sql("ALTER TABLE t ALTER a TYPE bigint")
    (finding,) = verified(playground).findings
    assert finding.reason == "recorded by baseline"


def test_no_versioning_notes_nothing(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (a int);")
    playground.run(versioning=False)
    assert not playground.exists("greylag_fact")


def test_the_schema_of_one_database_equals_that_of_another(new_playground: Callable[[], Playground]) -> None:
    from migrator.planning import schema_environments

    found = []
    for number in range(2):
        playground = new_playground()
        if number:
            playground.sql("CREATE TABLE t_b_idx (a int)")  # the name is taken
        playground.write(1, "CREATE TABLE t (a serial PRIMARY KEY, b text);\nCREATE INDEX ON t (b);\nGRANT SELECT ON t TO pg_monitor;")
        playground.run()
        with playground.open() as database:
            found.append(recording.read(database._session, database._where).recorded)
    result = schema_environments.compare(*found)
    assert result.differences == () and "t_b_idx1" in result.notes[0]


def test_what_goose_took_back_is_a_note(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (a int);")
    playground.write(2, "CREATE TABLE u (a int);")
    playground.run()
    playground.sql("DROP TABLE u; DELETE FROM goose_db_version WHERE version_id = 2")  # as goose's down does
    found = verified(playground)
    assert found.findings == () and found.pending == (2,)
    assert found.remarks() == ["note: table public.u is gone with version 2, which goose has taken back"]
    playground.run()
    assert verified(playground, strict=True).succeeded
