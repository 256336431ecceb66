"""What an application's state means for one run: pure, over the states of `states.py`.

An operation is the run's own by the info that the run gave it, or, where a run follows and auto-sync gave it none, by the revision that it brought.
Never by time: between the request and the controller, Argo CD still shows the previous operation with its end (argocd.md §3).
"""

from __future__ import annotations

import enum

from pydantic import BaseModel, ConfigDict

from tasks.argocd.states import Application, Asked, Hook, Operation, Phase

RUN = "greylag.run"
"""The info that holds the run's id."""

BUNDLE = "greylag.bundle"
"""The info that holds the digest of the files that the run wants applied: by it the next run knows the work of one whose worker was killed."""

TARGET = "greylag.target"
"""The info that names environment and service."""

JOB = "Job"
BEFORE = frozenset({"PreSync", "Sync"})
"""Hook types that run before the application's own new code, so that a migration may be one."""

BLOCKED = "Sync operation blocked by sync window"
RETRIES = "Retrying"


class Wanted(BaseModel):
    """The operation that a run waits for: the one with this run id among its infos; without a run id the one that brings this revision."""

    model_config = ConfigDict(frozen=True)

    run: str = ""
    revision: str = ""

    def means(self, asked: Asked, revision: str = "") -> bool:
        """Tells whether an operation is the wanted one; `revision` is what it has resolved."""
        if self.run:
            return asked.says(RUN) == self.run
        return bool(self.revision) and self.revision in (asked.revision, revision)


class Verdict(enum.StrEnum):
    """The standing of the wanted operation."""

    ABSENT = "absent"
    ELSE = "else"
    BEGINNING = "beginning"
    RUNNING = "running"
    RETRYING = "retrying"
    BLOCKED = "blocked"
    TERMINATING = "terminating"
    SUCCEEDED = "succeeded"
    HOLLOW = "hollow"
    FAILED = "failed"
    TERMINATED = "terminated"


OVER = frozenset({Verdict.SUCCEEDED, Verdict.HOLLOW, Verdict.FAILED, Verdict.TERMINATED})
"""The verdicts that nothing follows."""


class Judgement(BaseModel):
    """A verdict, why in words, and the Jobs among the operation's hooks."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    why: str = ""
    jobs: tuple[Hook, ...] = ()

    @property
    def over(self) -> bool:
        """Tells whether nothing more will happen."""
        return self.verdict in OVER


def judge(found: Application, wanted: Wanted) -> Judgement:
    """Returns the standing of the wanted operation. SUCCEEDED says that the migration's hook has run; what the database has is asked of the database."""
    operation, pending = found.operation, found.pending
    if operation is not None and wanted.means(operation.asked, operation.revision):
        return _own(operation)
    if pending is not None and wanted.means(pending):
        return Judgement(verdict=Verdict.BEGINNING, why="Argo CD's controller has not begun it yet")
    busy = _busy(found)
    if busy is not None:
        return Judgement(verdict=Verdict.ELSE, why=_words(busy, operation))
    return Judgement(verdict=Verdict.ABSENT, why=_last(operation))


def in_progress(found: Application) -> Asked | None:
    """Returns what the operation at work was asked, whose ever it is; None when nothing is at work."""
    return _busy(found)


def hollow(operation: Operation) -> str:
    """Says why an operation that Succeeded has not migrated; empty when its own record shows a migration's hook that ran."""
    if operation.asked.dry_run:
        return "it was a dry run: its hooks are listed as Succeeded and none has run"
    if operation.asked.partial:
        return "it was limited to some resources: a selective sync runs no hook"
    jobs = jobs_of(operation)
    if not jobs:
        return "it ran no Job as a hook (`argocd.argoproj.io/hook: Sync` or `PreSync`)"
    if not any(job.phase == Phase.SUCCEEDED for job in jobs):
        states = ", ".join(f"{job.place} is {job.phase or 'unknown'}" for job in jobs)
        return f"no hook of it has succeeded: {states}"
    return ""


def jobs_of(operation: Operation) -> tuple[Hook, ...]:
    """Returns the Jobs among an operation's hooks that run before the new code does."""
    return tuple(hook for hook in operation.hooks if hook.kind == JOB and hook.type in BEFORE)


def _own(operation: Operation) -> Judgement:
    jobs, message = jobs_of(operation), operation.message
    match operation.phase:
        case Phase.SUCCEEDED:
            why = hollow(operation)
            return Judgement(verdict=Verdict.HOLLOW if why else Verdict.SUCCEEDED, why=why or message, jobs=jobs)
        case Phase.FAILED | Phase.ERROR:
            # The word is Argo CD's own for an operation that somebody ended; it decides which hint is given, and nothing else.
            ended = message.startswith("Operation terminated")
            return Judgement(verdict=Verdict.TERMINATED if ended else Verdict.FAILED, why=message, jobs=jobs)
        case Phase.TERMINATING:
            return Judgement(verdict=Verdict.TERMINATING, why=message, jobs=jobs)
    if operation.finished_at or RETRIES in message:  # an attempt has ended, and another one follows
        return Judgement(verdict=Verdict.RETRYING, why=message, jobs=jobs)
    if BLOCKED in message:
        return Judgement(verdict=Verdict.BLOCKED, why=message, jobs=jobs)
    return Judgement(verdict=Verdict.RUNNING, why=message, jobs=jobs)


def _busy(found: Application) -> Asked | None:
    if found.pending is not None:
        return found.pending
    return found.operation.asked if found.operation is not None and not found.operation.over else None


def _words(asked: Asked, operation: Operation | None) -> str:
    what = "a dry run" if asked.dry_run else "a sync of some resources" if asked.partial else "a sync"
    at = f" to {asked.revision[:12]}" if asked.revision else ""
    run = asked.says(RUN)
    words = f"{what}{at}, started by {asked.whose}" + (f" for the run {run} of {asked.says(TARGET) or 'greylag'}" if run else "")
    if operation is not None and not operation.over and operation.message:
        words += f": {operation.message}"
    return words


def _last(operation: Operation | None) -> str:
    if operation is None:
        return "it has never been synced"
    return f"the last operation, by {operation.asked.whose}, is {operation.phase}: {operation.message}"
