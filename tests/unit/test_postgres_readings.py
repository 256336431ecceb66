"""What a statement is and does, read from its text alone."""

from __future__ import annotations

import subprocess
import sys

import postgast
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.planning import objects
from migrator.planning.objects import Kind, ObjectName
from migrator.postgres.reading import effects, readings
from migrator.postgres.reading.lock_classes import LockClass


@pytest.mark.parametrize(
    ("text", "pipelined", "transactional", "commands"),
    [
        ("SELECT 1;", True, True, 1),
        ("", True, True, 0),
        (";", True, True, 0),
        ("-- only a comment", True, True, 0),
        ("SELECT 1; SELECT 2;", True, True, 2),
        ("CREATE TABLE t (a text DEFAULT ';'); DO $$ BEGIN PERFORM 1; END $$; -- ; \n/* ; */ SELECT E'\\';';", True, True, 3),
        ("SELECT 1; COMMIT", False, False, 2),
        ("SELECT 1; COPY t FROM STDIN", False, True, 2),
        ("SELECT 1; VACUUM t", True, False, 2),
        ("PREPARE p AS SELECT $1; SELECT 1", False, True, 2),
        ("SET backslash_quote = on; SELECT E'\\''", False, True, 2),
        ("SET client_encoding = latin1; SELECT 1", False, True, 2),
        ("SELECT statement_timestamp(); SELECT 1", False, True, 2),
        ("SELECT current_query(); SELECT 1", False, True, 2),
        ("SELECT 1$$; SELECT 2; $$", True, True, 1),
        ("SELECT 1$$; SELECT 2; $$; SELECT 3", False, True, 2),
        ("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3", False, True, 2),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END; SELECT 3", False, True, 2),
        ("SELECT 1; SELECT (2", False, True, 2),
        ("SELECT ';', $$;$$, \";\" /* ; */ -- ;", True, True, 1),
        ("CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT $1'", False, True, 1),
        ("COPY t FROM STDIN", False, True, 1),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END", True, True, 1),
        ("COMMIT;", False, False, 1),
        ("BEGIN", False, False, 1),
        ("ROLLBACK TO SAVEPOINT s", True, True, 1),
        ("ROLLBACK", False, False, 1),
        ("PREPARE TRANSACTION 'x'", False, False, 1),
        ("VACUUM t", True, False, 1),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", True, False, 1),
        ("CREATE INDEX i ON t (a)", True, True, 1),
        ("DROP INDEX CONCURRENTLY i", True, False, 1),
        ("REINDEX TABLE CONCURRENTLY t", True, False, 1),
        ("REINDEX DATABASE d", True, False, 1),
        ("CREATE DATABASE d", True, False, 1),
        ("ALTER SYSTEM SET work_mem = '1MB'", True, False, 1),
        ("CALL p()", True, False, 1),
        ("DO $$ BEGIN COMMIT; END $$", True, False, 1),
        ("DO $$ BEGIN PERFORM 1; END $$", True, True, 1),
        ("ALTER TABLE p DETACH PARTITION c CONCURRENTLY", True, False, 1),
        ("SET standard_conforming_strings = off", False, True, 1),
        ("DISCARD ALL", False, False, 1),
        ("SELECT 'open", False, True, 1),
    ],
)
def test_how_a_statement_must_be_sent(text: str, pipelined: bool, transactional: bool, commands: int) -> None:
    shape = readings.of_text(text)
    assert (shape.pipelined, shape.transactional, shape.commands) == (pipelined, transactional, commands)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ALTER TABLE t VALIDATE CONSTRAINT c", LockClass.MAINTENANCE),
        ("ALTER TABLE t ALTER COLUMN a SET STATISTICS 100, VALIDATE CONSTRAINT c", LockClass.MAINTENANCE),
        ("ALTER TABLE t SET (fillfactor = 70)", LockClass.MAINTENANCE),
        ("ALTER TABLE t VALIDATE CONSTRAINT c, ADD COLUMN a int", LockClass.EVERYONE),
        ("ALTER TABLE t VALIDATE CONSTRAINT c, ADD FOREIGN KEY (a) REFERENCES u (id) NOT VALID", LockClass.WRITERS),
        ("ALTER TABLE p DETACH PARTITION c", LockClass.EVERYONE),
        ("ALTER TABLE p DETACH PARTITION c CONCURRENTLY", LockClass.MAINTENANCE),
        ("ALTER TABLE t ADD COLUMN statistics int", LockClass.EVERYONE),
        ("ALTER TABLE t VALIDATE nonsense (", LockClass.EVERYONE),
    ],
)
def test_the_grammar_tells_harmless_alter_tables_apart(text: str, expected: LockClass) -> None:
    assert readings.of_text(text).lock is expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["CREATE TABLE t (id int)", "CREATE INDEX ON t (id)"], [LockClass.NONE, LockClass.NONE]),
        (["CREATE TABLE IF NOT EXISTS app.t (id int)", "ALTER TABLE app.t ADD COLUMN a int"], [LockClass.NONE, LockClass.NONE]),
        (["CREATE TABLE t (id int)", "CREATE INDEX ON u (id)"], [LockClass.NONE, LockClass.WRITERS]),
        (["CREATE TABLE t (id int)", "ALTER TABLE t ADD FOREIGN KEY (id) REFERENCES u (id)"], [LockClass.NONE, LockClass.EVERYONE]),
    ],
)
def test_work_on_a_table_of_the_same_transaction_stalls_nobody(texts: list[str], expected: list[LockClass]) -> None:
    assert list(readings.locks_in_order([readings.of_text(text) for text in texts])) == expected


@given(st.text(alphabet="abcCOMMITSELECT ;'\"$-*/()\n\x00é\udcff", max_size=80))
def test_any_text_has_a_shape(text: str) -> None:
    shape = readings.of_text(text)
    assert shape.commands >= 0
    messages = list(shape.messages(text))
    assert len(messages) == max(shape.commands, 1)
    assert ";".join(part for _, part in messages) == text
    assert all(text[begins:].startswith(part) for begins, part in messages)


PARTS = (
    "SELECT 1", "SELECT ';'", "SELECT E'\\';'", "SELECT U&'\\0041;'", 'SELECT 1 AS ";"', "DO $$ BEGIN PERFORM ';'; END $$", "(SELECT 4)",
    "DO $a$ BEGIN PERFORM $$;$$; END $a$", "/* ; /* ; */ ; */ SELECT 2", "-- ;\nSELECT 3", "SELECT 'a'\n'b;'", "SELECT (1 + (2))",
    "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", "SELECT 1 -- ;\n", "SELECT 1 /* ; */", " ", "/* ; */", "-- c\n", "SELECT a$b$c FROM t",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END", "SELECT 5 AS x$", "SELECT 1 */* ; */ 2",
    "INSERT INTO t VALUES ('é;'), (E'\\\\')", "VALUES (1)\n\t",
)  # fmt: skip


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=6), st.sampled_from([";", "; ", ";\n", " ;-- ;\n"]), st.booleans())
def test_a_chunk_is_cut_where_the_grammar_cuts_it(parts: list[str], separator: str, ended: bool) -> None:
    text = separator.join(parts) + (";" if ended else "")
    found = readings.of_text(text)
    assert len(found.separators) == max(found.commands - 1, 0)
    if not found.pipelined:
        assert ("ATOMIC" in text or "RULE" in text) and found.commands > 1
        return
    assert [item for _, part in found.messages(text) for item in written(part)] == written(text)
    assert all(text[begins : begins + len(part)] == part and len(written(part)) <= 1 for begins, part in found.messages(text))


def written(text: str) -> list[str]:
    """The commands of a text as the grammar cuts and writes them."""
    return [postgast.deparse(postgast.parse(item)) for item in postgast.split(text, method="parser")] if text.strip() else []


def left(*statements: str) -> set[str]:
    """What exists after the statements, as short texts."""
    found = [effect for item in effects.read(statements) for effect in item or ()]
    return {str(item) for item in objects.fold(found)}


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (
            ["CREATE TABLE t (id serial PRIMARY KEY, a int UNIQUE, b int REFERENCES u (id), c int CHECK (c > 0))"],
            {
                "table t", "column t.id", "column t.a", "column t.b", "column t.c", "sequence t.t_id_seq", "constraint t.t_pkey",
                "constraint t.t_a_key", "constraint t.t_b_fkey", "constraint t.t_c_check",
            },
        ),
        (["CREATE TABLE s.t (id int)", "CREATE INDEX ON s.t (id)"], {"table s.t", "column s.t.id", "index s.t.t_id_idx"}),
        (
            ["CREATE TABLE t (a int, b int)", "CREATE INDEX ON t (a)", "CREATE INDEX ON t (a)", "CREATE INDEX ON t (lower(b), a)"],
            {"table t", "column t.a", "column t.b", "index t.t_a_idx", "index t.t_a_idx1", "index t.t_lower_a_idx"},
        ),
        (["CREATE TABLE t (a int, b int)", "CREATE INDEX i ON t (a)", "ALTER TABLE t DROP COLUMN a"], {"table t", "column t.b"}),
        (["CREATE TABLE t (a int)", "CREATE INDEX i ON t (a)", "ALTER TABLE t RENAME TO u"], {"table u", "column u.a", "index u.i"}),
        (["CREATE TABLE t (a int)", "CREATE INDEX i ON t (a)", "ALTER TABLE t RENAME COLUMN a TO b", "ALTER TABLE t DROP b"], {"table t"}),
        (["CREATE TABLE t (a int PRIMARY KEY)", "ALTER INDEX t_pkey RENAME TO k"], {"table t", "column t.a", "constraint t.k"}),
        (["CREATE TABLE t (a int)", "DROP TABLE public.t"], set()),
        (["CREATE TABLE public.t (a int)", "DROP TABLE IF EXISTS t CASCADE"], set()),
        (
            ["CREATE TABLE u (id int)", "CREATE TABLE t (a int)", "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (id)",
             "DROP TABLE u CASCADE"],
            {"table t", "column t.a"},
        ),
        (["CREATE TABLE t (a int)", "CREATE VIEW v AS SELECT * FROM t", "DROP TABLE t CASCADE"], set()),
        (["CREATE TABLE t (a int)", "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID"], {"table t", "column t.a"}),
        (
            ["CREATE TABLE t (a int)", "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID", "ALTER TABLE t VALIDATE CONSTRAINT c"],
            {"table t", "column t.a", "constraint t.c"},
        ),
        (["CREATE TABLE t (a int)", "CREATE TABLE IF NOT EXISTS t (a int, b int)"], {"table t", "column t.a"}),
        (["CREATE TEMP TABLE t (a int)"], set()),
        (["CREATE SCHEMA s", "CREATE TABLE s.t (a int)", "DROP SCHEMA s CASCADE"], set()),
        (["CREATE SCHEMA s CREATE TABLE t (a int)"], {"schema s", "table s.t", "column s.t.a"}),
        (["CREATE TABLE t (a int)", "ALTER TABLE t SET SCHEMA s"], {"table s.t", "column s.t.a"}),
        (["CREATE TYPE mood AS ENUM ('a')", "CREATE DOMAIN d AS int", "CREATE TYPE c AS (a int)", "DROP TYPE c"], {"type mood", "type d"}),
        (["CREATE TYPE a AS ENUM ('x')", "ALTER TYPE a RENAME TO b"], {"type b"}),
        (
            ["CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$", "CREATE TABLE t (a int)",
             "CREATE TRIGGER x BEFORE INSERT ON t EXECUTE FUNCTION s.f()"],
            {"function s.f", "table t", "column t.a", "trigger t.x"},
        ),
        (["CREATE MATERIALIZED VIEW m AS SELECT 1 AS a", "CREATE UNIQUE INDEX m_a ON m (a)"], {"materialized view m", "index m.m_a"}),
        (["CREATE TABLE p (a int) PARTITION BY LIST (a)", "CREATE TABLE c PARTITION OF p DEFAULT"], {"table p", "column p.a", "table c"}),
        (["CREATE EXTENSION IF NOT EXISTS pgcrypto", "CREATE SEQUENCE s.q", "DROP EXTENSION pgcrypto"], {"sequence s.q"}),
        (
            ["CREATE TABLE t (a int)", "CREATE UNIQUE INDEX i ON t (a)", "ALTER TABLE t ADD CONSTRAINT k PRIMARY KEY USING INDEX i"],
            {"table t", "column t.a", "constraint t.k"},
        ),
        (["INSERT INTO t VALUES (1)", "GRANT SELECT ON t TO r", "SET search_path = app", "SELECT setval('s', 1)"], set()),
        (["CREATE TABLE t AS SELECT 1"], {"table t"}),
        (["CREATE TABLE t (a int); CREATE TABLE u (b int)"], {"table t", "column t.a", "table u", "column u.b"}),
    ],
)  # fmt: skip
def test_the_objects_that_statements_leave_behind(statements: list[str], expected: set[str]) -> None:
    assert left(*statements) == expected


@pytest.mark.parametrize(
    "text", ["DO $$ BEGIN EXECUTE 'CREATE TABLE t (a int)'; END $$", "SELECT make_tables()", "CALL p()", "SELEC 1", "\udcff"]
)
def test_what_only_runs_at_the_server_has_unknown_effects(text: str) -> None:
    assert list(effects.read([text])) == [None]


def test_a_name_that_would_be_cut_is_not_guessed() -> None:
    long = "x" * 60
    found = left(f"CREATE TABLE {long} (a int)", f"CREATE INDEX ON {long} (a)")
    assert found == {f"table {long}", f"column {long}.a"}


def test_objects_know_their_table() -> None:
    found = [effect.subject for item in effects.read(["CREATE TABLE s.t (a int UNIQUE)"]) for effect in item or ()]
    assert ObjectName(Kind.CONSTRAINT, "s", "t_a_key", "t") in found


def test_usual_statements_need_no_grammar() -> None:
    program = (
        "import sys\nfrom migrator.postgres.reading import readings\n"
        "for text in ('CREATE TABLE t (a int)', 'CREATE INDEX i ON t (a)', 'ALTER TABLE t ADD COLUMN b varchar(10)', 'DROP TABLE t',"
        " 'INSERT INTO t VALUES (1)', 'DO $$ BEGIN END $$', 'CREATE INDEX CONCURRENTLY i ON t (a)'):\n    readings.of_text(text)\n"
        "sys.exit('postgast' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
