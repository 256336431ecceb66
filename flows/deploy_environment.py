"""Deploys all services of one environment: dependencies first, independent ones in parallel; a failure stops only the services that depend on it."""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import httpx
import prefect
from prefect import State, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.states import Completed, Crashed, Failed

from flows import approvals, endings, gates, interruption, labels, parameters, reports, schemas, waves
from flows.deploy_service import deploy_service
from migrator import errors, registry
from tasks import fleet, migration
from tasks.approval import ReleaseManifest

ENDING_SECONDS = 10.0
"""Seconds that an interrupted run waits for its services to roll back; a service that sleeps before a retry is not waited for any longer."""

LAST_SECONDS = 26.0
"""Seconds that it waits for services that still hold a connection or a Job; Prefect kills the run after 30 (prefect.md §12)."""

_Ended = queue.SimpleQueue[tuple[str, State[Any]]]

_Failures = dict[str, endings.RunFailed]
"""The failures, by service."""


@flow(name="deploy-environment", flow_run_name=labels.run_name, retries=0, persist_result=False)
def deploy_environment(
    environment: parameters.Environment,
    services: tuple[parameters.Service, ...] = (),
    bundles: dict[str, parameters.Digest] | None = None,
    approval: str = "",
    image: parameters.Image = "",
    mode: parameters.Mode = "",
    backoff_limit: parameters.Limit = 3,
    active_deadline_seconds: parameters.Seconds = 900,
) -> State[Any]:
    """Brings the services of one environment up to date: dependencies first, independent ones side by side.

    A service that fails stops the services that depend on it; unrelated ones run on. The run then ends as failed and says what was wrong where.

    Args:
        environment: Which environment. Its work pool's worker holds the login for this one only.
        services: Which services; none means all of the fleet. Dependencies that are not listed are taken as they are.
        bundles: Per service the digest that its migration files must have (sha256 in hex). Services that are not listed are taken as they are.
        approval: Run id of the approve-release run that covers this release; only a protected environment needs one.
        image: The release's image: a tag that every service has, or a whole reference. Jobs run in it, its rollout is awaited. Empty awaits a newer one.
        mode: As Kubernetes Jobs, inline by the worker, or by syncs of Argo CD. Empty takes Jobs where a cluster is configured and an image given.
        backoff_limit: Further attempts of a step after a transient failure, as a Kubernetes Job's backoffLimit: 3 is 4 attempts, after 10, 20 and 40 s.
        active_deadline_seconds: Time for all attempts of a step together; after it no further one is started.
    """
    options = {"image": image, "mode": mode, "backoff_limit": backoff_limit, "active_deadline_seconds": active_deadline_seconds}
    try:
        found = fleet.load()
        gate = gates.gate(found, environment)
        asked = gates.Asked(services, False, bundles or {}, image, mode, backoff_limit, active_deadline_seconds)
        pinned = _pinned(gate, asked, approval)
        labels.attach(environment=environment, bundle=ReleaseManifest(bundles=pinned).bundle)
        rows, failures = _run(found, environment, pinned, {"approval": approval, **options})
    except errors.GreylagError as error:
        return endings.failed(error, target=environment)
    ending = _ending(environment, rows, failures, gate.note)
    summary = (ending.message or "").partition("\n")[0]
    reports.publish_table(f"result-{environment}", rows, f"{summary}\n\nbundle `{ReleaseManifest(bundles=pinned).bundle}`")
    return ending


@task(name="deploy service", task_run_name="deploy {service}", cache_policy=NO_CACHE, persist_result=False)
def _deploy(service: str, environment: str, bundle: str, options: dict[str, Any]) -> reports.Row | State[Any]:
    """Runs one service's flow. It is called from within a task, because only then does Prefect give the child run a key of its own. Keys by call order
    would differ between runs, since services start in parallel, and the UI's Retry would then take another service's finished run for this one's.
    """
    with prefect.tags(*labels.tags(service=service, environment=environment, bundle=bundle)):
        state = deploy_service(service=service, environment=environment, bundle=bundle, **options, return_state=True)
    if state.is_completed():
        return cast(reports.Row, state.result())
    return Failed(message=state.message or f"{service} ended {state.name}", data=_why(state))  # in memory only: it is not persisted


def _why(state: State[Any]) -> endings.RunFailed | None:
    """Returns the reason why a child run failed, read from its run; None when the server does not answer."""
    try:
        with get_client(sync_client=True) as client:
            return endings.failure(client.read_flow_run(cast(UUID, state.state_details.flow_run_id)))
    except httpx.HTTPError:
        return None


def _pinned(gate: gates.Gate, asked: gates.Asked, approval: str) -> dict[str, str]:
    """Returns each service's bundle for this run, dependencies first. Everything that can be refused is refused here, before any service is touched."""
    names = [name for wave in gate.fleet.order(asked.services) for name in wave]
    entry = gates.enter(gate, replace(asked, services=names), approval) if approval and gate.protected else None
    pinned = {}
    for name in names:
        bundle = asked.bundles.get(name, "")
        if entry is not None:
            approvals.require_same(entry.manifest, name, bundle, "")
            bundle = entry.manifest.bundles[name]
        else:
            gates.require_image(gate, name, asked.image)
        pinned[name] = migration.load_bundle(gate.target(name), bundle).digest()
    if entry is not None:
        gates.prove(gate, pinned)
    return pinned


def _run(found: fleet.Fleet, environment: str, pinned: dict[str, str], options: dict[str, Any]) -> tuple[list[reports.Row], _Failures]:
    """Runs the services; returns a row for each, and the failures by service."""
    schedule = waves.Schedule({name: found.prerequisites(name) for name in pinned})
    rows: dict[str, reports.Row] = {}
    failures: _Failures = {}
    ended: _Ended = queue.SimpleQueue()
    with _threads() as start:
        while len(rows) < len(pinned):
            for name in schedule.ready():
                start(name, ended, environment, pinned[name], options)
            name, state = ended.get()
            if state.is_completed():
                rows[name] = cast(reports.Row, state.result())
            else:
                failures[name] = _failure(name, state)
                outcome = f"failed: {endings.reason(failures[name])}"
                rows[name] = reports.result_row(name, environment, outcome, bundle=labels.short(pinned[name]))
            schedule.finish(name, succeeded=state.is_completed())
            for other, blockers in schedule.blocked().items():
                outcome = f"blocked by {', '.join(blockers)}"
                rows[other] = reports.result_row(other, environment, outcome, bundle=labels.short(pinned[other]))
    return [rows[name] for name in pinned], failures


def _failure(name: str, state: State[Any]) -> endings.RunFailed:
    """Returns the failure of a child run as `_deploy` found it; otherwise one made from the state."""
    found = state.result(raise_on_failure=False)
    if isinstance(found, endings.RunFailed):
        return found
    ending = str(state.name).lower()
    return endings.RunFailed(
        f"{name} ended {ending}", code="run-crashed" if state.is_crashed() else None, detail=state.message or ending, hint=endings.HINT
    )


@contextmanager
def _threads() -> Iterator[Callable[..., None]]:
    """Starts services in threads of this process. The threads are daemons, so that an interrupted run need not wait for one that sleeps before a retry."""
    threads: list[threading.Thread] = []

    def start(name: str, ended: _Ended, *given: Any) -> None:
        context = contextvars.copy_context()  # without it Prefect would not know that these are children of this run

        def work() -> None:
            try:
                state = context.run(_deploy, name, *given, return_state=True)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the flow waits for an answer
                state = Crashed(message=f"{name} ended with {type(error).__name__}")
            ended.put((name, state))

        threads.append(threading.Thread(target=work, name=name, daemon=True))
        threads[-1].start()

    try:
        with interruption.heeded():
            yield start
    finally:
        _await_end(threads)


def _await_end(threads: list[threading.Thread]) -> None:
    """Waits for services that are being ended; the registry tells whether anything is left to roll back."""
    started = time.monotonic()
    while any(thread.is_alive() for thread in threads):
        waited = time.monotonic() - started
        if waited > LAST_SECONDS or (waited > ENDING_SECONDS and not registry.live()):
            return
        time.sleep(0.1)


def _ending(environment: str, rows: list[reports.Row], failures: _Failures, note: str) -> State[Any]:
    blocked = [row for row in rows if str(row["outcome"]).startswith("blocked by ")]
    good = len(rows) - len(failures) - len(blocked)
    if not failures:
        changed = sum(1 for row in rows if row["migrations"])
        lines = [f"{environment}: {good} services up to date, {changed} of them migrated by this run{endings.noted(note)}"]
        lines += [f"{row['service']}: {row['schema']}" for row in rows if schemas.differs(row)]
        return Completed(message="\n".join(lines))
    target, decisive = endings.decisive((f"{environment}/{name}", error) for name, error in failures.items())
    lines = [f"{target}: {endings.reason(decisive)}"]  # the reason first: a list of runs shows one line
    lines += [f"{environment}: {good} of {len(rows)} services are up to date; failed: {', '.join(failures)}"]
    lines += [f"{row['service']}: {row['outcome']}" for row in blocked]
    lines += [f"\n{name}: {error.detail}" for name, error in failures.items()]
    return endings.failed(decisive, target=target, message="\n".join(lines))
