"""rollback_service on real servers: planned, rolled back and verified, also where the checkout no longer has the file; never a protected environment."""

from __future__ import annotations

from typing import Any

import pytest
from prefect import State

from migrator import errors
from sandbox.stack.prefect_server import PrefectServer
from tests.flows import prefect_api
from tests.flows.stage import Stage
from tests.flows.test_flow_deploy_service import BOTH, deploy


def roll_back(to: int, environment: str = "dev", **given: Any) -> State[Any]:
    from flows.rollback_service import rollback_service

    state: State[Any] = rollback_service(
        service="auth-service", environment=environment, to=to, reason="CHG-7: the index is too large", **given, return_state=True
    )
    return state


@pytest.mark.parametrize("checkout", ["has the file", "has lost the file"])
def test_good_flow_the_newest_version_is_planned_rolled_back_and_the_rest_verified(
    checkout: str, stage: Stage, prefect_server: PrefectServer
) -> None:
    assert deploy().is_completed()
    if checkout == "has lost the file":
        next(stage.directory.rglob("20250102000000_index_users.sql")).unlink()
    planned = roll_back(BOTH[0], plan_only=True)
    assert planned.is_completed(), planned.message
    assert stage.versions("auth-service", "dev") == BOTH
    state = roll_back(BOTH[0])
    assert state.is_completed(), state.message
    assert stage.versions("auth-service", "dev") == BOTH[:1]
    names = [run["name"] for run in prefect_api.task_runs(prefect_server, str(state.state_details.flow_run_id), 5)]
    assert [name.rpartition(" ")[0] for name in names] == ["fetch credentials", "encode URL", "plan", "roll back", "verify tables"]
    again = roll_back(BOTH[0])
    assert again.is_completed(), again.message
    assert len(prefect_api.task_runs(prefect_server, str(again.state_details.flow_run_id), 3)) == 3, "nothing to roll back"


def test_bad_flow_a_protected_environment_is_refused_before_anything_is_asked(stage: Stage, prefect_server: PrefectServer) -> None:
    state = roll_back(0, environment="prod")
    assert state.is_failed()
    assert prefect_api.cause(prefect_server, state) == ("protected-environment", errors.ExitCode.REFUSED, "prod/auth-service")
    assert prefect_api.task_runs(prefect_server, str(state.state_details.flow_run_id), 0) == []
