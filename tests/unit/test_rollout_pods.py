"""What pods tell: whose code they run, what they suffer from, what they wait for, and whether the app's own schema gate has passed."""

from __future__ import annotations

from typing import Any

import pytest

from migrator import errors
from tasks.fleet.models import WorkloadKind
from tasks.rollout import ailments, looking, revisions, schema_gates
from tasks.rollout.statuses import Progress
from tests.unit.rollout_objects import (
    NEW,
    NOW,
    WAIT,
    Stage,
    argo_rollout,
    container,
    daemon_set,
    deployment,
    pod,
    replica_set,
    stateful_set,
)

LEAVING = {"deletionTimestamp": "2026-01-01T12:00:00Z"}
GATES = ("migration-gate",)


def old(workload: dict[str, Any], found: list[Any], pods: list[Any], kind: WorkloadKind = WorkloadKind.DEPLOYMENT) -> tuple[str, ...]:
    return revisions.divide(kind, workload, found, pods).old_names


# --- whose code


def test_a_terminating_pod_of_the_previous_release_is_old_code_that_runs() -> None:
    sets = [replica_set("rs1", 1), replica_set("rs2", 2)]
    assert old(deployment(), sets, [pod("auth-1", "rs1", **LEAVING), pod("auth-2", "rs2")]) == ("auth-1",)
    assert old(deployment(), sets, [pod("auth-1", "rs1", "Succeeded"), pod("auth-2", "rs2")]) == ()


def test_an_old_pod_whose_replica_set_is_gone_already_still_runs() -> None:
    assert old(deployment(), [replica_set("rs2", 2)], [pod("auth-1", "rs1", **LEAVING), pod("auth-2", "rs2")]) == ("auth-1",)


def test_pods_of_other_owners_are_not_this_deployments_business() -> None:
    sets = [replica_set("rs1", 1, owner="other"), replica_set("rs2", 2)]
    others = [pod("other-1", "rs1"), pod("migrate-x", "job", kind="Job"), pod("alone", "")]
    assert old(deployment(), sets, others) == ()


def test_after_a_rollback_the_higher_revision_is_the_living_one() -> None:
    sets = [replica_set("first", 3), replica_set("second", 2)]
    assert old(deployment(), sets, [pod("a", "first"), pod("b", "second")]) == ("b",)


def test_before_any_replica_set_is_there_no_pod_is_new() -> None:
    assert old(deployment(), [], [pod("a", "rs1")]) == ("a",)


def labelled(name: str, label: str, value: str, owner: str, kind: str) -> dict[str, Any]:
    return pod(name, owner, kind=kind, labels={label: value})


def test_a_stateful_sets_pods_are_told_apart_by_their_revision() -> None:
    pods = [labelled(f"x-{place}", revisions.CONTROLLER_HASH, value, "s1", "StatefulSet") for place, value in enumerate(["r1", "r2"])]
    assert old(stateful_set(None), [], pods, WorkloadKind.STATEFUL_SET) == ("x-0",)


def test_a_daemon_sets_newest_revision_is_the_one_with_the_highest_number() -> None:
    def revision(value: str, number: int, owner: str = "n1") -> dict[str, Any]:
        owners = [{"kind": "DaemonSet", "uid": owner, "controller": True}]
        return {"metadata": {"name": value, "labels": {revisions.CONTROLLER_HASH: value}, "ownerReferences": owners}, "revision": number}

    pods = [labelled(name, revisions.CONTROLLER_HASH, name, "n1", "DaemonSet") for name in ("h1", "h2")]
    found = [revision("h1", 3), revision("h2", 2), revision("h9", 9, owner="other")]
    assert old(daemon_set(), found, pods, WorkloadKind.DAEMON_SET) == ("h2",)
    assert old(daemon_set(), [], pods, WorkloadKind.DAEMON_SET) == ("h1", "h2")


def test_a_rollouts_pods_are_told_apart_by_their_template_and_its_deployments_own_are_old() -> None:
    pods = [labelled(name, revisions.ROLLOUT_HASH, name, "rs", "ReplicaSet") for name in ("h1", "h2")]
    bare = pod("of-the-deployment", "rs9")
    assert old(argo_rollout(), [], [*pods, bare], WorkloadKind.ROLLOUT) == ("h1", "of-the-deployment")


# --- in trouble, or not


@pytest.mark.parametrize(
    ("reason", "age", "stuck"),
    [
        ("ImagePullBackOff", 10.0, False),
        ("ImagePullBackOff", 90.0, True),
        ("ErrImagePull", 90.0, True),
        ("CreateContainerConfigError", 10.0, False),
        ("CreateContainerConfigError", 90.0, True),
        ("InvalidImageName", 1.0, True),
        ("ErrImageNeverPull", 1.0, True),
        ("ContainerCreating", 900.0, False),
        ("", 900.0, False),
    ],
)
def test_a_container_that_can_not_be_made_is_stuck_after_a_minute(reason: str, age: float, stuck: bool) -> None:
    found = ailments.worst([pod("auth-2", phase="Pending", age=age, waiting=reason)], (), NOW)
    assert (found is not None) is stuck
    if found is not None:
        assert reason in found.reason and NEW in found.reason and found.previous is None


def test_the_minute_begins_when_the_schema_gate_has_passed() -> None:
    waited = pod("auth-2", phase="Pending", age=600.0, init=[container("migration-gate", code=0)], waiting="ErrImagePull")
    assert ailments.worst([waited], GATES, NOW) is None


@pytest.mark.parametrize(
    ("found", "looping"),
    [
        (container(waiting="CrashLoopBackOff", last=1, restarts=3), True),
        (container(waiting="CrashLoopBackOff", last=0, restarts=3), True),  # a program that ends by itself serves nobody either
        (container(waiting="CrashLoopBackOff", last=1, restarts=2), False),
        (container(code=137, restarts=3), True),
        (container(last=1, restarts=9), False),  # it runs again
        (container(code=0, restarts=3), False),  # an init container that has passed at last
    ],
)
def test_a_crash_loop_is_three_restarts(found: dict[str, Any], looping: bool) -> None:
    ailment = ailments.worst([pod("auth-2", containers=[found])], GATES, NOW)
    assert (ailment is not None) is looping
    if ailment is not None:
        assert ailment.reason.startswith("crash loop: container app of pod auth-2 ended with exit code")
        assert ailment.previous is ("terminated" not in found["state"])


@pytest.mark.parametrize("code", list(errors.TRANSIENT))
def test_a_schema_gate_that_is_started_again_waits_for_the_schema(code: int) -> None:
    waits = [pod("auth-2", phase="Pending", init=[container("migration-gate", waiting="CrashLoopBackOff", last=code, restarts=7)])]
    assert ailments.worst(waits, GATES, NOW) is None
    assert ailments.remark(waits, GATES) == "pod auth-2 waits for the schema"


def test_a_schema_gate_that_runs_waits_for_the_schema() -> None:
    assert ailments.remark([pod("auth-2", phase="Pending", init=[container("migration-gate")])], GATES) == "pod auth-2 waits for the schema"


@pytest.mark.parametrize("code", list(errors.PERMANENT))
def test_bad_flow_a_schema_gate_that_ended_with_a_permanent_code_fails_at_once(code: int) -> None:
    refused = pod("auth-2", phase="Pending", init=[container("migration-gate", last=code, restarts=1)])
    found = ailments.worst([refused], GATES, NOW)
    assert found is not None and f"migration-gate of pod auth-2 ended with {code}" in found.reason


def test_bad_flow_an_init_container_that_fails_again_and_again_is_a_crash_loop() -> None:
    failing = pod("auth-2", phase="Pending", init=[container("fetch", waiting="CrashLoopBackOff", last=1, restarts=3)])
    found = ailments.worst([failing], GATES, NOW)
    assert found is not None and found.container == "fetch"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            pod("p", conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]),
            "pod p can't be scheduled: 0/3 nodes",
        ),
        (
            pod("p", containers=[container(waiting="CrashLoopBackOff", last=1, restarts=1)]),
            "container app of pod p ended with exit code 1, restarted 1 time",
        ),
        (pod("p", waiting="ErrImagePull"), f"ErrImagePull: pod p, container app, image {NEW}"),
        (pod("p", waiting="ContainerCreating"), ""),
        (pod("p"), ""),
    ],
)
def test_what_a_rollout_waits_for(found: dict[str, Any], words: str) -> None:
    assert ailments.remark([found], GATES) == words


def test_the_suspect_of_a_failed_rollout_is_what_ended_then_what_waits_then_what_is_not_ready() -> None:
    unready = pod("a", containers=[container() | {"ready": False}])
    waits = pod("b", waiting="ImagePullBackOff")
    ended = pod("c", containers=[container(waiting="CrashLoopBackOff", last=1, restarts=1)])
    for pods, name in (([unready, waits, ended], "c"), ([unready, waits], "b"), ([unready], "a")):
        found = ailments.suspect(pods)
        assert found is not None and found.pod == name
    assert ailments.suspect([pod("d")]) is None


# --- the schema gate


@pytest.mark.parametrize(
    ("found", "waits"),
    [
        ({"command": ["greylag", "-dir", "/migrations", "wait"]}, True),
        ({"command": ["/opt/venv/bin/greylag"], "args": ["-dir", "/m", "wait", "-timeout", "5m"]}, True),
        ({"command": ["python", "-m", "migrator.cli", "-dir", "/m", "wait"]}, True),
        ({"command": ["sh", "-c", "exec greylag -dir /m wait -timeout 5m"]}, True),
        ({"command": ["sh", "-c", "greylag -dir /m wait; echo it's there"]}, True),
        ({"image": "registry.example/tools/greylag:1", "args": ["-dir", "/m", "wait"]}, True),
        ({"image": "registry.example/auth:1", "args": ["wait"]}, False),
        ({"command": ["greylag", "-dir", "/m", "up"]}, False),
        ({"command": ["sh", "-c", "until pg_isready; do sleep 1; done"]}, False),
        ({"command": ["wait", "greylag"]}, False),
        ({"command": ["greylag", "-dir", "/m", "wait"], "restartPolicy": "Always"}, False),
        ({}, False),
    ],
)
def test_an_init_container_that_runs_greylag_wait_is_a_gate(found: dict[str, Any], waits: bool) -> None:
    assert schema_gates.gates(deployment(gates=[{"name": "gate", **found}])) == (("gate",) if waits else ())


@pytest.mark.parametrize(
    ("pods", "progress", "words"),
    [
        ([pod("a", init=[container("migration-gate", code=0)])], Progress.DONE, "`greylag wait` has passed in 1 pod"),
        ([pod("a", init=[container("migration-gate", code=0)]), pod("b")], Progress.WAITING, "of pod b has not passed"),
        ([pod("a", init=[container("migration-gate", code=11)])], Progress.WAITING, "has not passed"),
        ([pod("a", init=[container("migration-gate")])], Progress.WAITING, "has not passed"),
        ([pod("a", conditions=[{"type": "Initialized", "status": "True"}])], Progress.DONE, "has passed"),
        ([], Progress.DONE, "no pod is wanted"),
    ],
)
def test_the_gate_must_have_passed_in_every_pod(pods: list[Any], progress: Progress, words: str) -> None:
    found = schema_gates.passed(schema_gates.gates(deployment(gates=[WAIT])), pods)
    assert found.progress is progress
    assert words in found.reason


def test_an_app_without_a_gate_is_no_failure_and_is_told() -> None:
    assert schema_gates.passed(schema_gates.gates(deployment()), [pod("a")]) == schema_gates.Verdict(Progress.DONE, schema_gates.ABSENT)


# --- last words


def ailment(**more: Any) -> ailments.Ailment:
    return ailments.Ailment("auth-2", "app", "crash loop", **more)


def test_the_termination_message_comes_before_the_log() -> None:
    stage = Stage(logs="something else")
    assert looking.last_words(stage, "dev-my-girok", ailment(message="no such column", previous=True)).endswith(":\n  no such column")
    assert stage.logs_asked == []


def test_last_words_are_few_short_lines_without_secrets() -> None:
    log = "\n".join(f"line {number}" for number in range(50)) + "\npostgres://u:hunter22@h/db\n" + "x" * 5000 + "\n\n"
    said = looking.last_words(Stage(logs=log), "dev-my-girok", ailment(previous=True))
    assert "hunter22" not in said and "postgres://u:***@h/db" in said
    assert len(said.splitlines()) == 1 + looking.LINES
    assert max(map(len, said.splitlines())) <= looking.LONGEST_LINE + 10


def test_a_log_of_the_instance_before_that_is_gone_gives_way_to_the_current_one() -> None:
    stage = Stage(logs="")
    assert looking.last_words(stage, "dev-my-girok", ailment(previous=True)) == ""
    assert stage.logs_asked == [("auth-2", "app", True), ("auth-2", "app", False)]


def test_bad_flow_a_log_that_may_not_be_read_does_not_hide_the_failure() -> None:
    refused = errors.LoginFailed("pods/log is forbidden", hint="the role needs pods/log")
    assert looking.last_words(Stage(logs=refused), "dev-my-girok", ailment(previous=False)) == (
        "its log can't be read: pods/log is forbidden (the role needs pods/log)"
    )


def test_a_container_that_never_ran_has_no_log() -> None:
    stage = Stage(logs="x")
    assert looking.last_words(stage, "dev-my-girok", ailment()) == ""
    said = looking.last_words(stage, "dev-my-girok", ailment(message='secret "absent" not found'))
    assert said == 'what the kubelet says of container app, pod auth-2:\n  secret "absent" not found'
    assert stage.logs_asked == []
