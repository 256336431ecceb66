"""greylag's own commands on PostgreSQL: plan, verify, wait, history, baseline, repair, JSON, signals, exit codes."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from migrator.address import addresses, urls
from migrator.cli import invocation, main
from tests.interop.postgres import objects, query, rows
from tests.interop.runner import ROOT, Result, Tools, files, table, tables


@pytest.fixture
def greylag(tools: Tools, postgres_url: str) -> Greylag:
    return Greylag(tools, postgres_url)


class Greylag:
    """greylag in a directory with `m`, on one database."""

    def __init__(self, tools: Tools, url: str) -> None:
        self.tools = tools
        self.url = url
        self.directory = tools.cwd / "m"

    def __call__(self, *words: str, expected: int = 0, **environ: str) -> Result:
        said = self.tools.greylag("-dir", "m", "postgres", self.url, *words, **environ)
        assert said.code == expected, said.err
        return said

    def document(self, *words: str, expected: int = 0) -> dict[str, object]:
        return dict(json.loads(self("-json", *words, expected=expected).out))


def _events(said: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in said.out.splitlines()]


# --- plan -------------------------------------------------------------------------------------------------------------------------


def test_a_plan_shows_every_statement_by_file_and_line_and_changes_nothing(greylag: Greylag) -> None:
    files(greylag.directory, {**tables(1), "00002_b.sql": "-- +goose NO TRANSACTION\n\n-- +goose Up\nSELECT\n  2;\n"})
    said = greylag("plan")
    assert said.out.splitlines()[:11] == [
        "up: 2 migration(s) on a database at version 0",
        "",
        "up   00001_t1.sql  1 statement(s), one transaction",
        "  m/00001_t1.sql:2",
        "    CREATE TABLE t1 (id int);",
        "",
        "up   00002_b.sql  1 statement(s), no transaction",
        "  m/00002_b.sql:4-5",
        "    SELECT",
        "      2;",
        "",
    ]
    assert query(greylag.url, "SELECT to_regclass('goose_db_version')") == [(None,)]
    planned = greylag.document("plan")
    assert f"digest {planned['digest']}" in said.out
    greylag("up")
    assert greylag("plan").out == "up: nothing to run, the database is at version 2\n"
    assert "down 00002_b.sql" in greylag("plan", "down-to", "0").out


def test_only_the_approved_plan_is_run(greylag: Greylag) -> None:
    files(greylag.directory, tables(1, 2))
    digest = str(greylag.document("plan")["digest"])
    files(greylag.directory, tables(1, 2, 3))
    greylag("up", "-approved-digest", digest, expected=11)
    files(greylag.directory, tables(1, 2))
    greylag("up-by-one")
    greylag("up", "-approved-digest", digest)
    assert rows(greylag.url) == [(0, True), (1, True), (2, True)]


def test_values_of_envsub_are_shown_on_a_terminal_only(greylag: Greylag) -> None:
    files(greylag.directory, {"00001_a.sql": "-- +goose Up\n-- +goose ENVSUB ON\nSELECT '${TOKEN_VALUE}';\n"})
    for words in (["plan"], ["-json", "plan"]):
        said = greylag(*words, TOKEN_VALUE="hush-hush")
        assert "${TOKEN_VALUE}" in said.out
        assert "hush-hush" not in said.out + said.err
    assert "hush-hush" not in greylag("plan", "-expand", expected=2, TOKEN_VALUE="hush-hush").err
    import pty

    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "migrator.cli", "-dir", "m", "postgres", greylag.url, "plan", "-expand"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TOKEN_VALUE": "hush-hush"}
    subprocess.run(command, cwd=greylag.tools.cwd, env=environ, stdout=follower, check=True)
    assert b"hush-hush" in os.read(leader, 65536)


@pytest.mark.parametrize("statement", ["SELEC '${TOKEN_VALUE}'", "SELECT '${TOKEN_VALUE}'::int", "SELECT ${TOKEN_VALUE} FROM 1"])
def test_a_rejected_statement_never_shows_what_envsub_filled_in(statement: str, greylag: Greylag) -> None:
    files(greylag.directory, {"00001_a.sql": f"-- +goose Up\n-- +goose ENVSUB ON\n{statement};\n"})
    said = greylag("-json", "-v", "up", expected=14, TOKEN_VALUE="hush-hush")
    assert "hush-hush" not in said.out + said.err
    assert "${TOKEN_VALUE}" in said.err
    assert "m/00001_a.sql:3" in said.err


# --- status, wait, verify, history ------------------------------------------------------------------------------------------------


def test_status_may_end_with_3_when_something_is_pending(greylag: Greylag) -> None:
    files(greylag.directory, tables(1, 2))
    greylag("status", "-exit-code", expected=3)
    greylag("status")
    greylag("up-to", "1")
    found = greylag.document("status", "-exit-code", expected=3)
    assert (found["current"], found["pending"], found["exit_code"]) == (1, [2], 3)
    greylag("up")
    greylag("status", "-exit-code")


def test_wait_ends_when_another_run_has_applied_the_newest_version(greylag: Greylag) -> None:
    files(greylag.directory, tables(1, 2))
    greylag("wait", "-timeout", "100ms", expected=24)
    other = threading.Thread(target=lambda: greylag("up"))
    other.start()
    said = greylag("wait", "-timeout", "2m")
    other.join()
    assert "version 2 is applied" in said.own
    greylag("wait", "-min-version", "1", "-timeout", "0s")
    greylag("wait", "-min-version", "3", "-timeout", "0s", expected=24)


def test_wait_accepts_a_newer_database_but_not_one_that_lacks_the_version(greylag: Greylag) -> None:
    files(greylag.directory, tables(1, 3))
    greylag("up")
    files(greylag.directory, tables(1))
    assert any("newer-database" in line for line in greylag("wait", "-timeout", "0s").own)
    files(greylag.directory, tables(1, 2))
    greylag("wait", "-timeout", "0s", expected=24)


def test_wait_outlasts_a_server_that_is_not_there_yet(tools: Tools) -> None:
    said = tools.greylag("postgres", "postgres://u:p@127.0.0.1:1/d", "wait", "-min-version", "1", "-timeout", "1500ms")
    assert said.code == 24
    assert any("no answer yet" in line for line in said.own)


def test_verify_finds_what_is_missing_and_what_was_changed(greylag: Greylag) -> None:
    files(greylag.directory, tables(1, 2))
    greylag("verify", expected=16)
    greylag("up")
    assert greylag.document("verify")["verified"] is True
    query(greylag.url, "DROP TABLE t1")
    found = greylag.document("verify", expected=16)
    assert found["findings"] != []
    assert "t1" in str(found["findings"])


def test_an_older_directory_on_a_newer_database_is_a_warning(greylag: Greylag) -> None:
    files(greylag.directory, tables(1, 2))
    greylag("up")
    files(greylag.directory, tables(1))
    said = greylag("up")
    assert any("newer-database" in line for line in said.own)
    assert said.text == "TIME goose: no migrations to run. current version: 2\n"
    greylag("down")  # from the recorded text
    assert objects(greylag.url) == [("public", "t1")]


def test_an_image_that_is_too_old_is_told_so(greylag: Greylag) -> None:
    newer = "-- greylag: oldest-app 2\n" + table(2)
    files(greylag.directory, {**tables(1), "00002_b.sql": newer})
    greylag("up")
    files(greylag.directory, tables(1))
    greylag("up", expected=11)
    greylag("wait", "-timeout", "0s", expected=11)


# --- goose before and after -------------------------------------------------------------------------------------------------------


def test_a_database_of_goose_becomes_provable_by_baseline(greylag: Greylag) -> None:
    files(greylag.directory, tables(1, 2))
    assert greylag.tools.goose("-dir", "m", "postgres", greylag.url, "up").code == 0
    greylag("verify", expected=16)
    assert "(not recorded)" in greylag("history").out
    assert greylag.document("baseline")["recorded"] == [1, 2]
    assert greylag.document("baseline")["recorded"] == []
    greylag("verify")
    entries = greylag.document("history")["history"]
    assert isinstance(entries, list)
    assert [entry["name"] for entry in entries] == ["00001_t1.sql", "00002_t2.sql"]
    assert greylag.tools.goose("-dir", "m", "postgres", greylag.url, "reset").code == 0
    assert rows(greylag.url) == [(0, True)]
    assert greylag.document("history")["history"] == []


def test_a_schema_without_a_version_table_is_adopted(greylag: Greylag) -> None:
    files(greylag.directory, {**tables(1, 2, 3), "00004_cic.sql": "-- +goose NO TRANSACTION\n-- +goose Up\nSELECT 1;\n"})
    query(greylag.url, "CREATE TABLE t1 (id int); CREATE TABLE t2 (id int)")
    greylag("baseline", "-to", "7", expected=2)
    assert greylag.document("baseline", "-to", "2")["marked_as_applied"] == [1, 2]
    assert rows(greylag.url) == [(0, True), (1, True), (2, True)]
    greylag("up")
    greylag("verify")
    assert greylag.tools.goose("-dir", "m", "postgres", greylag.url, "version").text == "TIME goose: version 4\n"


def test_a_changed_file_is_refused_until_it_is_accepted(greylag: Greylag) -> None:
    files(greylag.directory, tables(1, 2))
    greylag("up")
    (greylag.directory / "00001_t1.sql").write_text(table(1) + "-- a comment\n")
    said = greylag("up", expected=11)
    assert "[checksum-changed]" in "\n".join(said.own)
    greylag("repair", "-checksum", "9", expected=2)
    greylag("repair", "-checksum", "1")
    greylag("up")
    greylag("verify")


def test_redo_takes_the_edited_file(greylag: Greylag) -> None:
    files(greylag.directory, tables(1))
    greylag("up")
    (greylag.directory / "00001_t1.sql").write_text("-- +goose Up\nCREATE TABLE t1 (id int, more int);\n-- +goose Down\nDROP TABLE t1;\n")
    greylag("redo")
    greylag("verify")


def test_repair_without_a_question_says_so(greylag: Greylag) -> None:
    files(greylag.directory, tables(1))
    greylag("up")
    greylag("repair", expected=2)
    greylag("repair", "-done", "1", expected=2)
    greylag("repair", "-done", "1:1", expected=13)


# --- JSON -------------------------------------------------------------------------------------------------------------------------


def test_a_run_is_a_line_per_event_and_a_result(greylag: Greylag) -> None:
    files(greylag.directory, {**tables(1), "00002_bad.sql": "-- +goose Up\nSELEC 1;\n"})
    said = greylag("-json", "up", expected=14)
    events = _events(said)
    kinds = [event["event"] for event in events]
    assert kinds[-1] == "result"
    assert kinds.count("migration-finished") == 1
    result = events[-1]
    assert result["exit_code"] == 14
    assert result["error"]["file"] == "m/00002_bad.sql"  # type: ignore[index]
    assert result["error"]["line"] == 2  # type: ignore[index]
    assert said.text.splitlines()[0] == "TIME OK   00001_t1.sql (DURATION)"


@pytest.mark.parametrize(
    "words",
    [["status"], ["version"], ["plan"], ["history"], ["verify"], ["wait", "-timeout", "0s"], ["baseline"], ["validate"]],
    ids=" ".join,
)
def test_every_other_command_writes_one_document(words: list[str], greylag: Greylag) -> None:
    files(greylag.directory, tables(1))
    greylag("up")
    arguments = ["-dir", "m", *([] if words == ["validate"] else ["postgres", greylag.url]), "-json", *words]
    said = greylag.tools.greylag(*arguments)
    document = json.loads(said.out)
    assert (document["verb"], document["exit_code"], said.code) == (words[0], 0, 0)


# --- signals, locks, servers ------------------------------------------------------------------------------------------------------


def _running(url: str, text: str) -> bool:
    found = query(
        url, f"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%{text}%' AND state = 'active' AND pid <> pg_backend_pid()"
    )
    return found != [(0,)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("head", ["", "-- +goose NO TRANSACTION\n"], ids=["transaction", "no-transaction"])
def test_a_signal_cancels_on_the_server_and_gives_back_the_lock(number: signal.Signals, head: str, greylag: Greylag) -> None:
    files(greylag.directory, {**tables(1), "00002_slow.sql": f"{head}-- +goose Up\nCREATE TABLE t2 (id int);\nSELECT pg_sleep(300);\n"})
    command = [sys.executable, "-m", "migrator.cli", "-dir", "m", "postgres", greylag.url, "up"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=greylag.tools.cwd, env=environ, stderr=subprocess.PIPE, encoding="utf-8")
    while not _running(greylag.url, "pg_sleep(300)"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=10)  # the promise: within 10 s
    assert process.returncode == 23, err
    assert not _running(greylag.url, "pg_sleep(300)")
    assert rows(greylag.url) == [(0, True), (1, True)]
    assert query(greylag.url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
    if not head:
        assert objects(greylag.url) == [("public", "t1")]


def test_another_run_on_the_database_is_waited_for_and_named(greylag: Greylag) -> None:
    files(greylag.directory, tables(1))
    with psycopg.connect(addresses.parse_postgres(greylag.url).conninfo, autocommit=True, application_name="somebody else") as holder:
        holder.execute("SELECT pg_advisory_lock(4097083626)")
        said = greylag("up", "-lock-wait", "1s", expected=20)
        assert "somebody else" in said.err
        greylag("status")
    greylag("up")


def test_errors_of_the_connection_have_their_exit_codes(greylag: Greylag, tmp_path: Path) -> None:
    files(greylag.directory, tables(1))
    user = urls.split(greylag.url)
    host, port = user.hosts[0]
    for expected, changes in {
        12: {"password": "wr0ng-pass"},
        13: {"database": "absent_database"},
        21: {"port": 1},
    }.items():
        parts = {
            "host": host,
            "port": port or 5432,
            "username": user.username,
            "password": user.password,
            "database": user.path[1:],
            **changes,
        }
        url = addresses.build("postgres", **parts, parameters={"sslmode": "disable"})  # type: ignore[arg-type]
        said = greylag.tools.greylag("-dir", "m", "-json", "postgres", url, "up")
        assert said.code == expected, said.err
        assert "wr0ng-pass" not in said.err + said.out
        assert str(user.password) not in said.err + said.out


def test_a_protected_environment_is_never_rolled_back(greylag: Greylag) -> None:
    files(greylag.directory, tables(1))
    greylag("up", "-protected")
    for verb in (["down"], ["down-to", "0"], ["redo"], ["reset"]):
        greylag(*verb, expected=11, GREYLAG_PROTECTED="true")
    assert objects(greylag.url) == [("public", "t1")]


class FakeConsole:
    """Stands for a checkout's console: knows three databases by name, without fleet.yaml or Vault."""

    def __init__(self, located: list[tuple[str, ...]]) -> None:
        self._located = located

    def resolve(self, _: str) -> Iterator[tuple[str, ...]]:
        return iter(self._located)

    @contextlib.contextmanager
    def abreast(self, _: str) -> Iterator[list[tuple[str, Callable[[], Any]]]]:
        yield [(item[0], functools.partial(contextlib.nullcontext, item)) for item in self._located]


def test_several_targets_run_one_after_the_other_and_a_failure_stops_a_changing_verb(
    greylag: Greylag, new_postgres_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    databases = [new_postgres_url() for _ in range(3)]
    query(databases[1], "CREATE TABLE t1 (id int)")
    files(greylag.directory, tables(1))
    located = [(f"@dev/{name}", "postgres", url, str(greylag.directory), name) for name, url in zip("abc", databases, strict=True)]
    monkeypatch.setattr(invocation, "_console_targets", lambda: FakeConsole(located))
    assert main(["-json", "up", "@dev/*"]) == 14
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(item["target"], item["exit_code"]) for item in lines[-1]["targets"]] == [("@dev/a", 0), ("@dev/b", 14)]
    assert [objects(url) for url in databases] == [[("public", "t1")], [("public", "t1")], []]
    assert main(["-json", "status", "@dev/*", "-exit-code"]) == 3
    assert [item["pending"] for item in json.loads(capfd.readouterr().out)["targets"]] == [[], [1], [1]]


def test_credentials_in_parts_need_no_encoding(greylag: Greylag) -> None:
    files(greylag.directory, tables(1))
    url = urls.split(greylag.url)
    host, port = url.hosts[0]
    parts = {
        "GREYLAG_DRIVER": "postgres",
        "GREYLAG_HOST": host,
        "GREYLAG_PORT": str(port),
        "GREYLAG_USERNAME": url.username,
        "GREYLAG_PASSWORD": str(url.password),
        "GREYLAG_DATABASE": url.path[1:],
        "PGSSLMODE": "disable",
    }
    assert greylag.tools.greylag("-dir", "m", "up", **parts).code == 0
    assert objects(greylag.url) == [("public", "t1")]


def parts(greylag: Greylag) -> dict[str, str]:
    url = urls.split(greylag.url)
    host, port = url.hosts[0]
    return {"host": host, "port": str(port), "username": str(url.username), "password": str(url.password), "database": url.path[1:]}


def test_the_recipes_variables_need_no_shell_that_encodes(greylag: Greylag) -> None:
    files(greylag.directory, tables(1))
    given = {f"POSTGRES_{name.upper()}": value for name, value in parts(greylag).items()}
    assert greylag.tools.greylag("-dir", "m", "postgres", "up", **given).code == 0
    assert objects(greylag.url) == [("public", "t1")]


def test_a_mounted_secret_a_bound_run_and_its_last_words(greylag: Greylag, tmp_path: Path) -> None:
    files(greylag.directory, tables(1, 2))
    secret, log = tmp_path / "secret", tmp_path / "termination-log"
    secret.mkdir()
    for name, value in parts(greylag).items():
        (secret / name).write_text(value, encoding="utf-8")
    plan = json.loads(greylag("-json", "plan").out)
    bound = {
        "GREYLAG_DRIVER": "postgres",
        "GREYLAG_CREDENTIALS_DIRECTORY": str(secret),
        "GREYLAG_MIGRATION_DIR": "m",
        "GREYLAG_TERMINATION_LOG": str(log),
        "GREYLAG_EXPECTED_DATABASE": parts(greylag)["database"],
        "GREYLAG_BUNDLE": plan["bundle"],
        "GREYLAG_APPROVED_DIGEST": plan["digest"],
    }

    def run(expected: int, **changes: str) -> dict[str, Any]:
        assert greylag.tools.greylag("up", **{**bound, **changes}).code == expected
        found: dict[str, Any] = json.loads(log.read_bytes())
        assert parts(greylag)["password"] not in log.read_text(encoding="ascii")
        return found

    for changes, code, exit_code in (
        ({"GREYLAG_EXPECTED_DATABASE": "another"}, "wrong-database", 13),
        ({"GREYLAG_BUNDLE": "0" * 64}, "bundle-changed", 11),
        ({"GREYLAG_APPROVED_DIGEST": "0" * 64}, "approval-mismatch", 11),
    ):
        refused = run(exit_code, **changes)
        assert (refused["error"]["code"], refused["exit_code"], refused["applied"]) == (code, exit_code, [])
    assert objects(greylag.url) == []
    done = run(0)
    assert [item[:2] for item in done["applied"]] == [[1, 1], [2, 1]]
    assert (done["exit_code"], done["current"], done["bundle"], done["plan"]) == (0, 2, plan["bundle"], plan["digest"])
    again = run(0)
    assert (again["applied"], again["current"], again["bundle"]) == ([], 2, plan["bundle"])


@pytest.mark.parametrize(("driver", "scheme"), [("postgres", "postgres"), ("clickhouse", "http")])
@pytest.mark.parametrize(("words", "expected"), [(["-timeout", "5s"], 22), ([], 23)], ids=["timeout", "SIGTERM"])
def test_a_server_that_says_nothing_does_not_hold_the_command(
    driver: str, scheme: str, words: list[str], expected: int, tools: Tools
) -> None:
    files(tools.cwd / "m", tables(1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        url = f"{scheme}://u:s3cr3t@127.0.0.1:{silent.getsockname()[1]}/d"
        command = [sys.executable, "-m", "migrator.cli", "-dir", "m", driver, url, "up", *words]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=tools.cwd, env=environ, stderr=subprocess.PIPE, encoding="utf-8")
        connection, _ = silent.accept()
        connection.recv(1)  # it has connected and waits for an answer
        if not words:
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        connection.close()
    assert process.returncode == expected, err
    assert "s3cr3t" not in err


def test_a_run_with_nothing_to_do_loads_neither_splitter_nor_executor(greylag: Greylag) -> None:
    files(greylag.directory, tables(1))
    greylag("up")
    code = (
        "import sys; from migrator.cli import main; assert main(sys.argv[1:]) == 0;"
        "print(*[name for name in ('annotations', 'lexer', 'applying', 'postgres.execution', 'postgres.reading') if f'migrator.{name}' in sys.modules])"
    )
    command = [sys.executable, "-c", code, "-dir", "m", "postgres", greylag.url, "up"]
    done = subprocess.run(
        command, cwd=greylag.tools.cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, encoding="utf-8", check=True
    )
    assert "no migrations to run" in done.stderr
    assert done.stdout.strip() == ""


# --- the history's own truth ------------------------------------------------------------------------------------------------------


def test_bad_flow_another_branchs_file_of_the_same_version_never_ran(greylag: Greylag) -> None:
    files(greylag.directory, tables(1, 2))
    greylag("up")
    (greylag.directory / "00002_t2.sql").unlink()
    (greylag.directory / "00002_t3.sql").write_text(table(3))  # of the same size
    told = "version 2 was applied from 00002_t2.sql; 00002_t3.sql never ran: give it a new number"
    for words, expected in (
        (("up",), 11),
        (("plan",), 11),
        (("wait", "-timeout", "9s"), 11),
        (("repair", "-checksum", "2"), 11),
        (("verify",), 16),
    ):
        said = greylag(*words, expected=expected)
        assert told in said.err, words
        assert "repair -checksum" not in said.err.split("hint:")[-1]
    assert told in greylag("status").err
    (greylag.directory / "00002_t3.sql").rename(greylag.directory / "00003_t3.sql")
    (greylag.directory / "00002_t2.sql").write_text(table(2))
    greylag("up")
    greylag("verify")


def test_an_applied_file_under_another_number_is_refused_until_its_number_is_recorded(greylag: Greylag) -> None:
    files(greylag.directory, tables(1, 2, 4))
    greylag("up")
    greylag("repair", "-renamed", "2:7", expected=2)
    (greylag.directory / "00002_t2.sql").rename(greylag.directory / "00007_t2.sql")
    (greylag.directory / "00008_t8.sql").write_text(table(8))
    said = greylag("up", expected=11)
    assert "[file-renamed]" in said.err
    assert "repair -renamed 2:7" in said.err
    assert "00007_t2.sql was applied already, as version 2" in greylag("verify", expected=16).err
    greylag("repair", "-renamed", "2:8", expected=11)
    greylag("repair", "-renamed", "3:7", expected=13)
    greylag("repair", "-renamed", "2-7", expected=2)
    assert greylag.document("repair", "-renamed", "2:7")["renamed"] == [{"from": 2, "to": 7}]
    assert rows(greylag.url) == [(0, True), (1, True), (7, True), (4, True)]
    greylag("repair", "-renamed", "2:7", expected=13)
    greylag("up")
    greylag("verify")
    greylag("down-to", "0")
    assert objects(greylag.url) == []


def test_a_copy_is_not_a_renamed_file(greylag: Greylag) -> None:
    again = "-- +goose Up\nSELECT 1;\n"
    files(greylag.directory, {"00001_a.sql": again})
    greylag("up")
    (greylag.directory / "00002_a.sql").write_text(again)
    greylag("repair", "-renamed", "1:2", expected=11)
    greylag("up")
    assert rows(greylag.url) == [(0, True), (1, True), (2, True)]
