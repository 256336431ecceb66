"""Step 3 as a Job on a real cluster: what it does, what it says, and what it leaves behind where it fails."""

from __future__ import annotations

import urllib.parse

import pytest

from migrator import errors
from sandbox import ports
from tasks.job import manifest, running
from tasks.job.failures import JobFailed
from tasks.kubernetes import objects
from tasks.request import Request
from tests.cluster.job_stage import GATED, JobStage, gate
from tests.cluster.workloads import condition, state
from tests.conftest import AWKWARD_PASSWORD

pytestmark = pytest.mark.cluster

BROKEN = "-- +goose Up\nCREATE TABLE fine (id bigint);\nALTER TABLE absent ADD COLUMN name text;\n-- +goose Down\nDROP TABLE fine;\n"


def failed(stage: JobStage, *given: str, **named: object) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        stage.run(*given, **named)
    assert not caught.value.transient and caught.value.hint
    return caught.value


def test_good_flow_a_postgresql_service_is_migrated_in_its_own_image(stage: JobStage) -> None:
    stage.write("00002_more.sql", "-- +goose Up\nCREATE TABLE more (id bigint);\nSELECT 1;\n-- +goose Down\nDROP TABLE more;\n")
    plan = stage.plan().plan
    outcome = stage.run()
    assert (outcome.versions, outcome.statements, outcome.current) == ((1, 2), 3, 2)
    assert [item.name for item in outcome.applied] == ["00001_first.sql", "00002_more.sql"]
    assert (outcome.bundle, outcome.plan) == (plan.bundle, plan.digest)
    assert stage.applied() == [1, 2]
    found = stage.only_job()
    assert condition(found, "Complete")
    assert objects.annotation(found, manifest.PLAN) == plan.digest
    assert len(stage.pods()) == 1
    assert "goose: successfully migrated database to version: 2" in stage.said()
    by = stage.sql("SELECT applied_by FROM greylag_migration WHERE version = 2").strip()
    assert by == f"{stage.namespace.name}/{found['metadata']['name']}"


def test_good_flow_a_clickhouse_service_is_migrated_in_its_own_image(clickhouse_stage: JobStage) -> None:
    outcome = clickhouse_stage.run()
    assert (outcome.versions, outcome.current) == ((1,), 1)
    assert clickhouse_stage.applied() == [1]
    assert condition(clickhouse_stage.only_job(), "Complete")


def test_good_flow_a_second_run_takes_the_first_ones_job_for_done(stage: JobStage) -> None:
    tag = stage.push()
    assert stage.run(tag).changed
    again = stage.run(tag)
    assert (again.changed, again.current) == (False, 1)
    assert len(stage.jobs()) == len(stage.pods()) == 1
    assert "nothing is left to do" in stage.said()


def test_good_flow_another_image_is_tried_though_nothing_is_left_to_do(stage: JobStage) -> None:
    assert stage.run().changed
    again = stage.run()
    assert (again.changed, again.current) == (False, 1)
    assert len(stage.jobs()) == 2


def test_good_flow_what_was_rolled_back_is_applied_again_by_a_job_of_its_own(stage: JobStage) -> None:
    tag = stage.push()
    stage.run(tag)
    first = stage.only_job()["metadata"]["uid"]
    stage.sql("DROP TABLE users; DELETE FROM goose_db_version WHERE version_id = 1; DELETE FROM greylag_migration;")
    assert stage.run(tag).versions == (1,)
    assert stage.only_job()["metadata"]["uid"] != first
    assert stage.applied() == [1]


def test_no_secret_is_in_any_object_log_or_event(stage: JobStage) -> None:
    stage.write("00002_broken.sql", BROKEN)
    failed(stage)
    text = stage.everything() + stage.said()
    assert "00002_broken.sql" in text
    for spelling in (AWKWARD_PASSWORD, urllib.parse.quote(AWKWARD_PASSWORD, safe="")):
        assert spelling not in text
    manifest = str(stage.only_job())
    assert stage.parts["host"] not in manifest and stage.parts["username"] not in manifest.replace(stage.database, "")


def test_the_pod_is_restricted_and_has_no_token(stage: JobStage) -> None:
    stage.run()
    spec = stage.pods()[0]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert not [volume for volume in spec["volumes"] if "projected" in volume]
    security = spec["containers"][0]["securityContext"]
    assert (security["readOnlyRootFilesystem"], security["allowPrivilegeEscalation"]) == (True, False)


def test_bad_flow_rejected_sql_is_one_pod_and_its_own_words(stage: JobStage) -> None:
    stage.write("00002_broken.sql", BROKEN)
    error = failed(stage, backoff_limit=3)
    assert (error.code, error.exit_code) == ("sql-rejected", errors.ExitCode.REJECTED)
    assert 'relation "absent" does not exist' in error.message
    assert str(error.where) == "/app/services/auth-service/migrations/00002_broken.sql:3"
    assert "ALTER TABLE absent" in error.describe()
    assert condition(stage.only_job(), "Failed")["reason"] == "PodFailurePolicy"
    assert len(stage.pods()) == 1
    assert stage.applied() == [1]
    assert stage.sql("SELECT to_regclass('fine') IS NULL").strip() == "t"


def test_bad_flow_an_image_with_other_files_is_refused(stage: JobStage) -> None:
    tag = stage.push()
    stage.write("00002_more.sql", "-- +goose Up\nSELECT 1;\n")
    error = failed(stage, tag)
    assert (error.code, error.exit_code) == ("bundle-changed", errors.ExitCode.REFUSED)
    assert len(stage.pods()) == 1
    assert stage.applied() == []


def test_bad_flow_an_image_without_greylag_is_named(stage: JobStage) -> None:
    stage.job = {"command": ["greylag-that-is-not-there"]}
    error = failed(stage, backoff_limit=0)
    assert error.code == "command-not-started"
    assert "greylag-that-is-not-there" in error.message


def test_bad_flow_a_secret_of_another_environment_is_refused(stage: JobStage) -> None:
    stage.store_secret(database="postgres")
    error = failed(stage)
    assert (error.code, error.exit_code) in {("wrong-database", 13), ("login-failed", 12)}
    assert len(stage.pods()) == 1
    assert stage.applied() == []


def test_bad_flow_a_secret_without_a_key_is_named(stage: JobStage) -> None:
    stage.namespace.delete("secret", "auth-service-credentials")
    stage.store_secret(password=None)
    error = failed(stage)
    assert (error.code, error.exit_code) == ("key-missing", errors.ExitCode.NOT_FOUND)
    assert "lacks password; it has database, host, port, username" in error.message


def test_bad_flow_a_transient_failure_makes_the_attempts_of_the_backoff_limit_and_no_more(stage: JobStage) -> None:
    stage.store_secret(port=str(ports.free_port()))
    error = failed(stage, backoff_limit=2)
    assert (error.code, error.exit_code) == ("unavailable", errors.ExitCode.UNAVAILABLE)
    assert condition(stage.only_job(), "Failed")["reason"] == "BackoffLimitExceeded"
    assert len(stage.pods()) == 3
    assert all(state(pod, manifest.CONTAINER)["terminated"]["exitCode"] == 21 for pod in stage.pods())
    assert {"attempt 2: ", "attempt 3: "} <= {text[:11] for _, text in stage.told}


def test_good_flow_a_later_attempt_succeeds_and_the_outcome_is_all_attempts_together(stage: JobStage) -> None:
    """The first attempt applies one file and can't get on with the second; what blocks it ends before the next one."""
    stage.write("00002_gated.sql", GATED)
    connection = gate(stage.dbstring)
    started = stage.start(backoff_limit=2)
    stage.wait_at_gate()
    stage.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 77")
    stage.namespace.cluster.wait_until(lambda: any(pod["status"]["phase"] == "Failed" for pod in stage.pods()), "the first attempt fails")
    connection.close()
    outcome = started.result(120)
    assert (outcome.versions, outcome.current) == ((1, 2), 2)
    assert len(stage.pods()) == 2
    assert stage.applied() == [1, 2]


def test_bad_flow_a_job_that_failed_is_made_anew_when_a_new_run_asks(stage: JobStage) -> None:
    tag = stage.push()
    stage.store_secret(port=str(ports.free_port()))
    failed(stage, tag, backoff_limit=0)
    first = stage.only_job()["metadata"]
    stage.store_secret()
    assert stage.run(tag).versions == (1,)
    second = stage.only_job()["metadata"]
    assert (second["name"], second["uid"] == first["uid"]) == (first["name"], False)


def test_bad_flow_a_run_without_an_image_or_a_cluster_is_refused_before_anything(stage: JobStage, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydantic import SecretStr

    def refused(image: str, **changes: str) -> str:
        target = stage.target.model_copy(update=changes)
        with pytest.raises(errors.UsageError) as caught:
            running.run(Request(target, SecretStr(stage.dbstring)), image=image, tell=lambda level, text: None)
        return caught.value.code

    assert [refused(""), refused(":2"), refused("x:1", kube_context="")] == ["image-missing", "image-missing", "no-cluster"]
    assert stage.jobs() == []


def test_good_flow_an_approval_covers_its_plan_and_what_is_left_of_it(stage: JobStage) -> None:
    stage.write("00002_more.sql", "-- +goose Up\nCREATE TABLE more (id bigint);\n")
    approved = stage.plan().plan.digest
    with pytest.raises(errors.PlanRefused) as caught:
        stage.run(plan="0" * 64)
    assert caught.value.code == "approval-mismatch"
    assert stage.jobs() == []  # refused before there is a Job
    tag = stage.push()
    (stage.files / "00002_more.sql").rename(stage.directory / "kept.sql")
    assert stage.run().versions == (1,)
    (stage.directory / "kept.sql").rename(stage.files / "00002_more.sql")
    assert stage.plan().plan.digest != approved
    assert stage.run(tag, plan=approved).versions == (2,)
    second = next(job for job in stage.jobs() if manifest.image(job).endswith(f":{tag}"))
    bound = {item["name"]: item.get("value") for item in second["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert bound["GREYLAG_APPROVED_DIGEST"] == approved


def test_good_flow_the_rights_that_the_step_names_are_enough(stage: JobStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a service account with the rules of the docstring of `tasks.job.running` and no others."""
    from kubernetes.config import kube_config
    from ruamel.yaml import YAML

    lines = [line.strip() for line in (running.__doc__ or "").splitlines() if line.strip().startswith("{apiGroups")]
    rules = [YAML(typ="safe").load(line) for line in lines]
    assert len(rules) == 4
    group = "rbac.authorization.k8s.io"
    account = {"kind": "ServiceAccount", "name": "worker", "namespace": stage.namespace.name}
    binding = {"subjects": [account], "roleRef": {"apiGroup": group, "kind": "Role", "name": "worker"}}
    stage.namespace.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "worker"}},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": "worker"}, "rules": rules},
        {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": {"name": "worker"}, **binding},
    )
    limited = stage.namespace.cluster.service_account_kubeconfig(stage.namespace.name, "worker")
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(limited))
    tag = stage.push()
    stage.store_secret(port=str(ports.free_port()))
    assert failed(stage, tag, backoff_limit=0).code == "unavailable"
    stage.store_secret()
    assert stage.run(tag).versions == (1,)  # the failed Job was deleted, a new one made
    assert "goose: successfully migrated database to version: 1" in stage.said()
