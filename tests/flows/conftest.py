"""Fixtures of the flows' tests: a small fleet on the session's servers (`stage.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.databases.clickhouse import ClickHouseServer
from sandbox.databases.postgres import PostgresServer
from sandbox.stack.prefect_server import PrefectServer
from sandbox.vault.secrets_server import SecretsServer
from tests.flows.stage import ENVIRONMENTS, Stage, become, drain


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
