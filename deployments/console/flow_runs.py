"""Starts runs of deployments through Prefect's API and follows them: their log lines as they come, and at the end their cause's exit code."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from deployments.console import edge
from migrator import errors
from migrator.cli import calls

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

POLL_SECONDS = 1.0
"""A run takes minutes; a request a second is nothing to the server."""

UNSTARTED_SECONDS = 30.0
"""A process worker polls every 10 s by default: after three of them it is worth asking whether there is one."""

LOGS_PER_REQUEST = 200
"""The API's own maximum."""

INFO = 20


@contextmanager
def connected() -> Iterator[SyncPrefectClient]:
    """Opens a client of the configured Prefect server.

    Raises Unavailable (`prefect-unavailable`), UsageError (`prefect-address`).
    """
    import httpx
    from prefect.client.orchestration import get_client

    require_configured()
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPStatusError as error:
        raise _refused(error) from None
    except (httpx.TransportError, httpx.InvalidURL):
        raise errors.Unavailable(
            "the Prefect server does not answer", code="prefect-unavailable", hint="is it running? PREFECT_API_URL names it"
        ) from None


def require_configured() -> None:
    """Raises UsageError (`prefect-address`) where no Prefect server is configured."""
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        raise _address("no Prefect server is configured")


def start(client: SyncPrefectClient, deployment: str, parameters: Mapping[str, Any], *, name: str, key: str | None = None) -> FlowRun:
    """Starts a deployment (`flow/deployment`) and returns its run.

    Raises NotFound (`no-deployment`), UsageError (`bad-parameters`).
    """
    from prefect.exceptions import ObjectNotFound

    try:
        found = client.read_deployment_by_name(deployment)
        known = (found.parameter_openapi_schema or {}).get("properties", {})
        unknown = set(parameters) - set(known)
        if unknown:  # the server takes them, and the run crashes (prefect.md §6)
            raise errors.UsageError(
                f"{deployment} has no parameter {', '.join(sorted(unknown))}", code="bad-parameters", hint="run `greylag deploy` again"
            )
        return client.create_flow_run_from_deployment(found.id, parameters=dict(parameters), name=name, idempotency_key=key)
    except ObjectNotFound:
        raise errors.NotFound(
            f"there is no deployment {deployment} on this Prefect server", code="no-deployment", hint="`greylag deploy` creates all of them"
        ) from None


def tell_started(run: FlowRun) -> None:
    """Says which run was started, to a person and to a program."""
    edge.say(f"started {run.name} ({run.id})")
    calls.note(run={"name": run.name, "id": str(run.id)})


def follow(client: SyncPrefectClient, run: FlowRun, *, pool: str = "", timeout: float | None = None) -> int:
    """Prints a run's log lines, its children's included, until it has completed; returns the exit code, 0.

    Raises RunFailed where the run ended otherwise, with its cause's code; NotYet (`run-unfinished`) when the time is up: the run goes on.
    """
    from flows import endings

    tell_started(run)
    lines, started, asked = _Lines(client, run.id), time.monotonic(), False
    while True:
        found = client.read_flow_run(run.id)
        lines.show()
        if found.state is not None and found.state.is_final():
            time.sleep(POLL_SECONDS)  # the last lines travel in batches
            lines.show()
            calls.note(run={"name": run.name, "id": str(run.id), "state": found.state.name, "message": found.state.message})
            endings.require_completed(found)
            edge.say(f"{found.name}: {found.state.name}{f': {found.state.message}' if found.state.message else ''}")
            return int(errors.ExitCode.DONE)
        waited = time.monotonic() - started
        if not asked and waited > UNSTARTED_SECONDS and (found.state is None or found.state.is_scheduled()):
            asked = True
            edge.say(
                f"{found.name} has not started: is the worker of {pool or found.work_pool_name} running? `greylag worker ENVIRONMENT` starts it"
            )
        if timeout is not None and waited >= timeout:
            raise errors.NotYet(
                f"{found.name} has not ended after {timeout:g} s; it goes on", code="run-unfinished", hint="look at it in Prefect's UI"
            )
        time.sleep(POLL_SECONDS)


class _Lines:
    """The log of a run and of the runs that it started, each line once."""

    def __init__(self, client: SyncPrefectClient, run_id: UUID) -> None:
        self._client = client
        self._runs: dict[UUID, str] = {run_id: ""}
        self._seen: set[UUID] = set()
        self._since: Any = None

    def show(self) -> None:
        """Prints what is new."""
        from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId, LogFilterLevel, LogFilterTimestamp
        from prefect.client.schemas.sorting import LogSort

        self._find_children()
        wanted = LogFilter(
            flow_run_id=LogFilterFlowRunId(any_=list(self._runs)),
            level=LogFilterLevel(ge_=INFO),
            timestamp=LogFilterTimestamp(after_=self._since) if self._since else None,
        )
        offset = 0
        while True:
            found = self._client.read_logs(wanted, limit=LOGS_PER_REQUEST, offset=offset, sort=LogSort.TIMESTAMP_ASC)
            for item in found:
                if item.id not in self._seen:
                    self._seen.add(item.id)
                    edge.say(f"{item.timestamp:%H:%M:%S} {item.message}")
            if len(found) < LOGS_PER_REQUEST:
                break
            offset += len(found)
        if found:  # a little earlier than the newest: workers' clocks and batches differ
            from datetime import timedelta

            self._since = found[-1].timestamp - timedelta(seconds=30)

    def _find_children(self) -> None:
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

        children = self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=list(self._runs)))
        )
        self._runs.update({item.id: item.name for item in children})


def interruptible(action: Callable[[], int]) -> int:
    """Follows until Ctrl-C, which ends the following and not the run."""
    try:
        return action()
    except KeyboardInterrupt:
        edge.say("no longer followed; the run goes on: cancel it in Prefect's UI if that is meant")
        return int(errors.ExitCode.INTERRUPTED)


def _refused(error: Any) -> errors.GreylagError:
    """Makes an error of an answer of 4xx or 5xx; the server's own detail names the parameter, not its secret value: parameters are references."""
    status = error.response.status_code
    if status in (404, 405) and not _is_prefects(error.response):
        return _address("what answers there is no Prefect server, or not its API")
    try:
        detail = str(error.response.json().get("detail", ""))
    except (ValueError, AttributeError):
        detail = ""
    if status in (401, 403):
        return errors.LoginFailed(
            "the Prefect server refused the login", code="prefect-login", hint="PREFECT_API_AUTH_STRING holds user:password"
        )
    if status in (409, 422):
        return errors.UsageError(f"the Prefect server refused the parameters: {detail}", code="bad-parameters", hint="correct them")
    return errors.Unavailable(f"the Prefect server answered {status}: {detail}", code="prefect-unavailable", hint="look at its log")


def _is_prefects(response: Any) -> bool:
    """Tells whether an answer is of Prefect's API: it speaks JSON, with a `detail` or with what its own handler says of a missing object."""
    try:
        found = response.json()
    except ValueError:
        return False
    return isinstance(found, dict) and found != {"detail": "Not Found"} and ("detail" in found or "exception_message" in found)


def _address(message: str) -> errors.UsageError:
    return errors.UsageError(message, code="prefect-address", hint="set PREFECT_API_URL, with /api at its end: http://127.0.0.1:4200/api")
