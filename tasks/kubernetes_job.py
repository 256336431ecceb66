"""Step 3 as a Kubernetes Job in the service's own image: the SQL and the code that needs it are one artifact (design §4).

The Job is named after its bundle and plan, so that whoever asks again finds it. It makes the attempts, by `backoffLimit` and the exit-code table; this
step makes none of its own once there is a Job: only a call to the API that failed is made again. A worker that is killed leaves the Job at work, and the
next run adopts it; a run that is cancelled deletes it and waits until its pod has rolled back.

What the orchestrator's Role needs in the service's namespace, and nothing else:

    {apiGroups: [batch], resources: [jobs],     verbs: [create, get, list, watch, delete]}
    {apiGroups: [""],    resources: [pods],     verbs: [list, watch]}
    {apiGroups: [""],    resources: [pods/log], verbs: [get]}
    {apiGroups: [""],    resources: [events],   verbs: [list]}

No verb on Secrets: the Job names its Secret, the kubelet reads it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from migrator import errors, events, registry
from migrator.plans import ACCEPT_NOTHING, Policy
from tasks import job_adoption, job_failures, job_manifest, job_watch, migration, preflight
from tasks.credentials.session import Session
from tasks.fleet_models import Target
from tasks.job_adoption import Choice, Course
from tasks.job_following import Ended, Following, StuckJob
from tasks.job_logs import Told
from tasks.job_manifest import Order
from tasks.migration import Prepared
from tasks.outcomes import AppliedMigration, MigrationOutcome
from tasks.settings import Settings, load

if TYPE_CHECKING:
    from tasks.job_api import JobApi

Json = dict[str, Any]

STOP_SECONDS = 24.0
"""How long a cancelled run waits for its Job's pod: greylag needs 10 s at most to roll back, and Prefect kills the run after 30 s (prefect.md §6.5)."""


def run(
    target: Target,
    url: SecretStr,
    *,
    image: str,
    bundle: str = "",
    plan: str = "",
    env: Mapping[str, str] | None = None,
    policy: Policy = ACCEPT_NOTHING,
    tell: Told,
    settings: Settings | None = None,
    run_id: str = "",
    backoff_limit: int = 3,
    deadline: float = 900.0,
    session: Session | None = None,
    api: JobApi | None = None,
) -> MigrationOutcome:
    """Brings the target's database up to date by a Job.

    Args:
        image: the release's image, with repository and tag or digest (`Target.image`).
        bundle: the digest that the files must have, here and in the image; empty takes the files that are here.
        plan: the digest of the plan that was approved; empty binds the Job to the plan as it is now.
        env: what ENVSUB reads when the plan is made.
        tell: is given a level (`info`, `warning`) and a line, from several threads.
        backoff_limit, deadline: the Job's backoffLimit and activeDeadlineSeconds.
        session: the worker's own credentials, where they are short-lived; the Job has its Secret.

    Raises:
        UsageError (`image-missing`, `no-cluster`), PlanRefused and what else `migration.prepare` raises: before there is a Job.
        JobFailed: permanent whatever the exit code, which is the pod's own: its code, message, place and hint.
        NotFound (`job-deleted`, `job-conflict`), LockUnavailable (`job-running`), Interrupted, Unavailable (the API server).
    """
    chosen = settings or load()
    if not job_manifest.runnable(image):
        raise errors.UsageError(
            f"{target.label}: a Job needs the release's image, and {f'{image} names no repository' if image else 'none is given'}",
            code="image-missing",
            hint="give the run's `image`: a tag or digest where job.image of fleet.yaml names the repository, else the whole reference",
        )
    cluster = api or connect(target, chosen)
    prepared = migration.prepare(target, url, bundle=bundle, approved=plan, env=env, policy=policy, settings=chosen, session=session)
    order = Order(
        target=target,
        image=image,
        bundle=prepared.plan.bundle,
        plan=prepared.plan.digest,
        approved=plan,
        pending=bool(prepared.plan.steps),
        run_id=run_id,
        backoff_limit=backoff_limit,
        active_deadline_seconds=deadline,
        lock_wait_seconds=min(chosen.lock_wait_seconds, deadline),
        statement_timeout_seconds=chosen.statement_timeout_seconds,
    )

    def again() -> Prepared:
        return migration.prepare(target, url, bundle=bundle, env=env, policy=policy, settings=chosen, session=session)

    def before_creation() -> None:
        if prepared.plan.steps:
            preflight.run(target, prepared.plan, _noted(tell), limit=deadline)

    with _Cancellation() as cancellation:
        held = _Held(cluster, order, tell)
        try:
            choice = job_adoption.place(cluster, order, prepared.covered_by, lambda: not again().plan.steps, before_creation, tell)
            held.job = choice.job
            if choice.course is Course.SETTLED:
                return _settled(target, choice, again(), tell)
            ended = _followed(cluster, choice, target.label, chosen, tell, cancellation)
        except StuckJob as stuck:
            held.stop()
            raise job_failures.stuck_error(stuck.found, held.job or {}, target.label) from None
        except errors.Interrupted:
            held.stop()
            raise
        except Exception:  # the Job goes on; whoever comes next adopts it
            raise
        except BaseException:  # Prefect's TerminationSignal, Ctrl-C
            held.stop()
            raise
    if job_failures.condition(ended.job, "Failed"):
        raise job_failures.failure(ended.job, ended.pods, target.label)
    return _outcome(target, ended, prepared, again)


def connect(target: Target, settings: Settings) -> JobApi:
    """The environment's cluster. Raises UsageError (`no-cluster`, `kube-context`)."""
    from tasks import job_api, kubernetes_api

    context = target.kube_context or settings.kube_context
    if not context:
        raise errors.UsageError(
            f"{target.label}: a Job needs a cluster, and none is configured",
            code="no-cluster",
            hint="GREYLAG_KUBE_CONTEXT names a kubeconfig's context, or `in-cluster`; or run this with mode inline",
        )
    return job_api.JobApi(kubernetes_api.connect(context).connection)


class _Cancellation:
    """Is told by `registry.cancel_all`, as an open connection is: signals reach the main thread alone, and this may run in another."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def cancel(self) -> None:
        self.event.set()

    def __enter__(self) -> _Cancellation:
        registry.register(self)
        return self

    def __exit__(self, *_: object) -> None:
        registry.unregister(self)


class _Held:
    """The Job that this run has to stop where it is stopped itself: the one that it follows, or one whose creation was not answered any more."""

    def __init__(self, api: JobApi, order: Order, tell: Told) -> None:
        self._api, self._order, self._tell = api, order, tell
        self.job: Json | None = None

    def stop(self) -> None:
        """Deletes the Job and waits for its pod. Never raises an error of its own: the run's end has its reason already."""
        deadline = time.monotonic() + STOP_SECONDS
        try:
            job = self.job or self._created()
            if job is None:
                return
            ended = job_adoption.remove(self._api, job, max(deadline - time.monotonic(), 1.0))
        except errors.GreylagError as error:
            self._tell("warning", f"{self._order.target.label}: the Job could not be deleted: {error.message}")
            return
        name = f"Job {job['metadata']['namespace']}/{job['metadata']['name']}"
        if ended:
            self._tell("info", f"{self._order.target.label}: {name} is deleted and its pod has ended")
        else:
            self._tell("warning", f"{self._order.target.label}: {name} is being deleted, its pod has not ended yet")

    def _created(self) -> Json | None:
        found = job_watch.patiently(lambda: self._api.job(self._order.target.namespace, job_manifest.name(self._order)), 5.0)
        own = found is not None and bool(self._order.run_id) and job_manifest.annotation(found, job_manifest.RUN) == self._order.run_id
        return dict(found) if own and found is not None else None


def _followed(api: JobApi, choice: Choice, label: str, settings: Settings, tell: Told, cancellation: _Cancellation) -> Ended:
    assert choice.job is not None
    return Following(api, choice.job, label, settings.job_patience_seconds, tell, cancellation.event).until_finished()


def _settled(target: Target, choice: Choice, now: Prepared, tell: Told) -> MigrationOutcome:
    assert choice.job is not None
    metadata = choice.job["metadata"]
    tell("info", f"{target.label}: Job {metadata['namespace']}/{metadata['name']} has done this already, nothing is left to do")
    return MigrationOutcome(
        service=target.service,
        environment=target.environment,
        bundle=now.plan.bundle,
        plan=now.plan.digest,
        current=now.plan.current,
        remarks=migration.remarks(now.plan),
    )


def _outcome(target: Target, ended: Ended, prepared: Prepared, again: Callable[[], Prepared]) -> MigrationOutcome:
    """What all of the Job's pods together have done, in their own words; where the last one left none, what the database says."""
    told = [end.outcome for end in job_failures.ends(ended.pods) if end.outcome is not None]
    names = {item.version: item.name for item in prepared.plan.migrations.migrations}
    applied = {
        int(version): AppliedMigration(version=version, name=names.get(version, ""), statements=statements, seconds=seconds)
        for outcome in told
        for version, statements, seconds in outcome.get("applied") or ()
    }
    last = told[-1] if told and told[-1].get("exit_code") == 0 else None
    complete = last is not None and not any(outcome.get("left_out") for outcome in told)
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
        remarks=migration.remarks(prepared.plan),
    )


def _noted(tell: Told) -> events.Listener:
    def listen(event: events.Event) -> None:
        level, text = migration.told(event)
        tell(level, text)

    return listen
