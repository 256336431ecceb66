"""Jobs, pods and events as an API server gives them, as far as a test says something about them."""

from __future__ import annotations

import json
from typing import Any

from tasks.fleet import Engine, Keys, Target, Workload
from tasks.fleet.job_section import Job
from tasks.job import manifest
from tasks.job.manifest import Order

Json = dict[str, Any]


def target(**more: Any) -> Target:
    given: Json = {
        "service": "auth-service",
        "environment": "dev",
        "engine": Engine.POSTGRES,
        "base": "auth_db",
        "suffix": "_dev",
        "vault_mount": "secret",
        "vault_path": "apps/dev/auth-service/postgres",
        "secret_keys": Keys(),
        "namespace": "dev-my-girok",
        "work_pool": "greylag-dev",
        "kube_context": "",
        "workload": Workload(name="auth-service"),
        "root": "/",
        "directory": "/services/auth-service/migrations",
        "protected": False,
        "job": Job(
            image="registry.example/auth-service",
            directory="/app/services/auth-service/migrations",
            secret="auth-service-postgres-credentials",
        ),
    }
    return Target(**{**given, **more})


def order(**more: Any) -> Order:
    given: Json = {"target": target(), "image": "registry.example/auth-service:2", "bundle": "b" * 64, "plan": "a" * 64, "run_id": "f" * 32}
    return Order(**{**given, **more})


def job(asked: Order | None = None, uid: str = "job-1", conditions: tuple[tuple[str, str], ...] = (), **status: Any) -> Json:
    """The Job of an order with conditions that are True: (type, reason)."""
    found = manifest.manifest(asked or order())
    found["metadata"]["uid"] = uid
    found["status"] = {**status, "conditions": [{"type": kind, "status": "True", "reason": reason} for kind, reason in conditions]}
    return found


def pod(name: str = "p-1", owner: str = "job-1", phase: str = "Pending", created: str = "2026-01-01T00:00:00Z", **state: Any) -> Json:
    """A pod whose migration is in that state: `waiting`, `running` or `terminated`."""
    statuses = [{"name": manifest.CONTAINER, "state": state}] if state else []
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "creationTimestamp": created, "ownerReferences": [{"uid": owner}]},
        "status": {"phase": phase, "containerStatuses": statuses},
    }


def ended(code: int, message: str = "", reason: str = "Error", **more: Any) -> Json:
    """A pod whose migration has ended."""
    state = {"exitCode": code, "reason": reason, "message": message, "startedAt": "2026-01-01T00:00:01Z"}
    return pod(phase="Succeeded" if code == 0 else "Failed", terminated=state, **more)


def outcome(exit_code: int = 0, **more: Any) -> str:
    """A termination message."""
    return json.dumps({"greylag": 1, "verb": "up", "exit_code": exit_code, "applied": [], **more})


def event(reason: str, message: str, uid: str, at: str = "2026-01-01T00:01:00Z") -> Json:
    return {"reason": reason, "message": message, "involvedObject": {"uid": uid}, "lastTimestamp": at, "metadata": {}}
