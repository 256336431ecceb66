"""Step 3 as a sync of a real Argo CD: what a run says of each of its states, and what is left behind (argocd.md §3, §4).

The account of every run may `get` and `sync` its application and nothing else. What a real Argo CD does not produce on demand (a lost answer, an answer
with another operation) is in tests/unit/test_argocd_following.py.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import pytest

from migrator import errors, registry
from sandbox.argocd.api import ApiRefused
from tasks.argocd import verdicts
from tasks.argocd.running import SyncFailed
from tasks.job.failures import JobFailed
from tests.cluster.argocd_stage import HOOK, ArgoStage, annotated
from tests.cluster.job_stage import GATED, SECRET, gate
from tests.cluster.workloads import configmap

pytestmark = pytest.mark.cluster

MORE = "-- +goose Up\nCREATE TABLE more (id bigint);\n-- +goose Down\nDROP TABLE more;\n"
BROKEN = "-- +goose Up\nALTER TABLE absent ADD COLUMN name text;\n-- +goose Down\nSELECT 1;\n"
LOCKS = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
DENY = {"kind": "deny", "schedule": "* * * * *", "duration": "1h", "applications": ["*"], "manualSync": False}


Kind = TypeVar("Kind", bound=errors.GreylagError)


def refused(stage: ArgoStage, kind: type[Kind], **given: Any) -> Kind:
    with pytest.raises(kind) as caught:
        stage.run(**given)
    assert caught.value.hint
    return caught.value


def test_good_flow_a_release_is_migrated_before_its_code_by_a_sync_of_the_runs_own(argo_stage: ArgoStage) -> None:
    commit = argo_stage.release()
    outcome = argo_stage.run("a" * 32)
    assert (outcome.versions, outcome.current) == ((1,), 1) and argo_stage.stage.applied() == [1]
    state = argo_stage.argocd.application(argo_stage.name)["status"]["operationState"]
    infos = {item["name"]: item["value"] for item in state["operation"]["info"]}
    assert infos[verdicts.RUN].startswith("a" * 32) and infos[verdicts.BUNDLE] == outcome.bundle
    assert state["syncResult"]["revision"] == commit
    assert argo_stage.deployed()
    argo_stage.stage.write("00002_more.sql", MORE)
    argo_stage.release()
    assert argo_stage.run().versions == (2,)


def test_good_flow_a_sync_without_anything_new_finds_nothing_to_do(argo_stage: ArgoStage) -> None:
    argo_stage.release()
    assert argo_stage.run().changed
    again = argo_stage.run()
    assert (again.changed, again.current) == (False, 1)


def test_the_account_of_a_run_may_not_create_change_or_delete_anything(argo_stage: ArgoStage) -> None:
    argo_stage.release()
    argo_stage.run()
    path = f"applications/{argo_stage.name}"
    for method, place, body in (
        ("DELETE", path, None),
        ("PUT", f"{path}/spec", {"project": "default"}),
        ("PATCH", path, {"name": argo_stage.name, "patch": "{}", "patchType": "merge"}),
        ("POST", "applications", {"metadata": {"name": "other"}, "spec": {"project": "default"}}),
        ("DELETE", f"{path}/resource", None),
    ):
        with pytest.raises(ApiRefused) as caught:
            argo_stage.api.request(method, place, body, project="default", resourceName=HOOK, kind="Job", version="v1", group="batch")
        assert (caught.value.status, caught.value.reason) == (403, 7), (method, place, caught.value)


def test_bad_flow_a_failed_migration_ends_the_run_with_its_own_words_and_a_mended_one_goes_on(argo_stage: ArgoStage) -> None:
    argo_stage.release()
    argo_stage.run()
    before = argo_stage.deployed()
    argo_stage.stage.write("00002_broken.sql", BROKEN)
    argo_stage.release()
    error = refused(argo_stage, JobFailed)
    assert (error.code, str(error.where)) == ("sql-rejected", "00002_broken.sql:2") or error.code == "sql-rejected", error
    assert "absent" in error.message and not error.transient
    assert argo_stage.deployed() == before and argo_stage.stage.applied() == [1]
    argo_stage.stage.write("00002_broken.sql", MORE)
    argo_stage.release()
    assert argo_stage.run().versions == (2,)


def test_bad_flow_a_sync_that_succeeds_without_the_hook_is_not_taken_for_a_migration(argo_stage: ArgoStage) -> None:
    argo_stage.commit(configmap("settings"))
    error = refused(argo_stage, errors.VerificationFailed)
    assert error.code == "argocd-hollow" and "no Job as a hook" in error.message


def test_bad_flow_a_hook_that_succeeds_without_migrating_is_told_by_the_database(argo_stage: ArgoStage) -> None:
    argo_stage.release(command=["true"])
    error = refused(argo_stage, errors.VerificationFailed)
    assert error.code == "argocd-not-migrated" and "00001_first.sql" in error.message


def test_good_flow_a_selective_sync_and_a_dry_run_of_others_are_not_the_runs_own(argo_stage: ArgoStage) -> None:
    argo_stage.release()
    some = [{"group": "", "kind": "ConfigMap", "name": "settings"}]
    assert argo_stage.argocd.synced(argo_stage.name, resources=some)["phase"] == "Succeeded"
    assert argo_stage.argocd.synced(argo_stage.name, dryRun=True)["phase"] == "Succeeded"
    assert argo_stage.stage.applied() == []
    assert argo_stage.run().versions == (1,)


def test_good_flow_another_operation_is_waited_for(argo_stage: ArgoStage) -> None:
    argo_stage.stage.write("00002_gated.sql", GATED)
    argo_stage.release()
    with gate(argo_stage.stage.dbstring):
        argo_stage.argocd.sync(argo_stage.name)
        argo_stage.stage.wait_at_gate()
        late = refused(argo_stage, errors.LockUnavailable, deadline=3.0)
        assert late.code == "argocd-busy" and "started by admin" in late.message and "terminate-op" in late.hint
        waiting = argo_stage.start()
        argo_stage.wait_until_told("else")
    outcome = waiting.result()
    assert outcome.current == 2 and argo_stage.stage.applied() == [1, 2]


def test_good_flow_the_operation_of_a_worker_that_was_killed_is_adopted_by_the_next_run(argo_stage: ArgoStage) -> None:
    """A killed worker leaves nothing but its operation, which carries what it was for."""
    argo_stage.stage.write("00002_gated.sql", GATED)
    argo_stage.release()
    bundle = argo_stage.stage.plan().plan.bundle
    with gate(argo_stage.stage.dbstring):
        infos = {verdicts.RUN: "killed", verdicts.TARGET: argo_stage.target.label, verdicts.BUNDLE: bundle}
        argo_stage.api.request(
            "POST",
            f"applications/{argo_stage.name}/sync",
            {"project": "default", "infos": [{"name": name, "value": value} for name, value in infos.items()]},
        )
        argo_stage.stage.wait_at_gate()
        next_run = argo_stage.start()
        argo_stage.wait_until_told("going on with that operation")
    assert next_run.result().versions == (1, 2) or next_run.result().versions == (2,)
    state = argo_stage.argocd.application(argo_stage.name)["status"]["operationState"]
    assert "killed" in json.dumps(state["operation"]["info"])


def test_bad_flow_a_cancelled_run_ends_after_its_pod_and_the_lock(argo_stage: ArgoStage) -> None:
    argo_stage.stage.write("00002_gated.sql", GATED)
    argo_stage.release()
    with gate(argo_stage.stage.dbstring):
        future = argo_stage.start()
        argo_stage.stage.wait_at_gate()
        argo_stage.wait_until_told("running")
        registry.cancel_all()
        with pytest.raises(errors.Interrupted):
            future.result()
        assert [pod["status"]["phase"] for pod in argo_stage.pods() if pod["status"]["phase"] in ("Pending", "Running")] == []
        assert argo_stage.stage.sql(LOCKS).strip() == "1"  # the gate's own
    assert "its pod has ended and the lock is free" in argo_stage.stage.said()
    assert argo_stage.argocd.application(argo_stage.name)["status"]["operationState"]["message"] == "Operation terminated"
    assert argo_stage.run().current == 2


def test_bad_flow_a_run_that_is_cancelled_right_after_its_request_ends_the_operation_too(
    argo_stage: ArgoStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.argocd.client import Client

    argo_stage.release()
    asked = Client.sync

    def sync(self: Client, infos: dict[str, str]) -> object:
        answer = asked(self, infos)
        registry.cancel_all()
        return answer

    monkeypatch.setattr(Client, "sync", sync)
    refused(argo_stage, errors.Interrupted)
    assert "operation" not in argo_stage.argocd.application(argo_stage.name)


def test_bad_flow_a_sync_that_somebody_else_terminates(argo_stage: ArgoStage) -> None:
    argo_stage.stage.write("00002_gated.sql", GATED)
    argo_stage.release()
    with gate(argo_stage.stage.dbstring):
        future = argo_stage.start()
        argo_stage.stage.wait_at_gate()
        argo_stage.argocd.terminate(argo_stage.name)
        with pytest.raises(SyncFailed) as caught:
            future.result()
    assert caught.value.code == "argocd-terminated" and "its pod has ended" in caught.value.message
    assert [pod for pod in argo_stage.pods() if pod["status"]["phase"] == "Running"] == []


def test_bad_flow_an_image_that_is_not_there_is_a_stuck_hook(argo_stage: ArgoStage) -> None:
    argo_stage.patience = 2.0
    argo_stage.release(tag="nobody-pushed-this")
    error = refused(argo_stage, JobFailed)
    assert error.code == "image-not-pulled" and "nobody-pushed-this" in error.message
    assert argo_stage.pods() == [] and "operation" not in argo_stage.argocd.application(argo_stage.name)


def test_bad_flow_a_secret_that_is_not_there_is_a_stuck_hook(argo_stage: ArgoStage) -> None:
    argo_stage.patience = 2.0
    argo_stage.stage.namespace.delete("secret", SECRET)
    argo_stage.release()
    error = refused(argo_stage, JobFailed)
    assert error.code in ("secret-not-mounted", "container-not-created") and SECRET in error.message


def test_bad_flow_a_service_account_that_is_not_there_is_a_stuck_hook(argo_stage: ArgoStage) -> None:
    argo_stage.patience = 2.0
    hook = argo_stage.hook()
    hook["spec"]["template"]["spec"]["serviceAccountName"] = "nobody"
    argo_stage.commit(hook)
    error = refused(argo_stage, JobFailed)
    assert error.code == "pod-not-created" and "nobody" in error.message


def test_a_retry_of_argo_cds_is_told_and_waited_for(argo_stage: ArgoStage) -> None:
    argo_stage.create(policy={"retry": {"limit": 1, "backoff": {"duration": "2s", "factor": 1, "maxDuration": "2s"}}})
    argo_stage.stage.write("00002_broken.sql", BROKEN)
    argo_stage.release()
    error = refused(argo_stage, JobFailed)
    assert error.code == "sql-rejected"
    assert "retrying: " in argo_stage.stage.said()


def test_bad_flow_what_argo_cd_refuses_is_said_with_what_to_do(argo_stage: ArgoStage) -> None:
    argo_stage.release()
    argo_stage.section = {"application": "unknown"}
    assert refused(argo_stage, errors.LoginFailed).code == "argocd-forbidden"  # this account may see one application alone
    token, argo_stage.api = argo_stage.api, argo_stage.argocd.api
    missing = refused(argo_stage, errors.NotFound)
    assert missing.code == "argocd-no-application" and "unknown" in missing.message
    argo_stage.section, argo_stage.api = {"project": "other"}, token
    assert refused(argo_stage, errors.LoginFailed).code == "argocd-forbidden"
    reader = argo_stage.argocd.account(f"reader-{argo_stage.name}", f"applications, get, default/{argo_stage.name}, allow")
    argo_stage.section, argo_stage.api = {}, reader
    forbidden = refused(argo_stage, errors.LoginFailed)
    assert forbidden.code == "argocd-forbidden" and f"applications, sync, default/{argo_stage.name}, allow" in forbidden.hint
    argo_stage.api = type(reader)(reader.url, "nonsense")
    assert refused(argo_stage, errors.LoginFailed).code == "argocd-login"
    assert argo_stage.stage.applied() == []


def test_bad_flow_a_deny_window_is_told_from_a_missing_right(argo_stage: ArgoStage) -> None:
    project = f"windows-{argo_stage.name}"
    argo_stage.argocd.create_project(project)
    closed = ArgoStage(argo_stage.stage, argo_stage.argocd, argo_stage.repository, project=project)
    closed.create()
    closed.release()
    argo_stage.argocd.create_project(project, syncWindows=[DENY])
    argo_stage.argocd.cluster.wait_until(
        lambda: not closed.api.request("GET", f"applications/{closed.name}/syncwindows", None, project=project).get("canSync"),
        "the window is known",
    )
    error = refused(closed, errors.NotYet)
    assert error.code == "argocd-window" and "deny * * * * * for 1h" in error.message
    argo_stage.argocd.create_project(project, syncWindows=[])
    argo_stage.argocd.cluster.wait_until(
        lambda: bool(closed.api.request("GET", f"applications/{closed.name}/syncwindows", None, project=project).get("canSync")),
        "the window is gone",
    )
    assert closed.run().versions == (1,)


def test_bad_flow_a_window_that_opens_in_mid_operation_is_said_and_the_operation_left_at_work(argo_stage: ArgoStage) -> None:
    project = f"windows-{argo_stage.name}"
    argo_stage.argocd.create_project(project)
    held = ArgoStage(argo_stage.stage, argo_stage.argocd, argo_stage.repository, project=project)
    held.create()
    held.stage.write("00002_gated.sql", GATED)
    held.release()
    with gate(held.stage.dbstring):
        future = held.start(deadline=25.0)
        held.stage.wait_at_gate()
        argo_stage.argocd.create_project(project, syncWindows=[DENY])
        with pytest.raises(errors.NotYet) as caught:
            future.result()
        assert caught.value.code == "argocd-window" and "opened in mid-operation" in caught.value.message
        assert "operation" in held.argocd.application(held.name, project)
    argo_stage.argocd.create_project(project, syncWindows=[])
    assert held.run().current == 2


def test_good_flow_an_automatic_sync_is_followed_to_a_database_that_has_everything(argo_stage: ArgoStage) -> None:
    argo_stage.section = {"sync": "follow"}
    argo_stage.create(policy={"automated": {}})
    argo_stage.release()
    outcome = argo_stage.run()
    assert outcome.current == 1 and argo_stage.stage.applied() == [1]
    argo_stage.stage.write("00002_more.sql", MORE)
    late = refused(argo_stage, errors.NotYet, deadline=4.0)  # the files are there, and no commit brings their image
    assert late.code == "argocd-not-synced" and "waiting for another revision" in argo_stage.stage.said()
    following = argo_stage.start()
    argo_stage.release()
    assert following.result().current == 2 and argo_stage.stage.applied() == [1, 2]
    state = argo_stage.argocd.application(argo_stage.name)["status"]["operationState"]
    assert state["operation"]["initiatedBy"] == {"automated": True} and "info" not in state["operation"]


def test_bad_flow_a_failed_automatic_sync_is_told_and_never_terminated_by_a_run_that_follows(argo_stage: ArgoStage) -> None:
    argo_stage.section = {"sync": "follow"}
    argo_stage.stage.write("00002_broken.sql", BROKEN)
    argo_stage.create(policy={"automated": {}, "retry": {"limit": 0}})
    argo_stage.release()
    error = refused(argo_stage, JobFailed)
    assert error.code == "sql-rejected"


def test_no_secret_is_in_what_argo_cd_keeps(argo_stage: ArgoStage) -> None:
    from tests.conftest import AWKWARD_PASSWORD

    argo_stage.release(annotated(configmap("later"), 1))
    argo_stage.run()
    kept = json.dumps(argo_stage.argocd.application(argo_stage.name), ensure_ascii=False) + argo_stage.stage.said()
    assert argo_stage.api.token not in kept and AWKWARD_PASSWORD not in kept
