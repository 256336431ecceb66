"""deploy_environment: services side by side behind their dependencies; a failure is contained, told in full, and mended by the next run."""

from __future__ import annotations

from typing import Any

import pytest
from prefect import State

from migrator import errors
from sandbox import ports
from sandbox.stack.prefect_server import PrefectServer
from tests.flows import prefect_api
from tests.flows.stage import Stage, become

BROKEN = """\
    -- +goose Up
    CREATE TABLE half (id text);
    INSERT INTO absent VALUES ('x');
    -- +goose Down
    DROP TABLE half;
    """


def deploy(environment: str = "dev", **given: Any) -> State[Any]:
    from flows.deploy_environment import deploy_environment

    state: State[Any] = deploy_environment(environment=environment, **given, return_state=True)
    return state


def test_good_flow_all_services_of_an_environment_end_at_their_newest_version(
    stage_with_clickhouse: Stage, prefect_server: PrefectServer
) -> None:
    stage = stage_with_clickhouse
    state = deploy()
    assert state.is_completed(), state.message
    for service in stage.services:
        assert max(stage.versions(service, "dev")) == stage.newest(service)
    rows = prefect_api.artifact(prefect_server, "result-dev")
    assert {row["service"]: row["outcome"] for row in rows} == dict.fromkeys(stage.services, "migrated")
    run = prefect_api.flow_run(prefect_server, state)
    assert run["name"].startswith("deploy-environment dev")
    assert any(tag.startswith("bundle:") for tag in run["tags"])
    again = deploy()
    assert again.is_completed() and "0 of them migrated" in (again.message or "")


def test_good_flow_children_hang_on_their_parent_and_carry_its_names(stage: Stage, prefect_server: PrefectServer) -> None:
    state = deploy(services=("auth-service", "personal-service"))
    assert state.is_completed(), state.message
    parent = str(state.state_details.flow_run_id)
    found = prefect_server.request("POST", "/flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": [parent]}}})
    assert {run["parameters"]["service"] for run in found} == {"auth-service", "personal-service"}
    for run in found:
        assert {f"service:{run['parameters']['service']}", "environment:dev"} <= set(run["tags"])
        assert run["name"].startswith(f"deploy-service {run['parameters']['service']} dev ")
    starts = {run["parameters"]["service"]: (run["start_time"], run["end_time"]) for run in found}
    assert starts["auth-service"][1] <= starts["personal-service"][0]
    assert stage.versions("identity-service", "dev") == []


def test_bad_flow_a_failing_service_stops_its_dependents_and_is_told_with_file_line_statement_and_hint(
    stage: Stage, prefect_server: PrefectServer
) -> None:
    path = stage.write("auth-service/migrations/20250103000000_half.sql", BROKEN)
    state = deploy()
    assert state.is_failed()
    message = prefect_api.flow_run(prefect_server, state)["state"]["message"]
    assert f"{path.relative_to(stage.directory)}:3" in message
    assert "INSERT INTO absent" in message
    assert "hint: " in message
    assert "personal-service: blocked by auth-service" in message
    assert stage.versions("auth-service", "dev") == [20250101000000, 20250102000000]
    assert stage.versions("personal-service", "dev") == []
    assert stage.versions("identity-service", "dev") == [20250101000000]
    outcomes = {row["service"]: row["outcome"] for row in prefect_api.artifact(prefect_server, "result-dev")}
    assert outcomes["identity-service"] == "migrated"
    assert outcomes["personal-service"] == "blocked by auth-service"
    assert outcomes["auth-service"].startswith("failed: ")
    assert prefect_api.cause(prefect_server, state) == ("sql-rejected", 14, "dev/auth-service")

    stage.write("auth-service/migrations/20250103000000_half.sql", BROKEN.replace("absent", "users (id)"))
    state = deploy()
    assert state.is_completed(), state.message
    assert stage.versions("auth-service", "dev") == [20250101000000, 20250102000000, 20250103000000]
    assert stage.versions("personal-service", "dev") == [20250101000000]


def test_bad_flow_of_two_failing_services_the_one_that_no_retry_mends_decides(stage: Stage, prefect_server: PrefectServer) -> None:
    stage.secret("auth-service", "dev", port=ports.free_port())
    stage.write("identity-service/migrations/postgres/20250103000000_half.sql", BROKEN)
    state = deploy(backoff_limit=0)
    assert "[unavailable]" in (state.message or "") and "[sql-rejected]" in (state.message or "")
    assert prefect_api.cause(prefect_server, state) == ("sql-rejected", 14, "dev/identity-service")

    (stage.directory / "services/identity-service/migrations/postgres/20250103000000_half.sql").unlink()
    state = deploy(backoff_limit=0)
    assert prefect_api.cause(prefect_server, state) == ("unavailable", 21, "dev/auth-service")


def test_bad_flow_one_changed_bundle_stops_the_environment_before_any_service_is_touched(
    stage: Stage, prefect_server: PrefectServer
) -> None:
    state = deploy(bundles={"personal-service": "0" * 64})
    assert state.is_failed()
    assert "[bundle-changed]" in (state.message or "")
    assert prefect_api.cause(prefect_server, state) == ("bundle-changed", 11, "dev")
    assert [stage.versions(service, "dev") for service in stage.services] == [[], [], []]


@pytest.mark.parametrize("mistake", ["nothing", "pending", "dropped", "bundle"])
def test_verification_completes_only_for_what_is_really_there(stage: Stage, prefect_server: PrefectServer, mistake: str) -> None:
    from flows.verify_environment import verify_environment
    from tasks import fleet, migration

    assert deploy().is_completed()
    bundles = {name: migration.load_bundle(fleet.load().target(name, "dev")).digest() for name in stage.services}
    if mistake == "pending":
        stage.write("identity-service/migrations/postgres/20250104000000_more.sql", "-- +goose Up\nSELECT 1;\n-- +goose Down\nSELECT 1;\n")
        bundles = {}
    if mistake == "dropped":
        stage.sql("identity-service", "dev", "DROP TABLE identities")
    if mistake == "bundle":
        bundles["identity-service"] = "0" * 64
    state = verify_environment(environment="dev", bundles=bundles, return_state=True)
    assert state.is_completed() == (mistake == "nothing"), state.message
    # what is applied alone: a file that waits is no drift
    drift = verify_environment(environment="dev", drift_only=True, return_state=True)
    assert drift.is_completed() == (mistake != "dropped"), drift.message
    if mistake != "nothing":
        assert "identity-service: " in (state.message or "") and "auth-service: " not in (state.message or "")
        codes = {"pending": "verification-failed", "dropped": "verification-failed", "bundle": "bundle-changed"}
        code = codes[mistake]
        assert prefect_api.cause(prefect_server, state) == (code, errors.CODES[code].exit_code, "dev/identity-service")


def test_bad_flow_a_protected_environment_refuses_pending_work_without_approval_and_accepts_nothing_to_do(
    stage: Stage, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.prepare("prod")
    become(monkeypatch, stage, "prod")
    state = deploy("prod")
    assert state.is_failed()
    assert "[approval-missing]" in (state.message or "")
    assert [stage.versions(service, "prod") for service in stage.services] == [[], [], []]
