"""What a transaction may wait for locks is one sum, whatever its statements are."""

from __future__ import annotations

import pytest

from migrator import databases
from migrator.postgres import etiquette
from tests.postgres.conftest import Playground

SEEN = "INSERT INTO seen (timeout) SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout';"
SLOW_MACHINE = 1000.0  # seconds that may pass between two statements of a test without changing its verdict


def seen(playground: Playground) -> list[int]:
    return [int(str(row[0])) for row in playground.sql("SELECT timeout FROM seen ORDER BY id")]


@pytest.fixture
def tables(playground: Playground) -> Playground:
    playground.write(
        1,
        "CREATE TABLE a (id int PRIMARY KEY);\nCREATE TABLE b (id int PRIMARY KEY, a_id int);\n"
        "CREATE TABLE seen (id int GENERATED ALWAYS AS IDENTITY, timeout int);",
    )
    playground.run()
    return playground


def test_tables_of_one_statement_share_the_time_and_later_statements_get_what_is_left(tables: Playground) -> None:
    add_key = "ALTER TABLE b ADD FOREIGN KEY (a_id) REFERENCES a (id) NOT VALID;"
    tables.write(2, f"{SEEN}\n{add_key}\n{SEEN}\nALTER TABLE a ADD COLUMN more int;\n{SEEN}")
    tables.run(locks=databases.LockPolicy(statement_lock_timeout=8 * SLOW_MACHINE))
    before, first, second = seen(tables)
    assert before == 0, "nothing is waited for yet"
    assert first == 4 * SLOW_MACHINE * 1000
    assert SLOW_MACHINE * 1000 <= second <= 8 * SLOW_MACHINE * 1000


def test_several_commands_of_one_statement_share_the_time(tables: Playground) -> None:
    tables.write(2, f"ALTER TABLE a ADD COLUMN more int; ALTER TABLE b ADD COLUMN more int; {SEEN}")
    tables.run(locks=databases.LockPolicy(statement_lock_timeout=2.0))
    assert seen(tables) == [1000]


def test_a_transaction_without_a_limit_has_none(tables: Playground) -> None:
    tables.write(2, f"ALTER TABLE a ADD COLUMN more int;\nALTER TABLE b ADD COLUMN more int;\n{SEEN}")
    tables.run(locks=databases.LockPolicy(statement_lock_timeout=0.0))
    assert seen(tables) == [0]


@pytest.mark.parametrize(
    ("ago", "least", "most"),
    [
        (-100_000.0, 7000, 7000),  # nothing is used up: the statement's own share
        (3000.0, 6000, 7000),
        (9000.0, 1250, 1250),  # all is used up: the least
        (100_000.0, 7000, 7000),  # more than waiting can take: the transaction has worked
        (None, 7000, 7000),  # a file's RESET ALL
    ],
)
def test_what_is_left_is_counted_by_the_servers_clock(playground: Playground, ago: float | None, least: float, most: float) -> None:
    since = "''" if ago is None else f"(extract(epoch FROM clock_timestamp()) - {ago})::text"
    with playground.open() as database:
        session = database._session
        session.query("BEGIN")
        session.query(f"SELECT set_config('{etiquette._SINCE}', {since}, true)")
        session.query(etiquette._rest(10_000.0, 7000.0))
        found = int(session.query("SELECT setting FROM pg_settings WHERE name = 'lock_timeout'")[0][0] or 0) / 1000
        session.query("ROLLBACK")
    assert least - SLOW_MACHINE * (ago == 3000.0) <= found <= most


def test_a_file_that_resets_everything_is_applied(tables: Playground) -> None:
    tables.write(2, "ALTER TABLE a ADD COLUMN more int;\nRESET ALL;\nALTER TABLE b ADD COLUMN more int;\nALTER TABLE b DROP COLUMN more;")
    tables.run()
    assert tables.versions() == [0, 1, 2]
