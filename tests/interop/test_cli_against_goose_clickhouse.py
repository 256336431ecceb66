"""goose's commands on ClickHouse: the same files, two databases, one tool each; then both tools on one database."""

from __future__ import annotations

import json
import shlex
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from migrator.address import addresses
from sandbox.databases import clickhouse
from tests.conftest import AWKWARD_PASSWORD
from tests.interop.runner import Result, Tools, files


def table(number: int, down: bool = True) -> str:
    text = f"-- +goose Up\nCREATE TABLE t{number} (id UInt64) ENGINE = MergeTree ORDER BY id;\n"
    return text + (f"-- +goose Down\nDROP TABLE t{number};\n" if down else "")


def tables(*numbers: int) -> dict[str, str]:
    return {f"{number:05d}_t{number}.sql": table(number) for number in numbers}


def query(url: str, text: str) -> list[list[object]]:
    """Asks over HTTP, without greylag's engine."""
    address = addresses.parse_clickhouse(url, {})
    host, port, _ = address.http_ports[0]
    parameters = {"user": address.username, "password": address.password, "database": address.database, "default_format": "JSONCompact"}
    request = urllib.request.Request(f"http://{host}:{port}/?{urllib.parse.urlencode(parameters)}", data=text.encode())
    with urllib.request.urlopen(request) as answer:
        body = answer.read()
    return list(json.loads(body)["data"]) if body.strip() else []


def rows(url: str) -> list[list[object]]:
    """The version table in order; row 0 alone when it is absent."""
    if query(url, "EXISTS TABLE goose_db_version") == [[0]]:
        return [["0", 1]]
    return query(url, "SELECT toString(version_id), is_applied FROM goose_db_version ORDER BY version_id, tstamp")


def objects(url: str) -> list[list[object]]:
    return query(
        url, "SELECT name FROM system.tables WHERE database = currentDatabase() AND name NOT LIKE 'g%' AND name NOT LIKE '.%' ORDER BY name"
    )


@dataclass
class Pair:
    """One database for each tool; goose speaks the native protocol or HTTP, greylag HTTP."""

    tools: Tools
    theirs: str
    ours: str

    def run(self, command: str, expected: int | None = None) -> tuple[Result, Result]:
        words = shlex.split(command)
        told = self.tools.goose("-dir", "m", "clickhouse", self.theirs, *words)
        said = self.tools.greylag("-dir", "m", "clickhouse", self.ours, *words)
        assert said.text == told.text, said.err
        assert (said.code == 0) == (told.code == 0), (command, said.code, told.code, said.err)
        if expected is not None:
            assert said.code == expected
        assert rows(self.ours) == rows(self.theirs), command
        assert objects(self.ours) == objects(self.theirs), command
        return told, said


@pytest.fixture
def pair(tools: Tools, clickhouse_server: clickhouse.ClickHouseServer, new_clickhouse_database: Callable[[], str]) -> Pair:
    theirs, ours = (clickhouse_server.http_url("migrator", AWKWARD_PASSWORD, new_clickhouse_database()) for _ in range(2))
    return Pair(tools, theirs, ours)


def test_every_command_in_a_life(pair: Pair) -> None:
    files(pair.tools.cwd / "m", {**tables(1, 2), "00003_empty.sql": "-- +goose Up\n", **tables(4)})
    for command in ("status", "version", "up-by-one", "up-to 3", "version", "up", "up", "status", "redo"):
        pair.run(command)
    pair.run("up-by-one", expected=1)
    for command in ("down", "down-to 2", "up", "reset", "reset", "status"):
        pair.run(command)
    pair.run("down", expected=1)


def test_versions_out_of_order_roll_back_by_version(pair: Pair) -> None:
    files(pair.tools.cwd / "m", tables(2, 4))
    pair.run("up")
    files(pair.tools.cwd / "m", tables(1, 2, 4))
    pair.run("up", expected=11)
    pair.run("-allow-missing up")
    for command in ("version", "down", "down", "status"):
        pair.run(command)


def test_a_rejected_statement_stops_there(pair: Pair) -> None:
    files(pair.tools.cwd / "m", {**tables(1), "00002_bad.sql": "-- +goose Up\nCREATE TABLE t2 (id Nope) ENGINE = MergeTree ORDER BY id;\n"})
    told = pair.tools.goose("-dir", "m", "clickhouse", pair.theirs, "up")
    said = pair.tools.greylag("-dir", "m", "clickhouse", pair.ours, "up")
    assert (told.code, said.code) == (1, 14)
    assert "m/00002_bad.sql:2" in said.err
    # The server's own words come through two drivers; what goose itself says is the same.
    assert said.text.partition("Nope")[0] == told.text.partition("Nope")[0]
    assert rows(pair.ours) == rows(pair.theirs)


def test_a_rejected_statement_is_told_as_goose_tells_it_on_the_native_port(
    tools: Tools, clickhouse_server: clickhouse.ClickHouseServer, new_clickhouse_database: Callable[[], str]
) -> None:
    text = "-- +goose Up\nSELECT no_such_function(1);\n"
    files(tools.cwd / "m", {"00001_bad.sql": text})
    told = tools.goose(
        "-dir", "m", "clickhouse", clickhouse_server.native_url("migrator", AWKWARD_PASSWORD, new_clickhouse_database()), "up"
    )
    said = tools.greylag("-dir", "m", "clickhouse", clickhouse_server.url("migrator", AWKWARD_PASSWORD, new_clickhouse_database()), "up")
    assert (told.code, said.code) == (1, 14)
    assert said.text == told.text


def test_a_parameter_of_the_address_that_is_no_setting_is_told_as_such(tools: Tools, clickhouse_url: str) -> None:
    files(tools.cwd / "m", tables(1))
    said = tools.greylag("-dir", "m", "clickhouse", f"{clickhouse_url}&no_such_setting=1", "up")
    assert (said.code, any("correct the parameter" in line for line in said.own)) == (2, True), said.err
    said = tools.greylag("-dir", "m", "clickhouse", f"{clickhouse_url}&dial_timeout=5", "up")
    assert (said.code, "dial_timeout of the address" in said.err) == (2, True), said.err


def test_a_version_table_without_rows_is_no_new_database(pair: Pair) -> None:
    files(pair.tools.cwd / "m", tables(1, 2))
    pair.run("up")
    for url in (pair.theirs, pair.ours):
        query(url, "TRUNCATE TABLE goose_db_version")
    for command in ("up", "status", "version", "down"):
        pair.run(command, expected=1)


def test_goose_on_the_native_port_and_greylag_take_turns(
    tools: Tools, clickhouse_server: clickhouse.ClickHouseServer, clickhouse_native_url: str, clickhouse_url: str
) -> None:
    files(tools.cwd / "m", tables(1, 2, 3))
    for by_goose, command in (
        (True, "up-by-one"),
        (False, "up-to 2"),
        (True, "up"),
        (False, "status"),
        (False, "down"),
        (True, "down-to 1"),
    ):
        run, url = (tools.goose, clickhouse_native_url) if by_goose else (tools.greylag, clickhouse_url)
        assert run("-dir", "m", "clickhouse", url, *command.split()).code == 0
    assert rows(clickhouse_url) == [["0", 1], ["1", 1]]
    assert objects(clickhouse_url) == [["t1"]]


COMMANDS = st.sampled_from(["up", "up-by-one", "up-to 2", "down", "down-to 1", "redo", "reset", "status", "version"])


@settings(max_examples=3, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.booleans(), COMMANDS), min_size=4, max_size=8))
def test_the_tools_may_take_any_turns_on_one_database(
    steps: list[tuple[bool, str]],
    tools: Tools,
    clickhouse_server: clickhouse.ClickHouseServer,
    new_clickhouse_database: Callable[[], str],
) -> None:
    """goose alone on one database, both by turns on the other: after every command text, exit code, rows and tables are the same."""
    files(tools.cwd / "m", {**tables(1, 2), "00003_seed.sql": "-- +goose Up\nINSERT INTO t1 VALUES (3);\nSELECT 1;\n-- +goose Down\n"})
    alone, shared = new_clickhouse_database(), new_clickhouse_database()
    urls = {name: clickhouse_server.http_url("migrator", AWKWARD_PASSWORD, name) for name in (alone, shared)}
    native = {name: clickhouse_server.native_url("migrator", AWKWARD_PASSWORD, name) for name in (alone, shared)}
    for by_goose, command in [(True, "version"), *steps]:  # goose makes its table with its first command, greylag with its first change
        told = tools.goose("-dir", "m", "clickhouse", native[alone], *command.split())
        run, url = (tools.goose, native[shared]) if by_goose else (tools.greylag, urls[shared])
        said = run("-dir", "m", "clickhouse", url, *command.split())
        assert said.text == told.text, (steps, said.err)
        assert (said.code == 0) == (told.code == 0), (steps, said.err)
        assert rows(urls[shared]) == rows(urls[alone]), steps
        assert objects(urls[shared]) == objects(urls[alone]), steps


def test_a_native_port_alone_needs_its_http_port(
    tools: Tools, clickhouse_native_url: str, clickhouse_server: clickhouse.ClickHouseServer
) -> None:
    refused = tools.greylag("clickhouse", clickhouse_native_url, "version")
    assert refused.code == 2
    assert any("http_port" in line for line in refused.own)
    port = addresses.parse_clickhouse(clickhouse_server.http_url("migrator", AWKWARD_PASSWORD, "default"), {}).http_ports[0][1]
    assert tools.greylag("clickhouse", clickhouse_native_url, "version", CLICKHOUSE_HTTP_PORT=str(port)).text == "TIME goose: version 0\n"


def test_the_own_commands(tools: Tools, clickhouse_http_url: str) -> None:
    files(tools.cwd / "m", tables(1, 2))

    def greylag(*words: str) -> Result:
        return tools.greylag("-dir", "m", "clickhouse", clickhouse_http_url, *words)

    assert "statement by statement" in greylag("plan").out
    assert greylag("status", "-exit-code").code == 3
    assert greylag("wait", "-timeout", "0s").code == 24
    assert tools.goose("-dir", "m", "clickhouse", clickhouse_http_url, "up-to", "1").code == 0
    assert greylag("up").code == 0
    assert greylag("wait", "-timeout", "0s").code == 0
    assert greylag("verify").code == 16
    assert greylag("baseline").code == 0
    verified = greylag("verify")
    assert verified.code == 0, verified.err
    assert "00001_t1.sql" in greylag("history").out
    query(clickhouse_http_url, "DROP TABLE t1 SYNC")
    assert greylag("verify").code == 16
    assert greylag("repair", "-done", "1:1").code == 13
