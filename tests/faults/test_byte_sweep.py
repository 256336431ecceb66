"""A run that is cut after any byte: never 0 with work missing or doubled, never an exit code outside the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.targets import Engine
from tests.faults.matrix.lanes import Lane
from tests.faults.matrix.sweep import faults_of, sweep

STEPS = {Engine.POSTGRES: 3_000, Engine.CLICKHOUSE: 12_000}
"""Bytes between two cuts in the suite; `make faults PART=sweep` cuts after every 500th. On ClickHouse each waits for the lock of a run that died."""


@pytest.mark.parametrize("engine", [*Engine])
def test_a_run_cut_after_any_byte_is_completed_by_the_next(engine: Engine, tmp_path: Path) -> None:
    with Lane(engine, tmp_path / "lane") as lane:
        found = list(sweep(lane, STEPS[engine]))
    assert faults_of(found) == []
    assert len([item for item in found if item.happened]) >= 6
