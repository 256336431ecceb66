"""Rollouts that go wrong under the real controllers, and what the gate says of them; kubectl's own `rollout status` is the witness where it asks
the same question."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migrator import errors
from sandbox.databases.postgres import PostgresServer
from tasks.outcomes import RolloutState
from tasks.rollout import ailments
from tests.cluster.releases import FIRST, RULES, SERVE, Gate, Service, later, play
from tests.cluster.workloads import Namespace, container, deployment

pytestmark = pytest.mark.cluster

NEVER_READY = {"exec": {"command": ["false"]}, "periodSeconds": 1}


@pytest.fixture
def gate(namespace: Namespace) -> Gate:
    return Gate.of(namespace)


def failure(gate: Gate, name: str = "web", **options: Any) -> errors.VerificationFailed:
    """What the gate raises; the image is the machine itself unless something else is said."""
    with pytest.raises(errors.VerificationFailed) as caught:
        gate.await_health(name, **({"image": "machine"} | options))
    assert caught.value.code == "rollout-failed" and not caught.value.transient
    return caught.value


def kubectl_status(namespace: Namespace, what: str, timeout: str = "60s") -> subprocess.CompletedProcess[str]:
    return namespace.cluster.kubectl("rollout", "status", what, "--namespace", namespace.name, f"--timeout={timeout}", check=False)


def test_bad_flow_a_rollout_without_progress_fails_as_kubectl_says_and_names_the_container(namespace: Namespace, gate: Gate) -> None:
    namespace.create(deployment("web", container(f"echo cannot reach the cache; {SERVE}", readinessProbe=NEVER_READY), deadline=4))
    error = failure(gate)
    witness = kubectl_status(namespace, "deployment/web")
    assert witness.returncode == 1 and "exceeded its progress deadline" in witness.stderr
    assert "ProgressDeadlineExceeded" in error.message
    assert "runs and is not ready" in error.detail and "cannot reach the cache" in error.detail


def test_bad_flow_a_crash_loop_is_told_with_its_last_words_long_before_the_deadline(namespace: Namespace, gate: Gate) -> None:
    script = "echo line one; echo 'FATAL: postgres://app:hunter22@db/x: no column email' >&2; exit 3"
    namespace.create(deployment("web", container(script), deadline=600))
    error = failure(gate)
    assert error.message.startswith(f"Deployment {namespace.name}/web: crash loop: container main of pod web-")
    assert "ended with exit code 3, restarted" in error.message
    assert "no column email" in error.detail and "hunter22" not in error.describe()
    assert "timed out" in kubectl_status(namespace, "deployment/web", "1s").stderr, "kubectl goes on waiting"


def test_bad_flow_an_init_container_that_fails_again_and_again_is_a_crash_loop_too(namespace: Namespace, gate: Gate) -> None:
    init = container("echo no bucket; exit 1", "fetch-assets", terminationMessagePolicy="FallbackToLogsOnError")
    namespace.create(deployment("web", container(SERVE), initContainers=[init]))
    error = failure(gate)
    assert "container fetch-assets" in error.message and "no bucket" in error.detail


def test_bad_flow_a_stuck_image_is_told_early(namespace: Namespace, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ailments, "PATIENCE", 1.0)
    namespace.create(deployment("web", container(SERVE, image="registry.example/nowhere:1")))
    error = failure(gate, image="registry.example/nowhere:1")
    assert "ImagePull" in error.message and "registry.example/nowhere:1" in error.message


def test_bad_flow_a_missing_secret_is_told_early(namespace: Namespace, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ailments, "PATIENCE", 1.0)
    namespace.create(deployment("web", container(SERVE, envFrom=[{"secretRef": {"name": "absent"}}])))
    error = failure(gate)
    assert "CreateContainerConfigError" in error.message and 'secret "absent" not found' in error.detail


def test_an_init_container_that_waits_for_the_schema_is_no_failure(
    namespace: Namespace, gate: Gate, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    service = Service(namespace, gate, postgres_server, tmp_path, {"1": FIRST}).register()
    database = service.database("late")
    waits = service.deployment("late", "1")
    # It gives up and is started again, as with a time-out shorter than the migration: Kubernetes calls that a crash loop.
    waits["spec"]["template"]["spec"]["initContainers"][0]["command"] = ["greylag", "-dir", "/migrations", "wait", "-timeout", "100ms"]
    namespace.create(waits)

    def restarts() -> int:
        return sum(each["restartCount"] for pod in service.pods("late") for each in pod["status"].get("initContainerStatuses") or [])

    namespace.cluster.wait_until(lambda: restarts() > ailments.CRASHES, "the gate was started again and again", 120)
    told: list[str] = []
    with pytest.raises(errors.NotYet) as caught:
        gate.await_health("late", image=service.image("1"), seconds=2, told=told)
    assert caught.value.code == "rollout-unfinished"
    assert "waits for the schema" in caught.value.message
    service.migrate("late", "1")
    assert gate.await_health("late", image=service.image("1")).reason.endswith("`greylag wait` has passed in 1 pod")
    service.drop("late", database)


def test_an_old_pod_that_takes_its_time_to_end_is_waited_for_although_kubectl_is_content(namespace: Namespace, gate: Gate) -> None:
    slow = deployment("web", container("trap '' TERM; echo started; sleep 3600 & wait; sleep 3600"))
    slow["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 25
    slow["spec"]["revisionHistoryLimit"] = 0  # the old ReplicaSet does not outlive its pod
    namespace.create(slow)
    gate.await_health("web", image="machine")
    before = gate.observe("web")
    namespace.cluster.kubectl("set", "env", "deployment/web", "RELEASE=2", "--namespace", namespace.name)
    witness = kubectl_status(namespace, "deployment/web")
    assert "successfully rolled out" in witness.stdout
    told: list[str] = []
    assert gate.await_health("web", before=before, told=told).state is RolloutState.HEALTHY
    assert any("pods of the previous release still run: web-" in line for line in told)
    assert len(namespace.list("pod", labelSelector="app=web")) == 1


@pytest.mark.parametrize("recreated", [False, True])
def test_bad_flow_a_deployment_that_is_deleted_while_it_is_watched(namespace: Namespace, gate: Gate, recreated: bool) -> None:
    manifest = deployment("web", container(SERVE, readinessProbe=NEVER_READY))
    namespace.create(manifest)

    def act() -> None:
        namespace.delete("deployment", "web", propagationPolicy="Background")
        if recreated:
            namespace.gone("deployment", "web")
            namespace.create(manifest)

    actor = later(1.0, act)
    with pytest.raises(errors.GreylagError) as caught:
        gate.await_health("web", image="machine")
    actor.join()
    # A look that falls between deletion and creation twice in a row sees a deletion, and rightly says so.
    assert caught.value.code in (("workload-recreated", "workload-deleted") if recreated else ("workload-deleted",))
    if not recreated:
        assert isinstance(caught.value, errors.NotFound) and not caught.value.transient


def test_an_api_server_that_restarts_meanwhile_is_ridden_out(namespace: Namespace, gate: Gate) -> None:
    namespace.create(deployment("web", container(SERVE)))
    gate.await_health("web", image="machine")
    plane = namespace.cluster.control_plane

    def act() -> None:
        plane.api_server.kill()
        plane.start_api_server()
        namespace.cluster.kubectl("set", "env", "deployment/web", "RELEASE=2", "--namespace", namespace.name)

    before = gate.observe("web")
    told: list[str] = []
    actor = later(0.5, act)
    outcome = gate.await_health("web", before=before, told=told)
    actor.join()
    assert outcome.state is RolloutState.HEALTHY
    assert any("asking again" in line for line in told)


def test_twelve_deployments_are_awaited_at_once(namespace: Namespace, gate: Gate) -> None:
    names = [f"web-{number}" for number in range(12)]

    def awaited(name: str) -> Callable[[], None]:
        def act() -> None:
            assert gate.await_health(name, image="machine").state is RolloutState.HEALTHY

        return act

    for name in names:
        namespace.create(deployment(name, container(SERVE)))
    play([awaited(name) for name in names], workers=len(names))


@pytest.mark.parametrize(
    ("resource", "verb"), [("deployments", "get"), ("replicasets", "list"), ("pods", "list")], ids=["deployments", "replicasets", "pods"]
)
def test_bad_flow_without_one_of_its_rules_the_gate_stops_and_names_it(namespace: Namespace, resource: str, verb: str) -> None:
    namespace.create(deployment("web", container(SERVE)))
    Gate.of(namespace, "whole").await_health("web", image="machine")
    limited = Gate.of(namespace, "limited", [rule for rule in RULES if rule["resources"] != [resource]])
    with pytest.raises(errors.LoginFailed) as caught:
        limited.await_health("web", image="machine")
    assert caught.value.code == "kube-forbidden" and not caught.value.transient
    assert f'resources: ["{resource}"], verbs: ["{verb}"]' in caught.value.hint
    assert f"in namespace {namespace.name}" in caught.value.hint


def test_bad_flow_without_the_right_to_read_logs_a_crash_loop_is_still_told_and_the_rule_named(namespace: Namespace) -> None:
    limited = Gate.of(namespace, "limited", [rule for rule in RULES if rule["resources"] != ["pods/log"]])
    namespace.create(deployment("web", container("echo bad; exit 1")))
    error = failure(limited)
    assert "crash loop" in error.message
    assert 'resources: ["pods/log"], verbs: ["get"]' in error.detail
