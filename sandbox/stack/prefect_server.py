"""A real Prefect server on SQLite, and real workers, as child processes.

Most of a cold start (20–25 s) is 130 schema migrations of an empty SQLite file. They are run once per Prefect version into a template
in the cache directory; a new server copies it and is ready in about 7 s, the time for importing Prefect's server.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import importlib.metadata
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deployments.worker import place
from deployments.worker import pool as work_pool
from migrator import errors
from sandbox import cache, ports, processes

Progress = Callable[[str], None]
"""Receives short texts about work that takes long."""

PROJECT_ROOT = Path(__file__).resolve().parents[2]
QUERY_SECONDS = 0.5
"""Seconds. Half of what is left of a run's start is waiting for the next poll; four workers are eight small requests a second, which cost a tenth of a core."""

_READY_SECONDS = 180.0
_WORKER_READY_SECONDS = 120.0
_STOP_SECONDS = 15.0
# The command that `prefect server start` runs after it has imported Prefect's command line.
_SERVER_COMMAND = [sys.executable, "-m", "uvicorn", "--factory", "sandbox.stack.prefect_application:create_app"]
_SERVER_COMMAND += ["--app-dir", str(PROJECT_ROOT), "--host", ports.LOOPBACK, "--timeout-keep-alive", "5"]
_WORKER_STOP_SECONDS = 40.0  # Prefect gives a flow run 30 s between SIGTERM and SIGKILL (prefect.md §12)

_QUIET = {
    "DO_NOT_TRACK": "1",
    "NO_COLOR": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_CLI_PROMPT": "false",
}
# Settings of another environment's worker, or of a developer's shell, that must not be passed on.
_PRIVATE_PREFIXES = ("PREFECT_", "GREYLAG_", "GOOSE_", "VAULT_", "BAO_", "CLICKHOUSE_", "PG")
_KEPT = ("GREYLAG_CACHE", "GREYLAG_FLEET")


class PrefectServer:
    """One server with its PREFECT_HOME; a context manager. Runs, logs and deployments survive `stop`.

    Args:
        directory: holds `home/`, `client/` and `server.log`; made if missing.
        port: None takes a free one; the UI gets the same.
        progress: called when the schema has to be made first.
    """

    def __init__(self, directory: Path, port: int | None = None, progress: Progress = lambda _: None) -> None:
        self.directory = directory.absolute()
        self.port = port or ports.free_port()
        self.url = f"http://{ports.LOOPBACK}:{self.port}"
        self.api_url = f"{self.url}/api"
        self._progress = progress
        self._process: processes.ServerProcess | None = None

    def __enter__(self) -> PrefectServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def home(self) -> Path:
        """The server's PREFECT_HOME."""
        return self.directory / "home"

    @property
    def running(self) -> bool:
        """Tells whether the server's process is alive."""
        return self._process is not None and self._process.running

    def start(self) -> PrefectServer:
        """Starts the server and returns once its API is healthy.

        Raises:
            NotFound: Prefect is not installed.
            Unavailable: it did not start; the detail shows the log's last lines.
        """
        migrated = self._prepare_database()
        process = self._process = processes.ServerProcess(
            "Prefect server",
            [*_SERVER_COMMAND, "--port", str(self.port)],
            log=self.directory / "server.log",
            environment=self._server_environment(migrated),
            directory=self.directory,
        )
        process.start()
        process.wait_until(self._healthy, _READY_SECONDS)
        (self.home / "prefect-version").write_text(prefect_version() + "\n", encoding="utf-8")
        return self

    def stop(self) -> None:
        """Stops the server; its database is kept."""
        if self._process is not None:
            self._process.stop(_STOP_SECONDS)

    def crash(self) -> None:
        """Kills the server, as the loss of its node would; `start` finds what its database had taken in."""
        if self._process is not None:
            self._process.kill()

    def end_leftovers(self) -> None:
        """Marks runs as crashed whose process can't exist, because none of this server's workers does: they would hold up later runs."""
        unfinished = {"type": {"any_": ["PENDING", "RUNNING", "PAUSED", "CANCELLING"]}}
        for run in self.request("POST", "/flow_runs/filter", {"flow_runs": {"state": unfinished}}):
            state = {"type": "CRASHED", "message": "the servers were stopped while this ran"}
            self.request("POST", f"/flow_runs/{run['id']}/set_state", {"state": state, "force": True})

    def environment(self) -> dict[str, str]:
        """Returns the variables with which any Prefect client talks to this server; to be added to `clean_environment()` or a process's own."""
        return _QUIET | {
            "PREFECT_API_URL": self.api_url,
            "PREFECT_HOME": str(self.directory / "client"),
            # The shortest that Prefect accepts: a promotion whose worker was killed holds up the next one for three heartbeats.
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        }

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Sends one request to the REST API, e.g. `POST`, `/work_pools/filter`; returns the answer's JSON, None when it is empty.

        Raises:
            Unavailable: with the status and the server's text, or because the server does not answer.
        """
        call = urllib.request.Request(
            self.api_url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(call, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as problem:
            told = problem.read().decode(errors="replace")
            raise errors.Unavailable(f"Prefect server: {method} {path}: {problem.code} {told}", code="sandbox-server") from None
        except (OSError, http.client.HTTPException) as problem:
            raise errors.Unavailable(f"Prefect server at {self.api_url} does not answer: {problem}", code="sandbox-server") from None
        return json.loads(text) if text else None

    def _healthy(self) -> bool:
        with contextlib.suppress(errors.Unavailable):
            return self.request("GET", "/health") is True
        return False

    def _prepare_database(self) -> bool:
        """Puts a migrated database into place; returns False if the server itself must migrate one of another Prefect version."""
        self.home.mkdir(parents=True, exist_ok=True)
        database = self.home / "prefect.db"
        if not database.exists():
            shutil.copyfile(_template(self._progress), database)
            return True
        recorded = self.home / "prefect-version"
        return recorded.exists() and recorded.read_text(encoding="utf-8").strip() == prefect_version()

    def _server_environment(self, migrated: bool) -> dict[str, str]:
        return (
            clean_environment()
            | _QUIET
            | {
                "PREFECT_HOME": str(self.home),
                "PREFECT_API_URL": self.api_url,
                "PREFECT_SERVER_API_HOST": ports.LOOPBACK,
                "PREFECT_SERVER_API_PORT": str(self.port),
                # The UI would call port 4200 otherwise (prefect.md §9).
                "PREFECT_SERVER_UI_API_URL": self.api_url,
                "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false" if migrated else "true",
                # In memory, Prefect's default, a restart loses the leases, and the slots that were taken stay taken.
                "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
                # An activated schedule is noticed after 5 s; Prefect's default of a minute is long for a person who watches.
                "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
            }
        )


class PrefectWorker:
    """A worker of one work pool; a context manager. Its flow runs are its children and end with it.

    Args:
        server: the server it polls.
        pool: the work pool; made if missing.
        name: the worker's name.
        environment: the variables of this worker and its flow runs alone: credentials, GREYLAG_ settings.
        serving: an environment of the fleet, or `promotion`: greylag's own worker, which starts its flows from this checkout as it stands.
            Empty for Prefect's process worker, which starts what the server says.
        directory: holds the worker's PREFECT_HOME and `worker.log`; default `workers/POOL` in the server's directory.
        query_seconds: seconds between two requests for work; Prefect's default of 10 is long for a person who watches.
    """

    def __init__(
        self,
        server: PrefectServer,
        pool: str,
        name: str | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        serving: str = "",
        directory: Path | None = None,
        query_seconds: float = QUERY_SECONDS,
    ) -> None:
        self.server = server
        self.pool = pool
        self.name = name or f"{pool}-worker"
        self.kind = work_pool.TYPE if serving else "process"
        self.directory = (directory or server.directory / "workers" / pool).absolute()
        self._launched = datetime.datetime.now(datetime.UTC)
        self._process = processes.ServerProcess(
            f"Prefect worker of {pool}",
            self._command(serving),
            log=self.directory / "worker.log",
            environment=clean_environment()
            | server.environment()
            | {
                "PREFECT_HOME": str(self.directory / "home"),
                "PREFECT_WORKER_QUERY_SECONDS": str(query_seconds),
            }
            | dict(environment or {}),
            directory=PROJECT_ROOT,
        )

    def _command(self, serving: str) -> list[str]:
        if serving:
            own = ["-pool", self.pool, "-name", self.name, "-commit", place.UNPINNED]
            return [sys.executable, "-m", "migrator.cli", "worker", serving, *own]
        return [sys.executable, "-m", "prefect", "worker", "start", "--pool", self.pool, "--name", self.name, "--type", "process"]

    def __enter__(self) -> PrefectWorker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """Its log, with the output of its flow runs."""
        return self._process.log

    @property
    def running(self) -> bool:
        """Tells whether the worker's process is alive."""
        return self._process.running

    @property
    def pid(self) -> int | None:
        """Returns the worker's process id, while it runs."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Returns the exit code of a worker that has ended."""
        return self._process.returncode

    def start(self) -> PrefectWorker:
        """Makes the pool, starts the worker and returns once the server sees it online.

        Raises:
            Unavailable: it did not start; the detail shows the log's last lines.
        """
        self.launch()
        self.wait_until_online()
        return self

    def launch(self) -> None:
        """Makes the pool and starts the worker without waiting for it.

        Raises:
            Unavailable: the server does not answer, or the worker runs already.
        """
        create_work_pool(self.server, self.pool, self.kind)
        self._launched = datetime.datetime.now(datetime.UTC)
        self._process.start()

    def wait_until_online(self) -> None:
        """Returns once the server has heard from this worker since its launch.

        Raises:
            Unavailable: it ended, or the time was over; the detail shows the log's last lines.
        """
        self._process.wait_until(self._online, _WORKER_READY_SECONDS)

    def stop(self) -> None:
        """Stops the worker and its flow runs."""
        self._process.stop(_WORKER_STOP_SECONDS)

    def kill(self) -> None:
        """Kills the worker and its flow runs at once, as the loss of a node would."""
        self._process.kill()

    def _online(self) -> bool:
        with contextlib.suppress(errors.Unavailable):
            workers = self.server.request("POST", f"/work_pools/{self.pool}/workers/filter", {})
            # The status alone could be that of a worker with this name from before a restart.
            heard = [datetime.datetime.fromisoformat(each["last_heartbeat_time"]) for each in workers if each["name"] == self.name]
            return any(moment > self._launched for moment in heard)
        return False


def create_work_pool(server: PrefectServer, pool: str, kind: str = work_pool.TYPE) -> None:
    """Creates a work pool; one of greylag's type that exists is kept, and closed if it is open (an older sandbox's).

    Args:
        kind: greylag's type, or `process` for Prefect's own worker, whose runs then begin in Prefect's engine: by default another process runs the
            pull step first and imports Prefect, too, which takes 3 s more per run.
    """
    found = server.request("POST", "/work_pools/filter", {"work_pools": {"name": {"any_": [pool]}}})
    template = work_pool.template() if kind == work_pool.TYPE else _engine_template()
    if not found:
        server.request("POST", "/work_pools/", {"name": pool, "type": kind, "base_job_template": template})
    elif kind == work_pool.TYPE and work_pool.free(found[0]["base_job_template"]):
        server.request("PATCH", f"/work_pools/{pool}", {"base_job_template": template})


def _engine_template() -> dict[str, Any]:
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    template["variables"]["properties"]["command"]["default"] = f"{shlex.quote(sys.executable)} -m prefect.engine"
    return template


def clean_environment() -> dict[str, str]:
    """Returns this process's environment without any tool's settings and secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_PRIVATE_PREFIXES) or name in _KEPT}


def prefect_version() -> str:
    """Returns the installed version, without importing Prefect (2 s).

    Raises:
        NotFound: it is not installed.
    """
    try:
        return importlib.metadata.version("prefect")
    except importlib.metadata.PackageNotFoundError:
        raise errors.NotFound("Prefect is not installed", code="sandbox-missing", hint="pip install 'greylag[flows]'") from None


def _template(progress: Progress) -> Path:
    """Returns an empty database with Prefect's schema, from the cache or made there. Processes that make it at once replace each other's."""
    template = cache.directory() / f"prefect-{prefect_version()}.sqlite"
    if template.exists():
        return template
    progress("making Prefect's schema, once for this version")
    template.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="prefect-schema-", dir=template.parent) as home:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
            env=clean_environment() | _QUIET | {"PREFECT_HOME": home},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode != 0:
            raise errors.Unavailable(
                "Prefect's schema could not be made",
                code="sandbox-start",
                detail=(done.stderr or done.stdout).strip()[-2000:],
            )
        # Leaving write-ahead logging merges the log into the database, so that one file is enough for a copy.
        _single_file(Path(home) / "prefect.db")
        (Path(home) / "prefect.db").replace(template)
    return template


def _single_file(database: Path) -> None:
    import sqlite3

    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
