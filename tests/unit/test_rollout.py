"""Step 5's decisions, one by one, over the API's own JSON; and the watch over a cluster that moves (kubernetes.md §4)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from tasks import fleet, rollout
from tasks.fleet_models import Target, WorkloadKind
from tasks.outcomes import RolloutState
from tasks.rollout import Progress
from tasks.settings import Settings

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NEW, OLD = "registry.example/auth:2.0.0", "registry.example/auth:1.9.0"


def deployment(*, image: str = NEW, generation: int = 2, wanted: int = 2, uid: str = "d1", **status: Any) -> dict[str, Any]:
    full = {
        "observedGeneration": generation,
        "replicas": wanted,
        "updatedReplicas": wanted,
        "availableReplicas": wanted,
        "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}],
    }
    return {
        "metadata": {"name": "auth-service", "uid": uid, "generation": generation},
        "spec": {
            "replicas": wanted,
            "selector": {"matchLabels": {"app": "auth"}},
            "template": {"spec": {"containers": [{"name": "app", "image": image}, {"name": "proxy", "image": "envoy:1"}]}},
        },
        "status": full | status,
    }


def replica_set(name: str, revision: int, owner: str = "d1") -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "uid": name,
            "annotations": {rollout.REVISION: str(revision)},
            "ownerReferences": [{"uid": owner, "controller": True}],
        }
    }


def pod(
    name: str, owner: str, phase: str = "Running", *, age: float = 5.0, image: str = NEW, waiting: str = "", **more: Any
) -> dict[str, Any]:
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    created = (NOW - timedelta(seconds=age)).isoformat().replace("+00:00", "Z")
    return {
        "metadata": {"name": name, "creationTimestamp": created, "ownerReferences": [{"uid": owner, "controller": True}], **more},
        "status": {"phase": phase, "containerStatuses": [{"name": "app", "image": image, "state": state}]},
    }


def progress(workload: dict[str, Any], kind: WorkloadKind = WorkloadKind.DEPLOYMENT) -> tuple[Progress, str]:
    found = rollout.status(kind, workload)
    return found.progress, found.reason


class Stage:
    """A cluster that shows one scene after another; the last one stays."""

    def __init__(self, *scenes: dict[str, Any] | None, replica_sets: Sequence[Any] = (), pods: Sequence[Any] = ()) -> None:
        self.scenes = list(scenes)
        self.looks = 0
        self._replica_sets, self._pods = replica_sets, pods
        self.selectors: set[str] = set()

    def workload(self, kind: WorkloadKind, namespace: str, name: str) -> dict[str, Any] | None:
        assert (namespace, name) == ("dev-my-girok", "auth-service")
        self.looks += 1
        return self.scenes[min(self.looks, len(self.scenes)) - 1]

    def replica_sets(self, namespace: str, selector: str) -> Sequence[Any]:
        return self._replica_sets

    def pods(self, namespace: str, selector: str) -> Sequence[Any]:
        self.selectors.add(selector)
        found = self._pods
        return found.pop(0) if found and isinstance(found, list) and isinstance(found[0], list) else found


@pytest.fixture
def target() -> Target:
    return fleet.load().target("auth-service", "dev")


def awaited(target: Target, stage: Stage, **options: Any) -> Any:
    ticks = iter(range(10_000))
    return rollout.await_health(
        target,
        cluster=stage,
        settings=Settings(rollout_timeout_seconds=20),
        sleep=lambda seconds: None,
        clock=lambda: float(next(ticks)),
        **options,
    )


# --- does the workload carry this release at all?


def test_the_previous_release_fully_healthy_is_not_rolled_out_yet() -> None:
    found = rollout.belongs(deployment(image=OLD), NEW, "", None)
    assert found.progress is Progress.NOT_YET
    assert OLD in found.reason


def test_the_image_decides_whatever_the_generation_is() -> None:
    before = rollout.snapshot(deployment(image=OLD, generation=1))
    assert rollout.belongs(deployment(image=OLD, generation=9), NEW, "", before).progress is Progress.NOT_YET
    assert rollout.belongs(deployment(image=NEW, generation=1), NEW, "", before).progress is Progress.DONE


def test_a_sidecar_does_not_count_where_the_container_is_named() -> None:
    assert rollout.belongs(deployment(image=OLD), "envoy:1", "app", None).progress is Progress.NOT_YET
    assert rollout.belongs(deployment(image=NEW), NEW, "app", None).progress is Progress.DONE


def test_without_an_image_a_newer_pod_template_decides() -> None:
    before = rollout.snapshot(deployment(image=OLD, generation=1))
    assert rollout.belongs(deployment(image=OLD, generation=1), "", "", before).progress is Progress.NOT_YET
    assert rollout.belongs(deployment(image=NEW, generation=2), "", "", before).progress is Progress.DONE


def test_scaling_is_a_new_generation_but_no_release() -> None:
    before = rollout.snapshot(deployment(image=OLD, generation=1, wanted=2))
    assert rollout.belongs(deployment(image=OLD, generation=2, wanted=5), "", "", before).progress is Progress.NOT_YET


def test_a_first_install_and_a_replaced_object_are_new() -> None:
    assert rollout.belongs(deployment(), "", "", rollout.snapshot(None)).progress is Progress.DONE
    before = rollout.snapshot(deployment(uid="d0", generation=7))
    assert rollout.belongs(deployment(uid="d1", generation=1), "", "", before).progress is Progress.DONE


def test_with_neither_image_nor_a_look_before_nothing_is_claimed() -> None:
    assert rollout.belongs(deployment(), "", "", None).progress is Progress.NOT_YET


# --- kubectl's rules


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


def stateful_set(strategy: dict[str, Any] | None, **status: Any) -> dict[str, Any]:
    full = {
        "observedGeneration": 2,
        "readyReplicas": 3,
        "updatedReplicas": 3,
        "currentReplicas": 3,
        "currentRevision": "r2",
        "updateRevision": "r2",
    }
    spec: dict[str, Any] = {"replicas": 3}
    if strategy is not None:
        spec["updateStrategy"] = strategy
    return {"metadata": {"name": "x", "generation": 2}, "spec": spec, "status": full | status}


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
    full = {"observedGeneration": 2, "desiredNumberScheduled": 4, "updatedNumberScheduled": 4, "numberAvailable": 4}
    workload = {"metadata": {"name": "x", "generation": 2}, "spec": {"updateStrategy": {"type": strategy}}, "status": full | status}
    assert progress(workload, WorkloadKind.DAEMON_SET)[0] is expected


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


# --- what kubectl leaves out


def test_a_terminating_pod_of_the_previous_release_is_old_code_that_runs() -> None:
    sets = [replica_set("rs1", 1), replica_set("rs2", 2)]
    leaving = pod("auth-1", "rs1", deletionTimestamp="2026-01-01T12:00:00Z")
    assert rollout.old_pods(deployment(), sets, [leaving, pod("auth-2", "rs2")]) == ("auth-1",)
    assert rollout.old_pods(deployment(), sets, [pod("auth-1", "rs1", "Succeeded"), pod("auth-2", "rs2")]) == ()


def test_pods_of_other_owners_are_not_this_deployments_business() -> None:
    sets = [replica_set("rs1", 1, owner="other"), replica_set("rs2", 2)]
    assert rollout.old_pods(deployment(), sets, [pod("other-1", "rs1")]) == ()


def test_after_a_rollback_the_higher_revision_is_the_living_one() -> None:
    sets = [replica_set("first", 3), replica_set("second", 2)]
    assert rollout.old_pods(deployment(), sets, [pod("a", "first"), pod("b", "second")]) == ("b",)


@pytest.mark.parametrize(
    ("reason", "age", "stuck"),
    [
        ("ImagePullBackOff", 10.0, False),
        ("ImagePullBackOff", 90.0, True),
        ("ErrImagePull", 90.0, True),
        ("InvalidImageName", 1.0, True),
        ("ErrImageNeverPull", 1.0, True),
        ("ContainerCreating", 900.0, False),
        ("", 900.0, False),
    ],
)
def test_an_image_that_can_not_be_pulled_is_stuck_after_a_minute(reason: str, age: float, stuck: bool) -> None:
    found = rollout.stuck_image([pod("auth-2", "rs2", "Pending", age=age, waiting=reason)], NEW, NOW)
    assert bool(found) is stuck
    assert not stuck or (reason in found and NEW in found)


def test_an_older_releases_stuck_image_is_not_this_releases() -> None:
    assert rollout.stuck_image([pod("auth-1", "rs1", "Pending", age=900, image=OLD, waiting="ImagePullBackOff")], NEW, NOW) == ""


# --- the watch


def test_without_a_cluster_the_step_says_that_it_was_skipped(target: Target) -> None:
    found = rollout.await_health(target, settings=Settings())
    assert found.state is RolloutState.SKIPPED
    assert str(found) == "skipped: no cluster configured (GREYLAG_KUBE_CONTEXT)"


def test_a_rollout_is_watched_until_the_last_old_pod_is_gone(target: Target) -> None:
    sets = [replica_set("rs1", 1), replica_set("rs2", 2)]
    stage = Stage(
        deployment(image=OLD, generation=1),
        deployment(observedGeneration=1),
        deployment(updatedReplicas=1),
        deployment(),
        replica_sets=sets,
        pods=[[pod("new", "rs2")], [pod("new", "rs2")], [pod("old", "rs1"), pod("new", "rs2")], [pod("new", "rs2")]],
    )
    told: list[str] = []
    found = awaited(target, stage, image=NEW, before=rollout.snapshot(stage.scenes[0]), listener=told.append)
    assert found.state is RolloutState.HEALTHY
    assert (found.image, found.generation, stage.looks) == (NEW, 2, 5)
    assert [text.partition(": ")[2].split(",")[0] for text in told] == [
        f"carries {OLD}",
        "the controller has not seen the new specification yet",
        "1 of 2 new replicas have been updated",
        "pods of the previous release still run: old",
    ]
    assert stage.selectors == {"app=auth"}


def test_bad_flow_nobody_rolls_the_release_out(target: Target) -> None:
    with pytest.raises(errors.NotYet) as caught:
        awaited(target, Stage(deployment(image=OLD)), image=NEW)
    assert caught.value.code == "not-rolled-out"
    assert caught.value.transient


def test_bad_flow_a_rollout_that_does_not_end(target: Target) -> None:
    with pytest.raises(errors.NotYet) as caught:
        awaited(target, Stage(deployment(availableReplicas=1)), image=NEW)
    assert caught.value.code == "rollout-unfinished"


def test_bad_flow_the_progress_deadline_is_permanent(target: Target) -> None:
    exceeded = deployment(conditions=[{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "no progress"}])
    with pytest.raises(errors.VerificationFailed) as caught:
        awaited(target, Stage(deployment(updatedReplicas=0), exceeded), image=NEW)
    assert (caught.value.code, caught.value.transient) == ("rollout-failed", False)
    assert "kubectl -n dev-my-girok describe deployment auth-service" in caught.value.hint


def test_bad_flow_the_previous_releases_deadline_is_not_held_against_this_one(target: Target) -> None:
    exceeded = deployment(image=OLD, conditions=[{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}])
    found = awaited(target, Stage(exceeded, deployment(), replica_sets=[replica_set("rs2", 2)]), image=NEW)
    assert found.state is RolloutState.HEALTHY


def test_bad_flow_a_stuck_image_ends_the_watch(target: Target) -> None:
    waiting = [pod("auth-2", "rs2", "Pending", age=100.0 + (datetime.now(UTC) - NOW).total_seconds(), waiting="InvalidImageName")]
    with pytest.raises(errors.VerificationFailed, match="InvalidImageName"):
        awaited(target, Stage(deployment(availableReplicas=0), pods=waiting), image=NEW)


def test_bad_flow_a_deleted_workload_is_permanent(target: Target) -> None:
    with pytest.raises(errors.NotFound) as caught:
        awaited(target, Stage(deployment(availableReplicas=0), None), image=NEW)
    assert caught.value.code == "workload-deleted"


def test_a_workload_that_does_not_exist_yet_is_waited_for(target: Target) -> None:
    found = awaited(target, Stage(None, None, deployment(), replica_sets=[replica_set("rs2", 2)]), image=NEW)
    assert found.state is RolloutState.HEALTHY


def test_bad_flow_a_release_that_can_not_be_told_from_the_one_before(target: Target) -> None:
    with pytest.raises(errors.UsageError) as caught:
        awaited(target, Stage(deployment()))
    assert caught.value.code == "release-unknown"


def test_label_selectors_with_expressions(target: Target) -> None:
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
    stage = Stage(workload)
    awaited(target, stage, image=NEW)
    assert stage.selectors == {"a=1,b=2,tier in (x,y),!canary,app,zone notin (z)"}
