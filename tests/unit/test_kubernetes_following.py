"""Following by reading: what an API server may do between two looks, and when it is believed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from tasks.kubernetes import following
from tasks.kubernetes.following import Unanswered

AWAY = errors.Unavailable("away", code="kube-unreachable")
FORBIDDEN = errors.LoginFailed("forbidden", code="kube-forbidden")


class Time:
    """A clock that only moves while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> float:
        return self.now


def scripted(*steps: Any) -> Callable[[], Any]:
    """Looks that see one step after the other, the last one for ever; a fault is raised."""
    left = list(steps)

    def look() -> Any:
        step = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(step, Exception):
            raise step
        return step

    return look


def followed(*steps: Any, limit: float = 60.0, every: float = 1.0) -> list[Any]:
    time = Time()
    return list(following.follow(scripted(*steps), every=every, limit=limit, sleep=time.sleep, clock=time.clock))


def test_each_look_is_handed_on_until_the_one_at_the_limit() -> None:
    found = followed("a", "b", "c", limit=10)
    assert found[:3] == ["a", "b", "c"] and 9 <= len(found) <= 14
    assert followed("a", limit=0) == ["a"]


def test_a_server_that_is_away_is_told_with_how_long_it_has_been() -> None:
    found = followed("a", AWAY, AWAY, AWAY, "b", AWAY, "c")
    assert [item if isinstance(item, str) else item.fault.message for item in found[:7]] == ["a", "away", "away", "away", "b", "away", "c"]
    silent = [item.silent for item in found if isinstance(item, Unanswered)]
    assert silent[0] == 0 and silent[1] > 1.5 and silent[2] > 4 and silent[3] == 0


def test_a_refusal_at_the_first_look_is_believed_at_once() -> None:
    with pytest.raises(errors.LoginFailed):
        followed(FORBIDDEN)


@pytest.mark.parametrize("before", ["allowed", AWAY], ids=["of what was just allowed", "after an absence"])
def test_a_refusal_that_passes_is_an_authorizer_that_has_not_read_its_roles(before: Any) -> None:
    assert "b" in followed(before, FORBIDDEN, FORBIDDEN, "b")


@pytest.mark.parametrize("before", ["allowed", AWAY], ids=["of what was just allowed", "after an absence"])
def test_bad_flow_a_refusal_that_stays_is_believed(before: Any) -> None:
    with pytest.raises(errors.LoginFailed):
        followed(before, FORBIDDEN)


def test_bad_flow_any_other_error_goes_through_at_once() -> None:
    for error in (errors.UsageError("no"), errors.NotFound("none"), ValueError("a mistake")):
        with pytest.raises(type(error)):
            followed("a", error)


@given(st.lists(st.booleans(), max_size=60), st.floats(0.01, 30))
def test_every_state_that_stays_is_seen_however_often_the_server_is_away(answers: list[bool], every: float) -> None:
    """The last state is the one that a follower ends with, whatever was in between."""
    found = followed(
        *(f"state {number}" if answered else AWAY for number, answered in enumerate(answers)), "last", every=every, limit=10_000
    )
    assert found[len(answers)] == "last"


def test_a_single_call_is_made_again_for_a_while_and_at_once_no_more_after_a_refusal() -> None:
    time = Time()
    assert following.patiently(scripted(AWAY, AWAY, "done"), sleep=time.sleep, clock=time.clock) == "done"
    with pytest.raises(errors.LoginFailed):
        following.patiently(scripted(FORBIDDEN), sleep=time.sleep, clock=time.clock)
    with pytest.raises(errors.Unavailable):
        following.patiently(scripted(AWAY), seconds=-1.0, sleep=time.sleep, clock=time.clock)
    began = time.now
    with pytest.raises(errors.Unavailable):
        following.patiently(scripted(AWAY), 30.0, sleep=time.sleep, clock=time.clock)
    assert 30.0 <= time.now - began < 31.0


def test_the_pauses_grow_while_nobody_answers_and_end_at_ten_seconds() -> None:
    for faults, seconds in ((0, 3), (1, 6), (2, 10), (99, 10)):
        assert seconds * 0.8 <= following.pause(3, faults) <= seconds * 1.2
    assert all(following.pause(30.0, faults) >= 24 for faults in range(3))


def test_the_pauses_of_two_followers_differ() -> None:
    assert len({following.pause(3.0) for _ in itertools.repeat(None, 20)}) > 1
