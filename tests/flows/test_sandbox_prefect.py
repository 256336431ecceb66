"""The sandbox's Prefect server and workers run real flows, keep their data, and hand no environment's secrets to another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from migrator import errors
from sandbox import ports
from sandbox.stack import prefect_server

FLOW = """
import os
from prefect import flow

@flow(persist_result=False)
def look_around(names: list[str]) -> None:
    print("SEEN", {name: os.environ.get(name) for name in names}, flush=True)

@flow
def sleep_long() -> None:
    import time
    print("SLEEPING", os.getpid(), flush=True)
    time.sleep(600)
"""

DEPLOY = """
import sys
from pathlib import Path
from prefect.flows import Flow
for name in ("look_around", "sleep_long"):
    flow = Flow.from_source(source=sys.argv[1], entrypoint="surroundings.py:" + name)
    flow.deploy(name=sys.argv[2] + "-" + name, work_pool_name=sys.argv[2], build=False, push=False, print_next_steps=False)
"""


@pytest.fixture(scope="module")
def worker(
    prefect_server: prefect_server.PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[prefect_server.PrefectWorker]:
    source = tmp_path_factory.mktemp("flows")
    (source / "surroundings.py").write_text(FLOW)
    os.environ["VAULT_TOKEN"] = "of the developer's shell"
    try:
        with _worker(prefect_server) as started:
            done = subprocess.run(
                [sys.executable, "-c", DEPLOY, str(source), "pool-a"],
                env=os.environ | prefect_server.environment(),
                capture_output=True,
                encoding="utf-8",
                check=False,
            )
            assert done.returncode == 0, done.stderr
            yield started
    finally:
        del os.environ["VAULT_TOKEN"]


def _worker(server: prefect_server.PrefectServer) -> prefect_server.PrefectWorker:
    return prefect_server.PrefectWorker(server, "pool-a", environment={"GREYLAG_VAULT_ROLE_ID": "a's own"})


def start_run(server: prefect_server.PrefectServer, flow: str, parameters: dict[str, Any]) -> str:
    name = flow.replace("_", "-")
    deployment = server.request("GET", f"/deployments/name/{name}/pool-a-{flow}")
    run = server.request("POST", f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
    return str(run["id"])


def state_of(server: prefect_server.PrefectServer, run: str) -> str:
    return str(server.request("GET", f"/flow_runs/{run}")["state"]["type"])


def wait_for_state(server: prefect_server.PrefectServer, run: str, wanted: set[str], seconds: float = 90) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = state_of(server, run)
        if state in wanted:
            return state
        time.sleep(0.25)
    return state_of(server, run)


def test_a_flow_called_in_this_process_reports_to_the_server(prefect_server: prefect_server.PrefectServer) -> None:
    from prefect import flow
    from prefect.runtime import flow_run

    @flow
    def in_process() -> str:
        return str(flow_run.id)

    run = in_process()
    assert state_of(prefect_server, run) == "COMPLETED"


@pytest.mark.slow
def test_a_flow_run_sees_its_workers_credentials_and_nobody_elses(
    prefect_server: prefect_server.PrefectServer, worker: prefect_server.PrefectWorker
) -> None:
    run = start_run(prefect_server, "look_around", {"names": ["GREYLAG_VAULT_ROLE_ID", "VAULT_TOKEN", "PREFECT_API_URL"]})
    assert wait_for_state(prefect_server, run, {"COMPLETED", "FAILED", "CRASHED"}) == "COMPLETED", worker.log.read_text()
    seen = next(line for line in worker.log.read_text().splitlines() if "SEEN" in line)
    expected = {"GREYLAG_VAULT_ROLE_ID": "a's own", "VAULT_TOKEN": None, "PREFECT_API_URL": prefect_server.api_url}
    assert str(expected) in seen


@pytest.mark.slow
def test_a_stopped_worker_leaves_no_flow_run_process_behind(
    prefect_server: prefect_server.PrefectServer, worker: prefect_server.PrefectWorker
) -> None:
    start_run(prefect_server, "sleep_long", {})
    deadline = time.monotonic() + 60
    while "SLEEPING" not in worker.log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    pid = int(next(line for line in worker.log.read_text().splitlines() if "SLEEPING" in line).split()[-1])
    assert Path(f"/proc/{pid}").exists()
    worker.stop()
    assert not Path(f"/proc/{pid}").exists()


def test_a_work_pool_is_made_once(prefect_server: prefect_server.PrefectServer) -> None:
    from sandbox.stack.prefect_server import create_work_pool

    create_work_pool(prefect_server, "pool-b")
    create_work_pool(prefect_server, "pool-b")
    found = prefect_server.request("POST", "/work_pools/filter", {"work_pools": {"name": {"any_": ["pool-b"]}}})
    assert [each["type"] for each in found] == ["process"]


def test_writers_beside_each_other_wait_instead_of_failing(prefect_server: prefect_server.PrefectServer) -> None:
    flow = prefect_server.request("POST", "/flows/", {"name": "crowded"})["id"]

    def write(number: int) -> str:
        run = prefect_server.request("POST", "/flow_runs/", {"flow_id": flow, "name": f"run-{number}"})["id"]
        for state in ("PENDING", "RUNNING", "COMPLETED"):
            prefect_server.request("POST", f"/flow_runs/{run}/set_state", {"state": {"type": state}})
        return str(prefect_server.request("GET", f"/flow_runs/{run}")["state"]["type"])

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(write, range(64))) == {"COMPLETED"}


def test_the_ui_is_told_the_servers_own_port(prefect_server: prefect_server.PrefectServer) -> None:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{prefect_server.url}/ui-settings", timeout=30) as answer:
        assert json.load(answer)["api_url"] == prefect_server.api_url


def test_bad_flow_the_api_refuses_with_its_own_words(prefect_server: prefect_server.PrefectServer) -> None:
    with pytest.raises(errors.Unavailable, match="404"):
        prefect_server.request("GET", "/work_pools/no-such-pool")


@pytest.mark.slow
def test_data_survive_a_restart(tmp_path: Path) -> None:
    server = prefect_server.PrefectServer(tmp_path, ports.free_port())
    with server:
        prefect_server.create_work_pool(server, "kept")
    assert not server.running
    with prefect_server.PrefectServer(tmp_path, server.port) as again:
        assert [pool["name"] for pool in again.request("POST", "/work_pools/filter", {})] == ["kept"]


def test_a_clean_environment_has_no_tools_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VAULT_TOKEN", "PREFECT_API_KEY", "GREYLAG_VAULT_ROLE_ID", "GOOSE_DBSTRING", "PGPASSWORD"):
        monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("GREYLAG_CACHE", "/somewhere")
    cleaned = prefect_server.clean_environment()
    assert "hush" not in json.dumps(cleaned)
    assert cleaned["GREYLAG_CACHE"] == "/somewhere" and cleaned["PATH"] == os.environ["PATH"]
