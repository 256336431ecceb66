"""How long something lives and when something is to be done about it."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tasks.credentials.terms import Term

SECONDS = st.floats(min_value=0.1, max_value=1e6)


@given(SECONDS, SECONDS)
def test_a_third_of_a_life_is_left_when_it_is_due(now: float, seconds: float) -> None:
    term = Term.granted(now, seconds, renewable=True)
    assert not term.over(term.due) and term.over(term.ends)
    assert math.isclose(term.ends - term.due, seconds / 3, rel_tol=1e-6, abs_tol=1e-6)


@given(SECONDS, SECONDS, st.floats(min_value=0.01, max_value=2))
def test_a_life_is_worn_once_a_renewal_gave_less_than_half(now: float, seconds: float, part: float) -> None:
    term = Term.granted(now, seconds, renewable=True)
    assert not term.worn
    assert term.renewed(term.due, seconds * part).worn is (seconds * part < seconds / 2)


@given(SECONDS, SECONDS)
def test_what_cannot_be_renewed_is_replaced(now: float, seconds: float) -> None:
    assert Term.granted(now, seconds, renewable=False).worn


@given(SECONDS)
def test_nought_seconds_are_for_ever(now: float) -> None:
    term = Term.granted(now, 0, renewable=True)
    assert term.due == term.ends == math.inf and not term.worn and not term.over(1e12)
