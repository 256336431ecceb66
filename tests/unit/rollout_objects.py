"""The API's objects as the tests of the rollout rooms need them: small, and only what those rooms read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tasks.fleet.models import WorkloadKind
from tasks.rollout import revisions

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NEW, OLD = "registry.example/auth:2.0.0", "registry.example/auth:1.9.0"
DIGEST, OTHER_DIGEST = "sha256:" + "a" * 64, "sha256:" + "b" * 64
WAIT: dict[str, Any] = {"name": "migration-gate", "image": NEW, "command": ["greylag", "-dir", "/migrations", "wait"]}


def deployment(
    *, image: str = NEW, generation: int = 2, wanted: int = 2, uid: str = "d1", gates: Sequence[dict[str, Any]] = (), **status: Any
) -> dict[str, Any]:
    full = {
        "observedGeneration": generation,
        "replicas": wanted,
        "updatedReplicas": wanted,
        "availableReplicas": wanted,
        "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}],
    }
    containers = [{"name": "app", "image": image}, {"name": "proxy", "image": "envoy:1"}]
    return {
        "metadata": {"name": "auth-service", "uid": uid, "generation": generation},
        "spec": {
            "replicas": wanted,
            "selector": {"matchLabels": {"app": "auth"}},
            "template": {"spec": {"containers": containers, "initContainers": list(gates)}},
        },
        "status": full | status,
    }


def replica_set(name: str, revision: int, owner: str = "d1") -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "uid": name,
            "annotations": {revisions.REVISION: str(revision)},
            "ownerReferences": [{"kind": "Deployment", "uid": owner, "controller": True}],
        }
    }


def stateful_set(strategy: dict[str, Any] | None, **status: Any) -> dict[str, Any]:
    full = {
        "observedGeneration": 2,
        "readyReplicas": 3,
        "updatedReplicas": 3,
        "currentReplicas": 3,
        "currentRevision": "r2",
        "updateRevision": "r2",
    }
    spec: dict[str, Any] = {"replicas": 3}
    if strategy is not None:
        spec["updateStrategy"] = strategy
    return {"metadata": {"name": "x", "uid": "s1", "generation": 2}, "spec": spec, "status": full | status}


def daemon_set(strategy: str = "RollingUpdate", **status: Any) -> dict[str, Any]:
    full = {"observedGeneration": 2, "desiredNumberScheduled": 4, "updatedNumberScheduled": 4, "numberAvailable": 4}
    spec = {"updateStrategy": {"type": strategy}}
    return {"metadata": {"name": "x", "uid": "n1", "generation": 2}, "spec": spec, "status": full | status}


def argo_rollout(strategy: str = "canary", generation: int = 2, **status: Any) -> dict[str, Any]:
    full = {
        "observedGeneration": str(generation),
        "phase": "Healthy",
        "stableRS": "h2",
        "currentPodHash": "h2",
        "availableReplicas": 2,
        "blueGreen": {"activeSelector": "h2"},
    }
    whole = deployment(generation=generation)
    spec = whole["spec"] | {"strategy": {strategy: {}}}
    return {"metadata": {"name": "auth-service", "uid": "a1", "generation": generation}, "spec": spec, "status": full | status}


def container(
    name: str = "app",
    *,
    image: str = NEW,
    waiting: str = "",
    code: int | None = None,
    last: int | None = None,
    restarts: int = 0,
    message: str = "",
    said: str = "",
    identity: str = "",
) -> dict[str, Any]:
    """A container's status: `code` is how it ended, `last` how its previous instance did, `said` its termination message."""

    def ended(value: int) -> dict[str, Any]:
        finished = (NOW - timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
        return {"terminated": {"exitCode": value, "reason": "Error" if value else "Completed", "finishedAt": finished, "message": said}}

    state: dict[str, Any] = {"running": {}}
    if waiting:
        state = {"waiting": {"reason": waiting, "message": message}}
    elif code is not None:
        state = ended(code)
    return {
        "name": name,
        "image": image,
        "imageID": identity,
        "ready": "running" in state or code == 0,
        "restartCount": restarts,
        "state": state,
        "lastState": ended(last) if last is not None else {},
    }


def pod(
    name: str,
    owner: str = "rs2",
    phase: str = "Running",
    *,
    kind: str = "ReplicaSet",
    age: float = 5.0,
    image: str = NEW,
    waiting: str = "",
    init: Sequence[dict[str, Any]] = (),
    containers: Sequence[dict[str, Any]] | None = None,
    conditions: Sequence[dict[str, Any]] = (),
    **metadata: Any,
) -> dict[str, Any]:
    created = (NOW - timedelta(seconds=age)).isoformat().replace("+00:00", "Z")
    owners = [{"kind": kind, "uid": owner, "controller": True}] if owner else []
    mains = [container(image=image, waiting=waiting)] if containers is None else list(containers)
    return {
        "metadata": {"name": name, "creationTimestamp": created, "ownerReferences": owners, **metadata},
        "status": {"phase": phase, "initContainerStatuses": list(init), "containerStatuses": mains, "conditions": list(conditions)},
    }


class Stage:
    """A cluster that shows one scene after another; the last one stays. A scene that is an error is raised."""

    def __init__(
        self,
        *scenes: dict[str, Any] | Exception | None,
        replica_sets: Sequence[Any] = (),
        pods: Sequence[Any] = (),
        logs: str | Exception = "",
    ) -> None:
        self.scenes = list(scenes)
        self.looks = 0
        self._replica_sets, self._pods, self._logs = replica_sets, pods, logs
        self.selectors: set[str] = set()
        self.logs_asked: list[tuple[str, str, bool]] = []

    def workload(self, kind: WorkloadKind, namespace: str, name: str) -> dict[str, Any] | None:
        assert namespace == "dev-my-girok"
        self.looks += 1
        scene = self.scenes[min(self.looks, len(self.scenes)) - 1]
        if isinstance(scene, Exception):
            raise scene
        return scene

    def replica_sets(self, namespace: str, selector: str) -> Sequence[Any]:
        return self._replica_sets

    def controller_revisions(self, namespace: str, selector: str) -> Sequence[Any]:
        return self._replica_sets

    def pods(self, namespace: str, selector: str) -> Sequence[Any]:
        self.selectors.add(selector)
        found = self._pods
        return found.pop(0) if found and isinstance(found, list) and isinstance(found[0], list) else found

    def log(self, namespace: str, pod: str, *, container: str, lines: int, previous: bool = False) -> str:
        self.logs_asked.append((pod, container, previous))
        if isinstance(self._logs, Exception):
            raise self._logs
        return self._logs
