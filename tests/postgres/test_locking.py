"""The migration lock, and how politely DDL waits for its own locks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest

from migrator import databases, errors, events
from migrator.postgres import lock
from sandbox.databases import postgres
from tests.postgres.conftest import Playground

QUICK = databases.LockPolicy(migration_wait=0.5, budget=1.5)


@contextmanager
def transaction(playground: Playground, text: str, name: str = "blocker") -> Iterator[psycopg.Connection]:
    """Another application's open transaction."""
    with psycopg.connect(playground.url, application_name=name) as other:
        other.execute(text)  # type: ignore[call-overload]
        yield other
        other.rollback()


def test_sixteen_runners_leave_one_row_per_version(playground: Playground) -> None:
    for version in range(1, 6):
        playground.write(version, f"CREATE TABLE t{version} (id int);\nSELECT pg_sleep(0.01);")

    def run(_number: int) -> int:
        mine = Playground(playground.url, playground.directory)
        return len(mine.run().finished)

    with ThreadPoolExecutor(16) as pool:
        finished = list(pool.map(run, range(16)))
    assert sum(finished) == 5
    assert playground.versions() == [0, 1, 2, 3, 4, 5]


def test_a_waiting_run_names_the_holder_and_gives_up(playground: Playground) -> None:
    playground.write(1, "SELECT 1;")
    with psycopg.connect(playground.url, application_name="greylag/auth/0123456789ab", autocommit=True) as holder:
        holder.execute(f"SELECT pg_advisory_lock({lock.KEY})")
        pid = holder.info.backend_pid
        with pytest.raises(errors.LockUnavailable, match=f"pid {pid} .greylag/auth/0123456789ab") as caught:
            playground.run(locks=QUICK)
        assert caught.value.code == "lock-held" and caught.value.transient
        assert f"pid {pid}" in playground.of(events.LockWaiting)[0].holder  # type: ignore[attr-defined]
        holder.execute(f"SELECT pg_advisory_unlock({lock.KEY})")
    playground.run(locks=QUICK)
    assert playground.versions() == [0, 1]


def test_the_lock_is_free_after_a_failure(playground: Playground) -> None:
    playground.write(1, "SELEC 1;")
    with playground.open() as database:
        plan = playground.plan(database)
        with pytest.raises(errors.StatementRejected), database.lock(events.ignore):
            database.ensure_history()
            database.execute(plan, plan.steps, events.ignore)
        assert playground.sql(f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {lock.KEY}") == [(0,)]


def test_ddl_behind_a_reader_is_retried_until_the_reader_ends(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    playground.run()
    playground.write(2, "ALTER TABLE t ADD COLUMN a int;")
    done: list[float] = []
    worst: list[float] = []
    stop = threading.Event()

    def bystander() -> None:
        with psycopg.connect(playground.url, autocommit=True) as other:
            while not stop.is_set():
                began = time.monotonic()
                other.execute("SELECT count(*) FROM t")
                worst.append(time.monotonic() - began)
                time.sleep(0.01)

    def run() -> None:
        playground.run()
        done.append(time.monotonic())

    with transaction(playground, "SELECT count(*) FROM t") as reader:
        threads = [threading.Thread(target=run), threading.Thread(target=bystander)]
        for thread in threads:
            thread.start()
        while len(playground.of(events.StatementRetried)) < 2:
            time.sleep(0.05)
        pid = reader.info.backend_pid
        reader.rollback()
        threads[0].join()
        stop.set()
        threads[1].join()
    assert playground.versions() == [0, 1, 2]
    retried = playground.of(events.StatementRetried)[0]
    assert f"pid {pid} (blocker" in retried.blocker and "public.t" in retried.blocker  # type: ignore[attr-defined]
    assert len(playground.of(events.MigrationStarted)) == 1
    assert worst  # the stalls themselves are measured by the benchmarks


def test_when_the_budget_is_used_up_the_blocker_is_named_and_nothing_is_applied(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    playground.run()
    playground.write(2, "CREATE TABLE other (id int);\nALTER TABLE t ADD COLUMN a int;")
    with (
        transaction(playground, "INSERT INTO t VALUES (1)", "batch-job") as blocker,
        pytest.raises(errors.LockUnavailable, match=f"in the way: pid {blocker.info.backend_pid} .batch-job") as caught,
    ):
        playground.run(locks=QUICK)
    assert caught.value.code == "lock-budget" and caught.value.transient
    assert str(caught.value.where).endswith("00002_step.sql:3")
    assert not playground.exists("other")


def test_a_files_own_notes_decide_its_budget(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    playground.run()
    playground.write(2, "ALTER TABLE t ADD COLUMN a int;", head="-- greylag: lock-timeout 50ms\n-- greylag: lock-budget 10ms\n")
    with transaction(playground, "SELECT * FROM t"), pytest.raises(errors.LockUnavailable, match=r"tried 1 times within 0.01 s"):
        playground.run()


def test_a_file_that_sets_its_own_lock_timeout_is_left_alone(playground: Playground) -> None:
    playground.write(
        1, "SET LOCAL lock_timeout = '7s';\nCREATE TABLE t (id int);\nCREATE TABLE seen AS SELECT current_setting('lock_timeout') AS it;"
    )
    playground.run()
    assert playground.sql("SELECT it FROM seen") == [("7s",)]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("ALTER TABLE t ADD COLUMN a int;", "200ms"),
        ("CREATE INDEX ON t (id);", "200ms"),
        ("CREATE TABLE r (id int REFERENCES t (id));", "200ms"),
        ("INSERT INTO t VALUES (1);", "0"),
        ("ALTER TABLE t VALIDATE CONSTRAINT c;", "0"),
        ("CREATE TABLE n (id int);\nCREATE INDEX ON n (id);", "0"),
    ],
)
def test_only_work_that_stalls_others_gets_a_lock_timeout(playground: Playground, statement: str, expected: str) -> None:
    playground.write(1, "CREATE TABLE t (id int PRIMARY KEY);\nALTER TABLE t ADD CONSTRAINT c CHECK (id > 0) NOT VALID;")
    playground.write(
        2, f"{statement}\nCREATE TABLE seen AS SELECT current_setting('lock_timeout') AS it, current_setting('statement_timeout') AS st;"
    )
    playground.run()
    assert playground.sql("SELECT it, st FROM seen") == [(expected, "0")]


def test_time_outs_of_the_address_are_honoured(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (id int);")
    playground.run()
    playground.write(2, "ALTER TABLE t ADD COLUMN a int;\nCREATE TABLE seen AS SELECT current_setting('lock_timeout') AS it;")
    playground.url += "&lock_timeout=1234" if "?" in playground.url else "?lock_timeout=1234"
    with playground.open() as database:
        plan = playground.plan(database)
        database.execute(plan, plan.steps, events.ignore)
    playground.url = playground.url.replace("lock_timeout=1234", "").rstrip("?&")
    assert playground.sql("SELECT it FROM seen") == [("1234ms",)]


def test_a_statement_timeout_is_a_time_out(playground: Playground) -> None:
    playground.write(1, "SELECT pg_sleep(5);", head="-- greylag: statement-timeout 100ms\n")
    with pytest.raises(errors.TimedOut) as caught:
        playground.run()
    assert caught.value.code == "statement-timeout"


def test_a_deadlock_is_retried(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE a (id int);\nCREATE TABLE b (id int);\nINSERT INTO a VALUES (1);\nINSERT INTO b VALUES (1);")
    playground.run()
    playground.write(2, "UPDATE a SET id = 2;\nSELECT pg_sleep(0.3);\nUPDATE b SET id = 2;")
    with psycopg.connect(playground.url) as other:
        thread = threading.Thread(target=playground.run)
        other.execute("UPDATE b SET id = 3")
        thread.start()
        while playground.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'") != [(1,)]:
            time.sleep(0.02)
        try:
            other.execute("UPDATE a SET id = 3")
        except psycopg.errors.DeadlockDetected:
            pass  # one of the two is chosen; both ways the migration must get through
        other.rollback()
        thread.join()
    assert playground.versions() == [0, 1, 2]


def test_a_prepared_statement_that_a_file_deallocates_is_prepared_again(playground: Playground) -> None:
    playground.write(1, "SELECT 1;")
    playground.write(2, "-- +goose StatementBegin\nDO $$ BEGIN EXECUTE 'DEALL' || 'OCATE ALL'; END $$;\n-- +goose StatementEnd")
    playground.write(3, "SELECT 3;")
    playground.write(4, "DISCARD PLANS;")
    playground.write(5, "DEALLOCATE ALL;")
    playground.write(6, "SELECT 6;")
    playground.run()
    assert playground.versions() == [0, 1, 2, 3, 4, 5, 6]


def test_two_databases_do_not_wait_for_each_other(new_playground: Callable[[], Playground]) -> None:
    first, second = new_playground(), new_playground()
    second.write(1, "SELECT 1;")
    with first.open() as database, database.lock(events.ignore):
        second.run(locks=QUICK)
    assert second.versions() == [0, 1]


@pytest.mark.slow
def test_an_autovacuum_worker_is_sent_away_without_stalling_anybody(
    playground: Playground, postgres_server: postgres.PostgresServer
) -> None:
    """The server cancels an autovacuum only for a waiter older than deadlock_timeout (1 s), which a lock time-out of 0.2 s never is."""
    playground.write(1, "CREATE TABLE t (id int, pad text);\nINSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 20000) AS n;")
    playground.run()
    postgres_server.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
    postgres_server.execute("SELECT pg_reload_conf()")
    try:
        playground.sql(
            "ALTER TABLE t SET (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 100,"
            " autovacuum_vacuum_cost_limit = 1)"
        )
        playground.sql("DELETE FROM t WHERE id % 2 = 0")
        deadline = time.monotonic() + 60
        busy = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND query LIKE '%public.t%'"
        busy += f" AND datname = '{urlsplit(playground.url).path[1:]}'"
        while postgres_server.execute(busy).split() != ["1"]:
            if time.monotonic() > deadline:
                pytest.skip("the server started no autovacuum within a minute")
            time.sleep(0.1)
        playground.write(2, "ALTER TABLE t ADD COLUMN a int;")
        playground.run(locks=databases.LockPolicy(budget=20.0))
    finally:
        postgres_server.execute("ALTER SYSTEM RESET autovacuum_naptime")
        postgres_server.execute("SELECT pg_reload_conf()")
    assert playground.versions() == [0, 1, 2]
    assert "autovacuum worker" in playground.of(events.StatementRetried)[0].blocker  # type: ignore[attr-defined]
