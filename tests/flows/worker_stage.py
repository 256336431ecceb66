"""A worker of greylag's and what somebody with nothing but the API's address does to it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.stack.prefect_server import PrefectServer, PrefectWorker
from tests.flows import prefect_api
from tests.flows.stage import ROOT, Stage

POOL = "greylag-dev"


@dataclass
class Desk:
    """The worker of an environment and the API's address. `stage` is the fleet behind it, where it is a test's own."""

    server: PrefectServer
    stage: Stage | None
    worker: PrefectWorker
    directory: Path
    environment: str = "dev"

    @property
    def pool(self) -> str:
        """The worker's work pool."""
        return f"greylag-{self.environment}"

    def deployment(self, flow: str) -> dict[str, Any]:
        """A deployment of the environment's."""
        found: dict[str, Any] = self.server.request("GET", f"/deployments/name/{flow}/{flow}-{self.environment}")
        return found

    def create(self, flow: str, body: dict[str, Any] | None = None, **parameters: Any) -> str:
        """Starts a deployment; the run's id."""
        wanted = {"parameters": parameters, "idempotency_key": uuid.uuid4().hex, **(body or {})}
        return str(self.server.request("POST", f"/deployments/{self.deployment(flow)['id']}/create_flow_run", wanted)["id"])

    def post(self, flow: str, **body: Any) -> str:
        """Creates a run by the request that the server does not validate; the run's id."""
        found = self.deployment(flow)
        given = {"flow_id": found["flow_id"], "deployment_id": found["id"], "work_pool_name": self.pool}
        given["parameters"] = {"environment": self.environment}
        return str(self.server.request("POST", "/flow_runs/", {**given, "state": {"type": "SCHEDULED"}, **body})["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        """A run as it is."""
        found: dict[str, Any] = self.server.request("GET", f"/flow_runs/{run_id}")
        return found

    def ended(self, run_id: str, seconds: float = 120) -> dict[str, Any]:
        """A run once it has ended."""
        return prefect_api.ended(self.server, run_id, seconds)

    def refused(self, run_id: str) -> str:
        """The reason of a run that must be refused: in its state, its labels and its event alike."""
        run = self.ended(run_id)
        assert (run["state_type"], run["state_name"]) == ("FAILED", "Refused"), (run["state"], self.worker.log.read_text()[-3000:])
        assert run["labels"]["greylag.code"] == "run-refused" and run["labels"]["greylag.exit-code"] == 11
        (event,) = prefect_api.events(self.server, "greylag.run.refused", f"prefect.flow-run.{run_id}", 1)
        reason = str(event["payload"]["reason"])
        assert reason and reason in run["state"]["message"]
        return reason

    @contextlib.contextmanager
    def changed(self, flow: str, **change: Any) -> Iterator[None]:
        """Changes a deployment by PATCH, as long as the block lasts."""
        found = self.deployment(flow)
        path = f"/deployments/{found['id']}"
        self.server.request("PATCH", path, change)
        try:
            yield
        finally:
            self.server.request("PATCH", path, {name: found[name] for name in change})


@contextlib.contextmanager
def desk(stage: Stage, server: PrefectServer, directory: Path) -> Iterator[Desk]:
    """Applies prefect.yaml and starts dev's worker."""
    import subprocess
    import sys

    from sandbox.stack.prefect_server import clean_environment

    stage.fresh("dev")
    variables = clean_environment() | server.environment() | {"GREYLAG_FLEET": str(stage.directory / "fleet.yaml")}
    command = [sys.executable, "-m", "migrator.cli", "deploy", "-close-pools"]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    try:
        with PrefectWorker(server, POOL, environment=stage.variables("dev"), serving="dev", directory=directory) as worker:
            yield Desk(server, stage, worker, directory)
    finally:
        stage.drop()


def busy(desk: Desk) -> bool:
    """Whether dev's database works on a statement that sleeps."""
    database = desk.stage.database("auth-service", "dev")
    sleeping = "state = 'active' AND query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()"
    query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND {sleeping}"
    return desk.stage.sql("auth-service", "dev", query) != ["0"]
