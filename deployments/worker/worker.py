"""The worker: looks at each run that the server hands out, refuses what carries more than a name and parameters, and starts the rest by name.

A BaseWorker and not a ProcessWorker, which runs the server's pull steps in the worker itself when a run crashes or is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import anyio
from anyio.abc import TaskStatus
from prefect.client.schemas.objects import FlowRun
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from deployments.worker import admission, forking, jobs, place, pool, prefect_bridge, refusals, starting
from migrator import errors
from tasks import fleet

POOL_CHANGED = "greylag.pool.changed"

ENDING_SECONDS = 30.0
"""Seconds between SIGTERM and SIGKILL for runs of a worker that is ended: a statement is cancelled and rolled back in one, a Job's pod awaited for 20."""

REPORTING_SECONDS = 10.0
"""Seconds for the last states of ended runs: a few requests to a server that may be busy."""


class Configuration(BaseJobConfiguration):
    """How a run is started, as far as the server is concerned: not at all. Its template and job variables never get here."""

    @classmethod
    async def from_template_and_values(cls, base_job_template: dict[str, Any], values: dict[str, Any], client: Any = None) -> Configuration:
        """Returns an empty configuration. Prefect's own would resolve the server's blocks and variables."""
        return cls()


class NoVariables(BaseVariables):
    """None: runs choose nothing."""


class Result(BaseWorkerResult):
    """The end of a run's process."""


class GreylagWorker(BaseWorker[Configuration, NoVariables, Result]):
    """Starts greylag's flows by name, in the environment that it belongs to."""

    type = pool.TYPE
    job_configuration = Configuration
    job_configuration_variables = NoVariables
    _display_name = "greylag"
    _description = (
        "Starts greylag's own flows by name. Command, environment, image, pull steps, paths and results of the server are never used."
    )

    def __init__(
        self,
        *given: Any,
        place: place.Place | None = None,
        starter: starting.Starter | None = None,
        cluster: jobs.Cluster | None = None,
        **options: Any,
    ) -> None:
        """Makes a worker; Prefect's own command gives pool, name and limit alone."""
        super().__init__(*given, **options)
        self._place = place or self._of_pool()
        self._starter = starter or forking.Forks(self._place)
        self._cluster = cluster
        self._children: dict[UUID, starting.Child] = {}
        self._runs = 0
        self._stopping = False
        self._told: list[str] = []

    def _of_pool(self) -> place.Place:
        return place.of_pool(fleet.load(), self._work_pool_name)

    @classmethod
    def get_default_base_job_template(cls) -> dict[str, Any]:
        """Returns the closed template with which Prefect makes a pool of this type."""
        return pool.template()

    async def __aenter__(self) -> GreylagWorker:
        """Opens what all runs share, then the worker itself."""
        prefect_bridge.refuse_stored_results()  # this process reads states, too
        self._executors = await prefect_bridge.Executors().__aenter__()
        if self._cluster is None:
            await self._starter.prepare()
        await super().__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        """Ends the runs first, in a true state each, and then the worker."""
        try:
            with anyio.CancelScope(shield=True):
                await self._end_runs()
            await super().__aexit__(*exc_info)
        finally:
            await self._executors.__aexit__()
            await self._starter.close()

    async def sync_with_backend(self) -> None:
        """Says what somebody changed in the pool, once; runs go on, because nothing of it is used."""
        await super().sync_with_backend()
        if self._work_pool is None:
            return
        told = pool.changes(self._work_pool.type, self._work_pool.base_job_template)
        if told and told != self._told:
            self._logger.warning(
                "work pool %s is not as greylag made it: %s. Nothing of it is used.", self._work_pool_name, " and ".join(told)
            )
            emit_event(
                POOL_CHANGED,
                resource={"prefect.resource.id": f"prefect.work-pool.{self._work_pool.id}", "prefect.resource.name": self._work_pool_name},
                payload={"changes": told, "worker": self.name},
            )
        self._told = told

    async def run(self, flow_run: FlowRun, configuration: Configuration, task_status: TaskStatus[Any] | None = None) -> Result:
        """Runs a flow run to its end, or refuses it."""
        status = task_status or anyio.TASK_STATUS_IGNORED
        self._runs += 1
        try:
            return await self._run(flow_run, status)
        finally:
            self._runs -= 1

    async def _run(self, flow_run: FlowRun, status: TaskStatus[Any]) -> Result:
        fresh, flow, reason = await self._examined(flow_run.id)
        if reason:
            await self._refuse(fresh, flow, reason)
            status.started(RuntimeError(reason))
            return Result(status_code=0, identifier="refused")
        if self._stopping or fresh.state is None or not fresh.state.is_pending():  # cancelled, or ended by somebody
            await self._settle(fresh.id, 0, "its worker was stopped before it began")
            status.started(RuntimeError("it is no longer to be started"))
            return Result(status_code=0, identifier="not started")
        words = (flow, str(fresh.id), self._place.environment, self._work_pool_name, self.name)
        if self._cluster is not None:
            return await self._in_cluster(self._cluster, fresh, words, status)
        return await self._as_process(fresh, words, status)

    async def _as_process(self, fresh: FlowRun, words: tuple[str, ...], status: TaskStatus[Any]) -> Result:
        own = {**self._place.variables(), **self._executors.control(fresh.id), "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false"}
        variables = {**self._variables(fresh, words[0]), **own}  # this worker ends a cancelled run
        child: starting.Child | None = None

        async def start() -> starting.Child:
            nonlocal child
            child = self._children[fresh.id] = await self._starter.start(words, variables)
            return child

        async def wait() -> None:
            assert child is not None
            await child.wait()
            child.pardoned = not self._stopping and await self._cancelled(fresh.id)

        try:
            code = await self._executors.execute(fresh, start, wait, status.started)
        finally:
            self._children.pop(fresh.id, None)
        if child is None:
            status.started(RuntimeError("the run's process did not start"))
        await self._settle(fresh.id, code or 0)
        return Result(status_code=0, identifier=str(child.pid if child else "none"))  # a crash has been reported

    async def _in_cluster(self, cluster: jobs.Cluster, fresh: FlowRun, words: tuple[str, ...], status: TaskStatus[Any]) -> Result:
        """Makes the run's Job and follows it. The pod looks after Cancel and eviction itself; a worker that is stopped leaves its Jobs at work."""
        address = {"PREFECT_API_URL": str(self.client.api_url)}
        job = await asyncio.to_thread(cluster.create, words, {**self._variables(fresh, words[0]), **address})
        name = f"{job['metadata']['namespace']}/{job['metadata']['name']}"
        status.started(name)
        began = asyncio.get_running_loop().time()
        ended = ""
        while not ended and not self._stopping:
            await asyncio.sleep(jobs.POLL_SECONDS)
            try:
                ended, lacking = await asyncio.to_thread(cluster.look, job)
            except errors.GreylagError as error:  # the cluster doesn't answer; the Job goes on
                self._logger.warning("Job %s can't be looked at: %s", name, error.message)
                continue
            if lacking and asyncio.get_running_loop().time() - began > jobs.PATIENCE_SECONDS:
                ended = f"Failed (no container began in {jobs.PATIENCE_SECONDS:.0f} s: {lacking})"
                await asyncio.to_thread(cluster.delete, job)
        if ended:
            await self._settle(fresh.id, 0, f"its Job {name} has ended without a report: {ended}")
        return Result(status_code=0, identifier=name)

    async def _examined(self, run_id: UUID) -> tuple[FlowRun, str, str]:
        """Reads the run afresh (what Prefect passes on lacks job variables that it moved), and returns its flow's name and why it is refused."""
        run = await self.client.read_flow_run(run_id)
        flow = (await self.client.read_flow(run.flow_id)).name
        asked = admission.Asked(flow)
        if run.deployment_id is not None:
            deployment = await self.client.read_deployment(run.deployment_id)
            asked = admission.Asked(
                flow,
                deployment=deployment.name,
                job_variables=run.job_variables or {},
                deployment_job_variables=deployment.job_variables or {},
                pull_steps=tuple(deployment.pull_steps or ()),
                path=deployment.path or "",
                entrypoint=deployment.entrypoint or "",
                storage=deployment.storage_document_id is not None,
                infrastructure=deployment.infrastructure_document_id is not None,
            )
        return run, flow, admission.refusal(asked, self._place.kind, str(self._place.home))

    async def _refuse(self, run: FlowRun, flow: str, reason: str) -> None:
        state = refusals.state(reason, self.name)
        self.get_flow_run_logger(run).error(state.message)
        refusals.emit(run.id, reason, worker=self.name, pool=self._work_pool_name, flow=flow)
        await self.client.update_flow_run_labels(run.id, refusals.labels(run.run_count, self._place.environment))
        await prefect_bridge.propose(self.client, run.id, state)

    def _variables(self, run: FlowRun, flow: str) -> Mapping[str, str]:
        return {
            "PREFECT__FLOW_RUN_ID": str(run.id),
            "PREFECT__FLOW_ID": str(run.flow_id),
            "PREFECT__FLOW_NAME": flow,
            "PREFECT__DEPLOYMENT_ID": str(run.deployment_id),
            "PREFECT__WORKER_NAME": self.name,
            "PREFECT__WORKER_ID": str(self.backend_id or ""),
        }

    async def _cancelled(self, run_id: UUID) -> bool:
        """Tells whether the process ended because the run is being cancelled: that is no crash."""
        try:
            found = await self.client.read_flow_run(run_id)
        except Exception:  # noqa: BLE001 - whatever the server answers: then the exit code decides
            return False
        return found.state is not None and (found.state.is_cancelling() or found.state.is_cancelled())

    async def _settle(self, run_id: UUID, code: int, message: str = "") -> None:
        """Gives a run whose process has ended a true state, where nobody else did.

        Prefect leaves a run that is cancelled before it runs at Cancelling for ever, and one whose process ends without a report at Running.
        """
        try:
            found = await self.client.read_flow_run(run_id)
        except ObjectNotFound:
            return
        state = found.state
        if state is None or state.is_final():
            return
        if state.is_cancelling():
            await self.client.set_flow_run_state(run_id, Cancelled(message="cancelled; its process has ended"), force=True)
        elif state.is_running() or state.is_pending():
            told = message or f"its process ended without a report (exit code {code})"
            await prefect_bridge.propose(self.client, run_id, Crashed(message=told))

    async def _end_runs(self) -> None:
        """Sends SIGTERM to every run's process, SIGKILL after `ENDING_SECONDS`, and waits until their states are written."""
        self._stopping = True
        for child in self._children.values():
            child.graceful_kill(child.pid)
        await self._until_idle(ENDING_SECONDS)
        for child in self._children.values():
            child.hard_kill(child.pid)
        await self._until_idle(REPORTING_SECONDS)

    async def _until_idle(self, seconds: float) -> None:
        async def idle() -> None:
            while self._runs:
                await asyncio.sleep(0.1)

        with anyio.move_on_after(seconds):
            await idle()
