"""Follows a Job from its creation to its end: reads it and its pods, passes their logs on, and notices early when it makes no progress."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from migrator import errors
from tasks import redaction
from tasks.job import failures
from tasks.job.failures import Stuck
from tasks.job.logs import Logs, Told
from tasks.job.manifest import GRACE_SECONDS
from tasks.kubernetes import following, objects

if TYPE_CHECKING:
    from tasks.kubernetes.api import Api

Json = dict[str, Any]

LOOK_SECONDS = 2.0
"""Seconds between two reads of the Job and its pods: a fifth of the first pause that a Job itself makes."""

OUTAGE_SECONDS = 120.0
"""Seconds. An API server that is silent for longer is not just being restarted. The Job goes on, and the next attempt adopts it."""

TICK_SECONDS = 0.5
"""Seconds for which the main thread blocks at once; signals and a cancellation are handled in between."""

EVENTS_SECONDS = 5.0
"""Seconds between two reads of the events, which are read only while a pod is missing or does not start."""

LOGS_SECONDS = 10.0
"""Seconds to wait for the logs' last lines after the Job has ended."""

SLACK_SECONDS = 60.0
"""Seconds beyond the Job's own deadline and its pod's grace period. If the Job has not ended by then, its controller is not running."""


class Ended(NamedTuple):
    """A Job that has ended, and its pods as they were last read, including those that are deleted by now."""

    job: Json
    pods: list[Json]


class _Look(NamedTuple):
    """One read of the Job, None when it is gone or another one has its name, and then of its pods: so the pods are at least as new as the Job."""

    job: Json | None
    pods: list[Json]
    events: list[Json]


class Following:
    """Follows one Job.

    Args:
        api: the cluster. job: as it was created or found.
        label: the target's name, as people write it. patience: seconds that the Job may be stuck.
        tell: receives a level and a line, always in the thread that follows, because Prefect's loggers know their run by its context.
        cancelled: ends the following with Interrupted once it is set.
        run_id: the run that follows. A further attempt of the same run does not repeat log lines.
    """

    def __init__(
        self,
        api: Api,
        job: Json,
        label: str,
        patience: float,
        tell: Told,
        cancelled: threading.Event,
        run_id: str = "",
    ) -> None:
        metadata = job["metadata"]
        self._api, self._label, self._patience, self._tell, self._cancelled = api, label, patience, tell, cancelled
        self._namespace, self._name, self._uid = str(metadata["namespace"]), str(metadata["name"]), str(metadata["uid"])
        self._job = job
        self._pods: dict[str, Json] = {}
        self._told: set[str] = set()
        self._lines: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._logs = Logs(api, self._namespace, lambda level, text: self._lines.put((level, text)), run_id)
        self._stuck: tuple[str, float] = ("", 0.0)
        self._events: tuple[float, list[Json]] = (0.0, [])

    def until_finished(self) -> Ended:
        """Waits for the Job's end.

        Raises StuckJob when it is stuck, NotFound (`job-deleted`), Interrupted, NotYet (`job-unfinished`: nobody has ended it although its
        deadline is over), LoginFailed and Unavailable as the API.
        """
        limit = float(self._job["spec"].get("activeDeadlineSeconds") or 0) + GRACE_SECONDS + SLACK_SECONDS
        fault: errors.GreylagError | None = None
        try:
            for seen in following.follow(self._look, every=LOOK_SECONDS, limit=limit, sleep=self._wait):
                if isinstance(seen, following.Unanswered):
                    fault = seen.fault
                    if seen.silent > OUTAGE_SECONDS:
                        break
                    continue
                fault = None
                if seen.job is None:
                    raise self._deleted()
                self._take(seen.job, seen.pods)
                if failures.finished(self._job):
                    self._finish_logs()
                    return Ended(self._job, list(self._pods.values()))
                self._look_for_trouble(seen.events)
            raise fault or self._unfinished()
        finally:
            self._logs.stop()

    def _look(self) -> _Look:
        job = self._api.job(self._namespace, self._name)
        if job is None or str(job["metadata"].get("uid")) != self._uid:
            return _Look(None, [], [])
        pods = self._api.pods(self._namespace, f"batch.kubernetes.io/job-name={self._name}")
        own = sorted((pod for pod in pods if objects.owned_by(pod, self._uid)), key=failures.age)
        return _Look(job, own, self._recent_events(own))

    def _recent_events(self, pods: list[Json]) -> list[Json]:
        """Returns events about the Job and about pods that have not started; none while a pod runs."""
        phases = {str(pod["metadata"]["uid"]): (pod.get("status") or {}).get("phase", "Pending") for pod in pods}
        if "Running" in phases.values():
            return []
        at, known = self._events
        if time.monotonic() - at >= EVENTS_SECONDS:
            pending = [uid for uid, phase in phases.items() if phase == "Pending"]
            known = [event for uid in (self._uid, *pending) for event in self._api.events(self._namespace, uid)]
            self._events = (time.monotonic(), known)
        return known

    def _take(self, job: Json, pods: list[Json]) -> None:
        self._job = job
        for uid in self._pods.keys() - {str(pod["metadata"]["uid"]) for pod in pods}:
            self._pods[uid] = failures.lost(self._pods[uid])
        for pod in pods:
            self._pods[str(pod["metadata"]["uid"])] = pod
            self._logs.attend(pod)
            self._say_how_it_ended(pod)

    def _say_how_it_ended(self, pod: Json) -> None:
        for end in failures.ends([pod]):
            if end.exit_code != 0 and end.pod not in self._told:
                self._told.add(end.pod)
                words = ((end.outcome or {}).get("error") or {}).get("message") or end.text.strip().rpartition("\n")[2] or end.reason
                self._tell("warning", f"{self._label}: {end.pod} ended with exit code {end.exit_code}: {redaction.brief(str(words))}")

    def _look_for_trouble(self, events: list[Json]) -> None:
        found = failures.stuck(self._job, list(self._pods.values()), events)
        if found is None or failures.doomed(self._job):
            self._stuck = ("", 0.0)
            return
        state, since = self._stuck
        if found.state != state:
            state, since = self._stuck = (found.state, time.monotonic())
            self._tell("warning", f"{self._label}: Job {self._namespace}/{self._name} does not get on: {found.reason}")
        if time.monotonic() - since >= self._patience * found.patience:
            raise StuckJob(found)

    def _wait(self, seconds: float) -> None:
        """Waits, and passes log lines on as they come. Raises Interrupted once the run is cancelled."""
        deadline = time.monotonic() + seconds
        while True:
            if self._cancelled.is_set():
                raise interrupted(self._label)
            left = deadline - time.monotonic()
            if left <= 0:
                return
            try:
                self._tell(*self._lines.get(timeout=min(left, TICK_SECONDS)))
            except queue.Empty:
                continue

    def _finish_logs(self) -> None:
        """Passes on the logs' last lines, after the Job's end."""
        self._logs.finish(LOGS_SECONDS)
        while not self._lines.empty():
            self._tell(*self._lines.get_nowait())

    def _deleted(self) -> errors.NotFound:
        self._finish_logs()
        return errors.NotFound(
            f"{self._label}: Job {self._namespace}/{self._name} was deleted before it had ended",
            code="job-deleted",
            hint="somebody stopped it, what it had not finished was rolled back: deploy the release again",
        )

    def _unfinished(self) -> errors.NotYet:
        return errors.NotYet(
            f"{self._label}: Job {self._namespace}/{self._name} is over its activeDeadlineSeconds and nobody has ended it",
            code="job-unfinished",
            hint=f"does the Job controller run? `kubectl -n {self._namespace} describe job {self._name}`",
        )


def interrupted(label: str) -> errors.Interrupted:
    """Returns the error that a cancelled run ends with."""
    return errors.Interrupted(f"{label}: the run is being ended", hint="start it again: what was finished is recorded")


class StuckJob(Exception):
    """Raised when the Job has been stuck for longer than the patience allows."""

    def __init__(self, found: Stuck) -> None:
        super().__init__(found.reason)
        self.found = found
