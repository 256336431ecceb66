"""kubectl's rules and Argo Rollouts', rule by rule (kubernetes.md §2.1, §2.2)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.fleet.models import WorkloadKind
from tasks.kubernetes import objects
from tasks.rollout import statuses
from tasks.rollout.statuses import Progress
from tests.unit.rollout_objects import argo_rollout, daemon_set, deployment, stateful_set


def progress(workload: dict[str, Any], kind: WorkloadKind = WorkloadKind.DEPLOYMENT) -> tuple[Progress, str]:
    found = statuses.status(kind, workload)
    return found.progress, found.reason


@pytest.mark.parametrize(
    ("status", "expected", "words"),
    [
        ({}, Progress.DONE, "2 of 2"),
        ({"observedGeneration": 1}, Progress.WAITING, "not seen"),
        ({"updatedReplicas": 1}, Progress.WAITING, "1 of 2 new replicas"),
        ({"replicas": 3}, Progress.WAITING, "1 old replicas are pending termination"),
        ({"availableReplicas": 1}, Progress.WAITING, "1 of 2 updated replicas are available"),
        (
            {"conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}]},
            Progress.FAILED,
            "ProgressDeadlineExceeded: timed out",
        ),
        (
            {"observedGeneration": 1, "conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]},
            Progress.WAITING,
            "not seen",
        ),
        (
            {
                "updatedReplicas": 0,
                "conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}],
            },
            Progress.WAITING,
            "0 of 2 new replicas have been updated (FailedCreate: exceeded quota)",
        ),
    ],
)
def test_deployment(status: dict[str, Any], expected: Progress, words: str) -> None:
    found, reason = progress(deployment(**status))
    assert found is expected
    assert words in reason


def test_a_deployment_without_any_status_is_waited_for() -> None:
    bare = deployment()
    del bare["status"]
    assert progress(bare)[0] is Progress.WAITING


def test_a_deployment_of_zero_replicas_is_done() -> None:
    assert progress(deployment(wanted=0))[0] is Progress.DONE


def test_a_paused_deployment_is_waited_for_and_says_how_to_go_on() -> None:
    paused = deployment(updatedReplicas=0)
    paused["spec"]["paused"] = True
    assert progress(paused) == (Progress.WAITING, "the rollout is paused: `kubectl rollout resume deployment/auth-service` goes on")


ROLLING: dict[str, Any] = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}


@pytest.mark.parametrize(
    ("strategy", "status", "expected"),
    [
        (ROLLING, {}, Progress.DONE),
        (ROLLING, {"observedGeneration": 0}, Progress.WAITING),
        (ROLLING, {"readyReplicas": 2}, Progress.WAITING),
        (ROLLING, {"updatedReplicas": 2}, Progress.WAITING),
        ({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}, {"updatedReplicas": 1, "updateRevision": "r3"}, Progress.DONE),
        (None, {"updateRevision": "r3"}, Progress.WAITING),
        (None, {}, Progress.DONE),
        ({"type": "OnDelete"}, {}, Progress.FAILED),
    ],
)
def test_stateful_set(strategy: dict[str, Any] | None, status: dict[str, Any], expected: Progress) -> None:
    assert progress(stateful_set(strategy, **status), WorkloadKind.STATEFUL_SET)[0] is expected


@pytest.mark.parametrize(
    ("strategy", "status", "expected"),
    [
        ("RollingUpdate", {}, Progress.DONE),
        ("RollingUpdate", {"observedGeneration": 1}, Progress.WAITING),
        ("RollingUpdate", {"updatedNumberScheduled": 3}, Progress.WAITING),
        ("RollingUpdate", {"numberAvailable": 1}, Progress.WAITING),
        ("OnDelete", {}, Progress.FAILED),
    ],
)
def test_daemon_set(strategy: str, status: dict[str, Any], expected: Progress) -> None:
    assert progress(daemon_set(strategy, **status), WorkloadKind.DAEMON_SET)[0] is expected


@given(st.tuples(*[st.integers(0, 4)] * 6))
def test_done_means_every_replica_is_updated_available_and_alone(numbers: tuple[int, ...]) -> None:
    wanted, total, updated, available, generation, observed = numbers
    workload = deployment(
        wanted=wanted,
        generation=generation,
        replicas=total,
        observedGeneration=observed,
        updatedReplicas=updated,
        availableReplicas=available,
    )
    if progress(workload)[0] is Progress.DONE:
        assert observed >= generation and updated >= wanted and total <= updated <= available


# --- Argo Rollouts


@pytest.mark.parametrize(
    ("strategy", "status", "expected", "words"),
    [
        ("canary", {}, Progress.DONE, "promoted"),
        ("blueGreen", {}, Progress.DONE, "promoted"),
        ("canary", {"observedGeneration": "1"}, Progress.WAITING, "not seen"),
        ("canary", {"observedGeneration": ""}, Progress.WAITING, "not seen"),
        ("canary", {"observedGeneration": "9"}, Progress.DONE, ""),  # a hash of before 0.10 that happens to be a number
        ("canary", {"observedGeneration": "7c9f"}, Progress.DONE, ""),
        ("canary", {"phase": "Progressing", "message": "more replicas need to be updated"}, Progress.WAITING, "more replicas"),
        ("canary", {"phase": "Paused", "message": "CanaryPauseStep"}, Progress.WAITING, "kubectl argo rollouts promote auth-service"),
        ("canary", {"controllerPause": True, "pauseConditions": []}, Progress.WAITING, "not resumed"),
        ("canary", {"phase": "Degraded", "message": "ProgressDeadlineExceeded: x"}, Progress.FAILED, "ProgressDeadlineExceeded: x"),
        (
            "canary",
            {"phase": "Degraded", "abort": True, "message": "RolloutAborted: metric"},
            Progress.FAILED,
            "aborted: RolloutAborted: metric",
        ),
        ("canary", {"stableRS": "h1"}, Progress.WAITING, "stable"),
        ("canary", {"currentPodHash": ""}, Progress.WAITING, "stable"),
        ("blueGreen", {"blueGreen": {"activeSelector": "h1"}}, Progress.WAITING, "active service"),
        ("canary", {"phase": ""}, Progress.WAITING, "Progressing"),
    ],
)
def test_argo_rollout(strategy: str, status: dict[str, Any], expected: Progress, words: str) -> None:
    found, reason = progress(argo_rollout(strategy, **status), WorkloadKind.ROLLOUT)
    assert found is expected
    assert words in reason


@pytest.mark.parametrize(("noted", "read", "seen"), [("4", "4", True), ("4", "3", False), ("", "3", True), ("4", "", True)])
def test_a_rollout_that_refers_to_a_deployment_has_two_generations(noted: str, read: str, seen: bool) -> None:
    workload = argo_rollout(workloadObservedGeneration=read)
    workload["spec"]["workloadRef"] = {"kind": "Deployment", "name": "auth-service"}
    workload["metadata"]["annotations"] = {statuses.WORKLOAD_GENERATION: noted}
    assert statuses.observed(WorkloadKind.ROLLOUT, workload) is seen


def test_a_rollout_takes_template_and_selector_of_the_deployment_that_it_refers_to() -> None:
    workload = argo_rollout()
    workload["spec"] = {"workloadRef": {"kind": "Deployment", "name": "auth-service"}}
    found = statuses.resolved(workload, deployment(image="web:7"))
    assert objects.images(found, "app") == ["web:7"]
    assert objects.selector(found) == "app=auth"


def test_label_selectors_with_expressions() -> None:
    workload = deployment()
    workload["spec"]["selector"] = {
        "matchLabels": {"b": "2", "a": "1"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["x", "y"]},
            {"key": "canary", "operator": "DoesNotExist"},
            {"key": "app", "operator": "Exists"},
            {"key": "zone", "operator": "NotIn", "values": ["z"]},
        ],
    }
    assert objects.selector(workload) == "a=1,b=2,tier in (x,y),!canary,app,zone notin (z)"
