"""What somebody with nothing but the Prefect API's address does to dev's worker: nothing of it runs, and each refusal is told. A few of the same attacks
against Prefect's own process worker show that these tests would notice.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.filesystems import RemoteFileSystem
from prefect.results import ResultRecord, ResultRecordMetadata
from prefect.serializers import PickleSerializer
from prefect.workers.process import ProcessWorker

from deployments.worker import pool
from migrator import errors
from sandbox.stack.prefect_server import PrefectServer, PrefectWorker, create_work_pool
from tests.flows import prefect_api, worker_stage
from tests.flows.stage import Stage
from tests.flows.worker_stage import Desk

pytestmark = pytest.mark.slow

FLOW = "plan-environment"
"""Reads only; takes a second."""


@pytest.fixture(scope="module")
def desk(session_stage: Stage, prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with worker_stage.desk(session_stage, prefect_server, tmp_path_factory.mktemp("worker")) as found:
        yield found


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What an attacker's code would leave behind."""
    return tmp_path / "taken"


class Touch:
    """Runs a shell line when it is unpickled."""

    def __init__(self, line: str) -> None:
        self.line = line

    def __reduce__(self) -> Any:
        return os.system, (self.line,)


JOB_VARIABLES = ("command", "env", "dotted env", "image", "working directory")


def job_variables(name: str, marker: Path) -> dict[str, Any]:
    evil = "http://evil.example:8200"
    return {
        "command": {"command": f"sh -c 'touch {marker}'"},
        "env": {"env": {"GREYLAG_VAULT_ADDRESS": evil}},
        "dotted env": {"env.GREYLAG_VAULT_ADDRESS": evil},
        "image": {"image": "evil.example/x:1"},
        "working directory": {"working_dir": str(marker.parent)},
    }[name]


def works(desk: Desk) -> None:
    """Other runs go on."""
    run = desk.ended(desk.create(FLOW))
    assert run["state_type"] == "COMPLETED", (run["state"], desk.worker.log.read_text()[-3000:])


@pytest.mark.parametrize("name", JOB_VARIABLES)
def test_bad_flow_the_server_itself_refuses_job_variables_of_a_run(desk: Desk, marker: Path, name: str) -> None:
    with pytest.raises(errors.Unavailable, match="422"):
        desk.create(FLOW, {"job_variables": job_variables(name, marker)})


def test_bad_flow_the_server_itself_refuses_job_variables_of_a_deployment(desk: Desk, marker: Path) -> None:
    given = job_variables("command", marker)
    with desk.changed(FLOW, job_variables={}), pytest.raises(errors.Unavailable, match="422"):
        desk.server.request("PATCH", f"/deployments/{desk.deployment(FLOW)['id']}", {"job_variables": given})
        desk.create(FLOW)


@pytest.mark.parametrize("name", JOB_VARIABLES)
def test_bad_flow_job_variables_that_the_server_lets_pass_are_refused(desk: Desk, marker: Path, name: str) -> None:
    assert "job_variables of the run" in desk.refused(desk.post(FLOW, job_variables=job_variables(name, marker)))
    assert not marker.exists()


def test_bad_flow_the_server_itself_refuses_job_variables_put_on_a_waiting_run(desk: Desk, marker: Path) -> None:
    later = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    run = desk.create(FLOW, {"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": later}}})
    with pytest.raises(errors.Unavailable, match="422"):
        desk.server.request("PATCH", f"/flow_runs/{run}", {"job_variables": job_variables("command", marker)})
    desk.server.request("DELETE", f"/flow_runs/{run}")


def test_bad_flow_parameters_changed_on_a_waiting_run_are_checked_where_it_runs(desk: Desk) -> None:
    later = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    run = desk.create(FLOW, {"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": later}}})
    desk.server.request("PATCH", f"/flow_runs/{run}", {"parameters": {"environment": "release"}})
    desk.server.request("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "SCHEDULED"}, "force": True})
    assert f"it is for release, and this worker is {desk.environment}'s" in desk.refused(run)


def shell_step(marker: Path) -> list[dict[str, Any]]:
    return [{"prefect.deployments.steps.run_shell_script": {"script": f"touch {marker}"}}]


def test_bad_flow_pull_steps_are_refused(desk: Desk, marker: Path) -> None:
    with desk.changed(FLOW, pull_steps=shell_step(marker)):
        assert "pull_steps" in desk.refused(desk.create(FLOW))
    assert not marker.exists()
    works(desk)


def test_bad_flow_an_entrypoint_is_refused(desk: Desk, marker: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil.py"
    evil.write_text(f"import pathlib\nfrom prefect import flow\npathlib.Path({str(marker)!r}).touch()\n@flow\ndef evil(): ...\n")
    with desk.changed(FLOW, entrypoint=f"{evil}:evil"):
        assert f'the entrypoint "{evil}:evil"' in desk.refused(desk.create(FLOW))
    assert not marker.exists()


def test_bad_flow_a_path_is_refused(desk: Desk, tmp_path: Path) -> None:
    with desk.changed(FLOW, path=str(tmp_path)):
        assert f'the path "{tmp_path}"' in desk.refused(desk.create(FLOW))


def test_bad_flow_a_changed_template_is_told_and_stops_no_other_run(desk: Desk, marker: Path) -> None:
    opened = ProcessWorker.get_default_base_job_template()
    opened["variables"]["properties"]["command"]["default"] = f"touch {marker}"
    desk.server.request("PATCH", f"/work_pools/{desk.pool}", {"base_job_template": opened})
    try:
        works(desk)
        assert "job_variables of the run" in desk.refused(desk.create(FLOW, {"job_variables": job_variables("command", marker)}))
        found = desk.server.request("GET", f"/work_pools/{desk.pool}")["id"]
        (event, *_) = prefect_api.events(desk.server, "greylag.pool.changed", f"prefect.work-pool.{found}", 1)
        assert event["payload"]["changes"] == ["its base job template is another one"]
    finally:
        desk.server.request("PATCH", f"/work_pools/{desk.pool}", {"base_job_template": pool.template()})
    assert not marker.exists()


def test_bad_flow_a_pool_of_another_type_starts_no_other_worker(desk: Desk) -> None:
    try:
        desk.server.request("PATCH", f"/work_pools/{desk.pool}", {"type": "process"})
    except errors.Unavailable as error:
        assert "422" in str(error)
    works(desk)


def test_bad_flow_a_flow_that_is_not_on_the_list_is_refused(desk: Desk, marker: Path, tmp_path: Path) -> None:
    flow = desk.server.request("POST", "/flows/", {"name": "evil"})["id"]
    evil = {
        "name": "evil",
        "flow_id": flow,
        "entrypoint": f"{tmp_path}/evil.py:evil",
        "work_pool_name": desk.pool,
        "pull_steps": shell_step(marker),
    }
    made = desk.server.request("POST", "/deployments/", evil)["id"]
    run = desk.server.request("POST", f"/deployments/{made}/create_flow_run", {})["id"]
    assert 'does not start a flow named "evil"' in desk.refused(run)
    assert not marker.exists()


def test_bad_flow_the_promotions_flow_is_refused_in_an_environments_pool(desk: Desk) -> None:
    flow = desk.server.request("GET", "/deployments/name/promote-release/promote")["flow_id"]
    made = desk.server.request("POST", "/deployments/", {"name": "here", "flow_id": flow, "work_pool_name": desk.pool})["id"]
    run = desk.server.request("POST", f"/deployments/{made}/create_flow_run", {})["id"]
    assert "belongs to another kind of pool" in desk.refused(run)


def test_bad_flow_a_run_without_a_deployment_is_refused(desk: Desk) -> None:
    flow = desk.deployment(FLOW)["flow_id"]
    body = {"flow_id": flow, "work_pool_name": desk.pool, "parameters": {"environment": desk.environment}, "state": {"type": "SCHEDULED"}}
    assert "belongs to no deployment" in desk.refused(desk.server.request("POST", "/flow_runs/", body)["id"])


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"environment": "OWN", "nope": 1}, "the flow has no parameter nope"),
        ({"environment": "release"}, "it is for release, and this worker is OWN's"),
        ({"environment": "OTHER ALIAS"}, "it is for OTHER, and this worker is OWN's"),
        ({"environment": "nowhere"}, 'names none of the fleet: "nowhere"'),
        ({}, "its parameter environment names none"),
        ({"environment": ["OWN"]}, "its parameter environment names none"),
        ({"environment": "OWN", "backoff_limit": "many"}, "its parameters are refused"),
        ({"environment": "OWN", "services": ["no-such"]}, "its parameters are refused"),
    ],
)
def test_bad_flow_parameters_that_the_flow_or_the_worker_does_not_take_are_refused(
    desk: Desk, parameters: dict[str, Any], reason: str
) -> None:
    other, alias = ("prod", "production") if desk.environment == "dev" else ("dev", "dev")
    words = {"OWN": desk.environment, "OTHER ALIAS": alias, "OTHER": other}
    given, wanted = json.dumps(parameters), reason
    for word, meant in words.items():
        given, wanted = given.replace(word, meant), wanted.replace(word, meant)
    assert wanted in desk.refused(desk.post(FLOW, parameters=json.loads(given)))


# --- results ----------------------------------------------------------------------------------------------------------------------------


def stored(kind: str, marker: Path, tmp_path: Path) -> dict[str, Any]:
    """A state's reference to a pickle that touches the marker: in a file of this host, or carried by a block of the server."""
    metadata = ResultRecordMetadata(storage_key="evil", serializer=PickleSerializer())
    line = f"touch {marker}"
    record = ResultRecord(result=Touch(line), metadata=metadata)
    text = record.serialize()
    reference = {"serializer": {"type": "pickle"}, "prefect_version": "3.8.8"}
    if kind == "file":
        place = tmp_path / "evil"
        place.write_bytes(text)
        return {**reference, "storage_key": str(place)}
    carried = {"h/evil": f"base64:{base64.b64encode(text).decode()}"}
    block = RemoteFileSystem(basepath="reference://h", settings={"fo": carried}).save(f"evil-{time.time_ns()}")
    return {**reference, "storage_key": "evil", "storage_block_id": str(block)}


def forged(server: PrefectServer, start: Any, data: dict[str, Any]) -> str:
    """A run that is set to Completed with this result before it runs, however often it takes; its id."""
    for _ in range(5):
        run = str(start())
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = server.request("GET", f"/flow_runs/{run}")
            if found["state_name"] == "Submitting":
                state = {"type": "COMPLETED", "data": data}
                server.request("POST", f"/flow_runs/{run}/set_state", {"force": True, "state": state})
                if server.request("GET", f"/flow_runs/{run}")["run_count"] == 0:
                    return run
            if found["state_type"] not in ("SCHEDULED", "PENDING"):
                break
            time.sleep(0.02)
    raise AssertionError("the run was always quicker")


@pytest.mark.parametrize("kind", ["file", "block"])
def test_bad_flow_a_stored_result_is_never_read(desk: Desk, marker: Path, tmp_path: Path, kind: str) -> None:
    data = stored(kind, marker, tmp_path)
    run = forged(desk.server, lambda: desk.create(FLOW), data)
    pid = prefect_api.eventually(lambda: desk.run(run)["infrastructure_pid"], bool, 30)
    prefect_api.eventually(lambda: not Path(f"/proc/{pid}").exists(), bool, 30)
    time.sleep(1)
    assert not marker.exists()
    assert desk.run(run)["state_type"] == "COMPLETED", "as somebody has set it; nothing was done"
    works(desk)


def test_bad_flow_another_default_result_storage_gets_nothing(desk: Desk, tmp_path: Path) -> None:
    place = tmp_path / "loot"
    place.mkdir()
    from prefect.filesystems import LocalFileSystem

    block = LocalFileSystem(basepath=str(place)).save(f"loot-{time.time_ns()}")
    desk.server.request("PUT", "/admin/storage", {"default_result_storage_block_id": str(block)})
    try:
        works(desk)
    finally:
        desk.server.request("DELETE", "/admin/storage")
    assert list(place.iterdir()) == []


# --- processes --------------------------------------------------------------------------------------------------------------------------


def test_bad_flow_a_false_infrastructure_pid_kills_nobody(desk: Desk) -> None:
    desk.stage.write("auth-service/migrations/20250301000000_slow.sql", "-- +goose Up\nSELECT pg_sleep(600);\n-- +goose Down\nSELECT 1;\n")
    innocent = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        run = desk.create("deploy-service", service="auth-service", environment="dev")
        prefect_api.eventually(lambda: desk.run(run)["state_type"] == "RUNNING" and worker_stage.busy(desk), bool, 60)
        own = int(desk.run(run)["infrastructure_pid"])
        desk.server.request("PATCH", f"/flow_runs/{run}", {"infrastructure_pid": str(innocent.pid)})
        desk.server.request("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        assert desk.ended(run)["state_type"] == "CANCELLED"
        assert prefect_api.eventually(lambda: not Path(f"/proc/{own}").exists(), bool, 30), "its own process has ended"
        assert innocent.poll() is None
        assert not worker_stage.busy(desk)
    finally:
        innocent.kill()
        innocent.wait()
        desk.stage.write("auth-service/migrations/20250301000000_slow.sql", "").unlink()


# --- the same against Prefect's process worker: these tests have something to show ------------------------------------------------------------


@pytest.fixture(scope="module")
def usual(prefect_server: PrefectServer, session_stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prefect's own worker on a pool of its default template; the id of a deployment there."""
    name = "pool-usual"
    create_work_pool(prefect_server, name, "process")
    directory = tmp_path_factory.mktemp("usual")
    (directory / "looking.py").write_text("from prefect import flow\n@flow\ndef look(): ...\n")
    flow = prefect_server.request("POST", "/flows/", {"name": "look"})["id"]
    step = [{"prefect.deployments.steps.set_working_directory": {"directory": str(directory)}}]
    made = {"name": "look", "flow_id": flow, "entrypoint": "looking.py:look", "work_pool_name": name, "pull_steps": step, "path": "."}
    deployment = str(prefect_server.request("POST", "/deployments/", made)["id"])
    with PrefectWorker(prefect_server, name, directory=directory / "worker"):
        yield deployment


def start(server: PrefectServer, deployment: str, **body: Any) -> str:
    return str(server.request("POST", f"/deployments/{deployment}/create_flow_run", body)["id"])


def test_prefects_own_worker_runs_a_command_of_the_run(usual: str, prefect_server: PrefectServer, marker: Path) -> None:
    start(prefect_server, usual, job_variables=job_variables("command", marker))
    assert prefect_api.eventually(marker.exists, bool, 60)  # the run itself never reports: its command is another


@pytest.mark.parametrize("kind", ["file", "block"])
def test_prefects_own_worker_unpickles_a_stored_result(
    usual: str, prefect_server: PrefectServer, marker: Path, tmp_path: Path, kind: str
) -> None:
    forged(prefect_server, lambda: start(prefect_server, usual), stored(kind, marker, tmp_path))
    assert prefect_api.eventually(marker.exists, bool, 30)


def test_prefects_own_worker_runs_pull_steps(usual: str, prefect_server: PrefectServer, marker: Path) -> None:
    found = prefect_server.request("GET", f"/deployments/{usual}")
    prefect_server.request("PATCH", f"/deployments/{usual}", {"pull_steps": shell_step(marker)})
    try:
        prefect_api.ended(prefect_server, start(prefect_server, usual))
    finally:
        prefect_server.request("PATCH", f"/deployments/{usual}", {"pull_steps": found["pull_steps"]})
    assert marker.exists()
