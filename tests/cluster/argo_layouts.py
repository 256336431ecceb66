"""Three layouts of one service under Argo CD: the chart's two strategies for it, and the usual recipe's own waves.

Each renders a release into the folder of an application: SQL in a ConfigMap, the login from an ExternalSecret, a Job, a Deployment.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox import cache
from sandbox.argocd.repository import Repository
from sandbox.cluster import images
from sandbox.cluster.api import Object
from sandbox.cluster.cluster import Cluster
from tests.cluster import manifests
from tests.cluster.argo_databases import Database
from tests.cluster.workloads import container, deployment

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deployments" / "chart" / "service"
SERVICE = "auth-service"
SECRET = f"{SERVICE}-postgres-credentials"
SERVE = "date +%s.%N; trap 'exit 0' TERM; while :; do sleep 0.2; done"
PLACE = "/migrations"

RECIPE = "recipe"
STRATEGIES = ("argo-sync-hook", "argo-presync")
LAYOUTS = (*STRATEGIES, RECIPE)

RECIPE_SHELL = """\
ENCODED_PASSWORD=$(printf '%s' "${POSTGRES_PASSWORD}" | sed 's/%/%25/g; s|/|%2F|g; s/:/%3A/g; s/@/%40/g')
DATABASE_URL="postgresql://${POSTGRES_USER}:${ENCODED_PASSWORD}@${POSTGRES_HOST}:${POSTGRES_PORT}/${POSTGRES_DATABASE}"
goose -dir /migrations postgres "$DATABASE_URL" up
"""
"""The recipe's own lines, with the secret's port: the sandbox's PostgreSQL is not at 5432."""


@dataclass(frozen=True)
class Release:
    """What is released: the image's tag, the migration files, the secret's path, how long a finished Job is kept, whether pods wait for their schema."""

    tag: str
    files: Mapping[str, str]
    path: str = "apps/dev/auth-service/postgres"
    ttl: int = 300
    waits: bool = True


def write(layout: str, repository: Repository, namespace: str, database: Database, release: Release) -> str:
    """Commits a release in a layout; gives the commit."""
    if layout == RECIPE:
        return repository.commit({"app/all.yaml": manifests.text(*recipe(namespace, release))}, release.tag)
    place = repository.directory / "app"
    if not (place / "Chart.yaml").exists():
        shutil.copytree(CHART, place, dirs_exist_ok=True)  # what its links lead to, as packing it does
    return repository.commit({"app/values/release.yaml": json.dumps(values(layout, namespace, database, release), indent=1)}, release.tag)


def helm(layout: str) -> dict[str, list[str]] | None:
    """What the application says of Helm; None for plain manifests."""
    return None if layout == RECIPE else {"valueFiles": ["values/release.yaml"]}


def values(strategy: str, namespace: str, database: Database, release: Release) -> dict[str, object]:
    """The chart's values."""
    return {
        "fullnameOverride": SERVICE,
        "image": {"repository": f"registry.example/{namespace}/{SERVICE}", "tag": release.tag},
        "command": ["sh", "-c", SERVE],
        "podSecurityContext": {"runAsUser": 65532, "runAsNonRoot": True},
        "terminationGracePeriodSeconds": 5,
        "databaseVariables": False,
        "migration": {
            "strategy": strategy,
            "engine": database.engine,
            "environment": "dev",
            "database": database.name,
            "ttlSecondsAfterFinished": release.ttl,
            "externalSecret": {"path": release.path, "wait": "2s", "keys": {key: key for key in database.login}},
            "sql": {"source": "configMap", "files": dict(release.files)},
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
            "wait": {"enabled": release.waits},
        },
    }


def recipe(namespace: str, release: Release) -> list[Object]:
    """The recipe's objects with its own annotations: a PreSync Job in wave -2, everything else plain."""
    keys = ("host", "port", "username", "password", "database")

    def wave(found: Object, number: int) -> Object:
        found["metadata"]["annotations"] = {"argocd.argoproj.io/sync-wave": str(number)}
        return found

    variables = [
        {"name": f"POSTGRES_{name}", "valueFrom": {"secretKeyRef": {"name": SECRET, "key": key}}}
        for name, key in (("HOST", "host"), ("PORT", "port"), ("USER", "username"), ("PASSWORD", "password"), ("DATABASE", "database"))
    ]
    job: Object = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{SERVICE}-migrate",
            "annotations": {
                "argocd.argoproj.io/hook": "PreSync",
                "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
                "argocd.argoproj.io/sync-wave": "-2",
            },
        },
        "spec": {
            "ttlSecondsAfterFinished": release.ttl,
            "backoffLimit": 3,
            "template": {
                "spec": {
                    "serviceAccountName": SERVICE,
                    "restartPolicy": "Never",
                    "containers": [
                        {
                            **container("", name="migrate", image=image(namespace, release.tag)),
                            "command": ["/bin/sh", "-c", RECIPE_SHELL],
                            "env": variables,
                            "volumeMounts": [{"name": "sql", "mountPath": PLACE}],
                        }
                    ],
                    "volumes": [{"name": "sql", "configMap": {"name": f"{SERVICE}-migrations"}}],
                }
            },
        },
    }
    external = {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": {"name": SECRET},
        "spec": {
            "refreshInterval": "1h",
            "secretStoreRef": {"name": "vault", "kind": "ClusterSecretStore"},
            "target": {"name": SECRET},
            "data": [{"secretKey": key, "remoteRef": {"key": release.path, "property": key}} for key in keys],
        },
    }
    sql = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{SERVICE}-migrations"}, "data": dict(release.files)}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": SERVICE}}
    code = deployment(SERVICE, container(SERVE, image=image(namespace, release.tag)))
    return [wave(external, -5), wave(sql, -4), wave(account, -3), job, code]


def image(namespace: str, tag: str) -> str:
    """The service's image."""
    return f"registry.example/{namespace}/{SERVICE}:{tag}"


def push(cluster: Cluster, namespace: str, tag: str) -> None:
    """Makes an image known that has greylag and goose in it."""
    goose = {"/usr/local/bin/goose": str(cache.directory() / "bin" / "goose")}
    cluster.register(images.checkout(image(namespace, tag), ROOT, Path(sys.executable), goose))
