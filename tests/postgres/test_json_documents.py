"""docs/commands/json.md says of each command what `-json` really writes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from migrator import cli
from migrator.planning import events
from tests.postgres.conftest import Playground

PAGE = (Path(__file__).parents[2] / "docs" / "commands" / "json.md").read_text(encoding="utf-8")
WRITERS = ("writers", "name", "may", "remedy")
"""Of `env`, where it knows a database to ask (test_grants.py)."""
ALWAYS = {"verb", "exit_code"}


def _documented(row: str) -> set[str]:
    """The fields that the page's row of a command or an event names."""
    found = re.search(rf"^\| (?:… )?`{row}`[^|]*\| (.+) \|$", PAGE, re.MULTILINE)
    assert found is not None, row
    return set(re.findall(r"`([a-z_]+)`", found[1]))


@pytest.fixture
def said(playground: Playground, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command with `-json` on the playground's database; its documents."""

    def run(*words: str, code: int = 0) -> list[dict[str, Any]]:
        assert cli.main(["-env", "none", "-dir", str(playground.directory), "-json", "postgres", playground.url, *words]) == code
        out = capsys.readouterr().out
        if "\n{" in out.rstrip():
            return [json.loads(line) for line in out.splitlines()]
        return [json.loads(out)]

    return run


def test_documents_hold_the_fields_of_the_page(playground: Playground, said: Any) -> None:
    playground.write(1, "CREATE TABLE t (id int);", "DROP TABLE t;")
    (plan,) = said("plan")
    assert set(plan) == _documented("plan") | ALWAYS
    assert {*plan["steps"][0], *plan["steps"][0]["statements"][0]} <= _documented("steps")
    said("up")
    playground.write(2, "ALTER TABLE t ADD COLUMN a int;", "ALTER TABLE t DROP COLUMN a;")
    (status,) = said("status", "-exit-code", code=3)
    assert {*status, *status["migrations"][0], "direction", "done", "unknown"} == _documented("status") | ALWAYS
    assert {*said("plan")[0]["remarks"][0]} <= _documented("remarks")
    playground.run()
    (history,) = said("history")
    assert {*history, *history["history"][0]} == _documented("history") | ALWAYS
    playground.sql("DELETE FROM greylag_migration WHERE version = 2")
    assert {*said("history")[0]["history"][1]} == {*history["history"][0]}
    for words in (("version",), ("wait",), ("baseline",)):
        assert set(said(*words)[0]) == _documented(words[0]) | ALWAYS
    (verified,) = said("verify")
    assert (
        set(verified) | {"subject", "state", "reason", "expected", "found", "version", "job", "workload", "status"}
        == _documented("verify") | ALWAYS
    )
    (repaired,) = said("repair", "-checksum", "1")
    assert {*repaired, *repaired["checksums"][0], "statement", "done", "from", "to"} == _documented("repair") | ALWAYS


def test_documents_of_commands_without_a_database_hold_the_fields_of_the_page(
    playground: Playground, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    playground.write(1, "SELECT 1;")
    at = ["-env", "none", "-dir", str(playground.directory), "-json"]
    for verb, words in (("validate", []), ("create", ["more", "sql"]), ("fix", []), ("env", [])):
        assert cli.main([*at, verb, *words]) == 0
        document = json.loads(capsys.readouterr().out)
        inner = {key for value in document.values() if isinstance(value, list) for item in value for key in item}
        assert {*document, *inner} - {"error", "warning"} == _documented(verb) - {"error", "warning", "against", *WRITERS} | ALWAYS, verb
    assert cli.main(["-env", "none", "-dir", str(tmp_path / "fresh"), "-json", "init"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == _documented("init") | ALWAYS


def test_errors_hold_the_fields_of_the_page_and_what_was_found_before(playground: Playground, said: Any) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    (verified,) = said("verify", code=16)
    shown = re.search(r'"error": (\{.+\}), "exit_code"', PAGE)
    assert shown is not None
    assert set(verified["error"]) == set(json.loads(shown[1]))
    assert verified["pending"] == [1]


def test_events_hold_the_fields_of_the_page(playground: Playground, said: Any) -> None:
    kinds = {item.__name__: item for item in events.Event.__subclasses__()}
    for item in kinds.values():
        assert set(item.__dataclass_fields__) <= _documented(item.kind.fget(item.__new__(item)))  # type: ignore[attr-defined]
    playground.write(1, "CREATE TABLE t (id int);")
    *told, result = said("up")
    assert [item["event"] for item in told][-1] == "migration-finished"
    assert set(result) == _documented("result") - {"error", "migration"} | ALWAYS | {"event"}


def test_what_an_earlier_run_left_half_way_is_told_by_plan_and_status_and_not_undermined(playground: Playground, said: Any) -> None:
    playground.write(1, "CREATE TABLE t (id int);", "DROP TABLE t;")
    path = playground.write(2, "INSERT INTO t VALUES (1);\nSELEC 1;", head="-- +goose NO TRANSACTION\n")
    said("up", code=14)
    assert said("status")[0]["half_applied"] == [{"version": 2, "direction": "up", "done": 1, "unknown": False}]
    (remark,) = said("plan")[0]["remarks"]
    assert (remark["code"], remark["message"].startswith(f"{path}:4: an earlier run executed 1 of 2")) == ("resumes", True)
    for refused in (("plan", "down"), ("down",), ("down-to", "0"), ("redo",), ("reset",)):
        assert said(*refused, code=11)[-1]["error"]["code"] == "half-applied"
    assert playground.sql("SELECT id FROM t") == [(1,)]
    said("repair", "-not-done", "2:1")  # as the hint says: its row goes with the table
    said("down")
    playground.write(2, "INSERT INTO t VALUES (1);\nSELECT 1;", head="-- +goose NO TRANSACTION\n")
    said("up")
    assert said("status")[0]["half_applied"] == []
    assert playground.sql("SELECT id FROM t") == [(1,)]


def test_a_plan_and_an_up_with_rules_warn_of_the_house_rules(playground: Playground, said: Any) -> None:
    playground.write(1, "CREATE TABLE t (id uuid);", "DROP TABLE t;")
    assert said("plan")[0]["remarks"] == []
    assert [item["code"] for item in said("plan", "-rules")[0]["remarks"]] == ["H02"]
    assert [item["code"] for item in said("up", "-rules")[-1]["remarks"]] == ["H02"]
    assert said("plan", "-rules")[0]["remarks"] == []
