"""The gate of a protected environment, held by its own worker: nobody gets past it by starting another deployment by hand."""

from __future__ import annotations

import importlib
import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.states import Completed

from flows import approvals
from migrator import errors
from sandbox.databases.postgres import identifier
from sandbox.stack.prefect_server import PrefectServer
from tasks import approval
from tests.flows import prefect_api
from tests.flows.stage import Stage, become

BOTH = [20250101000000, 20250102000000]
MORE = "-- +goose Up\nCREATE TABLE more (id text);\n-- +goose Down\nDROP TABLE more;\n"


@pytest.fixture
def prod(stage: Stage, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """This process is prod's worker."""
    stage.prepare("prod")
    become(monkeypatch, stage, "prod")
    return stage


def planned(server: PrefectServer, *services: str) -> approval.ReleaseManifest:
    """Plans services (auth-service, where none is named) in prod and returns what the published table says."""
    from flows.plan_environment import plan_environment

    state = plan_environment(environment="prod", services=services or ("auth-service",), return_state=True)
    assert state.is_completed(), state.message
    return approvals.manifest_of(prefect_api.artifact(server, "plan-prod"))


def prove(
    manifest: approval.ReleaseManifest,
    *,
    environment: str = "release",
    flow_name: str = "verify_environment",
    outcome: str = "verified",
    bundle: str = "",
    services: tuple[str, ...] = (),
) -> None:
    """What an environment's worker leaves behind once it has verified these bundles: a completed run, and its table."""
    flow = getattr(importlib.import_module(f"flows.{flow_name}"), flow_name)
    chosen = {name: bundle or digest for name, digest in manifest.bundles.items() if not services or name in services}
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(flow, parameters={"environment": environment, "bundles": chosen})
        if outcome:
            rows = [{"service": name, "outcome": outcome, "bundle": digest} for name, digest in chosen.items()]
            client.create_artifact(
                ArtifactCreate(key=f"verification-{environment}", type="table", data=json.dumps(rows), flow_run_id=run.id)
            )
        client.set_flow_run_state(run.id, Completed(), force=True)


def approve(bundle: str, plan: str, **changes: str) -> State[Any]:
    from flows.approve_release import approve_release

    given = {"environment": "prod", "confirm": "deploy-prod", "approver": "Ada", "reason": "CHG-1", **changes}
    state: State[Any] = approve_release(bundle=bundle, plan=plan, **given, return_state=True)
    return state


def approved(manifest: approval.ReleaseManifest) -> str:
    """Approves a plan that release has proven; the approval's run id."""
    prove(manifest)
    state = approve(manifest.bundle, manifest.plan)
    assert state.is_completed(), state.message
    return str(state.state_details.flow_run_id)


def propose(server: PrefectServer, manifest: approval.ReleaseManifest, given: str = "") -> None:
    """What a promotion leaves behind that proposes this release for prod, or enters prod with it by an approval."""
    flow = server.request("POST", "/flows/", {"name": "promote-release"})["id"]
    run = server.request("POST", "/flow_runs/", {"flow_id": flow})
    more = {"image": "", "run": run["name"], "approval": given}
    rows = [{"service": name, "bundle": manifest.bundles[name], "plan": plan, **more} for name, plan in manifest.plans.items()]
    server.request("POST", "/artifacts/", {"key": "proposal-prod", "type": "table", "data": json.dumps(rows), "flow_run_id": run["id"]})


def deploy(**given: Any) -> State[Any]:
    from flows.deploy_service import deploy_service

    state: State[Any] = deploy_service(service="auth-service", environment="prod", **given, return_state=True)
    return state


def refused(stage: Stage, state: State[Any], code: str) -> None:
    assert state.is_failed()
    assert f"[{code}]" in (state.message or ""), state.message
    assert "hint: " in (state.message or "")
    assert stage.versions("auth-service", "prod") == []


def test_bad_flow_pending_work_needs_an_approval(prod: Stage) -> None:
    refused(prod, deploy(), "approval-missing")


@pytest.mark.parametrize("run_id", ["nobody", str(uuid.UUID(int=7))])
def test_bad_flow_an_approval_that_does_not_exist(prod: Stage, run_id: str) -> None:
    refused(prod, deploy(approval=run_id), "approval-missing")


def test_bad_flow_any_other_completed_run_is_no_approval(prod: Stage, prefect_server: PrefectServer) -> None:
    planned(prefect_server)
    run = prefect_server.request("POST", "/flow_runs/filter", {"limit": 1, "sort": "START_TIME_DESC"})[0]
    refused(prod, deploy(approval=run["id"]), "approval-missing")


def test_good_flow_an_approved_plan_is_applied_and_a_second_run_needs_no_approval(prod: Stage, prefect_server: PrefectServer) -> None:
    manifest = planned(prefect_server)
    state = deploy(approval=approved(manifest), bundle=manifest.bundles["auth-service"], plan=manifest.plans["auth-service"])
    assert state.is_completed(), state.message
    assert prod.versions("auth-service", "prod") == BOTH
    assert deploy().is_completed()
    published = prefect_server.request("GET", "/artifacts/approval-prod/latest")
    assert "approved by Ada (as claimed in the form): CHG-1" in published["description"]
    assert approvals.manifest_of(prefect_api.artifact(prefect_server, "approval-prod")) == manifest


def test_bad_flow_an_approval_for_other_services_does_not_cover_this_one(prod: Stage, prefect_server: PrefectServer) -> None:
    run_id = approved(planned(prefect_server, "identity-service"))
    refused(prod, deploy(approval=run_id), "approval-mismatch")


def test_good_flow_files_changed_after_the_approval_are_not_part_of_it(prod: Stage, prefect_server: PrefectServer) -> None:
    run_id = approved(planned(prefect_server))
    prod.write("auth-service/migrations/20250103000000_more.sql", MORE)
    assert deploy(approval=run_id).is_completed()
    assert prod.versions("auth-service", "prod") == BOTH


def test_bad_flow_files_changed_after_the_approval_where_the_approved_ones_are_nowhere(
    prod: Stage, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_id = approved(planned(prefect_server))
    prod.write("auth-service/migrations/20250103000000_more.sql", MORE)
    monkeypatch.setenv("GREYLAG_BUNDLES", str(tmp_path))
    refused(prod, deploy(approval=run_id), "bundle-changed")


def test_bad_flow_an_approval_of_a_proposal_that_another_one_has_superseded(prod: Stage, prefect_server: PrefectServer) -> None:
    first = planned(prefect_server)
    propose(prefect_server, first)
    run_id = approved(first)
    added = prod.write("auth-service/migrations/20250103000000_more.sql", MORE)
    second = planned(prefect_server)
    propose(prefect_server, second)
    added.unlink()  # the files are those that were approved
    refused(prod, deploy(approval=run_id), "approval-superseded")
    refused(prod, approve(first.bundle, first.plan), "approval-superseded")
    propose(prefect_server, first)  # once more, for which nobody has said yes
    refused(prod, deploy(approval=run_id), "approval-superseded")
    assert deploy(approval=approved(first)).is_completed()
    assert prod.versions("auth-service", "prod") == BOTH


def test_good_flow_what_an_approval_has_entered_is_finished_with_it_whatever_is_proposed_later(
    prod: Stage, prefect_server: PrefectServer
) -> None:
    first = planned(prefect_server)
    propose(prefect_server, first)
    run_id = approved(first)
    propose(prefect_server, first, given=run_id)
    added = prod.write("auth-service/migrations/20250103000000_more.sql", MORE)
    propose(prefect_server, planned(prefect_server))
    added.unlink()
    assert deploy(approval=run_id).is_completed()
    assert prod.versions("auth-service", "prod") == BOTH


def test_bad_flow_another_bundle_or_plan_than_the_approved_one_is_asked_for(prod: Stage, prefect_server: PrefectServer) -> None:
    run_id = approved(planned(prefect_server))
    refused(prod, deploy(approval=run_id, bundle="1" * 64), "approval-mismatch")
    refused(prod, deploy(approval=run_id, plan="1" * 64), "approval-mismatch")


def test_bad_flow_a_database_that_needs_more_than_was_approved(prod: Stage, prefect_server: PrefectServer) -> None:
    assert deploy(approval=approved(planned(prefect_server))).is_completed()
    prod.write("auth-service/migrations/20250103000000_more.sql", MORE)
    run_id = approved(planned(prefect_server))  # one migration
    name = prod.database("auth-service", "prod")
    prod.postgres.execute(f"DROP DATABASE {identifier(name)} WITH (FORCE);\nCREATE DATABASE {identifier(name)} OWNER {identifier(name)};")
    refused(prod, deploy(approval=run_id), "approval-mismatch")  # three are needed now


def test_good_flow_what_is_left_of_an_approved_plan_passes(prod: Stage, prefect_server: PrefectServer) -> None:
    broken = prod.write(
        "auth-service/migrations/20250103000000_more.sql", "-- +goose Up\nSELECT 1 FROM blocker;\n-- +goose Down\nSELECT 1;\n"
    )
    run_id = approved(planned(prefect_server))
    state = deploy(approval=run_id)
    assert state.is_failed() and broken.name in (state.message or "")
    assert prod.versions("auth-service", "prod") == BOTH
    prod.sql("auth-service", "prod", f'CREATE TABLE blocker (); ALTER TABLE blocker OWNER TO "{prod.database("auth-service", "prod")}"')
    state = deploy(approval=run_id)
    assert state.is_completed(), state.message
    assert prod.versions("auth-service", "prod") == [*BOTH, 20250103000000]


@pytest.mark.parametrize(
    "evidence",
    [
        {"environment": "dev"},
        {"services": ("identity-service",)},
        {"bundle": "1" * 64},
        {"flow_name": "plan_environment"},
        {"outcome": ""},  # a failed run that somebody sets to Completed in the UI
        {"outcome": "failed: a table is missing"},
        None,
    ],
)
def test_bad_flow_an_approval_is_not_enough_where_release_has_not_verified_these_bundles(
    prod: Stage, prefect_server: PrefectServer, evidence: dict[str, Any] | None
) -> None:
    manifest = planned(prefect_server)
    if evidence is not None:
        prove(manifest, **evidence)
    state = approve(manifest.bundle, manifest.plan)
    refused(prod, deploy(approval=str(state.state_details.flow_run_id)), "release-unproven")


def test_bad_flow_an_old_approval_has_expired(prod: Stage, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = approved(planned(prefect_server))
    monkeypatch.setenv("GREYLAG_APPROVAL_MAXIMUM_AGE_SECONDS", "0.001")
    refused(prod, deploy(approval=run_id), "approval-expired")


def test_bad_flow_only_a_plan_that_was_published_can_be_approved(prod: Stage, prefect_server: PrefectServer) -> None:
    manifest = planned(prefect_server)
    for bundle, plan in [("1" * 64, manifest.plan), (manifest.bundle, "1" * 64)]:
        state = approve(bundle, plan)
        assert state.is_failed()
        assert "[approval-unknown-plan]" in (state.message or "")


def test_bad_flow_a_form_filled_by_a_slip_approves_nothing(prod: Stage, prefect_server: PrefectServer) -> None:
    manifest = planned(prefect_server)
    for changes in ({"confirm": "yes"}, {"approver": ""}, {"reason": ""}, {"environment": "stage"}):
        assert approve(manifest.bundle, manifest.plan, **changes).is_failed()
    with pytest.raises(errors.PlanRefused, match="nobody has approved"):
        approval.check(approval.read("prod", manifest.bundle), manifest, "prod", now=datetime.now(UTC), maximum_age=timedelta(days=1))


def test_bad_flow_an_environment_that_is_not_protected_takes_no_approval(prod: Stage, prefect_server: PrefectServer) -> None:
    manifest = planned(prefect_server)
    assert approve(manifest.bundle, manifest.plan, environment="dev", confirm="deploy-dev").is_failed()


def test_bad_flow_deploy_environment_refuses_as_well(prod: Stage, prefect_server: PrefectServer) -> None:
    from flows.deploy_environment import deploy_environment

    run_id = approved(planned(prefect_server, "identity-service"))
    state = deploy_environment(environment="prod", approval=run_id, return_state=True)
    refused(prod, state, "approval-mismatch")
    assert prod.versions("identity-service", "prod") == []
    assert deploy_environment(environment="prod", services=("identity-service",), approval=run_id, return_state=True).is_completed()
    assert prod.versions("identity-service", "prod") == [20250101000000]
