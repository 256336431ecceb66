"""greylag's worker on a real server: each kind of trigger reaches it, and every run ends in a true state."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.worker import catalogue, place
from deployments.worker.worker import GreylagWorker
from sandbox.stack.prefect_server import PrefectServer
from tasks import fleet
from tests.flows import prefect_api, worker_stage
from tests.flows.stage import ROOT, Stage
from tests.flows.worker_stage import POOL, Desk

pytestmark = pytest.mark.slow

VERSIONS = itertools.count(20250301000000)
"""A version for each slow file: one that was applied is not changed again."""


@pytest.fixture(scope="module")
def desk(session_stage: Stage, prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """dev's worker, and its deployments."""
    with worker_stage.desk(session_stage, prefect_server, tmp_path_factory.mktemp("worker")) as found:
        yield found


@pytest.fixture
def slow(desk: Desk) -> Iterator[str]:
    """A run of deploy-service that sleeps in the database."""
    name = f"auth-service/migrations/{next(VERSIONS)}_slow.sql"
    path = desk.stage.write(name, "-- +goose Up\nSELECT pg_sleep(600);\n-- +goose Down\nSELECT 1;\n")
    run = desk.create("deploy-service", service="auth-service", environment="dev")
    assert prefect_api.eventually(lambda: worker_stage.busy(desk), bool, 60), desk.run(run)["state"]
    yield run
    path.unlink()


def gone(desk: Desk, run: str) -> bool:
    """Whether the run's process has ended."""
    pid = desk.run(run)["infrastructure_pid"]
    return bool(prefect_api.eventually(lambda: not running(pid), bool, 30))


def running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_good_flow_a_ci_starts_a_deployment_over_rest_alone(desk: Desk) -> None:
    run = desk.ended(desk.create("plan-environment"))
    assert (run["state_type"], run["state_name"]) == ("COMPLETED", "Completed"), run["state"]
    assert run["infrastructure_pid"].isdigit() and run["labels"]["prefect.worker.name"] == desk.worker.name


def test_good_flow_a_schedule_starts_a_run(desk: Desk) -> None:
    deployment = desk.deployment("verify-environment")["id"]
    every = {"interval": 15, "anchor_date": datetime.now(UTC).isoformat()}
    made = desk.server.request("POST", f"/deployments/{deployment}/schedules", [{"active": True, "schedule": every}])
    wanted = {"deployments": {"id": {"any_": [deployment]}}, "flow_runs": {"state": {"type": {"any_": list(prefect_api.FINAL)}}}}
    try:
        found = prefect_api.eventually(lambda: desk.server.request("POST", "/flow_runs/filter", wanted), bool, 120)
    finally:
        desk.server.request("DELETE", f"/deployments/{deployment}/schedules/{made[0]['id']}")
    assert found and found[0]["auto_scheduled"] and found[0]["state_name"] in ("Completed", "Failed"), found
    assert found[0]["start_time"], "the flow itself ran; what it found in an empty database is its own matter"


def test_good_flow_cancel_ends_the_statement_and_the_run(desk: Desk, slow: str) -> None:
    desk.server.request("POST", f"/flow_runs/{slow}/set_state", {"state": {"type": "CANCELLING"}})
    assert desk.ended(slow)["state_type"] == "CANCELLED"
    assert gone(desk, slow) and not worker_stage.busy(desk)


def test_good_flow_cancel_before_the_run_runs_ends_it(desk: Desk) -> None:
    for _ in range(5):
        run = desk.create("plan-environment")
        found = prefect_api.eventually(lambda run=run: desk.run(run), lambda item: item["state_type"] != "SCHEDULED", 60)  # type: ignore[misc]
        desk.server.request("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        ended = desk.ended(run, 60)
        if ended["run_count"] == 0 and found["state_type"] == "PENDING":
            break
    else:
        raise AssertionError("the run was always quicker")
    assert ended["state_type"] == "CANCELLED", ended["state"]


def test_bad_flow_a_killed_process_is_a_crash_and_retry_completes(desk: Desk, slow: str) -> None:
    os.kill(int(desk.run(slow)["infrastructure_pid"]), signal.SIGKILL)
    ended = desk.ended(slow)
    assert ended["state_type"] == "CRASHED" and "-9" in ended["state"]["message"]
    prefect_api.eventually(lambda: not worker_stage.busy(desk), bool, 60)
    (file,) = (desk.stage.directory / "services" / "auth-service" / "migrations").glob("*_slow.sql")
    file.write_text("-- +goose Up\nSELECT 1;\n-- +goose Down\nSELECT 1;\n", encoding="utf-8")
    target = fleet.load(desk.stage.directory / "fleet.yaml").target("auth-service", "dev")
    prefect_api.free_limit(desk.server, target.limit)  # its lease would end after a minute
    desk.server.request("POST", f"/flow_runs/{slow}/set_state", {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True})
    assert prefect_api.eventually(lambda: desk.run(slow)["run_count"], lambda count: count == 2, 60) == 2
    assert desk.ended(slow)["state_type"] in ("COMPLETED", "FAILED"), "there is no cluster whose rollout could be awaited"


def test_bad_flow_a_process_that_ends_without_a_report_is_a_crash(desk: Desk) -> None:
    """A process that ends with 0 and says nothing can't be had on demand: what the worker does after each process is asked for such a run."""
    run = desk.post("plan-environment", work_pool_name=None, state={"type": "RUNNING"})
    own = place.Place("dev", "pool-nobody", catalogue.Kind.ENVIRONMENT, False, ROOT, ROOT / "fleet.yaml")

    async def settle() -> None:
        import uuid

        async with GreylagWorker("pool-nobody", name="nobody", place=own) as worker:
            await worker._settle(uuid.UUID(run), 0)

    asyncio.run(settle())
    found = desk.run(run)
    assert (found["state_type"], found["state"]["message"]) == ("CRASHED", "its process ended without a report (exit code 0)")


def test_bad_flow_sigterm_of_the_worker_ends_its_runs_in_a_true_state(desk: Desk, slow: str) -> None:
    pid = desk.run(slow)["infrastructure_pid"]
    desk.worker.stop()
    assert desk.worker.returncode == 0, desk.worker.log.read_text()[-3000:]
    assert not running(pid) and not worker_stage.busy(desk)
    found = desk.run(slow)
    assert found["state_type"] == "CRASHED" and "termination signal" in found["state"]["message"], found["state"]
    desk.worker.start()


def test_bad_flow_a_killed_worker_lets_its_run_end_by_itself(desk: Desk) -> None:
    path = desk.stage.write(
        "personal-service/migrations/20250301000000_slow.sql", "-- +goose Up\nSELECT pg_sleep(8);\n-- +goose Down\nSELECT 1;\n"
    )
    run = desk.create("deploy-service", service="personal-service", environment="dev", backoff_limit=0, active_deadline_seconds=1)
    prefect_api.eventually(lambda: desk.run(run)["state_type"], lambda state: state == "RUNNING", 60)
    time.sleep(1)
    worker = desk.worker.pid
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    try:
        assert desk.ended(run)["state_type"] in ("COMPLETED", "FAILED"), "as its process says"
    finally:
        path.unlink()
        desk.worker.stop()
        desk.worker.start()


def test_good_flow_the_pools_limit_holds(desk: Desk) -> None:
    desk.server.request("PATCH", f"/work_pools/{POOL}", {"concurrency_limit": 1})
    try:
        runs = [desk.ended(desk_run) for desk_run in [desk.create("plan-environment") for _ in range(3)]]
    finally:
        desk.server.request("PATCH", f"/work_pools/{POOL}", {"concurrency_limit": None})
    times = sorted((item["start_time"], item["end_time"]) for item in runs)
    assert all(later[0] >= earlier[1] for earlier, later in itertools.pairwise(times)), times


# --- the fork server --------------------------------------------------------------------------------------------------------------------


def fork_server(desk: Desk) -> str:
    """The process id of the worker's newest fork server."""
    import psutil

    assert desk.worker.pid is not None
    found = [item for item in psutil.Process(desk.worker.pid).children() if "deployments.worker.fork_server" in item.cmdline()]
    return str(max(found, key=lambda item: item.create_time()).pid) if found else ""


def parent(pid: str) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]


def completed(desk: Desk) -> None:
    run = desk.ended(desk.create("plan-environment"))
    assert run["state_type"] == "COMPLETED", (run["state"], desk.worker.log.read_text()[-3000:])


def test_good_flow_a_run_is_forked_from_one_thread_of_a_process_that_holds_no_connection(desk: Desk, slow: str) -> None:
    server = fork_server(desk)
    assert parent(desk.run(slow)["infrastructure_pid"]) == server
    assert len(list(Path(f"/proc/{server}/task").iterdir())) == 1
    sockets = [item for item in Path(f"/proc/{server}/fd").iterdir() if str(item.readlink()).startswith("socket:")]
    assert len(sockets) == 1, "the one to its worker"
    desk.server.request("POST", f"/flow_runs/{slow}/set_state", {"state": {"type": "CANCELLING"}})
    assert desk.ended(slow)["state_type"] == "CANCELLED"


def test_good_flow_a_killed_fork_server_is_replaced_and_its_run_ends_by_itself(desk: Desk, slow: str) -> None:
    before = fork_server(desk)
    os.kill(int(before), signal.SIGKILL)
    completed(desk)
    assert fork_server(desk) not in ("", before)
    desk.server.request("POST", f"/flow_runs/{slow}/set_state", {"state": {"type": "CANCELLING"}})
    assert desk.ended(slow)["state_type"] == "CANCELLED", "Cancel still reaches it"


def test_good_flow_a_changed_fleet_file_is_read_by_the_next_run(desk: Desk) -> None:
    completed(desk)
    before = fork_server(desk)
    completed(desk)
    assert fork_server(desk) == before, "nothing has changed"
    file = desk.stage.directory / "fleet.yaml"
    text = file.read_text(encoding="utf-8")
    try:
        file.write_text(text + "\n# changed\n", encoding="utf-8")
        completed(desk)
        assert fork_server(desk) != before
        assert prefect_api.eventually(lambda: not running(before), bool, 30), "the old one has ended"
        file.write_text(text.replace("environments:", "enviroments:"), encoding="utf-8")
        run = desk.ended(desk.create("plan-environment"))
        assert run["state_type"] in ("CRASHED", "FAILED"), run["state"]
    finally:
        file.write_text(text, encoding="utf-8")
    completed(desk)
