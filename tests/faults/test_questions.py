"""A run that is killed where no catalogue shows the outcome: the question, the answer on the command line, and what it leads to."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Place, Said

ROOT = Path(__file__).parents[2]

SLOW = {
    "postgres": {
        "00003_fill.sql": """-- +goose Up
CREATE TABLE filled (id int);
CREATE TABLE pace (seconds int);
INSERT INTO pace VALUES (3600);
-- +goose StatementBegin
CREATE PROCEDURE fill() LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO filled VALUES (1);
  COMMIT;
  PERFORM pg_sleep(seconds) FROM pace;
END $$;
-- +goose StatementEnd
""",
        "00004_call.sql": "-- +goose NO TRANSACTION\n-- +goose Up\nSELECT 'before';\nCALL fill();\nSELECT 'after';\n",
    },
    "clickhouse": {
        "00003_fill.sql": "-- +goose Up\nCREATE TABLE filled (id UInt64);\n",
        "00004_call.sql": "-- +goose Up\nSELECT 'before';\nINSERT INTO filled SELECT sleepEachRow(0.1) + 1 FROM numbers(20)"
        " SETTINGS max_block_size = 1, min_insert_block_size_rows = 100;\nSELECT 'after';\n",
    },
}
"""The second statement of version 4: a procedure that commits by itself, an INSERT. Neither leaves a trace that tells it from another's."""

BUSY = {
    "postgres": "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL fill%' AND state = 'active'",
    "clickhouse": "SELECT count() FROM system.processes WHERE query_id LIKE 'greylag-%-4-up-2'",
}


def _killed(place: Place) -> None:
    """Starts `up` as a process of its own and kills it (SIGKILL) inside the second statement of version 4."""
    command = [sys.executable, "-m", "migrator.cli", "-env", "none", "-dir", str(place.directory), place.driver, place.url, "up"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ, stderr=subprocess.PIPE, encoding="utf-8")
    while place.sql(BUSY[place.driver], place.database).strip() == "0":
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def _count(place: Place) -> int:
    return int(place.sql("SELECT count(*) FROM filled", place.database))


def _asked(said: Said) -> str:
    """The answer that the hint offers first, as one would type it."""
    hint = next(line for line in said.own if line.startswith("hint: "))
    offered = re.search(r"`greylag -dir \S+ \w+ DBSTRING repair (-done \d+:\d+)`", hint)
    assert offered is not None, hint
    return offered[1]


@pytest.fixture
def query_log() -> bool:
    """A ClickHouse without a query log: with one there is nothing to ask."""
    return False


@pytest.fixture
def question(place: Place) -> Said:
    """What `up` says after a run was killed."""
    if place.driver == "clickhouse":
        place.url += "&greylag_lease=2s"
    place.write(SLOW[place.driver])
    _killed(place)
    said = place.on("up", "-json")
    assert said.code == 15, said.err
    return said


def _repair(place: Place, *answer: str) -> Said:
    return place.greylag("-json", place.driver, place.url, "repair", *answer)


@pytest.mark.slow
def test_bad_flow_killed_where_no_catalogue_tells_asks_and_goes_on_behind_an_answer_done(place: Place, question: Said) -> None:
    assert f"{place.directory}/00004_call.sql:" in question.err
    assert question.document()["error"]["code"] == "statement-unknown"
    executed = _count(place)
    assert executed > 0
    assert place.on("up").code == 15, "the question stays until it is answered"
    answered = _repair(place, *_asked(question).split())
    assert answered.code == 0, answered.err
    assert answered.document()["answered"] == [{"version": 4, "statement": 2, "done": True}]
    done = place.on("up", "-json")
    assert done.code == 0, done.err
    assert _count(place) == executed, "what was answered as done is not executed again"
    assert place.versions() == [1, 2, 3, 4]
    assert _repair(place, *_asked(question).split()).document()["error"]["code"] == "no-question"


@pytest.mark.slow
def test_bad_flow_answer_not_done_executes_the_statement(place: Place, question: Said) -> None:
    place.sql("TRUNCATE TABLE filled", place.database)
    if place.driver == "postgres":
        place.sql("UPDATE pace SET seconds = 0", place.database)
    answered = _repair(place, _asked(question).split()[0].replace("-done", "-not-done"), "4:2")
    assert answered.code == 0, answered.err
    assert "version 4 statement 2: recorded as not done" in answered.own
    assert place.on("up").code == 0
    assert _count(place) > 0
    assert place.versions() == [1, 2, 3, 4]
