"""A Job's backoffLimit, delays and deadline, as the retry policy of a task; and the error table as its podFailurePolicy."""

from __future__ import annotations

import inspect
import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from tasks import backoff


def all_errors() -> list[type[errors.GreylagError]]:
    return [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, errors.GreylagError)]


def asked(error: object, *, attempt: int = 1, started: float = 0.0, limit: int = 3, deadline: float = 900.0) -> bool:
    run = SimpleNamespace(run_count=attempt, start_time=datetime.now(UTC) - timedelta(seconds=started), id="x", name="x", flow_run_id=None)
    task = SimpleNamespace(name="run migration")
    return backoff.condition(limit, 10.0, deadline)(task, run, SimpleNamespace(data=error))


def test_backoff_limit_3_waits_10_20_and_40_seconds() -> None:
    assert backoff.delays(3) == [10.0, 20.0, 40.0]


def test_delays_are_capped_at_six_minutes() -> None:
    assert backoff.delays(8) == [10, 20, 40, 80, 160, 320, 360, 360]


def test_backoff_limit_0_is_a_single_attempt() -> None:
    assert backoff.delays(0) == []
    assert backoff.policy(0)["retries"] == 0


def test_a_limit_above_fifty_keeps_its_retries_and_prefects_longest_list() -> None:
    found = backoff.policy(200)
    assert found["retries"] == 200
    assert len(found["retry_delay_seconds"]) == 50
    assert found["retry_delay_seconds"][-1] == 360


@given(st.integers(0, 2000), st.floats(0, 1000, allow_nan=False))
def test_delays_never_shrink_and_never_pass_the_cap(limit: int, base: float) -> None:
    found = backoff.delays(limit, base)
    assert found == sorted(found)
    assert all(0 <= item <= backoff.LONGEST_DELAY for item in found)
    assert len(found) == min(limit, backoff.LONGEST_LIST)


@pytest.mark.parametrize(("limit", "base"), [(-1, 10.0), (3, -1.0)])
def test_negative_numbers_are_refused(limit: int, base: float) -> None:
    with pytest.raises(errors.UsageError) as caught:
        backoff.delays(limit, base)
    assert caught.value.code == "bad-backoff"


def test_the_condition_is_a_plain_function_because_prefect_388_takes_nothing_else() -> None:
    assert inspect.isfunction(backoff.policy(3)["retry_condition_fn"])


@pytest.mark.parametrize("kind", all_errors())
def test_every_error_class_is_retried_exactly_when_the_table_says_transient(kind: type[errors.GreylagError]) -> None:
    assert asked(kind("x")) is (kind.exit_code in errors.TRANSIENT)


@pytest.mark.parametrize(
    "error", [TypeError("x"), AssertionError(), KeyError("x"), ZeroDivisionError(), NotImplementedError(), ImportError()]
)
def test_programming_errors_are_not_retried(error: Exception) -> None:
    assert not asked(error)


@pytest.mark.parametrize("error", [OSError("x"), RuntimeError("x"), ConnectionResetError(), TimeoutError(), ValueError("not JSON")])
def test_unknown_errors_count_as_a_job_counts_them(error: Exception) -> None:
    assert asked(error)


def test_a_state_without_an_exception_is_retried() -> None:
    assert asked(None)


def test_no_attempt_begins_after_the_deadline() -> None:
    transient = errors.Unavailable("x")
    assert asked(transient, started=880.0)  # 880 + 10 s are within 900
    assert not asked(transient, started=891.0)
    assert not asked(transient, attempt=3, started=870.0)  # the third delay is 40 s


def test_the_reason_names_what_kubernetes_would() -> None:
    error = errors.Unavailable("x")

    def why(**given: Any) -> str:
        return backoff.refusal(given.pop("error", error), **({"attempt": 1, "elapsed": 0, "limit": 3, "base": 10, "deadline": 900} | given))

    assert why() == ""
    assert "BackoffLimitExceeded, 4 attempts" in why(attempt=4)
    assert "DeadlineExceeded" in why(elapsed=899)
    assert "wrong-database is permanent" in why(error=errors.NotFound("x", code="wrong-database"))


@pytest.mark.parametrize("state", [object(), SimpleNamespace(data=object()), SimpleNamespace()])
def test_the_condition_never_raises_and_then_retries(state: object) -> None:
    run = SimpleNamespace(run_count="many", start_time="yesterday")
    assert backoff.condition(3, 10.0, 900.0)(None, run, state) is True


def test_the_condition_says_why_it_does_not_retry(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "_logger", lambda task, task_run: logging.getLogger("test.backoff"))
    with caplog.at_level(logging.ERROR):
        assert not asked(errors.StatementRejected("x"))
    assert "sql-rejected is permanent" in caplog.text


def test_what_remains_of_the_deadline_counts_from_the_first_attempt() -> None:
    start = datetime.now(UTC) - timedelta(seconds=100)
    assert 799 < backoff.remaining(start, 900) <= 800
    assert backoff.remaining(start, 50) == 0
    assert backoff.remaining(None, 900) == 900
