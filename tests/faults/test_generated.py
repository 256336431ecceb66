"""What `make faults PART=schemas` and `PART=grouping` keep and write; pure. The cases themselves are the engines' tests of the same names."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from migrator.targets import Engine
from tests.faults import generated
from tests.faults.generated import Batch
from tests.faults.matrix import report
from tests.faults.matrix.mix import PROJECT

GOOD = Batch(0, {"cases": 50, "changed and named": 49}, held=True)
BAD = Batch(1, {"cases": 7}, held=False)


def test_a_batch_that_was_run_again_counts_as_it_ended_then(tmp_path: Path) -> None:
    kept = tmp_path / "schemas-postgres.jsonl"
    again = Batch(1, {"cases": 50}, held=True)
    kept.write_text("".join(json.dumps(asdict(item)) + "\n" for item in (GOOD, BAD, again)), encoding="utf-8")
    assert generated.read(kept) == [GOOD, again]
    assert generated.cases(generated.read(kept)) == 100
    assert generated.read(tmp_path / "missing") == []


def test_the_table_tells_what_held_what_failed_and_what_was_not_run() -> None:
    text = generated.table(generated.PARTS["schemas"], {Engine.POSTGRES: [GOOD, BAD], Engine.CLICKHOUSE: []})
    assert "| PostgreSQL | 57 | 1 | 49 changed and named |" in text
    assert "| ClickHouse | 0 | 0 | not run |" in text


@pytest.mark.parametrize("part", generated.PARTS.values(), ids=generated.PARTS)
def test_each_part_has_its_place_in_the_page_and_its_tests(part: generated.Part) -> None:
    page = (PROJECT / "docs" / "faults.md").read_text(encoding="utf-8")
    begin, end = part.marks
    assert page.count(begin) == page.count(end) == 1
    written = report.between(page, begin, end, "new")
    assert f"{begin}\nnew\n{end}\n" in written
    assert report.between(written, begin, end, page.partition(begin)[2].partition(end)[0].strip()) == page
    for engine in Engine:
        assert part.variable in (PROJECT / "tests" / engine / part.test).read_text(encoding="utf-8")
