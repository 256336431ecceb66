"""A Job from its creation to its end: what it and its pods do is watched, their logs are passed on, and what does not get on is noticed early."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from migrator import errors
from tasks import redaction
from tasks.job import failures
from tasks.job.failures import Stuck
from tasks.job.logs import Logs, Told
from tasks.job.manifest import GRACE_SECONDS
from tasks.kubernetes import following
from tasks.kubernetes.following import Page

if TYPE_CHECKING:
    from tasks.kubernetes.job_api import JobApi

Json = dict[str, Any]

TICK_SECONDS = 0.5
"""How long the main thread waits at once: signals and a cancellation are heeded in between."""

EVENTS_SECONDS = 5.0
"""Between two looks at events, which are asked for only while a pod is missing or does not start."""

LOGS_SECONDS = 10.0
"""How long the logs' last lines are waited for once the Job has ended."""

SLACK_SECONDS = 60.0
"""Beyond the Job's own deadline and its pod's grace: a controller that has not ended it by then is not there."""


class Ended(NamedTuple):
    """A Job that has ended, and its pods as they were last seen, those that are deleted by now included."""

    job: Json
    pods: list[Json]


class _Line(NamedTuple):
    """A line of a pod's log."""

    level: str
    text: str


class _Changed(NamedTuple):
    """A change of the Job or of a pod."""

    kind: str
    change: following.Change


_News = _Line | _Changed | errors.GreylagError


class _JobSource:
    def __init__(self, api: JobApi, namespace: str, name: str) -> None:
        self._api, self._namespace, self._fields = api, namespace, f"metadata.name={name}"

    def list(self) -> Page:
        return self._api.jobs(self._namespace, fields=self._fields)

    def watch(self, version: str, seconds: int) -> Iterator[tuple[str, Json]]:
        return self._api.watch_jobs(self._namespace, version, seconds, fields=self._fields)


class _PodSource:
    def __init__(self, api: JobApi, namespace: str, name: str) -> None:
        self._api, self._namespace, self._labels = api, namespace, f"batch.kubernetes.io/job-name={name}"

    def list(self) -> Page:
        return self._api.pods(self._namespace, labels=self._labels)

    def watch(self, version: str, seconds: int) -> Iterator[tuple[str, Json]]:
        return self._api.watch_pods(self._namespace, version, seconds, labels=self._labels)


class Following:
    """One Job that is followed.

    Args:
        api: the cluster. job: as it was created or found.
        label: how people call the target. patience: seconds that it may be stuck.
        tell: is given a level and a line, always by the thread that follows: Prefect's loggers know their run by its context.
        cancelled: ends the following with Interrupted once it is set.
        run_id: who follows, so that a further attempt of the same run tells no line of a log again.
    """

    def __init__(
        self,
        api: JobApi,
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
        self._job, self._gone = job, False
        self._pods: dict[str, Json] = {}
        self._told: set[str] = set()
        self._logs = Logs(api, self._namespace, lambda level, text: self._news.put(_Line(level, text)), run_id)
        self._news: queue.SimpleQueue[_News] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._stuck: tuple[str, float] = ("", 0.0)
        self._events: tuple[float, list[Json]] = (0.0, [])

    def until_finished(self) -> Ended:
        """Waits for the end.

        Raises JobFailed where it is stuck, NotFound (`job-deleted`), Interrupted, NotYet (`job-unfinished`: nobody has ended it although its
        deadline is over), LoginFailed and Unavailable as the API.
        """
        deadline = time.monotonic() + float(self._job["spec"].get("activeDeadlineSeconds") or 0) + GRACE_SECONDS + SLACK_SECONDS
        sources = {"job": _JobSource(self._api, self._namespace, self._name), "pod": _PodSource(self._api, self._namespace, self._name)}
        for kind, source in sources.items():
            threading.Thread(target=self._watch, args=(kind, source), name=f"watch-{kind}-{self._name}", daemon=True).start()
        try:
            while not failures.finished(self._job):
                if self._cancelled.is_set():
                    raise interrupted(self._label)
                if self._gone:
                    raise self._deleted()
                if time.monotonic() > deadline:
                    raise self._unfinished()
                self._look_for_trouble()
                self._take_news()
            return self._end()
        finally:
            self._stopped.set()
            self._logs.stop()

    def _watch(self, kind: str, source: following.Source) -> None:
        try:
            for change in following.follow(source, self._stopped):
                self._news.put(_Changed(kind, change))
        except errors.GreylagError as error:
            self._news.put(error)

    def _take_news(self) -> None:
        """Waits for news for a moment, and takes all that is there."""
        try:
            news = self._news.get(timeout=TICK_SECONDS)
            while True:
                if isinstance(news, errors.GreylagError):
                    raise news
                if isinstance(news, _Line):
                    self._tell(news.level, news.text)
                else:
                    self._take_change(news.kind, news.change)
                news = self._news.get_nowait()
        except queue.Empty:
            return

    def _take_change(self, kind: str, change: following.Change) -> None:
        for found in sorted(change.objects, key=failures.age) if kind == "pod" else change.objects:
            self._take(kind, change.kind, found)
        if kind == "job" and change.kind == following.LISTED and not any(self._own(found) for found in change.objects):
            self._gone = True

    def _take(self, kind: str, change: str, found: Json) -> None:
        if kind == "job":
            if self._own(found):
                self._job = found
            if self._own(found) == (change == following.ABSENT):  # deleted, or another one has its name
                self._gone = True
        elif any(owner.get("uid") == self._uid for owner in found["metadata"].get("ownerReferences") or ()):
            self._pods[str(found["metadata"]["uid"])] = found
            self._logs.attend(found)
            self._say_how_it_ended(found)

    def _own(self, found: Json) -> bool:
        return str(found["metadata"].get("uid")) == self._uid

    def _say_how_it_ended(self, pod: Json) -> None:
        for end in failures.ends([pod]):
            if end.exit_code != 0 and end.pod not in self._told:
                self._told.add(end.pod)
                words = ((end.outcome or {}).get("error") or {}).get("message") or end.text.strip().rpartition("\n")[2] or end.reason
                self._tell("warning", f"{self._label}: {end.pod} ended with exit code {end.exit_code}: {redaction.brief(str(words))}")

    def _look_for_trouble(self) -> None:
        found = failures.stuck(self._job, list(self._pods.values()), self._recent_events())
        if found is None or failures.doomed(self._job):
            self._stuck = ("", 0.0)
            return
        state, since = self._stuck
        if found.state != state:
            state, since = self._stuck = (found.state, time.monotonic())
            self._tell("warning", f"{self._label}: Job {self._namespace}/{self._name} does not get on: {found.reason}")
        if time.monotonic() - since >= self._patience * found.patience:
            raise StuckJob(found)

    def _recent_events(self) -> list[Json]:
        """Events about the Job and about pods that have not started; none while a pod runs."""
        phases = {uid: (pod.get("status") or {}).get("phase", "Pending") for uid, pod in self._pods.items()}
        if "Running" in phases.values():
            return []
        at, known = self._events
        if time.monotonic() - at >= EVENTS_SECONDS:
            pending = [uid for uid, phase in phases.items() if phase == "Pending"]
            try:
                known = [event for uid in (self._uid, *pending) for event in self._api.events(self._namespace, uid)]
            except errors.Unavailable:
                pass  # the watches say it where it lasts
            self._events = (time.monotonic(), known)
        return known

    def _end(self) -> Ended:
        """Takes a last look at the pods: the Job's end may have come before the pods' own."""
        found = following.patiently(lambda: self._api.pods(self._namespace, labels=f"batch.kubernetes.io/job-name={self._name}"))
        for pod in sorted(found.items, key=failures.age):
            self._take("pod", following.PRESENT, pod)
        self._finish_logs()
        return Ended(self._job, list(self._pods.values()))

    def _finish_logs(self) -> None:
        """Takes the logs' last lines, and nothing else: the end is known."""
        self._stopped.set()
        self._logs.finish(LOGS_SECONDS)
        while not self._news.empty():
            news = self._news.get_nowait()
            if isinstance(news, _Line):
                self._tell(news.level, news.text)

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
    """What a cancelled run ends with."""
    return errors.Interrupted(f"{label}: the run is being ended", hint="start it again: what was finished is recorded")


class StuckJob(Exception):
    """The Job is stuck and patience is at its end."""

    def __init__(self, found: Stuck) -> None:
        super().__init__(found.reason)
        self.found = found
