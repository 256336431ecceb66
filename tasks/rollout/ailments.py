"""The troubles of a release's pods: images that can't be pulled, missing references, crash loops; and the things they merely wait for. Pure.

None of these by itself makes the pod fail (kubernetes.md §1.6); a Deployment notices after its progress deadline, ten minutes by default.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from migrator import errors
from tasks.kubernetes import objects, waiting
from tasks.kubernetes.objects import Json
from tasks.kubernetes.waiting import Waiting

PATIENCE = 60.0
"""Seconds after which a container that can't be created counts as stuck. Registries have hiccups, a Secret may come a moment after its pod, and the
kubelet's first tries fall into this time."""

CRASHES = 3
"""Restarts that make a crash loop. A program that starts before the proxy or the DNS it needs may restart twice; the third restart comes after the
kubelet has waited 10 and then 20 seconds."""


@dataclass(frozen=True, slots=True)
class Ailment:
    """A container in trouble.

    Args:
        reason: the trouble, in one line.
        message: the container's termination message, or the kubelet's message about it.
        previous: whether its last words are in the previous instance's log. None when there can be no log.
    """

    pod: str
    container: str
    reason: str
    message: str = ""
    previous: bool | None = None


def worst(pods: Sequence[Json], gates: Sequence[str], now: datetime) -> Ailment | None:
    """Returns a container that will not start by itself; None while all still may.

    Args:
        pods: this release's only, because an older one's troubles may be the reason for the release.
        gates: init containers that run `greylag wait`. One that waits, or ended with a transient code and is started again, is not in trouble;
        one that ended with a permanent code would end so again.
    """
    for pod, item in _statuses(pods):
        found = _stuck(pod, item, now) or _crashing(pod, item, gates)
        if found is not None:
            return found
    return None


def suspect(pods: Sequence[Json]) -> Ailment | None:
    """Returns the container that most likely holds a failed rollout up, so that its last words can be shown."""
    seen = [(pod, item) for pod, item in _statuses(pods) if not item.get("ready")]
    for pod, item in seen:
        if _code(item) or (_code(item) is not None and item.get("restartCount")):
            return _ended(pod, item, f"container {item['name']} of pod {objects.name(pod)} {_story(item)}")
    for pod, item in seen:
        if (found := waiting.read(item)) is not None and found.telling:
            return _waiting(pod, found)
    for pod, item in seen:
        if "running" in (item.get("state") or {}):
            reason = f"container {item['name']} of pod {objects.name(pod)} runs and is not ready"
            return Ailment(objects.name(pod), item["name"], reason, previous=False)
    return None


def remark(pods: Sequence[Json], gates: Sequence[str]) -> str:
    """Says in words what an unfinished rollout waits for; returns an empty text when the pods don't say."""
    for pod in pods:
        for condition in (pod.get("status") or {}).get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                return f"pod {objects.name(pod)} can't be scheduled: {condition.get('message') or condition.get('reason')}"
    for pod, item in _statuses(pods):
        state, code = item.get("state") or {}, _code(item)
        if item.get("name") in gates and ("running" in state or code):
            return f"pod {objects.name(pod)} waits for the schema"
        if code and not item.get("ready"):
            return f"container {item['name']} of pod {objects.name(pod)} {_story(item)}"
        if (found := waiting.read(item)) is not None and found.telling:
            return _waiting(pod, found).reason
    return ""


def _stuck(pod: Json, item: Json, now: datetime) -> Ailment | None:
    found = waiting.read(item)
    if found is not None and found.trouble is not None and (found.hopeless or _waited(pod, item, now) > PATIENCE):
        return _waiting(pod, found)
    return None


def _crashing(pod: Json, item: Json, gates: Sequence[str]) -> Ailment | None:
    code, state = _code(item), item.get("state") or {}
    if code is None:
        return None
    if item.get("name") in gates:
        if code == 0 or code in errors.TRANSIENT:
            return None
        if code in errors.PERMANENT:
            words = f"init container {item['name']} of pod {objects.name(pod)} ended with {code}, which no retry mends"
            return _ended(pod, item, words)
    looping = (state.get("waiting") or {}).get("reason") == waiting.CRASH_LOOP or (code != 0 and "terminated" in state)
    if not looping or int(item.get("restartCount", 0)) < CRASHES:
        return None
    return _ended(pod, item, f"crash loop: container {item['name']} of pod {objects.name(pod)} {_story(item)}")


def _ended(pod: Json, item: Json, reason: str) -> Ailment:
    # While it waits or runs again, its last words are the previous instance's; "terminated" is still the current instance.
    previous = "terminated" not in (item.get("state") or {})
    return Ailment(objects.name(pod), item["name"], reason, str((_end(item) or {}).get("message") or ""), previous)


def _waiting(pod: Json, found: Waiting) -> Ailment:
    reason = f"{found.reason}: pod {objects.name(pod)}, container {found.container}, image {found.image}"
    return Ailment(objects.name(pod), found.container, reason, found.message)


def _story(item: Json) -> str:
    end = _end(item) or {}
    word = end.get("reason", "")
    said = f" ({word})" if word not in ("", "Error", "Completed") else ""
    restarts = int(item.get("restartCount", 0))
    again = f", restarted {restarts} {'time' if restarts == 1 else 'times'}" if restarts else ""
    return f"ended with exit code {end.get('exitCode')}{said}{again}"


def _statuses(pods: Iterable[Json]) -> Iterator[tuple[Json, Json]]:
    for pod in sorted(pods, key=objects.name):
        for item in objects.container_statuses(pod):
            yield pod, item


def _end(item: Json) -> Json | None:
    """Returns the container's last end; None when it has not ended yet."""
    now = (item.get("state") or {}).get("terminated")
    found: Json | None = now if now is not None else (item.get("lastState") or {}).get("terminated")
    return found


def _code(item: Json) -> int | None:
    end = _end(item)
    return None if end is None else int(end.get("exitCode", 0))


def _waited(pod: Json, item: Json, now: datetime) -> float:
    """Returns the seconds since it could have been created: an init container before it may have waited long for the schema."""
    seconds = objects.age(pod, now)
    before = (pod.get("status") or {}).get("initContainerStatuses") or ()
    for each in (*before, item):
        finished = (_end(each) or {}).get("finishedAt")
        if finished:
            seconds = min(seconds, objects.since(finished, now))
    return seconds
