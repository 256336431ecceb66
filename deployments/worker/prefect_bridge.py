"""Everything private of Prefect that the worker stands on. tests/flows/test_prefect_bridge.py holds each name; Prefect is pinned exactly because of them.

Written for Prefect 3.8.8. Public names (BaseWorker, clients, states, events) are imported where they are used.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast
from uuid import UUID

import anyio
from anyio.abc import TaskStatus
from prefect._internal.control_listener import configure_from_env
from prefect._internal.metrics import RunMetrics
from prefect.client.orchestration import PrefectClient
from prefect.context import refresh_global_settings_context
from prefect.engine import handle_engine_signals
from prefect.exceptions import Abort
from prefect.flow_engine import load_flow_run, run_flow
from prefect.logging.loggers import flow_run_logger
from prefect.results import ResultStore
from prefect.runner._control_channel import ControlSignalStatus
from prefect.runner._flow_run_executor import FlowRunExecutorContext
from prefect.runner._process_manager import ProcessHandle
from prefect.utilities.engine import propose_state, propose_state_sync

if TYPE_CHECKING:
    from prefect import Flow, State
    from prefect.client.schemas.objects import FlowRun


class StoredResult(RuntimeError):
    """A state of the server refers to a stored result. It would be unpickled, so it is not read."""


def refuse_stored_results() -> None:
    """Makes this process refuse every result that a state of the server refers to.

    Whoever reaches the API can set a run to Completed with a result of any storage block and any serializer, pickle included, and the engine reads it
    while it starts that run. greylag stores no result (`persist_result=False` on every flow and task), so nothing is lost.
    """

    async def refuse(cls: type[ResultStore], metadata: object) -> NoReturn:
        raise StoredResult("a state on the Prefect server refers to a stored result; greylag stores none and reads none")

    ResultStore._from_metadata = classmethod(refuse)  # type: ignore[assignment,method-assign]


class Process(Protocol):
    """What Prefect wants of a process and of the scope that signals reach."""

    pid: int
    wait_after_graceful_kill: bool

    @property
    def returncode(self) -> int | None: ...

    def is_alive(self, pid: int) -> bool: ...

    def graceful_kill(self, pid: int) -> None: ...

    def hard_kill(self, pid: int) -> None: ...

    def close(self) -> None: ...


class _NoHooks:
    """greylag's flows have no hooks for crashes and cancellation. Prefect's own runner would take the flow, and its pull steps, from the server."""

    async def run_cancellation_hooks(self, flow_run: FlowRun, state: State[Any]) -> None: ...

    async def run_crashed_hooks(self, flow_run: FlowRun, state: State[Any]) -> None: ...


class _Starter:
    """Prefect's ProcessStarter protocol on two functions."""

    def __init__(self, start: Callable[[], Awaitable[Process]], wait: Callable[[], Awaitable[None]]) -> None:
        self._start, self._wait = start, wait

    async def start(self, flow_run: FlowRun, task_status: TaskStatus[ProcessHandle] = anyio.TASK_STATUS_IGNORED) -> None:
        process = await self._start()
        task_status.started(ProcessHandle(process, termination_scope=process))  # type: ignore[arg-type]
        await self._wait()


class Executors:
    """Prefect's watch over runs' processes: Cancel in the UI, reports of crashes. One client, one observer and one channel for all runs of a worker."""

    async def __aenter__(self) -> Executors:
        self._context = FlowRunExecutorContext()
        await self._context.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._context.__aexit__(None, None, None)

    @property
    def client(self) -> PrefectClient:
        """Returns the client."""
        return self._context.client

    def control(self, run_id: UUID) -> dict[str, str]:
        """Returns the variables by which the run's process is told that a SIGTERM means Cancel."""
        try:
            port, token = self._context.control_channel.register(run_id)
        except RuntimeError:  # no channel: the SIGTERM is then taken for a crash, and the worker looks at the run afterwards
            return {}
        return {"PREFECT__CONTROL_PORT": str(port), "PREFECT__CONTROL_TOKEN": token}

    async def execute(
        self,
        flow_run: FlowRun,
        start: Callable[[], Awaitable[Process]],
        wait: Callable[[], Awaitable[None]],
        started: Callable[[int], None],
    ) -> int | None:
        """Runs a process to its end, cancels it when the run is cancelled, and reports a crash. Returns the exit code; None when it did not start.

        Args:
            started: receives the process's id once it runs.
        """
        executor = self._context.create_executor(flow_run, _Starter(start, wait), propose_submitting=False, hook_runner=_NoHooks())
        execution = None

        async def execute(*, task_status: TaskStatus[ProcessHandle] = anyio.TASK_STATUS_IGNORED) -> None:
            nonlocal execution
            execution = await executor.submit(task_status=task_status)

        async with anyio.create_task_group() as group:
            try:
                handle = await group.start(execute)
            except RuntimeError:  # it ended without having started: cancelled, or the process could not be made, which Prefect has reported
                return None
            started(handle.pid)
        return execution.status_code if execution is not None else None

    async def reschedule(self, run_id: UUID) -> bool:
        """Ends a run's process so that the run is started again later, as for an evicted pod. Returns whether the run was scheduled anew."""
        from prefect.states import AwaitingRetry

        told = await self._context.control_channel.signal(run_id, "reschedule")
        if told is ControlSignalStatus.ALREADY_CONCLUDED:
            return False
        found = await self.client.read_flow_run(run_id)
        final = found.state is not None and found.state.is_final() and not found.state.is_crashed()
        state = None if final else await propose(self.client, run_id, AwaitingRetry())
        await self._context.process_manager.kill(run_id, force=told is not ControlSignalStatus.ACKNOWLEDGED)
        return state is not None and state.is_scheduled()


async def propose(client: PrefectClient, run_id: UUID, state: State[Any]) -> State[Any] | None:
    """Proposes a state and returns what the server made of it; None when it refused."""
    try:
        return await propose_state(client, state, flow_run_id=run_id)
    except Abort:
        return None


def drive(run_id: UUID, flow: Flow[..., Any], admit: Callable[[FlowRun], State[Any] | None]) -> None:
    """Runs a flow in this process as `python -m prefect.engine` does, but with a flow that the caller chose and without any stored result.

    Ends the process with Prefect's exit codes. To be called in the main thread of a process of its own.

    Args:
        admit: looks at the run that was read, on which the engine then works; returns the state that it ends in if it isn't to run.
    """
    refuse_stored_results()
    refresh_global_settings_context()
    configure_from_env()
    with handle_engine_signals(run_id):
        flow_run = load_flow_run(run_id)
        refused = admit(flow_run)
        if refused is not None:
            _propose_sync(run_id, refused)
            return
        logger = flow_run_logger(flow_run=flow_run)
        with RunMetrics(flow_run, flow):
            run_flow(
                flow, flow_run=flow_run, error_logger=cast(logging.Logger, logger), return_type="state"
            )  # "result" would read the state's


def _propose_sync(run_id: UUID, state: State[Any]) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        propose_state_sync(client, state, flow_run_id=run_id)
