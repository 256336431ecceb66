"""What tests read back from a Prefect server, over its REST API alone."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from prefect import State

from migrator import errors
from sandbox.stack.prefect_server import PrefectServer

FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def eventually(read: Callable[[], Any], enough: Callable[[Any], bool], seconds: float = 60) -> Any:
    """What `read` gives once it is enough, or at last: task runs, logs and events reach the server's database a little later."""
    deadline = time.monotonic() + seconds
    found = read()
    while not enough(found) and time.monotonic() < deadline:
        time.sleep(0.5)
        found = read()
    return found


def create_run(server: PrefectServer, deployment: str, parameters: dict[str, Any]) -> str:
    """Starts a deployment (FLOW/NAME); the run's id. With a key, as a CI job must: a request may have been heeded although its answer was lost."""
    found = server.request("GET", f"/deployments/name/{deployment}")
    body = {"parameters": parameters, "idempotency_key": uuid.uuid4().hex}
    return str(server.request("POST", f"/deployments/{found['id']}/create_flow_run", body)["id"])


def free_limit(server: PrefectServer, name: str) -> None:
    """Removes a concurrency limit with the slot that a killed run still holds; the next run makes it again."""
    with contextlib.suppress(errors.Unavailable):  # there is none
        server.request("DELETE", f"/v2/concurrency_limits/{name}")


def ended(server: PrefectServer, run_id: str, seconds: float = 400) -> dict[str, Any]:
    """A flow run once it has ended."""
    found: dict[str, Any] = eventually(
        lambda: server.request("GET", f"/flow_runs/{run_id}"), lambda run: run["state_type"] in FINAL, seconds
    )
    return found


def flow_run(server: PrefectServer, state: State[Any]) -> dict[str, Any]:
    """The flow run that ended in this state."""
    found: dict[str, Any] = server.request("GET", f"/flow_runs/{state.state_details.flow_run_id}")
    return found


def cause(server: PrefectServer, state: State[Any]) -> tuple[str, int, str]:
    """Code, exit code and target of a failed run, as any reader of the API finds them: in its labels."""
    return cause_of(flow_run(server, state))


def cause_of(run: dict[str, Any]) -> tuple[str, int, str]:
    """The same of a run that was read already."""
    labels = run["labels"]
    assert labels["greylag.attempt"] == run["run_count"]
    return labels["greylag.code"], labels["greylag.exit-code"], labels["greylag.target"]


def task_runs(server: PrefectServer, run_id: str, count: int) -> list[dict[str, Any]]:
    """A flow run's task runs in the order of their start, once there are that many and all have ended."""
    wanted = {"flow_runs": {"id": {"any_": [run_id]}}}

    def enough(found: list[dict[str, Any]]) -> bool:
        return len(found) >= count and all(item["state_type"] in FINAL for item in found)

    found = eventually(lambda: server.request("POST", "/task_runs/filter", wanted), enough)
    return sorted(found, key=lambda item: item["start_time"] or "")


def artifact(server: PrefectServer, key: str) -> Any:
    """The newest version of an artifact's data: a table's rows, or a page."""
    found = server.request("GET", f"/artifacts/{key}/latest")
    return json.loads(found["data"]) if found["type"] == "table" else found["data"]


def forget(server: PrefectServer, key: str) -> None:
    """Deletes every version of an artifact: the files of one process share a server."""
    for found in server.request("POST", "/artifacts/filter", {"artifacts": {"key": {"any_": [key]}}}):
        server.request("DELETE", f"/artifacts/{found['id']}")


def children(server: PrefectServer, name: str, since: str) -> list[dict[str, Any]]:
    """Runs of a flow that were created at or after a time, oldest first."""
    wanted = {"flows": {"name": {"any_": [name]}}, "flow_runs": {"expected_start_time": {"after_": since}}, "limit": 200}
    found: list[dict[str, Any]] = server.request("POST", "/flow_runs/filter", wanted)
    return sorted(found, key=lambda item: item["created"])


def events(server: PrefectServer, name: str, resource: str, count: int) -> list[dict[str, Any]]:
    """Events of one name about one resource, oldest first, once there are that many."""
    wanted = {"filter": {"event": {"name": [name]}, "resource": {"id": [resource]}, "order": "ASC"}, "limit": 50}
    found = eventually(lambda: server.request("POST", "/events/filter", wanted)["events"], lambda items: len(items) >= count)
    return list(found)
