"""The order in which Argo CD applies a set of manifests, as a pure function: phase, then wave, then kind, then name.

A model of Argo CD's rules (kubernetes.md §3.1), so that a layout can be judged without a controller; the real one is asked the same in
the tests that run it. It answers what a migration Job hangs on: whether everything that its pod refers to was applied before it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]

HOOK, WAVE = "argocd.argoproj.io/hook", "argocd.argoproj.io/sync-wave"
HELM_HOOK, HELM_WEIGHT = "helm.sh/hook", "helm.sh/hook-weight"


class Phase(enum.IntEnum):
    """The phases of a sync, in their order. An object without a hook is in `SYNC`."""

    PRE_SYNC = 0
    SYNC = 1
    POST_SYNC = 2
    SYNC_FAIL = 3


_PHASES = {"PreSync": Phase.PRE_SYNC, "Sync": Phase.SYNC, "PostSync": Phase.POST_SYNC, "SyncFail": Phase.SYNC_FAIL}
_OTHER_HOOKS = frozenset({"Skip", "PreDelete", "PostDelete"})
_HELM_PHASES = {
    "pre-install": Phase.PRE_SYNC,
    "pre-upgrade": Phase.PRE_SYNC,
    "post-install": Phase.POST_SYNC,
    "post-upgrade": Phase.POST_SYNC,
}

KINDS = (
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
)
"""Kinds in the order in which they are applied within a wave; every other kind comes after them."""


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Task:
    """One object in one phase; tasks compare as Argo CD applies them. `hook` tells an object that is no part of the compared state."""

    phase: Phase
    wave: int
    position: int
    name: str
    kind: str
    hook: bool = dataclasses.field(compare=False)
    object: Object = dataclasses.field(compare=False, repr=False, hash=False)

    @property
    def step(self) -> tuple[Phase, int]:
        """The phase and the wave: the next step begins when everything of this one is healthy, and a hook has ended."""
        return self.phase, self.wave


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    """What a pod can't start without."""

    kind: str
    name: str


def tasks(objects: Iterable[Object]) -> tuple[Task, ...]:
    """Returns the tasks of a whole sync in their order. An object whose hook belongs to several phases is a task in each; one that belongs to none is left out.

    Raises ValueError for a wave that is no number: Argo CD takes it for 0 in silence.
    """
    found = [task for item in objects for task in _of(item)]
    return tuple(sorted(_with_namespaces_early(found)))


def steps(objects: Iterable[Object]) -> tuple[tuple[tuple[Phase, int], tuple[str, ...]], ...]:
    """Returns the steps of a sync: phase and wave, and what is applied in it as `Kind/name`."""
    found: dict[tuple[Phase, int], list[str]] = {}
    for task in tasks(objects):
        found.setdefault(task.step, []).append(f"{task.kind}/{task.name}")
    return tuple((step, tuple(names)) for step, names in found.items())


def unmet(objects: Iterable[Object], present: Collection[Reference] = ()) -> dict[str, tuple[Reference, ...]]:
    """Returns what each Job's pod refers to and what is neither present nor applied in an earlier step: on a first install, such a Job waits for ever.

    Args:
        objects: everything that is synced.
        present: what the cluster has already, e.g. after the release before.
    """
    ordered = tasks(objects)
    found: dict[str, tuple[Reference, ...]] = {}
    for task in ordered:
        if task.kind == "Job":
            before = {made for other in ordered if other.step < task.step for made in _makes(other.object)} | set(present)
            if lacking := tuple(needed for needed in needs(task.object) if needed not in before):
                found[task.name] = lacking
    return found


def outdated(objects: Iterable[Object], present: Collection[Reference]) -> dict[str, tuple[Reference, ...]]:
    """Returns what each Job uses as the release before left it: it is present already, and this sync applies it only with the Job or after it."""
    everything = list(objects)
    made = {reference for item in everything for reference in _makes(item)}
    late = unmet(everything)
    return {name: stale for name, lacking in late.items() if (stale := tuple(item for item in lacking if item in present and item in made))}


def needs(workload: Object) -> tuple[Reference, ...]:
    """Returns the Secrets, ConfigMaps and the service account that the pods of a Job or a Deployment can't start without."""
    pod = workload["spec"]["template"]["spec"]
    found = [Reference("ServiceAccount", pod["serviceAccountName"])] if pod.get("serviceAccountName", "default") != "default" else []
    for volume in pod.get("volumes") or ():
        found += [Reference("Secret", volume["secret"]["secretName"])] if "secret" in volume else []
        found += [Reference("ConfigMap", volume["configMap"]["name"])] if "configMap" in volume else []
    for container in [*(pod.get("initContainers") or ()), *pod["containers"]]:
        for variable in container.get("env") or ():
            source = variable.get("valueFrom") or {}
            found += [Reference("Secret", source["secretKeyRef"]["name"])] if "secretKeyRef" in source else []
            found += [Reference("ConfigMap", source["configMapKeyRef"]["name"])] if "configMapKeyRef" in source else []
    return tuple(dict.fromkeys(found))


def _makes(item: Object) -> Sequence[Reference]:
    """Returns what exists once an object is applied and healthy."""
    if item["kind"] == "ExternalSecret":
        target = item["spec"].get("target") or {}
        return (Reference("Secret", target.get("name") or item["metadata"]["name"]),)
    return (Reference(item["kind"], item["metadata"]["name"]),)


def _of(item: Object) -> list[Task]:
    notes = item["metadata"].get("annotations") or {}
    phases, hook = _phases(notes)
    wave = int(notes.get(WAVE) or (notes.get(HELM_WEIGHT) if HELM_HOOK in notes else None) or 0)
    kind, name = item["kind"], item["metadata"].get("name", "")
    position = KINDS.index(kind) if kind in KINDS else len(KINDS)
    return [Task(phase, wave, position, name, kind, hook, item) for phase in phases]


def _phases(notes: Mapping[str, str]) -> tuple[list[Phase], bool]:
    """Returns an object's phases, and whether it is a hook. A hook of Helm's counts only where Argo CD's own annotation says nothing."""
    words = _words(notes.get(HOOK, ""))
    if any(word in _PHASES or word in _OTHER_HOOKS for word in words):
        return sorted({_PHASES[word] for word in words if word in _PHASES}), True
    helm = [word for word in _words(notes.get(HELM_HOOK, "")) if word != "crd-install"]
    if helm:
        return sorted({_HELM_PHASES[word] for word in helm if word in _HELM_PHASES}), True
    return [Phase.SYNC], False


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _with_namespaces_early(found: Sequence[Task]) -> list[Task]:
    """Moves each Namespace into the first step of what lies in it, and each definition into the first of its objects'."""

    def first(task: Task) -> Task:
        if task.kind == "Namespace":
            dependents = [other for other in found if other.object["metadata"].get("namespace") == task.name]
        elif task.kind == "CustomResourceDefinition":
            spec = task.object["spec"]
            dependents = [
                other
                for other in found
                if (other.kind, other.object["apiVersion"].partition("/")[0]) == (spec["names"]["kind"], spec["group"])
            ]
        else:
            return task
        phase, wave = min([task.step, *(other.step for other in dependents)])
        return dataclasses.replace(task, phase=phase, wave=wave)

    return [first(task) for task in found]
