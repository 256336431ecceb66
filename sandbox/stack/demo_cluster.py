"""The demo's cluster (`make demo CLUSTER=1`), with the work of a platform team and of a delivery tool around greylag.

The platform team's part comes before any deployment: a namespace per environment, the worker's service account with the shipped Role and nothing else,
and each service's database Secret, as an External Secrets operator would sync it. The delivery tool's part is that of Argo CD or a pipeline:
each service's Deployment with the release's image is applied once its environment is being deployed. Its pods wait in `greylag wait`
until the migration Job is done; the health gate sees that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from deployments.privileges import rendering
from migrator import errors
from sandbox import builds
from sandbox.cluster import cluster, images, kubeconfigs
from tasks.fleet.models import Fleet, Target

RELEASE = "1.0.0"
"""The tag of every service's image in the demo."""

PROJECT = Path(__file__).resolve().parents[2]

_CREDENTIALS = "/var/run/greylag/credentials"


class DemoCluster:
    """One cluster with all of the fleet's environments. `release` is the tag of every service's image.

    Args:
        directory: holds keys, objects and logs; kept, as the databases are.
        fleet: names namespaces, Secrets, images and Deployments.

    Raises:
        NotFound: this machine can't run a cluster; the message says why.
    """

    def __init__(self, directory: Path, fleet: Fleet) -> None:
        reason = cluster.unavailable()
        if reason is not None:
            raise errors.NotFound(reason, code="sandbox-missing", hint="`make demo` without CLUSTER=1 needs no cluster")
        self.release = RELEASE
        self._fleet = fleet
        self._cluster = cluster.Cluster(directory)

    def start(self) -> None:
        """Starts the control plane and the node, and registers every service's image."""
        self._cluster.start()
        for service in self._fleet.services:
            target = self._fleet.target(service, next(iter(self._fleet.environments)))
            mounts = {target.job.directory: target.directory}
            self._cluster.register(images.checkout(images.repository(target.image(RELEASE)), PROJECT, Path(sys.executable), mounts))

    def stop(self) -> None:
        """Stops everything; objects are kept."""
        self._cluster.stop()

    def prepare(self, environment: str, secrets: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Does the platform team's part for an environment; safe to repeat.

        Args:
            environment: one of the fleet's.
            secrets: each service's database credentials.

        Returns:
            The variables with which the environment's worker reaches its namespace, and only that one.
        """
        targets = self._targets(environment)
        for namespace in {target.namespace for target in targets}:
            self._cluster.create_namespace(namespace)
        self._cluster.kubectl("apply", "--filename", "-", stdin=rendering.kubernetes(targets))
        for target in targets:
            data = {key: str(value) for key, value in secrets[target.service].items()}
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": target.job.secret}, "stringData": data}
            self._cluster.apply(secret, namespace=target.namespace)
        config = self._cluster.service_account_kubeconfig(targets[0].namespace, rendering.WORKER)
        return {"KUBECONFIG": str(config), "GREYLAG_KUBE_CONTEXT": kubeconfigs.CONTEXT}

    def fleet_file(self) -> Path | None:
        """Returns the fleet that the demo's workers read; None for the checkout's."""
        return None

    def roll_out(self, environment: str) -> str:
        """Does the delivery tool's part for an environment: applies the release's Deployments; safe to repeat. Returns what to tell."""
        targets = self._targets(environment)
        for namespace in {target.namespace for target in targets}:
            self._cluster.apply(*(deployment(target) for target in targets if target.namespace == namespace), namespace=namespace)
        return f"Deployments with image tag {self.release} applied; their pods wait for the schema"

    def commands(self) -> Iterator[tuple[str, str]]:
        """Yields commands to try, and what they show."""
        namespace = self._targets(next(iter(self._fleet.environments)))[0].namespace
        yield f"export KUBECONFIG={self._cluster.kubeconfig} PATH={self._cluster.programs}:$PATH", "the administrator's access"
        yield f"kubectl -n {namespace} get jobs,deployments,pods", "migration Jobs beside the Deployments that waited for them"
        yield f"kubectl -n {namespace} logs -l app.kubernetes.io/component=migration", "what the migrations said"

    def _targets(self, environment: str) -> list[Target]:
        return [target for target in self._fleet.targets() if target.environment == environment]


def build(say: Callable[[str], None]) -> None:
    """Builds the control plane if it is not cached. Raises NotFound without Go, Unavailable when the build fails."""
    builds.build(builds.CONTROLPLANE, say)


def deployment(target: Target) -> dict[str, Any]:
    """Returns a service's Deployment as its chart would have it: an init container waits for the image's own newest migration, then the application starts."""
    labels = {"app.kubernetes.io/name": target.service, "app.kubernetes.io/instance": target.environment}
    image = target.image(RELEASE)
    waiting = {
        "name": "wait-for-schema",
        "image": image,
        "command": ["greylag", "-dir", target.job.directory, "-timeout", "15m", "wait"],
        "env": [
            {"name": "GREYLAG_DRIVER", "value": str(target.engine)},
            {"name": "GREYLAG_CREDENTIALS_DIRECTORY", "value": _CREDENTIALS},
        ],
        "volumeMounts": [{"name": "credentials", "mountPath": _CREDENTIALS, "readOnly": True}],
    }
    application = {"name": target.workload.container or "application", "image": image, "command": ["sleep", "infinity"]}
    pod = {
        "terminationGracePeriodSeconds": 1,
        "initContainers": [waiting],
        "containers": [application],
        "volumes": [{"name": "credentials", "secret": {"secretName": target.job.secret}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": target.workload.name, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
