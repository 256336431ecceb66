"""The migration Job as it is sent to Kubernetes: its name, its labels and its specification. Pure.

The Job runs `greylag up` in the service's own image, bound to the bundle and to the plan. It names the Secret with the database's credentials, and
holds no value of it. The Job alone retries, by the table of exit codes in `migrator.errors`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from migrator import errors
from tasks.fleet.models import Engine, Target

CONTAINER = "migrate"

PLAN, BUNDLE, RUN = "greylag/plan", "greylag/bundle", "greylag/run"
"""Annotations: the plan and the bundle that the Job is bound to, and the run that made it."""

NAME, INSTANCE, COMPONENT, MANAGER = (f"app.kubernetes.io/{word}" for word in ("name", "instance", "component", "managed-by"))

LONGEST_NAME = 63
"""Characters. A Job's name becomes the value of a label of its pods (kubernetes.md §1.5)."""

IDENTITY = 12
"""Characters of the digest in the name: as many as greylag shows elsewhere."""

CREDENTIALS = "/var/run/greylag/credentials"
"""The directory where the Secret is mounted. Files are safer than variables, which end up in crash dumps and in every child process's environment."""

TIME_TO_LIVE = 86_400
"""Seconds that a finished Job and its pods' logs are kept: a run that failed at night is read in the morning (kubernetes.md §1.4)."""

GRACE_SECONDS = 120
"""Seconds between SIGTERM and SIGKILL: greylag needs at most 10, a slow server's rollback may need more."""

INTERRUPTED = int(errors.ExitCode.INTERRUPTED)


class Order(BaseModel):
    """A run's order for a Job. `plan` is the digest of what is to be applied now, `approved` the digest of what was approved, if that is another one,
    `approval` the one that it uses up; `pending` tells whether anything is to be applied at all.
    """

    model_config = ConfigDict(frozen=True)

    target: Target
    image: str
    bundle: str
    plan: str
    approved: str = ""
    approval: str = ""
    pending: bool = True
    run_id: str = ""
    backoff_limit: int = 3
    active_deadline_seconds: float = 900.0
    lock_wait_seconds: float = 300.0
    statement_timeout_seconds: float = 0.0


def runnable(image: str) -> bool:
    """Tells whether this names an image that a pod can run, and not a tag or a digest alone."""
    return bool(image) and not image.startswith((":", "@"))


def name(order: Order) -> str:
    """Returns the Job's name, the same for the same plan of the same bundle: if the answer to its creation is lost, the next attempt finds it."""
    identity = hashlib.sha256(f"{order.target.label} {order.bundle} {order.plan}".encode()).hexdigest()[:IDENTITY]
    ending = f"-migration-{identity}"
    return order.target.service[: LONGEST_NAME - len(ending)].rstrip("-") + ending


def labels(target: Target) -> dict[str, str]:
    """Returns the labels of the Job and its pods. The name isn't the service's, or its Service would take the pods for endpoints (kubernetes.md §1.7)."""
    return {
        NAME: f"{target.service}-migration",
        INSTANCE: target.service,
        COMPONENT: "migration",
        MANAGER: "greylag",
        "greylag/environment": target.environment,
    }


def selector(target: Target) -> str:
    """Returns the label selector of the Jobs that greylag made for a target."""
    return ",".join(f"{key}={value}" for key, value in labels(target).items())


def manifest(order: Order) -> dict[str, Any]:
    """Returns the Job's manifest."""
    notes = {PLAN: order.plan, BUNDLE: order.bundle, RUN: order.run_id}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name(order),
            "namespace": order.target.namespace,
            "labels": labels(order.target),
            "annotations": notes,
        },
        "spec": {
            "backoffLimit": order.backoff_limit,
            "activeDeadlineSeconds": max(math.ceil(order.active_deadline_seconds), 1),
            "ttlSecondsAfterFinished": TIME_TO_LIVE,
            "podReplacementPolicy": "Failed",  # else two pods may run at once while one is being evicted (kubernetes.md §1.2)
            "podFailurePolicy": {"rules": failure_rules()},
            "template": {
                "metadata": {
                    "labels": labels(order.target),
                    "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", **order.target.job.annotations, **notes},
                },
                "spec": _pod(order),
            },
        },
    }


def failure_rules() -> list[dict[str, Any]]:
    """Returns podFailurePolicy: a disruption and an interruption cost no attempt, a permanent error ends the Job, everything else costs an attempt."""

    def exits(action: str, codes: list[int]) -> dict[str, Any]:
        return {"action": action, "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": sorted(codes)}}

    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        exits("Ignore", [INTERRUPTED]),  # somebody deleted the pod; only an eviction has the condition above
        exits("FailJob", [int(code) for code in errors.PERMANENT]),
    ]


def _pod(order: Order) -> dict[str, Any]:
    job = order.target.job
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": job.user,
            "runAsGroup": job.user,
            "fsGroup": job.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(order)],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "credentials", "secret": {"secretName": job.secret, "defaultMode": 0o440}},
        ],
    }
    if job.service_account:
        spec["serviceAccountName"] = job.service_account
    if job.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": item} for item in job.image_pull_secrets]
    if job.node_selector:
        spec["nodeSelector"] = dict(job.node_selector)
    return spec


def _container(order: Order) -> dict[str, Any]:
    job = order.target.job
    return {
        "name": CONTAINER,
        "image": order.image,
        "command": [*job.command, "up", *_acceptances(order.target)],
        "env": [*({"name": key, "value": value} for key, value in variables(order).items()), *_secret_variables(order.target)],
        "resources": {key: dict(value) for key, value in job.resources.items()},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "credentials", "mountPath": CREDENTIALS, "readOnly": True},
        ],
    }


def _acceptances(target: Target) -> list[str]:
    """Returns the flags that accept what fleet.yaml accepts of the files; Kubernetes would substitute `$(`, so `$` is doubled."""
    found = (f"{item.file}:{item.hazard}:{item.reason}" for item in target.accepted_hazards)
    return [word for text in found for word in ("-accept-hazard", text.replace("$", "$$"))]


def variables(order: Order) -> dict[str, str]:
    """Returns the command's variables: everything but the credentials. Kubernetes would substitute `$(`, so its `$` is doubled."""
    target = order.target
    given = {
        "GREYLAG_DRIVER": str(target.engine),
        "GREYLAG_MIGRATION_DIR": target.job.directory,
        "GREYLAG_CREDENTIALS_DIRECTORY": CREDENTIALS,
        "GREYLAG_EXPECTED_DATABASE": target.database,
        "GREYLAG_BUNDLE": order.bundle,
        "GREYLAG_APPROVED_DIGEST": order.approved or order.plan,
        "GREYLAG_APPROVAL": order.approval,
        "GREYLAG_SERVICE": target.service,
        "GREYLAG_APPLIED_BY": f"{target.namespace}/{name(order)}",
        "GREYLAG_LOCK_WAIT": _duration(order.lock_wait_seconds),
        "GREYLAG_STATEMENT_TIMEOUT": _duration(order.statement_timeout_seconds),
        "GREYLAG_TERMINATION_LOG": "/dev/termination-log",
        "GREYLAG_PORT": str(target.port or ""),
        "GREYLAG_PARAMETERS": _query(target.parameters),
        "GREYLAG_ROLE": target.owner_role,
        "GREYLAG_PROTECTED": "true" if target.protected else "",
    }
    given = {key: value for key, value in given.items() if value} | dict(target.env)
    return {key: value.replace("$(", "$$(") for key, value in given.items()}


def _secret_variables(target: Target) -> list[dict[str, Any]]:
    """Returns the password as a variable, only if the target's migrations use it in ENVSUB."""
    if not target.substitute_password:
        return []
    prefix = "POSTGRES" if target.engine is Engine.POSTGRES else "CLICKHOUSE"
    reference = {"secretKeyRef": {"name": target.job.secret, "key": "password"}}
    return [{"name": f"{prefix}_PASSWORD", "valueFrom": reference}]


def _duration(seconds: float) -> str:
    return f"{seconds:.3f}s"


def _query(parameters: Mapping[str, str]) -> str:
    from urllib.parse import urlencode

    return urlencode(sorted(parameters.items()))


def image(job: Mapping[str, Any]) -> str:
    """Returns the image of a Job's migration."""
    containers = job["spec"]["template"]["spec"]["containers"]
    return str(next((item.get("image", "") for item in containers if item.get("name") == CONTAINER), ""))


def container_state(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the state of a pod's migration: `waiting`, `running` or `terminated`, as the API has it; empty before the kubelet has seen it."""
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        if status.get("name") == CONTAINER:
            return dict(status.get("state") or {})
    return {}
