"""Leaving a connection whose login is about to end: where that is done, where it isn't, and that another connection goes on with what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from migrator import applying
from migrator.planning import events, plans
from tests.postgres.conftest import Playground

NO_TRANSACTION = "-- +goose NO TRANSACTION\n"


def leg(playground: Playground, leave: Callable[[], bool]) -> applying.Report:
    """One connection's part of a run."""
    with playground.open(leave=leave) as database:
        plan = playground.plan(database)
        return applying.apply(database, plan, playground.seen.append, policy=plans.Policy(accept_hazards=True))


def backends(playground: Playground) -> list[Any]:
    """Which backend executed which statement, as the statements wrote it down."""
    return [row[0] for row in playground.sql("SELECT pid FROM seen ORDER BY id")]


def whole(playground: Playground) -> list[applying.Report]:
    """A run whose every connection is left as soon as possible."""
    legs: list[applying.Report] = []
    while not legs or legs[-1].left:
        legs.append(leg(playground, lambda: True))
        assert len(legs) < 20, "every connection gets something done"
    return legs


SEEN = "CREATE TABLE seen (id bigint GENERATED ALWAYS AS IDENTITY, pid int DEFAULT pg_backend_pid(), setting text)"


def test_between_two_migrations_a_connection_can_be_left(playground: Playground) -> None:
    playground.write(1, f"{SEEN};")
    for version in (2, 3):
        playground.write(version, "INSERT INTO seen DEFAULT VALUES;\nINSERT INTO seen DEFAULT VALUES;")
    legs = whole(playground)
    assert [[item.version for item in found.finished] for found in legs] == [[1], [2], [3]]
    assert playground.versions() == [0, 1, 2, 3]
    first, second, third, fourth = backends(playground)
    assert first == second != third == fourth, "a transaction is never left"


def test_a_connection_that_is_to_be_kept_is_kept(playground: Playground) -> None:
    playground.write(1, f"{SEEN};")
    playground.write(2, "INSERT INTO seen DEFAULT VALUES;")
    report = leg(playground, lambda: False)
    assert not report.left and len(report.finished) == 2


def test_between_two_statements_of_a_file_without_transaction_too(playground: Playground) -> None:
    statements = [SEEN, *["INSERT INTO seen DEFAULT VALUES"] * 3, "CREATE INDEX CONCURRENTLY seen_pid ON seen (pid)"]
    playground.write(1, ";\n".join(statements) + ";", head=NO_TRANSACTION)
    legs = whole(playground)
    assert len(legs) == 5 and [len(found.finished) for found in legs] == [0, 0, 0, 0, 1]
    assert len(set(backends(playground))) == 3, "each statement was executed once, by a connection of its own"
    assert playground.versions() == [0, 1]
    assert playground.sql("SELECT count(*) FROM greylag_journal") == [(0,)]
    assert [event.index for event in playground.of(events.StatementFinished)] == [1, 2, 3, 4, 5]  # type: ignore[attr-defined]


def test_a_setting_of_the_file_goes_with_it(playground: Playground) -> None:
    insert = "INSERT INTO seen (setting) VALUES (current_setting('my.word'))"
    playground.write(1, f"SET my.word = 'kept';\n{SEEN};\n{insert};\n{insert};", head=NO_TRANSACTION)
    assert len(whole(playground)) > 1
    assert playground.sql("SELECT DISTINCT setting FROM seen") == [("kept",)]


@pytest.mark.parametrize(
    "binding",
    [
        "CREATE TEMP TABLE own AS SELECT 1 AS n;\nINSERT INTO seen (setting) SELECT n::text FROM own;",
        "SELECT 1 AS n INTO TEMPORARY own;\nINSERT INTO seen (setting) SELECT n::text FROM own;",
        "PREPARE own AS INSERT INTO seen (setting) VALUES ('1');\nEXECUTE own;",
        "SELECT pg_advisory_lock(7);\nSELECT 1;\nINSERT INTO seen (setting) SELECT (count(*) > 0)::int::text FROM pg_locks WHERE objid = 7;",
    ],
    ids=["temp table", "into temp", "prepared", "lock"],
)
def test_a_file_that_has_left_something_in_its_session_stays_there(playground: Playground, binding: str) -> None:
    playground.write(1, f"{SEEN};", name="first")
    playground.write(2, binding, head=NO_TRANSACTION, name="bound")
    assert [len(found.finished) for found in whole(playground)] == [1, 1]
    assert playground.sql("SELECT setting FROM seen") == [("1",)]


def test_a_files_own_transaction_is_not_torn(playground: Playground) -> None:
    inserts = "INSERT INTO seen DEFAULT VALUES;\n" * 2
    playground.write(1, f"{SEEN};\nBEGIN;\n{inserts}COMMIT;\n{inserts}", head=NO_TRANSACTION)
    whole(playground)
    first, second, third, fourth = backends(playground)
    assert first == second and third != fourth
    assert playground.versions() == [0, 1]


def test_without_versioning_nothing_could_go_on_so_nothing_is_left(playground: Playground) -> None:
    playground.write(1, f"{SEEN};")
    playground.write(2, "INSERT INTO seen DEFAULT VALUES;")
    with playground.open(leave=lambda: True) as database:
        plan = playground.plan(database, versioning=False)
        report = applying.apply(database, plan)
    assert not report.left and len(backends(playground)) == 1
