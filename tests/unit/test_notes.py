"""`-- greylag:` lines: what they may say, and that a slip is an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from migrator.goose import annotations as migration_text
from migrator.goose import notes

UP = "-- +goose Up\n"


def test_good_flow_a_file_says_what_it_needs() -> None:
    text = UP + "-- greylag: lock-timeout 500ms\n--greylag:lock-budget 2m\nSELECT 1;\r\n"
    text += "  -- greylag: statement-timeout 1.5h\r\n-- greylag: oldest-app 20260801120000\n"
    parsed = migration_text.parse(text)
    assert parsed.notes == notes.Notes(lock_timeout=0.5, lock_budget=120.0, statement_timeout=5400.0, oldest_app=20260801120000)
    assert migration_text.parse(text, "down").notes == parsed.notes
    assert [item.text for item in parsed.statements] == ["SELECT 1;"]


def test_a_file_without_notes_says_nothing() -> None:
    assert migration_text.parse(UP + "-- the greylag goose: a bird\nSELECT 'greylag: x';\n").notes == notes.Notes()


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("-- greylag: lock-timout 2s", 'unknown note "lock-timout"', "did you mean `-- greylag: lock-timeout 2s`?"),
        ("-- greylag: lock_timeout 2s", 'unknown note "lock_timeout"', "did you mean `-- greylag: lock-timeout 2s`?"),
        ("-- Greylag: oldest-app", "the note oldest-app can't be \"\"", "`-- greylag: oldest-app 20260801120000`"),
        ("-- greylag: Oldest-App 5", 'unknown note "Oldest-App"', "did you mean `-- greylag: oldest-app 5`?"),
        ("-- greylag:", 'unknown note ""', "notes are: lock-timeout, lock-budget, statement-timeout, oldest-app"),
        ("-- greylag: lock-timeout 2", "the note lock-timeout can't be \"2\"", "ms, s, m or h"),
        ("-- greylag: lock-timeout 2 s", "the note lock-timeout can't be \"2 s\"", "2s"),
        ("-- greylag: lock-timeout -2s", "the note lock-timeout can't be \"-2s\"", "2s"),
        ("-- greylag: lock-timeout \u0662s", "the note lock-timeout can't be \"\u0662s\"", "2s"),
        ("-- greylag: statement-timeout 99h", "the note statement-timeout can't be \"99h\"", "a day at most"),
        ("-- greylag: oldest-app v5", "the note oldest-app can't be \"v5\"", "20260801120000"),
        ("-- greylag: oldest-app 0", "the note oldest-app can't be \"0\"", "20260801120000"),
        ("-- greylag: oldest-app 9223372036854775808", "the note oldest-app can't be \"9223372036854775808\"", "20260801120000"),
    ],
)  # fmt: skip
def test_bad_flow_a_slip_is_an_error_with_line_and_remedy(line: str, message: str, hint: str) -> None:
    with pytest.raises(errors.ParseError) as caught:
        migration_text.parse(f"{UP}SELECT 1;\n{line}\n", path="1_x.sql")
    assert str(caught.value) == message
    assert caught.value.where == errors.Location("1_x.sql", 3)
    assert hint in caught.value.hint


def test_bad_flow_a_note_that_stands_twice_is_an_error() -> None:
    with pytest.raises(errors.ParseError, match="twice") as caught:
        migration_text.parse(UP + "-- greylag: lock-timeout 2s\n-- greylag: lock-timeout 3s\n")
    assert caught.value.where == errors.Location("", 3)


@given(st.integers(1, 86_400_000))
def test_every_duration_up_to_a_day_is_kept(milliseconds: int) -> None:
    found = notes.parse(f"-- greylag: lock-budget {milliseconds}ms\n".encode())
    assert found.lock_budget == pytest.approx(milliseconds / 1000)
