"""The status of a rollout: the rules of `kubectl rollout status` (1.36) in their order, and for Argo Rollouts those of `kubectl argo rollouts status`
and one more, that it is fully promoted (kubernetes.md §2.1, §2.2). Pure.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from tasks.fleet.models import WorkloadKind
from tasks.kubernetes import objects
from tasks.kubernetes.objects import Json

UNSEEN = "the controller has not seen the new specification yet"

DEADLINE = "ProgressDeadlineExceeded"

WORKLOAD_GENERATION = "rollout.argoproj.io/workload-generation"
"""The annotation in which the controller notes the generation of the Deployment that `workloadRef` names."""


class Progress(enum.Enum):
    """The progress of a rollout."""

    NOT_YET = "not rolled out yet"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A progress and the reason for it."""

    progress: Progress
    reason: str


def status(kind: WorkloadKind, workload: Json) -> Verdict:
    """Returns the progress of the rollout of the workload's newest specification."""
    if not observed(kind, workload):
        return Verdict(Progress.WAITING, UNSEEN)
    return {
        WorkloadKind.DEPLOYMENT: _deployment,
        WorkloadKind.STATEFUL_SET: _stateful_set,
        WorkloadKind.DAEMON_SET: _daemon_set,
        WorkloadKind.ROLLOUT: _rollout,
    }[kind](workload)


def observed(kind: WorkloadKind, workload: Json) -> bool:
    """Tells whether the status is about the newest specification. Until then its numbers and its newest revision belong to another release."""
    if kind is WorkloadKind.ROLLOUT:
        return _rollout_observed(workload)
    seen = int((workload.get("status") or {}).get("observedGeneration") or 0)
    return seen >= objects.generation(workload) and (seen > 0 or kind is not WorkloadKind.STATEFUL_SET)


def _deployment(workload: Json) -> Verdict:
    spec, state = workload["spec"], workload.get("status") or {}
    name = objects.name(workload)
    conditions = {item.get("type"): item for item in state.get("conditions") or ()}
    progressing = conditions.get("Progressing", {})
    if progressing.get("reason") == DEADLINE:
        return Verdict(Progress.FAILED, f"{DEADLINE}: {progressing.get('message') or f'{name} made no progress in time'}")
    if spec.get("paused"):  # kubectl would wait until its own time-out without saying why
        return Verdict(Progress.WAITING, f"the rollout is paused: `kubectl rollout resume deployment/{name}` goes on")
    updated, total, available = (int(state.get(key, 0)) for key in ("updatedReplicas", "replicas", "availableReplicas"))
    wanted = int(spec.get("replicas", 1))
    failure = conditions.get("ReplicaFailure", {})
    if updated < wanted:
        why = f" ({failure.get('reason')}: {failure.get('message')})" if failure.get("status") == "True" else ""
        return Verdict(Progress.WAITING, f"{updated} of {wanted} new replicas have been updated{why}")
    if total > updated:
        return Verdict(Progress.WAITING, f"{total - updated} old replicas are pending termination")
    if available < updated:
        return Verdict(Progress.WAITING, f"{available} of {updated} updated replicas are available")
    return Verdict(Progress.DONE, f"{available} of {wanted} replicas are updated and available")


def _stateful_set(workload: Json) -> Verdict:
    spec, state = workload["spec"], workload.get("status") or {}
    if (found := _rolling_only(spec, "StatefulSet")) is not None:
        return found
    wanted, ready, updated = int(spec.get("replicas", 1)), int(state.get("readyReplicas", 0)), int(state.get("updatedReplicas", 0))
    if ready < wanted:
        return Verdict(Progress.WAITING, f"{ready} of {wanted} pods are ready")
    rolling = (spec.get("updateStrategy") or {}).get("rollingUpdate")
    if rolling is not None and rolling.get("partition") is not None:
        needed = wanted - int(rolling["partition"])
        if updated < needed:
            return Verdict(Progress.WAITING, f"{updated} of {needed} pods of the partition are updated")
        return Verdict(Progress.DONE, f"{updated} pods are updated, {ready} ready")
    if state.get("updateRevision") != state.get("currentRevision"):
        return Verdict(Progress.WAITING, f"{updated} pods are at revision {state.get('updateRevision')}")
    return Verdict(Progress.DONE, f"{state.get('currentReplicas', ready)} pods are at revision {state.get('currentRevision')}")


def _daemon_set(workload: Json) -> Verdict:
    spec, state = workload["spec"], workload.get("status") or {}
    if (found := _rolling_only(spec, "DaemonSet")) is not None:
        return found
    wanted = int(state.get("desiredNumberScheduled", 0))
    for key, words in (("updatedNumberScheduled", "updated"), ("numberAvailable", "available")):
        if int(state.get(key, 0)) < wanted:
            return Verdict(Progress.WAITING, f"{int(state.get(key, 0))} of {wanted} pods are {words}")
    return Verdict(Progress.DONE, f"{wanted} of {wanted} pods are updated and available")


def _rolling_only(spec: Json, kind: str) -> Verdict | None:
    strategy = (spec.get("updateStrategy") or {}).get("type", "RollingUpdate")
    if strategy == "RollingUpdate":
        return None
    return Verdict(Progress.FAILED, f"the {kind}'s update strategy is {strategy}: its rollout can't be awaited")


def _rollout_observed(rollout: Json) -> bool:
    """Tells whether the controller has seen the newest specification.

    `observedGeneration` is a string: a number since 0.10, a hash before; a hash tells nothing, and counts as seen.
    """
    state = rollout.get("status") or {}
    seen, generation = str(state.get("observedGeneration", "")), objects.generation(rollout)
    if not seen:
        return False
    if seen.isascii() and seen.isdigit() and int(seen) < generation:
        return False
    if (rollout["spec"].get("workloadRef") or {}).get("name"):
        noted, read = objects.annotation(rollout, WORKLOAD_GENERATION), str(state.get("workloadObservedGeneration", ""))
        return not noted or not read or noted == read
    return True


def resolved(rollout: Json, referenced: Json) -> Json:
    """Returns the Rollout with the pod template and the selector of the Deployment that its `workloadRef` names, as the controller itself reads it."""
    spec = dict(rollout["spec"])
    spec["template"] = objects.template(referenced)
    spec.setdefault("selector", referenced["spec"].get("selector") or {})
    return {**rollout, "spec": spec}


def _rollout(rollout: Json) -> Verdict:
    """Returns the progress of an Argo Rollout, of which `_rollout_observed` was true.

    The phase Healthy is not enough: a canary may be paused for ever, and a blue-green rollout's service may still point at the old pods.
    """
    state, name = rollout.get("status") or {}, objects.name(rollout)
    phase, message = str(state.get("phase") or "Progressing"), str(state.get("message") or "")
    if state.get("abort"):
        return Verdict(Progress.FAILED, f"the rollout was aborted{f': {message}' if message else ''}")
    if phase == "Degraded":
        return Verdict(Progress.FAILED, f"Degraded: {message or 'the controller gives no reason'}")
    if state.get("controllerPause") and not state.get("pauseConditions"):
        return Verdict(Progress.WAITING, "the controller has not resumed the rollout yet")
    if phase == "Paused":
        return Verdict(Progress.WAITING, f"Paused{f' ({message})' if message else ''}: `kubectl argo rollouts promote {name}` goes on")
    if phase != "Healthy":
        return Verdict(Progress.WAITING, f"{phase}{f': {message}' if message else ''}")
    current = state.get("currentPodHash")
    if not current or state.get("stableRS") != current:
        return Verdict(Progress.WAITING, "the new pods are not the stable ones yet")
    active = (state.get("blueGreen") or {}).get("activeSelector")
    if "blueGreen" in (rollout["spec"].get("strategy") or {}) and active != current:
        return Verdict(Progress.WAITING, "the active service does not select the new pods yet")
    return Verdict(Progress.DONE, f"{state.get('availableReplicas', 0)} replicas are promoted and available")
