"""A run that is killed, ended or retried at any point: correctness rests on the database, so the next run ends it well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType

from sandbox.stack.prefect_server import PrefectServer, clean_environment
from tests.flows import prefect_api
from tests.flows.stage import ROOT, Stage

pytestmark = pytest.mark.slow

DEATHS = [
    ("before", "tasks.credentials", "fetch"),
    ("before", "tasks.database_url", "encode"),
    ("before", "tasks.migration", "run"),
    ("after", "tasks.migration", "run"),
    ("before", "tasks.verification", "verify"),
    ("before", "tasks.rollout", "await_health"),
]
PROGRAM = Path(__file__).with_name("run_again.py")


def created(flow: Flow[..., object], **parameters: object) -> str:
    """A flow run that nobody executes yet."""
    with get_client(sync_client=True) as client:
        return str(client.create_flow_run(flow, parameters=parameters).id)


def executed(stage: Stage, server: PrefectServer, run_id: str, flow: str, *death: str) -> subprocess.Popen[str]:
    """A process of its own that executes the run, with what dev's worker holds."""
    variables = clean_environment() | server.environment() | stage.variables("dev") | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, PROGRAM, run_id, flow, *death],
        cwd=ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def retry(server: PrefectServer, run_id: str, after: StateType) -> None:
    """The UI's Retry of a run whose process is gone. Forced, because without a deployment there is no worker that Prefect could hand it to.

    A killed holder's slot in the concurrency limit would be free again after a minute; a test does not wait for that.
    """
    for service in ("auth-service", "personal-service"):
        prefect_api.free_limit(server, f"greylag-{service}-dev")
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run_id, State(type=after), force=True)  # type: ignore[arg-type]
        client.set_flow_run_state(run_id, State(type=StateType.SCHEDULED, name="AwaitingRetry"), force=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("flow", ["deploy_service", "deploy_environment"])
def test_good_flow_a_run_that_was_killed_before_every_task_in_turn_ends_in_one_row_per_version(
    stage: Stage, prefect_server: PrefectServer, flow: str
) -> None:
    from flows.deploy_environment import deploy_environment
    from flows.deploy_service import deploy_service

    if flow == "deploy_service":
        run_id = created(deploy_service, service="auth-service", environment="dev")
    else:
        run_id = created(deploy_environment, environment="dev", services=["auth-service", "personal-service"])
    deaths = DEATHS if flow == "deploy_service" else DEATHS[2:4]
    for death in deaths:
        process = executed(stage, prefect_server, run_id, flow, *death)
        output, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, output
        retry(prefect_server, run_id, StateType.CRASHED)
    process = executed(stage, prefect_server, run_id, flow)
    output, _ = process.communicate()
    assert "ENDED COMPLETED" in output, output
    run = prefect_server.request("GET", f"/flow_runs/{run_id}")
    assert (run["state_type"], run["run_count"]) == ("COMPLETED", len(deaths) + 1)
    assert stage.versions("auth-service", "dev") == [20250101000000, 20250102000000]
    if flow == "deploy_environment":
        assert stage.versions("personal-service", "dev") == [20250101000000]


def test_good_flow_a_retried_environment_never_takes_one_services_run_for_anothers(stage: Stage, prefect_server: PrefectServer) -> None:
    """Services start side by side, so their order differs from run to run; what completed before must be looked at again, service by service."""
    from flows.deploy_environment import deploy_environment

    stage.write("auth-service/migrations/20250103000000_broken.sql", "-- +goose Up\nSELECT 1 FROM absent;\n-- +goose Down\nSELECT 1;\n")
    run_id = created(deploy_environment, environment="dev")
    output, _ = executed(stage, prefect_server, run_id, "deploy_environment").communicate()
    assert "ENDED FAILED" in output, output
    stage.write("auth-service/migrations/20250103000000_broken.sql", "-- +goose Up\nSELECT 1;\n-- +goose Down\nSELECT 1;\n")
    retry(prefect_server, run_id, StateType.FAILED)
    output, _ = executed(stage, prefect_server, run_id, "deploy_environment").communicate()
    assert "ENDED COMPLETED" in output, output
    rows = prefect_api.artifact(prefect_server, "result-dev")
    assert {row["service"]: row["outcome"] for row in rows} == {
        "auth-service": "migrated",
        "personal-service": "migrated",
        "identity-service": "nothing to do",
    }
    for service in stage.services:
        assert stage.versions(service, "dev")[-1] == stage.newest(service)


def test_bad_flow_a_terminated_run_ends_its_statements_on_the_server_and_begins_nothing_more(
    stage: Stage, prefect_server: PrefectServer
) -> None:
    from flows.deploy_environment import deploy_environment

    slow = "-- +goose Up\nCREATE TABLE slow (id text);\nSELECT pg_sleep(300);\n-- +goose Down\nDROP TABLE slow;\n"
    stage.write("auth-service/migrations/20250103000000_slow.sql", slow)
    run_id = created(deploy_environment, environment="dev", services=["auth-service", "personal-service"])
    process = executed(stage, prefect_server, run_id, "deploy_environment")
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    while stage.sql("auth-service", "dev", sleeping) == ["0"]:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate()
    assert "ENDED COMPLETED" not in output
    assert stage.sql("auth-service", "dev", sleeping) == ["0"]
    assert stage.versions("auth-service", "dev") == [20250101000000, 20250102000000]
    assert stage.versions("personal-service", "dev") == []
    assert stage.sql("auth-service", "dev", "SELECT to_regclass('slow') IS NULL") == ["t"]
    run = prefect_server.request("GET", f"/flow_runs/{run_id}")
    assert run["state_type"] == "CRASHED", output

    stage.write("auth-service/migrations/20250103000000_slow.sql", slow.replace("300", "0"))
    retry(prefect_server, run_id, StateType.CRASHED)
    output, _ = executed(stage, prefect_server, run_id, "deploy_environment").communicate()
    assert "ENDED COMPLETED" in output, output
    assert stage.versions("auth-service", "dev")[-1] == 20250103000000
