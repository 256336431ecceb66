"""A pod's status as the kubelet writes it, made from its containers' states. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.cluster.api import Object

PENDING, RUNNING, SUCCEEDED, FAILED = "Pending", "Running", "Succeeded", "Failed"
OVER = (SUCCEEDED, FAILED)
KILLED = 137  # 128 + SIGKILL: reported for a container whose end was not seen


def now() -> str:
    """Returns the time as Kubernetes writes it, to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def waiting(reason: str, message: str = "") -> Object:
    """Returns a container's state before it runs."""
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def running(since: str) -> Object:
    """Returns a container's state while it runs."""
    return {"running": {"startedAt": since}}


def terminated(code: int, *, since: str | None, message: str = "", reason: str = "", identity: str = "") -> Object:
    """Returns a container's state after its end."""
    word = reason or ("Completed" if code == 0 else "Error")
    state: Object = {"exitCode": code, "reason": word, "startedAt": since, "finishedAt": now() if since else None}
    if message:
        state["message"] = message
    if identity:
        state["containerID"] = identity
    return {"terminated": state}


def exit_code(state: Mapping[str, Any]) -> int | None:
    """Returns the exit code of a terminated container."""
    end = state.get("terminated")
    return None if end is None else int(end["exitCode"])


def conditions(phase: str, *, sandbox: bool, initialised: bool, ready: bool, before: Sequence[Object]) -> list[Object]:
    """Returns the conditions that a kubelet owns; the time of a transition is kept while the condition stays the same.

    Args:
        phase: the pod's.
        sandbox: whether its volumes and network are ready.
        initialised: whether its init containers have passed.
        ready: whether all its containers are ready.
        before: the conditions reported last.
    """
    serving = ready and phase == RUNNING
    incomplete = "PodCompleted" if phase in OVER else "ContainersNotReady"
    wanted = [
        ("PodReadyToStartContainers", sandbox and phase not in OVER, ""),
        (
            "Initialized",
            initialised,
            "PodCompleted" if initialised and phase == SUCCEEDED else "" if initialised else "ContainersNotInitialized",
        ),
        ("ContainersReady", serving, "" if serving else incomplete),
        ("Ready", serving, "" if serving else incomplete),
    ]
    known = {condition["type"]: condition for condition in before}
    found = []
    for kind, holds, reason in wanted:
        status = "True" if holds else "False"
        earlier = known.get(kind, {})
        since = earlier.get("lastTransitionTime") if earlier.get("status") == status else None
        found.append({"type": kind, "status": status, "reason": reason or None, "lastTransitionTime": since or now()})
    return found


def final_phase(codes: Sequence[int | None]) -> str:
    """Returns the phase of a pod whose containers have all ended: Succeeded if all ended with 0."""
    return SUCCEEDED if all(code == 0 for code in codes) else FAILED
