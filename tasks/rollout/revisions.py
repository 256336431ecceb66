"""Separates the pods of this release's code from those of older code, including those being deleted (kubernetes.md §2.3). Pure.

`status.replicas` does not count a pod that is terminating, but such a pod serves and writes for its whole grace period.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tasks.fleet.models import WorkloadKind
from tasks.kubernetes import objects
from tasks.kubernetes.objects import Json

REVISION = "deployment.kubernetes.io/revision"
CONTROLLER_HASH = "controller-revision-hash"
ROLLOUT_HASH = "rollouts-pod-template-hash"

ALIVE = ("Pending", "Running", "Unknown")
"""Phases of a pod in which a container may run; a node that does not answer leaves `Unknown`."""


@dataclass(frozen=True, slots=True)
class Division:
    """A workload's pods that have not ended."""

    new: tuple[Json, ...] = ()
    old: tuple[Json, ...] = ()

    @property
    def serving(self) -> tuple[Json, ...]:
        """The new pods that are not being deleted."""
        return tuple(pod for pod in self.new if not objects.deleting(pod))

    @property
    def old_names(self) -> tuple[str, ...]:
        """The names of the pods with older code."""
        return tuple(sorted(map(objects.name, self.old)))


def divide(kind: WorkloadKind, workload: Json, revisions: Sequence[Json], pods: Sequence[Json]) -> Division:
    """Separates the pods of the newest revision from all others.

    Args:
        workload: its controller must have seen the newest specification; before that, the newest revision is another release's.
        revisions: a Deployment's ReplicaSets, a DaemonSet's ControllerRevisions; empty for the other kinds, whose status names the revision.
        pods: the pods that match the workload's selector.
    """
    alive = [pod for pod in pods if (pod.get("status") or {}).get("phase", "Unknown") in ALIVE]
    if kind is WorkloadKind.DEPLOYMENT:
        return _by_replica_set(workload, revisions, alive)
    if kind is WorkloadKind.ROLLOUT:
        wanted = str((workload.get("status") or {}).get("currentPodHash", ""))
        # A Deployment that `workloadRef` names may still run pods of its own: older code, without the label.
        owned: Iterable[Json] = [pod for pod in alive if objects.controller(pod).get("kind") == "ReplicaSet"]
        return _by_label(owned, ROLLOUT_HASH, wanted)
    uid = workload["metadata"].get("uid")
    owned = [pod for pod in alive if objects.controller(pod).get("uid") == uid]
    if kind is WorkloadKind.STATEFUL_SET:
        return _by_label(owned, CONTROLLER_HASH, str((workload.get("status") or {}).get("updateRevision", "")))
    newest = max(_owned(workload, revisions), key=lambda item: int(item.get("revision", 0)), default=None)
    return _by_label(owned, CONTROLLER_HASH, objects.label(newest, CONTROLLER_HASH) if newest is not None else "")


def _by_replica_set(workload: Json, replica_sets: Sequence[Json], pods: Iterable[Json]) -> Division:
    owned = _owned(workload, replica_sets)
    newest = max(owned, key=lambda item: int(objects.annotation(item, REVISION) or 0), default=None)
    wanted = newest["metadata"]["uid"] if newest is not None else None
    others = {item["metadata"]["uid"] for item in replica_sets} - {item["metadata"]["uid"] for item in owned}
    new: list[Json] = []
    old: list[Json] = []
    for pod in pods:
        owner = objects.controller(pod)
        if owner.get("uid") == wanted and wanted is not None:
            new.append(pod)
        # With `revisionHistoryLimit: 0`, and after a replacement of the Deployment, an old pod outlives its ReplicaSet.
        elif _of_replica_set(owner) and owner.get("uid") not in others:
            old.append(pod)
    return Division(tuple(new), tuple(old))


def _by_label(pods: Iterable[Json], name: str, wanted: str) -> Division:
    new: list[Json] = []
    old: list[Json] = []
    for pod in pods:
        (new if wanted and objects.label(pod, name) == wanted else old).append(pod)
    return Division(tuple(new), tuple(old))


def _owned(workload: Json, items: Sequence[Json]) -> list[Json]:
    uid = workload["metadata"].get("uid")
    return [item for item in items if objects.controller(item).get("uid") == uid]


def _of_replica_set(owner: Json) -> bool:
    return owner.get("kind", "ReplicaSet") == "ReplicaSet" and bool(owner)
