"""Files that are written for several servers, where the address names no cluster: refused if there are several, executed if there is one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from migrator import cli, errors, targets
from sandbox import ports
from sandbox.databases import clickhouse
from tests.clickhouse.conftest import Playground, refusal

REPLICATED = "CREATE TABLE t (id UInt64) ENGINE = ReplicatedMergeTree('/t', '{replica}') ORDER BY id;"
ON_CLUSTER = "CREATE TABLE t ON CLUSTER %s (id UInt64) ENGINE = MergeTree ORDER BY id;"
PLAIN = "CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id; -- ON CLUSTER both, ReplicatedMergeTree"


def _cluster(name: str, *replicas: tuple[str, int]) -> str:
    listed = "".join(f"<replica><host>{host}</host><port>{port}</port></replica>" for host, port in replicas)
    return f"<{name}><shard>{listed}</shard></{name}>"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[clickhouse.ClickHouseServer]]:
    """Two servers that know each other as the cluster `default`, and clusters that the first one declares besides."""
    directory = tmp_path_factory.mktemp("nodes")
    places = [clickhouse.NodePorts(ports.free_port(), ports.free_port()) for _ in range(2)]
    own, other = (place.tcp for place in places)
    limited = clickhouse.User("limited", "limited", grants=("GRANT CREATE, DROP, ALTER, SELECT, INSERT, TABLE ENGINE ON *.*",))
    found = [
        clickhouse.ClickHouseServer(directory / f"node{number}", http_port=place.http, tcp_port=place.tcp, nodes=places, users=[limited])
        for number, place in enumerate(places, 1)
    ]
    there = ("192.0.2.1", 9000)  # an address for documentation (RFC 5737): nobody answers
    _declare(found[0], both=(own, other), one_replica=(own,), same_twice=(own, own), nobody_here=(own, 1), nobody_there=(own, there))
    yield from _running(*found)


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[clickhouse.ClickHouseServer]]:
    """A server on its own, which declares what stock configurations declare."""
    server = clickhouse.ClickHouseServer(tmp_path_factory.mktemp("lone") / "node")
    own = server.tcp_port
    _declare(server, test_shard_localhost=(own,), test_cluster_two_shards_localhost=(own, own), test_unavailable_shard=(own, 1))
    yield from _running(server)


def _declare(server: clickhouse.ClickHouseServer, **clusters: Sequence[int | tuple[str, int]]) -> None:
    text = ""
    for name, replicas in clusters.items():
        hosts = [("127.0.0.1", replica) if isinstance(replica, int) else replica for replica in replicas]
        listed = "".join(f"<replica><host>{host}</host><port>{port}</port></replica>" for host, port in hosts)
        text += f"<{name}><shard>{listed}</shard></{name}>"
    (server.directory / "config.d").mkdir(parents=True)
    (server.directory / "config.d" / "clusters.xml").write_text(f"<clickhouse><remote_servers>{text}</remote_servers></clickhouse>")


def _running(*servers: clickhouse.ClickHouseServer) -> Iterator[list[clickhouse.ClickHouseServer]]:
    try:
        yield [server.start() for server in servers]
    finally:
        for server in servers:
            server.stop()


def _playground(server: clickhouse.ClickHouseServer, directory: Path) -> Playground:
    name = f"d{secrets.token_hex(4)}"
    return Playground(server.create_database(name), server, name, directory)


@pytest.fixture
def first(nodes: list[clickhouse.ClickHouseServer], tmp_path: Path) -> Playground:
    """A database on the first of the two servers."""
    return _playground(nodes[0], tmp_path)


@pytest.fixture
def only(lone: list[clickhouse.ClickHouseServer], tmp_path: Path) -> Playground:
    """A database on the server that is on its own."""
    return _playground(lone[0], tmp_path)


@pytest.mark.parametrize(
    ("statement", "cluster"),
    [
        (ON_CLUSTER % "default", "default"),
        (ON_CLUSTER % "'{cluster}'", "default"),
        (ON_CLUSTER % "`both`", "both"),
        ("create table t on /* this */ cluster both (id UInt64) engine = Memory;", "both"),
        ("TRUNCATE TABLE IF EXISTS t ON CLUSTER both;", "both"),
        ("GRANT ON CLUSTER both SELECT ON *.* TO somebody;", "both"),
        (REPLICATED, "default"),
        ("CREATE DATABASE d2 ENGINE = Replicated('/d2', 's', 'r');", "default"),
        ("CREATE MATERIALIZED VIEW v ENGINE = ReplicatedMergeTree ORDER BY id AS SELECT 1 AS id;", "default"),
        (ON_CLUSTER % "nobody_there", "nobody_there"),
    ],
)
def test_bad_flow_file_for_several_servers_is_refused_before_anything_is_written(first: Playground, statement: str, cluster: str) -> None:
    first.write(1, "CREATE TABLE before (id UInt64) ENGINE = MergeTree ORDER BY id;")
    path = first.write(2, "SELECT 1;", statement)
    error = refusal(first.run)
    assert (type(error), error.code, error.exit_code) == (errors.PlanRefused, "cluster-unnamed", errors.ExitCode.REFUSED)
    assert error.where == errors.Location(str(path), 3)
    assert f"greylag_profile=on_cluster&greylag_cluster={cluster} " in error.hint
    assert "greylag_profile=single" in error.hint
    assert first.sql("SHOW TABLES") == []


def test_bad_flow_the_way_down_is_refused_too(first: Playground) -> None:
    first.write(1, "CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id;", down="DROP TABLE t ON CLUSTER both;")
    first.run()
    assert refusal(lambda: first.run(targets.Verb.DOWN)).code == "cluster-unnamed"
    assert first.versions() == [0, 1]


def test_plan_refuses_what_up_would_refuse(first: Playground, capsys: pytest.CaptureFixture[str]) -> None:
    first.write(1, REPLICATED)
    for verb in ("plan", "up"):
        assert cli.main(["-dir", str(first.directory), "clickhouse", first.url, verb]) == 11
        assert "[cluster-unnamed]" in capsys.readouterr().err
    assert cli.main(["-dir", str(first.directory), "clickhouse", first.url, "status"]) == 0


def test_bad_flow_user_who_may_not_ask_the_hosts_is_refused_by_what_is_declared(first: Playground) -> None:
    first.url = first.server.url("limited", "limited", first.name)
    first.write(1, REPLICATED)
    assert refusal(first.run).code == "cluster-unnamed"


def test_word_in_the_address_insists(first: Playground) -> None:
    first.url += "&greylag_profile=single"
    first.write(1, REPLICATED.replace("ReplicatedMergeTree('/t', '{replica}')", "MergeTree"), ON_CLUSTER % "both")
    assert refusal(first.run).code != "cluster-unnamed"  # the embedded server has no ON CLUSTER (code 392)
    assert first.sql("SHOW TABLES LIKE 't'") == [["t"]]


@pytest.mark.parametrize(
    "statement", [PLAIN, "SELECT 'ON CLUSTER both';", "SELECT 1 AS cluster FROM system.one AS a JOIN system.one AS b ON cluster = 1;"]
)
def test_file_for_one_server_is_executed_among_several(first: Playground, statement: str) -> None:
    first.write(1, statement)
    first.run()
    assert first.versions() == [0, 1]


@pytest.mark.parametrize("cluster", ["one_replica", "same_twice", "nobody_here", "unknown"])
def test_cluster_that_is_one_server_is_nothing_to_name(first: Playground, cluster: str) -> None:
    first.write(1, ON_CLUSTER % cluster)
    assert refusal(first.run).code != "cluster-unnamed"


@pytest.mark.parametrize(
    "statement",
    [
        REPLICATED,
        *(ON_CLUSTER % name for name in ("default", "test_shard_localhost", "test_cluster_two_shards_localhost", "test_unavailable_shard")),
    ],
)
def test_server_on_its_own_is_not_asked_for_a_name(only: Playground, statement: str) -> None:
    only.write(1, statement)
    error = refusal(only.run)  # from the embedded server, which has neither Keeper nor ON CLUSTER
    assert (type(error), error.code) != (errors.PlanRefused, "cluster-unnamed")
    assert error.exit_code in (errors.ExitCode.REJECTED, errors.ExitCode.UNAVAILABLE)
