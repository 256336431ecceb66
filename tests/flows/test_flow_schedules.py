"""Schedules of prefect.yaml on a real server: its scheduler starts the runs, and promotions beside each other stay out of each other's way."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client

from flows import proposals, remote_runs
from sandbox.stack.prefect_server import PrefectServer, PrefectWorker
from tasks import signs_of_life
from tests.flows import prefect_api
from tests.flows.promotion_stage import VERSIONS, approve, awaited, hold_everywhere, now, promote, promoting, ready_for_prod
from tests.flows.stage import Stage

pytestmark = pytest.mark.slow

PROPOSE_PROD = "propose-prod-weekly"
TICK_SECONDS = 20
"""What a test has the patience for; each tick is a process that imports Prefect."""

MORE = "-- +goose Up\nCREATE TABLE more (id text);\n-- +goose Down\nDROP TABLE more;\n"


@contextmanager
def ticking(server: PrefectServer, slug: str) -> Iterator[str]:
    """Activates a schedule of the promotion as it is shipped, but with a short interval; gives its id. Then it is as it was, and its ticks have ended."""
    deployment = server.request("GET", "/deployments/name/promote-release/promote")
    schedule = next(item for item in deployment["schedules"] if item["slug"] == slug)
    path = f"/deployments/{deployment['id']}/schedules/{schedule['id']}"
    every = {"interval": TICK_SECONDS, "anchor_date": datetime.now(UTC).isoformat()}
    server.request("PATCH", path, {"active": True, "schedule": every})
    try:
        yield schedule["id"]
    finally:
        server.request("PATCH", path, {"active": False, "schedule": schedule["schedule"]})
    prefect_api.eventually(
        lambda: ticks(server, schedule["id"]),
        lambda found: all(run["state_type"] in prefect_api.FINAL or run["state_name"] == "AwaitingApproval" for run in found),
        300,
    )


def ticks(server: PrefectServer, schedule: str, *names: str) -> list[dict[str, Any]]:
    """The runs that a schedule has started, oldest first; only those whose state has one of these names, where any is given."""
    started = {"type": {"not_any_": ["SCHEDULED"]}} | ({"name": {"any_": list(names)}} if names else {})
    wanted = {"flow_runs": {"state": started, "created_by": {"id_": [schedule], "type_": ["SCHEDULE"]}}, "sort": "START_TIME_ASC"}
    found: list[dict[str, Any]] = server.request("POST", "/flow_runs/filter", wanted)
    return found


def test_good_flow_an_active_schedule_starts_a_run_and_one_that_finds_nothing_new_ends_at_once(
    whole_stage: Stage, prefect_server: PrefectServer, workers: dict[str, PrefectWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_everywhere(whole_stage, prefect_server, monkeypatch)
    since = now()
    with ticking(prefect_server, PROPOSE_PROD) as schedule:
        started = prefect_api.eventually(lambda: ticks(prefect_server, schedule), bool, 120)
        assert started, (prefect_server.directory / "server.log").read_text(encoding="utf-8")[-4000:]
    run = prefect_api.ended(prefect_server, started[0]["id"])
    assert run["auto_scheduled"] is True
    assert run["created_by"] == {"id": schedule, "type": "SCHEDULE", "display_value": PROPOSE_PROD}
    assert (run["state_type"], run["state_name"]) == ("COMPLETED", "NothingToDo"), run["state"]["message"]
    assert run["state"]["message"].startswith("nothing to do: release ")
    assert len(prefect_api.children(prefect_server, "plan-environment", since)) >= 3
    assert prefect_api.children(prefect_server, "deploy-environment", since) == []
    assert prefect_api.children(prefect_server, "verify-environment", since) == []


def test_bad_flow_ticks_do_not_pile_up_and_a_newer_bundle_takes_the_place_of_the_one_that_waits(
    whole_stage: Stage, prefect_server: PrefectServer, workers: dict[str, PrefectWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, server = whole_stage, prefect_server
    ready_for_prod(stage, monkeypatch)
    since = now()
    with ticking(server, PROPOSE_PROD) as schedule:
        asked = awaited(server, since)
        (first,) = prefect_api.eventually(lambda: ticks(server, schedule, "AwaitingApproval"), bool)
        later = prefect_api.eventually(lambda: ticks(server, schedule, "AlreadyProposed"), lambda found: len(found) > 1, 120)
        assert {run["state_type"] for run in later} == {"COMPLETED"}
        assert all(f"is already proposed for prod by {first['name']} ({first['id']})" in run["state"]["message"] for run in later)
    assert [run["id"] for run in ticks(server, schedule, "AwaitingApproval")] == [first["id"]]
    assert [run["state_type"] for run in ticks(server, schedule)].count("RUNNING") == 1

    to_release = prefect_api.ended(server, prefect_api.create_run(server, "promote-release/promote", {"until": "release"}))
    assert to_release["state_type"] == "COMPLETED", to_release["state"]["message"]
    assert state_name(server, first["id"]) == "AwaitingApproval"

    stage.write("auth-service/migrations/20250105000000_more.sql", MORE)
    newer = now()
    second = prefect_api.create_run(server, "promote-release/promote", {})
    asked_again = awaited(server, newer)
    superseded = prefect_api.ended(server, first["id"])
    assert (superseded["state_type"], superseded["state_name"]) == ("CANCELLED", "Superseded")
    for part in (f"({second}) with release {asked_again['bundle'][:12]}", "[promotion-superseded]"):
        assert part in superseded["state"]["message"]
    assert (superseded["labels"]["greylag.code"], superseded["labels"]["greylag.exit-code"]) == ("promotion-superseded", 11)
    assert prefect_api.eventually(lambda: state_name(server, second), lambda name: name == "AwaitingApproval") == "AwaitingApproval"

    refused = approve(asked)
    assert refused.is_failed() and "[approval-superseded]" in (refused.message or ""), refused.message
    assert approve(asked_again).is_completed()
    entered = prefect_api.ended(server, second)
    assert entered["state_type"] == "COMPLETED", entered["state"]["message"]
    assert stage.versions("auth-service", "prod") == [*VERSIONS["auth-service"], 20250105000000]
    deployed = [run["parameters"]["environment"] for run in prefect_api.children(server, "deploy-environment", since)]
    assert deployed.count("prod") == 1


def test_good_flow_two_promotions_until_the_same_environment_are_at_work_one_after_the_other(
    whole_stage: Stage, prefect_server: PrefectServer, workers: dict[str, PrefectWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "TURN_POLL_SECONDS", 0.5)
    waits = {"logs": {"level": {"ge_": 20}}, "sort": "TIMESTAMP_DESC", "limit": 50}
    with at_work(prefect_server, until="release"), at_work(prefect_server, until="dev") as elder, ThreadPoolExecutor(1) as pool:
        future = promoting(pool, until="dev")
        told = f"waits for its turn: elder ({elder}) is at work until dev"
        logs = prefect_api.eventually(
            lambda: [line["message"] for line in prefect_server.request("POST", "/logs/filter", waits)], lambda lines: told in lines
        )
        assert told in logs and not future.done()
        assert whole_stage.versions("auth-service", "dev") == []
        prefect_server.request("POST", f"/flow_runs/{elder}/set_state", {"state": {"type": "FAILED"}})
        state = future.result()
    assert state.is_completed(), state.message
    assert whole_stage.versions("auth-service", "dev") == VERSIONS["auth-service"]


def test_good_flow_a_promotion_whose_process_is_gone_holds_up_nobody(
    whole_stage: Stage, prefect_server: PrefectServer, workers: dict[str, PrefectWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signs_of_life, "HEARTBEATS_MISSED", 0)
    with at_work(prefect_server, until="dev") as zombie:  # no process, and so no heartbeat
        state = promote(until="dev")
        assert state.is_completed(), state.message
        assert state_name(prefect_server, zombie) == "Running"


def state_name(server: PrefectServer, run_id: str) -> str:
    return str(server.request("GET", f"/flow_runs/{run_id}")["state_name"])


@contextmanager
def at_work(server: PrefectServer, *, until: str) -> Iterator[str]:
    """A promotion that Prefect holds for running, without a process; gives its id."""
    flow = server.request("POST", "/flows/", {"name": "promote-release"})["id"]
    run = server.request("POST", "/flow_runs/", {"flow_id": flow, "name": "elder", "parameters": {"until": until}})["id"]
    for state in ("PENDING", "RUNNING"):
        server.request("POST", f"/flow_runs/{run}/set_state", {"state": {"type": state}})
    try:
        yield str(run)
    finally:
        server.request("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CRASHED"}})


def test_good_flow_a_process_that_lives_is_known_by_its_heartbeats(stage: Stage, prefect_server: PrefectServer) -> None:
    state = promote(start="prod", until="dev")  # refused at once; its process is this one
    long_ago = datetime.now(UTC) - timedelta(days=1)
    with at_work(prefect_server, until="dev") as absent, get_client(sync_client=True) as client:
        lived = state.state_details.flow_run_id
        assert lived and prefect_api.eventually(lambda: signs_of_life.heard(client, [lived], long_ago), bool)
        assert not signs_of_life.heard(client, [UUID(absent)], long_ago)


def test_bad_flow_a_child_without_a_process_is_not_waited_for_in_silence(
    prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(signs_of_life, "HEARTBEATS_MISSED", 0)
    monkeypatch.setattr(remote_runs, "LOOK_SECONDS", 0.0)
    with at_work(prefect_server, until="dev") as child, get_client(sync_client=True) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(copy_context().run, remote_runs.wait, client.read_flow_run(UUID(child)), "greylag-dev")
        assert prefect_api.eventually(lambda: f"({child}) shows no sign of life" in caplog.text, bool, 30)
        prefect_server.request("POST", f"/flow_runs/{child}/set_state", {"state": {"type": "CRASHED"}})
        ended = waiting.result().state
    assert ended is not None and ended.is_crashed()
    assert caplog.text.count("shows no sign of life") == 1
