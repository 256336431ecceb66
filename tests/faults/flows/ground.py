"""The sandbox with dev's real worker on it, where one case after the other is played."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from migrator import errors
from migrator.targets import Engine
from sandbox.stack.prefect_server import PrefectWorker, clean_environment
from sandbox.stack.stack import Stack
from tests.faults.flows.cases import Case, Ending, Recovery, Victim, silences
from tests.faults.matrix import snapshots
from tests.faults.matrix.mix import PROJECT

HERE = Path(__file__).parent
FLEET = HERE / "fleet.yaml"
SERVICES = {Engine.POSTGRES: "orders-service", Engine.CLICKHOUSE: "visits-service"}
DATABASES = {Engine.POSTGRES: "orders_dev", Engine.CLICKHOUSE: "visits_dev"}
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

SETTINGS = {"GREYLAG_BACKOFF_BASE_SECONDS": "2", "GREYLAG_LOCK_WAIT_SECONDS": "90"}
"""Delays of 2, 4 and 8 s in place of 10, 20 and 40, so that forty cases fit into three quarters of an hour."""

REACHED_SECONDS = 90.0
"""A run begins and comes to its last task in ten seconds; on a machine with other work it takes longer."""
ENDED_SECONDS = 200.0
"""A run that has not ended after that never does: a dead one is marked after three heartbeats of 30 s."""

_BUSY = {
    Engine.POSTGRES: "SELECT count(*) FROM pg_stat_activity WHERE datname = 'orders_dev' AND state = 'active' AND query LIKE '%INTO ledger%'"
    " AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()",
    Engine.CLICKHOUSE: "SELECT count() FROM system.processes WHERE current_database = 'visits_dev' AND query LIKE '%INTO ledger%'"
    " AND query LIKE '%sleepEachRow%'",
}


class Ground:
    """All servers of one engine's cases, and dev's worker."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine = engine
        self.folder = directory / "hold"
        self.folder.mkdir(parents=True)
        self._stack = Stack(directory / "stack", fleet_file=FLEET, workers=False, worker_settings=SETTINGS)
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Ground:
        try:
            stack = self._closing.enter_context(self._stack)
            variables = clean_environment() | stack.prefect.environment() | {"GREYLAG_FLEET": str(FLEET)}
            command = [sys.executable, "-m", "migrator.cli", "deploy", "-close-pools"]
            done = subprocess.run(command, cwd=PROJECT, env=variables, capture_output=True, encoding="utf-8", check=False)
            if done.returncode:
                raise RuntimeError(f"greylag deploy: {done.stdout}{done.stderr}")
            held = {"PYTHONPATH": str(HERE / "holding"), "GREYLAG_FAULTS_FOLDER": str(self.folder)}
            own = stack.environment("dev") | {"GREYLAG_HOME": str(PROJECT)} | held
            self.worker = PrefectWorker(stack.prefect, stack.work_pools()["dev"], environment=own, serving="dev")
            self._closing.callback(self.worker.stop)
            self.worker.start()
            self.undisturbed = self._undisturbed()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def play(self, case: Case) -> Ending:
        """Starts a run, kills the victim at the task, recovers as a user would, and looks at what there is then."""
        self._fresh()
        (self.folder / "held").unlink(missing_ok=True)
        (self.folder / "wanted").write_text(case.step.function, encoding="utf-8")
        run = self._start()
        self._until(lambda: self._reached(run, case), REACHED_SECONDS, f"the task {case.step} of run {run}")
        if not case.step.function:
            time.sleep(case.into)
        killed = datetime.now(UTC)
        restart = self._kill(case, run)
        (self.folder / "held").unlink(missing_ok=True)
        restart()
        runs, last = [run], self._ended(run)
        ended = str(last.get("state_name") or "") if last["state_type"] in FINAL else ""
        message = _message(last)
        recovery = Recovery.NONE
        if last["state_type"] != "COMPLETED":
            recovery = case.recovery
            if case.recovery is Recovery.RETRY and ended:
                state = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
                self._request("POST", f"/flow_runs/{run}/set_state", state)
                self._until(lambda: self._run(run)["state_type"] not in FINAL, REACHED_SECONDS, f"Retry of {run}")
            else:
                recovery = Recovery.NEXT
                runs.append(self._start())
            last = self._ended(runs[-1])
            message = f"{message}; then {_message(last)}"
        over = self._over(last)
        said, silence = silences(self._words(runs), killed, over)
        completed = last["state_type"] == "COMPLETED"
        same = completed and self._snapshot() == self.undisturbed
        self._end(runs)
        detail = message if not same else ""
        if completed and not same:
            detail += f"; differs: {sorted(set(self._snapshot()) ^ set(self.undisturbed))}"
        return Ending(
            case.number,
            case.step,
            case.victim,
            ended,
            recovery,
            completed,
            same,
            round(said, 1),
            round(silence, 1),
            round((over - killed).total_seconds(), 1),
            detail,
            0 if completed else int(last["labels"].get("greylag.exit-code", 0)),
        )

    def _undisturbed(self) -> snapshots.Snapshot:
        self._fresh()
        last = self._ended(self._start())
        if last["state_type"] != "COMPLETED":
            raise RuntimeError(f"the undisturbed run did not complete: {_message(last)}")
        return self._snapshot()

    def _kill(self, case: Case, run: str) -> Callable[[], object]:
        """Kills the victim; returns what starts it again, after its time."""
        prefect, worker = self._stack.prefect, self.worker

        def later(start: Callable[[], object]) -> Callable[[], object]:
            def restart() -> None:
                time.sleep(case.down)
                start()

            return restart

        if case.victim is Victim.WORKER:
            os.kill(worker.pid or 0, signal.SIGKILL)
            return later(worker.start)
        if case.victim is Victim.PREFECT:
            prefect.crash()
            return later(prefect.start)
        if case.victim is Victim.ENGINE:
            os.kill(int(self._run(run)["infrastructure_pid"]), signal.SIGKILL)
            return lambda: None
        server = self._stack.postgres if self.engine is Engine.POSTGRES else self._stack.clickhouse
        server.crash()
        return later(server.start)

    def _reached(self, run: str, case: Case) -> bool:
        """Tells whether the API says that the task runs, and the process is seen to be in it."""
        found = self._run(run)
        if found["state_type"] in FINAL:
            raise RuntimeError(f"run {run} ended before {case.step}: {_message(found)}")
        if not case.step.function:
            if not self._busy():
                return False
        elif not (self.folder / "held").exists():
            return False
        wanted = {"flow_runs": {"id": {"any_": [run]}}, "task_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
        tasks = self._request("POST", "/task_runs/filter", wanted)
        return any(item["name"].startswith(str(case.step)) for item in tasks)

    def _busy(self) -> bool:
        server: Any = self._stack.postgres if self.engine is Engine.POSTGRES else self._stack.clickhouse
        return str(server.execute(_BUSY[self.engine])).strip() not in ("", "0")

    def _fresh(self) -> None:
        """Empties the service's database."""
        name = DATABASES[self.engine]
        if self.engine is Engine.CLICKHOUSE:
            self._stack.clickhouse.drop_database(name)
            self._stack.clickhouse.create_database(name)
        else:
            self._stack.postgres.drop_database(name)
            self._stack.postgres.create_database(name, f"{SERVICES[self.engine]}-dev")

    def _snapshot(self) -> snapshots.Snapshot:
        name = DATABASES[self.engine]
        if self.engine is Engine.POSTGRES:
            return snapshots.postgres(self._stack.postgres.superuser_url(name), counts_only=False)
        return snapshots.clickhouse(self._stack.clickhouse, name, counts_only=False)

    def _start(self) -> str:
        found = self._request("GET", "/deployments/name/deploy-service/deploy-service-dev")
        body = {"parameters": {"service": SERVICES[self.engine], "environment": "dev"}, "idempotency_key": uuid.uuid4().hex}
        return str(self._request("POST", f"/deployments/{found['id']}/create_flow_run", body)["id"])

    def _run(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self._request("GET", f"/flow_runs/{run}")
        return found

    def _ended(self, run: str) -> dict[str, Any]:
        """Returns the run once it has ended, or as it is when it never does."""
        until = time.monotonic() + ENDED_SECONDS
        while (found := self._run(run))["state_type"] not in FINAL and time.monotonic() < until:
            time.sleep(0.3)
        return found

    @staticmethod
    def _over(run: dict[str, Any]) -> datetime:
        return _moment(run["state"]["timestamp"]) if run["state_type"] in FINAL else datetime.now(UTC)

    def _words(self, runs: list[str]) -> Iterator[datetime]:
        """Yields when something was said of these runs: states of theirs and of their tasks, and lines of their logs."""
        for run in runs:
            for state in self._request("GET", f"/flow_run_states/?flow_run_id={run}"):
                yield _moment(state["timestamp"])
            for task in self._request("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}}):
                for state in self._request("GET", f"/task_run_states/?task_run_id={task['id']}"):
                    yield _moment(state["timestamp"])
        logs = {"logs": {"flow_run_id": {"any_": runs}}, "limit": 200, "sort": "TIMESTAMP_DESC"}
        for line in self._request("POST", "/logs/filter", logs):
            yield _moment(line["timestamp"])

    def _end(self, runs: list[str]) -> None:
        """Ends what a case left behind, so that the next one begins on clean ground."""
        for run in runs:
            found = self._run(run)
            if found["state_type"] in FINAL:
                continue
            with contextlib.suppress(OSError, TypeError, ValueError):
                os.kill(int(found["infrastructure_pid"]), signal.SIGKILL)
            self._request("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CRASHED"}, "force": True})

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Asks the server, again and again while it starts."""
        until = time.monotonic() + 60
        while True:
            try:
                return self._stack.prefect.request(method, path, body)
            except errors.Unavailable as error:
                if ("does not answer" not in error.message and "503" not in error.message) or time.monotonic() > until:
                    raise
                time.sleep(0.5)

    @staticmethod
    def _until(holds: Callable[[], bool], seconds: float, what: str) -> None:
        until = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > until:
                raise RuntimeError(f"{what}: not within {seconds:.0f} s")
            time.sleep(0.1)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _message(run: dict[str, Any]) -> str:
    state = run["state"] or {}
    return f"{state.get('name')}: {str(state.get('message') or '')[:400]}"
