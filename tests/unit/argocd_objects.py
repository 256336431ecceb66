"""Applications as Argo CD 3.6.1 gives them (recorded from a real one, shortened), as far as a test says something about them."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

COMMIT = "92de4e4b1f3a30e79b57a0b0a2bb1fd4a5c3a1a0"
RUN = "run-1.abcd"


def hook(phase: str = "Succeeded", kind: str = "Job", type_: str = "Sync", **more: Any) -> Json:
    return {
        "group": "batch",
        "version": "v1",
        "kind": kind,
        "namespace": "dev",
        "name": "auth-service-migrate",
        "message": "Reached expected number of succeeded pods",
        "hookType": type_,
        "hookPhase": phase,
        "syncPhase": "Sync",
        "images": ["registry.example/auth-service:2"],
        **more,
    }


DEPLOYMENT = {
    "group": "apps",
    "version": "v1",
    "kind": "Deployment",
    "namespace": "dev",
    "name": "auth-service",
    "status": "Synced",
    "message": "deployment.apps/auth-service created",
    "hookPhase": "Running",  # stays so in an operation that has Succeeded
    "syncPhase": "Sync",
}


def asked(run: str = RUN, **sync: Any) -> Json:
    infos = {"info": [{"name": "greylag.run", "value": run}, {"name": "greylag.target", "value": "dev/auth-service"}]} if run else {}
    return {"sync": {"revision": COMMIT, **sync}, "initiatedBy": {"username": "greylag"}, "retry": {}, **infos}


def automated(**sync: Any) -> Json:
    return {"sync": {"revision": COMMIT, **sync}, "initiatedBy": {"automated": True}, "retry": {"limit": 5}}


def state(operation: Json | None = None, phase: str = "Succeeded", resources: list[Json] | None = None, **more: Any) -> Json:
    made: Json = {
        "operation": asked() if operation is None else operation,
        "phase": phase,
        "message": "successfully synced (all tasks run)",
        "startedAt": "2026-11-30T17:32:20Z",
        "syncResult": {"revision": COMMIT, "resources": [hook(), DEPLOYMENT] if resources is None else resources},
        **more,
    }
    if phase in ("Succeeded", "Failed", "Error"):
        made.setdefault("finishedAt", "2026-11-30T17:32:25Z")
    return made


def application(operation_state: Json | None = None, operation: Json | None = None, **more: Any) -> Json:
    found: Json = {
        "metadata": {"name": "auth-service-dev", "namespace": "argocd"},
        "spec": {"project": "default", "source": {"repoURL": "file:///repository", "path": "app", "targetRevision": "main"}},
        "status": {"sync": {"status": "Synced", "revision": COMMIT}, "health": {"status": "Healthy"}},
        **more,
    }
    if operation_state is not None:
        found["status"]["operationState"] = operation_state
    if operation is not None:
        found["operation"] = operation
    return found
