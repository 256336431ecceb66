"""Deployments under the real controllers: available, stuck, rolled back, and held back by an init container."""

from __future__ import annotations

import pytest

from sandbox.cluster import images
from sandbox.cluster.api import Object
from tests.cluster.workloads import Namespace, condition, container, deployment, pod, state

pytestmark = pytest.mark.cluster

SERVE = "trap 'exit 0' TERM; sleep 600 & wait"


def available(found: Object, replicas: int = 1) -> bool:
    status = found.get("status") or {}
    return [status.get(name) for name in ("availableReplicas", "updatedReplicas", "replicas")] == [replicas] * 3


def test_a_rollout_becomes_available(namespace: Namespace) -> None:
    namespace.create(deployment("web", container(SERVE), replicas=2))
    namespace.wait("deployment", "web", lambda found: available(found, 2), "is available")
    told = namespace.cluster.kubectl("rollout", "status", "deployment/web", "--namespace", namespace.name, "--timeout=30s")
    assert "successfully rolled out" in told.stdout


def test_a_new_image_replaces_the_pods_of_the_old_one(namespace: Namespace) -> None:
    repository = f"registry.example/{namespace.name}"
    for release in ("1", "2"):
        namespace.cluster.register(images.Image(f"{repository}:{release}", environment={"RELEASE": release}))
    namespace.create(deployment("web", container(f"echo release $RELEASE; {SERVE}", image=f"{repository}:1")))
    namespace.wait("deployment", "web", available, "is available")
    namespace.cluster.kubectl("set", "image", "deployment/web", f"main={repository}:2", "--namespace", namespace.name)
    namespace.cluster.kubectl("rollout", "status", "deployment/web", "--namespace", namespace.name, "--timeout=60s")

    def logs() -> list[str]:
        return [namespace.said(each["metadata"]["name"]) for each in namespace.list("pod", labelSelector="app=web")]

    namespace.cluster.wait_until(lambda: logs() == ["release 2\n"], "only the new release is left")


def test_bad_flow_a_rollout_that_makes_no_progress_is_reported(namespace: Namespace) -> None:
    namespace.create(deployment("web", container("exit 1"), deadline=3))

    def stuck(found: Object) -> bool:
        conditions = (found.get("status") or {}).get("conditions") or []
        return any(each["type"] == "Progressing" and each.get("reason") == "ProgressDeadlineExceeded" for each in conditions)

    namespace.wait("deployment", "web", stuck, "has exceeded its progress deadline")
    told = namespace.cluster.kubectl("rollout", "status", "deployment/web", "--namespace", namespace.name, check=False)
    assert told.returncode == 1
    assert "exceeded its progress deadline" in told.stderr


def test_a_deployment_does_not_start_before_its_init_container_has_passed(namespace: Namespace) -> None:
    gate = container("test -e /flag/migrated", "wait-for-migration", volumeMounts=[{"name": "flag", "mountPath": "/flag"}])
    # An optional ConfigMap stands for the database: a pod sees it from its next start on.
    flag = {"name": "flag", "configMap": {"name": "flag", "optional": True}}
    namespace.create(deployment("web", container(SERVE), initContainers=[gate], volumes=[flag]))

    def refused_once() -> bool:
        found = namespace.list("pod", labelSelector="app=web")
        statuses = found[0].get("status", {}).get("initContainerStatuses") or [] if found else []
        return any(each["restartCount"] >= 1 for each in statuses)

    namespace.cluster.wait_until(refused_once, "the gate has refused")
    assert not available(namespace.get("deployment", "web") or {})
    assert "Initialized" not in {each["type"] for each in namespace.list("pod")[0]["status"]["conditions"] if each["status"] == "True"}
    namespace.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "flag"}, "data": {"migrated": "yes"}})
    namespace.delete("pod", namespace.list("pod", labelSelector="app=web")[0]["metadata"]["name"], gracePeriodSeconds=0)
    namespace.wait("deployment", "web", available, "is available")


def test_a_pod_that_stands_alone_is_ready_as_soon_as_it_runs(namespace: Namespace) -> None:
    namespace.create(pod("alone", container(SERVE)))
    found = namespace.wait("pod", "alone", lambda each: condition(each, "Ready"), "is ready")
    assert "running" in state(found)


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_the_other_workloads_roll_out_too(namespace: Namespace, kind: str) -> None:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [container(SERVE)]}}
    spec: Object = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    more = {"serviceName": "web", "replicas": 2} if kind == "StatefulSet" else {}
    namespace.apply({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web"}, "spec": spec | more})
    told = namespace.cluster.kubectl("rollout", "status", f"{kind}/web", "--namespace", namespace.name, "--timeout=60s")
    assert "roll" in told.stdout
    assert len(namespace.list("pod", labelSelector="app=web")) == (2 if kind == "StatefulSet" else 1)
