"""`greylag test` on ClickHouse's embedded server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from migrator import cli

TABLE = "CREATE TABLE {name} (id Int64) ENGINE = MergeTree ORDER BY id;\n"


def test_bad_flow_a_table_that_down_forgets_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "00001_a.sql").write_text(f"-- +goose Up\n{TABLE.format(name='a')}-- +goose Down\nDROP TABLE a;\n")
    both = TABLE.format(name="b") + TABLE.format(name="c")
    (tmp_path / "00002_b.sql").write_text(f"-- +goose Up\n{both}-- +goose Down\nDROP TABLE b;\n")
    assert cli.main(["test", "-dir", str(tmp_path), "clickhouse", "--json"]) == 16
    document = json.loads(capsys.readouterr().out)
    assert document["engine"] == "clickhouse"
    assert document["error"]["message"] == "the Down of 00002_b.sql leaves TABLE c behind"
    assert document["error"]["line"] == 5
