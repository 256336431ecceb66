"""Step 3 as a sync of Argo CD, started by the run or followed (docs/concepts/argocd.md).

The migration is a Job of the application's chart, a Sync or PreSync hook: Argo CD makes it, and its own attempts are the Job's. The run plans first, with
the worker's login; afterwards it asks the database, because `Succeeded` does not mean migrated. The account needs `get` and `sync` on the application, and
nothing else. When a worker is killed, its operation goes on, and the next run adopts it by the infos that it carries. A run that is cancelled terminates
the operation that greylag started; Argo CD then says that it has ended while its pod still works, so the run waits for pod and lock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from migrator import errors, registry
from migrator.planning import events
from tasks import commands, migration
from tasks.argocd import client as argocd
from tasks.argocd import verdicts
from tasks.argocd.client import Client
from tasks.argocd.following import Following, Seen, StuckHook, Told
from tasks.argocd.states import Application, Asked, Hook
from tasks.argocd.verdicts import Judgement, Verdict, Wanted
from tasks.fleet.argocd_section import Sync
from tasks.job import failures
from tasks.job.failures import JobFailed
from tasks.job.following import interrupted
from tasks.kubernetes import following, objects
from tasks.migration import Prepared
from tasks.outcomes import AppliedMigration, MigrationOutcome
from tasks.request import Request

Json = dict[str, Any]

STOP_SECONDS = 25.0
"""Seconds that a cancelled run waits for its operation, its pod and the lock: Prefect kills a run after 30 (prefect.md §12)."""

REST_SECONDS = 60.0
"""Seconds to wait for the pods of an operation that somebody else terminated: Kubernetes gives a pod 30 to end."""

READ_SECONDS = 5.0
"""Seconds for which a request with a lost answer is looked for."""


class SyncFailed(errors.Relayed):
    """An operation of Argo CD that ended without a migration. It has made its attempts, so nobody tries again."""

    code = "argocd-failed"

    @property
    def transient(self) -> bool:
        return False


def run(request: Request, *, tell: Told, client: Client | None = None) -> MigrationOutcome:
    """Migrates the target's database by a sync of its application.

    Args:
        request: its credentials are the worker's own, and serve to make the plan and to ask the database afterwards.
        tell: receives a level (`info`, `warning`) and a line, in the calling thread.
        client: Argo CD; None connects as fleet.yaml and the settings say.

    Raises:
        UsageError (`no-argocd`), PlanRefused and whatever else `migration.prepare` raises: before anything is asked of Argo CD.
        LoginFailed (`argocd-login`, `argocd-forbidden`), NotFound (`argocd-no-application`), PlanRefused (`argocd-refused`, `argocd-ignored`).
        JobFailed, SyncFailed: permanent; the pod's own code where it left words.
        VerificationFailed (`argocd-hollow`, `argocd-not-migrated`): the operation succeeded, and the database was not migrated.
        NotYet (`argocd-window`, `argocd-not-synced`, `argocd-unfinished`, `argocd-replaced`), LockUnavailable (`argocd-busy`), Unavailable, Interrupted.
    """

    def again() -> Prepared:
        return migration.prepare(dataclasses.replace(request, plan=""))

    prepared = migration.prepare(request)
    began = time.monotonic()
    with client or argocd.connect(request.target, request.settings) as found, _Work(found, request, prepared, again, tell) as work:
        work.done()
    return _outcome(request, prepared, again(), time.monotonic() - began)


class _Work:
    """One run's work on its application. As a context manager it terminates the operation that greylag started when the run itself is stopped.

    Signals reach only the main thread, and this may run in another: so it is registered, like an open connection, for `registry.cancel_all`.
    """

    def __init__(self, client: Client, request: Request, prepared: Prepared, again: Callable[[], Prepared], tell: Told) -> None:
        self._client, self._request, self._prepared, self._again, self._tell = client, request, prepared, again, tell
        self._cancelled = threading.Event()
        self._label = request.target.label
        self._following = Following(client, self._label, request.settings.job_patience_seconds, tell, self._cancelled)
        seconds = request.settings.active_deadline_seconds if request.deadline is None else request.deadline
        self._deadline = time.monotonic() + seconds
        self._own: Wanted | None = None

    def cancel(self) -> None:
        """Ends the work soon; safe in a signal handler and in other threads."""
        self._cancelled.set()

    def __enter__(self) -> _Work:
        registry.register(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        registry.unregister(self)
        if isinstance(error, StuckHook):
            ended = self._own is not None and self._stop(self._own)
            raise self._stuck(error, ended) from None
        # Prefect's TerminationSignal, Ctrl-C, a cancellation. After any other error the operation goes on, and the next run adopts it.
        if self._own is not None and (isinstance(error, errors.Interrupted) or (error is not None and not isinstance(error, Exception))):
            self._stop(self._own)

    def done(self) -> None:
        """Returns once the migration's operation has succeeded and the database has everything. Raises as `run`, and StuckHook."""
        if self._request.target.argocd.sync is Sync.FOLLOW:
            self._follow()
            return
        self._own = self._begun()
        seen = self._following.until(self._wanted, lambda seen: _settled(seen.judgement), self._left())
        if seen is None:
            raise self._unfinished(self._client.application())
        self._require_success(seen)
        self._own = None
        self._require_migrated(seen)

    # --- starting ----------------------------------------------------------------------------------------------------------------

    def _begun(self) -> Wanted:
        """Returns the operation to wait for: one of greylag's for the same files that is at work, else a new one."""
        checked = False
        while True:
            found = following.patiently(self._client.application, sleep=self._following.pause)
            busy = verdicts.in_progress(found)
            if busy is None:
                if not checked and self._prepared.plan.steps:
                    commands.check(self._request.target, self._prepared.plan, self._listen, limit=self._left())
                    checked = True
                started = self._started()
                if started is not None:
                    return started
            elif self._same_work(busy):
                self._tell("info", f"{self._label}: {found.name} is being synced for these files already: going on with that operation")
                return Wanted(run=busy.says(verdicts.RUN))
            else:
                self._wait_for_others(found)

    def _started(self) -> Wanted | None:
        """Starts a sync; None when another operation was faster."""
        value = f"{self._request.run_id or secrets.token_hex(16)}.{secrets.token_hex(4)}"  # each request is known by itself
        infos = {verdicts.RUN: value, verdicts.TARGET: self._label, verdicts.BUNDLE: self._prepared.plan.bundle}
        wanted = self._own = Wanted(run=value)
        try:
            answered = self._client.sync(infos)
        except errors.Unavailable as lost:
            # The request may have been heard: the application says so, or nobody ever will.
            found = following.patiently(self._client.application, READ_SECONDS, sleep=self._following.pause)
            if verdicts.judge(found, wanted).verdict in (Verdict.ABSENT, Verdict.ELSE):
                self._own = None
                raise lost from None
            return wanted
        except errors.GreylagError:
            self._own = None
            raise
        if answered is None:
            self._own = None
            return None
        asked = answered.pending
        if asked is None or not wanted.means(asked) or asked.dry_run or asked.partial:
            raise errors.PlanRefused(
                f"{self._label}: Argo CD has answered the request with another operation than the one that was asked for",
                code="argocd-ignored",
                hint=f"it ignores what it does not know: is it version 2.4 or newer? `argocd app get {self._name}` shows what it does now",
            )
        self._tell("info", f"{self._label}: sync of {self._name} to {asked.revision[:12]} is asked for")
        return wanted

    def _same_work(self, busy: Asked) -> bool:
        mine = (self._label, self._prepared.plan.bundle)
        return (busy.says(verdicts.TARGET), busy.says(verdicts.BUNDLE)) == mine and bool(busy.says(verdicts.RUN)) and not busy.dry_run

    def _wait_for_others(self, found: Application) -> None:
        nobodys = Wanted(run="-")
        left = self._following.until(lambda _: nobodys, lambda seen: seen.judgement.verdict is Verdict.ABSENT, self._left())
        if left is None:
            whose = verdicts.judge(found, nobodys).why
            raise errors.LockUnavailable(
                f"{self._label}: another operation of {self._name} is at work: {whose}",
                code="argocd-busy",
                hint=f"wait for it, or end it: `argocd app terminate-op {self._name}`; its pod may work on for 30 s",
            )

    def _listen(self, event: events.Event) -> None:
        self._tell(*migration.told(event))

    # --- following what others start ---------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Waits for the operation that brings what the application's source holds now, and for a database that has everything."""
        first = following.patiently(lambda: self._client.application(refresh=True), sleep=self._following.pause)
        if not first.automated:
            self._tell("warning", f"{self._label}: {self._name} is not synced automatically: somebody has to sync it")
        waits = ""

        def enough(seen: Seen) -> bool:
            nonlocal waits
            verdict = seen.judgement.verdict
            if verdict in (Verdict.FAILED, Verdict.TERMINATED):
                return True
            if verdict not in (Verdict.SUCCEEDED, Verdict.HOLLOW) or seen.application.revision == waits:
                return False
            pending = len(self._again().plan.steps)
            if not pending:
                return True
            waits = seen.application.revision
            self._tell(
                "warning", f"{self._label}: {waits[:12]} is synced and {pending} migration(s) are pending: waiting for another revision"
            )
            return False

        seen = self._following.until(lambda found: Wanted(revision=found.revision), enough, self._left(), refresh=True)
        if seen is None:
            raise self._not_synced(self._client.application())
        if seen.judgement.verdict is Verdict.HOLLOW:  # e.g. a self-heal after the sync that migrated
            self._tell(
                "info", f"{self._label}: the database has everything; the last operation itself did not migrate: {seen.judgement.why}"
            )
            return
        self._require_success(seen)

    def _not_synced(self, found: Application) -> errors.GreylagError:
        judgement = verdicts.judge(found, Wanted(revision=found.revision))
        what = f"{found.name} is {found.sync or 'not compared'}, {judgement.verdict}: {judgement.why}"
        return errors.NotYet(
            f"{self._label}: no sync has brought these files within the time: {what}",
            code="argocd-not-synced",
            hint=f"is the commit with this release's image in Git? `argocd app sync {self._name}`; `argocd.sync: start` of fleet.yaml lets the run start it",
            detail="\n".join(found.conditions),
        )

    # --- how it ended ------------------------------------------------------------------------------------------------------------

    def _wanted(self, _: Application) -> Wanted:
        assert self._own is not None
        return self._own

    def _require_success(self, seen: Seen) -> None:
        judgement = seen.judgement
        match judgement.verdict:
            case Verdict.SUCCEEDED:
                return
            case Verdict.HOLLOW:
                raise self._hollow(judgement.why)
            case Verdict.TERMINATED:
                rests = self._rests(judgement.jobs, REST_SECONDS)
                self._own = None
                where = "its pod has ended" if rests else "its pod has not ended yet"
                raise SyncFailed(
                    f"{self._label}: somebody terminated the sync of {self._name}; {where}",
                    code="argocd-terminated",
                    hint="what was finished is recorded: deploy the release again, and the next run goes on from there",
                )
            case Verdict.FAILED:
                self._own = None
                raise self._failed(judgement)
        self._own = None
        raise errors.NotYet(
            f"{self._label}: another operation has taken the place of the run's before its end was seen: {judgement.why}",
            code="argocd-replaced",
            hint="Argo CD keeps the last operation alone; the next attempt asks for a sync of its own",
        )

    def _failed(self, judgement: Judgement) -> errors.GreylagError:
        """Returns the error of a failed operation: the migration's own words where its hook failed, else Argo CD's."""
        failed = [hook for hook in judgement.jobs if hook.phase in ("Failed", "Error")]
        for hook in failed:
            with contextlib.suppress(errors.Unavailable, errors.LoginFailed):
                job = self._client.job(hook)
                if job is not None and objects.condition(job, "Failed", "FailureTarget"):
                    return failures.failure(job, self._client.pods([hook.name]), self._label)
        if failed:
            hook = failed[0]
            return JobFailed(
                f"{self._label}: {hook.place} failed in the sync of {self._name}: {hook.message}",
                hint=f"`kubectl -n {hook.namespace} describe job {hook.name}`; its pods are gone, or Argo CD no longer shows them",
            )
        return SyncFailed(
            f"{self._label}: the sync of {self._name} failed, and not in a migration: {judgement.why}",
            hint=f"nothing of it has migrated this database after the plan was made, or `greylag status` says so; `argocd app get {self._name}` "
            "shows each resource",
        )

    def _hollow(self, why: str) -> errors.GreylagError:
        return errors.VerificationFailed(
            f"{self._label}: the sync of {self._name} succeeded, and that does not mean migrated: {why}",
            code="argocd-hollow",
            hint="the migration has to be a Job with `argocd.argoproj.io/hook: Sync` in this application, with `migration.enabled`, and the sync a whole one",
        )

    def _require_migrated(self, seen: Seen) -> None:
        left = [step.name for step in self._again().plan.steps]
        if left:
            jobs = ", ".join(job.place for job in seen.judgement.jobs)
            raise errors.VerificationFailed(
                f"{self._label}: the sync succeeded and so did its hook ({jobs}), and the database lacks {len(left)} migration(s): {left[0]}"
                + (" …" if len(left) > 1 else ""),
                code="argocd-not-migrated",
                hint=f"does the application's image hold these files, and its Secret name this database? `argocd app manifests {self._name}`",
            )

    def _unfinished(self, found: Application) -> errors.GreylagError:
        judgement = verdicts.judge(found, self._own or Wanted())
        self._own = None  # it goes on, and the next run adopts it
        if judgement.verdict is Verdict.BLOCKED:
            return errors.NotYet(
                f"{self._label}: a sync window has opened in mid-operation and holds the sync of {self._name}: {judgement.why}",
                code="argocd-window",
                hint=f"it goes on when the window ends; `argocd app terminate-op {self._name}` ends it",
            )
        return errors.NotYet(
            f"{self._label}: the sync of {self._name} has not ended within the time: {judgement.verdict}: {judgement.why}",
            code="argocd-unfinished",
            hint=f"it goes on, and the next run of these files waits for it; `argocd app terminate-op {self._name}` ends it",
            detail="\n".join(found.conditions),
        )

    def _stuck(self, error: StuckHook, ended: bool) -> errors.GreylagError:
        hook = error.hook
        shown = error.job or {"metadata": {"namespace": hook.namespace, "name": hook.name}}
        told = failures.stuck_error(error.found, shown, self._label, deleted=ended)
        if ended:
            return told
        told.hint = f"{told.hint.partition(', but the Job')[0]}; the sync still waits for it: `argocd app terminate-op {self._name}`"
        return told

    # --- stopping ----------------------------------------------------------------------------------------------------------------

    def _stop(self, wanted: Wanted) -> bool:
        """Terminates the operation, waits for its pods and for the lock; tells whether all have ended. Raises nothing: the run has an error of its own."""
        deadline = time.monotonic() + STOP_SECONDS
        try:
            while not self._terminated(wanted):
                if time.monotonic() > deadline:
                    self._tell("warning", f"{self._label}: the sync of {self._name} could not be terminated in time")
                    return False
                time.sleep(0.5)
            judgement = verdicts.judge(self._client.application(), wanted)
            jobs = judgement.jobs or self._following.jobs
            if self._rests(jobs, deadline - time.monotonic()) and self._lock_is_free(max(deadline - time.monotonic(), 1.0)):
                self._tell("info", f"{self._label}: the sync of {self._name} is terminated, its pod has ended and the lock is free")
                return True
            self._tell("warning", f"{self._label}: the sync of {self._name} is terminated, its pod or its lock is not free yet")
        except errors.GreylagError as error:
            self._tell("warning", f"{self._label}: the sync of {self._name} could not be terminated: {error.message}")
        return False

    def _terminated(self, wanted: Wanted) -> bool:
        """Asks Argo CD to end the operation, and tells whether it is over. It refuses until its controller has begun it (argocd.md §3)."""
        judgement = verdicts.judge(self._client.application(), wanted)
        if judgement.over or judgement.verdict in (Verdict.ABSENT, Verdict.ELSE):
            return True
        if judgement.verdict is not Verdict.TERMINATING:
            self._client.terminate()
        return False

    def _rests(self, jobs: tuple[Hook, ...], seconds: float) -> bool:
        """Waits until no pod of these Jobs works any more: Argo CD calls an operation terminated while its pod goes on."""
        names = [job.name for job in jobs]
        deadline = time.monotonic() + seconds
        while names and any(_works(pod) for pod in self._client.pods(names)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
        return True

    def _lock_is_free(self, seconds: float) -> bool:
        """Tells whether the migration lock can be had within these seconds: it is taken and given back."""
        request = self._request
        patient = request.settings.model_copy(update={"lock_wait_seconds": seconds})
        try:
            way = request.access()
            with way.watched(), migration.opened(request.target, way.url(), patient) as database, database.lock(events.ignore):
                return True
        except errors.GreylagError:
            return False

    @property
    def _name(self) -> str:
        return self._client.settings.application

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if self._cancelled.is_set():
            raise interrupted(self._label)
        return max(left, 0.0)


def _settled(judgement: Judgement) -> bool:
    """Tells whether there is nothing to wait for: the operation is over, or another one has taken its place."""
    return judgement.over or judgement.verdict in (Verdict.ABSENT, Verdict.ELSE)


def _works(pod: Json) -> bool:
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def _outcome(request: Request, prepared: Prepared, now: Prepared, seconds: float) -> MigrationOutcome:
    """Returns what the database says that was applied since the plan was made."""
    left = {step.version for step in now.plan.steps}
    return MigrationOutcome(
        service=request.target.service,
        environment=request.target.environment,
        bundle=prepared.plan.bundle,
        plan=prepared.plan.digest,
        applied=tuple(
            AppliedMigration(version=step.version, name=step.name, statements=len(step.statements), seconds=0.0)
            for step in prepared.plan.steps
            if step.version not in left
        ),
        current=now.plan.current,
        seconds=round(seconds, 3),
        remarks=migration.remarks(request.target, prepared.plan),
    )
