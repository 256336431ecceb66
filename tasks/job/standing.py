"""Finds the newest migration Job of a service, and tells how it ended: pure functions over the API's own JSON (kubernetes.md §1.3, §1.6).

A migration Job is recognised by the label `app.kubernetes.io/component=migration`, or by its name if a chart leaves the label out, as the usual
recipe does.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from tasks.fleet.models import Target
from tasks.kubernetes import objects, waiting
from tasks.kubernetes.objects import Json

COMPONENT = "app.kubernetes.io/component"
MIGRATION = "migration"

NAMES = ("app.kubernetes.io/name", "app.kubernetes.io/instance")
"""Labels that name a service: Helm's two."""

SUFFIXES = ("-migrate", "-migration", "-mig")
"""The endings that follow a service's name in its Job's name."""


class JobState(enum.StrEnum):
    """The state of a Job."""

    COMPLETE = "complete"
    FAILED = "failed"
    RUNNING = "running"
    SUSPENDED = "suspended"


def newest(jobs: Sequence[Json], target: Target) -> Json | None:
    """Returns the service's newest migration Job; None when there is none."""
    own = [job for job in jobs if belongs(job, target)]
    return max(own, key=lambda job: str(job["metadata"].get("creationTimestamp") or ""), default=None)


def belongs(job: Json, target: Target) -> bool:
    """Tells whether a Job is a migration of this service."""
    metadata = job["metadata"]
    labels: Json = metadata.get("labels") or {}
    own = {target.service, target.workload.name}
    if any(_named(str(metadata.get("name", "")), name + suffix) for name in own for suffix in SUFFIXES):
        return True
    return labels.get(COMPONENT) == MIGRATION and any(labels.get(name) in own for name in NAMES)


def _named(name: str, wanted: str) -> bool:
    return name == wanted or name.startswith(wanted + "-")


def state(job: Json) -> JobState:
    """Returns a Job's state. It has failed as soon as the controller has decided so (`FailureTarget`), though its pods may still be ending."""
    if objects.condition(job, "Failed", "FailureTarget"):
        return JobState.FAILED
    if objects.condition(job, "Complete", "SuccessCriteriaMet"):
        return JobState.COMPLETE
    return JobState.SUSPENDED if objects.condition(job, "Suspended") else JobState.RUNNING


def ended(job: Json) -> str:
    """Describes a Job's state in one line: state, since when, why, how many pods."""
    found, status = state(job), job.get("status") or {}
    words = [str(found)]
    deciding = {JobState.FAILED: ("Failed", "FailureTarget"), JobState.COMPLETE: ("Complete",)}.get(found, ())
    condition = objects.condition(job, *deciding)
    if when := status.get("completionTime") or condition.get("lastTransitionTime") or status.get("startTime"):
        words.append(f"{'since' if found is JobState.RUNNING else 'at'} {when}")
    counts = [f"{status[key]} {key}" for key in ("succeeded", "failed", "active") if status.get(key)]
    why = (
        f"{condition['reason']}: {condition.get('message', '')}".rstrip(": ")
        if found is JobState.FAILED and condition.get("reason")
        else ""
    )
    return ", ".join([" ".join(words), *([f"pods: {', '.join(counts)}"] if counts else []), *([why] if why else [])])


def pods_of(job: Json, pods: Sequence[Json]) -> list[Json]:
    """Returns a Job's own pods, oldest first. The owner decides, because anybody can set a label."""
    own = [pod for pod in pods if objects.owned_by(pod, str(job["metadata"].get("uid")))]
    return sorted(own, key=lambda pod: str(pod["metadata"].get("creationTimestamp") or ""))


def pod_ended(pod: Json) -> str:
    """Describes a pod's state in a few words: its phase, its containers' exit codes or what they wait for."""
    status = pod.get("status") or {}
    words = [str(status.get("phase", "Unknown")).lower()]
    if status.get("reason"):
        words.append(str(status["reason"]))
    for item in objects.container_statuses(pod):
        wait = waiting.read(item)
        if end := (item.get("state") or {}).get("terminated"):
            words.append(f"{item['name']} ended with exit code {end.get('exitCode')}")
        elif wait is not None and wait.reason != "PodInitializing":
            words.append(f"{item['name']} waits: {wait.reason}: {wait.message}".rstrip(": "))
    return ", ".join(words)


def containers(pod: Json) -> list[str]:
    """Returns the names of a pod's containers, in the order in which they run."""
    spec = pod.get("spec") or {}
    return [str(item["name"]) for item in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]]
