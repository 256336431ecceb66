"""dev -> release -> prod through prefect.yaml's deployments and one real worker per environment, each with its own login."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flows import approvals
from migrator.cli import main
from sandbox.stack.prefect_server import PrefectServer, PrefectWorker
from tests.flows import prefect_api
from tests.flows.promotion_stage import VERSIONS, approve, awaited, now, promote, promoting, ready_for_prod
from tests.flows.stage import ENVIRONMENTS, Stage, become

pytestmark = pytest.mark.slow


def test_good_flow_a_release_goes_through_all_environments_by_its_deployments(
    whole_stage: Stage, prefect_server: PrefectServer, workers: dict[str, PrefectWorker], capsys: pytest.CaptureFixture[str]
) -> None:
    since = now()
    run_id = prefect_api.create_run(prefect_server, "promote-release/promote", {"approval_timeout_seconds": 300})
    asked = awaited(prefect_server, since)
    assert [whole_stage.versions(service, "prod") for service in VERSIONS] == [[], [], []]
    assert {service: whole_stage.versions(service, "release") for service in VERSIONS} == VERSIONS

    form = prefect_server.request("GET", "/deployments/name/approve-release/approve")
    assert {"confirm", "approver", "reason"} <= set(form["parameter_openapi_schema"]["required"])
    looks_like_one_that_waits(prefect_server, run_id, form["id"], asked)

    assert main(["approve"]) == 0
    listed = capsys.readouterr().err
    assert f"({run_id}) waits since" in listed and f"greylag approve prod -bundle {asked['bundle']} -plan {asked['plan']}" in listed

    # somebody applies a file by hand, plans prod again, and approves what that plan shows
    by_hand(whole_stage, "auth-service", "prod", 20250101000000)
    planned = prefect_api.create_run(prefect_server, "plan-environment/plan-environment-prod", {"environment": "prod"})
    assert prefect_api.ended(prefect_server, planned)["state_type"] == "COMPLETED"
    newer = approvals.manifest_of(prefect_api.artifact(prefect_server, "plan-prod"))
    assert newer.bundle == asked["bundle"] and newer.plan != asked["plan"]
    given = {**asked, "plan": newer.plan, "approver": "Ada", "reason": "CHG-1"}
    approving = prefect_api.create_run(prefect_server, "approve-release/approve", given)

    ended = prefect_api.ended(prefect_server, run_id)
    assert ended["state_type"] == "COMPLETED", ended["state"]["message"] + workers["promotion"].log.read_text()
    for environment in ENVIRONMENTS:
        assert {service: whole_stage.versions(service, environment) for service in VERSIONS} == VERSIONS
        assert prefect_api.events(prefect_server, "release.promoted", f"greylag.release.{environment}", 1)
    rows = prefect_api.artifact(prefect_server, "result-promotion")
    assert [row["outcome"] for row in rows] == ["entered", "entered", "entered, approved by Ada (claimed)"]
    logs = said(prefect_server, run_id)
    assert f"Ada's approval ({approving}) is for release plan {newer.plan[:12]}; this run waits for release {asked['bundle'][:12]}" in logs
    assert "(auth-service: 2 migrations, now 1)" in logs

    again = promote(start="prod")  # asks for no approval: there is nothing to approve
    assert again.is_completed(), again.message
    row = prefect_api.artifact(prefect_server, "result-promotion")[-1]
    assert row["outcome"] == "entered, nothing to apply" and "0 of them migrated" in row["message"]


def looks_like_one_that_waits(server: PrefectServer, run_id: str, form: str, asked: dict[str, Any]) -> None:
    """The state's name and message, the log, the event and a page of this very run say the same."""
    run = prefect_api.eventually(lambda: server.request("GET", f"/flow_runs/{run_id}"), lambda found: found["state_name"] != "Running")
    assert run["state_name"] == "AwaitingApproval"
    link = re.search(r"Approve it: (\S+)", run["state"]["message"])
    assert link, run["state"]["message"]
    address = urllib.parse.urlsplit(link.group(1))
    assert f"{address.scheme}://{address.netloc}" == server.url and address.path == f"/v2/deployments/deployment/{form}/run"
    filled = json.loads(urllib.parse.parse_qs(address.query)["parameters"][0])
    assert filled == {name: asked[name] for name in ("environment", "bundle", "plan")}
    wanted = {"artifacts": {"key": {"any_": ["awaiting-approval-prod"]}, "flow_run_id": {"any_": [run_id]}}}
    (page,) = server.request("POST", "/artifacts/filter", wanted)
    event = prefect_api.events(server, "release.awaiting-approval", "greylag.release.prod", 1)[-1]["payload"]
    assert event["form"] == link.group(1)
    for text in (page["data"], said(server, run_id)):
        assert link.group(1) in text and event["command"] in text


def said(server: PrefectServer, run_id: str) -> str:
    """A run's log."""
    lines = server.request("POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC", "limit": 200})
    return "\n".join(line["message"] for line in lines)


def by_hand(stage: Stage, service: str, environment: str, version: int) -> None:
    """Applies a service's files up to a version with greylag's own command, past the flows."""
    name, password = stage.database(service, environment), urllib.parse.quote(stage.passwords[service, environment], safe="")
    url = f"postgres://{name}:{password}@127.0.0.1:{stage.postgres.port}/{name}?sslmode=disable"
    assert main(["-dir", str(stage.directory / "services" / service / "migrations"), "postgres", url, "up-to", str(version)]) == 0


def test_bad_flow_a_failure_in_release_keeps_prod_out_until_the_file_is_mended(
    whole_stage: Stage,
    prefect_server: PrefectServer,
    workers: dict[str, PrefectWorker],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stage = whole_stage
    name = "auth-service/migrations/20250103000000_add_email.sql"
    text = "-- +goose Up\nALTER TABLE users ADD COLUMN email text NOT NULL;\n-- +goose Down\nALTER TABLE users DROP COLUMN email;\n"
    path = stage.write(name, text)
    # release has a user already, dev has none
    become(monkeypatch, stage, "release")
    held = stage.write(name, "-- +goose Up\nINSERT INTO users (id) VALUES ('u1');\n-- +goose Down\nSELECT 1;\n").rename(
        path.with_suffix(".held")
    )
    from flows.deploy_service import deploy_service

    assert deploy_service(service="auth-service", environment="release", return_state=True).is_completed()
    stage.sql("auth-service", "release", "INSERT INTO users (id) VALUES ('u1')")
    held.unlink()
    stage.write(name, text)

    state = promote()
    assert state.is_failed()
    message = state.message or ""
    assert message.splitlines()[0].startswith(
        "release: release/auth-service: services/auth-service/migrations/20250103000000_add_email.sql:2: "
    )
    for part in (
        "dev may hold this file already",
        'column "email" of relation "users" contains null values',
        "ALTER TABLE users ADD COLUMN email",
        "hint: ",
    ):
        assert part in message
    assert "personal-service: blocked by auth-service" in message
    assert stage.versions("auth-service", "dev")[-1] == 20250103000000
    assert stage.versions("auth-service", "release") == VERSIONS["auth-service"]
    assert stage.versions("personal-service", "release") == []
    assert [stage.versions(service, "prod") for service in VERSIONS] == [[], [], []]
    blocked = prefect_api.events(prefect_server, "release.blocked", "greylag.release.release", 1)[-1]
    assert (blocked["payload"]["code"], blocked["payload"]["exit_code"]) == ("sql-rejected", 14)
    assert prefect_api.cause(prefect_server, state) == ("sql-rejected", 14, "release/auth-service")

    # dev rolls the file back, as a developer does, and takes the mended one
    url = stage.postgres.superuser_url(stage.database("auth-service", "dev"))
    assert main(["-dir", str(path.parent), "postgres", url, "down"]) == 0
    capsys.readouterr()
    stage.write(name, text.replace("text NOT NULL", "text"))
    state = promote(until="release")
    assert state.is_completed(), state.message
    for environment in ("dev", "release"):
        assert stage.versions("auth-service", environment)[-1] == 20250103000000
        assert stage.versions("personal-service", environment) == VERSIONS["personal-service"]


def test_good_flow_what_is_merged_during_the_wait_is_not_deployed_and_stops_nothing(
    whole_stage: Stage, prefect_server: PrefectServer, workers: dict[str, PrefectWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready_for_prod(whole_stage, monkeypatch)
    since = now()
    with ThreadPoolExecutor(1) as pool:
        future = promoting(pool, start="prod", approval_timeout_seconds=240)
        asked = awaited(prefect_server, since)
        whole_stage.write("auth-service/migrations/20250105000000_late.sql", "-- +goose Up\nSELECT 1;\n-- +goose Down\nSELECT 1;\n")
        assert approve(asked).is_completed()
        state = future.result()
    assert state.is_completed(), state.message
    assert {service: whole_stage.versions(service, "prod") for service in VERSIONS} == VERSIONS


def test_bad_flow_prod_is_not_entered_by_a_worker_with_only_devs_policy_nor_without_approval_nor_from_an_unproven_release(
    whole_stage: Stage, prefect_server: PrefectServer, workers: dict[str, PrefectWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = whole_stage
    unproven = promote(start="prod")
    assert unproven.is_failed()
    assert "verify-environment release" in (unproven.message or "") and "not applied" in (unproven.message or "")

    ready_for_prod(stage, monkeypatch)
    unapproved = promote(start="prod", approval_timeout_seconds=0)
    assert unapproved.is_failed()
    # the nearest approval on this server, if there is one, is another release's
    assert re.search(r"\[approval-(missing|other-bundle)\]", unapproved.message or "")
    other = promote(start="prod", bundle="1" * 64)
    assert other.is_failed()
    assert "[bundle-changed]" in (other.message or "")

    stage.admit("prod", to="dev")
    intruder = promote(start="prod")
    assert intruder.is_failed()
    assert "permission denied" in (intruder.message or "")
    assert [stage.versions(service, "prod") for service in VERSIONS] == [[], [], []]


def test_bad_flow_the_command_ends_with_the_cause_that_a_service_found_three_runs_below(
    whole_stage: Stage,
    prefect_server: PrefectServer,
    workers: dict[str, PrefectWorker],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stage = whole_stage
    become(monkeypatch, stage, "dev")
    text = "-- +goose Up\nINSERT INTO absent VALUES (1);\n-- +goose Down\nSELECT 1;\n"
    path = stage.write("auth-service/migrations/20250103000000_broken.sql", text)
    assert main(["promote", "-until", "dev", "--json"]) == 14
    document = json.loads(capsys.readouterr().out)
    assert (document["error"]["code"], document["exit_code"]) == ("sql-rejected", 14)
    assert f"{path.relative_to(stage.directory)}:2" in document["error"]["detail"]
    assert prefect_api.cause_of(prefect_server.request("GET", f"/flow_runs/{document['run']['id']}")) == (
        "sql-rejected",
        14,
        "dev/auth-service",
    )

    # a second attempt of the same run has another cause: nothing is left of the first one's
    assert main(["deploy", "@dev/auth-service", "-backoff-limit", "0", "--json"]) == 14
    run_id = json.loads(capsys.readouterr().out)["run"]["id"]
    path.unlink()
    stage.secret("auth-service", "dev", host=None)
    asked = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}}
    assert prefect_server.request("POST", f"/flow_runs/{run_id}/set_state", asked)["status"] == "ACCEPT"
    run = prefect_api.eventually(
        lambda: prefect_server.request("GET", f"/flow_runs/{run_id}"),
        lambda found: found["run_count"] == 2 and found["state_type"] in prefect_api.FINAL,
        240,
    )
    assert run["state_type"] == "FAILED"
    assert prefect_api.cause_of(run) == ("key-missing", 13, "dev/auth-service")


def test_good_flow_the_uis_retry_of_a_run_whose_process_was_killed_completes(
    whole_stage: Stage, prefect_server: PrefectServer, workers: dict[str, PrefectWorker]
) -> None:
    stage = whole_stage
    slow = "-- +goose Up\nCREATE TABLE slow (id text);\nSELECT pg_sleep(300);\n-- +goose Down\nDROP TABLE slow;\n"
    stage.write("auth-service/migrations/20250103000000_slow.sql", slow)
    run_id = prefect_api.create_run(prefect_server, "deploy-service/deploy-service-dev", {"service": "auth-service"})
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    assert prefect_api.eventually(lambda: stage.sql("auth-service", "dev", sleeping), lambda found: found == ["1"], 120) == ["1"]
    pid = prefect_server.request("GET", f"/flow_runs/{run_id}")["infrastructure_pid"]
    os.kill(int(pid.rpartition(":")[2]), signal.SIGKILL)
    assert prefect_api.ended(prefect_server, run_id)["state_type"] == "CRASHED"
    assert stage.versions("auth-service", "dev") == VERSIONS["auth-service"]

    stage.write("auth-service/migrations/20250103000000_slow.sql", slow.replace("300", "0"))
    prefect_api.free_limit(prefect_server, "greylag-auth-service-dev")
    asked = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}}

    def retried() -> dict[str, Any]:
        """The run. Prefect reports the crash twice, by runner and by worker: a Retry pressed in between is lost, and has to be pressed again."""
        run = prefect_server.request("GET", f"/flow_runs/{run_id}")
        if run["state_type"] == "CRASHED" and run["run_count"] == 1:
            assert prefect_server.request("POST", f"/flow_runs/{run_id}/set_state", asked)["status"] == "ACCEPT"
        return dict(run)

    ended = prefect_api.eventually(retried, lambda run: run["state_type"] in ("COMPLETED", "FAILED"), 240)
    assert (ended["state_type"], ended["run_count"]) == ("COMPLETED", 2), ended["state"]["message"]
    assert stage.versions("auth-service", "dev") == [*VERSIONS["auth-service"], 20250103000000]


def test_bad_flow_a_release_that_is_started_backwards_is_refused(whole_stage: Stage, prefect_server: PrefectServer) -> None:
    state = promote(start="prod", until="dev")
    assert state.is_failed()
    assert "[bad-path]" in (state.message or "")
    assert Path(whole_stage.directory, "fleet.yaml").exists()
