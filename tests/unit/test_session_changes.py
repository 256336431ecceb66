"""What a file is certain to leave in its session, and what `validate` and `plan` say of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from migrator import cli, databases
from migrator.goose import annotations
from migrator.planning import files, planner
from migrator.planning.history import History
from migrator.postgres.reading import session_changes
from migrator.targets import Direction, Engine, Target, Verb


def left(*texts: str) -> list[str]:
    body = "\n".join(texts)
    parsed = annotations.parse(f"-- +goose Up\n{body}\n".encode(), Direction.UP, path="1_x.sql")
    return [f"{item.kind}:{item.name}:{item.line - 1}" for item in session_changes.of(parsed.statements)]


LEFT = {
    "SET search_path TO app;": "setting:search_path:1",
    "/* c */ SET -- d\n SESSION search_path = app;": "setting:search_path:1",
    "set Search_Path = 'app';": "setting:search_path:1",
    "SET app.user = '7';": "setting:app.user:1",
    "SET SCHEMA 'app';": "setting:search_path:1",
    "SET NAMES 'latin1';": "setting:client_encoding:1",
    "SET TIME ZONE 'UTC';": "setting:timezone:1",
    "SET ROLE app;": "role:role:1",
    "SET SESSION ROLE app;": "role:role:1",
    "SET SESSION AUTHORIZATION app;": "role:session_authorization:1",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;": "setting:session_characteristics:1",
    "SELECT pg_catalog.set_config('search_path', '', false);": "setting:search_path:1",
    "SELECT set_config('search_path', concat('a', lower('B')), FALSE);": "setting:search_path:1",
    "SELECT set_config('role', 'app', 'f');": "role:role:1",
    "CREATE TEMP TABLE stage (a int);": "temporary:stage:1",
    "CREATE LOCAL TEMPORARY TABLE IF NOT EXISTS stage (a int);": "temporary:stage:1",
    "CREATE OR REPLACE TEMP VIEW v AS SELECT 1;": "temporary:v:1",
    "SELECT 1 AS a INTO TEMP stage;": "temporary:stage:1",
    "PREPARE p AS SELECT 1;": "prepared:p:1",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1;": "cursor:c:1",
    "LISTEN news;": "channel:news:1",
}

NOTHING = [
    "SET LOCAL search_path TO app;",
    "SET LOCAL ROLE app;",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;",
    "SET CONSTRAINTS ALL DEFERRED;",
    "SELECT set_config('search_path', '', true);",
    "CREATE TEMP TABLE stage (a int) ON COMMIT DROP;",
    "DECLARE c CURSOR FOR SELECT 1;",
    "PREPARE TRANSACTION 'x';",
    "ALTER TABLE t SET (fillfactor = 70);",
    "UPDATE t SET search_path = 1;",
    "INSERT INTO t VALUES ('SET search_path TO app;');",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = '' AS 'SELECT 1';",
    "SET search_path TO app;\nRESET search_path;",
    "SET search_path TO app;\nSET search_path TO DEFAULT;",
    "SET search_path TO app;\nRESET ALL;",
    "SET TIME ZONE 'UTC';\nRESET TIME ZONE;",
    "SET app.user = 1;\nRESET app.user;",
    "SET ROLE app;\nRESET ROLE;",
    "SET ROLE app;\nSET ROLE NONE;",
    "SET SESSION AUTHORIZATION app;\nRESET SESSION AUTHORIZATION;",
    "SET SESSION AUTHORIZATION app;\nSET SESSION AUTHORIZATION DEFAULT;",
    "CREATE TEMP TABLE stage (a int);\nDROP TABLE stage;",
    "CREATE TEMP TABLE stage (a int);\nDISCARD TEMP;",
    "PREPARE p AS SELECT 1;\nDEALLOCATE p;",
    "PREPARE p AS SELECT 1;\nDEALLOCATE ALL;",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1;\nCLOSE c;",
    "LISTEN news;\nUNLISTEN *;",
    "SET a.b = 1;\nPREPARE p AS SELECT 1;\nDISCARD ALL;",
]


@pytest.mark.parametrize("text", LEFT)
def test_what_lasts_is_found_with_its_line(text: str) -> None:
    assert left(text) == [LEFT[text]]


@pytest.mark.parametrize("text", NOTHING)
def test_what_ends_with_the_transaction_or_is_ended_by_the_file_is_not(text: str) -> None:
    assert left(text) == []


def test_reset_all_keeps_the_role_and_a_chunk_is_read_command_by_command() -> None:
    assert left("-- +goose StatementBegin", "SET a.b = 1;", "SET ROLE app;", "RESET ALL;", "-- +goose StatementEnd") == ["role:role:3"]


def _write(directory: Path, *texts: str) -> None:
    for number, text in enumerate(texts, 1):
        (directory / f"{number:05}_x.sql").write_text(f"{text}\n-- +goose Down\nSELECT 1;\n", encoding="utf-8")


def validate(capsys: pytest.CaptureFixture[str], directory: Path, *words: str) -> list[tuple[str, int | None]]:
    assert cli.main(["-dir", str(directory), "-json", "validate", *words]) == 0
    return [(item["code"], item["line"]) for item in json.loads(capsys.readouterr().out)["findings"]]


def test_validate_warns_of_set_without_local(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(
        tmp_path,
        "-- +goose Up\nSELECT pg_catalog.set_config('search_path', '', false);\nSET ROLE app;\nCREATE TEMP TABLE a (a int);",
        "-- +goose Up\nSET LOCAL search_path = app;",
        "-- +goose NO TRANSACTION\n-- +goose Up\nSET search_path = app;",
        "-- +goose Up\n-- +goose ENVSUB ON\nSET search_path = ${HOME};",
    )
    assert validate(capsys, tmp_path) == [("set-without-local", 2), ("set-without-local", 3), ("set-without-local", 3)]


def test_validate_leaves_clickhouses_set_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, "-- +goose Up\nSET max_threads = 1;\nCREATE TABLE t (a UInt8) ENGINE = Log;")
    assert validate(capsys, tmp_path) == []
    monkeypatch.setenv("GREYLAG_DRIVER", "postgres")
    assert validate(capsys, tmp_path) == [("set-without-local", 2)]


def remarks(directory: Path, engine: Engine) -> list[str]:
    plan = planner.plan(files.load(str(directory)), History(engine, exists=False), Target(Verb.UP), engine=engine)
    return [item.message for item in databases.warnings(plan) if item.code == "session-restored"]


def test_a_plan_says_in_one_line_where_it_differs_from_goose(tmp_path: Path) -> None:
    _write(
        tmp_path,
        "-- +goose Up\nSET search_path = app;\nPREPARE p AS SELECT 1;",
        "-- +goose Up\nSELECT 1;",
        "-- +goose NO TRANSACTION\n-- +goose Up\nSET ROLE x;",
        "-- +goose Up\nSELECT 1;",
    )
    (message,) = remarks(tmp_path, Engine.POSTGRES)
    assert message.startswith(f"{tmp_path}/00001_x.sql:2: SET search_path, and 1 more file(s): it ends with its file here")


def test_a_plan_of_clickhouse_says_it_too(tmp_path: Path) -> None:
    _write(tmp_path, "-- +goose Up\nUSE other;", "-- +goose Up\nSELECT 1;")
    assert "00001_x.sql:2: USE: " in remarks(tmp_path, Engine.CLICKHOUSE)[0]


def test_a_plan_says_nothing_where_nothing_follows_or_lasts(tmp_path: Path) -> None:
    _write(tmp_path, "-- +goose Up\nINSERT INTO t SELECT f();\nSET LOCAL search_path = app;", "-- +goose Up\nSET search_path = app;")
    assert remarks(tmp_path, Engine.POSTGRES) == []


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("CREATE TEMP TABLE stage (a int);\nVACUUM t;\nINSERT INTO t SELECT a FROM stage;", True),
        ("PREPARE p AS SELECT 1;\nVACUUM t;\nEXECUTE p;", True),
        ("CREATE TEMP TABLE stage (a int);\nVACUUM t;\nINSERT INTO t SELECT a FROM stages;", False),
        ("CREATE TABLE stage (a int);\nINSERT INTO t SELECT a FROM stage;", False),
    ],
)
def test_a_plan_warns_of_what_a_broken_file_without_a_transaction_would_lose(tmp_path: Path, text: str, warned: bool) -> None:
    _write(tmp_path, f"-- +goose NO TRANSACTION\n-- +goose Up\n{text}")
    plan = planner.plan(files.load(str(tmp_path)), History(Engine.POSTGRES, exists=False), Target(Verb.UP), engine=Engine.POSTGRES)
    found = [item.message for item in databases.warnings(plan) if item.code == "ends-with-session"]
    assert len(found) == warned
    assert not found or ("00001_x.sql:3: " in found[0] and "line 5 needs it" in found[0])
