"""What `deployments/worker/prefect_bridge.py` takes for granted of Prefect's private parts, name by name: an update that changes one fails here first."""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
import tomllib
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from prefect import engine, flow, flow_engine, results, states
from prefect._internal import control_listener, metrics
from prefect.client.schemas.objects import FlowRun
from prefect.results import ResultRecord, ResultRecordMetadata, ResultStore
from prefect.runner import _control_channel, _flow_run_executor, _process_manager
from prefect.serializers import JSONSerializer
from prefect.utilities import engine as engine_utilities
from prefect.workers.base import BaseWorker

from deployments.worker import prefect_bridge
from sandbox.stack.prefect_server import PrefectServer

ROOT = Path(__file__).resolve().parents[2]
BRIDGE = ROOT / "deployments" / "worker" / "prefect_bridge.py"


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_prefect_is_pinned_to_the_version_that_these_tests_hold() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]["flows"]
    assert f"prefect=={metadata.version('prefect')}" in declared
    assert f"prefect=={metadata.version('prefect')}\n" in (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_nothing_else_of_the_product_imports_what_prefect_keeps_private() -> None:
    private = re.compile(
        r"^\s*(?:from|import) prefect(?:\.\w+)*\._|^\s*from prefect\.(?:runner|engine|flow_engine|workers\.process)\b", re.MULTILINE
    )
    product = [path for top in ("migrator", "tasks", "flows", "deployments") for path in (ROOT / top).rglob("*.py") if path != BRIDGE]
    assert not [path.name for path in product if private.search(path.read_text(encoding="utf-8"))]
    assert private.search(BRIDGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (engine.handle_engine_signals, ["flow_run_id"]),
        (flow_engine.load_flow_run, ["flow_run_id"]),
        (metrics.RunMetrics, ["flow_run", "flow"]),
        (control_listener.configure_from_env, []),
        (_control_channel.ControlChannel.register, ["self", "flow_run_id"]),
        (_process_manager.ProcessHandle, ["_process", "termination_scope"]),
        (ResultStore._from_metadata, ["metadata"]),
    ],
)
def test_a_name_takes_what_the_bridge_gives_it(function: Any, expected: list[str]) -> None:
    assert parameters(function) == expected


def test_names_whose_further_parameters_the_bridge_leaves_alone() -> None:
    assert {"flow", "flow_run", "error_logger", "return_type"} <= set(parameters(flow_engine.run_flow))
    made = parameters(_flow_run_executor.FlowRunExecutorContext.create_executor)
    assert made[:3] == ["self", "flow_run", "starter"] and {"propose_submitting", "hook_runner"} <= set(made)
    assert parameters(_flow_run_executor.FlowRunExecutor.submit) == ["self", "task_status"]
    assert parameters(_control_channel.ControlChannel.signal)[:3] == ["self", "flow_run_id", "intent"]
    assert {"flow_run_id", "force"} <= set(parameters(_process_manager.ProcessManager.kill))
    for function in (engine_utilities.propose_state, engine_utilities.propose_state_sync):
        assert parameters(function)[:2] == ["client", "state"] and "flow_run_id" in parameters(function)
    assert {"ACKNOWLEDGED", "ALREADY_CONCLUDED"} <= set(_control_channel.ControlSignalStatus.__members__)
    wanted = {"is_alive", "graceful_kill", "hard_kill", "close"}
    assert wanted <= set(dir(_process_manager.ProcessTerminationScope))


def test_the_hooks_of_a_worker_that_are_overridden_are_called() -> None:
    assert parameters(BaseWorker.run) == ["self", "flow_run", "configuration", "task_status"]
    assert "sync_with_backend" in inspect.getsource(BaseWorker._sync_and_initialize)
    assert "from_template_and_values" in inspect.getsource(BaseWorker.job_configuration.resolve_for_flow_run)
    for name in ("_work_pool", "_work_pool_name", "_logger", "backend_id"):
        assert f"self.{name}" in inspect.getsource(BaseWorker.__init__), name


def test_every_way_to_a_stored_result_leads_through_the_one_that_is_closed() -> None:
    source = inspect.getsource(states)
    assert source.count("ResultStore._from_metadata(state.data)") == 2
    others = [path for path in Path(results.__file__).parent.rglob("*.py") if "_from_metadata(" in path.read_text(encoding="utf-8")]
    assert sorted(path.name for path in others) == ["results.py", "states.py"]


def test_a_process_that_refuses_stored_results_reads_none(tmp_path: Path) -> None:
    """In a process of its own: the refusal is for good."""
    place = tmp_path / "result"
    stored = ResultRecordMetadata(storage_key=str(place), serializer=JSONSerializer())
    place.write_bytes(ResultRecord(result="secret", metadata=stored).serialize())
    program = f"""
import asyncio, sys
from prefect.results import ResultRecordMetadata
from prefect.serializers import JSONSerializer
from prefect.states import Completed, get_state_result
from deployments.worker import prefect_bridge
state = Completed(data=ResultRecordMetadata(storage_key={str(place)!r}, serializer=JSONSerializer()))
print(asyncio.run(get_state_result(state)))
prefect_bridge.refuse_stored_results()
try:
    print(asyncio.run(get_state_result(state)))
except prefect_bridge.StoredResult as error:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.stdout.split() == ["secret", "refused"], done.stdout + done.stderr


class Immediate:
    """A process that has ended with a code as soon as it is asked."""

    wait_after_graceful_kill = True

    def __init__(self, code: int) -> None:
        self.pid = 2_000_000_000
        self.returncode: int | None = code

    def is_alive(self, pid: int) -> bool:
        return False

    def graceful_kill(self, pid: int) -> None: ...

    def hard_kill(self, pid: int) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize(("code", "expected"), [(0, "PENDING"), (7, "CRASHED")])
def test_an_executor_gives_the_exit_code_and_reports_a_crash(prefect_server: PrefectServer, code: int, expected: str) -> None:
    flow_id = prefect_server.request("POST", "/flows/", {"name": "bridge"})["id"]
    run = prefect_server.request("POST", "/flow_runs/", {"flow_id": flow_id, "state": {"type": "PENDING"}})["id"]
    started: list[int] = []

    async def execute() -> int | None:
        async with prefect_bridge.Executors() as executors:
            assert set(executors.control(uuid.UUID(run))) == {"PREFECT__CONTROL_PORT", "PREFECT__CONTROL_TOKEN"}
            found: FlowRun = await executors.client.read_flow_run(uuid.UUID(run))
            process = Immediate(code)

            async def start() -> Immediate:
                return process

            async def wait() -> None: ...

            return await executors.execute(found, start, wait, started.append)

    assert asyncio.run(execute()) == code
    assert started == [2_000_000_000]
    assert prefect_server.request("GET", f"/flow_runs/{run}")["state_type"] == expected


def test_the_engine_works_on_the_run_that_was_looked_at(prefect_server: PrefectServer) -> None:
    """`_flow_parameters`: without parameters of its own the engine takes those of the run object that it was given, not a later one of the server's."""
    seen: list[int] = []

    @flow(name="bridge-parameters", persist_result=False)
    def look(number: int) -> None:
        seen.append(number)

    flow_id = prefect_server.request("POST", "/flows/", {"name": "bridge-parameters"})["id"]
    body = {"flow_id": flow_id, "parameters": {"number": 1}, "state": {"type": "PENDING"}}
    run = prefect_server.request("POST", "/flow_runs/", body)["id"]
    found = flow_engine.load_flow_run(uuid.UUID(run))
    prefect_server.request("PATCH", f"/flow_runs/{run}", {"parameters": {"number": 2}})
    state: Any = flow_engine.run_flow(look, flow_run=found, return_type="state")
    assert state.is_completed() and seen == [1]
