"""Ways in and ways back on both engines: databases that others made, images that lack files, runs that are told to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Place

ROOT = Path(__file__).parents[2]

SLOW = {
    "postgres": "SELECT pg_sleep(300);",
    "clickhouse": "SELECT sleepEachRow(1) FROM numbers(300) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0;",
}
RUNNING = {
    "postgres": "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(300)%' AND state = 'active'"
    " AND datname = current_database()",
    "clickhouse": "SELECT count() FROM system.processes WHERE query_id LIKE 'greylag-%-3-up-1' AND current_database = currentDatabase()",
}


def test_good_flow_a_database_that_go_migrations_helped_to_make_is_adopted(place: Place) -> None:
    place.write({"00004_late.sql": "-- greylag: oldest-app 2\n-- +goose Up\n-- +goose ENVSUB ON\nSELECT '${NOT_SET_HERE?}';\n"})
    (place.directory / "00003_fill.go").write_text("package migrations\n", encoding="utf-8")
    assert place.on("up").code == 11, "a Go migration is never passed over"
    for name in ("things", "others"):
        engine = " ENGINE = MergeTree ORDER BY id" if place.driver == "clickhouse" else ""
        place.sql(f"CREATE TABLE {name} (id bigint{' PRIMARY KEY' if not engine else ''}){engine}", place.database)
    said = place.greylag("-json", "-dir", str(place.directory), place.driver, place.url, "baseline", "-to", "4")
    assert said.code == 0, said.err
    assert said.document()["marked_as_applied"] == [1, 2, 3, 4]
    assert said.document()["go"] == [3]
    assert any("00003_fill.go: a Go migration" in line for line in said.own)
    assert place.versions() == [1, 2, 3, 4]
    again = place.on("baseline", "-json")
    assert (again.code, again.document()["recorded"], again.document()["unproven"]) == (0, [], [])
    assert place.on("up").code == 0
    for name in ("00002_create_others.sql", "00003_fill.go", "00004_late.sql"):
        (place.directory / name).unlink()
    refused = place.on("up")
    assert refused.code == 11, "the note of a file that was only marked holds too"


def test_bad_flow_a_go_migration_can_not_be_taken_back(place: Place) -> None:
    (place.directory / "00003_fill.go").write_text("package migrations\n", encoding="utf-8")
    assert place.greylag("-dir", str(place.directory), place.driver, place.url, "baseline", "-to", "3").code == 0
    assert place.on("down").code == 11
    (place.directory / "00003_fill.go").unlink()
    said = place.on("down")
    assert said.code == 1
    assert any("[file-missing]" in line for line in said.own)
    assert place.versions() == [1, 2, 3]


def test_good_flow_an_image_that_lacks_a_file_takes_it_back_from_the_recorded_text(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHICH_TABLE", "extra")
    down = "-- +goose Down\nDROP TABLE ${WHICH_TABLE};\nDROP TABLE more;\n"
    place.write(
        {
            "00003_extra.sql": "-- +goose ENVSUB ON\n-- +goose Up\nCREATE TABLE extra (id bigint);\n"
            f"-- +goose StatementBegin\nCREATE TABLE more (id bigint);\n-- +goose StatementEnd\n{down}"
        }
    )
    assert place.on("up").code == 0
    assert {"extra", "more"} <= set(place.tables())
    (place.directory / "00003_extra.sql").unlink()
    planned = place.greylag("-dir", str(place.directory), place.driver, place.url, "plan", "down")
    assert "DROP TABLE ${WHICH_TABLE};" in planned.out, planned.err
    said = place.on("down")
    assert said.code == 0, said.err
    assert "OK   00003_extra.sql" in said.err
    assert not {"extra", "more"} & set(place.tables())
    assert place.versions() == [1, 2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_bad_flow_a_signal_ends_the_statement_on_the_server_and_gives_back_the_lock(place: Place, number: signal.Signals) -> None:
    place.write({"00003_slow.sql": f"-- +goose Up\n{SLOW[place.driver]}\n"})
    command = [sys.executable, "-m", "migrator.cli", "-env", "none", "-dir", str(place.directory), place.driver, place.url, "up"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ, stderr=subprocess.PIPE, encoding="utf-8")
    while place.sql(RUNNING[place.driver], place.database).strip() == "0":
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 23, err
    assert "did not answer the cancellation in time" not in err, "it ended by itself, before the 9 s after which it would have been ended"
    assert place.sql(RUNNING[place.driver], place.database).strip() == "0"
    assert place.versions() == [1, 2]
    (place.directory / "00003_slow.sql").unlink()
    place.write({"00004_next.sql": "-- +goose Up\nSELECT 1;\n"})
    assert place.on("up", "-lock-wait", "0s").code == 0, "nobody holds the lock"


def test_every_command_writes_json_in_either_spelling(place: Place, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    on_database = [place.driver, place.url]
    there = ["-dir", str(place.directory)]
    commands: list[tuple[list[str], int]] = [
        (["-dir", str(fresh), "create", "add_words", "sql"], 0),
        (["-dir", str(fresh), "fix"], 0),
        (["-dir", str(tmp_path / "made"), "init"], 0),
        (["env"], 0),
        ([*there, "validate"], 0),
        ([*there, *on_database, "plan"], 0),
        ([*there, *on_database, "status"], 0),
        ([*there, *on_database, "up-by-one"], 0),
        ([*there, *on_database, "up-to", "2"], 0),
        ([*there, *on_database, "up"], 0),
        ([*there, *on_database, "wait"], 0),
        ([*there, *on_database, "verify"], 0),
        ([*there, *on_database, "history"], 0),
        ([*there, *on_database, "version"], 0),
        ([*there, *on_database, "baseline"], 0),
        ([*there, *on_database, "repair", "-checksum", "1"], 0),
        ([*there, *on_database, "repair", "-done", "1:1"], 13),
        ([*there, *on_database, "redo"], 0),
        ([*there, *on_database, "down"], 0),
        ([*there, *on_database, "down-to", "0"], 0),
        ([*there, *on_database, "reset"], 0),
        ([*there, *on_database, "nonsense"], 2),
    ]
    for number, (words, expected) in enumerate(commands):
        said = place.greylag("--json" if number % 2 else "-json", *words)
        assert said.code == expected, (words, said.err)
        lines = [json.loads(said.out)] if "\n{" not in said.out.strip() else [json.loads(line) for line in said.out.splitlines()]
        assert lines[-1]["exit_code"] == expected, words
