"""Fixtures of the flows' tests: a small fleet on the session's servers (`stage.py`)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandbox.databases.clickhouse import ClickHouseServer
from sandbox.databases.postgres import PostgresServer
from sandbox.stack.prefect_server import PrefectServer, PrefectWorker, clean_environment, create_work_pool
from sandbox.vault.secrets_server import SecretsServer
from tests.flows.stage import ENVIRONMENTS, ROOT, Stage, become, drain


@pytest.fixture(scope="session")
def session_stage(session_directory: Path, postgres_server: PostgresServer, prefect_server: PrefectServer) -> Iterator[Stage]:
    """The session's stage; its paths and the secrets server's address stay the same for workers."""
    directory = session_directory / "stage"
    directory.mkdir()
    with SecretsServer() as vault:
        yield Stage(directory, postgres_server, vault)
    drain()


@pytest.fixture
def stage(session_stage: Stage, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Fresh databases of dev, and fresh files; flows called in this process are the dev environment's worker until `become` is called."""
    session_stage.fresh("dev")
    become(monkeypatch, session_stage, "dev")
    yield session_stage
    session_stage.drop()


@pytest.fixture
def whole_stage(session_stage: Stage, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """The same with the databases of all three environments."""
    session_stage.fresh(*ENVIRONMENTS)
    become(monkeypatch, session_stage, "dev")
    yield session_stage
    session_stage.drop()


@pytest.fixture
def stage_with_clickhouse(
    session_stage: Stage, prefect_server: PrefectServer, clickhouse_server: ClickHouseServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    """The same with a service on ClickHouse."""
    session_stage.clickhouse = clickhouse_server
    session_stage.fresh("dev")
    become(monkeypatch, session_stage, "dev")
    yield session_stage
    session_stage.drop()
    session_stage.clickhouse = None


@pytest.fixture(scope="module")
def workers(session_stage: Stage, prefect_server: PrefectServer) -> Iterator[dict[str, PrefectWorker]]:
    """prefect.yaml applied, and a worker for every pool. Only GREYLAG_HOME tells where the checkout is."""
    session_stage.fresh("dev")
    pools = {environment: f"greylag-{environment}" for environment in ENVIRONMENTS} | {"promotion": "greylag-promotion"}
    for pool in pools.values():
        create_work_pool(prefect_server, pool)
    variables = clean_environment() | prefect_server.environment() | {"GREYLAG_FLEET": str(session_stage.directory / "fleet.yaml")}
    done = subprocess.run(
        [sys.executable, "-m", "migrator.cli", "deploy"], cwd=ROOT, env=variables, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for environment, pool in pools.items():
        held = session_stage.variables(environment)
        if environment == "promotion":
            held = {name: value for name, value in held.items() if "VAULT" not in name}
        found[environment] = PrefectWorker(prefect_server, pool, environment=held, serving=environment)
    with ThreadPoolExecutor() as threads:
        try:
            list(threads.map(PrefectWorker.start, found.values()))
            session_stage.drop()
            yield found
        finally:
            list(threads.map(PrefectWorker.stop, found.values()))
