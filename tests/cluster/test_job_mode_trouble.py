"""What may happen to a Job on its way: stuck states, lost pods, deadlines, cancellation, two runs at once, an API server that goes away."""

from __future__ import annotations

import pytest

from migrator import errors, registry
from tasks.job import manifest
from tasks.job.failures import JobFailed
from tasks.kubernetes import objects
from tests.cluster.job_stage import GATED, JobStage, gate
from tests.cluster.workloads import condition

pytestmark = pytest.mark.cluster

STATEMENTS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'greylag/%'"


@pytest.fixture
def gated(stage: JobStage) -> JobStage:
    """A stage whose second migration waits at a gate."""
    stage.write("00002_gated.sql", GATED)
    return stage


def stuck(stage: JobStage, tag: str = "") -> JobFailed:
    stage.patience = 2.0
    with pytest.raises(JobFailed) as caught:
        stage.run(tag)
    assert stage.jobs() == []
    assert stage.applied() == []
    assert "Nothing was changed, and the Job was deleted" in caught.value.hint
    return caught.value


def test_bad_flow_an_image_that_is_not_there(stage: JobStage) -> None:
    error = stuck(stage, "nobody-pushed-this")
    assert error.code == "image-not-pulled"
    assert "nobody-pushed-this" in error.message


def test_bad_flow_a_secret_that_is_not_there(stage: JobStage) -> None:
    stage.namespace.delete("secret", "auth-service-credentials")
    error = stuck(stage)
    assert error.code in ("secret-not-mounted", "container-not-created")
    assert "auth-service-credentials" in error.message


def test_bad_flow_a_key_that_a_variable_needs_is_not_there(stage: JobStage) -> None:
    stage.namespace.delete("secret", "auth-service-credentials")
    stage.store_secret(password=None)
    stage.changes = {"substitute_password": True}
    error = stuck(stage)
    assert error.code == "container-not-created"


def test_bad_flow_no_node_for_the_pod(stage: JobStage) -> None:
    stage.job = {"node_selector": {"pool": "none"}}
    stage.patience = 0.5
    with pytest.raises(JobFailed) as caught:
        stage.run()
    assert caught.value.code == "pod-unschedulable"
    assert stage.jobs() == []


def test_bad_flow_a_service_account_that_is_not_there(stage: JobStage) -> None:
    stage.job = {"service_account": "nobody"}
    error = stuck(stage)
    assert error.code == "pod-not-created"
    assert 'serviceaccount "nobody" not found' in error.message


def test_good_flow_a_pod_that_is_deleted_costs_no_attempt(gated: JobStage) -> None:
    connection = gate(gated.dbstring)
    running = gated.start(backoff_limit=0)
    gated.wait_at_gate()
    first = gated.wait_for_pod()["metadata"]["name"]
    gated.namespace.delete("pod", first)
    gated.namespace.cluster.wait_until(lambda: any(pod["metadata"]["name"] != first for pod in gated.pods()), "another pod takes its place")
    connection.close()
    outcome = running.result(120)
    assert outcome.current == 2
    assert gated.only_job()["status"].get("failed", 0) == 0
    assert gated.applied() == [1, 2]
    assert gated.sql("SELECT count(*) FROM gated").strip() == "0"


def test_good_flow_an_evicted_pod_costs_no_attempt(gated: JobStage) -> None:
    connection = gate(gated.dbstring)
    running = gated.start(backoff_limit=0)
    gated.wait_at_gate()
    first = gated.wait_for_pod()["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": first}}
    gated.namespace.cluster.api.create(f"/api/v1/namespaces/{gated.namespace.name}/pods/{first}/eviction", eviction)
    gated.namespace.cluster.wait_until(lambda: any(pod["metadata"]["name"] != first for pod in gated.pods()), "another pod takes its place")
    connection.close()
    assert running.result(120).current == 2
    assert gated.only_job()["status"].get("failed", 0) == 0


def test_bad_flow_the_deadline_ends_the_statement_and_says_so(gated: JobStage) -> None:
    with gate(gated.dbstring), pytest.raises(JobFailed) as caught:
        gated.run(deadline=8.0)
    assert (caught.value.code, caught.value.exit_code) == ("deadline-exceeded", errors.ExitCode.TIMEOUT)
    assert condition(gated.only_job(), "Failed")["reason"] == "DeadlineExceeded"
    assert gated.pods() == []
    assert "00001_first.sql" in gated.said()  # the log was passed on before Kubernetes deleted it
    assert gated.applied() == [1]
    assert gated.sql("SELECT to_regclass('gated') IS NULL").strip() == "t"


def test_bad_flow_a_cancelled_run_leaves_no_job_no_pod_and_nothing_half_done(gated: JobStage) -> None:
    with gate(gated.dbstring):
        running = gated.start()
        gated.wait_at_gate()
        registry.cancel_all()
        with pytest.raises(errors.Interrupted):
            running.result(120)
        assert gated.jobs() == gated.pods() == []
        assert gated.sql(STATEMENTS).strip() == "0"
    assert gated.applied() == [1]
    assert gated.sql("SELECT to_regclass('gated') IS NULL").strip() == "t"
    assert "is deleted and its pod has ended" in gated.said()


def test_bad_flow_a_job_that_somebody_deletes_ends_the_run_with_a_word_about_it(gated: JobStage) -> None:
    with gate(gated.dbstring):
        running = gated.start()
        gated.wait_at_gate()
        gated.namespace.delete("job", gated.only_job()["metadata"]["name"], propagationPolicy="Background")
        with pytest.raises(errors.NotFound) as caught:
            running.result(120)
    assert (caught.value.code, caught.value.transient) == ("job-deleted", False)
    assert gated.applied() == [1]


def test_good_flow_two_runs_at_once_make_one_job(gated: JobStage) -> None:
    tag = gated.push()
    connection = gate(gated.dbstring)
    runs = [gated.start(tag) for _ in range(3)]
    gated.wait_at_gate()
    late = gated.start(tag)  # one file is applied by now: what it plans is only a part of what the Job does
    gated.namespace.cluster.wait_until(lambda: gated.said().count("is at work on this already") == 3, "the others have found the Job")
    connection.close()
    outcomes = [running.result(120) for running in (*runs, late)]
    assert {outcome.current for outcome in outcomes} == {2}
    assert len(gated.jobs()) == len(gated.pods()) == 1
    assert gated.applied() == [1, 2]


def test_bad_flow_another_release_waits_for_the_job_that_is_at_work(gated: JobStage) -> None:
    connection = gate(gated.dbstring)
    running = gated.start()
    gated.wait_at_gate()
    gated.write("00003_next.sql", "-- +goose Up\nSELECT 1;\n")
    with pytest.raises(errors.LockUnavailable) as caught:
        gated.run()
    assert (caught.value.code, caught.value.transient) == ("job-running", True)
    connection.close()
    assert running.result(120).current == 2
    assert gated.run().versions == (3,)


def test_good_flow_an_api_server_that_is_restarted_is_survived(gated: JobStage) -> None:
    connection = gate(gated.dbstring)
    running = gated.start()
    gated.wait_at_gate()
    plane = gated.namespace.cluster.control_plane
    plane.api_server.kill()
    plane.start_api_server()
    connection.close()
    assert running.result(200).current == 2
    lines = [text for _, text in gated.told if "successfully migrated" in text]
    assert len(lines) == 1
    assert objects.annotation(gated.only_job(), manifest.BUNDLE) == gated.plan().plan.bundle
