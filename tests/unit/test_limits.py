"""The slot of a database's concurrency limit: who holds it decides whether a run waits for it. The database's own lock decides what is right."""

from __future__ import annotations

import pytest

from tasks.limits import UNKNOWN_SECONDS, Course, Holder, course
from tasks.signs_of_life import Life

ALIVE = Holder("deploy-service a dev", Life.ALIVE)
PATIENCE = 300.0


@pytest.mark.parametrize(
    "holder", [Holder("a", Life.ENDED), Holder("a", Life.SILENT), Holder("a", Life.ALIVE, own=True)], ids=["ended", "silent", "own"]
)
def test_nobody_waits_for_a_run_that_will_not_give_the_slot_back(holder: Holder) -> None:
    assert course(1, holder, 0, PATIENCE, 900) is Course.WITHOUT


def test_a_living_run_is_waited_for_and_then_named_as_the_cause() -> None:
    assert course(1, ALIVE, 5, PATIENCE, 900) is Course.WAIT
    assert course(1, ALIVE, PATIENCE, PATIENCE, 900) is Course.HELD


def test_a_deadline_that_is_used_up_is_no_other_runs_fault() -> None:
    assert course(1, ALIVE, 5, PATIENCE, 0) is Course.OUT_OF_TIME


def test_an_unknown_holder_is_waited_for_while_the_event_that_names_it_may_be_on_its_way() -> None:
    assert course(1, None, UNKNOWN_SECONDS - 1, PATIENCE, 900) is Course.WAIT
    assert course(1, None, UNKNOWN_SECONDS, PATIENCE, 900) is Course.WITHOUT
    assert course(1, None, 2, 2, 900) is Course.WITHOUT


@pytest.mark.parametrize("holder", [None, ALIVE, Holder("a", Life.ENDED, long_gone=True)])
def test_a_limit_of_zero_halts_the_database_whoever_holds_it(holder: Holder | None) -> None:
    assert course(0, holder, 0, PATIENCE, 0) is Course.HALTED


def test_a_slot_whose_lease_is_lost_is_given_back_once() -> None:
    gone = Holder("a", Life.ENDED, long_gone=True)
    assert course(1, gone, 0, PATIENCE, 900) is Course.GIVE_BACK
    assert course(1, gone, 0, PATIENCE, 900, given_back=True) is Course.WITHOUT
