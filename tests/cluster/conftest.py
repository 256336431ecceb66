"""The session's Kubernetes cluster, started when the first test asks; each test has a namespace of its own.

Delays are shortened where Kubernetes allows: the Job controller's and the node's first back-off are one second instead of ten.
GREYLAG_TEST_ROUNDS makes the proofs of fifty rounds shorter for somebody who is working on them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.argocd import installation
from sandbox.argocd.repository import Repository
from sandbox.cluster import cluster as sandbox
from sandbox.cluster import images
from sandbox.databases.clickhouse import ClickHouseServer
from sandbox.databases.postgres import PostgresServer
from sandbox.vault import openbao_server
from tasks.fleet.models import Engine
from tests import needs
from tests.cluster.argocd_stage import ArgoStage
from tests.cluster.fleet_stage import FleetStage, become
from tests.cluster.job_stage import EVENTS, USERS, JobStage
from tests.cluster.workloads import Namespace


@pytest.fixture(scope="session")
def cluster(session_directory: Path) -> Iterator[sandbox.Cluster]:
    """A real control plane and a node that knows the image `machine` (a shell and what is installed)."""
    reason = sandbox.unavailable()
    if reason is not None:
        pytest.skip(reason)
    with sandbox.Cluster(session_directory / "cluster", job_backoff_seconds=1, restart_backoff_seconds=1) as running:
        running.register(images.machine("machine"))
        yield running


@pytest.fixture
def namespace(cluster: sandbox.Cluster) -> Iterator[Namespace]:
    """A fresh namespace with what tests do in it; deleted afterwards."""
    name = cluster.create_namespace(f"test-{secrets.token_hex(4)}")
    yield Namespace(cluster, name)
    cluster.delete_namespace(name)


@pytest.fixture(scope="session")
def argocd(cluster: sandbox.Cluster, session_directory: Path) -> Iterator[installation.ArgoCD]:
    """A real Argo CD on the cluster, with the released pause of 2 s between two waves of a sync."""
    reason = installation.unavailable()
    if reason is not None:
        pytest.skip(reason)
    with installation.ArgoCD(cluster, session_directory / "argocd") as running:
        yield running


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A git repository, the source of the test's applications."""
    return Repository(tmp_path / "repository")


@pytest.fixture
def make_stage(namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., JobStage]]:
    """A maker of stages in the test's namespace; this process is a worker whose kubeconfig is the administrator's."""
    from kubernetes.config import kube_config

    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(namespace.cluster.kubeconfig))
    made: list[JobStage] = []

    def make(dbstring: str, engine: Engine, sql: Callable[[str], str]) -> JobStage:
        for directory in (tmp_path, tmp_path / "migrations"):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)
        found = JobStage(namespace, tmp_path, dbstring, engine, sql)
        found.write("00001_first.sql", EVENTS if engine is Engine.CLICKHOUSE else USERS)
        found.store_secret()
        made.append(found)
        return found

    yield make
    for stage in made:
        stage.pool.shutdown(wait=True)


@pytest.fixture
def stage(make_stage: Callable[..., JobStage], postgres_server: PostgresServer, postgres_url: str) -> JobStage:
    """A service on PostgreSQL."""
    database = postgres_url.rpartition("/")[2].partition("?")[0]
    return make_stage(postgres_url, Engine.POSTGRES, lambda statement: postgres_server.execute(statement, database))


@pytest.fixture
def clickhouse_stage(
    make_stage: Callable[..., JobStage], clickhouse_server: ClickHouseServer, clickhouse_database: str, clickhouse_url: str
) -> JobStage:
    """A service on ClickHouse."""
    return make_stage(clickhouse_url, Engine.CLICKHOUSE, lambda statement: clickhouse_server.execute(statement, clickhouse_database))


@pytest.fixture(scope="module")
def fleet_stage(
    cluster: sandbox.Cluster, postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FleetStage]:
    """A fleet of two environments on the cluster, with a real Vault; its workers hold what `greylag privileges` prints."""
    needs.openbao()
    with openbao_server.OpenBaoServer(tmp_path_factory.mktemp("openbao")) as vault:
        built = FleetStage(tmp_path_factory.mktemp("stage"), cluster, vault, postgres_server).build()
        yield built
        built.close()


@pytest.fixture
def worker(fleet_stage: FleetStage, monkeypatch: pytest.MonkeyPatch) -> FleetStage:
    """The stage, with this process as dev's worker until `become` makes it another's."""
    become(monkeypatch, fleet_stage, "dev")
    return fleet_stage


@pytest.fixture
def argo_stage(stage: JobStage, argocd: installation.ArgoCD, repository: Repository) -> Iterator[ArgoStage]:
    """A service on PostgreSQL whose migration is a hook of an application; its account may get and sync that application, and nothing else."""
    made = ArgoStage(stage, argocd, repository)
    made.create()
    yield made
    argocd.delete_application(made.name)
