"""The gate on a StatefulSet and a DaemonSet under their real controllers, and on an Argo Rollout: a real API with Argo's kind of object, whose
controller is played by the test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from migrator import errors
from sandbox.cluster.api import MERGE, ApiRefused, Object
from tasks.fleet.models import WorkloadKind
from tasks.outcomes import RolloutState
from tasks.rollout import revisions
from tests.cluster.releases import RULES, SERVE, Gate, later
from tests.cluster.workloads import Namespace, container, pod

pytestmark = pytest.mark.cluster

STUBBORN = "trap '' TERM; echo started; sleep 3600 & wait; sleep 3600"


@pytest.fixture
def gate(namespace: Namespace) -> Gate:
    return Gate.of(namespace)


def workload(kind: str, **more: Any) -> Object:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [container(SERVE)]}}
    spec: Object = {"selector": {"matchLabels": {"app": "web"}}, "template": template} | more
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web"}, "spec": spec}


def move(namespace: Namespace, kind: str, script: str) -> None:
    patch = {"spec": {"template": {"spec": {"containers": [container(script)]}}}}
    namespace.cluster.api.patch(f"/apis/apps/v1/namespaces/{namespace.name}/{kind.lower()}s/web", patch)


CASES = [
    pytest.param(WorkloadKind.STATEFUL_SET, {"serviceName": "web", "replicas": 2}, id="StatefulSet"),
    pytest.param(WorkloadKind.DAEMON_SET, {}, id="DaemonSet"),
]


@pytest.mark.parametrize(("kind", "more"), CASES)
def test_the_other_workloads_are_awaited_pod_by_pod_and_kubectl_agrees(
    namespace: Namespace, gate: Gate, kind: WorkloadKind, more: dict[str, Any]
) -> None:
    namespace.create(workload(kind, **more))
    first = gate.await_health("web", image="machine", kind=kind)
    assert first.state is RolloutState.HEALTHY
    before = gate.observe("web", kind)
    actor = later(1.0, lambda: move(namespace, kind, f"echo two; {SERVE}"))
    told: list[str] = []
    outcome = gate.await_health("web", before=before, kind=kind, told=told)
    actor.join()
    assert outcome.state is RolloutState.HEALTHY and outcome.generation > before.generation
    assert "still has the pod template" in told[0]
    revision = {each["metadata"]["labels"][revisions.CONTROLLER_HASH] for each in namespace.list("pod", labelSelector="app=web")}
    assert len(revision) == 1
    witness = namespace.cluster.kubectl("rollout", "status", f"{kind}/web", "--namespace", namespace.name, "--timeout=5s")
    assert "roll" in witness.stdout


@pytest.mark.parametrize(("kind", "more"), CASES)
def test_bad_flow_a_crash_loop_of_the_new_pods_is_told(namespace: Namespace, gate: Gate, kind: WorkloadKind, more: dict[str, Any]) -> None:
    namespace.create(workload(kind, **more))
    gate.await_health("web", image="machine", kind=kind)
    before = gate.observe("web", kind)
    move(namespace, kind, "echo no such table; exit 1")
    with pytest.raises(errors.VerificationFailed, match="crash loop") as caught:
        gate.await_health("web", before=before, kind=kind)
    assert "no such table" in caught.value.detail


def test_a_partition_that_keeps_old_pods_is_not_over_although_kubectl_is_content(namespace: Namespace, gate: Gate) -> None:
    kept = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}
    namespace.create(workload("StatefulSet", serviceName="web", replicas=2, **kept))
    gate.await_health("web", image="machine", kind=WorkloadKind.STATEFUL_SET)
    before = gate.observe("web", WorkloadKind.STATEFUL_SET)
    move(namespace, "StatefulSet", f"echo two; {SERVE}")
    witness = namespace.cluster.kubectl("rollout", "status", "statefulset/web", "--namespace", namespace.name, "--timeout=60s")
    assert "partitioned roll out complete" in witness.stdout
    with pytest.raises(errors.NotYet, match="pods of the previous release still run: web-0"):
        gate.await_health("web", before=before, kind=WorkloadKind.STATEFUL_SET, seconds=3)


@pytest.mark.parametrize(("kind", "more"), CASES)
def test_bad_flow_an_update_strategy_that_waits_for_people_can_not_be_awaited(
    namespace: Namespace, gate: Gate, kind: WorkloadKind, more: dict[str, Any]
) -> None:
    namespace.create(workload(kind, updateStrategy={"type": "OnDelete"}, **more))
    with pytest.raises(errors.VerificationFailed, match="OnDelete"):
        gate.await_health("web", image="machine", kind=kind)
    witness = namespace.cluster.kubectl("rollout", "status", f"{kind}/web", "--namespace", namespace.name, check=False)
    assert witness.returncode == 1 and "RollingUpdate" in witness.stderr


def test_bad_flow_without_the_right_to_list_revisions_a_daemon_set_is_not_judged(namespace: Namespace) -> None:
    limited = Gate.of(namespace, "limited", [rule for rule in RULES if rule["resources"] != ["controllerrevisions"]])
    namespace.create(workload("DaemonSet"))
    with pytest.raises(errors.LoginFailed) as caught:
        limited.await_health("web", image="machine", kind=WorkloadKind.DAEMON_SET)
    assert 'resources: ["controllerrevisions"], verbs: ["list"]' in caught.value.hint


# --- Argo Rollouts: the API is real, its controller is this test


DEFINITION: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "rollouts.argoproj.io"},
    "spec": {
        "group": "argoproj.io",
        "scope": "Namespaced",
        "names": {"plural": "rollouts", "singular": "rollout", "kind": "Rollout"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


class PlayedController:
    """What Argo's controller would do to the Rollout `web`: ReplicaSets of its own and a status."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace, self.api = namespace, namespace.cluster.api
        self.path = f"/apis/argoproj.io/v1alpha1/namespaces/{namespace.name}/rollouts"

    def create(self, image: str) -> None:
        """The user's part: the Rollout, a canary."""
        template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container(SERVE, image=image)]}}
        spec = {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "strategy": {"canary": {}}, "template": template}
        self.api.create(self.path, {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "web"}, "spec": spec})

    def change(self, image: str) -> None:
        """The user's part: another image."""
        template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container(SERVE, image=image)]}}
        self.api.patch(f"{self.path}/web", {"spec": {"template": template}}, MERGE)

    def status(self, **status: Any) -> None:
        """Writes the status of the newest generation."""
        generation = str(self.api.get(f"{self.path}/web")["metadata"]["generation"])
        self.api.patch(f"{self.path}/web/status", {"status": {"observedGeneration": generation} | status}, MERGE)

    def start(self, name: str, value: str) -> None:
        """A ReplicaSet of a template, with its one pod running."""
        owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web", "controller": True}
        owner["uid"] = self.api.get(f"{self.path}/web")["metadata"]["uid"]
        labels = {"app": "web", revisions.ROLLOUT_HASH: value}
        template = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 4, "containers": [container(STUBBORN)]}}
        spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
        meta = {"name": name, "ownerReferences": [owner], "labels": labels}
        self.namespace.create({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta, "spec": spec})
        self.namespace.wait("replicaset", name, lambda found: found["status"].get("readyReplicas") == 1, "runs its pod")


def served(played: PlayedController) -> bool:
    """Whether the API knows the kind; its storage answers 429 while it is being made."""
    try:
        return played.api.find(played.path) is not None
    except ApiRefused as refused:
        assert refused.status in (429, 503)
        return False


@pytest.fixture
def rollouts(namespace: Namespace) -> Iterator[PlayedController]:
    cluster = namespace.cluster
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    if cluster.api.find(f"{definitions}/rollouts.argoproj.io") is None:
        cluster.api.create(definitions, DEFINITION)
    played = PlayedController(namespace)
    cluster.wait_until(lambda: served(played), "the API serves Rollouts")
    yield played
    cluster.api.delete(f"{definitions}/rollouts.argoproj.io")
    cluster.wait_until(lambda: cluster.api.find(f"{definitions}/rollouts.argoproj.io") is None, "the API has forgotten Rollouts")


def test_an_argo_rollout_with_a_played_controller_is_awaited_until_promoted_and_alone(rollouts: PlayedController, gate: Gate) -> None:
    kind = WorkloadKind.ROLLOUT
    rollouts.create("registry.example/web:1")
    rollouts.start("web-h1", "h1")
    rollouts.status(phase="Healthy", stableRS="h1", currentPodHash="h1", availableReplicas=1)
    first = gate.await_health("web", image="registry.example/web:1", kind=kind)
    assert first.state is RolloutState.HEALTHY and "1 replicas are promoted and available" in first.reason

    def act() -> None:
        rollouts.change("registry.example/web:2")
        rollouts.start("web-h2", "h2")
        rollouts.status(phase="Paused", message="CanaryPauseStep", currentPodHash="h2")
        rollouts.namespace.cluster.wait_until(lambda: any("Paused" in line for line in told), "the pause was seen")
        rollouts.status(phase="Healthy", message="", stableRS="h2", currentPodHash="h2")
        rollouts.namespace.cluster.wait_until(lambda: any("still run" in line for line in told), "the old pod was seen")
        rollouts.namespace.delete("replicaset", "web-h1", propagationPolicy="Background")

    told: list[str] = []
    actor = later(0.5, act)
    outcome = gate.await_health("web", image="registry.example/web:2", kind=kind, told=told)
    left = [each["metadata"]["labels"][revisions.ROLLOUT_HASH] for each in rollouts.namespace.list("pod", labelSelector="app=web")]
    actor.join()
    assert outcome.state is RolloutState.HEALTHY and outcome.generation == 2
    assert left == ["h2"]
    assert "carries registry.example/web:1, not registry.example/web:2" in told[0]


def test_bad_flow_an_argo_rollout_with_a_played_controller_that_degrades_fails_early(rollouts: PlayedController, gate: Gate) -> None:
    rollouts.create("registry.example/web:2")
    rollouts.start("web-h1", "h1")
    rollouts.status(phase="Degraded", abort=True, message="RolloutAborted: metric error-rate", currentPodHash="h1")
    with pytest.raises(errors.VerificationFailed, match="the rollout was aborted: RolloutAborted: metric error-rate"):
        gate.await_health("web", image="registry.example/web:2", kind=WorkloadKind.ROLLOUT)


def test_a_pod_that_only_shares_the_labels_is_nobodys_old_code(namespace: Namespace, gate: Gate) -> None:
    namespace.create(workload("StatefulSet", serviceName="web", replicas=1))
    namespace.create(pod("alone", container(SERVE)) | {"metadata": {"name": "alone", "labels": {"app": "web"}}})
    namespace.running("alone")
    assert gate.await_health("web", image="machine", kind=WorkloadKind.STATEFUL_SET).state is RolloutState.HEALTHY
