"""A watch without a gap: lists, watches from there, and goes on after whatever a network or an API server does (kubernetes.md §1.5).

The clients' own watches hang on half-open connections, retry a 410 with the version that has expired, or drop bookmarks. Here a stream is kept short,
so that a silent connection is noticed; after a 410 everything is listed again; a lost connection goes on from the last version that was seen.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from migrator import errors

Json = dict[str, Any]

WINDOW_SECONDS = 10
"""How long one stream lasts before it is opened again: a watcher that is told to stop is gone by then, and a dead connection soon known as one."""

FIRST_DELAY, LONGEST_DELAY = 0.25, 5.0
"""Seconds before a failed call is made again; doubled each time, with jitter, so that watchers don't return in step."""

OUTAGE_SECONDS = 120.0
"""An API server that has not answered for so long is not being restarted. The Job goes on; the next attempt adopts it."""


class Expired(Exception):
    """410: what has changed since that resource version is no longer known; list again."""


class Page(NamedTuple):
    """A list and the resource version that a watch goes on from."""

    items: list[Json]
    version: str


class Source(Protocol):
    """A collection that can be listed and watched."""

    def list(self) -> Page: ...

    def watch(self, version: str, seconds: int) -> Iterator[tuple[str, Json]]: ...


class Change(NamedTuple):
    """What is so now: `listed` has everything there is, `present` the object as it is, `absent` the object as it last was."""

    kind: str
    objects: tuple[Json, ...]


LISTED, PRESENT, ABSENT = "listed", "present", "absent"


def follow(
    source: Source,
    stopped: threading.Event,
    *,
    window: int = WINDOW_SECONDS,
    outage: float = OUTAGE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Change]:
    """All changes from now on, beginning with a list. Ends once `stopped` is set, at the latest after a window.

    Args:
        window: seconds that one stream lasts. outage: seconds without any answer after which it gives up.

    Raises LoginFailed, NotFound, UsageError at once; Unavailable after `outage`.
    """
    version, failures, silent_since = "", 0, None
    while not stopped.is_set():
        try:
            if not version:
                page = source.list()
                version = page.version
                yield Change(LISTED, tuple(page.items))
            for kind, found in source.watch(version, window):
                version = str(found.get("metadata", {}).get("resourceVersion") or version)
                if kind == "DELETED":
                    yield Change(ABSENT, (found,))
                elif kind != "BOOKMARK":
                    yield Change(PRESENT, (found,))
                failures, silent_since = 0, None
                if stopped.is_set():
                    return
            failures, silent_since = 0, None
        except Expired:
            version = ""
            failures += 1
        except (errors.Unavailable, errors.TimedOut):
            failures += 1
            silent_since = clock() if silent_since is None else silent_since
            if clock() - silent_since > outage:
                raise
        if failures > 1:
            stopped.wait(delay(failures - 1))


def delay(failures: int) -> float:
    """Seconds before the next try, for the number of failures in a row."""
    longest = min(FIRST_DELAY * 2.0 ** min(failures - 1, 16), LONGEST_DELAY)
    return random.uniform(longest / 2, longest)


def patiently(action: Callable[[], Any], seconds: float = 30.0, *, sleep: Callable[[float], None] = time.sleep) -> Any:
    """What `action` gives, tried again for these seconds while the API server is busy or away; `action` must be safe to repeat.

    Raises what it raises: at once for a refusal, Unavailable once the time is over.
    """
    started, failures = time.monotonic(), 0
    while True:
        try:
            return action()
        except errors.Unavailable:
            failures += 1
            if time.monotonic() - started > seconds:
                raise
            sleep(delay(failures))
