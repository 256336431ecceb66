"""Finds or creates the one Job of a plan. A Job that is there already is adopted, awaited or replaced, so that repeated runs never make a second one."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from migrator import errors
from tasks.job import failures, manifest
from tasks.job.manifest import BUNDLE, PLAN, Order
from tasks.kubernetes import following, objects

Json = dict[str, Any]

GONE_SECONDS = manifest.GRACE_SECONDS + 30.0
"""Seconds to wait for a Job that is being deleted: its pod has its grace period, and the garbage collector needs a moment."""

POLL_SECONDS = 0.5
"""Seconds between two reads of a Job that is being deleted."""

ROUNDS = 10
"""The number of times that the Jobs are read again because somebody else changed them meanwhile."""


class Course(enum.Enum):
    """What to do about the existing Jobs."""

    CREATE = "create"
    ADOPT = "adopt"
    SETTLED = "settled"
    REPLACE = "replace"
    AWAIT_END = "await end"
    BUSY = "busy"


class Choice(NamedTuple):
    """A course, and the Job that it concerns; the course CREATE concerns none."""

    course: Course
    job: Json | None = None


class Jobs(Protocol):
    """The calls to the API server that this module needs (`kubernetes.api.Api`)."""

    def job(self, namespace: str, name: str) -> Json | None: ...

    def jobs(self, namespace: str, selector: str = "") -> list[Json]: ...

    def create_job(self, namespace: str, manifest: Json) -> Json | None: ...

    def delete_job(self, namespace: str, name: str, uid: str) -> None: ...


def choose(order: Order, jobs: Iterable[Json], covers: Callable[[str], bool], *, idle: bool) -> Choice:
    """Chooses what to do, from the target's own Jobs. Pure.

    Args:
        covers: tells whether the plan with that digest covers this run's work: it is the same plan, or this run's is what is left of it.
        idle: whether nothing is left to do.
    """
    found = list(jobs)
    for job in found:
        if job["metadata"].get("deletionTimestamp"):
            return Choice(Course.AWAIT_END, job)
    for job in found:
        if not failures.finished(job):
            same = objects.annotation(job, BUNDLE) == order.bundle and covers(objects.annotation(job, PLAN))
            if failures.doomed(job):  # its last pod is still ending, and the next Job must find that pod's final state
                return Choice(Course.AWAIT_END, job)
            return Choice(Course.ADOPT if same else Course.BUSY, job)
    complete = [job for job in found if objects.condition(job, "Complete") and objects.annotation(job, BUNDLE) == order.bundle]
    if idle:
        settled = [job for job in complete if manifest.image(job) == order.image]
        if settled:
            return Choice(Course.SETTLED, settled[-1])
    name = manifest.name(order)
    for job in found:
        if job["metadata"]["name"] == name:
            return Choice(Course.REPLACE, job)
    return Choice(Course.CREATE)


def place(
    api: Jobs,
    order: Order,
    covers: Callable[[str], bool],
    idle: Callable[[], bool],
    prepare: Callable[[], None],
    tell: Callable[[str, str], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Choice:
    """Ensures that there is a Job. Returns ADOPT for one that another run made, SETTLED for one that has done all the work, CREATE for one made now.

    Args:
        covers: see `choose`.
        idle: tells whether nothing is left to do, and looks it up each time.
        prepare: called before a Job is created; may refuse by raising.
        tell: receives a level and a line.

    Raises LockUnavailable (`job-running`: another release's Job is at work), NotFound (`job-conflict`: somebody else's Job has the name), and as the API.
    """
    namespace, label = order.target.namespace, order.target.label
    for _ in range(ROUNDS):
        found = following.patiently(lambda: api.jobs(namespace, manifest.selector(order.target)))
        choice = choose(order, found, covers, idle=not order.pending)
        job = choice.job
        if choice.course is Course.ADOPT and job is not None:
            tell(
                "info",
                f"{label}: Job {_named(job)} is at work on this already, made by run {objects.annotation(job, 'greylag/run')[:12]}",
            )
            return choice
        if choice.course is Course.BUSY and job is not None:
            raise _busy(label, job)
        if choice.course is Course.SETTLED or (choice.course is Course.REPLACE and job is not None and _done(job) and idle()):
            return Choice(Course.SETTLED, job)
        if choice.course is Course.AWAIT_END and job is not None:
            await_end(api, job, sleep=sleep)
        elif choice.course is Course.REPLACE and job is not None:
            tell("info", f"{label}: Job {_named(job)} of an earlier run has ended: it is deleted and made anew")
            remove(api, job, sleep=sleep)
        else:
            prepare()
            made = following.patiently(lambda: api.create_job(namespace, manifest.manifest(order)))
            if made is not None:
                tell("info", f"{label}: Job {_named(made)} created, image {order.image}")
                return Choice(Course.CREATE, made)
            _require_own(api, order)
    raise errors.LockUnavailable(
        f"{label}: its Job is made and deleted again and again", code="job-running", hint="who else deploys this service?"
    )


def remove(api: Jobs, job: Mapping[str, Any], seconds: float = GONE_SECONDS, *, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Deletes this very Job, and tells whether its pods have ended within the given seconds."""
    metadata = job["metadata"]
    following.patiently(lambda: api.delete_job(metadata["namespace"], metadata["name"], metadata["uid"]), seconds, sleep=sleep)
    return await_gone(api, job, seconds, sleep=sleep)


def await_end(api: Jobs, job: Mapping[str, Any], *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Waits until a Job that is going away is gone, or has finished. Raises LockUnavailable (`job-running`) when neither happens in time."""

    def ended(now: Json) -> bool:
        return failures.finished(now) and not now["metadata"].get("deletionTimestamp")

    if not await_gone(api, job, GONE_SECONDS, or_else=ended, sleep=sleep):
        raise errors.LockUnavailable(
            f"Job {_named(job)} has not ended within {GONE_SECONDS:.0f} s",
            code="job-running",
            hint="a finalizer may hold it: `kubectl describe` shows",
        )


def await_gone(
    api: Jobs,
    job: Mapping[str, Any],
    seconds: float,
    *,
    or_else: Callable[[Json], bool] = lambda now: False,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Tells whether the Job was gone, or `or_else` was true of it, within the given seconds. A new Job of the same name is a different Job."""
    metadata = job["metadata"]

    def look() -> Json | None:
        return api.job(metadata["namespace"], metadata["name"])

    fault: errors.GreylagError | None = None
    for now in following.follow(look, every=POLL_SECONDS, limit=seconds, sleep=sleep):
        fault = now.fault if isinstance(now, following.Unanswered) else None
        if isinstance(now, following.Unanswered):
            continue
        if now is None or now["metadata"]["uid"] != metadata["uid"] or or_else(now):
            return True
    if fault is not None:
        raise fault
    return False


def _busy(label: str, job: Mapping[str, Any]) -> errors.LockUnavailable:
    metadata = job["metadata"]
    return errors.LockUnavailable(
        f"{label}: Job {_named(job)} is at work on another release",
        code="job-running",
        hint=f"wait for it, or delete it: `kubectl -n {metadata['namespace']} delete job {metadata['name']}` rolls back what it is doing",
    )


def _require_own(api: Jobs, order: Order) -> None:
    """Raises NotFound when the name is taken by a Job that greylag did not make; one that greylag made meanwhile is fine."""
    name = manifest.name(order)
    job = following.patiently(lambda: api.job(order.target.namespace, name))
    if job is None:
        return
    labels = job["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in manifest.labels(order.target).items()):
        raise errors.NotFound(
            f"{order.target.label}: there is a Job {order.target.namespace}/{name} that greylag did not make",
            code="job-conflict",
            hint="look at it, and delete it if nobody needs it",
        )


def _done(job: Mapping[str, Any]) -> bool:
    return bool(objects.condition(job, "Complete"))


def _named(job: Mapping[str, Any]) -> str:
    return f"{job['metadata']['namespace']}/{job['metadata']['name']}"
