"""What became of a Job, in its own words: every way to fail, every way to be stuck, one clear error each."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from tasks import backoff, redaction
from tasks.job import failures
from tests.unit.job_objects import Json, ended, event, job, outcome, pod

LABEL = "dev/auth-service"
REJECTED = {
    "code": "sql-rejected",
    "message": 'ERROR 2_b.sql: failed: relation "absent" does not exist',
    "hint": "mend the file",
    "file": "/app/2_b.sql",
    "line": 3,
    "detail": "3 | ALTER TABLE absent",
}


def failure(reason: str, *pods: Json, **status: Any) -> failures.JobFailed:
    return failures.failure(job(conditions=(("FailureTarget", reason), ("Failed", reason)), **status), list(pods), LABEL)


def test_bad_flow_the_error_is_the_pods_own_with_place_code_and_hint() -> None:
    found = failure("PodFailurePolicy", ended(14, outcome(14, error=REJECTED)), failed=1)
    assert (found.code, found.exit_code, str(found.where), found.hint) == ("sql-rejected", 14, "/app/2_b.sql:3", "mend the file")
    assert 'relation "absent" does not exist' in found.message
    assert "1 attempt(s), PodFailurePolicy" in found.message
    assert found.detail == "3 | ALTER TABLE absent"


def test_bad_flow_a_job_that_failed_is_never_retried_by_anybody_else() -> None:
    found = failure(
        "BackoffLimitExceeded", *(ended(21, outcome(21, error={"code": "unavailable", "message": "no server"})) for _ in range(4)), failed=4
    )
    assert (found.code, found.exit_code, found.transient) == ("unavailable", errors.ExitCode.UNAVAILABLE, False)
    assert "4 attempt(s)" in found.message
    assert backoff.permanent(found)
    for copy in (redaction.sanitised(found), pickle.loads(pickle.dumps(found))):
        assert (type(copy), copy.exit_code, copy.transient, copy.code) == (failures.JobFailed, 21, False, "unavailable")


def test_bad_flow_the_last_attempt_speaks() -> None:
    first = ended(21, outcome(21, error={"code": "unavailable", "message": "early"}), name="a", created="2026-01-01T00:00:00Z")
    last = ended(14, outcome(14, error=REJECTED), name="b", created="2026-01-01T00:00:20Z")
    assert failure("PodFailurePolicy", last, first).code == "sql-rejected"


def test_bad_flow_the_attempt_that_ended_the_job_speaks() -> None:
    """The others may come later: a pod that was deleted meanwhile, its times in the same second."""
    rejected = ended(14, outcome(14, error=REJECTED), name="a")
    assert failure("PodFailurePolicy", rejected, ended(23, outcome(23, error={"code": "interrupted"}), name="b")).code == "sql-rejected"


def test_bad_flow_a_pod_that_left_no_outcome_shows_the_end_of_its_log() -> None:
    log = "\n".join(f"line {number}" for number in range(80))
    found = failure("BackoffLimitExceeded", ended(1, log))
    assert found.code == "job-failed"
    assert "ended with exit code 1" in found.message
    assert found.detail.splitlines() == [f"line {number}" for number in range(60, 80)]
    assert "kubectl -n dev-my-girok logs p-1" in found.hint


@pytest.mark.parametrize(
    ("told", "exit_code", "code"),
    [
        (None, 14, "sql-rejected"),
        (None, 20, "lock-held"),
        ({"code": "of-tomorrow", "message": "m"}, 11, "plan-refused"),
        ({"code": "of-tomorrow", "message": "m"}, 1, "job-failed"),
        ({"code": ["no", "code"], "message": "m"}, 22, "timeout"),
        ({"code": "lock-budget", "message": "m"}, 20, "lock-budget"),
    ],
)
def test_bad_flow_words_that_this_version_does_not_know_are_known_by_the_pods_exit_code(
    told: dict[str, Any] | None, exit_code: int, code: str
) -> None:
    """The image may hold another version of greylag, or the pod was killed before it could say a word."""
    found = failure("BackoffLimitExceeded", ended(exit_code, outcome(exit_code, error=told) if told else "its log"))
    assert (found.code, found.exit_code) == (code, exit_code)


@pytest.mark.parametrize(
    ("reason", "code", "expected"),
    [("OOMKilled", 137, "out-of-memory"), ("StartError", 128, "command-not-started"), ("ContainerCannotRun", 127, "command-not-started")],
)
def test_bad_flow_an_end_that_greylag_can_not_tell_of(reason: str, code: int, expected: str) -> None:
    found = failure("BackoffLimitExceeded", ended(code, 'exec: "greylag": not found', reason=reason))
    assert found.code == expected
    assert found.hint


def test_bad_flow_the_deadline_is_told_though_its_pod_is_gone() -> None:
    found = failure("DeadlineExceeded")
    assert (found.code, found.exit_code, found.transient) == ("deadline-exceeded", errors.ExitCode.TIMEOUT, False)
    interrupted = ended(23, outcome(23, error={"code": "interrupted", "message": "SIGTERM received"}))
    assert failure("DeadlineExceeded", interrupted).code == "deadline-exceeded"


def test_bad_flow_no_pod_left_is_said() -> None:
    found = failure("BackoffLimitExceeded", failed=4)
    assert "no pod is left that says why" in found.message
    assert "describe job" in found.hint


def test_a_secret_in_a_pods_last_words_is_not_shown() -> None:
    redaction.register("hunter2%/")
    text = "goose: postgres://u:hunter2%/@h/d: refused"
    found = failure("BackoffLimitExceeded", ended(1, text))
    assert "hunter2" not in found.describe()


def test_a_job_is_decided_before_it_has_ended() -> None:
    assert not failures.doomed(job())
    assert failures.doomed(job(conditions=(("FailureTarget", "x"),)))
    assert not failures.finished(job(conditions=(("FailureTarget", "x"), ("SuccessCriteriaMet", "x"))))
    assert failures.finished(job(conditions=(("Complete", "x"),)))
    unfinished = job()
    unfinished["status"]["conditions"] = [{"type": "Failed", "status": "False"}]
    assert not failures.finished(unfinished)


def waiting(reason: str, message: str = "m") -> Json:
    return pod(waiting={"reason": reason, "message": message})


def unschedulable() -> Json:
    found = pod()
    found["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}
    ]
    return found


@pytest.mark.parametrize(
    ("pods", "events", "state", "code", "exit_code"),
    [
        ([waiting("ErrImagePull")], [], "image", "image-not-pulled", 13),
        ([waiting("ImagePullBackOff")], [], "image", "image-not-pulled", 13),
        ([waiting("InvalidImageName")], [], "image", "image-not-pulled", 13),
        ([waiting("CreateContainerConfigError", 'secret "x" not found')], [], "container", "container-not-created", 13),
        ([waiting("CreateContainerError")], [], "container", "container-not-created", 13),
        ([unschedulable()], [], "node", "pod-unschedulable", 21),
        ([], [event("FailedCreate", "serviceaccount not found", "job-1")], "pod", "pod-not-created", 21),
        ([waiting("ContainerCreating")], [event("FailedMount", 'secret "x" not found', "uid-p-1")], "volume", "secret-not-mounted", 13),
    ],
)
def test_bad_flow_each_stuck_state_is_known_with_its_own_code_and_hint(
    pods: list[Json], events: list[Json], state: str, code: str, exit_code: int
) -> None:
    found = failures.stuck(job(), pods, events)
    assert found is not None and found.state == state
    error = failures.stuck_error(found, job(), LABEL, deleted=True)
    assert (error.code, error.exit_code, error.transient) == (code, exit_code, False)
    assert found.reason in error.message
    assert "Nothing was changed, and the Job was deleted" in error.hint
    left = failures.stuck_error(found, job(), LABEL, deleted=False)
    assert "kubectl -n dev-my-girok delete job auth-service-migration-" in left.hint


def test_what_no_time_mends_gets_no_patience_and_a_node_gets_more() -> None:
    assert [failures.stuck(job(), [waiting(reason)], []) for reason in ("InvalidImageName", "ErrImagePull")] == [
        failures.Stuck("image", "InvalidImageName: m", 0.0),
        failures.Stuck("image", "ErrImagePull: m", 1.0),
    ]
    found = failures.stuck(job(), [unschedulable()], [])
    assert found is not None and found.patience > 1


@pytest.mark.parametrize(
    ("pods", "events"),
    [
        ([], []),
        ([pod()], []),
        ([waiting("ContainerCreating")], []),
        ([waiting("PodInitializing")], [event("FailedMount", "of another pod", "uid-other")]),
        ([pod(phase="Running", running={})], [event("FailedCreate", "before", "job-1")]),
        # The pod came after the event: whatever was in the way is gone, and the next pod is only waiting for its turn.
        ([ended(21, created="2026-01-01T00:02:00Z")], [event("FailedCreate", "before", "job-1", at="2026-01-01T00:01:00Z")]),
        ([], [event("FailedCreate", "of another Job", "job-2")]),
    ],
)
def test_a_job_that_gets_on_is_not_stuck(pods: list[Json], events: list[Json]) -> None:
    assert failures.stuck(job(), pods, events) is None


@given(st.text(max_size=300), st.integers(1, 255), st.sampled_from(["", "Error", "OOMKilled", "StartError", "Completed"]))
def test_whatever_stands_in_a_termination_message_makes_an_error_that_can_be_read(text: str, code: int, reason: str) -> None:
    found = failure("BackoffLimitExceeded", ended(code, text, reason=reason))
    assert found.message and found.hint and not found.transient
    assert json.dumps(found.document())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    )
)
def test_json_that_is_no_outcome_is_taken_for_text(document: Any) -> None:
    if isinstance(document, dict) and "greylag" in document:
        return
    assert failures.ends([ended(1, json.dumps(document))])[0].outcome is None
