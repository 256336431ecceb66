"""A lossy hazard that was accepted runs as goose runs it, and its reason is kept with the version, on real servers of both engines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from migrator import cli, databases
from migrator.clickhouse import connection
from migrator.planning import events, files, planner, plans
from migrator.targets import Target, Verb
from tasks import fleet, migration
from tasks.fleet import models
from tasks.fleet.models import Engine
from tasks.fleet.rules_section import AcceptedHazard
from tasks.request import Request

DROPPED = (
    "-- +goose Up\nCREATE TABLE {table};\n-- +goose StatementBegin\n-- +goose StatementEnd\nSELECT swallowed;\n"
    "\n-- +goose Down\nDROP TABLE t;\n"
)
"""goose swallows the line behind an empty block."""
REASON = 'OPS-7: the statement is run by hand; it\'s "agreed"'


def written(directory: Path, table: str, version: int = 1) -> str:
    name = f"{version:05d}_t.sql"
    (directory / name).write_text(DROPPED.format(table=table), encoding="utf-8", newline="")
    return name


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert cli.main([*arguments, "up", "-json"]) == 11
    return str(json.loads(capsys.readouterr().out.splitlines()[-1])["error"]["code"])


def accepting(arguments: list[str], name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The flags that accept one hazard after the other, as their refusals name them."""
    flags: list[str] = []
    for _ in range(3):
        capsys.readouterr()
        if cli.main([*arguments, *flags, "plan", "-json"]) == 0:
            return flags
        flags += ["-accept-hazard", f"{name}:{json.loads(capsys.readouterr().out)['error']['code']}:{REASON}"]
    raise AssertionError("still refused")


def history(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[int, str | None]:
    capsys.readouterr()
    assert cli.main([*arguments, "history", "-json"]) == 0
    return {item["version"]: item["accepted"] for item in json.loads(capsys.readouterr().out)["history"]}


@pytest.mark.parametrize("head", ["", "-- +goose NO TRANSACTION\n"])
def test_postgresql_keeps_the_reason_with_the_version(
    head: str, postgres_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["-dir", str(tmp_path), "postgres", postgres_url]
    (tmp_path / "00000_first.sql").unlink(missing_ok=True)
    (tmp_path / "00001_first.sql").write_text("-- +goose Up\nSELECT 1;\n", encoding="utf-8")
    assert cli.main([*arguments, "up"]) == 0
    name = written(tmp_path, "t (id int)", 2)
    (tmp_path / name).write_text(head + (tmp_path / name).read_text(encoding="utf-8"), encoding="utf-8", newline="")
    refusal(arguments, capsys)
    flags = accepting(arguments, name, capsys)
    assert cli.main([*arguments, *flags, "up"]) == 0
    assert "[hazard-accepted]" in capsys.readouterr().err
    kept = history(arguments, capsys)
    assert kept[1] is None and REASON in str(kept[2])
    assert cli.main([*arguments, "history"]) == 0
    assert f"{REASON})" in capsys.readouterr().out
    assert cli.main([*arguments, "down"]) == 0
    assert 2 not in history(arguments, capsys)
    assert cli.main([*arguments, "-accept-hazards", "up"]) == 0, "the column is there now"
    assert "-accept-hazards" in str(history(arguments, capsys)[2])
    assert cli.main([*arguments, "verify"]) == 0


def test_clickhouse_keeps_the_reason_with_the_version(clickhouse_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The server itself refuses nearly all that goose spoils, so a file without a hazard is executed as one whose hazard was accepted."""
    arguments = ["-dir", str(tmp_path), "clickhouse", clickhouse_url]
    for version in (1, 2):
        (tmp_path / f"0000{version}_t.sql").write_text("-- +goose Up\nSELECT 1;\n", encoding="utf-8")
    assert cli.main([*arguments, "up-to", "1"]) == 0
    assert history(arguments, capsys) == {1: None}
    with connection.connect(clickhouse_url, databases.Options()) as database, database.lock(events.ignore):
        before = database.ensure_history()
        made = planner.plan(files.load(tmp_path), before, Target(Verb.UP), engine=database.engine)
        accepted = plans.Acceptance("00002_t.sql", "several-commands", REASON)
        database.execute(made, [replace(step, accepted=(accepted,)) for step in made.steps], events.ignore)
    assert history(arguments, capsys) == {1: None, 2: f"several-commands: {REASON}"}


def test_flow_step_takes_what_fleet_yaml_accepts(postgres_url: str, tmp_path: Path) -> None:
    from pydantic import SecretStr

    name = written(tmp_path, "t (id int)")
    target: models.Target = fleet.load().target("auth-service", "dev").model_copy(update={"directory": str(tmp_path)})
    url = SecretStr(postgres_url)
    accepted: tuple[AcceptedHazard, ...] = ()
    for _ in range(3):
        try:
            outcome = migration.preview(Request(target, url))
            break
        except migration.errors.PlanRefused as refused:
            accepted += (AcceptedHazard(file=name, hazard=refused.code, reason=REASON),)
            target = target.model_copy(update={"accepted_hazards": accepted})
    assert accepted and target.engine is Engine.POSTGRES
    assert {item.code for item in outcome.remarks} >= {"hazard-accepted"} and REASON in outcome.remarks[0].message
    done = migration.run(Request(target, url))
    assert done.versions == (1,) and REASON in done.remarks[0].message
    with psycopg.connect(postgres_url) as connection:
        found = connection.execute("SELECT accepted FROM greylag_migration WHERE version = 1").fetchone()
    assert found == ("; ".join(f"{item.hazard}: {item.reason}" for item in accepted),)
