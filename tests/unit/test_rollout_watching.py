"""The watch over a cluster that moves, disappears, refuses and does not answer; the cluster here is a script of scenes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from migrator import errors
from tasks import fleet, rollout
from tasks.fleet.models import Target, Workload, WorkloadKind
from tasks.outcomes import RolloutState
from tasks.rollout import schema_gates
from tasks.settings import Settings
from tests.unit.rollout_objects import (
    DIGEST,
    NEW,
    NOW,
    OLD,
    WAIT,
    Stage,
    argo_rollout,
    container,
    deployment,
    pod,
    replica_set,
)

SETS = [replica_set("rs1", 1), replica_set("rs2", 2)]
AWAY = errors.Unavailable("the API server can't be reached", code="kube-unreachable")


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


def test_without_a_cluster_the_step_says_that_it_was_skipped(target: Target) -> None:
    found = rollout.await_health(target, settings=Settings())
    assert found.state is RolloutState.SKIPPED
    assert str(found) == "skipped: no cluster configured (GREYLAG_KUBE_CONTEXT)"


def test_a_rollout_is_watched_until_the_last_old_pod_is_gone_and_the_gate_has_passed(target: Target) -> None:
    waits = pod("new", phase="Pending", init=[container("migration-gate")], waiting="PodInitializing")
    new = pod("new", init=[container("migration-gate", code=0)])
    stage = Stage(
        deployment(image=OLD, generation=1),
        deployment(observedGeneration=1),
        deployment(updatedReplicas=1, gates=[WAIT]),
        deployment(gates=[WAIT]),
        replica_sets=SETS,
        pods=[[waits], [pod("old", "rs1"), new], [waits], [new]],
    )
    told: list[str] = []
    found = awaited(target, stage, image=NEW, before=rollout.snapshot(deployment(image=OLD, generation=1)), listener=told.append)
    assert found.state is RolloutState.HEALTHY
    assert (found.image, found.generation) == (NEW, 2)
    assert found.reason == "2 of 2 replicas are updated and available; `greylag wait` has passed in 1 pod"
    assert [text.partition(": ")[2] for text in told] == [
        f"carries {OLD}, envoy:1, not {NEW}",
        "the controller has not seen the new specification yet",
        "1 of 2 new replicas have been updated; pod new waits for the schema",
        "pods of the previous release still run: old",
        "init container migration-gate of pod new has not passed yet",
    ]
    assert stage.selectors == {"app=auth"}


def test_an_app_without_a_schema_gate_is_healthy_and_the_outcome_says_what_is_missing(target: Target) -> None:
    found = awaited(target, Stage(deployment(), replica_sets=SETS), image=NEW)
    assert found.state is RolloutState.HEALTHY
    assert found.reason.endswith(schema_gates.ABSENT)


def test_a_digest_behind_a_tag_is_proven_by_the_pods_that_run(target: Target) -> None:
    workload = deployment(image=NEW)
    pulled = pod("new", containers=[container(identity=f"registry.example/auth@{DIGEST}")])
    stage = Stage(workload, replica_sets=SETS, pods=[[pod("new")], [pulled]])
    told: list[str] = []
    assert awaited(target, stage, image=f"{NEW}@{DIGEST}", listener=told.append).state is RolloutState.HEALTHY
    assert told == [f"Deployment dev-my-girok/auth-service: no pod tells yet whether it runs {DIGEST}"]


def test_a_release_that_begins_while_the_cluster_is_looked_at_is_waited_for(target: Target) -> None:
    stage = Stage(deployment(), deployment(generation=3, observedGeneration=2), deployment(generation=3), replica_sets=SETS)
    told: list[str] = []
    assert awaited(target, stage, image=NEW, listener=told.append).generation == 3
    assert told[0].endswith("the workload changed while it was looked at")


def test_bad_flow_nobody_rolls_the_release_out(target: Target) -> None:
    with pytest.raises(errors.NotYet) as caught:
        awaited(target, Stage(deployment(image=OLD)), image=NEW)
    assert caught.value.code == "not-rolled-out"
    assert caught.value.transient


def test_bad_flow_a_rollout_that_does_not_end(target: Target) -> None:
    with pytest.raises(errors.NotYet) as caught:
        awaited(target, Stage(deployment(availableReplicas=1)), image=NEW)
    assert caught.value.code == "rollout-unfinished"


def test_bad_flow_the_progress_deadline_is_permanent_and_quotes_the_pod(target: Target) -> None:
    exceeded = deployment(conditions=[{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "no progress"}])
    crashed = pod("new", containers=[container(waiting="CrashLoopBackOff", last=1, restarts=1)])
    stage = Stage(deployment(updatedReplicas=0), exceeded, replica_sets=SETS, pods=[crashed], logs="relation users does not exist\n")
    with pytest.raises(errors.VerificationFailed) as caught:
        awaited(target, stage, image=NEW)
    assert (caught.value.code, caught.value.transient) == ("rollout-failed", False)
    assert "ProgressDeadlineExceeded" in caught.value.message
    assert caught.value.detail.splitlines() == [
        "container app of pod new ended with exit code 1, restarted 1 time",
        "last words of container app, pod new:",
        "  relation users does not exist",
    ]
    assert "kubectl -n dev-my-girok describe deployment auth-service" in caught.value.hint


def test_bad_flow_the_previous_releases_deadline_is_not_held_against_this_one(target: Target) -> None:
    exceeded = deployment(image=OLD, conditions=[{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}])
    found = awaited(target, Stage(exceeded, deployment(), replica_sets=SETS), image=NEW)
    assert found.state is RolloutState.HEALTHY


def test_bad_flow_a_crash_loop_ends_the_watch_with_its_last_words(target: Target) -> None:
    crashed = pod("new", containers=[container(waiting="CrashLoopBackOff", last=1, restarts=3, said="panic: no config")])
    with pytest.raises(errors.VerificationFailed, match="crash loop") as caught:
        awaited(target, Stage(deployment(availableReplicas=0), replica_sets=SETS, pods=[crashed]), image=NEW)
    assert "panic: no config" in caught.value.detail


def test_the_previous_releases_crash_loop_may_be_the_reason_for_this_one(target: Target) -> None:
    crashed = pod("old", "rs1", containers=[container(waiting="CrashLoopBackOff", last=1, restarts=9)])
    stage = Stage(deployment(availableReplicas=0), deployment(), replica_sets=SETS, pods=[[crashed], [], []])
    assert awaited(target, stage, image=NEW).state is RolloutState.HEALTHY


def test_bad_flow_a_stuck_image_ends_the_watch(target: Target) -> None:
    waiting = [pod("auth-2", "rs2", "Pending", age=100.0 + (datetime.now(UTC) - NOW).total_seconds(), waiting="InvalidImageName")]
    with pytest.raises(errors.VerificationFailed, match="InvalidImageName"):
        awaited(target, Stage(deployment(availableReplicas=0), replica_sets=SETS, pods=waiting), image=NEW)


# --- objects that go


def test_bad_flow_a_deleted_workload_is_permanent(target: Target) -> None:
    with pytest.raises(errors.NotFound) as caught:
        awaited(target, Stage(deployment(availableReplicas=0), None), image=NEW)
    assert caught.value.code == "workload-deleted"


def test_bad_flow_a_workload_that_was_there_before_the_run_and_is_gone_was_deleted(target: Target) -> None:
    with pytest.raises(errors.NotFound) as caught:
        awaited(target, Stage(None), image=NEW, before=rollout.snapshot(deployment(image=OLD)))
    assert caught.value.code == "workload-deleted"


def test_bad_flow_a_workload_that_waits_for_its_pods_to_be_deleted_is_deleted(target: Target) -> None:
    going = deployment()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    with pytest.raises(errors.NotFound, match="is being deleted"):
        awaited(target, Stage(going, replica_sets=SETS), image=NEW)


def test_bad_flow_a_recreated_workload_ends_the_attempt_and_the_next_one_watches_it(target: Target) -> None:
    scenes = [deployment(uid="d1", availableReplicas=0), None, deployment(uid="d2")]
    with pytest.raises(errors.NotYet) as caught:
        awaited(target, Stage(*scenes), image=NEW)
    assert caught.value.code == "workload-recreated"
    stage = Stage(deployment(uid="d2"), replica_sets=[replica_set("rs2", 1, owner="d2")])
    assert awaited(target, stage, image=NEW, before=rollout.snapshot(scenes[0])).state is RolloutState.HEALTHY


def test_a_workload_that_does_not_exist_yet_is_waited_for(target: Target) -> None:
    found = awaited(target, Stage(None, None, None, deployment(), replica_sets=SETS), image=NEW, before=rollout.Before())
    assert found.state is RolloutState.HEALTHY


# --- an API server that does not answer


def test_an_api_server_that_does_not_answer_is_ridden_out_and_is_no_deletion(target: Target) -> None:
    stage = Stage(deployment(availableReplicas=0), AWAY, AWAY, AWAY, deployment(), replica_sets=SETS)
    told: list[str] = []
    assert awaited(target, stage, image=NEW, listener=told.append).state is RolloutState.HEALTHY
    assert [text.partition(": ")[2] for text in told][1] == "the API server can't be reached; asking again"


def test_bad_flow_an_api_server_that_stays_away_is_what_is_reported(target: Target) -> None:
    with pytest.raises(errors.Unavailable) as caught:
        awaited(target, Stage(AWAY), image=NEW)
    assert caught.value.code == "kube-unreachable"


def test_bad_flow_a_permission_that_is_missing_ends_the_watch_at_once(target: Target) -> None:
    stage = Stage(errors.LoginFailed("pods is forbidden", code="kube-forbidden"))
    with pytest.raises(errors.LoginFailed):
        awaited(target, stage, image=NEW)
    assert stage.looks == 1


FORBIDDEN = errors.LoginFailed("pods is forbidden", code="kube-forbidden")


def test_a_refusal_right_after_an_absence_is_an_authorizer_that_has_not_read_its_roles_yet(target: Target) -> None:
    stage = Stage(deployment(availableReplicas=0), AWAY, FORBIDDEN, FORBIDDEN, deployment(), replica_sets=SETS)
    assert awaited(target, stage, image=NEW).state is RolloutState.HEALTHY


def test_a_refusal_of_what_was_just_allowed_is_a_server_that_has_restarted_unseen(target: Target) -> None:
    stage = Stage(deployment(availableReplicas=0), FORBIDDEN, FORBIDDEN, deployment(), replica_sets=SETS)
    assert awaited(target, stage, image=NEW).state is RolloutState.HEALTHY


def test_bad_flow_a_permission_that_is_taken_away_meanwhile_ends_the_watch(target: Target) -> None:
    stage = Stage(deployment(availableReplicas=0), FORBIDDEN, replica_sets=SETS)
    with pytest.raises(errors.LoginFailed):
        awaited(target, stage, image=NEW)


def test_bad_flow_a_refusal_that_stays_after_an_absence_is_believed(target: Target) -> None:
    with pytest.raises(errors.LoginFailed):
        awaited(target, Stage(AWAY, FORBIDDEN), image=NEW)


def test_the_look_before_the_run_rides_out_a_short_absence(target: Target) -> None:
    ticks = iter(range(0, 1000, 10))
    settings = Settings()
    stage = Stage(AWAY, AWAY, deployment())
    found = rollout.observe(target, settings, stage, sleep=lambda seconds: None, clock=lambda: float(next(ticks)))
    assert found == rollout.snapshot(deployment())
    with pytest.raises(errors.Unavailable):
        rollout.observe(target, settings, Stage(AWAY), sleep=lambda seconds: None, clock=lambda: float(next(ticks)))


# --- what can't be awaited


def test_bad_flow_a_release_that_can_not_be_told_from_the_one_before(target: Target) -> None:
    with pytest.raises(errors.UsageError) as caught:
        awaited(target, Stage(deployment()))
    assert caught.value.code == "release-unknown"


def test_bad_flow_an_image_that_is_none_is_refused_before_anything_is_asked(target: Target) -> None:
    stage = Stage(deployment())
    with pytest.raises(errors.UsageError) as caught:
        awaited(target, stage, image="not an image")
    assert (caught.value.code, stage.looks) == ("bad-image", 0)


# --- Rollouts that refer to a Deployment


class Referring(Stage):
    """The Rollout names a Deployment; what that holds decides what the release is."""

    def __init__(self, referenced: dict[str, Any] | None, kind: str = "Deployment") -> None:
        super().__init__()
        self.rollout = argo_rollout()
        self.rollout["spec"] = {"workloadRef": {"kind": kind, "name": "auth-web"}}
        self.referenced = referenced

    def workload(self, kind: WorkloadKind, namespace: str, name: str) -> dict[str, Any] | None:
        assert (kind, name) in {(WorkloadKind.ROLLOUT, "auth-service"), (WorkloadKind.DEPLOYMENT, "auth-web")}
        return self.rollout if kind is WorkloadKind.ROLLOUT else self.referenced


@pytest.fixture
def rollout_target(target: Target) -> Target:
    return target.model_copy(update={"workload": Workload(kind=WorkloadKind.ROLLOUT, name="auth-service")})


def test_a_rollout_carries_the_image_of_the_deployment_that_it_refers_to(rollout_target: Target) -> None:
    assert awaited(rollout_target, Referring(deployment(image=NEW)), image=NEW).state is RolloutState.HEALTHY
    with pytest.raises(errors.NotYet):
        awaited(rollout_target, Referring(deployment(image=OLD)), image=NEW)


@pytest.mark.parametrize(("referenced", "kind"), [(None, "Deployment"), (deployment(), "ReplicaSet")])
def test_bad_flow_a_reference_that_can_not_be_followed(rollout_target: Target, referenced: Any, kind: str) -> None:
    with pytest.raises(errors.GreylagError) as caught:
        awaited(rollout_target, Referring(referenced, kind), image=NEW)
    assert (caught.value.code, caught.value.exit_code) == ("workload-reference", errors.ExitCode.NOT_FOUND)
