"""The example services' ClickHouse migrations through the engine: applied, verified, rolled back, applied again, killed in between."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from migrator import targets, verification
from migrator.planning import files
from sandbox.databases import clickhouse
from tests.clickhouse.conftest import Playground, finish, has_lock, start
from tests.conftest import on_each_release

pytestmark = on_each_release

SERVICES = Path(__file__).parents[2] / "services"

KILLED_IN = 2  # the second file of both services begins with a statement that the catalogue can settle


@pytest.fixture(params=["audit-service", "analytics-service"])
def service(request: pytest.FixtureRequest, playground: Playground, monkeypatch: pytest.MonkeyPatch) -> Playground:
    monkeypatch.setenv("CLICKHOUSE_DATABASE", playground.name)
    monkeypatch.setenv("CLICKHOUSE_CLUSTER", clickhouse.CLUSTER)
    playground.directory = SERVICES / request.param / "migrations"
    return playground


def _verification(service: Playground) -> verification.Verification:
    with service.open() as database:
        return verification.verify(database, files.load(service.directory))


def _tables(service: Playground) -> list[list[object]]:
    return service.sql(
        "SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase() AND name NOT LIKE 'g%' ORDER BY name"
    )


def test_service_is_applied_verified_rolled_back_and_applied_again(service: Playground) -> None:
    service.run()
    first = _tables(service)
    found = _verification(service)
    assert (found.problems(), found.remarks()) == ([], [])
    assert found.checked > 30
    service.run(targets.Verb.RESET)
    assert _tables(service) == []
    service.run()
    assert _tables(service) == first


def test_service_killed_half_way_is_completed_by_the_next_run(service: Playground) -> None:
    begun = itertools.count(1)
    process = service.runner()
    start(process)
    assert has_lock(process)
    assert process.stdout is not None
    while '"migration-started"' not in process.stdout.readline() or next(begun) < KILLED_IN:
        pass
    process.kill()
    finish(process)
    service.run()
    found = _verification(service)
    assert found.problems() == []
    versions = service.versions()
    assert versions == sorted(set(versions))
