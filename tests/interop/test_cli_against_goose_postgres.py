"""Every command of goose on PostgreSQL: the same files, two databases, one tool each; then both tools on one database.

Compared after every command: goose's text, the exit code (equal where goose ends with 0), the rows of the version table, the tables.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from migrator.address import addresses
from tests.interop.postgres import objects, query, rows
from tests.interop.runner import Result, Tools, files, table, tables

MakeUrl = Callable[[], str]


@dataclass
class Pair:
    """One database for each tool."""

    tools: Tools
    theirs: str
    ours: str
    table: str = "goose_db_version"

    def run(self, command: str, expected: int | None = None) -> tuple[Result, Result]:
        """Runs a command on both and compares; `expected` is greylag's exit code where goose's is not 0."""
        words = shlex.split(command)
        told = self.tools.goose("-dir", "m", "postgres", self.theirs, *words)
        said = self.tools.greylag("-dir", "m", "postgres", self.ours, *words)
        assert said.text == told.text, said.err
        assert (said.code == 0) == (told.code == 0), (command, said.code, told.code, said.err)
        if expected is not None:
            assert said.code == expected
        assert rows(self.ours, self.table) == rows(self.theirs, self.table), command
        assert objects(self.ours) == objects(self.theirs), command
        return told, said


@pytest.fixture
def pair(tools: Tools, new_postgres_url: MakeUrl) -> Pair:
    return Pair(tools, new_postgres_url(), new_postgres_url())


def test_every_command_in_a_life(pair: Pair) -> None:
    files(pair.tools.cwd / "m", {**tables(1, 2, 4), "00003_empty.sql": "-- +goose Up\n", "00005_no_down.sql": table(5, down=False)})
    for command in ("status", "version", "up-by-one", "status", "up-to 3", "version", "up-to 4", "redo", "up", "up", "status"):
        pair.run(command)
    pair.run("up-by-one", expected=1)
    for command in ("down", "status", "down-to 2", "down-to 2", "down-to 7", "up", "reset", "reset", "status", "version"):
        pair.run(command)
        if command == "down":  # version 5 had no Down: goose deletes its row and leaves its table
            query(pair.theirs, "DROP TABLE t5")
            query(pair.ours, "DROP TABLE t5")
    pair.run("down", expected=1)
    pair.run("redo", expected=1)
    pair.run("down-to 0")


def test_words_that_are_no_version_are_refused_in_the_same_words(pair: Pair) -> None:
    files(pair.tools.cwd / "m", tables(1))
    for command in ("up-to", "down-to", "up-to abc", "down-to 1x", "nope", "up-to 99999999999999999999"):
        pair.run(command, expected=2)
    pair.run("up-to 0", expected=10)


def test_versions_out_of_order_are_refused_and_applied_on_demand(pair: Pair) -> None:
    directory = pair.tools.cwd / "m"
    files(directory, tables(3, 5))
    pair.run("up")
    files(directory, tables(1, 3, 4, 5, 6))
    pair.run("up", expected=11)
    pair.run("up-by-one", expected=11)
    pair.run("up-to 2", expected=11)
    pair.run("-allow-missing up-by-one")
    pair.run("-allow-missing up-to 5")
    pair.run("-allow-missing up")
    for command in ("status", "version", "down", "redo", "down-to 3", "reset"):
        pair.run(command)


def test_without_versioning(pair: Pair) -> None:
    directory = pair.tools.cwd / "m"
    files(directory, tables(1, 2, 3))
    for command in ("status", "version", "up-to 2", "down-to 1", "reset", "up", "redo", "down"):
        if command == "reset":  # its Down of the files that are not there would fail
            files(directory, tables(1))
        pair.run(f"-no-versioning {command}")
        if command == "reset":
            files(directory, tables(1, 2, 3))
    assert query(pair.ours, "SELECT to_regclass('goose_db_version')") == [(None,)]
    files(directory, {"00001_a.sql": "-- +goose Up\nSELECT 1;\n-- +goose Down\nSELECT 1;\n", "00002_b.sql": "-- +goose Up\n"})
    for command in ("up-by-one", "up-by-one", "up", "down-to 5", "reset"):
        pair.run(f"-no-versioning {command}")


@pytest.mark.parametrize("name", ["app.versions", '"Weird Name version"', "other_version"])
def test_the_table_may_have_any_name_and_schema(name: str, pair: Pair) -> None:
    files(pair.tools.cwd / "m", tables(1, 2))
    for url in (pair.theirs, pair.ours):
        query(url, "CREATE SCHEMA app")
    pair.table = name
    for command in ("up", "status", "down", "version"):
        pair.run(f"{command} -table {shlex.quote(name)}")


def test_a_rejected_statement_stops_after_what_was_applied(pair: Pair) -> None:
    bad = '-- +goose Up\nCREATE TABLE t2 (id int);\n-- a comment\n\nSELEC "ä\'1" FROM\n\n  x;\n'
    files(pair.tools.cwd / "m", {**tables(1), "00002_bad.sql": bad})
    _, said = pair.run("up", expected=14)
    assert "m/00002_bad.sql:5" in said.err
    pair.run("status")


@pytest.mark.parametrize(
    "text",
    [
        "-- +goose Up\nSELECT 1\n",
        "SELECT 1;\n",
        "-- +goose Up\n-- +goose Nope\nSELECT 1;\n",
        "-- +goose Up\n-- +goose StatementBegin\nSELECT 1;\n",
        "",
    ],
)
def test_a_file_that_cannot_be_split_is_refused_in_the_same_words(text: str, pair: Pair) -> None:
    files(pair.tools.cwd / "m", {"00001_a.sql": text})
    pair.run("up", expected=10)


def test_a_bad_second_file_is_found_before_the_first_is_applied(pair: Pair) -> None:
    files(pair.tools.cwd / "m", {**tables(1), "00002_b.sql": "-- +goose Up\nSELECT 1\n"})
    told = pair.tools.goose("-dir", "m", "postgres", pair.theirs, "up")
    said = pair.tools.greylag("-dir", "m", "postgres", pair.ours, "up")
    assert said.text.splitlines() == told.text.splitlines()[1:]
    assert said.code == 10
    assert (objects(pair.theirs), objects(pair.ours)) == ([("public", "t1")], [])


@pytest.mark.parametrize("command", ["up", "status", "down", "version", "reset", "redo"])
def test_a_missing_or_empty_directory_is_told_in_the_same_words(command: str, pair: Pair) -> None:
    pair.run(command)  # m is empty
    pair.tools.cwd.joinpath("m").rmdir()
    pair.run(command)


@pytest.mark.parametrize("name", ["foo.sql", "0_x.sql", "x_y.sql"])
def test_a_bad_name_is_told_in_the_same_words(name: str, pair: Pair) -> None:
    files(pair.tools.cwd / "m", {name: table(1)})
    pair.run("up", expected=10)
    pair.run("status", expected=10)


def test_duplicate_versions_are_an_error_instead_of_a_panic(pair: Pair) -> None:
    files(pair.tools.cwd / "m", {"00001_a.sql": table(1), "1_b.sql": table(2)})
    told = pair.tools.goose("-dir", "m", "postgres", pair.theirs, "up")
    said = pair.tools.greylag("-dir", "m", "postgres", pair.ours, "up")
    assert (told.code, said.code) == (2, 10)
    assert "goose: duplicate version 1 detected:" in told.err
    assert "goose: duplicate version 1 detected:" in said.err


def test_a_version_without_a_file(pair: Pair) -> None:
    directory = pair.tools.cwd / "m"
    files(directory, tables(1, 2))
    for url in (pair.theirs, pair.ours):  # goose on both: greylag would have recorded the file's text and could roll it back
        assert pair.tools.goose("-dir", "m", "postgres", url, "up").code == 0
    files(directory, tables(1))
    for command in ("status", "version", "up"):
        pair.run(command)
    pair.run("down", expected=1)
    pair.run("redo", expected=1)
    pair.run("down-to 0", expected=1)
    pair.run("reset")


def test_no_transaction_files_and_statement_blocks(pair: Pair) -> None:
    files(
        pair.tools.cwd / "m",
        {
            **tables(1),
            "00002_index.sql": "-- +goose NO TRANSACTION\n-- +goose Up\nCREATE INDEX CONCURRENTLY i ON t1 (id);\n"
            "-- +goose Down\nDROP INDEX CONCURRENTLY i;\n",
            "00003_function.sql": "-- +goose Up\n-- +goose StatementBegin\nCREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$\nBEGIN\n"
            "  RETURN 1;\nEND;\n$$;\n-- +goose StatementEnd\n-- +goose Down\nDROP FUNCTION f();\n",
            "00004_several.sql": "-- +goose Up\nSELECT 1; SELECT 2; CREATE TABLE t4 (id int);\n-- +goose Down\nDROP TABLE t4; SELECT 1;\n",
        },
    )
    for command in ("up", "status", "redo", "down-to 0", "up"):
        pair.run(command)


def test_a_go_file_is_listed_and_never_run(pair: Pair) -> None:
    directory = pair.tools.cwd / "m"
    files(directory, {**tables(1), "00002_b.go": "package m\n", "helper.go": "package m\n", "00003_x_test.go": "package m\n"})
    pair.run("status")
    pair.run("up-to 1")
    pair.run("up", expected=11)
    assert rows(pair.ours)[-1] == (1, True)


@pytest.mark.parametrize("kind", ["directory", "dangling link"])
def test_what_is_named_like_a_migration_and_is_no_file_stops_the_run_in_the_same_words(kind: str, pair: Pair) -> None:
    directory = pair.tools.cwd / "m"
    files(directory, tables(1))
    pair.run("up")
    if kind == "directory":
        (directory / "00002_x.sql").mkdir()
    else:
        (directory / "00002_x.sql").symlink_to("nowhere")
    pair.run("status")
    pair.run("up", expected=10)
    pair.run("down-to 1")


@pytest.mark.parametrize("parameter", ["pool_max_conns=3", "default_query_exec_mode=exec"])
def test_a_parameter_of_the_address_counts_for_both_or_for_neither(parameter: str, pair: Pair) -> None:
    files(pair.tools.cwd / "m", tables(1))
    words = ("-dir", "m", "postgres", f"{pair.theirs}{'&' if '?' in pair.theirs else '?'}{parameter}", "status")
    theirs, ours = pair.tools.goose(*words), pair.tools.greylag(*words)
    assert (theirs.code == 0) == (ours.code == 0) == (not parameter.startswith("pool_"))
    assert ("unrecognized configuration parameter" in theirs.err) == ("unrecognized configuration parameter" in ours.err) == bool(ours.code)


def test_a_timeout_ends_in_the_same_words(pair: Pair) -> None:
    files(pair.tools.cwd / "m", {**tables(1), "00002_slow.sql": "-- +goose Up\nSELECT 1;\nSELECT pg_sleep(60);\nSELECT 2;\n"})
    pair.run("up -timeout 1500ms", expected=22)
    assert query(pair.ours, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()") == [(0,)]
    pair.run("status")


@pytest.mark.parametrize("timeout", ["-1s", "-1ns"])
def test_a_timeout_below_zero_is_over_before_anything_runs(timeout: str, pair: Pair) -> None:
    files(pair.tools.cwd / "m", tables(1))
    for run, url, code in ((pair.tools.goose, pair.theirs, 1), (pair.tools.greylag, pair.ours, 22)):
        done = run("-dir", "m", "postgres", url, "up", f"-timeout={timeout}")
        assert (done.code, "context deadline exceeded" in done.text) == (code, True)
    assert objects(pair.ours) == objects(pair.theirs) == []


def test_no_directory_is_not_the_directory_one_is_in(pair: Pair) -> None:
    """`-dir "$DIR"` with an unset variable must not run what happens to lie here."""
    (pair.tools.cwd / "00001_a.sql").write_text(table(1))
    for command in ("up", "status", "reset"):
        told = pair.tools.goose("-dir", "", "postgres", pair.theirs, command)
        said = pair.tools.greylag("-dir", "", "postgres", pair.ours, command)
        assert (said.text, said.code, told.code) == (told.text, 10, 1)


@pytest.mark.parametrize("content", [[], [(0, False)]])
def test_a_version_table_without_an_applied_row_is_no_new_database(content: list[tuple[int, bool]], pair: Pair) -> None:
    """As a restored schema without its data leaves it: every migration may be applied already."""
    files(pair.tools.cwd / "m", tables(1, 2))
    pair.run("up")
    for url in (pair.theirs, pair.ours):
        query(url, "DELETE FROM goose_db_version")
        for version, applied in content:
            query(url, f"INSERT INTO goose_db_version (version_id, is_applied) VALUES ({version}, {applied})")
    for command in ("up", "up-by-one", "up-to 1", "status", "version", "down", "down-to 0", "redo"):
        _, said = pair.run(command, expected=1)
        assert any("baseline -to" in line for line in said.own)
    pair.run("reset")
    query(pair.ours, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, true)")
    assert pair.tools.greylag("-dir", "m", "postgres", pair.ours, "baseline", "-to", "2").code == 0
    assert rows(pair.ours)[-2:] == [(1, True), (2, True)]


def test_a_table_of_another_kind_under_gooses_name_is_told_with_what_to_do(pair: Pair) -> None:
    files(pair.tools.cwd / "m", tables(1))
    query(pair.ours, "CREATE TABLE goose_db_version (a int)")
    said = pair.tools.greylag("-dir", "m", "postgres", pair.ours, "up")
    assert said.code == 14
    assert any("-table" in line for line in said.own)


@pytest.mark.parametrize("moment", ["0001-01-01 00:00:00", "2024-02-03 04:05:06.789", "9999-12-31 23:59:59"])
def test_a_time_that_somebody_wrote_into_the_table_is_shown_the_same(moment: str, pair: Pair) -> None:
    files(pair.tools.cwd / "m", tables(1))
    pair.run("up")
    for url in (pair.theirs, pair.ours):
        query(url, f"UPDATE goose_db_version SET tstamp = '{moment}'")
    told, said = pair.run("status")
    assert [line[20:] for line in said.err.splitlines()] == [line[20:] for line in told.err.splitlines()]
    query(pair.ours, "UPDATE goose_db_version SET tstamp = '12024-01-01'")  # beyond what greylag can show
    for command in ("status", "up", "down"):
        assert pair.tools.greylag("-dir", "m", "postgres", pair.ours, command).code == 0


def test_what_an_unreadable_down_section_says_on_reset(pair: Pair) -> None:
    files(pair.tools.cwd / "m", {"00001_a.sql": "-- +goose Up\nCREATE TABLE t1 (id int);\n-- +goose Down\nDROP TABLE t1\n"})
    pair.run("up")
    pair.run("reset", expected=10)
    pair.run("-no-versioning reset", expected=10)


def test_a_file_without_transaction_that_failed_says_what_is_applied(pair: Pair) -> None:
    text = "-- +goose NO TRANSACTION\n-- +goose Up\nCREATE TABLE t1 (id int);\nSELEC 1;\n"
    files(pair.tools.cwd / "m", {"00001_a.sql": text})
    _, said = pair.run("up", expected=14)
    assert any("what was applied before it is recorded" in line for line in said.own)
    again = pair.tools.greylag("-dir", "m", "postgres", pair.ours, "up")
    assert any("what was applied before it is recorded" in line for line in again.own)
    query(pair.ours, "DROP TABLE t1")
    unversioned = pair.tools.greylag("-dir", "m", "postgres", pair.ours, "up", "-no-versioning")
    assert any("begins at the first statement" in line for line in unversioned.own)


def test_settings_come_from_variables_and_files_alike(pair: Pair) -> None:
    files(pair.tools.cwd / "m", tables(1))
    (pair.tools.cwd / ".env").write_text("GOOSE_MIGRATION_DIR=m\nexport GOOSE_TABLE='my_versions'\nGOOSE_DRIVER=ignored\n")
    for words in (["up"], ["status"], ["version"], ["down", "-v=false"], ["--table", "other", "status"]):
        told = pair.tools.goose(*words, GOOSE_DRIVER="postgres", GOOSE_DBSTRING=pair.theirs)
        said = pair.tools.greylag(*words, GOOSE_DRIVER="postgres", GOOSE_DBSTRING=pair.ours)
        assert (said.text, said.code) == (told.text, told.code)
    assert rows(pair.ours, "my_versions") == rows(pair.theirs, "my_versions")
    (pair.tools.cwd / "named").write_text("GOOSE_DRIVER: postgres # as YAML\n")
    for environ, words in (
        ({"GOOSE_DBSTRING": "{}"}, ["-env", "named", "-dir", "m", "status"]),
        ({}, ["-env", "named", "-dir", "m", "{}", "status"]),
        ({"GOOSE_DBSTRING": "{}"}, ["-env=none", "pgx", "status", "-dir=m"]),
    ):
        told = pair.tools.goose(*[word.format(pair.theirs) for word in words], **{k: v.format(pair.theirs) for k, v in environ.items()})
        said = pair.tools.greylag(*[word.format(pair.ours) for word in words], **{k: v.format(pair.ours) for k, v in environ.items()})
        assert (said.text, said.code) == (told.text, told.code)


def test_runtime_parameters_in_the_address_reach_the_server(pair: Pair) -> None:
    files(pair.tools.cwd / "m", {"00001_a.sql": "-- +goose Up\nCREATE TABLE t1 AS SELECT current_setting('app.tenant') AS tenant;\n"})
    for url in (pair.theirs, pair.ours):
        query(url, "CREATE SCHEMA app")
    joined = "&" if "?" in pair.ours else "?"
    suffix = f"{joined}search_path=app&app.tenant=a%20b%5C&statement_cache_capacity=0&default_query_exec_mode=exec"
    pair.theirs, pair.ours = pair.theirs + suffix, pair.ours + suffix
    pair.run("up")
    assert query(pair.ours, "SELECT tenant FROM app.t1") == query(pair.theirs, "SELECT tenant FROM app.t1") == [("a b\\",)]


@pytest.mark.parametrize("head", ["", "-- +goose NO TRANSACTION\n"])
def test_the_addresses_lock_timeout_holds_for_rows_too(head: str, pair: Pair) -> None:
    shown = "current_setting('lock_timeout')"
    text = f"-- +goose Up\nCREATE TABLE t1 AS SELECT {shown} AS first;\nCREATE TABLE t2 AS SELECT {shown} AS later;\n"
    files(pair.tools.cwd / "m", {"00001_a.sql": head + text})
    joined = "&" if "?" in pair.ours else "?"
    pair.theirs, pair.ours = (f"{url}{joined}lock_timeout=1234" for url in (pair.theirs, pair.ours))
    pair.run("up")
    for name in ("t1", "t2"):
        assert query(pair.ours, f"SELECT * FROM {name}") == query(pair.theirs, f"SELECT * FROM {name}") == [("1234ms",)]


@pytest.mark.parametrize("parameter", ["nope=1", "lock_timeout=abc"])
def test_a_parameter_that_the_server_refuses_is_no_outage(parameter: str, pair: Pair) -> None:
    files(pair.tools.cwd / "m", tables(1))
    joined = "&" if "?" in pair.ours else "?"
    assert pair.tools.goose("-dir", "m", "postgres", f"{pair.theirs}{joined}{parameter}", "up").code == 1
    said = pair.tools.greylag("-dir", "m", "postgres", f"{pair.ours}{joined}{parameter}", "up")
    assert (said.code, any("correct the parameter" in line for line in said.own)) == (2, True), said.err


def test_a_service_file_may_be_named_in_the_address(pair: Pair) -> None:
    files(pair.tools.cwd / "m", tables(1))
    for tool, url in ((pair.tools.goose, pair.theirs), (pair.tools.greylag, pair.ours)):
        address = addresses.parse_postgres(url, {})
        known = psycopg.conninfo.conninfo_to_dict(address.conninfo)
        (pair.tools.cwd / "services").write_text(
            "[mine]\n" + "".join(f"{key}={known[key]}\n" for key in ("host", "port", "user", "dbname"))
        )
        done = tool("-dir", "m", "postgres", "service=mine servicefile=services sslmode=disable", "up", PGPASSWORD=str(address.password))
        assert done.code == 0, done.err
    assert objects(pair.ours) == objects(pair.theirs) == [("public", "t1")]


COMMANDS = st.sampled_from(["up", "up-by-one", "up-to 2", "down", "down-to 1", "redo", "reset", "status", "version"])


@settings(max_examples=6, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.booleans(), COMMANDS), min_size=4, max_size=9))
def test_the_tools_may_take_turns_on_one_database(steps: list[tuple[bool, str]], tools: Tools, new_postgres_url: MakeUrl) -> None:
    concurrent = (
        "-- +goose NO TRANSACTION\n-- +goose Up\nCREATE INDEX CONCURRENTLY i ON t1 (id);\n-- +goose Down\nDROP INDEX CONCURRENTLY i;\n"
    )
    files(tools.cwd / "m", {**tables(1, 3), "00002_index.sql": concurrent})
    alone, shared = new_postgres_url(), new_postgres_url()
    for by_goose, command in [(True, "version"), *steps]:  # goose makes its table with its first command, greylag with its first change
        told = tools.goose("-dir", "m", "postgres", alone, *command.split())
        run = tools.goose if by_goose else tools.greylag
        said = run("-dir", "m", "postgres", shared, *command.split())
        assert said.text == told.text, (steps, said.err)
        assert (said.code == 0) == (told.code == 0)
        assert rows(shared) == rows(alone)
        assert objects(shared) == objects(alone)


OWN_TRANSACTIONS = {
    "commit": "CREATE TABLE b (id int);\nCOMMIT;\n",
    "wrapped": "BEGIN;\nCREATE TABLE b (id int);\nEND;\n-- c\n;\n",
    "block": "-- +goose StatementBegin\nBEGIN;\nCREATE TABLE b (id int);\nCOMMIT;\n-- +goose StatementEnd\n",
    "chain": "CREATE TABLE b (id int);\nCOMMIT AND CHAIN;\n",
    "twice": "CREATE TABLE b (id int);\nCOMMIT;\nCOMMIT;\n",
    "parentheses": "(SELECT 1);\n/* c */ ((SELECT 1) UNION (SELECT 2));\n",
}


@pytest.mark.parametrize("name", OWN_TRANSACTIONS)
def test_a_file_that_commits_at_its_end_is_applied_as_goose_does(pair: Pair, name: str) -> None:
    text = f"-- +goose Up\n{OWN_TRANSACTIONS[name]}-- +goose Down\nDROP TABLE IF EXISTS b;\nCOMMIT;\n"
    files(pair.tools.cwd / "m", {**tables(1), "00002_own.sql": text, **tables(3)})
    for command in ("up", "down", "down", "up"):
        pair.run(command, expected=0)
