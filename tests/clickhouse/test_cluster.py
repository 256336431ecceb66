"""Several servers: what exists on one of them only, and the lock in Keeper. (ON CLUSTER itself does not work in the embedded server.)"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator import applying, databases, errors, targets
from migrator.address import addresses
from migrator.clickhouse import connection, keeper, session
from migrator.clickhouse.lock import Holder, Times
from migrator.planning import events, files, planner
from sandbox import ports, processes
from sandbox.databases import clickhouse
from tests.clickhouse.conftest import refusal

ZOOKEEPER = Path("/usr/share/java/zookeeper.jar")  # Debian's package `zookeeper`
LOGGING = Path("/usr/share/java/slf4j-simple.jar")


def _open(server: clickhouse.ClickHouseServer, database: str, **parameters: str) -> connection.ClickHouseDatabase:
    words = "".join(f"&greylag_{name}={value}" for name, value in parameters.items())
    return connection.connect(f"{server.url('admin', server.admin_password, database)}&greylag_lease=2s{words}", databases.Options())


def test_object_that_one_replica_lacks_is_missing_there(tmp_path: Path) -> None:
    nodes = clickhouse.start_cluster(tmp_path, 2)
    try:
        for node in nodes:
            node.create_database("app")
        (tmp_path / "00001_t.sql").write_text("-- +goose Up\nCREATE TABLE t (a Int8) ENGINE = Log;\n", encoding="utf-8")
        with _open(nodes[0], "app", profile="single", cluster=clickhouse.CLUSTER) as database:
            plan = planner.plan(files.load(tmp_path), database.read_history(), targets.Target(targets.Verb.UP), engine=database.engine)
            applying.apply(database, plan, events.ignore)
            lacking = database.check_schema().findings
            nodes[1].execute("CREATE TABLE app.t (a Int16) ENGINE = Log")
            different = database.check_schema().findings
            nodes[1].execute("DROP TABLE app.t SYNC")
            nodes[1].execute("CREATE TABLE app.t (a Int8) ENGINE = Log")
            assert database.check_schema().findings == ()
    finally:
        for node in nodes:
            node.stop()
    assert [(finding.subject, finding.state) for finding in lacking] == [("table t", "missing")]
    assert [(finding.subject, finding.state, finding.found) for finding in different] == [("column t.a", "changed", "Int16")]
    assert str(nodes[1].tcp_port) in lacking[0].reason and str(nodes[1].tcp_port) in different[0].reason
    assert str(nodes[0].tcp_port) not in lacking[0].reason


@pytest.fixture(scope="module")
def keeper_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clickhouse.ClickHouseServer]:
    """A server with a ZooKeeper. (Two embedded servers on one ZooKeeper disturb each other: both have the server UUID 0.)"""
    if not (ZOOKEEPER.exists() and LOGGING.exists() and shutil.which("java")):
        pytest.skip(f"no ZooKeeper: {ZOOKEEPER} (Debian's package zookeeper) and Java are needed")
    directory = tmp_path_factory.mktemp("keeper")
    port = ports.free_port()
    configuration = directory / "zoo.cfg"
    configuration.write_text(
        f"tickTime=2000\ndataDir={directory / 'data'}\nclientPort={port}\nclientPortAddress=127.0.0.1\n", encoding="utf-8"
    )
    program = ["java", "-Xmx256m", "-cp", f"{ZOOKEEPER}:{LOGGING}", "-Dzookeeper.admin.enableServer=false"]
    server = processes.ServerProcess(
        "ZooKeeper", [*program, "org.apache.zookeeper.server.ZooKeeperServerMain", configuration], log=directory / "zookeeper.log"
    )
    section = (
        f"<zookeeper><node><host>127.0.0.1</host><port>{port}</port></node></zookeeper>"
        "<keeper_map_path_prefix>/maps</keeper_map_path_prefix>"
    )
    with contextlib.ExitStack() as stack:
        server.start()
        server.wait_until(lambda: ports.accepts_connections(port), 60)
        stack.callback(server.stop)
        node = stack.enter_context(clickhouse.ClickHouseServer(directory / "node", configuration=section))
        node.create_database("app")
        yield node


def _cell(node: clickhouse.ClickHouseServer) -> keeper.KeeperRow:
    opened = session.connect(addresses.parse_clickhouse(node.url("admin", node.admin_password, "app")), "greylag-test-", 5.0)
    cell = keeper.KeeperRow(opened)
    cell.prepare()
    return cell


def test_of_many_swaps_in_keeper_from_one_state_one_succeeds(keeper_node: clickhouse.ClickHouseServer) -> None:
    won: list[tuple[str, str]] = []

    def swap(number: int) -> None:
        cell = _cell(keeper_node)
        for _ in range(8):
            state, _now = cell.read()
            new = f"thread {number} {time.monotonic_ns()}"
            if state is not None and cell.swap(state, new):
                won.append((state, new))

    threads = [threading.Thread(target=swap, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    froms = [old for old, _ in won]
    assert len(won) >= 8
    assert len(froms) == len(set(froms))


def test_runs_with_the_lock_in_keeper_exclude_each_other(keeper_node: clickhouse.ClickHouseServer) -> None:
    cell = _cell(keeper_node)
    state, _ = cell.read()
    assert state is not None
    assert cell.swap(state, "free")
    options = {"profile": "on_cluster", "cluster": clickhouse.CLUSTER}
    seen: list[events.Event] = []
    with _open(keeper_node, "app", **options) as first, _open(keeper_node, "app", **options) as second:
        with first.lock(seen.append):
            second._options = databases.Options(locks=databases.LockPolicy(migration_wait=1.0))
            error = refusal(lambda: second.lock(events.ignore).__enter__())
        with second.lock(events.ignore):
            second._held().require()
    assert (type(error), error.code) == (errors.LockUnavailable, "lock-held")
    assert [event.code for event in seen if isinstance(event, events.Note)] == ["experimental-profile"]


def test_expired_lock_in_keeper_is_taken_over(keeper_node: clickhouse.ClickHouseServer) -> None:
    cell = _cell(keeper_node)
    state, now = cell.read()
    assert state is not None
    dead = Holder("dead", "token", now - round(Times(2).grace * 1000) - 1000, now - 60_000, "a dead run")
    assert cell.swap(state, str(dead))
    with _open(keeper_node, "app", profile="on_cluster", cluster=clickhouse.CLUSTER) as database, database.lock(events.ignore):
        assert database._held().broke == dead


def test_server_without_keeper_can_not_hold_a_clusters_lock(clickhouse_url: str) -> None:
    url = f"{clickhouse_url}&greylag_profile=on_cluster&greylag_cluster={clickhouse.CLUSTER}"
    with connection.connect(url, databases.Options()) as database:
        error = refusal(lambda: database.lock(events.ignore).__enter__())
    assert (type(error), error.code) == (errors.LockUnavailable, "no-keeper-map")
