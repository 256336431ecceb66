"""Step 3 as a Kubernetes Job in the service's own image, so that the SQL and the code that needs it are one artifact (architecture.md §3.1).

The Job is named after its bundle and plan, so that every further run finds it. The Job makes the attempts, by `backoffLimit` and the exit-code table;
this step makes none of its own once there is a Job: it only repeats calls to the API that failed. When a worker is killed, its Job goes on, and the
next run adopts it; a run that is cancelled deletes the Job and waits until its pod has rolled back.

The orchestrator's Role needs these rules in the service's namespace, and nothing else:

    {apiGroups: [batch], resources: [jobs],     verbs: [create, get, list, delete]}
    {apiGroups: [""],    resources: [pods],     verbs: [list]}
    {apiGroups: [""],    resources: [pods/log], verbs: [get]}
    {apiGroups: [""],    resources: [events],   verbs: [list]}

It needs no verb on Secrets: the Job names its Secret, and the kubelet reads it.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from migrator import errors, registry
from migrator.planning import events
from migrator.planning.approvals import Approval
from migrator.planning.plans import Plan
from tasks import commands, kubernetes, migration
from tasks.fleet.models import Target
from tasks.job import adoption, failures, manifest
from tasks.job.adoption import Course
from tasks.job.following import Ended, Following, StuckJob, interrupted
from tasks.job.logs import Told
from tasks.job.manifest import Order
from tasks.kubernetes import following, objects
from tasks.migration import Prepared
from tasks.outcomes import AppliedMigration, MigrationOutcome
from tasks.request import Request
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.kubernetes.api import Api

Json = dict[str, Any]

LOOK_SECONDS = 3.0
"""Seconds for which a cancelled run looks for a Job that it may have made."""

STOP_SECONDS = 20.0
"""Seconds that a cancelled run waits for its Job's pod: greylag rolls back within 10, and Prefect kills the run after 30 (prefect.md §12)."""


def run(request: Request, *, image: str, tell: Told, backoff_limit: int = 3, api: Api | None = None) -> MigrationOutcome:
    """Migrates the target's database by a Job that is bound to the bundle and to the plan: today's plan, or the approved one.

    Args:
        request: its credentials are the worker's own, and serve to make the plan; the Job uses its Secret.
        image: the release's image, with repository and tag or digest (`Target.image`).
        tell: receives a level (`info`, `warning`) and a line, in the calling thread.
        backoff_limit: the Job's backoffLimit.

    Raises:
        UsageError (`image-missing`, `no-cluster`), PlanRefused and whatever else `migration.prepare` raises: before there is a Job.
        JobFailed: always permanent; code, exit code, message, place and hint are the pod's own.
        NotFound (`job-deleted`, `job-conflict`), LockUnavailable (`job-running`), Interrupted, Unavailable (the API server).
    """
    target = request.target
    if not manifest.runnable(image):
        raise errors.UsageError(
            f"{target.label}: a Job needs the release's image, and {f'{image} names no repository' if image else 'none is given'}",
            code="image-missing",
            hint="give the run's `image`: a tag or digest where job.image of fleet.yaml names the repository, else the whole reference",
        )
    cluster = api or _connect(target, request.settings)

    def again() -> Prepared:
        return migration.prepare(dataclasses.replace(request, plan=""))

    prepared = migration.prepare(request)
    order = _order(request, prepared.plan, image, backoff_limit)
    with _Work(cluster, order, prepared, again, tell, request.settings.job_patience_seconds) as work:
        ended = work.done()
    if ended is None:
        return _settled(target, again())
    if objects.condition(ended.job, "Failed"):
        raise failures.failure(ended.job, ended.pods, target.label)
    return _outcome(target, ended, prepared, again)


def _order(request: Request, plan: Plan, image: str, backoff_limit: int) -> Order:
    settings = request.settings
    deadline = settings.active_deadline_seconds if request.deadline is None else request.deadline
    return Order(
        target=request.target,
        image=image,
        bundle=plan.bundle,
        plan=plan.digest,
        approved=request.plan,
        approval=_spelt(request.approval),
        pending=bool(plan.steps),
        run_id=request.run_id,
        backoff_limit=backoff_limit,
        active_deadline_seconds=deadline,
        lock_wait_seconds=min(settings.lock_wait_seconds, deadline),
        statement_timeout_seconds=settings.statement_timeout_seconds,
    )


def _spelt(approval: Approval | None) -> str:
    """Returns an approval as the command's `-approval` takes it."""
    if approval is None:
        return ""
    return approval.identity if approval.until is None else f"{approval.identity}@{approval.until:.0f}"


def _connect(target: Target, settings: Settings) -> Api:
    """Connects to the environment's cluster. Raises UsageError (`no-cluster`, `kube-context`)."""
    found = kubernetes.connect(target, settings)
    if found is None:
        raise errors.UsageError(
            f"{target.label}: a Job needs a cluster, and none is configured",
            code="no-cluster",
            hint="GREYLAG_KUBE_CONTEXT names a kubeconfig's context, or `in-cluster`; or run this with mode inline",
        )
    return found


class _Work:
    """One run's work on its Job, from looking for one to its end. As a context manager it stops the Job when the run itself is stopped.

    Signals reach only the main thread, and this may run in another: so it is registered, like an open connection, for `registry.cancel_all`.
    """

    def __init__(self, api: Api, order: Order, prepared: Prepared, again: Callable[[], Prepared], tell: Told, patience: float) -> None:
        self._api, self._order, self._tell, self._patience = api, order, tell, patience
        self._prepared, self._again = prepared, again
        self._cancelled = threading.Event()
        self._job: Json | None = None

    def cancel(self) -> None:
        """Ends the work soon; safe in a signal handler and in other threads."""
        self._cancelled.set()

    def done(self) -> Ended | None:
        """Returns the Job at its end; None when an earlier Job had done all the work. Raises as `run`, and StuckJob."""
        choice = adoption.place(
            self._api,
            self._order,
            self._prepared.covered_by,
            lambda: not self._again().plan.steps,
            self._preflight,
            self._tell,
            sleep=self._pause,
        )
        self._job = choice.job
        assert self._job is not None
        if choice.course is Course.SETTLED:
            self._say("info", "has done this already, nothing is left to do")
            return None
        order = self._order
        following = Following(self._api, self._job, order.target.label, self._patience, self._tell, self._cancelled, order.run_id)
        return following.until_finished()

    def __enter__(self) -> _Work:
        registry.register(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        registry.unregister(self)
        if isinstance(error, StuckJob):
            deleted = self._stop()
            raise failures.stuck_error(error.found, self._job or {}, self._order.target.label, deleted=deleted) from None
        # Prefect's TerminationSignal, Ctrl-C, a cancellation. After any other error the Job goes on, and the next run adopts it.
        if isinstance(error, errors.Interrupted) or (error is not None and not isinstance(error, Exception)):
            self._stop()

    def _preflight(self) -> None:
        if self._order.pending:
            commands.check(self._order.target, self._prepared.plan, self._listen, limit=self._order.active_deadline_seconds)

    def _listen(self, event: events.Event) -> None:
        self._tell(*migration.told(event))

    def _pause(self, seconds: float) -> None:
        if self._cancelled.wait(seconds):
            raise interrupted(self._order.target.label)

    def _say(self, level: str, what: str) -> None:
        if self._job is not None:
            metadata = self._job["metadata"]
            self._tell(level, f"{self._order.target.label}: Job {metadata['namespace']}/{metadata['name']} {what}")

    def _stop(self) -> bool:
        """Deletes the Job, waits for its pod, and tells whether both are gone. Raises nothing, because the run is ending with an error of its own."""
        try:
            self._job = self._job or self._created()
            if self._job is None:
                return True
            if adoption.remove(self._api, self._job, STOP_SECONDS):
                self._say("info", "is deleted and its pod has ended")
                return True
            self._say("warning", "is being deleted, its pod has not ended yet")
        except errors.GreylagError as error:
            self._say("warning", f"could not be deleted: {error.message}")
        return False

    def _created(self) -> Json | None:
        """Returns the Job whose creation got no answer, if it is this run's own by its annotation; else None."""
        namespace, name = self._order.target.namespace, manifest.name(self._order)
        found: Json | None = following.patiently(lambda: self._api.job(namespace, name), LOOK_SECONDS)
        own = found is not None and bool(self._order.run_id) and objects.annotation(found, manifest.RUN) == self._order.run_id
        return found if own else None


def _settled(target: Target, now: Prepared) -> MigrationOutcome:
    return MigrationOutcome(
        service=target.service,
        environment=target.environment,
        bundle=now.plan.bundle,
        plan=now.plan.digest,
        current=now.plan.current,
        remarks=migration.remarks(target, now.plan),
    )


def _outcome(target: Target, ended: Ended, prepared: Prepared, again: Callable[[], Prepared]) -> MigrationOutcome:
    """Returns the outcome of all of the Job's pods together, from their own outcomes; when a pod left none, the database tells what was applied.

    A pod may have left none because it was killed, or because it started and vanished between two reads.
    """
    told = [end.outcome for end in failures.ends(ended.pods) if end.outcome is not None]
    names = {item.version: item.name for item in prepared.plan.migrations.migrations}
    applied = {
        int(version): AppliedMigration(version=version, name=names.get(version, ""), statements=statements, seconds=seconds)
        for outcome in told
        for version, statements, seconds in outcome.get("applied") or ()
    }
    last = told[-1] if told and told[-1].get("exit_code") == 0 else None
    complete = last is not None and len(told) == len(ended.pods) and not any(outcome.get("left_out") for outcome in told)
    if last is None or not complete:
        now = again()
        left = {step.version for step in now.plan.steps}
        for step in prepared.plan.steps:
            if step.version not in left and step.version not in applied:
                applied[step.version] = AppliedMigration(version=step.version, name=step.name, statements=len(step.statements), seconds=0.0)
        current = now.plan.current
    else:
        current = int(last.get("current") or 0)
    return MigrationOutcome(
        service=target.service,
        environment=target.environment,
        bundle=prepared.plan.bundle,
        plan=str((last or {}).get("plan") or prepared.plan.digest),
        applied=tuple(applied[version] for version in sorted(applied)),
        current=current,
        seconds=round(sum(float(outcome.get("seconds") or 0) for outcome in told), 3),
        remarks=migration.remarks(target, prepared.plan),
    )
