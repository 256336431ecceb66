"""greylag itself in a pod: its own exit codes end a Job as the table of exit codes says, under a restricted security context."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.cluster import images
from sandbox.cluster.api import Object
from sandbox.databases.postgres import PostgresServer
from tests.cluster.workloads import Namespace, condition, state

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
RESTRICTED = {
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "runAsNonRoot": True,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}


@pytest.fixture
def image(namespace: Namespace, tmp_path: Path) -> images.Image:
    """This checkout as a service's image, with a migration of its own at /migrations."""
    for directory in (tmp_path, tmp_path / "migrations"):
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)
    (tmp_path / "migrations" / "00001_users.sql").write_text("-- +goose Up\nCREATE TABLE users (id bigint);\n", encoding="utf-8")
    mounts = {"/migrations": str(tmp_path / "migrations")}
    found = images.checkout(f"registry.example/{namespace.name}:1", ROOT, Path(sys.executable), mounts)
    namespace.cluster.register(found)
    return found


def migration_job(image: images.Image, *arguments: str) -> Object:
    main = {
        "name": "main",
        "image": image.name,
        "command": ["greylag", *arguments],
        "envFrom": [{"secretRef": {"name": "database"}}],
        "securityContext": RESTRICTED,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    rules = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2, 10, 11, 12, 13, 14, 15, 16]}}]
    spec: dict[str, Any] = {"restartPolicy": "Never", "containers": [main], "volumes": [{"name": "tmp", "emptyDir": {}}]}
    whole = {"backoffLimit": 3, "podFailurePolicy": {"rules": rules}, "template": {"spec": spec}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate"}, "spec": whole}


def test_a_job_migrates_a_database(
    namespace: Namespace, image: images.Image, postgres_server: PostgresServer, new_postgres_url: Callable[[], str]
) -> None:
    url = new_postgres_url()
    secret = {"GOOSE_DRIVER": "postgres", "GOOSE_DBSTRING": url}
    namespace.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database"}, "stringData": secret})
    namespace.create(migration_job(image, "-dir", "/migrations", "up"))
    finished = namespace.finished("migrate")
    only = namespace.list("pod")[0]["metadata"]["name"]
    assert condition(finished, "Complete"), state(namespace.list("pod")[0])
    assert "successfully migrated database to version: 1" in namespace.logs(only)
    database = url.rpartition("/")[2].partition("?")[0]
    assert postgres_server.execute("SELECT count(*) FROM users", database).strip() == "0"


def test_bad_flow_a_permanent_failure_ends_the_job_with_one_pod_and_its_words(
    namespace: Namespace, image: images.Image, new_postgres_url: Callable[[], str]
) -> None:
    secret = {"GOOSE_DRIVER": "postgres", "GOOSE_DBSTRING": new_postgres_url().replace("%", "%25", 1)}
    namespace.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database"}, "stringData": secret})
    namespace.create(migration_job(image, "-dir", "/migrations", "up"))
    assert condition(namespace.finished("migrate"), "Failed")["reason"] == "PodFailurePolicy"
    found = namespace.list("pod")
    assert len(found) == 1
    end = state(found[0])["terminated"]
    assert end["exitCode"] == 12
    assert "password authentication failed" in end["message"]
