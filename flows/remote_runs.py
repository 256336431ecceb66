"""Runs in other work pools: started by reference, awaited, and read back through Prefect's API alone. No credential passes through this module."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import Artifact, FlowRun, StateType
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run as current

from flows import labels
from migrator import errors
from tasks import signs_of_life

Row = dict[str, Any]

_Answer = TypeVar("_Answer")

MOST_ARTIFACTS = 50
"""Versions of one artifact that are looked through; an older plan would not fit the database any more."""

MOST_RUNS = 200
"""Runs that are looked through, newest first: one page of Prefect's API."""

POLL_SECONDS = 1.0
"""Seconds. A run takes seconds to start, and one small request a second is little load for the server."""

OUTAGE_SECONDS = 900.0
"""Seconds. A server that is away for longer is not just being restarted."""

OUTAGE_POLL_SECONDS = 5.0

LOOK_SECONDS = 15.0
"""Seconds between two looks at a running child's heartbeats."""

UNSTARTED_SECONDS = 60.0
"""Seconds. A process worker polls every 10 s by default; after a minute there seems to be no worker, and the log says so once."""


def start(flow_name: str, deployment: str, parameters: Mapping[str, Any], *, environment: str, bundle: str, key: str, name: str) -> FlowRun:
    """Starts a deployment as a child of the running flow, once per key and attempt of that flow.

    The idempotency key holds the environment, because Prefect's are unique per flow and not per deployment (prefect.md §8), and the
    running flow's own id and attempt, so that the UI's Retry starts afresh. Raises NotFound (`no-deployment`).
    """
    try:
        child = run_deployment(
            name=f"{flow_name}/{deployment}",
            parameters=dict(parameters),
            flow_run_name=name,
            timeout=0,
            tags=labels.tags(environment=environment, bundle=bundle),
            idempotency_key=f"{environment}-{key}-{current.id}-{current.run_count}",
            as_subflow=True,
        )
    except ObjectNotFound:
        raise errors.NotFound(
            f"there is no deployment {flow_name}/{deployment} on this Prefect server",
            code="no-deployment",
            hint="`greylag deploy` creates all of them",
        ) from None
    return child  # type: ignore[return-value]  # the sync call; its annotation covers both


def wait(child: FlowRun, pool: str) -> FlowRun:
    """Waits until a run has ended, however it ended, and returns it with its last state. Says so when it has not started, or shows no sign of life."""
    run_id = child.id
    started = looked = time.monotonic()
    told = silent = False
    with get_client(sync_client=True) as client:
        while True:
            child = patiently(lambda: client.read_flow_run(run_id))
            if child.state is not None and child.state.is_final():
                return child
            unstarted = child.state is None or child.state.is_scheduled() or child.state.is_pending()
            if unstarted and not told and time.monotonic() - started > UNSTARTED_SECONDS:
                told = True
                labels.logger().warning(
                    "%s has not started: is the worker of %s running, and is there room in the pool?  `greylag worker ENVIRONMENT` starts it",
                    child.name,
                    pool,
                )
            if child.state is not None and child.state.is_running() and time.monotonic() - looked > LOOK_SECONDS:
                looked, since = time.monotonic(), child.state.timestamp
                heard = patiently(lambda: signs_of_life.heard(client, [run_id], since))  # noqa: B023 - called at once
                if not heard and not silent:
                    labels.logger().warning(
                        "%s (%s) shows no sign of life: its process or its worker in %s is gone. It is marked Crashed by the automation of "
                        "`greylag deploy`; setting its state to Crashed or Failed in the UI ends this wait as well",
                        child.name,
                        run_id,
                        pool,
                    )
                silent = not heard
            time.sleep(POLL_SECONDS)


def patiently(read: Callable[[], _Answer]) -> _Answer:
    """Returns what `read` returns, and repeats it while the Prefect server does not answer: a promotion waits for hours, and servers are restarted.

    Raises what `read` raises once the server has been away for `OUTAGE_SECONDS`, and at once when it answers with a refusal.
    """
    started = time.monotonic()
    while True:
        try:
            return read()
        except (httpx.TransportError, httpx.HTTPStatusError, errors.Unavailable) as error:
            refused = isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500
            if refused or time.monotonic() - started > OUTAGE_SECONDS:
                raise
            labels.logger().warning("the Prefect server does not answer; asked again in %.0f s", OUTAGE_POLL_SECONDS)
            time.sleep(OUTAGE_POLL_SECONDS)


def completed(flow_names: Iterable[str], since: datetime) -> list[FlowRun]:
    """Returns the completed runs of some flows that ended since then, newest first."""
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=list(flow_names))),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED])),
                end_time=FlowRunFilterEndTime.model_validate({"after_": since}),
            ),
            sort=FlowRunSort.END_TIME_DESC,
            limit=MOST_RUNS,
        )


def table(run_id: UUID, key: str) -> list[Row]:
    """Returns the rows of a table artifact that a run published. Raises NotFound (`no-artifact`) when it published none."""
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]), key=ArtifactFilterKey(any_=[key]))
    found = _tables(wanted)
    if not found:
        raise errors.NotFound(f"run {run_id} published no {key}", code="no-artifact", hint="start that flow again")
    return found[0]


def tables(key: str) -> list[list[Row]]:
    """Returns the newest versions of a table artifact, newest first."""
    return _tables(ArtifactFilter(key=ArtifactFilterKey(any_=[key])))


def publications(key: str, most: int = MOST_ARTIFACTS) -> list[tuple[UUID, datetime, list[Row]]]:
    """Returns the newest versions of a table artifact, newest first: the run that published it, the server's time, and its rows."""
    found = _artifacts(ArtifactFilter(key=ArtifactFilterKey(any_=[key])), most)
    return [(item.flow_run_id, item.created, _rows(item.data)) for item in found if item.flow_run_id and item.created]


def _tables(wanted: ArtifactFilter) -> list[list[Row]]:
    return [_rows(item.data) for item in _artifacts(wanted)]


def _artifacts(wanted: ArtifactFilter, most: int = MOST_ARTIFACTS) -> list[Artifact]:
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC, limit=most)


def _rows(data: object) -> list[Row]:
    rows = json.loads(data) if isinstance(data, str) else data
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
