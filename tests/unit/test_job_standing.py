"""Which Job is a service's newest migration, how it ended, and what `greylag verify` makes of it; over the API's own JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from deployments.doctor import observation
from migrator import errors
from tasks import fleet, redaction
from tasks.fleet.models import WorkloadKind
from tasks.job import standing
from tasks.job.standing import JobState

TARGET = fleet.load().target("auth-service", "dev")


def job(name: str, *conditions: tuple[str, str], created: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    status = {
        "conditions": [{"type": kind, "status": "True", "reason": reason, "lastTransitionTime": created} for kind, reason in conditions]
    }
    return {"metadata": {"name": name, "uid": name, "creationTimestamp": created}, "status": status}


def labelled(job_name: str, /, **labels: str) -> dict[str, Any]:
    found = job(job_name)
    found["metadata"]["labels"] = {f"app.kubernetes.io/{key}": word for key, word in labels.items()}
    return found


@pytest.mark.parametrize(
    ("found", "ours"),
    [
        (labelled("x", component="migration", name="auth-service"), True),
        (labelled("x", component="migration", instance="auth-service"), True),
        (labelled("x", component="migration", name="personal-service"), False),
        (labelled("x", name="auth-service"), False),
        (labelled("auth-service-migrate"), True),
        (labelled("auth-service-mig-0a1b2c3d4e5f"), True),
        (labelled("auth-service-migrations-report"), False),
        (labelled("other-auth-service-migrate"), False),
    ],
)
def test_a_migration_job_is_known_by_its_labels_or_by_the_recipes_name(found: dict[str, Any], ours: bool) -> None:
    assert standing.belongs(found, TARGET) is ours


def test_the_newest_job_counts() -> None:
    old = job("auth-service-mig-1", created="2026-01-01T00:00:00Z")
    new = job("auth-service-mig-2", created="2026-01-02T00:00:00Z")
    assert standing.newest([new, old, job("other")], TARGET) is new
    assert standing.newest([job("other")], TARGET) is None


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ((), JobState.RUNNING),
        ((("Suspended", "JobSuspended"),), JobState.SUSPENDED),
        ((("SuccessCriteriaMet", "CompletionsReached"),), JobState.COMPLETE),
        ((("SuccessCriteriaMet", "x"), ("Complete", "CompletionsReached")), JobState.COMPLETE),
        ((("FailureTarget", "BackoffLimitExceeded"),), JobState.FAILED),
        ((("FailureTarget", "x"), ("Failed", "BackoffLimitExceeded")), JobState.FAILED),
    ],
)
def test_how_a_job_ended(conditions: tuple[tuple[str, str], ...], state: JobState) -> None:
    found = job("auth-service-migrate", *conditions)
    assert standing.state(found) is state
    assert standing.ended(found).startswith(str(state))
    found["status"]["conditions"] = [{**item, "status": "False"} for item in found["status"]["conditions"]]
    assert standing.state(found) is JobState.RUNNING


def test_a_failed_job_says_why_and_counts_its_pods() -> None:
    found = job("auth-service-migrate", ("Failed", "PodFailurePolicy"))
    found["status"] |= {"failed": 1}
    found["status"]["conditions"][0]["message"] = "container migrate exited with 14"
    told = standing.ended(found)
    assert told == "failed at 2026-01-01T00:00:00Z, pods: 1 failed, PodFailurePolicy: container migrate exited with 14"


def test_a_jobs_pods_are_those_that_it_owns() -> None:
    owner = {"ownerReferences": [{"uid": "auth-service-migrate"}]}
    pods: list[dict[str, Any]] = [
        {"metadata": {"name": "b", "creationTimestamp": "2", **owner}},
        {"metadata": {"name": "a", "creationTimestamp": "1", **owner}},
        {"metadata": {"name": "stray", "creationTimestamp": "3", "labels": {"batch.kubernetes.io/job-name": "auth-service-migrate"}}},
    ]
    assert [pod["metadata"]["name"] for pod in standing.pods_of(job("auth-service-migrate"), pods)] == ["a", "b"]


def test_a_pod_says_its_phase_its_exit_codes_and_what_it_waits_for() -> None:
    failed = {"status": {"phase": "Failed", "containerStatuses": [{"name": "migrate", "state": {"terminated": {"exitCode": 14}}}]}}
    assert standing.pod_ended(failed) == "failed, migrate ended with exit code 14"
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}}
    stuck = {"status": {"phase": "Pending", "containerStatuses": [{"name": "migrate", "state": waiting}]}}
    assert standing.pod_ended(stuck) == 'pending, migrate waits: CreateContainerConfigError: secret "x" not found'
    assert standing.pod_ended({"status": {"phase": "Failed", "reason": "Evicted"}}) == "failed, Evicted"


class Recorded:
    """Answers as a cluster did: for the verdict alone. `tests/cluster/test_verify.py` asks a real one."""

    def __init__(self, jobs: Sequence[Mapping[str, Any]] = (), log: str = "", denied: str = "") -> None:
        self._jobs, self._log, self._denied = jobs, log, denied

    def workload(self, kind: WorkloadKind, namespace: str, name: str) -> None:
        return None

    def jobs(self, namespace: str, selector: str = "") -> Sequence[Mapping[str, Any]]:
        if self._denied:
            raise errors.LoginFailed(self._denied, code="kube-forbidden")
        return self._jobs

    def pods(self, namespace: str, selector: str) -> Sequence[Mapping[str, Any]]:
        name = selector.partition("=")[2]
        metadata = {"name": "p", "ownerReferences": [{"uid": name}]}
        return [{"metadata": metadata, "spec": {"containers": [{"name": "migrate"}]}, "status": {"phase": "Failed"}}]

    def log(self, namespace: str, pod: str, *, container: str, lines: int) -> str:
        return self._log


@pytest.mark.parametrize(
    ("conditions", "code", "exit_code"),
    [((("Failed", "x"),), "migration-job-failed", 16), ((), "migration-job-unfinished", 24), ((("Complete", "x"),), "", 0)],
)
def test_the_newest_job_decides_beside_the_database(conditions: tuple[tuple[str, str], ...], code: str, exit_code: int) -> None:
    found = observation.look(TARGET, Recorded([job("auth-service-migrate", *conditions)]))
    assert (found.problem.code if found.problem else "", int(found.problem.exit_code) if found.problem else 0) == (code, exit_code)
    assert found.document["workload"] is None


def test_bad_flow_a_pods_last_words_are_shown_without_passwords() -> None:
    redaction.register("hunter2-marker")
    log = "goose run: failed: postgres://u:hunter2-marker@h/d\nlogin hunter2-marker"
    found = observation.look(TARGET, Recorded([job("auth-service-migrate", ("Failed", "x"))], log))
    told = "\n".join(found.lines) + str(found.document)
    assert "  | goose run: failed" in told and "hunter2" not in told


def test_bad_flow_what_the_cluster_refuses_is_told_and_hides_nothing() -> None:
    found = observation.look(TARGET, Recorded(denied="listing Jobs in dev-my-girok: refused"))
    assert found.problem is not None and found.problem.code == "kube-forbidden"
    assert any("does not exist" in line for line in found.lines), "the workload is looked at all the same"
