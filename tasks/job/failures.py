"""Reads the end of a Job from the API's own JSON: complete, failed (with its pod's own error), or stuck for a reason that waiting does not solve. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from migrator import codes, errors
from tasks import redaction
from tasks.job.manifest import container_state
from tasks.kubernetes import objects, waiting
from tasks.kubernetes.objects import Json

NODE_PATIENCE = 5.0
"""The factor by which patience is longer for a missing node: an autoscaler needs minutes to add one."""

START_FAILED = frozenset({"StartError", "ContainerCannotRun"})

LAST_LINES = 20
"""Lines of a pod's output that are shown when it left no outcome: `terminationMessagePolicy` gives up to 80."""


class JobFailed(errors.Relayed):
    """A Job that has failed. It has made all its attempts, so nobody tries again: `transient` is false whatever its exit code says."""

    code = "job-failed"

    @property
    def transient(self) -> bool:
        return False


class Stuck(NamedTuple):
    """The reason why a Job makes no progress. `state` names the trouble and stays the same while it lasts; `patience` is a factor of the usual patience."""

    state: str
    reason: str
    patience: float = 1.0


class End(NamedTuple):
    """The end of one pod's migration. `outcome` is what greylag wrote into the termination message, None if something else stands there."""

    pod: str
    exit_code: int
    reason: str
    text: str
    outcome: Json | None


def finished(job: Json) -> bool:
    """Tells whether a Job and all of its pods have ended."""
    return bool(objects.condition(job, "Complete", "Failed"))


def doomed(job: Json) -> bool:
    """Tells whether a Job has failed or will fail, which is known before its last pod has ended (kubernetes.md §1.3)."""
    return bool(objects.condition(job, "Failed", "FailureTarget"))


def ends(pods: Iterable[Json]) -> list[End]:
    """Returns the ends of the pods' migrations, oldest pod first; leaves out pods that have not ended."""
    found = []
    for pod in sorted(pods, key=age):
        terminated = container_state(pod).get("terminated")
        if terminated:
            text = redaction.clean(str(terminated.get("message") or ""))
            found.append(
                End(pod["metadata"]["name"], int(terminated.get("exitCode", 1)), str(terminated.get("reason") or ""), text, _outcome(text))
            )
    return found


def failure(job: Json, pods: Sequence[Json], label: str) -> JobFailed:
    """Returns the error for a failed Job: its last pod's own error, and the reason why there was no further attempt.

    Args:
        pods: the Job's pods, as they were last read: Kubernetes deletes the pods of a Job that was over its deadline.
        label: the target's name, as people write it.
    """
    verdict = objects.condition(job, "Failed", "FailureTarget")
    why = str(verdict.get("reason") or "Failed")
    name = f"{job['metadata'].get('namespace', '')}/{job['metadata']['name']}"
    known = ends(pods)
    failed = [end for end in known if end.exit_code != 0]
    attempts = max(int((job.get("status") or {}).get("failed") or 0), len(failed))
    place = f"Job {name}, {attempts} attempt(s), {why}"
    if why == "DeadlineExceeded":
        last = failed[-1].text if failed and failed[-1].outcome is None else ""
        return JobFailed(
            f"{label}: the Job was over its activeDeadlineSeconds ({place})",
            code="deadline-exceeded",
            hint="what was finished is recorded, the next run goes on from there; active_deadline_seconds gives it more time",
            detail=_tail(last),
        )
    if not failed:
        return JobFailed(
            f"{label}: {place}: {verdict.get('message') or 'no pod is left that says why'}",
            hint=f"`kubectl -n {job['metadata'].get('namespace', '')} describe job {job['metadata']['name']}`",
        )
    deciding = [end for end in failed if end.exit_code in errors.PERMANENT] if why == "PodFailurePolicy" else []
    return _in_its_own_words((deciding or failed)[-1], label, place, job)


def _in_its_own_words(end: End, label: str, place: str, job: Json) -> JobFailed:
    told = (end.outcome or {}).get("error") or {}
    if told:
        path = str(told.get("file") or "")
        return JobFailed(
            f"{told.get('message', '')}\n({label}, {place})",
            code=codes.recognised(told.get("code"), end.exit_code, otherwise=JobFailed.code),
            hint=str(told.get("hint") or ""),
            where=errors.Location(path, told.get("line")) if path else None,
            detail=str(told.get("detail") or ""),
        )
    namespace, name = job["metadata"].get("namespace", ""), job["metadata"]["name"]
    logs = f"`kubectl -n {namespace} logs {end.pod}`"
    if end.reason == "OOMKilled":
        return JobFailed(
            f"{label}: the migration was killed for want of memory ({place})",
            code="out-of-memory",
            hint="raise job.resources.limits.memory in fleet.yaml",
            detail=_tail(end.text),
        )
    if end.reason in START_FAILED:
        return JobFailed(
            f"{label}: the image can't start the command: {end.text} ({place})",
            code="command-not-started",
            hint="the service's image needs greylag in it, on PATH or where job.command of fleet.yaml says",
        )
    return JobFailed(
        f"{label}: {end.pod} ended with exit code {end.exit_code}{f' ({end.reason})' if end.reason not in ('', 'Error') else ''} ({place})",
        code=codes.recognised(None, end.exit_code, otherwise=JobFailed.code),
        hint=f"{logs}, or `kubectl -n {namespace} describe job {name}`",
        detail=_tail(end.text),
    )


def stuck(job: Json, pods: Sequence[Json], events: Sequence[Json]) -> Stuck | None:
    """Returns the reason why the Job makes no progress; None when it does. No such state ends by itself, or counts as an attempt (kubernetes.md §1.1, §1.6).

    Args:
        pods: the Job's pods. events: those about the Job and about its pods.
    """
    for pod in pods:
        if (pod.get("status") or {}).get("phase", "Pending") != "Pending":
            continue
        if (found := _waiting(pod)) is not None:
            return found
        scheduled: Json = next((item for item in pod["status"].get("conditions") or () if item.get("type") == "PodScheduled"), {})
        if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
            return Stuck("node", f"Unschedulable: {scheduled.get('message', '')}", NODE_PATIENCE)
        mount = _newest(events, "FailedMount", pod["metadata"].get("uid", ""))
        if mount:
            return Stuck("volume", f"FailedMount: {redaction.clean(str(mount.get('message', '')))}")
    if not pods or not any((pod.get("status") or {}).get("phase") in ("Pending", "Running") for pod in pods):
        refused = _newest(events, "FailedCreate", job["metadata"].get("uid", ""))
        if refused and _time(refused) >= max((str(pod["metadata"].get("creationTimestamp", "")) for pod in pods), default=""):
            return Stuck("pod", f"FailedCreate: {refused.get('message', '')}")
    return None


def _waiting(pod: Json) -> Stuck | None:
    """Returns the trouble that a container of the pod waits for, the migration's or a sidecar's; None when nothing is wrong."""
    for status in objects.container_statuses(pod):
        found = waiting.read(status)
        if found is not None and found.trouble is not None:
            reason = f"{found.reason}: {redaction.clean(found.message)}".rstrip(": ")
            return Stuck(str(found.trouble), reason, 0.0 if found.hopeless else 1.0)
    return None


STUCK: Mapping[str, tuple[str, str]] = {
    "image": ("image-not-pulled", "is the image pushed, and is its name right (job.image in fleet.yaml, the run's `image`)?"),
    "container": ("container-not-created", "what the message names must exist in that namespace: a Secret, a key, a ConfigMap"),
    "volume": ("secret-not-mounted", "the Secret must exist in that namespace (job.secret in fleet.yaml)"),
    "node": ("pod-unschedulable", "the cluster has no node for it: look at job.resources and job.node_selector"),
    "pod": ("pod-not-created", "a quota, an admission rule or a missing service account: the message says which"),
}
"""The error's code and hint for each state of `Stuck`."""


def stuck_error(found: Stuck, job: Json, label: str, *, deleted: bool) -> JobFailed:
    """Returns the error for a stuck Job; `deleted`: whether the Job is gone by now, so that nothing will run once the trouble is over."""
    namespace, name = job["metadata"].get("namespace", ""), job["metadata"]["name"]
    code, hint = STUCK[found.state]
    return JobFailed(
        f"{label}: Job {namespace}/{name} does not get on: {found.reason}",
        code=code,
        hint=f"{hint}. Nothing was changed, and the Job was deleted"
        if deleted
        else f"{hint}. Nothing was changed, but the Job is still there: `kubectl -n {namespace} delete job {name}`",
    )


def lost(pod: dict[str, Any]) -> dict[str, Any]:
    """Marks a pod that is gone: it stays as it was last read; one that had not ended gets the phase Unknown."""
    state = pod.get("status") or {}
    return pod if state.get("phase") in ("Succeeded", "Failed") else {**pod, "status": {**state, "phase": "Unknown"}}


def age(pod: Json) -> tuple[str, ...]:
    """Returns a key that sorts pods by their time. Times are whole seconds, so the migration's start and end decide between equal ones."""
    terminated = container_state(pod).get("terminated") or {}
    moments = (pod["metadata"].get("creationTimestamp"), terminated.get("startedAt"), terminated.get("finishedAt"))
    return (*(str(moment or "") for moment in moments), str(pod["metadata"]["name"]))


def _newest(events: Sequence[Json], reason: str, uid: str) -> Json | None:
    own = [item for item in events if item.get("reason") == reason and (item.get("involvedObject") or {}).get("uid") == uid]
    return max(own, key=_time, default=None)


def _time(event: Json) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")


def _outcome(text: str) -> Json | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "greylag" in found else None


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LAST_LINES:])
