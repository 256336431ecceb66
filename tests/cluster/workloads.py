"""Manifests that tests write, and what they wait for in a namespace."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from sandbox.cluster.api import Object
from sandbox.cluster.cluster import Cluster

_SECONDS = 60.0


def container(script: str, name: str = "main", image: str = "machine", **more: Any) -> Object:
    """A container that runs a shell script."""
    return {"name": name, "image": image, "command": ["sh", "-c", script], **more}


def pod(name: str, *containers: Object, **spec: Any) -> Object:
    """A pod that runs once, unless its spec says otherwise."""
    whole = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 2, "containers": list(containers), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": whole}


def job(name: str, script: str, **spec: Any) -> Object:
    """A Job of one container, `main`."""
    template = {"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container(script)]}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template, **spec}}


def deployment(name: str, *containers: Object, replicas: int = 1, deadline: int = 60, **spec: Any) -> Object:
    """A Deployment whose pods are labelled `app: name`."""
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": list(containers), **spec},
    }
    whole = {
        "replicas": replicas,
        "progressDeadlineSeconds": deadline,
        "selector": {"matchLabels": {"app": name}},
        "template": template,
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": whole}


def configmap(name: str, **data: str) -> Object:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> Object:
    """A Secret."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def condition(found: Object | None, kind: str) -> Object:
    """A condition of an object that is True; empty where there is none."""
    conditions = (found or {}).get("status", {}).get("conditions") or []
    return next((each for each in conditions if each["type"] == kind and each["status"] == "True"), {})


@dataclasses.dataclass(frozen=True, slots=True)
class Namespace:
    """What tests do in a namespace."""

    cluster: Cluster
    name: str

    def apply(self, *objects: Object) -> None:
        """`kubectl apply`."""
        self.cluster.apply(*objects, namespace=self.name)

    def create(self, found: Object) -> Object:
        """Creates a pod, a Job or a Deployment straight through the API: kubectl takes half a second to start."""
        return self.cluster.api.create(self._path(_plural(found["kind"])), found)

    def get(self, kind: str, name: str) -> Object | None:
        """A pod, job, deployment, configmap or secret."""
        return self.cluster.api.find(f"{self._path(kind + 's')}/{name}")

    def delete(self, kind: str, name: str, **options: Any) -> None:
        """Deletes without waiting; options are DeleteOptions."""
        self.cluster.api.delete(f"{self._path(kind + 's')}/{name}", options)

    def delete_all(self, kind: str, **options: Any) -> None:
        """Deletes all of a kind without waiting; one that somebody else deletes meanwhile is no error."""
        self.cluster.api.delete(self._path(kind + "s"), options)

    def list(self, kind: str, **query: str) -> list[Object]:
        """All of a kind, oldest first."""
        found: list[Object] = self.cluster.api.get(self._path(kind + "s"), **query)["items"]
        return sorted(found, key=lambda each: each["metadata"]["creationTimestamp"])

    def wait(self, kind: str, name: str, holds: Callable[[Object], object], what: str, seconds: float = _SECONDS) -> Object:
        """The object, once something is so of it."""
        kept: list[Object] = []

        def now() -> bool:
            found = self.get(kind, name)
            kept[:] = [found] if found is not None else []
            return found is not None and bool(holds(found))

        self.cluster.wait_until(now, f"{kind} {name}: {what}", seconds)
        return kept[0]

    def over(self, name: str) -> Object:
        """The pod, once it has ended."""
        return self.wait("pod", name, lambda pod: pod.get("status", {}).get("phase") in ("Succeeded", "Failed"), "ends")

    def running(self, name: str) -> Object:
        """The pod, once it runs."""
        return self.wait("pod", name, lambda pod: pod.get("status", {}).get("phase") == "Running", "runs")

    def finished(self, name: str) -> Object:
        """The Job, once it is complete or failed."""
        return self.wait("job", name, lambda job: condition(job, "Complete") or condition(job, "Failed"), "finishes")

    def gone(self, kind: str, name: str) -> None:
        """Waits until there is none."""
        self.cluster.wait_until(lambda: self.get(kind, name) is None, f"{kind} {name} is gone", _SECONDS)

    def run(self, found: Object) -> Object:
        """Creates a pod and waits for its end."""
        self.create(found)
        return self.over(found["metadata"]["name"])

    def logs(self, name: str, *options: str) -> str:
        """`kubectl logs`."""
        return self.cluster.kubectl("logs", "--namespace", self.name, name, *options).stdout

    def said(self, name: str) -> str:
        """What a pod's log holds by now; empty while there is none."""
        return self.cluster.kubectl("logs", "--namespace", self.name, name, check=False).stdout

    def reasons(self, name: str) -> set[str]:
        """The reasons of the events about an object."""
        return {event["reason"] for event in self.list("event") if event["involvedObject"]["name"] == name}

    def _path(self, plural: str) -> str:
        apps = ("deployments", "replicasets", "statefulsets", "daemonsets")
        group = "/apis/apps/v1" if plural in apps else {"jobs": "/apis/batch/v1"}.get(plural, "/api/v1")
        return f"{group}/namespaces/{self.name}/{plural}"


def _plural(kind: str) -> str:
    return kind.lower() + "s"


def state(found: Object, name: str = "main") -> Object:
    """A container's state."""
    status = found["status"]
    every = (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])
    return next(each["state"] for each in every if each["name"] == name)


def waiting(found: Object, name: str = "main") -> str:
    """Why a container waits; empty where it does not."""
    if not found.get("status", {}).get("containerStatuses"):
        return ""
    return str(state(found, name).get("waiting", {}).get("reason", ""))
