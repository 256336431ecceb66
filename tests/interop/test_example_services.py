"""goose itself applies the example services: up, down to nothing and up again leave the same schema, file by file as well."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sandbox.databases import clickhouse, postgres

SERVICES = Path(__file__).resolve().parents[2] / "services"
POSTGRES = {
    "auth-service": SERVICES / "auth-service/migrations",
    "personal-service": SERVICES / "personal-service/migrations",
    "authorization-service": SERVICES / "authorization-service/migrations",
    "identity-service": SERVICES / "identity-service/migrations/postgres",
}
CLICKHOUSE = {name: SERVICES / name / "migrations" for name in ("audit-service", "analytics-service")}

# goose's own objects are its business; what greylag adds would be, too.
CLICKHOUSE_SCHEMA = """
SELECT name, create_table_query FROM system.tables
WHERE database = '{database}' AND name NOT LIKE 'goose%' AND name NOT LIKE 'greylag%' ORDER BY name FORMAT TSVRaw
"""


def goose_runner(binary: Path, driver: str, url: str, directory: Path, variables: Mapping[str, str]) -> Callable[..., None]:
    def run(*command: str) -> None:
        done = subprocess.run(
            [binary, "-env", "none", "-dir", directory, driver, url, *command],
            env=os.environ | variables,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return run


def check_every_down(run: Callable[..., None], schema: Callable[[], str], files: int) -> None:
    """Each file by itself is undone without a trace, then all together; and what is applied the second time is what was the first."""
    before = schema()
    for _ in range(files):
        without = schema()
        run("up-by-one")
        with_it = schema()
        run("down")
        assert schema() == without
        run("up-by-one")
        assert schema() == with_it
    complete = schema()
    run("down-to", "0")
    assert schema() == before
    run("up")
    assert schema() == complete


@pytest.mark.parametrize("service", POSTGRES)
def test_good_flow_every_postgresql_migration_is_undone_by_its_down(
    service: str, postgres_server: postgres.PostgresServer, postgres_url: str, goose_binary: Path
) -> None:
    program = postgres.binaries(postgres_server.version) / "pg_dump"

    def schema() -> str:
        command = [program, "--schema-only", "--exclude-table=goose_*", "--exclude-table=greylag_*", postgres_url]
        dump = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
        # pg_dump guards its output with a key that differs each time.
        return "\n".join(line for line in dump.splitlines() if line and not line.startswith(("--", "\\")))

    run = goose_runner(goose_binary, "postgres", postgres_url, POSTGRES[service], {})
    check_every_down(run, schema, len(list(POSTGRES[service].glob("*.sql"))))


@pytest.mark.parametrize("service", CLICKHOUSE)
def test_good_flow_every_clickhouse_migration_is_undone_by_its_down(
    service: str,
    clickhouse_server: clickhouse.ClickHouseServer,
    clickhouse_database: str,
    clickhouse_native_url: str,
    goose_binary: Path,
) -> None:
    def schema() -> str:
        return clickhouse_server.execute(CLICKHOUSE_SCHEMA.format(database=clickhouse_database))

    variables = {"CLICKHOUSE_DATABASE": clickhouse_database, "CLICKHOUSE_CLUSTER": clickhouse.CLUSTER}
    run = goose_runner(goose_binary, "clickhouse", clickhouse_native_url, CLICKHOUSE[service], variables)
    check_every_down(run, schema, len(list(CLICKHOUSE[service].glob("*.sql"))))
