"""Which statements stall others, and how long they may wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.goose import lexer, notes
from migrator.postgres import locks
from migrator.postgres.reading import lock_classes
from migrator.postgres.reading.lock_classes import LockClass
from migrator.targets import Engine

NONE, ROWS, MAINTENANCE, WRITERS, EVERYONE = LockClass


def of(text: str) -> LockClass:
    command = lexer.scan(text, Engine.POSTGRES).commands[0]
    return lock_classes.of_command(command.words, text[command.start : command.end])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1", ROWS),
        ("with x as (select 1) insert into t select * from x", ROWS),
        ("UPDATE t SET a = 1", ROWS),
        ("CREATE TABLE t (id int)", NONE),
        ("CREATE UNLOGGED TABLE IF NOT EXISTS t (id int)", NONE),
        ("CREATE TABLE t (id int REFERENCES u (id))", WRITERS),
        ("CREATE TABLE t PARTITION OF p DEFAULT", EVERYONE),
        ("CREATE INDEX i ON t (a)", WRITERS),
        ("CREATE UNIQUE INDEX i ON t (a)", WRITERS),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", MAINTENANCE),
        ("DROP INDEX i", EVERYONE),
        ("DROP INDEX CONCURRENTLY i", MAINTENANCE),
        ("REINDEX TABLE t", EVERYONE),
        ("REINDEX (VERBOSE) TABLE CONCURRENTLY t", MAINTENANCE),
        ("VACUUM t", MAINTENANCE),
        ("VACUUM (FULL, ANALYZE) t", EVERYONE),
        ("ALTER TABLE t ADD COLUMN a int", EVERYONE),
        ("alter table t rename to u", EVERYONE),
        ("ALTER SEQUENCE s OWNED BY t.id", WRITERS),
        ("ALTER ROLE r SET search_path = app", NONE),
        ("DROP FUNCTION f(int)", NONE),
        ("DROP TABLE t", EVERYONE),
        ("TRUNCATE t", EVERYONE),
        ("LOCK TABLE t", EVERYONE),
        ("CREATE TRIGGER x BEFORE INSERT ON t EXECUTE FUNCTION f()", WRITERS),
        ("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", NONE),
        ("CREATE OR REPLACE VIEW v AS SELECT 1", EVERYONE),
        ("CREATE VIEW v AS SELECT 1", ROWS),
        ("REFRESH MATERIALIZED VIEW m", EVERYONE),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY m", WRITERS),
        ("COMMENT ON TABLE t IS 'x'", MAINTENANCE),
        ("GRANT SELECT ON t TO r", NONE),
        ("SET search_path = app", NONE),
        ("DO $$ BEGIN ALTER TABLE t ADD a int; END $$", EVERYONE),
        ("DO $$ BEGIN UPDATE t SET a = 1; END $$", ROWS),
        ("CREATE EXTENSION pgcrypto", NONE),
        ("CREATE TYPE mood AS ENUM ('sad')", NONE),
        ("SOMETHING new", EVERYONE),
    ],
)
def test_the_first_words_tell_whom_a_statement_stops(text: str, expected: LockClass) -> None:
    assert of(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ALTER TABLE t ADD COLUMN a int", 1),
        ("ALTER TABLE t ADD COLUMN a int, DROP COLUMN b", 1),
        ("ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES u (id)", 2),
        ("CREATE TABLE t (a int REFERENCES u (id), b int REFERENCES v (id))", 2),
        ("CREATE TABLE t PARTITION OF p DEFAULT", 1),
        ("ALTER TABLE p ATTACH PARTITION t DEFAULT", 2),
        ("DROP TABLE a, b, c", 3),
        ("TRUNCATE a, b", 2),
        ("LOCK TABLE a, b IN ACCESS EXCLUSIVE MODE", 2),
    ],
)
def test_a_statement_waits_for_every_table_that_it_names(text: str, expected: int) -> None:
    command = lexer.scan(text, Engine.POSTGRES).commands[0]
    assert lock_classes.waits(command.words, text[command.start : command.end]) == expected


@given(st.floats(0, 3600), st.integers(1, 8))
def test_the_waits_of_one_statement_together_take_no_longer_than_the_whole(whole: float, waits: int) -> None:
    assert locks.share(whole, waits) * waits <= whole * (1 + 1e-9)


@given(st.floats(0.001, 3600), st.integers(1, 1000))
def test_no_wait_is_without_time_and_none_without_limit(whole: float, waits: int) -> None:
    assert locks.least(whole) <= locks.share(whole, waits) <= whole
    assert locks.share(0.0, waits) == 0.0


def timeouts(lock: LockClass, file: notes.Notes = notes.EMPTY) -> locks.Timeouts:
    return locks.timeouts(lock, file, lock_timeout=0.2, statement_timeout=0.0, budget=60.0)


@pytest.mark.parametrize("lock", list(LockClass))
def test_only_work_that_stalls_others_has_a_lock_timeout(lock: LockClass) -> None:
    assert timeouts(lock).lock == (0.2 if lock in (WRITERS, EVERYONE) else 0.0)


def test_a_files_notes_win_over_the_runs_policy() -> None:
    file = notes.Notes(lock_timeout=2.0, lock_budget=5.0, statement_timeout=300.0)
    assert timeouts(EVERYONE, file) == locks.Timeouts(2.0, 300.0, 5.0)
    assert timeouts(ROWS, file).lock == 0.0


@given(st.integers(1, 1000), st.floats(0, 1))
def test_a_delay_lets_the_work_be_done_within_two_seconds_of_the_blockers_end(attempt: int, chance: float) -> None:
    delay = locks.delay(attempt, lambda: chance)
    assert 0.1 < delay <= 1.4
    assert delay + 2 * 0.2 < 2.0


@given(st.integers(1, 100), st.floats(0, 1))
def test_delays_grow(attempt: int, chance: float) -> None:
    assert locks.delay(attempt, lambda: chance) <= locks.delay(attempt + 1, lambda: chance)


@given(st.lists(st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1), max_size=5), st.text())
def test_any_words_have_a_class(words: list[str], text: str) -> None:
    assert lock_classes.of_command(words, text) in LockClass
