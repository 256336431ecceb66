"""Handles the end of a run by Prefect: SIGTERM becomes a TerminationSignal in the main thread, and no other thread learns of it.

So the main thread cancels every open connection of the process (`registry.cancel_all`), and from then on no step is retried and none
begins: a cancelled attempt would otherwise look like a transient failure. A worker's process runs one flow run, so this is never undone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from migrator import errors, registry

_stopping = threading.Event()


@contextmanager
def heeded() -> Iterator[None]:
    """Wraps a flow's work: an interruption (a BaseException that is no Exception) ends the running statements, and is raised again."""
    try:
        yield
    except Exception:
        raise
    except BaseException:
        stop()
        raise


def stop() -> None:
    """Cancels what runs on the servers, and keeps further steps from starting."""
    _stopping.set()
    registry.cancel_all()


def check() -> None:
    """Raises Interrupted once the process is being ended."""
    if _stopping.is_set():
        raise errors.Interrupted("the run is being ended", hint="what was finished is recorded; start it again, or use Retry in the UI")


def policy(options: dict[str, Any]) -> dict[str, Any]:
    """Returns a task's retry options (`backoff.policy`) that never retry once the process is being ended."""
    condition = options["retry_condition_fn"]

    def retry(task: Any, task_run: Any, state: Any) -> bool:  # a plain function: Prefect 3.8.8 ignores other callables (prefect.md §1)
        return not _stopping.is_set() and bool(condition(task, task_run, state))

    return {**options, "retry_condition_fn": retry}
