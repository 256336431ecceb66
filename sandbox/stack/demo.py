"""`make demo`: the six services promoted dev -> release -> prod on real engines, reported line by line, then a table of the results.

Everything that is printed was read back: outcomes from the runs' own artifacts, versions from the databases by SQL.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migrator import errors
from sandbox import processes
from sandbox.stack import demo_text
from sandbox.stack import state as stack_state
from sandbox.stack.stack import PROMOTION, Stack, State
from tasks import fleet

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

    from sandbox.stack.demo_approval import Attempt, SignedApprovals
    from sandbox.stack.demo_cluster import DemoCluster

PROJECT = Path(__file__).resolve().parents[2]
DEFAULT_STATE = Path(".sandbox") / "demo"
APPROVER = "make demo"
POLL_SECONDS = 0.7
"""Seconds between two questions to the server."""
PROMOTION_SECONDS = 1800.0
"""A promotion that takes longer than this has lost its workers; a person who approves by hand has the flow's own time-out."""


@dataclass
class _Demo:
    stack: Stack
    say: demo_text.Teller
    approve_by_hand: bool
    cluster: DemoCluster | None = None
    signed: SignedApprovals | None = None
    attempts: Iterator[Attempt] | None = None
    tried: Attempt | None = None
    values: dict[str, str] = field(default_factory=dict)

    def run(self) -> bool:
        """Deploys, promotes, approves and reads back. Tells whether every database is at its newest version."""
        address = self.stack.prefect.api_url
        os.environ.update(PREFECT_API_URL=address, GREYLAG_HOME=str(PROJECT), GREYLAG_FLEET=str(self.stack.fleet.path))
        from prefect.client.orchestration import get_client
        from prefect.settings import PREFECT_API_URL, temporary_settings

        environments = list(self.stack.fleet.environments)
        with temporary_settings({PREFECT_API_URL: address}):  # Prefect was imported before its server had an address
            self._launch(PROMOTION, *environments[:1])
            self._deploy()
            with get_client(sync_client=True) as client:
                promotion = self._start_promotion(client)
                self._launch(*environments[1:])  # while the first environment is at work: a worker's start is 5 s of one core
                promotion = self._follow(client, promotion)
                rows = self._results(client, promotion.id)
        self.say.table(rows)
        ended = promotion.state
        if ended is None or not ended.is_completed():
            self.say.failure((ended.message if ended else "") or "the promotion did not complete")
            return False
        return self._read_back(rows)

    def _launch(self, *names: str) -> None:
        for name in names:
            holds, settings = "no login", {}
            if name != PROMOTION:
                holds, settings = f"{name}'s Vault login only", self._access(name)
                settings |= self.signed.variables(name) if self.signed else {}
            self.stack.launch_workers(name, settings=settings)
            self.say(f"  worker {self.stack.workers[name].pool}: holds {holds}")

    def _access(self, environment: str) -> dict[str, str]:
        """Returns the variables with which a worker reaches its namespace of the cluster; empty without a cluster."""
        if self.cluster is None:
            return {}
        targets = [target for target in self.stack.fleet.targets() if target.environment == environment]
        return self.cluster.prepare(environment, {target.service: self.stack.secret(target) for target in targets})

    def _deploy(self) -> None:
        from deployments.console import deploy

        self.say("work pools, concurrency limits and deployments of prefect.yaml")
        started = time.monotonic()
        deploy.install(self.stack.fleet)
        self.say(f"  ready after {time.monotonic() - started:.1f} s")

    def _start_promotion(self, client: SyncPrefectClient) -> FlowRun:
        deployment = client.read_deployment_by_name("promote-release/promote")
        image = {"image": self.cluster.release} if self.cluster is not None else {}
        until = list(self.stack.fleet.environments)[-1]
        signature = self.signed.promoted(self.stack.fleet) if self.signed else {}
        run = client.create_flow_run_from_deployment(deployment.id, parameters={"until": until, **image, **signature})
        self.say(f"promotion started: {self.stack.prefect.url}/runs/flow-run/{run.id}")
        return run

    def _follow(self, client: SyncPrefectClient, promotion: FlowRun) -> FlowRun:
        """Reports every run's beginning and end until the promotion has ended; gives the approval when one is awaited."""
        told: dict[UUID, str] = {}
        deadline = time.monotonic() + PROMOTION_SECONDS
        asked = False
        while time.monotonic() < deadline:
            promotion = client.read_flow_run(promotion.id)
            for run in _descendants(client, promotion):
                state = run.state_name or ""
                if told.get(run.id) != state:
                    told[run.id] = state
                    self._tell(run)
                    if self.tried is not None and run.name.startswith("deploy-environment prod") and run.state and run.state.is_final():
                        self._after_attempt(client, run)
                if not asked and run.name.startswith("plan-environment ") and run.state is not None and run.state.is_completed():
                    asked = True
                    self._approve(client, run)
            if promotion.state is not None and promotion.state.is_final():
                return promotion
            time.sleep(POLL_SECONDS)
        raise errors.TimedOut("the promotion did not end in time", hint="see the workers' logs in the state directory")

    def _tell(self, run: FlowRun) -> None:
        state = run.state
        if state is None or run.name.startswith("deploy-service "):
            if state is not None and state.is_final() and not state.is_completed():
                self.say(f"  {run.name}: {state.name}: {(state.message or '').partition(chr(10))[0]}")
            return
        if state.is_running():
            self.say(f"{run.name}: running in its own worker")
            self._roll_out(run)
        elif state.is_final():
            self.say(f"{run.name}: {(state.name or '').lower()}" + (f": {state.message}" if state.message and state.is_completed() else ""))

    def _roll_out(self, run: FlowRun) -> None:
        """Acts as the delivery tool: applies the release's Deployments to an environment that is being deployed; their pods wait for the migration."""
        if self.cluster is not None and _is_deploy(run):
            environment = str(run.parameters["environment"])
            self.say(f"  {environment}: {self.cluster.roll_out(environment)}")

    def _approve(self, client: SyncPrefectClient, plan: FlowRun) -> None:
        """Gives the approval, or says how a person gives it, when prod's worker has published a plan with steps."""
        from flows import approvals, remote_runs
        from tasks import approval

        environment = str(plan.parameters["environment"])
        rows = remote_runs.table(plan.id, approvals.plan_key(environment))
        if not any(row["migrations"] for row in rows):
            return
        wanted = approvals.manifest_of(rows)
        values = {
            "environment": environment,
            "bundle": wanted.bundle,
            "plan": wanted.plan,
            "confirm": approval.CONFIRMATION.format(environment=environment),
        }
        deployment = client.read_deployment_by_name("approve-release/approve")
        if self.signed is not None:
            from flows import plan_documents

            self.attempts = self.signed.attempts(plan_documents.read(environment)[0])
            self.values = values
            self._try_next(client)
            return
        if self.approve_by_hand:
            self.say.approval_wanted(f"{self.stack.prefect.url}/deployments/deployment/{deployment.id}/run", values)
            return
        given = {**values, "approver": APPROVER, "reason": "the demo approves its own release, as a person or a pipeline would"}
        run = client.create_flow_run_from_deployment(deployment.id, parameters=given)
        self.say(f"{environment}: approval given by starting approve-release/approve over the API (run {run.id})")
        self.say(
            f"  release {wanted.bundle[:12]}, release plan {wanted.plan[:12]}, confirm {values['confirm']}, approver (a claim) {APPROVER!r}"
        )

    def _try_next(self, client: SyncPrefectClient) -> None:
        """Gives the next signed approval over the API."""
        assert self.attempts is not None
        attempt = self.tried = next(self.attempts)
        deployment = client.read_deployment_by_name("approve-release/approve")
        given = {**self.values, "approver": attempt.who, "reason": attempt.words, "signature": attempt.signature}
        client.create_flow_run_from_deployment(deployment.id, parameters=given)
        self.say(f"prod: {attempt.who} approves: {attempt.words}")

    def _after_attempt(self, client: SyncPrefectClient, run: FlowRun) -> None:
        """Compares what prod's worker said of an approval with what it has to say, and gives the next one."""
        assert self.tried is not None
        attempt, self.tried = self.tried, None
        code = str((run.labels or {}).get("greylag.code", "")) if run.state is not None and not run.state.is_completed() else ""
        if code != attempt.refusal:
            raise errors.VerificationFailed(
                f"{attempt.who}'s approval ({attempt.words}) ended with {code or 'success'} instead of {attempt.refusal or 'success'}",
                hint="see the workers' logs in the state directory",
            )
        if code:
            self.say(f"  prod's worker refuses it: {((run.state.message if run.state else '') or '').partition(chr(10))[0]}")
            self._try_next(client)

    def _results(self, client: SyncPrefectClient, promotion: UUID) -> list[dict[str, Any]]:
        """Returns the result tables that the environments' own runs published, in the order of promotion."""
        from flows import remote_runs

        rows: list[dict[str, Any]] = []
        runs = {run.parameters.get("environment"): run for run in _descendants(client, client.read_flow_run(promotion)) if _is_deploy(run)}
        for environment in self.stack.fleet.environments:
            if environment in runs and runs[environment].state_type is not None:
                try:
                    rows += remote_runs.table(runs[environment].id, f"result-{environment}")
                except errors.NotFound:
                    self.say(f"{environment}: its run published no result")
        return rows

    def _read_back(self, rows: list[dict[str, Any]]) -> bool:
        """Asks every database by SQL for its newest version and compares it with the newest file."""
        from migrator.planning import files

        behind = []
        for target in self.stack.fleet.targets():
            newest = files.load(target.directory).newest
            server = self.stack.postgres if target.engine == "postgres" else self.stack.clickhouse
            found = int(server.execute("SELECT max(version_id) FROM goose_db_version", target.database).strip())
            if found != newest:
                behind.append(f"{target.label}: {found} instead of {newest}")
        total = len(list(self.stack.fleet.targets()))
        self.say(f"read back by SQL: {total - len(behind)} of {total} databases are at their newest version")
        for line in behind:
            self.say(f"  {line}")
        if not any(row["migrations"] for row in rows):
            self.say("nothing was to be done: every database already held this release")
        return not behind


def _is_deploy(run: FlowRun) -> bool:
    return run.name.startswith("deploy-environment ")


def _descendants(client: SyncPrefectClient, promotion: FlowRun) -> list[FlowRun]:
    """Returns the runs that began after the promotion was started, oldest first, without the promotion itself."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterExpectedStartTime
    from prefect.client.schemas.sorting import FlowRunSort

    since = FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime(after_=promotion.created))
    found = client.read_flow_runs(flow_run_filter=since, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=200)
    return [run for run in found if run.id != promotion.id]


def main(arguments: list[str] | None = None) -> int:
    """Runs the demo; exit codes as the command's (promises.md §1)."""
    parser = argparse.ArgumentParser(prog="make demo", description="Six services promoted dev -> release -> prod on embedded servers.")
    parser.add_argument("--state", type=Path, default=DEFAULT_STATE, help="where data, logs and passwords are kept (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave everything running and list commands to try")
    parser.add_argument(
        "--approve",
        choices=("auto", "ask", "ssh"),
        default="auto",
        help="ask: wait for a person's approval in the UI; ssh: two persons sign with real keys, after others were refused",
    )
    parser.add_argument(
        "--cluster", action="store_true", help="migrations as Jobs and a real health gate, on a local Kubernetes without containers"
    )
    parser.add_argument("--argocd", action="store_true", help="with --cluster: each migration is a hook of a sync of a real Argo CD")
    parser.add_argument("--fresh", action="store_true", help="start over with empty databases")
    options = parser.parse_args(arguments)
    if options.argocd and not options.cluster:
        parser.error("--argocd needs --cluster (make demo CLUSTER=1 ARGOCD=1)")
    processes.exit_on_signals()
    say = demo_text.Teller()
    if options.fresh and options.state.exists():
        shutil.rmtree(options.state)
    again = stack_state.recall(options.state) is not None
    say("greylag demo: PostgreSQL, ClickHouse, a secrets server and Prefect, all from Python wheels, on this machine only")
    if options.argocd:
        say("  with a local Kubernetes and Argo CD: each migration is a hook of a sync, the health gate watches the Deployment behind it")
    elif options.cluster:
        say("  with a local Kubernetes: migrations run as Jobs in the services' images, the health gate watches their Deployments")
    if again:
        say(f"  on the state of an earlier run in {options.state} (FRESH=1 starts over)")
    try:
        return _within(options, say)
    except KeyboardInterrupt:
        say("stopped by Ctrl-C: every server has ended, data are kept")
        return int(errors.ExitCode.INTERRUPTED)
    except errors.GreylagError as error:
        say.failure(error.describe())
        return int(error.exit_code)


def _import_early() -> None:
    """Imports Prefect and the flows (3 s of work) while the servers start. A failing import fails again, and is reported, where it is needed."""
    with contextlib.suppress(Exception):
        importlib.import_module("flows.promote_release")


def _cluster(options: argparse.Namespace, say: demo_text.Teller) -> DemoCluster:
    directory = options.state / "cluster"
    if options.argocd:
        from sandbox.stack import demo_argocd

        demo_argocd.build(say)
        return demo_argocd.DemoArgoCD(directory, fleet.load())
    from sandbox.stack import demo_cluster

    demo_cluster.build(say)
    return demo_cluster.DemoCluster(directory, fleet.load())


def _signed(options: argparse.Namespace, stack: Stack) -> SignedApprovals | None:
    if options.approve != "ssh":
        return None
    from sandbox.stack import demo_approval

    return demo_approval.SignedApprovals((options.state / "approvals").resolve(), stack.fleet)


def _within(options: argparse.Namespace, say: demo_text.Teller) -> int:
    cluster = _cluster(options, say) if options.cluster else None
    threading.Thread(target=_import_early, daemon=True).start()
    settings = {"PREFECT_LOGGING_LEVEL": "INFO"}
    beside = {"Kubernetes": cluster} if cluster is not None else {}
    more = (" CLUSTER=1" if options.cluster else "") + (" ARGOCD=1" if options.argocd else "")
    read = cluster.fleet_file() if cluster is not None else None
    with Stack(options.state, progress=say.component, fleet_file=read, workers=False, worker_settings=settings, beside=beside) as stack:
        good = _Demo(stack, say, options.approve == "ask", cluster, _signed(options, stack)).run()
        say.where_to_look(stack.prefect.url, options.state, keep=options.keep, more=more)
        if options.keep:
            say.commands_to_try(stack.addresses(), options.state, cluster.commands() if cluster is not None else ())
            signal.pause()
    return 0 if good else 1


__all__ = ["State", "main"]

if __name__ == "__main__":
    sys.exit(main())
