"""Which versions run, held against goose's rules (goose.md §6.1, §6.2)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from migrator.planning import selection
from migrator.planning.history import Fact, History, Row
from migrator.targets import Direction, Engine, Target, Verb

MOMENT = datetime(2026, 11, 22, 15, 28, 33, tzinfo=UTC)


def history(*applied: int, engine: Engine = Engine.POSTGRES, facts: tuple[int, ...] = ()) -> History:
    """A history in which the versions were applied in the given order, after row 0."""
    order = [0, *applied]
    rows = [Row(version, True, MOMENT, str(position)) for position, version in enumerate(order)]
    listed = sorted(rows, key=lambda row: -row.version) if engine is Engine.CLICKHOUSE else list(reversed(rows))
    kept = tuple(
        Fact(row.version, row.identity, f"{row.version}_x.sql", "aa", 1, "bb", b"", "run", "me", MOMENT, 0.1)
        for row in rows
        if row.version in facts
    )
    return History(engine, True, tuple(listed), kept)


def ups(*versions: int) -> list[tuple[int, Direction]]:
    return [(version, Direction.UP) for version in versions]


def downs(*versions: int) -> list[tuple[int, Direction]]:
    return [(version, Direction.DOWN) for version in versions]


def chosen(files: list[int], past: History, verb: Verb, version: int = 0, **options: bool) -> list[tuple[int, Direction]]:
    found = selection.select(files, past, Target(verb, version, **options))
    return [(choice.version, choice.direction) for choice in found]


def test_up_runs_what_is_newer_than_the_newest_row() -> None:
    assert chosen([1, 2, 3, 5], history(1, 2), Verb.UP) == ups(3, 5)


def test_up_on_an_absent_table_runs_everything() -> None:
    assert chosen([1, 2], History(Engine.POSTGRES, False), Verb.UP) == ups(1, 2)


def test_up_to_stops_at_its_version() -> None:
    assert chosen([1, 2, 3, 5], history(1), Verb.UP_TO, 3) == ups(2, 3)


def test_up_by_one_takes_the_first() -> None:
    assert chosen([1, 2, 3], history(1), Verb.UP_BY_ONE) == ups(2)


def test_missing_versions_are_found_and_run_first_when_allowed() -> None:
    past = history(1, 4)
    assert selection.missing([1, 2, 3, 4, 6], past, Target(Verb.UP)).versions == (2, 3)
    assert chosen([1, 2, 3, 4, 6], past, Verb.UP, allow_missing=True) == ups(2, 3, 6)


def test_up_to_looks_only_at_files_up_to_its_version_for_missing_ones() -> None:
    assert selection.missing([1, 2, 3, 4], history(1, 4), Target(Verb.UP_TO, 2)).versions == (2,)


def test_down_rolls_back_the_last_applied_on_postgres_and_the_highest_on_clickhouse() -> None:
    assert chosen([1, 2, 3], history(1, 3, 2), Verb.DOWN) == downs(2)
    assert chosen([1, 2, 3], history(1, 3, 2, engine=Engine.CLICKHOUSE), Verb.DOWN) == downs(3)


def test_down_at_zero_ends_as_goose_does() -> None:
    with pytest.raises(errors.AsGoose, match="migration 0: no current version found"):
        chosen([1], history(), Verb.DOWN)


def test_down_without_the_file_ends_as_goose_does_unless_greylag_recorded_it() -> None:
    with pytest.raises(errors.AsGoose, match="migration 2: no current version found"):
        chosen([1], history(1, 2), Verb.DOWN)
    found = selection.select([1], history(1, 2, facts=(2,)), Target(Verb.DOWN))
    assert found == (selection.Choice(2, Direction.DOWN),)


def test_down_to_keeps_its_version() -> None:
    assert chosen([1, 2, 3, 4], history(1, 2, 3, 4), Verb.DOWN_TO, 2) == downs(4, 3)
    assert chosen([1, 2], history(1, 2), Verb.DOWN_TO, 0) == downs(2, 1)


def test_down_to_stops_at_the_first_row_not_above_its_version_even_if_higher_ones_remain() -> None:
    assert chosen([1, 2, 3], history(1, 3, 2), Verb.DOWN_TO, 2) == []


def test_redo_is_down_and_up_of_the_current_version() -> None:
    assert chosen([1, 2], history(1, 2), Verb.REDO) == [(2, Direction.DOWN), (2, Direction.UP)]


def test_reset_rolls_back_all_that_have_files_in_descending_order() -> None:
    assert chosen([1, 2, 4], history(1, 2, 3, 4), Verb.RESET) == downs(4, 2, 1)


def test_reset_without_a_table_ends_as_goose_does() -> None:
    with pytest.raises(errors.AsGoose, match=r'failed to get status of migrations: ERROR: relation "goose_db_version" does not exist'):
        chosen([1], History(Engine.POSTGRES, False), Verb.RESET)


def test_a_table_without_any_applied_row_is_an_error_of_goose() -> None:
    with pytest.raises(errors.AsGoose, match="no next version found"):
        chosen([1], History(Engine.POSTGRES, True), Verb.DOWN)


@pytest.mark.parametrize(
    ("verb", "version", "expected"),
    [
        (Verb.UP, 0, ups(1, 2, 3)),
        (Verb.UP_BY_ONE, 0, ups(1)),
        (Verb.UP_TO, 2, ups(1, 2)),
        (Verb.DOWN, 0, downs(3)),
        (Verb.DOWN_TO, 1, downs(3, 2)),
        (Verb.REDO, 0, [(3, Direction.DOWN), (3, Direction.UP)]),
        (Verb.RESET, 0, downs(3, 2, 1)),
    ],
)
def test_without_versioning_the_history_is_not_looked_at(verb: Verb, version: int, expected: list[tuple[int, Direction]]) -> None:
    assert chosen([1, 2, 3], history(1, 2), verb, version, versioning=False) == expected


versions = st.lists(st.integers(1, 30), unique=True).map(sorted)


@given(versions, st.lists(st.integers(1, 30), unique=True))
def test_up_never_runs_an_applied_version_and_leaves_nothing_pending(files: list[int], applied: list[int]) -> None:
    past = history(*applied)
    run = [version for version, _ in chosen(files, past, Verb.UP, allow_missing=True)]
    assert not set(run) & set(applied)
    assert set(run) | (set(applied) & set(files)) == set(files)
    assert len(run) == len(set(run))


@given(st.lists(st.integers(1, 30), unique=True, min_size=1), st.sampled_from(list(Engine)))
def test_down_to_zero_and_reset_agree_when_every_version_has_its_file(applied: list[int], engine: Engine) -> None:
    past = history(*applied, engine=engine)
    files = sorted(applied)
    assert set(chosen(files, past, Verb.DOWN_TO, 0)) == set(chosen(files, past, Verb.RESET))
