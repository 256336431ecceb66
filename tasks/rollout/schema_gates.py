"""The app's own schema gate: finds the init containers that run `greylag wait`, and tells whether they have passed (kubernetes.md §2.4). Pure.

A gate holds a pod back until the database has the newest version of the image's own files, so that the order does not depend on a hook.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from tasks.kubernetes import objects
from tasks.kubernetes.objects import Json
from tasks.rollout.statuses import Progress, Verdict

PROGRAM = "greylag"
MODULE = "migrator.cli"
"""The module after `python -m`, for images that have no command `greylag` on PATH."""

ABSENT = "no init container runs `greylag wait`: nothing but this run's order keeps the program from an older schema"


def gates(workload: Json) -> tuple[str, ...]:
    """Returns the names of the pod template's init containers whose command is `greylag … wait`, in order."""
    return tuple(str(item.get("name", "")) for item in objects.init_containers(workload) if _waits(item))


def passed(names: Sequence[str], pods: Sequence[Json]) -> Verdict:
    """Tells whether every gate has passed in every pod: DONE or WAITING; the reason of DONE can be shown in an outcome.

    Args:
        names: the gates' names; without any there is nothing to wait for, and the reason says so.
        pods: those of this release that are not being deleted.
    """
    if not names:
        return Verdict(Progress.DONE, ABSENT)
    for pod in pods:
        for name in names:
            if not _passed(pod, name):
                return Verdict(Progress.WAITING, f"init container {name} of pod {objects.name(pod)} has not passed yet")
    if not pods:
        return Verdict(Progress.DONE, "no pod is wanted, so `greylag wait` has not been run")
    return Verdict(Progress.DONE, f"`greylag wait` has passed in {len(pods)} {'pod' if len(pods) == 1 else 'pods'}")


def _waits(container: Json) -> bool:
    if container.get("restartPolicy") == "Always":  # a sidecar: nothing waits for its end
        return False
    command, arguments = _words(container.get("command")), _words(container.get("args"))
    if not command:  # the image's entrypoint runs
        return _is_greylag_image(str(container.get("image", ""))) and "wait" in arguments
    words = command + arguments
    start = next((place for place, word in enumerate(words) if word.rpartition("/")[2] == PROGRAM or word == MODULE), None)
    return start is not None and "wait" in words[start + 1 :]


def _is_greylag_image(text: str) -> bool:
    name = text.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return name == PROGRAM


def _words(parts: Sequence[str] | None) -> list[str]:
    """Returns the words of a command line, including those inside `sh -c "…"`."""
    found: list[str] = []
    for part in parts or ():
        try:
            found += shlex.split(part, comments=True) if any(map(str.isspace, part)) else [part]
        except ValueError:  # a shell script with an odd quote
            found += part.split()
    return [word.rstrip(";") for word in found]


def _passed(pod: Json, name: str) -> bool:
    state = pod.get("status") or {}
    item: Json = next((each for each in state.get("initContainerStatuses") or () if each.get("name") == name), {})
    end = (item.get("state") or {}).get("terminated")
    if end is not None:
        return int(end.get("exitCode", -1)) == 0
    if "running" in (item.get("state") or {}):
        return False
    # A node that was restarted has lost the states of init containers; but it would have run them again before it reported this.
    return any(each.get("type") == "Initialized" and each.get("status") == "True" for each in state.get("conditions") or ())
