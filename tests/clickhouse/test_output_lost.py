"""Output that can't be written: on ClickHouse, too, everything is applied and a failure keeps its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.databases.clickhouse import ClickHouseServer

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("redirection", [">/dev/full 2>/dev/full", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("last", "code", "count"),
    [("CREATE TABLE last (id UInt64) ENGINE = Memory", 0, 3), ("CREATE TABLE bad (id NoSuchType) ENGINE = Memory", 14, 2)],
)
def test_bad_flow_a_run_whose_output_is_lost_ends_as_it_would_have(
    clickhouse_server: ClickHouseServer,
    clickhouse_database: str,
    clickhouse_url: str,
    tmp_path: Path,
    redirection: str,
    last: str,
    code: int,
    count: int,
) -> None:
    for version, statement in enumerate(
        ["CREATE TABLE a (id UInt64) ENGINE = Memory", "CREATE TABLE b (id UInt64) ENGINE = Memory", last], 1
    ):
        (tmp_path / f"{version:05d}_{'long_name_' * 12}.sql").write_text(f"-- +goose Up\n{statement};\n")
    words = ["-json", "-v", "-dir", str(tmp_path), "clickhouse", clickhouse_url, "up"]
    script = f'exec "$0" -m migrator.cli "$@" {redirection}'
    done = subprocess.run(["sh", "-c", script, sys.executable, *words], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == code
    found = clickhouse_server.execute(f"SELECT count() FROM {clickhouse_database}.goose_db_version WHERE version_id > 0")
    assert int(found) == count
