"""Follows one operation of Argo CD to its end, says what it is doing, and notices early when its migration makes no progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from migrator import errors
from tasks.argocd import verdicts
from tasks.argocd.client import Client
from tasks.argocd.states import Application, Hook
from tasks.argocd.verdicts import Judgement, Verdict, Wanted
from tasks.job import failures
from tasks.job.failures import Stuck
from tasks.job.following import interrupted
from tasks.kubernetes import following

Json = dict[str, Any]
Told = Callable[[str, str], None]

LOOK_SECONDS = 2.0
"""Seconds between two reads of the application: Argo CD's own pause between two waves."""

PODS_SECONDS = 5.0
"""Seconds between two reads of the hook's pods and events, which only tell whether it is stuck."""

TICK_SECONDS = 0.5
"""Seconds for which the main thread blocks at once; signals and a cancellation are handled in between."""

OUTAGE_SECONDS = 120.0
"""Seconds. An API server that is silent for longer is not just being restarted. The operation goes on, and the next attempt adopts it."""


class Seen(NamedTuple):
    """The application at one look, and what it means for the run."""

    application: Application
    judgement: Judgement


class StuckHook(Exception):
    """Raised when the migration's hook has been stuck for longer than the patience allows."""

    def __init__(self, found: Stuck, hook: Hook, job: Json | None) -> None:
        super().__init__(found.reason)
        self.found, self.hook, self.job = found, hook, job


class Following:
    """Follows the operation that a run waits for.

    Args:
        client: the application. label: the target's name, as people write it. patience: seconds that a hook may be stuck.
        tell: receives a level and a line. cancelled: ends the following with Interrupted once it is set.
    """

    def __init__(self, client: Client, label: str, patience: float, tell: Told, cancelled: threading.Event) -> None:
        self._client, self._label, self._patience, self._tell, self._cancelled = client, label, patience, tell, cancelled
        self._said = ""
        self._stuck: tuple[str, float] = ("", 0.0)
        self._pods_at = 0.0
        self.jobs: tuple[Hook, ...] = ()
        """The Jobs of the operation's hooks, as they were last seen."""

    def until(
        self, wanted: Callable[[Application], Wanted], enough: Callable[[Seen], bool], limit: float, *, refresh: bool = False
    ) -> Seen | None:
        """Looks until a look is enough, and returns it; None when the limit (in seconds) was over first.

        Args:
            wanted: what is waited for, given the application as it is now.
            refresh: make Argo CD compare the application with its source at each look.

        Raises StuckHook, Interrupted, and as the API.
        """
        fault: errors.GreylagError | None = None
        for seen in following.follow(lambda: self._look(wanted, refresh), every=LOOK_SECONDS, limit=max(limit, 0.0), sleep=self.pause):
            if isinstance(seen, following.Unanswered):
                fault = seen.fault
                if seen.silent > OUTAGE_SECONDS:
                    raise fault
                continue
            fault = None
            self._notice(seen)
            if enough(seen):
                return seen
        if fault is not None:
            raise fault
        return None

    def pause(self, seconds: float) -> None:
        """Waits. Raises Interrupted once the run is cancelled."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._cancelled.wait(min(left, TICK_SECONDS)):
                raise interrupted(self._label)

    def _look(self, wanted: Callable[[Application], Wanted], refresh: bool) -> Seen:
        found = self._client.application(refresh=refresh)
        return Seen(found, verdicts.judge(found, wanted(found)))

    def _notice(self, seen: Seen) -> None:
        """Tells what has changed, and looks after the hooks of an operation at work."""
        judgement = seen.judgement
        if judgement.jobs:
            self.jobs = judgement.jobs
        level = "warning" if judgement.verdict in (Verdict.RETRYING, Verdict.BLOCKED, Verdict.ELSE) else "info"
        line = f"{self._label}: {seen.application.name}: {judgement.verdict}{f': {judgement.why}' if judgement.why else ''}"
        if line != self._said:
            self._said = line
            self._tell(level, line)
        if judgement.verdict is Verdict.RUNNING and judgement.jobs and time.monotonic() - self._pods_at >= PODS_SECONDS:
            self._pods_at = time.monotonic()
            self._look_for_trouble(judgement.jobs)

    def _look_for_trouble(self, hooks: tuple[Hook, ...]) -> None:
        for hook in hooks:
            if hook.phase not in ("", "Running"):
                continue
            job = self._client.job(hook)
            if job is None:
                continue
            found = self._trouble(job)
            if found is None:
                continue
            state, since = self._stuck
            if found.state != state:
                state, since = self._stuck = (found.state, time.monotonic())
                self._tell("warning", f"{self._label}: {hook.place} does not get on: {found.reason}")
            if time.monotonic() - since >= self._patience * found.patience:
                raise StuckHook(found, hook, job)
            return
        self._stuck = ("", 0.0)

    def _trouble(self, job: Json) -> Stuck | None:
        pods = self._client.pods([str(job["metadata"]["name"])])
        waiting = [pod for pod in pods if (pod.get("status") or {}).get("phase", "Pending") == "Pending"]
        if len(waiting) < len(pods):
            return None
        events = [event for item in (job, *waiting) for event in self._client.events(item)]
        return failures.stuck(job, pods, events)
