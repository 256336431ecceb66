"""`make demo CLUSTER=1` as a newcomer runs it: the same promotion, with Jobs and Deployments, the health gate real instead of skipped."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import builds
from sandbox.cluster import cluster as sandbox
from sandbox.cluster import kubeconfigs
from sandbox.stack import demo_cluster
from tasks import fleet
from tests import demonstration
from tests.demonstration import Demonstration, greylag, result_rows

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

MIGRATIONS = "app.kubernetes.io/component=migration"
APPLICATIONS = "app.kubernetes.io/component!=migration"
TARGETS = {target.label: target for target in fleet.load().targets()}


@pytest.fixture(scope="module")
def demo(session_directory: Path) -> Iterator[Demonstration]:
    """The demo on a cluster of its own, kept after its promotion."""
    if reason := sandbox.unavailable():
        pytest.skip(reason)
    with demonstration.running(session_directory / "demo-on-the-cluster", "--cluster", "--keep") as running:
        running.wait_for(demonstration.READY)
        yield running


def admin(demo: Demonstration, *arguments: str, stdin: str = "") -> str:
    """kubectl as the administrator of the demo's cluster."""
    done = subprocess.run(
        [builds.require(builds.CONTROLPLANE), "kubectl", *arguments],
        env={"KUBECONFIG": str(demo.state / "cluster" / "admin.kubeconfig"), "PATH": os.defpath, "HOME": str(demo.state)},
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def kubectl(demo: Demonstration, *arguments: str) -> Any:
    """What the demo's cluster holds."""
    return json.loads(admin(demo, *arguments, "--output", "json"))["items"]


def labelled(found: dict[str, Any], label: str) -> str:
    return str(found["metadata"]["labels"][label])


def test_every_service_is_migrated_by_a_job_and_its_rollout_is_seen(demo: Demonstration) -> None:
    rows = result_rows(demo)
    assert set(rows) == set(TARGETS)
    for row in rows.values():
        assert row["outcome"] == "migrated", row
        assert row["health gate"].startswith("healthy: 1 of 1 replicas are updated and available"), row
        assert "`greylag wait` has passed" in row["health gate"]
    assert "read back by SQL: 18 of 18 databases are at their newest version" in demo.output
    jobs = kubectl(demo, "get", "jobs", "--all-namespaces", "--selector", MIGRATIONS)
    assert {f"{labelled(job, 'greylag/environment')}/{labelled(job, 'app.kubernetes.io/instance')}" for job in jobs} == set(TARGETS)
    assert all(job["status"].get("succeeded") == 1 and not job["status"].get("failed") for job in jobs)


def test_no_application_started_before_its_migration(demo: Demonstration) -> None:
    migrated, started = {}, {}
    for pod in kubectl(demo, "get", "pods", "--all-namespaces", "--selector", MIGRATIONS):
        place = pod["metadata"]["namespace"], labelled(pod, "app.kubernetes.io/instance")
        migrated[place] = pod["status"]["containerStatuses"][0]["state"]["terminated"]["startedAt"]
    for pod in kubectl(demo, "get", "pods", "--all-namespaces", "--selector", APPLICATIONS):
        place = pod["metadata"]["namespace"], labelled(pod, "app.kubernetes.io/name")
        started[place] = pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    assert len(started) == 18
    assert all(started[place] >= migrated[place] for place in started)


@pytest.mark.parametrize("service", ["auth-service", "audit-service"])
def test_inline_too_a_service_goes_from_nothing_to_an_available_deployment(demo: Demonstration, service: str) -> None:
    target = TARGETS[f"dev/{service}"]
    admin(demo, "delete", "deployment", service, "--namespace", target.namespace)
    emptied = greylag(demo.state, "dev", "reset", f"@dev/{service}")
    assert emptied.returncode == 0, emptied.stderr
    assert greylag(demo.state, "dev", "status", f"@dev/{service}", "--exit-code").returncode == 3, "all of it is pending"
    admin(demo, "apply", "--namespace", target.namespace, "--filename", "-", stdin=json.dumps(demo_cluster.deployment(target)))
    deployed = greylag(demo.state, "dev", "deploy", f"@dev/{service}", "--mode", "inline", "--image", demo_cluster.RELEASE)
    assert deployed.returncode == 0, deployed.stderr
    assert greylag(demo.state, "dev", "status", f"@dev/{service}", "--exit-code").returncode == 0
    (found,) = kubectl(demo, "get", "deployments", "--namespace", target.namespace, "--field-selector", f"metadata.name={service}")
    assert found["status"]["availableReplicas"] == 1


@pytest.mark.parametrize("service", ["auth-service", "audit-service"])
def test_the_recipes_verification_is_one_command_for_the_worker(demo: Demonstration, service: str) -> None:
    access = {"KUBECONFIG": str(next((demo.state / "cluster" / "kubeconfigs").glob("dev-*"))), "GREYLAG_KUBE_CONTEXT": kubeconfigs.CONTEXT}
    told = greylag(demo.state, "dev", "verify", f"@dev/{service}", **access)
    assert told.returncode == 0, told.stderr
    assert f"{service}-migration-" in told.stderr + told.stdout, "the Job"
    assert "successfully migrated database" in told.stderr + told.stdout, "its pod's words"


def test_ctrl_c_ends_the_cluster_and_everything_else(demo: Demonstration) -> None:
    assert demo.interrupt() == 23
    assert demo.left == {}
