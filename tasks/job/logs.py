"""Copies the logs of a Job's pods into the run's log: every attempt, each line once, and no secret."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from migrator import errors
from tasks import redaction
from tasks.job.manifest import CONTAINER, container_state
from tasks.kubernetes import following

Json = dict[str, Any]
Told = Callable[[str, str], None]
"""Receives a level (`info`, `warning`) and a line."""

OVERLAP_SECONDS = 5
"""Seconds of the log that are read again after a lost connection; lines that were read before are left out by their time."""

WARNING = "greylag: warning:"


class LogSource(Protocol):
    """The source of the logs (`kubernetes.api.Api`)."""

    def log_lines(self, namespace: str, pod: str, *, container: str, since_seconds: int | None = None) -> Iterator[tuple[str, str]]: ...


class Logs:
    """Follows one log per pod, each in a thread of its own.

    Args:
        tell: receives each line, in those threads.
        run_id: a second `Logs` with the same id, in this process, passes on only lines that are new.
    """

    def __init__(self, source: LogSource, namespace: str, tell: Told, run_id: str = "") -> None:
        self._source, self._namespace, self._tell, self._run_id = source, namespace, tell, run_id
        self._threads: dict[str, threading.Thread] = {}
        self._ended: set[str] = set()
        self._finishing, self._stopped = threading.Event(), threading.Event()

    def attend(self, pod: Json) -> None:
        """Starts to follow a pod's log once its container runs or has run; to be called with each state of each pod."""
        uid = str(pod["metadata"]["uid"])
        state = container_state(pod)
        if "terminated" in state:
            self._ended.add(uid)
        if uid in self._threads or not (state.get("running") or (state.get("terminated") or {}).get("startedAt")):
            return
        prefix = f"attempt {len(self._threads) + 1}: " if self._threads else ""
        name = str(pod["metadata"]["name"])
        context = contextvars.copy_context()  # a caller's settings, and the run that its log belongs to
        thread = threading.Thread(target=context.run, args=(self._follow, uid, name, prefix), name=f"log-{name}", daemon=True)
        self._threads[uid] = thread
        thread.start()

    def finish(self, seconds: float) -> None:
        """Waits until every log has been read to its end, at most for the given seconds."""
        deadline = time.monotonic() + seconds
        self._finishing.set()
        for thread in self._threads.values():
            thread.join(max(deadline - time.monotonic(), 0))
        self.stop()

    def stop(self) -> None:
        """Stops passing lines on; another run may go on with this Job."""
        self._stopped.set()

    def _follow(self, uid: str, pod: str, prefix: str) -> None:
        """Reads the log again until a read ends that began after the container's end: before that, the end may only be a lost connection."""
        seen, failures = _known.setdefault((self._run_id, uid), Seen()) if self._run_id else Seen(), 0
        read_at: float | None = None
        while not self._stopped.is_set():
            last = uid in self._ended or self._finishing.is_set()
            since = None if read_at is None else int(time.monotonic() - read_at) + OVERLAP_SECONDS
            seen.rewind()
            try:
                for moment, text in self._source.log_lines(self._namespace, pod, container=CONTAINER, since_seconds=since):
                    if self._stopped.is_set():
                        return
                    read_at, failures = time.monotonic(), 0
                    if seen.new(moment):
                        self._tell("warning" if text.startswith(WARNING) else "info", prefix + redaction.brief(redaction.clean(text)))
            except errors.NotFound:
                return
            except errors.LoginFailed as error:
                self._tell("warning", f"{prefix}the pod's log can't be read: {error.message}")
                return
            except errors.GreylagError:  # a lost connection
                failures += 1
            else:
                if last:
                    return
            self._stopped.wait(following.pause(following.FIRST_PAUSE, failures))


class Seen:
    """Tells new lines from those that are read again. Times are the kubelet's, to the nanosecond; lines of one time are counted."""

    def __init__(self) -> None:
        self._last, self._count, self._again = "", 0, 0

    def rewind(self) -> None:
        """Prepares for reading the lines again from an earlier point."""
        self._again = 0

    def new(self, moment: str) -> bool:
        """Tells whether the line with this time was not read before; lines come in order."""
        time_of_line = _sortable(moment)
        if time_of_line < self._last:
            return False
        if time_of_line > self._last:
            self._last, self._count, self._again = time_of_line, 1, 1
            return True
        self._again += 1
        if self._again <= self._count:
            return False
        self._count += 1
        return True


_known: dict[tuple[str, str], Seen] = {}
"""What this process has read of each pod's log, by run. A worker's process is one run, so there are as many entries as attempts."""


def _sortable(moment: str) -> str:
    """Returns a time as text that sorts correctly: with nine digits after the point, whatever number was written."""
    seconds, _, fraction = moment.rstrip("Z").partition(".")
    return f"{seconds}.{fraction:0<9}"
