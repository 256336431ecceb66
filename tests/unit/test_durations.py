"""Go's durations: read as Go reads them, printed as goose prints them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from migrator.goose import durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90s", 90),
        ("1h13m", 4380),
        ("1.5h", 5400),
        ("-1m", -60),
        (".5s", 0.5),
        ("300ms", 0.3),
        ("2µs", 2e-6),
        ("1h2m3.5s", 3723.5),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert durations.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", ".s", "5 s", "5x", "1d", "--5s", "1h 2m", "9999999999h", "５s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(errors.UsageError):
        durations.parse(text)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (1.0149, "1.01s"),
        (0.00266, "2.66ms"),
        (0.00095752, "957.52µs"),
        (62.347, "1m2.35s"),
        (3600, "1h0m0s"),
        (0, "0s"),
        (1.0, "1s"),
        (0.001, "1ms"),
        (5e-7, "500ns"),
    ],
)
def test_durations_are_rounded_to_a_hundredth_of_their_unit(seconds: float, shown: str) -> None:
    assert durations.format_rounded(seconds) == shown


@given(st.integers(-(10**15), 10**15))
def test_what_is_printed_is_read_back(nanoseconds: int) -> None:
    seconds = nanoseconds / 1e9
    assert durations.parse(durations.format_rounded(seconds)) == pytest.approx(seconds, rel=0.01, abs=1e-9)
