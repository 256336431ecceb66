"""How a flow run ended, as data: written to the run by the flow that fails, read by whoever waits for it, a flow or the command (promises.md §1).

Prefect keeps two things of a failed run: a message for people, and a pickle, which nobody may open. The cause goes into the run's labels (prefect.md
§8), which are JSON, set before the state is, and read with it in one request. A run of many services carries the cause that decides (`decisive`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from migrator import codes, errors
from tasks import promotions

if TYPE_CHECKING:
    from prefect import State
    from prefect.client.schemas.objects import FlowRun

CODE = "greylag.code"
EXIT_CODE = "greylag.exit-code"
TARGET = "greylag.target"
"""Where it happened: `dev`, or `dev/auth-service`."""

ATTEMPT = "greylag.attempt"
"""The run's `run_count` when the cause was written: after the UI's Retry the labels of the earlier attempt are still there."""

HINT = "see that run in the UI; after the cause is gone, start it again with the same parameters"


class RunFailed(errors.Relayed):
    """A flow run that did not complete: code and exit code are its cause's, the detail is its own message.

    Attributes:
        target: the environment or the service that it failed for; empty where that is not known.
    """

    code = "run-failed"
    target = ""


def failed(error: errors.GreylagError, *, target: str = "", message: str = "") -> State[Any]:
    """The state for the running flow to end in, after its cause was written to the run.

    Args:
        target: what it failed for; that of a `RunFailed` where it is empty.
        message: what people read; the error in full where it is empty.
    """
    from prefect.states import Failed

    _write(error, target or getattr(error, "target", ""))
    return Failed(message=message or error.describe())


def gave_way(error: promotions.AlreadyProposed | promotions.Skipped | promotions.Superseded) -> State[Any]:
    """The state for the running promotion to end in, in favour of another one: it has not failed, and not promoted."""
    from prefect.states import Cancelled, Completed

    _write(error, "")
    if isinstance(error, promotions.Superseded):
        return Cancelled(name=promotions.Ending.SUPERSEDED, message=error.describe())
    already = isinstance(error, promotions.AlreadyProposed)
    return Completed(name=promotions.Ending.ALREADY_PROPOSED if already else promotions.Ending.SKIPPED, message=error.describe())


def decisive(causes: Iterable[tuple[str, errors.GreylagError]]) -> tuple[str, errors.GreylagError]:
    """The target and the error that stand for several failures: the first that no retry mends, else the first."""
    found = list(causes)
    return next((item for item in found if item[1].exit_code not in errors.TRANSIENT), found[0])


def require_completed(run: FlowRun) -> None:
    """Raises RunFailed where a run ended otherwise. A cancelled run did not deploy (prefect.md §3)."""
    error = failure(run)
    if error is not None:
        raise error


def failure(run: FlowRun) -> RunFailed | None:
    """Why an ended run did not complete; None where it did. A promotion that gave way to another one has not done what it was started for.

    A run that lost its process could write nothing, and one that was cancelled ended before its cause, so their state decides.
    """
    state = run.state
    gave_way = state is not None and state.name in promotions.GAVE_WAY
    if state is not None and state.is_completed() and not gave_way:
        return None
    labels = run.labels or {}
    code, target = RunFailed.code, ""
    if state is not None and state.is_cancelled() and not gave_way:
        code = "run-cancelled"
    elif state is not None and state.is_crashed():
        code = "run-crashed"
    elif labels.get(ATTEMPT) == run.run_count:
        code = codes.recognised(labels.get(CODE), labels.get(EXIT_CODE), otherwise=RunFailed.code)
        target = str(labels.get(TARGET) or "")
    ending = str(state.name).lower() if state is not None else "without a state"
    detail = (state.message or "") if state is not None else ""
    error = RunFailed(f"{run.name} ended {ending}", code=code, detail=detail, hint=HINT)
    error.target = target
    return error


def _write(error: errors.GreylagError, target: str) -> None:
    """Writes the cause to the running flow's labels. Where the server does not take it, the run fails all the same, without a cause."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.context import FlowRunContext

    from flows import labels

    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    run_id = context.flow_run.id
    try:
        with get_client(sync_client=True) as client:
            attempt = client.read_flow_run(run_id).run_count  # the context's own is of before the run began
            cause: dict[str, bool | int | float | str] = {
                CODE: error.code,
                EXIT_CODE: int(error.exit_code),
                TARGET: target,
                ATTEMPT: attempt,
            }
            client.update_flow_run_labels(run_id, cause)
    except httpx.HTTPError as problem:
        labels.logger().warning("the cause could not be written to the run: %s", type(problem).__name__)
