"""deploy_service and deploy_environment with mode job: Prefect, Vault's API, databases and a cluster, each of them real but Vault."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from sandbox.cluster import images, kubeconfigs
from sandbox.databases.postgres import PostgresServer
from sandbox.stack.prefect_server import PrefectServer, clean_environment
from sandbox.vault.secrets_server import SecretsServer
from tests.cluster.job_stage import GATED, ROOT, gate
from tests.cluster.workloads import Namespace, condition, container, deployment
from tests.flows import prefect_api
from tests.flows.stage import Stage, become, drain

pytestmark = pytest.mark.cluster

PROGRAM = ROOT / "tests" / "flows" / "run_again.py"
BOTH = [20250101000000, 20250102000000]
SERVICE = "auth-service"
IMAGE = "registry.example"


class Team:
    """A small fleet whose dev environment is a namespace of the cluster."""

    def __init__(self, namespace: Namespace, stage: Stage) -> None:
        self.namespace, self.stage = namespace, stage

    def configure(self) -> None:
        """Puts what Jobs need into fleet.yaml, and each service's Secret into the namespace."""
        path = self.stage.directory / "fleet.yaml"
        text = path.read_text(encoding="utf-8")
        job = f'namespace: {self.namespace.name}\njob:\n  image: "{IMAGE}/{self.namespace.name}/{{service}}"\n'
        path.write_text(job + text, encoding="utf-8")
        for service in self.stage.services:
            data = {key: str(value) for key, value in self.stage.secret(service, "dev").items()}
            name = f"{service}-postgres-credentials"
            self.namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})

    def push(self, tag: str, service: str = SERVICE) -> str:
        """An image of the service's files as they are; gives its whole name."""
        name = f"{IMAGE}/{self.namespace.name}/{service}:{tag}"
        places = {f"/app/services/{service}/{path.name}": str(path) for path in (self.stage.directory / "services" / service).iterdir()}
        for path in (self.stage.directory / "services").rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        self.namespace.cluster.register(images.checkout(name, ROOT, Path(sys.executable), places))
        return name

    def variables(self) -> dict[str, str]:
        """What dev's worker holds besides."""
        return {"GREYLAG_KUBE_CONTEXT": kubeconfigs.CONTEXT, "KUBECONFIG": str(self.namespace.cluster.kubeconfig)}

    def jobs(self) -> list[Any]:
        return self.namespace.list("job")

    def wait_at_gate(self) -> None:
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 77"
        self.namespace.cluster.wait_until(lambda: self.stage.sql(SERVICE, "dev", waiting) == ["1"], "the migration waits", 120)


@pytest.fixture
def team(
    namespace: Namespace, tmp_path: Path, postgres_server: PostgresServer, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Team]:
    from kubernetes.config import kube_config

    tmp_path.chmod(0o755)
    with SecretsServer() as vault:
        stage = Stage(tmp_path, postgres_server, vault)
        stage.fresh("dev")
        become(monkeypatch, stage, "dev")
        found = Team(namespace, stage)
        found.configure()
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(namespace.cluster.kubeconfig))
        for name, value in found.variables().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("GREYLAG_ROLLOUT_TIMEOUT_SECONDS", "60")
        yield found
        drain()
        stage.drop()


def deploy(**given: Any) -> Any:
    from flows.deploy_service import deploy_service

    return deploy_service(service=SERVICE, environment="dev", **given, return_state=True)


def rolled_out(team: Team, image: str, service: str = SERVICE) -> None:
    """A Deployment of that image."""
    team.namespace.create(deployment(service, container("exec sleep 600", name=service, image=image)))


def executed(team: Team, server: PrefectServer, flow: str, **parameters: Any) -> subprocess.Popen[str]:
    """A process of its own that executes a run of the flow, as a worker does."""
    import importlib

    function = getattr(importlib.import_module(f"flows.{flow}"), flow)
    with get_client(sync_client=True) as client:
        run_id = str(client.create_flow_run(function, parameters=parameters).id)
    variables = clean_environment() | server.environment() | team.stage.variables("dev") | team.variables() | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, PROGRAM, run_id, flow], cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_good_flow_from_nothing_to_a_healthy_deployment_by_five_tasks_and_a_job(team: Team, prefect_server: PrefectServer) -> None:
    rolled_out(team, team.push("1"))
    state = deploy(image="1")  # no mode: a cluster and an image make it a Job
    assert state.is_completed(), state.message
    runs = prefect_api.task_runs(prefect_server, str(state.state_details.flow_run_id), 5)
    assert [run["name"].removesuffix(" dev/auth-service") for run in runs] == [
        "fetch credentials",
        "encode URL",
        "run migration",
        "verify tables",
        "await Deployment health",
    ]
    assert team.stage.versions(SERVICE, "dev") == BOTH
    row = prefect_api.artifact(prefect_server, "result-auth-service-dev")[0]
    assert (row["outcome"], row["migrations"], row["versions"]) == ("migrated", 2, "20250101000000 to 20250102000000")
    assert row["rollout"].startswith("healthy")
    assert "CREATE INDEX CONCURRENTLY users_created_at" in prefect_api.artifact(prefect_server, "plan-auth-service-dev")
    (job,) = team.jobs()
    assert condition(job, "Complete")
    wanted = {"logs": {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}}}
    last = "goose: successfully migrated database to version: 20250102000000"
    logs = prefect_api.eventually(
        lambda: [line["message"] for line in prefect_server.request("POST", "/logs/filter", wanted)],
        lambda lines: any(last in line for line in lines),
    )
    assert len([line for line in logs if last in line]) == 1, logs


def test_bad_flow_a_failed_job_is_not_repeated_by_the_task_and_its_words_are_the_runs(team: Team, prefect_server: PrefectServer) -> None:
    team.stage.write("auth-service/migrations/20250103000000_broken.sql", "-- +goose Up\nALTER TABLE absent ADD COLUMN x text;\n")
    team.push("1")
    state = deploy(image="1", mode="job")
    assert state.is_failed()
    message = prefect_api.flow_run(prefect_server, state)["state"]["message"]
    for part in ("20250103000000_broken.sql:2", "[sql-rejected]", 'relation "absent" does not exist', "hint: ", "PodFailurePolicy"):
        assert part in message
    runs = prefect_api.task_runs(prefect_server, str(state.state_details.flow_run_id), 3)
    assert next(run["run_count"] for run in runs if run["name"].startswith("run migration")) == 1
    assert len(team.jobs()) == 1
    assert "marker-" not in message


def test_bad_flow_mode_job_without_an_image_is_refused(team: Team, prefect_server: PrefectServer) -> None:
    state = deploy(mode="job")
    assert state.is_failed()
    assert "[image-missing]" in (state.message or "")
    assert team.jobs() == []


def test_good_flow_the_job_of_a_killed_worker_goes_on_and_the_next_run_adopts_it(team: Team, prefect_server: PrefectServer) -> None:
    team.stage.write("auth-service/migrations/20250103000000_gated.sql", GATED)
    rolled_out(team, team.push("1"))
    with gate(team.stage.postgres.superuser_url(team.stage.database(SERVICE, "dev"))):
        process = executed(team, prefect_server, "deploy_service", service=SERVICE, environment="dev", image="1", mode="job")
        team.wait_at_gate()
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate()
        (job,) = team.jobs()
        assert not condition(job, "Failed"), output
        prefect_api.free_limit(prefect_server, "greylag-auth-service-dev")
        process = executed(team, prefect_server, "deploy_service", service=SERVICE, environment="dev", image="1", mode="job")
        assert process.stdout is not None
        for line in process.stdout:
            if "is at work on this already" in line:
                break
    output, _ = process.communicate()
    assert "ENDED COMPLETED" in output, output
    assert [found["metadata"]["uid"] for found in team.jobs()] == [job["metadata"]["uid"]]
    assert team.stage.versions(SERVICE, "dev") == [*BOTH, 20250103000000]
    assert prefect_api.artifact(prefect_server, "result-auth-service-dev")[0]["migrations"] == 3


@pytest.mark.parametrize("flow", ["deploy_service", "deploy_environment"])
def test_bad_flow_a_cancelled_run_leaves_no_job_no_pod_and_nothing_half_done(team: Team, prefect_server: PrefectServer, flow: str) -> None:
    team.stage.write("auth-service/migrations/20250103000000_gated.sql", GATED)
    team.push("1")
    services = {"service": SERVICE} if flow == "deploy_service" else {"services": [SERVICE]}
    with gate(team.stage.postgres.superuser_url(team.stage.database(SERVICE, "dev"))):
        process = executed(team, prefect_server, flow, environment="dev", image="1", mode="job", **services)
        team.wait_at_gate()
        os.kill(process.pid, signal.SIGTERM)
        output, _ = process.communicate()
        assert team.jobs() == team.namespace.list("pod") == [], output
    assert "ENDED COMPLETED" not in output
    assert team.stage.versions(SERVICE, "dev") == BOTH
    assert team.stage.sql(SERVICE, "dev", "SELECT to_regclass('gated') IS NULL") == ["t"]
