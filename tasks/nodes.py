"""A step as a node of a run's graph: the Prefect task around a plain function, the same for every step (architecture.md §3.1).

    @nodes.node("count rows")
    def count_rows(target: Target) -> int: ...

`count_rows(target)` in a flow is then a node named after its target, retried as a Job's pods are: only after transient errors, with a Job's delays, and
nowhere else (`backoff`). Its result is never stored (a stored result is a pickle, with the password in it, prefect.md §11) nor taken from another run.
What it fails with is logged with its hint, and reaches Prefect, which stores it, only as a clean copy.

A run can have other limits: `steps.run_migration.with_options(**backoff.policy(limit, base, deadline))(…)`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger

from migrator import errors
from tasks import backoff, redaction

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def node(name: str, verb: str = "") -> Callable[[Callable[Parameters, Result]], Task[Parameters, Result]]:
    """Makes a function a step. One of its parameters is the `target`, by which a run of it is named.

    Args:
        name: the step's name in Prefect.
        verb: begins the name of a run where that is shorter than the step's.
    """

    def around(function: Callable[Parameters, Result]) -> Task[Parameters, Result]:
        @functools.wraps(function)
        def step(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            with reported():
                return function(*args, **kwargs)

        label = f"{verb or name} {{target.label}}"
        return task(name=name, task_run_name=label, cache_policy=NO_CACHE, persist_result=False, **backoff.policy())(step)

    return around


@contextmanager
def reported() -> Iterator[None]:
    """Logs a failure with its hint, and raises only a clean copy of it, because Prefect stores the text and that of a chained cause."""
    try:
        yield
    except errors.GreylagError as error:
        clean = redaction.sanitised(error)
        get_run_logger().error("%s", clean)
    except Exception as error:  # noqa: BLE001 - whatever it is, its text must be cleaned before it is stored
        get_run_logger().exception("%s: an unexpected error", type(error).__name__)
        clean = redaction.sanitised(error)
    else:
        return
    raise clean from None


def remaining(deadline: float) -> float:
    """Returns the seconds that are left of all attempts of the running step together."""
    context = TaskRunContext.get()
    return backoff.remaining(context.task_run.start_time if context else None, deadline)


def run_id() -> str:
    """Returns the task run's id without dashes, by which application_name, journal and facts name this run; empty outside of one."""
    context = TaskRunContext.get()
    return context.task_run.id.hex if context else ""
