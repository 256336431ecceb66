"""What happens to a flow run whose pod is evicted while it migrates: the pod is made from the shipped template, as the worker does it."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator

import pytest
from prefect.client.orchestration import get_client

from deployments.worker import jobs
from sandbox.cluster.api import Object
from sandbox.stack.prefect_server import PrefectServer
from tests.cluster.fleet_stage import ROOT, FleetStage
from tests.cluster.workloads import Namespace, condition
from tests.flows import prefect_api

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SLOW = """\
-- +goose Up
CREATE TABLE half_done (id integer);
SELECT pg_sleep(seconds) FROM pace;
-- +goose Down
DROP TABLE half_done;
"""
VERSION = 20250201000000


@pytest.fixture
def stage(worker: FleetStage, prefect_server: PrefectServer) -> Iterator[FleetStage]:
    """dev with a migration that takes as long as the table `pace` says: ten minutes, until the test lets it pass."""
    owner = f"{worker.target().database}_owner"
    worker.sql(
        "dev",
        f'CREATE TABLE IF NOT EXISTS pace AS SELECT 600 AS seconds; GRANT SELECT ON pace TO "{owner}"; UPDATE pace SET seconds = 600;',
    )
    path = worker.write(f"{VERSION}_slow.sql", SLOW)
    worker.deploy()
    yield worker
    path.unlink()


def created_run(image: str, mode: str = "inline") -> str:
    """A run of a deployment of deploy_service, as a schedule or the UI makes it."""
    from flows.deploy_service import deploy_service

    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(
            client.create_flow(deploy_service),
            name=f"evicted-{secrets.token_hex(4)}",
            entrypoint="flows/deploy_service.py:deploy_service",
            parameter_openapi_schema={"type": "object", "properties": {}},
        )
        given = {"service": "auth-service", "environment": "dev", "mode": mode, "image": image}
        return str(client.create_flow_run_from_deployment(deployment, parameters=given).id)


def pod_job(stage: FleetStage, server: PrefectServer, run_id: str) -> Object:
    """The Job that the worker makes of a run."""
    own = stage.variables() | server.environment() | {"PREFECT__FLOW_RUN_ID": run_id, "PYTHONPATH": str(ROOT)}
    for name in ("PREFECT_HOME", "KUBECONFIG", "GREYLAG_KUBE_CONTEXT", "GREYLAG_VAULT_TOKEN_FILE"):  # the template's own, or the pod's
        own.pop(name)
    own |= {"GREYLAG_FLEET": "/stage/fleet.yaml", "GREYLAG_VAULT_KUBERNETES_ROLE": stage.vault_role()}
    job = jobs.JobSettings(stage.namespace().name, worker_image(stage))
    found: Object = jobs.manifest(jobs.read(job.template), job, ("deploy-service", run_id, "dev", "greylag-dev", "worker"), own)
    found["metadata"]["name"] += f"-{secrets.token_hex(3)}"
    pod = found["spec"]["template"]["spec"]
    pod["terminationGracePeriodSeconds"] = 30
    pod["containers"][0]["workingDir"] = str(ROOT)
    return found


def worker_image(stage: FleetStage) -> str:
    """The worker image: this checkout with the fleet. It holds no login: the pod's is its service account."""
    name = f"registry.example/{stage.tag}/worker"
    files = {f"/stage/{item}": str(stage.directory / item) for item in ("fleet.yaml", "services")}
    stage.cluster.register(dataclasses.replace(stage.image, name=name, mounts={**stage.image.mounts, **files}))
    return name


def busy(stage: FleetStage) -> bool:
    """Whether the server works on the slow statement."""
    running = f"datname = '{stage.target().database}' AND state = 'active' AND pid <> pg_backend_pid()"
    found = f"SELECT count(*) FROM pg_stat_activity WHERE {running} AND query LIKE '%pg_sleep(seconds)%'"
    return stage.sql("dev", found) != ["0"]


def started(stage: FleetStage, server: PrefectServer, run_id: str) -> tuple[Namespace, str, str]:
    """The run's Job and its pod, once the statement runs on the server."""
    namespace = stage.namespace()
    job = namespace.create(pod_job(stage, server, run_id))["metadata"]["name"]

    def pods() -> list[Object]:
        return namespace.list("pod", labelSelector=f"batch.kubernetes.io/job-name={job}")

    def running() -> bool:
        found = pods()
        if found and found[0]["status"].get("phase") == "Failed":
            raise AssertionError(namespace.said(found[0]["metadata"]["name"]))
        return busy(stage)

    stage.cluster.wait_until(running, "the migration is under way", 240)
    return namespace, job, pods()[0]["metadata"]["name"]


def evict(stage: FleetStage, pod: str) -> None:
    """What a drain does."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    stage.cluster.api.create(f"/api/v1/namespaces/{stage.namespace().name}/pods/{pod}/eviction", eviction)


def completed(stage: FleetStage, server: PrefectServer, run_id: str) -> None:
    """The run, executed in another pod to its end; the migration is there once."""
    stage.sql("dev", "UPDATE pace SET seconds = 0")
    namespace = stage.namespace()
    name = namespace.create(pod_job(stage, server, run_id))["metadata"]["name"]
    ended = namespace.wait("job", name, lambda job: condition(job, "Complete") or condition(job, "Failed"), "finishes", 300)
    pod = namespace.list("pod", labelSelector=f"batch.kubernetes.io/job-name={name}")[0]["metadata"]["name"]
    assert condition(ended, "Complete"), namespace.said(pod)
    assert prefect_api.ended(server, run_id)["state_type"] == "COMPLETED", namespace.said(pod)
    assert stage.versions().count(VERSION) == 1
    stage.sql("dev", f"DROP TABLE half_done; DELETE FROM goose_db_version WHERE version_id = {VERSION}")


def test_good_flow_an_evicted_run_ends_on_the_server_and_is_scheduled_again(stage: FleetStage, prefect_server: PrefectServer) -> None:
    run_id = created_run(stage.image.name)
    namespace, job, pod = started(stage, prefect_server, run_id)
    evict(stage, pod)
    stage.cluster.wait_until(lambda: not busy(stage), "the statement is cancelled on the server", 25)
    finished = namespace.wait("job", job, lambda found: condition(found, "Complete") or condition(found, "Failed"), "is over", 90)
    assert sum(finished["status"].get(key, 0) for key in ("succeeded", "failed")) == 1, "Kubernetes started no second pod"
    assert stage.sql("dev", "SELECT to_regclass('half_done') IS NULL") == ["t"], "rolled back"
    assert VERSION not in stage.versions()
    run = prefect_server.request("GET", f"/flow_runs/{run_id}")
    assert (run["state_type"], run["state_name"]) == ("SCHEDULED", "AwaitingRetry"), "a worker starts it again"
    completed(stage, prefect_server, run_id)


def test_good_flow_an_evicted_run_takes_its_job_with_it_and_makes_it_anew(stage: FleetStage, prefect_server: PrefectServer) -> None:
    stage.credentials_secret()
    run_id = created_run(stage.image.name, "job")
    namespace, job, pod = started(stage, prefect_server, run_id)
    migrating = "app.kubernetes.io/component=migration"
    (first,) = namespace.list("job", labelSelector=migrating)
    evict(stage, pod)
    stage.cluster.wait_until(lambda: not busy(stage), "the Job's statement is cancelled", 60)
    namespace.wait("job", job, lambda found: condition(found, "Complete") or condition(found, "Failed"), "is over", 90)
    stage.cluster.wait_until(lambda: namespace.list("job", labelSelector=migrating) == [], "the migration Job is gone", 90)
    assert stage.sql("dev", "SELECT to_regclass('half_done') IS NULL") == ["t"], "rolled back"
    assert prefect_server.request("GET", f"/flow_runs/{run_id}")["state_name"] == "AwaitingRetry"
    completed(stage, prefect_server, run_id)
    (second,) = namespace.list("job", labelSelector=migrating)
    assert second["metadata"]["uid"] != first["metadata"]["uid"] and condition(second, "Complete")


def test_bad_flow_a_run_that_gets_no_grace_leaves_nothing_half_done(stage: FleetStage, prefect_server: PrefectServer) -> None:
    run_id = created_run(stage.image.name)
    namespace, job, pod = started(stage, prefect_server, run_id)
    namespace.delete("pod", pod, gracePeriodSeconds=0)
    stage.cluster.wait_until(lambda: not busy(stage), "the server notices that its client is gone", 60)
    failed = namespace.wait("job", job, lambda found: condition(found, "Failed"), "fails", 90)
    assert failed["status"]["failed"] == 1
    assert stage.sql("dev", "SELECT to_regclass('half_done') IS NULL") == ["t"]
    assert prefect_server.request("GET", f"/flow_runs/{run_id}")["state_type"] == "RUNNING", "nobody was left to say otherwise"
    prefect_api.free_limit(prefect_server, stage.target().limit)  # the slot would be free again after a minute
    completed(stage, prefect_server, created_run(stage.image.name))
