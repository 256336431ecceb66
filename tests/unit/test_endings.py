"""How a flow run ended, read from what Prefect keeps of it: its state and its labels, never its message."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flows import endings
from migrator import errors


def run(
    ending: str,
    *,
    name: str = "",
    message: str = "a message that names [lock-held]",
    labels: dict[str, Any] | None = None,
    run_count: int = 1,
) -> Any:
    verdicts = {f"is_{name}": (lambda name=name: name == ending) for name in ("completed", "cancelled", "crashed", "failed")}
    state = SimpleNamespace(name=name or ending.capitalize(), message=message, **verdicts)
    return SimpleNamespace(name="deploy dev", state=state, labels=labels, run_count=run_count)


def cause(code: str, exit_code: int, attempt: int = 1, target: str = "") -> dict[str, Any]:
    return {endings.CODE: code, endings.EXIT_CODE: exit_code, endings.ATTEMPT: attempt, endings.TARGET: target}


@pytest.mark.parametrize("code", list(errors.CODES))
def test_a_failed_run_ends_with_its_causes_exit_code(code: str) -> None:
    exit_code = errors.CODES[code].exit_code
    with pytest.raises(endings.RunFailed) as caught:
        endings.require_completed(run("failed", labels=cause(code, int(exit_code), target="dev/auth-service")))
    error = caught.value
    assert (error.code, error.exit_code, error.transient, error.target) == (code, exit_code, exit_code >= 20, "dev/auth-service")
    assert error.detail == "a message that names [lock-held]"


@pytest.mark.parametrize("labels", [None, {}, {"prefect.flow.id": "x"}, cause("lock-held", 20, attempt=1)])
def test_a_failed_run_that_left_no_cause_or_an_earlier_attempts_ends_with_1(labels: dict[str, Any] | None) -> None:
    found = endings.failure(run("failed", labels=labels, run_count=2))
    assert found is not None and (found.code, found.exit_code) == ("run-failed", 1)


@pytest.mark.parametrize(("ending", "code", "exit_code"), [("crashed", "run-crashed", 21), ("cancelled", "run-cancelled", 23)])
def test_a_run_that_could_not_tell_its_cause_ends_by_its_state(ending: str, code: str, exit_code: int) -> None:
    found = endings.failure(run(ending, labels=cause("sql-rejected", 14)))
    assert found is not None and (found.code, found.exit_code) == (code, exit_code)


def test_a_completed_run_has_no_failure() -> None:
    assert endings.failure(run("completed", labels=cause("sql-rejected", 14))) is None


@pytest.mark.parametrize(
    ("ending", "name", "code", "exit_code"),
    [
        ("completed", "AlreadyProposed", "already-proposed", 24),
        ("completed", "Skipped", "promotion-skipped", 24),
        ("cancelled", "Superseded", "promotion-superseded", 11),
    ],
)
def test_a_promotion_that_gave_way_to_another_one_has_not_promoted(ending: str, name: str, code: str, exit_code: int) -> None:
    found = endings.failure(run(ending, name=name, labels=cause(code, exit_code)))
    assert found is not None and (found.code, found.exit_code) == (code, exit_code)


def test_a_promotion_with_nothing_to_do_has_completed() -> None:
    assert endings.failure(run("completed", name="NothingToDo")) is None


def test_a_run_without_a_state_has_failed() -> None:
    found = endings.failure(SimpleNamespace(name="x", state=None, labels={}, run_count=0))  # type: ignore[arg-type]
    assert found is not None and found.code == "run-failed"


@pytest.mark.parametrize(
    ("code", "exit_code", "expected"),
    [
        ("of-tomorrow", 14, ("sql-rejected", 14)),
        ("of-tomorrow", 99, ("run-failed", 1)),
        (None, "14", ("run-failed", 1)),
        (["x"], True, ("run-failed", 1)),
    ],
)
def test_a_cause_that_this_version_does_not_know_is_known_by_its_exit_code(code: Any, exit_code: Any, expected: tuple[str, int]) -> None:
    found = endings.failure(run("failed", labels=cause(code, exit_code)))
    assert found is not None and (found.code, found.exit_code) == expected


def test_of_several_failures_the_one_that_no_retry_mends_decides() -> None:
    locked, gone = errors.LockUnavailable("x"), errors.Unavailable("y")
    rejected, unproven = errors.StatementRejected("z"), errors.VerificationFailed("u", code="unproven")
    assert endings.decisive([("a", locked), ("b", gone)]) == ("a", locked)
    assert endings.decisive([("a", locked), ("b", rejected), ("c", unproven)]) == ("b", rejected)


def test_outside_of_a_run_there_is_nothing_to_write_to() -> None:
    state = endings.failed(errors.PlanRefused("no", hint="do"))
    assert state.is_failed() and state.message == "no [plan-refused]\nhint: do"
