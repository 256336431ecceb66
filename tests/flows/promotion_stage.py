"""Promotions as tests start, approve and await them; the fixture `workers` (conftest.py) runs what they start."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any

import pytest
from prefect import State

from sandbox.stack.prefect_server import PrefectServer
from tests.flows import prefect_api
from tests.flows.stage import Stage, become

VERSIONS = {
    "auth-service": [20250101000000, 20250102000000],
    "personal-service": [20250101000000],
    "identity-service": [20250101000000],
}


def promote(**given: Any) -> State[Any]:
    from flows.promote_release import promote_release

    state: State[Any] = promote_release(**given, return_state=True)
    return state


def promoting(pool: ThreadPoolExecutor, **given: Any) -> Future[State[Any]]:
    """A promotion in another thread, as this one goes on to approve it."""
    return pool.submit(copy_context().run, lambda: promote(**given))


def approve(asked: dict[str, Any]) -> State[Any]:
    from flows.approve_release import approve_release

    state: State[Any] = approve_release(**asked, approver="Ada", reason="CHG-1", return_state=True)
    return state


def awaited(server: PrefectServer, since: str) -> dict[str, Any]:
    """What the promotion asks for, from its event."""
    wanted = {
        "filter": {
            "event": {"name": ["release.awaiting-approval"]},
            "resource": {"id": ["greylag.release.prod"]},
            "occurred": {"since": since, "until": "2100-01-01T00:00:00Z"},
        }
    }
    found = prefect_api.eventually(lambda: server.request("POST", "/events/filter", wanted)["events"], bool, 300)
    assert found, server.request("POST", "/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 3})
    parameters: dict[str, Any] = found[0]["payload"]["parameters"]
    return parameters


def now() -> str:
    return datetime.now(UTC).isoformat()


def ready_for_prod(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """dev and release hold the files as they are, by their own logins, without waiting for workers."""
    from flows.deploy_environment import deploy_environment

    for environment in ("dev", "release"):
        become(monkeypatch, stage, environment)
        assert deploy_environment(environment=environment, return_state=True).is_completed()


def hold_everywhere(stage: Stage, server: PrefectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """All three environments hold the files as they are, prod by an approval, without waiting for workers."""
    from flows import approvals
    from flows.deploy_environment import deploy_environment
    from flows.plan_environment import plan_environment
    from flows.verify_environment import verify_environment

    ready_for_prod(stage, monkeypatch)
    become(monkeypatch, stage, "prod")
    assert plan_environment(environment="prod", return_state=True).is_completed()
    planned = approvals.manifest_of(prefect_api.artifact(server, "plan-prod"))
    become(monkeypatch, stage, "release")
    assert verify_environment(environment="release", bundles=dict(planned.bundles), return_state=True).is_completed()
    given = approve({"environment": "prod", "bundle": planned.bundle, "plan": planned.plan, "confirm": "deploy-prod"})
    become(monkeypatch, stage, "prod")
    approval = str(given.state_details.flow_run_id)
    assert deploy_environment(environment="prod", approval=approval, return_state=True).is_completed()
