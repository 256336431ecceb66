"""Broken off at any point: nothing half-done, no backend left running, the lock free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from migrator import errors, registry
from migrator.planning import events
from tests.postgres.conftest import Playground

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
from migrator import applying, databases, errors, targets
from migrator.planning import files, planner
from migrator.postgres import connection
if sys.argv[3] == "exit":
    import signal
    def stop(number, frame):
        raise SystemExit(9)
    signal.signal(signal.SIGTERM, stop)
if sys.argv[3] == "registry":
    import signal
    from migrator import registry
    signal.signal(signal.SIGTERM, lambda number, frame: registry.cancel_all())
with connection.connect(sys.argv[1], databases.Options()) as database:
    plan = planner.plan(files.load(sys.argv[2]), database.read_history(), targets.Target(targets.Verb.UP), engine=database.engine)
    try:
        applying.apply(database, plan)
    except errors.Interrupted:
        sys.exit(23)
"""


def start(playground: Playground, how: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, playground.url, str(playground.directory), how], cwd=ROOT, env=dict(os.environ))


def until(condition: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def running(playground: Playground) -> int:
    """Backends of runs: whatever they do, they must be gone in the end."""
    found = playground.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'greylag/%' AND state = 'active'"
        " AND query LIKE '%pg_sleep%'"
    )
    return int(str(found[0][0]))


def connected(playground: Playground) -> int:
    found = playground.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'greylag/%'")
    return int(str(found[0][0]))


@pytest.mark.parametrize("head", ["", "-- +goose NO TRANSACTION\n"])
@pytest.mark.parametrize(
    ("number", "how", "code"),
    [(signal.SIGINT, "default", None), (signal.SIGTERM, "exit", 9), (signal.SIGTERM, "registry", 23), (signal.SIGKILL, "default", -9)],
)
def test_a_signal_ends_the_statement_on_the_server(playground: Playground, head: str, number: int, how: str, code: int | None) -> None:
    playground.write(1, "CREATE TABLE a (id int);")
    playground.write(2, "CREATE TABLE b (id int);\nSELECT pg_sleep(60);\nCREATE TABLE c (id int);", head=head)
    playground.write(3, "CREATE TABLE d (id int);")
    process = start(playground, how)
    try:
        until(lambda: running(playground) == 1)
        process.send_signal(number)
        ended = process.wait(20)
    finally:
        process.kill()
    if code is not None:
        assert ended == code
    until(lambda: connected(playground) == 0)
    assert playground.versions() == [0, 1]
    assert playground.exists("b") == bool(head)  # committed and journalled, where the file asked for no transaction
    assert not playground.exists("c") and not playground.exists("d")
    playground.write(2, "CREATE TABLE b (id int);\nSELECT 1;\nCREATE TABLE c (id int);", head=head)
    playground.run()
    assert playground.versions() == [0, 1, 2, 3]


def test_cancel_from_another_thread_interrupts_and_rolls_back(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE a (id int);\nSELECT pg_sleep(60);")
    caught: list[BaseException] = []
    with playground.open() as database:
        database.ensure_history()
        plan = playground.plan(database)

        def run() -> None:
            try:
                with database.lock(events.ignore):
                    database.execute(plan, plan.steps, events.ignore)
            except BaseException as error:  # noqa: BLE001
                caught.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        until(lambda: running(playground) == 1)
        assert registry.cancel_all() >= 1
        thread.join(20)
        assert isinstance(caught[0], errors.Interrupted)
        assert playground.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
    assert playground.versions() == [0] and not playground.exists("a")


def test_cancel_ends_the_wait_for_the_migration_lock(playground: Playground) -> None:
    caught: list[BaseException] = []
    with playground.open() as holder, playground.open() as waiter, holder.lock(events.ignore):

        def wait() -> None:
            try:
                with waiter.lock(events.ignore):
                    raise AssertionError("two runs hold the lock")
            except BaseException as error:  # noqa: BLE001
                caught.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.3)
        waiter.cancel()
        thread.join(10)
    assert isinstance(caught[0], errors.Interrupted)


def test_a_concurrent_build_that_is_interrupted_is_known_not_to_be_done(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    playground.run()
    playground.write(2, "CREATE INDEX CONCURRENTLY t_id ON t (id);", head="-- +goose NO TRANSACTION\n")
    process = None
    import psycopg

    with psycopg.connect(playground.url) as other:
        other.execute("INSERT INTO t VALUES (1)")
        process = start(playground, "exit")
        until(lambda: playground.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONC%'") == [(1,)])
        process.terminate()
        assert process.wait(20) == 9
        assert playground.sql("SELECT state FROM greylag_journal ORDER BY id DESC LIMIT 1") == [("not-done",)]
        other.rollback()
    playground.run()
    assert playground.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 't_id'::regclass") == [(True,)]
    assert playground.sql("SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass") == [(1,)]


def test_an_exception_of_a_listener_leaves_the_session_usable(playground: Playground) -> None:
    for version in range(1, 40):
        playground.write(version, f"CREATE TABLE t{version} (id int);")

    class Stop(Exception):
        pass

    def listener(event: events.Event) -> None:
        if isinstance(event, events.MigrationFinished) and event.version == 3:
            raise Stop

    with playground.open() as database:
        database.ensure_history()
        plan = playground.plan(database)
        with pytest.raises(Stop):
            database.execute(plan, plan.steps, listener)
        history = database.read_history()
        assert set(history.applied) >= {1, 2, 3}
        assert not database._session.in_transaction
    playground.run()
    assert playground.versions() == list(range(40))
