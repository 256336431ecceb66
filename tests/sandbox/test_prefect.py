"""The sandbox's Prefect: a worker's flow runs hold its credentials and nobody else's and end with it, writers wait for each other.

That flows report to it is what tests/flows is about; that its runs survive a restart is in tests/flows/test_demo.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from migrator import errors
from sandbox.stack.prefect_server import PrefectServer, PrefectWorker, clean_environment, create_work_pool

FLOW = """
import os, time
from prefect import flow

@flow(persist_result=False)
def look_around(names: list[str]) -> None:
    print("SEEN", {name: os.environ.get(name) for name in names}, flush=True)
    print("SLEEPING", os.getpid(), flush=True)
    time.sleep(600)
"""

DEPLOY = """
import sys
from prefect.flows import Flow
flow = Flow.from_source(source=sys.argv[1], entrypoint="surroundings.py:look_around")
flow.deploy(name="looking", work_pool_name="pool-a", build=False, push=False, print_next_steps=False)
"""


@pytest.mark.slow
def test_a_flow_run_sees_its_workers_credentials_and_nobody_elses_and_ends_with_it(
    prefect_server: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "surroundings.py").write_text(FLOW, encoding="utf-8")
    monkeypatch.setenv("VAULT_TOKEN", "of the developer's shell")
    with PrefectWorker(prefect_server, "pool-a", environment={"GREYLAG_VAULT_ROLE_ID": "a's own"}) as worker:
        done = subprocess.run([sys.executable, "-c", DEPLOY, str(tmp_path)], capture_output=True, encoding="utf-8", check=False)
        assert done.returncode == 0, done.stderr
        deployment = prefect_server.request("GET", "/deployments/name/look-around/looking")
        parameters = {"names": ["GREYLAG_VAULT_ROLE_ID", "VAULT_TOKEN", "PREFECT_API_URL"]}
        prefect_server.request("POST", f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
        deadline = time.monotonic() + 120
        while "SLEEPING" not in worker.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        lines = worker.log.read_text().splitlines()
        seen = {"GREYLAG_VAULT_ROLE_ID": "a's own", "VAULT_TOKEN": None, "PREFECT_API_URL": prefect_server.api_url}
        assert any(str(seen) in line for line in lines if "SEEN" in line), worker.log.read_text()
        process = Path("/proc") / next(line for line in lines if "SLEEPING" in line).split()[-1]
        assert process.exists()
    assert not process.exists()


def test_a_work_pool_is_made_once(prefect_server: PrefectServer) -> None:
    for _ in range(2):
        create_work_pool(prefect_server, "pool-b")
    found = prefect_server.request("POST", "/work_pools/filter", {"work_pools": {"name": {"any_": ["pool-b"]}}})
    assert [each["type"] for each in found] == ["greylag"]


def test_writers_beside_each_other_wait_instead_of_failing(prefect_server: PrefectServer) -> None:
    flow = prefect_server.request("POST", "/flows/", {"name": "crowded"})["id"]

    def write(number: int) -> str:
        run = prefect_server.request("POST", "/flow_runs/", {"flow_id": flow, "name": f"run-{number}"})["id"]
        for state in ("PENDING", "RUNNING", "COMPLETED"):
            prefect_server.request("POST", f"/flow_runs/{run}/set_state", {"state": {"type": state}})
        return str(prefect_server.request("GET", f"/flow_runs/{run}")["state"]["type"])

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(write, range(32))) == {"COMPLETED"}


def test_the_server_says_where_its_api_is_and_refuses_with_its_own_words(prefect_server: PrefectServer) -> None:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{prefect_server.url}/ui-settings", timeout=30) as answer:
        assert json.load(answer)["api_url"] == prefect_server.api_url
    with pytest.raises(errors.Unavailable, match="404"):
        prefect_server.request("GET", "/work_pools/no-such-pool")


def test_runs_whose_processes_ended_with_the_servers_are_marked_when_these_start_again(prefect_server: PrefectServer) -> None:
    flow = prefect_server.request("POST", "/flows/", {"name": "interrupted"})["id"]
    runs = {}
    for state in ("RUNNING", "COMPLETED", "SCHEDULED"):
        runs[state] = prefect_server.request("POST", "/flow_runs/", {"flow_id": flow, "state": {"type": "PENDING"}})["id"]
        prefect_server.request("POST", f"/flow_runs/{runs[state]}/set_state", {"state": {"type": state}, "force": True})
    prefect_server.end_leftovers()
    found = {state: prefect_server.request("GET", f"/flow_runs/{run}")["state_type"] for state, run in runs.items()}
    assert found == {"RUNNING": "CRASHED", "COMPLETED": "COMPLETED", "SCHEDULED": "SCHEDULED"}


def test_a_clean_environment_has_no_tools_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VAULT_TOKEN", "PREFECT_API_KEY", "GREYLAG_VAULT_ROLE_ID", "GOOSE_DBSTRING", "PGPASSWORD"):
        monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("GREYLAG_CACHE", "/somewhere")
    cleaned = clean_environment()
    assert "hush" not in json.dumps(cleaned)
    assert cleaned["GREYLAG_CACHE"] == "/somewhere" and cleaned["PATH"] == os.environ["PATH"]
