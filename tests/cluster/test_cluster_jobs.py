"""Jobs under the real Job controller: every row of kubernetes.md §1.8 that concerns them."""

from __future__ import annotations

import pytest

from sandbox.cluster.api import Object
from tests.cluster.workloads import Namespace, condition, job, state

pytestmark = pytest.mark.cluster

PERMANENT = {
    "rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [10, 11, 12]}},
    ]
}


def pods_of(namespace: Namespace, name: str) -> list[Object]:
    return namespace.list("pod", labelSelector=f"batch.kubernetes.io/job-name={name}")


def test_a_job_that_succeeds_is_complete(namespace: Namespace) -> None:
    namespace.create(job("once", "echo done"))
    finished = namespace.finished("once")
    assert condition(finished, "Complete")
    assert finished["status"]["succeeded"] == 1
    assert namespace.logs(pods_of(namespace, "once")[0]["metadata"]["name"]) == "done\n"


def test_bad_flow_a_backoff_limit_of_3_makes_4_pods(namespace: Namespace) -> None:
    namespace.create(job("failing", "exit 1", backoffLimit=3))
    finished = namespace.finished("failing")
    assert finished["status"]["failed"] == 4
    assert condition(finished, "Failed")["reason"] == "BackoffLimitExceeded"
    assert condition(finished, "FailureTarget")["reason"] == "BackoffLimitExceeded"
    found = pods_of(namespace, "failing")
    assert len(found) == 4
    assert all(state(pod)["terminated"]["exitCode"] == 1 for pod in found)


def test_bad_flow_a_permanent_exit_code_fails_the_job_with_one_pod(namespace: Namespace) -> None:
    namespace.create(job("permanent", "exit 11", backoffLimit=3, podFailurePolicy=PERMANENT))
    finished = namespace.finished("permanent")
    assert condition(finished, "Failed")["reason"] == "PodFailurePolicy"
    assert len(pods_of(namespace, "permanent")) == 1


def test_bad_flow_other_exit_codes_count_under_the_policy(namespace: Namespace) -> None:
    namespace.create(job("transient", "exit 20", backoffLimit=1, podFailurePolicy=PERMANENT))
    assert condition(namespace.finished("transient"), "Failed")["reason"] == "BackoffLimitExceeded"
    assert len(pods_of(namespace, "transient")) == 2


def test_bad_flow_the_deadline_deletes_the_pod_with_its_logs(namespace: Namespace) -> None:
    namespace.create(job("endless", "echo here; sleep 600 & trap 'exit 143' TERM; wait", activeDeadlineSeconds=2))
    finished = namespace.finished("endless")
    assert condition(finished, "Failed")["reason"] == "DeadlineExceeded"
    namespace.cluster.wait_until(lambda: not pods_of(namespace, "endless"), "the pod is deleted")


def test_a_finished_job_is_removed_after_its_time_to_live(namespace: Namespace) -> None:
    namespace.create(job("brief", "exit 0", ttlSecondsAfterFinished=1))
    namespace.gone("job", "brief")
    namespace.cluster.wait_until(lambda: not pods_of(namespace, "brief"), "its pods are removed too")


def test_an_evicted_pod_costs_no_attempt(namespace: Namespace) -> None:
    script = "trap 'exit 143' TERM; sleep 600 & wait"
    namespace.create(job("evicted", script, backoffLimit=0, podFailurePolicy=PERMANENT, podReplacementPolicy="Failed"))
    namespace.cluster.wait_until(lambda: len(pods_of(namespace, "evicted")) == 1, "the first pod")
    first = namespace.running(pods_of(namespace, "evicted")[0]["metadata"]["name"])["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": first}}
    namespace.cluster.api.create(f"/api/v1/namespaces/{namespace.name}/pods/{first}/eviction", eviction)

    def names() -> list[str]:
        return [pod["metadata"]["name"] for pod in pods_of(namespace, "evicted")]

    namespace.cluster.wait_until(lambda: bool(set(names()) - {first}), "another pod takes its place")
    found = namespace.get("job", "evicted")
    assert not condition(found, "Failed")
    assert (found or {})["status"].get("failed", 0) == 0


def test_the_next_pod_waits_until_the_deleted_one_has_ended(namespace: Namespace) -> None:
    script = "trap 'sleep 1; exit 143' TERM; sleep 600 & wait"
    namespace.create(job("replaced", script, backoffLimit=3, podReplacementPolicy="Failed"))
    namespace.cluster.wait_until(lambda: len(pods_of(namespace, "replaced")) == 1, "the first pod")
    first = namespace.running(pods_of(namespace, "replaced")[0]["metadata"]["name"])["metadata"]
    namespace.delete("pod", first["name"], gracePeriodSeconds=5)
    alive: list[int] = []

    def replaced() -> bool:
        found = pods_of(namespace, "replaced")
        alive.append(len([pod for pod in found if pod["status"]["phase"] in ("Pending", "Running")]))
        return any(pod["metadata"]["uid"] != first["uid"] for pod in found)

    namespace.cluster.wait_until(replaced, "another pod takes its place")
    assert max(alive) == 1
