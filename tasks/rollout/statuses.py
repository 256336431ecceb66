"""`kubectl rollout status` (1.36), rule by rule in its order (kubernetes.md §2.1). Pure."""

from __future__ import annotations

from tasks.fleet.models import WorkloadKind
from tasks.kubernetes import objects
from tasks.kubernetes.objects import Json
from tasks.rollout import argo_rollouts
from tasks.rollout.verdicts import Progress, Verdict

UNSEEN = "the controller has not seen the new specification yet"

DEADLINE = "ProgressDeadlineExceeded"


def status(kind: WorkloadKind, workload: Json) -> Verdict:
    """Where the rollout of the workload's newest specification stands."""
    if not observed(kind, workload):
        return Verdict(Progress.WAITING, UNSEEN)
    return {
        WorkloadKind.DEPLOYMENT: _deployment,
        WorkloadKind.STATEFUL_SET: _stateful_set,
        WorkloadKind.DAEMON_SET: _daemon_set,
        WorkloadKind.ROLLOUT: argo_rollouts.status,
    }[kind](workload)


def observed(kind: WorkloadKind, workload: Json) -> bool:
    """Whether the status is about the newest specification. Until then its numbers, and its newest revision, are another release's."""
    if kind is WorkloadKind.ROLLOUT:
        return argo_rollouts.observed(workload)
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
