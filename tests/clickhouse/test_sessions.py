"""A file means the same however many run together: what one leaves in the session is gone before the next begins."""

from __future__ import annotations

import pytest

from migrator import targets
from tests.clickhouse.conftest import Playground, refusal

Verb = targets.Verb

LEFT = {
    "a database": ("CREATE DATABASE {name}_other;\nUSE {name}_other;", "currentDatabase()", "{name}"),
    "a setting": ("SET max_threads = 3, max_block_size = 77;", "getSetting('max_block_size')", 65409),
    "a setting of greylag's": ("SET mutations_sync = 0;", "getSetting('mutations_sync')", 2),
    "behind a comment": ("/* c */ SET max_block_size = 77;", "getSetting('max_block_size')", 65409),
    "roles": ("SET ROLE NONE;", "length(currentRoles()) >= 0", True),
    "a temporary table": (
        "CREATE TABLE t (a UInt8) ENGINE = Log;\nCREATE /* c */ TEMPORARY TABLE t (a UInt8);\nINSERT INTO t VALUES (1);",
        "(SELECT count() FROM t)",
        0,
    ),
}
"""What the first file does, what the second asks, and the answer."""


@pytest.mark.parametrize("left", LEFT)
def test_what_a_file_leaves_in_the_session_the_next_one_does_not_see(playground: Playground, left: str) -> None:
    first, asked, expected = LEFT[left]
    playground.write(1, first.format(name=playground.name))
    playground.write(2, f"CREATE TABLE answer ENGINE = Log AS SELECT {asked} AS said;")
    playground.write(3, "USE system;\nSET max_block_size = 78;")
    playground.write(4, f"CREATE TABLE again ENGINE = Log AS SELECT {asked} AS said;")
    try:
        playground.run()
        wanted = [[expected.format(name=playground.name) if isinstance(expected, str) else expected]]
        assert playground.sql("SELECT said FROM answer") == wanted
        assert playground.sql("SELECT said FROM again") == wanted
        assert playground.versions() == [0, 1, 2, 3, 4]
    finally:
        playground.do(f"DROP DATABASE IF EXISTS {playground.name}_other")


def test_within_a_file_it_lasts_and_after_a_break_it_is_repeated(playground: Playground) -> None:
    playground.write(1, "CREATE TABLE t (a UInt64) ENGINE = Log;\nSET max_block_size = 77;\nUSE system;")
    playground.write(
        2,
        f"SET max_block_size = 78;\nINSERT INTO {playground.name}.t SELECT getSetting('max_block_size');\nINSERT INTO missing VALUES (1);",
    )
    refusal(playground.run)
    playground.write(
        2, f"SET max_block_size = 78;\nINSERT INTO {playground.name}.t SELECT getSetting('max_block_size');\nINSERT INTO t VALUES (0);"
    )
    playground.run()
    assert playground.sql("SELECT a FROM t ORDER BY a") == [[0], [78]]


def test_an_ordinary_file_opens_no_session_of_its_own(playground: Playground) -> None:
    for version in range(1, 4):
        playground.write(version, f"CREATE TABLE t{version} (a UInt8) ENGINE = Log;")
    with playground.open() as database:
        opened = database._session
        renewed = opened.renew
        opened.renew = lambda: pytest.fail("nothing was left")  # type: ignore[method-assign]
        from migrator import applying

        applying.apply(database, playground.plan(database), playground.seen.append)
        opened.renew = renewed  # type: ignore[method-assign]
    assert playground.versions() == [0, 1, 2, 3]
