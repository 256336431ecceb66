"""Where a migration resumes, decided from journal entries alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from migrator.goose.statements import Statement
from migrator.planning import files, journal, refusals
from migrator.planning.journal import Entry, Resume, State
from migrator.planning.plans import Plan, Step
from migrator.targets import Direction, Engine, Mode, Target, Verb

START = datetime(2026, 3, 1, tzinfo=UTC)


def _step(*sources: str, direction: Direction = Direction.UP) -> Step:
    statements = tuple(Statement(source, source, line, line) for line, source in enumerate(sources, start=1))
    return Step(7, "00007_x.sql", "migrations/00007_x.sql", direction, Mode.CLICKHOUSE, statements, "checksum", 1)


def _entry(step: Step, index: int, state: State, seconds: int = 0, *, run: str = "first", digest: str | None = None) -> Entry:
    known = journal.digest(step.statements[index - 1], step.direction) if digest is None else digest
    return Entry(run, step.version, step.direction, index, known, state, START + timedelta(seconds=seconds))


def test_nothing_in_the_journal_starts_at_the_first_statement() -> None:
    assert journal.resume([], _step("a", "b")) == Resume(1)


def test_entries_of_another_version_or_direction_do_not_count() -> None:
    up, down = _step("a"), _step("a", direction=Direction.DOWN)
    assert journal.resume([_entry(down, 1, State.DONE)], up) == Resume(1)


def test_done_statements_are_passed_over() -> None:
    step = _step("a", "b", "c")
    entries = [_entry(step, 1, State.DONE), _entry(step, 2, State.DONE)]
    assert journal.resume(entries, step) == Resume(3, None, "first")


def test_begun_statement_is_unknown() -> None:
    step = _step("a", "b")
    entries = [_entry(step, 1, State.DONE), _entry(step, 2, State.PLANNED), _entry(step, 2, State.STARTED, 1)]
    assert journal.resume(entries, step) == Resume(2, 2, "first")


def test_planned_statement_is_unknown_only_where_the_engine_says_so() -> None:
    step = _step("a", "b")
    entries = [_entry(step, 1, State.DONE), _entry(step, 2, State.PLANNED)]
    assert journal.resume(entries, step) == Resume(2, None, "first")
    assert journal.resume(entries, step, planned_may_have_run=True) == Resume(2, 2, "first")


def test_all_done_leaves_only_the_history_row() -> None:
    step = _step("a", "b")
    assert journal.resume([_entry(step, 1, State.DONE), _entry(step, 2, State.DONE)], step).first_index_to_run == 3


def test_statement_known_as_not_done_runs_with_whatever_text_it_has_now() -> None:
    step, corrected = _step("a", "selec 1"), _step("a", "select 1")
    entries = [_entry(step, 1, State.DONE), _entry(step, 2, State.STARTED), _entry(step, 2, State.NOT_DONE, 1)]
    assert journal.resume(entries, corrected) == Resume(2, None, "first")


def test_executed_statement_with_another_text_is_told() -> None:
    step, changed = _step("a", "b"), _step("A", "b")
    assert journal.resume([_entry(step, 1, State.DONE)], changed) == Resume(1, None, "first", 1)
    assert journal.resume([_entry(step, 1, State.STARTED)], changed) == Resume(1, 1, "first", 1)


def test_answer_holds_for_whatever_text_the_file_has() -> None:
    step = _step("a", "b")
    entries = [_entry(step, 1, State.STARTED), _entry(step, 1, State.DONE, 1, digest="")]
    assert journal.resume(entries, step) == Resume(2, None, "first")


def test_later_run_replaces_what_an_earlier_one_wrote() -> None:
    step = _step("a", "b")
    entries = [
        _entry(step, 1, State.DONE),
        _entry(step, 1, State.PLANNED, 60, run="second"),
        _entry(step, 2, State.PLANNED, 60, run="second"),
    ]
    assert journal.resume(entries, step) == Resume(1, None, "second")


def test_digest_tells_text_and_direction_apart_and_nothing_else() -> None:
    first, moved = Statement("x", "a", 1, 1), Statement("y", "a", 9, 9)
    assert journal.digest(first, Direction.UP) == journal.digest(moved, Direction.UP)
    assert journal.digest(first, Direction.UP) != journal.digest(first, Direction.DOWN)
    assert journal.digest(Statement("a", "a\udcff", 1, 1), Direction.UP) != journal.digest(first, Direction.UP)


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(list(State)), st.integers(0, 9)), max_size=30), st.booleans(), st.randoms())
def test_resume_never_passes_over_a_statement_that_is_not_known_to_be_done(
    rows: list[tuple[int, State, int]], planned_may_have_run: bool, chance: object
) -> None:
    step = _step("a", "b", "c", "d", "e")
    entries = [_entry(step, index, state, seconds) for index, state, seconds in rows]
    found = journal.resume(entries, step, planned_may_have_run=planned_may_have_run)
    latest = journal.latest(entries, step.version, step.direction)
    assert all(latest[index].state is State.DONE for index in range(1, found.first_index_to_run))
    if found.first_index_to_run <= 5 and found.first_index_to_run in latest:
        assert latest[found.first_index_to_run].state is not State.DONE
    assert found.unknown_index in (None, found.first_index_to_run)
    shuffled = list(entries)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert journal.resume(shuffled, step, planned_may_have_run=planned_may_have_run) == found


@pytest.mark.parametrize(
    ("entries", "applied", "expected"),
    [
        ([], [], []),
        ([(1, State.DONE), (2, State.NOT_DONE)], [], [journal.Unfinished(7, Direction.UP, 1, unknown=False)]),
        ([(1, State.DONE), (2, State.STARTED)], [], [journal.Unfinished(7, Direction.UP, 1, unknown=True)]),
        ([(1, State.STARTED)], [], [journal.Unfinished(7, Direction.UP, 0, unknown=True)]),
        ([(1, State.PLANNED), (2, State.PLANNED)], [], []),
        ([(1, State.DONE)], [7], []),
    ],
)
def test_what_is_half_way_is_neither_applied_nor_untouched(
    entries: list[tuple[int, State]], applied: list[int], expected: list[journal.Unfinished]
) -> None:
    written = [Entry("run", 7, Direction.UP, index, "", state, datetime(2026, 1, 1, tzinfo=UTC)) for index, state in entries]
    assert journal.unfinished(written, applied) == expected


def test_a_question_can_only_be_open_where_everything_before_is_done() -> None:
    written = [
        Entry("run", 7, Direction.UP, index, "", state, datetime(2026, 1, 1, tzinfo=UTC))
        for index, state in enumerate((State.DONE, State.STARTED, State.PLANNED), start=1)
    ]
    assert [journal.may_be_asked(written, 7, Direction.UP, index) for index in (1, 2, 3, 4)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("going", "version", "direction", "refused"),
    [
        ((3, Direction.DOWN), 4, Direction.UP, True),
        ((3, Direction.DOWN), 3, Direction.DOWN, False),
        ((3, Direction.UP), 4, Direction.UP, False),
        ((3, Direction.DOWN), 2, Direction.DOWN, True),
    ],
)
def test_nothing_is_taken_back_beside_what_is_half_applied(
    going: tuple[int, Direction], version: int, direction: Direction, refused: bool
) -> None:
    step = replace(_step("a"), version=going[0], direction=going[1])
    verb = Verb.DOWN if going[1] is Direction.DOWN else Verb.UP
    plan = Plan(files.MigrationSet("migrations"), Target(verb), Engine.POSTGRES, (step,), 3)
    half_way = [journal.Unfinished(version, direction, 1, True)]
    if not refused:
        refusals.require_finished(plan, half_way)
        return
    with pytest.raises(errors.PlanRefused) as caught:
        refusals.require_finished(plan, half_way)
    assert caught.value.code == "half-applied" and f"-not-done {version}:1" in caught.value.hint
