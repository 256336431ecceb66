"""The version table as data (goose.md §4.4)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from migrator.planning.history import Fact, History, Row
from migrator.targets import Engine

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def row(version: int, identity: str, *, applied: bool = True, later: int = 0) -> Row:
    return Row(version, applied, MOMENT + timedelta(seconds=later), identity)


def test_the_current_version_skips_rows_that_an_old_goose_marked_as_rolled_back() -> None:
    past = History(Engine.POSTGRES, True, (row(3, "4", applied=False), row(3, "3"), row(2, "2"), row(0, "1")))
    assert past.current == 2
    assert past.versions == {0, 2, 3}


def test_an_absent_table_stands_at_zero_and_an_empty_one_nowhere() -> None:
    assert History(Engine.POSTGRES, False).current == 0
    assert History(Engine.POSTGRES, True).current == -1


def test_a_fact_whose_row_is_gone_is_ignored() -> None:
    fact = Fact(2, "2", "2_x.sql", "aa", 1, "bb", b"", "run", "me", MOMENT, 0.1)
    assert History(Engine.POSTGRES, True, (row(2, "2"),), (fact,)).living_facts == {2: fact}
    replaced = History(Engine.POSTGRES, True, (row(2, "7"),), (fact,))
    assert replaced.living_facts == {}
    assert replaced.unproven == (2,)


def test_status_shows_the_newest_row_by_time() -> None:
    past = History(Engine.CLICKHOUSE, True, (row(2, "a"), row(2, "b", applied=False, later=5)))
    assert past.newest_rows[2].identity == "b"
    assert past.applied == ()
