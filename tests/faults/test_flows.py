"""What `make faults PART=flows` draws, judges and writes; pure. The forty cases themselves take a quarter of an hour."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from migrator.targets import Engine
from tests.faults.flows import __main__ as command
from tests.faults.flows import cases, report
from tests.faults.flows.cases import Ending, Recovery, Step, Verdict, Victim
from tests.faults.matrix.mix import PROJECT

GOOD = Ending(0, Step.URL, Victim.ENGINE, "Crashed", Recovery.RETRY, True, True, 0.4, 4.0, 9.0)


def test_each_thing_is_killed_at_each_task_on_each_engine_and_recovered_from_in_both_ways() -> None:
    for engine in Engine:
        drawn = cases.draw(engine, 1)
        assert {(item.step, item.victim) for item in drawn} == {(step, victim) for step in Step for victim in Victim}
        assert len(drawn) == 20 and cases.draw(engine, 1) == drawn != cases.draw(engine, 2)
        for victim in Victim:
            assert {item.recovery for item in drawn if item.victim is victim} == {Recovery.RETRY, Recovery.NEXT}


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, Verdict.RECOVERED),
        ({"same": False}, Verdict.WRONG),
        ({"completed": False, "same": False}, Verdict.STUCK),
        ({"completed": False, "same": False, "exit_code": 15}, Verdict.ASKED),
        ({"ended": ""}, Verdict.UNENDED),
        ({"silence": 60.1}, Verdict.SILENT),
    ],
)
def test_a_case_is_judged_by_what_was_read(change: dict[str, object], verdict: Verdict) -> None:
    ending = replace(GOOD, **change)  # type: ignore[arg-type]
    assert ending.verdict is verdict
    text, met = report.summary({Engine.POSTGRES: [ending]})
    assert not met, "the other nineteen were not run"
    assert f"1 {verdict}" in text or (verdict is Verdict.RECOVERED and "1 of 20 recovered" in text)


def test_silence_is_the_longest_time_without_a_word_to_the_very_end() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    words = [begin + timedelta(seconds=seconds) for seconds in (-5, 3, 70, 90, 300)]
    assert cases.silences(words, begin, begin + timedelta(seconds=200)) == (3, 110)
    assert cases.silences([], begin, begin + timedelta(seconds=8)) == (8, 8)


def test_what_did_not_end_well_is_played_again(tmp_path: Path) -> None:
    file = tmp_path / "flows-postgres-1.jsonl"
    bad = replace(GOOD, number=1, same=False)
    file.write_text("".join(json.dumps(asdict(item)) + "\n" for item in (GOOD, bad)), encoding="utf-8")
    left = cases.missing(cases.draw(Engine.POSTGRES, 1), command.read(file))
    assert sorted(item.number for item in left) == list(range(1, 20))
    assert [item.step for item in left[:4]] == [Step.MIGRATION] * 4


def test_the_table_has_its_place_in_the_page() -> None:
    page = (PROJECT / "docs" / "faults.md").read_text(encoding="utf-8")
    assert page.count(report.BEGIN) == page.count(report.END) == 1
    written = report.replace(page, {Engine.POSTGRES: [GOOD], Engine.CLICKHOUSE: []}, 1)
    assert "| PostgreSQL | encode URL | engine | Crashed | Retry | 0.4 s | 4.0 s | 9.0 s | recovered |" in written
    assert written.startswith(page.partition(report.BEGIN)[0]) and written.endswith(page.partition(report.END)[2])
