"""Mutual exclusion on a real server: the swap, the lease, the fence."""

from __future__ import annotations

import threading
import time

from migrator import applying, databases, errors
from migrator.clickhouse import lock, session
from migrator.clickhouse.lock import FREE, ColumnName, Holder, Times
from migrator.planning import events
from tests.clickhouse.conftest import Playground, finish, refusal, start

TABLE = "CREATE TABLE {0} (id UInt64) ENGINE = MergeTree ORDER BY id;"


def _session(playground: Playground) -> session.Session:
    return playground.open()._session


def test_sixteen_runners_apply_every_version_once(playground: Playground) -> None:
    for number in range(1, 7):
        playground.write(number, TABLE.format(f"t{number}"), f"INSERT INTO t{number} VALUES ({number});")
    outcomes: list[object] = []

    def run() -> None:
        other = Playground(playground.url, playground.server, playground.name, playground.directory)
        try:
            outcomes.append(len(other.run().finished))
        except errors.GreylagError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes, key=str) == [0] * 15 + [6]
    assert playground.versions() == list(range(7))
    assert playground.sql(" UNION ALL ".join(f"SELECT count() FROM t{number}" for number in range(1, 7))) == [[1]] * 6


def test_processes_that_start_at_once_apply_every_version_once(playground: Playground) -> None:
    for number in range(1, 4):
        playground.write(number, TABLE.format(f"t{number}"), f"INSERT INTO t{number} VALUES ({number});")
    runners = [playground.runner() for _ in range(4)]
    for runner in runners:
        start(runner)
    finished = [item["finished"] for runner in runners for item in finish(runner) if item["event"] == "end"]
    assert sorted(finished) == [0, 0, 0, 3]
    assert playground.versions() == [0, 1, 2, 3]


def test_of_many_swaps_from_one_state_one_succeeds(playground: Playground) -> None:
    cell = ColumnName(_session(playground))
    cell.prepare()
    won: list[str] = []

    def swap(name: str) -> None:
        own = ColumnName(_session(playground))
        for _ in range(10):
            state, _now = own.read()
            assert state is not None
            new = f"{name} {time.monotonic_ns()}"
            if own.swap(state, new):
                won.append(f"{state} -> {new}")

    threads = [threading.Thread(target=swap, args=(f"thread {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    states = [FREE] + [move.split(" -> ")[1] for move in won]
    froms = [move.split(" -> ")[0] for move in won]
    assert len(won) >= 10
    assert sorted(froms) == sorted(set(froms)), "two swaps started from one state"
    assert set(froms) | {cell.read()[0]} == set(states), "the swaps form one chain"


def test_waiting_says_who_holds_the_lock_and_gives_up_in_time(playground: Playground) -> None:
    seen: list[events.Event] = []
    policy = databases.LockPolicy(migration_wait=0.5)
    with (
        playground.open(service="auth-service", applied_by="somebody@there") as first,
        first.lock(events.ignore),
        playground.open(locks=policy) as second,
    ):
        error = refusal(lambda: second.lock(seen.append).__enter__())
    assert (type(error), error.code) == (errors.LockUnavailable, "lock-held")
    assert "auth-service somebody@there" in error.message
    assert isinstance(seen[0], events.LockWaiting)


def test_lock_of_a_living_owner_outlasts_its_lease(playground: Playground) -> None:
    policy = databases.LockPolicy(migration_wait=Times(2).lease + Times(2).grace + 3)
    with playground.open() as first, first.lock(events.ignore):
        with playground.open(locks=policy) as second:
            error = refusal(lambda: second.lock(events.ignore).__enter__())
        first._held().require()
    assert error.code == "lock-held"


def test_lock_of_an_owner_whose_statement_still_runs_is_not_taken(playground: Playground) -> None:
    dead = playground.open(run_id="d" * 32)._session
    cell = ColumnName(dead)
    cell.prepare()
    _, now = cell.read()
    assert cell.swap(FREE, str(Holder("d" * 12, "token", now - 3_600_000, now - 7_200_000, "a dead run")))
    sleeping = b"SELECT sleepEachRow(1) FROM numbers(300) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0"

    def sleep() -> None:
        error = refusal(lambda: _translated(lambda: dead.execute(sleeping, f"{lock.prefix_of('d' * 12)}1-up-1")))
        assert "code: 394" in error.message

    statement = threading.Thread(target=sleep)
    statement.start()
    with playground.open(locks=databases.LockPolicy(migration_wait=2.0)) as waiting:
        error = refusal(lambda: waiting.lock(events.ignore).__enter__())
        assert "a dead run" in error.message
    dead.kill()
    statement.join()
    with playground.open() as next_one, next_one.lock(events.ignore):
        assert next_one._held().broke is not None


def _translated(call: object) -> None:
    from migrator.clickhouse import failures

    try:
        call()  # type: ignore[operator]
    except failures.Refusal as refused:
        raise failures.of_server(refused, "to sleep") from None


def test_expired_lock_is_taken_over_by_one_of_many(playground: Playground) -> None:
    cell = ColumnName(_session(playground))
    cell.prepare()
    _, now = cell.read()
    assert cell.swap(FREE, str(Holder("dead", "token", now - 3_600_000, now - 7_200_000, "a dead run")))
    inside: list[int] = []
    most: list[int] = []

    def take() -> None:
        with playground.open() as database, database.lock(events.ignore):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


def test_owner_that_lost_its_lock_stops_before_the_next_statement(playground: Playground) -> None:
    playground.write(1, TABLE.format("t"), "SELECT 1;", TABLE.format("too_late"))
    with playground.open() as database:
        cell = ColumnName(_session(playground))

        def steal(event: events.Event) -> None:
            if isinstance(event, events.StatementFinished) and event.index == 2:
                state, now = cell.read()
                assert state is not None
                assert cell.swap(state, str(Holder("thief", "token", now + 60_000, now, "a thief")))
                time.sleep(2 * Times(2).heartbeat)

        error = refusal(lambda: applying.apply(database, playground.plan(database), steal))
    assert (type(error), error.code, error.transient) == (errors.LockUnavailable, "lock-lost", True)
    assert playground.sql("SHOW TABLES LIKE 'too_late'") == []
    assert playground.versions() == [0]
    assert "a thief" in str(cell.read()[0]), "the release did not touch another's state"


def test_statement_sent_after_the_session_expired_is_refused_by_the_server(playground: Playground) -> None:
    with playground.open() as database:
        opened = database._session
        opened.begin("greylag-test-session", 1)
        time.sleep(4)
        error = refusal(lambda: _translated(lambda: opened.execute(b"CREATE TABLE too_late (a Int8) ENGINE = Log", "greylag-test")))
    assert error.code == "lock-lost"
    assert playground.sql("SHOW TABLES LIKE 'too_late'") == []


def test_session_stays_alive_while_the_run_is_busy_elsewhere(playground: Playground) -> None:
    playground.write(1, "SET max_threads = 3;", "SELECT throwIf(getSetting('max_threads') != 3);")
    with playground.open() as database:

        def dawdle(event: events.Event) -> None:
            if isinstance(event, events.StatementFinished) and event.index == 1:
                time.sleep(3 * Times(2).fence + 2)

        applying.apply(database, playground.plan(database), dawdle)
    assert playground.versions() == [0, 1]


def test_clock_set_forward_does_not_free_the_lock_of_a_living_owner(playground: Playground) -> None:
    """A waiting run sees an expired lease, but also that the state changes with every heartbeat."""
    cell = ColumnName(_session(playground))
    cell.prepare()
    stop = threading.Event()

    def beat() -> None:
        state, number = FREE, 0
        while not stop.wait(0.2):
            number += 1
            new = str(Holder("other", "token", number, 1, "a run whose lease ended in 1970, as it seems"))
            assert cell.swap(state, new)
            state = new

    heart = threading.Thread(target=beat)
    heart.start()
    with playground.open(locks=databases.LockPolicy(migration_wait=4.0)) as waiting:
        time.sleep(0.5)
        error = refusal(lambda: waiting.lock(events.ignore).__enter__())
    stop.set()
    heart.join()
    assert error.code == "lock-held"


def test_state_that_can_not_be_read_is_not_taken_for_a_free_lock(playground: Playground) -> None:
    cell = ColumnName(_session(playground))
    cell.prepare()
    assert cell.swap(FREE, "held by a later version")
    with playground.open(locks=databases.LockPolicy(migration_wait=2.0)) as waiting:
        error = refusal(lambda: waiting.lock(events.ignore).__enter__())
    assert "held by a later version" in error.message


def test_run_id_of_any_form_holds_the_lock(playground: Playground) -> None:
    with playground.open(run_id="ci/run #7.1") as first, first.lock(events.ignore):
        first._held().require()
        with playground.open(locks=databases.LockPolicy(migration_wait=0.3)) as second:
            assert refusal(lambda: second.lock(events.ignore).__enter__()).code == "lock-held"


def test_dropped_lock_table_frees_the_lock(playground: Playground) -> None:
    cell = ColumnName(_session(playground))
    cell.prepare()
    _, now = cell.read()
    assert cell.swap(FREE, str(Holder("other", "token", now + 3_600_000, now, "a run")))
    playground.do("DROP TABLE greylag_lock SYNC")
    playground.write(1, TABLE.format("t"))
    playground.run()
    assert cell.read()[0] == FREE
