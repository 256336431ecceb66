"""Names of new and renamed files: as goose makes them, proven against the real goose."""

from __future__ import annotations

import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator.cli import names

# Python's Unicode tables may be newer than Go's 15.0: characters that only one of them knows are left out.
LETTERS = st.characters(exclude_categories=("Cs", "Cn"), exclude_characters="\0/\\", max_codepoint=0x2FFF)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("addX", "addx"),
        ("Foo-Bar.baz", "foo_bar_baz"),
        ("foo!!", "foo"),
        ("foo!", "foo_"),
        ("!!foo", "foo"),
        ("a--b", "a_b"),
        ("---", ""),
        ("Äöü 1", "äöü_1"),
    ],
)
def test_snake_case_is_gooses(name: str, expected: str) -> None:
    assert names.snake_case(name) == expected


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=st.text(LETTERS, min_size=1, max_size=12).filter(lambda text: not text.startswith("-")))
def test_any_name_becomes_the_file_that_goose_creates(name: str, tmp_path: Path, goose_binary: Path) -> None:
    for old in tmp_path.iterdir():
        old.unlink()
    subprocess.run([goose_binary, "-dir", tmp_path, "-s", "create", name, "sql"], capture_output=True, check=True)
    created = next(tmp_path.iterdir()).name
    assert unicodedata.normalize("NFC", created) == unicodedata.normalize("NFC", f"00001_{names.snake_case(name)}.sql")


@pytest.mark.parametrize(
    ("version", "timestamp", "sequential"),
    [
        (1, False, True),
        (20260301120000, True, False),
        (20241301000000, False, True),  # no such month
        (19700101000000, False, False),  # exactly the epoch is neither
        (19691231235959, False, True),
        (19700101000001, True, False),
        (202603011200001, False, True),
    ],
)
def test_a_version_is_a_time_or_a_number(version: int, timestamp: bool, sequential: bool) -> None:
    assert names.is_timestamp(version) is timestamp
    assert names.is_sequential(version) is sequential


def test_the_next_number_counts_from_the_last_sequential_version() -> None:
    assert names.next_sequential([1, 7, 20260301120000]) == 8
    assert names.next_sequential([20260301120000]) == 1
    assert names.next_sequential([20241301000000]) == 20241301000001
