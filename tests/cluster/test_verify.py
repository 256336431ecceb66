"""`greylag verify @environment/service` on a real cluster, as the environment's worker: the recipe's verification section as one command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from migrator import cli
from tests.cluster.fleet_stage import FleetStage
from tests.cluster.workloads import Namespace, condition

pytestmark = pytest.mark.cluster

NAME = "auth-service-migrate"
KEYS = {"HOST": "host", "PORT": "port", "USERNAME": "username", "PASSWORD": "password", "DATABASE": "database"}


def migration_job(stage: FleetStage, secret: str, command: list[str]) -> dict[str, Any]:
    """The recipe's Job, without any label: its Secret's keys as variables, one attempt."""
    variables = [{"name": f"GREYLAG_{key}", "valueFrom": {"secretKeyRef": {"name": secret, "key": word}}} for key, word in KEYS.items()]
    main = {
        "name": "migrate",
        "image": stage.image.name,
        "command": command,
        "env": [{"name": "GREYLAG_DRIVER", "value": "postgres"}, *variables],
    }
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [main]}
    spec = {"backoffLimit": 0, "template": {"metadata": {"labels": {"app.kubernetes.io/component": "migration"}}, "spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": NAME}, "spec": spec}


UP = ["greylag", "-dir", "/app/services/auth-service/migrations", "up"]


@pytest.fixture
def namespace(worker: FleetStage) -> Iterator[Namespace]:
    """dev's namespace, migrated by a Job; the Job of a test is removed afterwards."""
    found = worker.namespace()
    secret = worker.credentials_secret()
    if found.get("job", NAME) is None:
        found.create(migration_job(worker, secret, UP))
        assert condition(found.finished(NAME), "Complete")
    yield found
    found.delete("job", NAME, propagationPolicy="Background")
    found.gone("job", NAME)


def replaced(namespace: Namespace, job: dict[str, Any]) -> None:
    namespace.delete("job", NAME, propagationPolicy="Background")
    namespace.gone("job", NAME)
    namespace.create(job)


def test_good_flow_verify_shows_the_job_its_logs_the_workload_the_status_and_the_tables(
    worker: FleetStage, namespace: Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    worker.deploy()
    namespace.wait("deployment", "auth-service", lambda found: (found.get("status") or {}).get("availableReplicas") == 1, "is available")
    assert cli.main(["verify", "@dev/auth-service"]) == 0
    told = capsys.readouterr().err
    for expected in (
        f"job {namespace.name}/{NAME}: complete at ",
        "pods: 1 succeeded",
        "succeeded, migrate ended with exit code 0",
        "  | ",
        "successfully migrated database to version: 20250101000000",
        f"Deployment {namespace.name}/auth-service: done: 1 of 1 replicas are updated and available",
        "-- 20250101000000_create_users.sql",
        "verified: version 20250101000000",
    ):
        assert expected in told
    assert told.index("job ") < told.index("Applied At") < told.index("verified:")
    assert worker.passwords["dev"] not in told


def test_the_same_as_a_document(worker: FleetStage, namespace: Namespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "@dev/auth-service", "-json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["job"]["name"], document["job"]["state"]) == (NAME, "complete")
    assert any("version: 20250101000000" in line for line in document["job"]["pods"][0]["log"])
    assert document["verified"] is True and document["status"]["pending"] == []


def test_bad_flow_a_newest_job_that_failed_is_16_although_the_tables_are_there(
    worker: FleetStage, namespace: Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    replaced(namespace, migration_job(worker, worker.credentials_secret(password="marker-wrong"), UP))
    namespace.finished(NAME)
    assert cli.main(["verify", "@dev/auth-service"]) == 16
    told = capsys.readouterr().err
    assert "verified: version" in told and "[migration-job-failed]" in told
    assert "password authentication failed" in told, "the pod's last words"
    assert "marker-wrong" not in told


def test_bad_flow_a_job_that_still_runs_is_24(worker: FleetStage, namespace: Namespace, capsys: pytest.CaptureFixture[str]) -> None:
    secret = worker.credentials_secret()
    replaced(namespace, migration_job(worker, secret, ["sh", "-c", "trap 'exit 0' TERM; echo begun; sleep 600 & wait"]))
    namespace.cluster.wait_until(
        lambda: any(
            pod["status"].get("phase") == "Running" for pod in namespace.list("pod", labelSelector=f"batch.kubernetes.io/job-name={NAME}")
        ),
        "the Job's pod runs",
    )
    assert cli.main(["verify", "@dev/auth-service"]) == 24
    assert "[migration-job-unfinished]" in capsys.readouterr().err


def test_bad_flow_a_cluster_that_refuses_hides_nothing_of_the_database(
    worker: FleetStage, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kubernetes.config import kube_config

    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(worker.kubeconfig("release")))
    assert cli.main(["verify", "@dev/auth-service"]) == 12
    told = capsys.readouterr().err
    assert "verified: version" in told and "[kube-forbidden]" in told
    assert f'{{apiGroups: ["batch"], resources: ["jobs"], verbs: ["list"]}} in namespace {namespace.name}' in told
