"""A Job's retry rules for Prefect tasks: backoffLimit, the growing delays, activeDeadlineSeconds, and the errors that are never retried.

Kubernetes recreates a failed pod after 10, 20, 40 s …, capped at 6 minutes, and gives up when more than backoffLimit have failed: backoffLimit 3
is 4 attempts (kubernetes.md §1.1). `migrator.errors` says which errors another attempt can help with; the Job's podFailurePolicy is made of the same table.
Two things differ from a Job: the attempts share a process, so each opens its own connections; and a killed process loses the count.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from migrator import errors

FIRST_DELAY = 10.0
"""Seconds; Kubernetes' DefaultJobPodFailureBackOff."""

LONGEST_DELAY = 360.0
"""Seconds. The delays grow no further, as Kubernetes documents it."""

LONGEST_LIST = 50
"""Prefect refuses a longer list of delays and repeats the last entry. At this length every further delay is the longest one (prefect.md §2)."""

PROGRAMMING_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    SyntaxError,
    TypeError,
)
"""Mistakes in code or configuration, which the next attempt would repeat. Every other unknown error is retried, as Kubernetes does by default."""

Condition = Callable[[Any, Any, Any], bool]


def delays(limit: int, base: float = FIRST_DELAY) -> list[float]:
    """Returns the seconds before each retry: base · 2^n, never more than `LONGEST_DELAY`; 10, 20, 40 for a limit of 3.

    Raises UsageError (`bad-backoff`) for a negative limit or base.
    """
    if limit < 0 or base < 0:
        raise errors.UsageError(
            f"backoffLimit {limit} with a first delay of {base:g} s is not possible", code="bad-backoff", hint="give 0 or more"
        )
    # the exponent is bounded: a larger one would overflow, and the cap is reached long before
    return [min(base * 2.0 ** min(count, 64), LONGEST_DELAY) for count in range(min(limit, LONGEST_LIST))]


def permanent(error: BaseException) -> bool:
    """Tells whether another attempt can't help: the error table says so, or it is a programming error."""
    if isinstance(error, errors.GreylagError):
        return not error.transient
    return isinstance(error, PROGRAMMING_ERRORS)


def refusal(error: BaseException | None, *, attempt: int, elapsed: float, limit: int, base: float, deadline: float) -> str:
    """Says in words why there is no further attempt; returns an empty text when there is one.

    Args:
        attempt: the attempt that just failed, from 1.
        elapsed: seconds since the first attempt began.
        deadline: seconds for all attempts together; a retry that would begin later is not made.
    """
    if error is not None and permanent(error):
        return f"not retried: {_code(error)} is permanent, another attempt would fail the same way"
    if attempt > limit:
        return f"not retried: BackoffLimitExceeded, {attempt} attempts failed"
    waits = delays(limit, base)
    delay = waits[min(attempt, len(waits)) - 1] if waits else 0.0
    if elapsed + delay >= deadline:
        return f"not retried: DeadlineExceeded, the next attempt would begin after activeDeadlineSeconds ({deadline:g} s)"
    return ""


def policy(limit: int = 3, base: float = FIRST_DELAY, deadline: float = 900.0) -> dict[str, Any]:
    """Returns the options of a task: `task.with_options(**policy(3))`.

    Args:
        limit: backoffLimit. base: the first delay in seconds. deadline: activeDeadlineSeconds, over all attempts.
    """
    return {
        "retries": limit,
        "retry_delay_seconds": delays(limit, base),
        "retry_condition_fn": condition(limit, base, deadline),
    }


def condition(limit: int, base: float, deadline: float) -> Condition:
    """Returns Prefect's `retry_condition_fn`: a plain function, because 3.8.8 silently never retries with any other callable (prefect.md §1).

    The function never raises, because Prefect takes an exception here for "don't retry". It logs its reason itself, because Prefect logs none.
    """

    def retry(task: Any, task_run: Any, state: Any) -> bool:
        try:
            error = _failure(state)
            reason = refusal(
                error,
                attempt=int(getattr(task_run, "run_count", 1) or 1),
                elapsed=_elapsed(getattr(task_run, "start_time", None)),
                limit=limit,
                base=base,
                deadline=deadline,
            )
            if reason:
                _logger(task, task_run).error("%s", reason)
        except Exception:  # noqa: BLE001 - a fault in here must not cost the retries
            return True
        return not reason

    return retry


def remaining(start: datetime | None, deadline: float) -> float:
    """Returns the seconds of the deadline that are left for an attempt, counted from the first attempt's start; never below 0."""
    return max(deadline - _elapsed(start), 0.0)


def _elapsed(start: datetime | None) -> float:
    return (datetime.now(UTC) - start).total_seconds() if start is not None else 0.0


def _failure(state: Any) -> BaseException | None:
    data = getattr(state, "data", None)
    if isinstance(data, BaseException):
        return data
    if data is None:
        return None
    found = state.result(raise_on_failure=False)
    return found if isinstance(found, BaseException) else None


def _code(error: BaseException) -> str:
    return error.code if isinstance(error, errors.GreylagError) else type(error).__name__


def _logger(task: Any, task_run: Any) -> logging.Logger | logging.LoggerAdapter[Any]:
    from prefect.logging.loggers import task_run_logger

    return task_run_logger(task_run, task)
