"""What a statement is and does, read from its text alone."""

from __future__ import annotations

import subprocess
import sys

import postgast
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.postgres.reading import readings
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


def test_usual_statements_need_no_grammar() -> None:
    program = (
        "import sys\nfrom migrator.postgres.reading import readings\n"
        "for text in ('CREATE TABLE t (a int)', 'CREATE INDEX i ON t (a)', 'ALTER TABLE t ADD COLUMN b varchar(10)', 'DROP TABLE t',"
        " 'INSERT INTO t VALUES (1)', 'DO $$ BEGIN END $$', 'CREATE INDEX CONCURRENTLY i ON t (a)'):\n    readings.of_text(text)\n"
        "sys.exit('postgast' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
