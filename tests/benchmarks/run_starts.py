"""How long a flow run takes from created to its first task: greylag's worker beside Prefect's process worker, in turn, on one server.

python -m tests.benchmarks.run_starts [RUNS]
"""

from __future__ import annotations

import contextlib
import datetime
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sandbox.stack.prefect_server import PROJECT_ROOT, PrefectServer, PrefectWorker, create_work_pool

FLOW, ENTRYPOINT = "plan-environment", "flows/plan_environment.py:plan_environment"


def moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def deployed(server: PrefectServer, pool: str, steps: list[dict[str, Any]]) -> str:
    flow = server.request("POST", "/flows/", {"name": FLOW})["id"]
    body = {"name": pool, "flow_id": flow, "entrypoint": ENTRYPOINT, "work_pool_name": pool, "pull_steps": steps}
    return str(server.request("POST", "/deployments/", body)["id"])


def seconds(server: PrefectServer, deployment: str) -> float:
    """One run: the worker has no login, so that its first task fails at once and is not retried."""
    given = {"environment": "dev", "services": ["auth-service"], "backoff_limit": 0, "active_deadline_seconds": 1}
    run = server.request("POST", f"/deployments/{deployment}/create_flow_run", {"parameters": given})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        tasks = server.request("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
        found = server.request("GET", f"/flow_runs/{run['id']}")
        if tasks and found["state_type"] in ("COMPLETED", "FAILED", "CRASHED"):
            first = min(moment(item["start_time"]) for item in tasks if item["start_time"])
            return (first - moment(run["created"])).total_seconds()
        time.sleep(0.3)
    raise TimeoutError(found["state"])


def main(runs: int) -> None:
    """Measures both workers and prints medians."""
    settings = {"GREYLAG_HOME": str(PROJECT_ROOT), "GREYLAG_BACKOFF_BASE_SECONDS": "0", "GREYLAG_VAULT_TOKEN": "none"}
    step = [{"prefect.deployments.steps.set_working_directory": {"directory": str(PROJECT_ROOT)}}]
    with tempfile.TemporaryDirectory(prefix="greylag-starts-") as name, contextlib.ExitStack() as stack:
        server = stack.enter_context(PrefectServer(Path(name) / "prefect"))
        found: dict[str, list[float]] = {}
        for label, pool, serving, steps, poll in (
            ("greylag, poll 1 s", "greylag-dev", "dev", [], 1.0),
            ("greylag, poll 0.25 s", "greylag-dev", "dev", [], 0.25),
            ("process, its default template, poll 1 s", "usual", "", step, 1.0),
        ):
            if serving:
                create_work_pool(server, pool)
            else:
                from prefect.workers.process import ProcessWorker

                template = ProcessWorker.get_default_base_job_template()
                if not server.request("POST", "/work_pools/filter", {"work_pools": {"name": {"any_": [pool]}}}):
                    server.request("POST", "/work_pools/", {"name": pool, "type": "process", "base_job_template": template})
            with PrefectWorker(server, pool, environment=settings, serving=serving, query_seconds=poll):
                deployment = deployed(server, pool, steps)
                seconds(server, deployment)  # the first one fills caches
                found[label] = [seconds(server, deployment) for _ in range(runs)]
            times = found[label]
            print(
                f"{label}: median {statistics.median(times):.2f} s [{min(times):.2f}-{max(times):.2f}], n={runs}, load {os.getloadavg()[0]:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
