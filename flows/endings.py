"""The end of a flow run as data: written to the run by the flow that fails, read by the flow or the command that waits for it (promises.md §1).

Prefect keeps two things of a failed run: a message for people, and a pickle, which must not be opened. So the cause is stored in the run's labels
(prefect.md §8): they are JSON, set before the state is, and read with it in one request. A run of many services carries the cause that decides (`decisive`).
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
"""The place of the failure: `dev`, or `dev/auth-service`."""

ATTEMPT = "greylag.attempt"
"""The run's `run_count` when the cause was written, because labels of an earlier attempt are still there after the UI's Retry."""

REFUSED = "release.refused"
"""The event of a run that was refused: nobody approved it, what was approved is something else, it can't be proven."""

HINT = "see that run in the UI; after the cause is gone, start it again with the same parameters"


class RunFailed(errors.Relayed):
    """A flow run that did not complete: its code and exit code are the cause's, its detail is the run's own message.

    Attributes:
        target: the environment or the service that it failed for; empty when that is not known.
    """

    code = "run-failed"
    target = ""


def failed(error: errors.GreylagError, *, target: str = "", message: str = "") -> State[Any]:
    """Writes the cause to the running flow's run, and returns the state for it to end in; a refusal is an event, too (`REFUSED`).

    Args:
        target: the environment or service that failed; when it is empty, that of a `RunFailed` is taken.
        message: the text for people; when it is empty, the error in full.
    """
    from prefect.states import Failed

    place = target or getattr(error, "target", "")
    _write(error, place)
    if error.exit_code == errors.ExitCode.REFUSED:
        _emit_refusal(error, place)
    return Failed(message=message or error.describe())


def gave_way(error: promotions.AlreadyProposed | promotions.Skipped | promotions.Superseded) -> State[Any]:
    """Writes the cause to the running promotion, and returns the state for it to end in, in favour of another one: it neither failed nor promoted."""
    from prefect.states import Cancelled, Completed

    _write(error, "")
    if isinstance(error, promotions.Superseded):
        return Cancelled(name=promotions.Ending.SUPERSEDED, message=error.describe())
    already = isinstance(error, promotions.AlreadyProposed)
    return Completed(name=promotions.Ending.ALREADY_PROPOSED if already else promotions.Ending.SKIPPED, message=error.describe())


def noted(note: str) -> str:
    """Returns the end of a message that carries a note, which may be empty."""
    return f" ({note})" if note else ""


def reason(error: errors.GreylagError) -> str:
    """Returns what a table and a list of runs show of a failure: of a run that failed its own cause, not that it failed."""
    detail = error.detail.strip() if isinstance(error, RunFailed) else ""
    return detail.partition("\n")[0] or error.message


def decisive(causes: Iterable[tuple[str, errors.GreylagError]]) -> tuple[str, errors.GreylagError]:
    """Returns the target and the error that stand for several failures: the first that no retry can solve, else the first."""
    found = list(causes)
    return next((item for item in found if item[1].exit_code not in errors.TRANSIENT), found[0])


def require_completed(run: FlowRun) -> None:
    """Raises RunFailed when a run ended otherwise. A cancelled run did not deploy (prefect.md §3)."""
    error = failure(run)
    if error is not None:
        raise error


def failure(run: FlowRun) -> RunFailed | None:
    """Returns the reason why an ended run did not complete; None when it did. A promotion that gave way to another one did not complete.

    A run that lost its process could write no cause, and one that was cancelled ended before it could, so for these the state decides.
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


def _emit_refusal(error: errors.GreylagError, target: str) -> None:
    """Emits the event of a refused run, about the environment that it was for."""
    from prefect.runtime import flow_run as current

    from flows import reports

    environment = target.partition("/")[0]
    relayed = isinstance(error, errors.Relayed) and error.detail  # the words of the run that refused, not "it ended failed"
    if not (environment and current.id):
        return
    reports.emit(
        REFUSED,
        f"greylag.release.{environment}",
        f"release in {environment}",
        environment=environment,
        target=target,
        code=error.code,
        reason=relayed or error.message,
        run=str(current.id),
    )


def _write(error: errors.GreylagError, target: str) -> None:
    """Writes the cause to the running flow's labels. If the server does not accept it, the run still fails, but without a cause."""
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
            attempt = client.read_flow_run(run_id).run_count  # the context's own count dates from before the run began
            cause: dict[str, bool | int | float | str] = {
                CODE: error.code,
                EXIT_CODE: int(error.exit_code),
                TARGET: target,
                ATTEMPT: attempt,
            }
            client.update_flow_run_labels(run_id, cause)
    except httpx.HTTPError as problem:
        labels.logger().warning("the cause could not be written to the run: %s", type(problem).__name__)
