"""Argo Rollouts' own status, read as `kubectl argo rollouts status` reads it, and one thing more: fully promoted (kubernetes.md §2.2). Pure."""

from __future__ import annotations

from tasks.kubernetes import objects
from tasks.kubernetes.objects import Json
from tasks.rollout.verdicts import Progress, Verdict

WORKLOAD_GENERATION = "rollout.argoproj.io/workload-generation"
"""The annotation in which the controller notes the generation of the Deployment that `workloadRef` names."""


def observed(rollout: Json) -> bool:
    """Whether the controller has seen the newest specification.

    `observedGeneration` is a string: a number since 0.10, a hash before; a hash says nothing, and is taken as seen.
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
    """The Rollout with the pod template and the selector of the Deployment that its `workloadRef` names, as the controller itself reads it."""
    spec = dict(rollout["spec"])
    spec["template"] = objects.template(referenced)
    spec.setdefault("selector", referenced["spec"].get("selector") or {})
    return {**rollout, "spec": spec}


def status(rollout: Json) -> Verdict:
    """Where the rollout stands; `observed` has been asked before.

    Healthy is not enough: a canary that is paused for ever is not, and a blue-green rollout whose service still points at the old pods is not.
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
