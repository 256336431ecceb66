"""A connection that ends while something is being sent: one transient error, nothing half-done, and the next run does the rest."""

from __future__ import annotations

import pytest

from migrator import errors
from tests.postgres.conftest import Playground
from tests.postgres.fake_cut import FakeCut

_FILES = 8


def write(playground: Playground, head: str) -> None:
    for version in range(1, _FILES + 1):
        lines = [f"CREATE TABLE t{version} (id int);", *[f"INSERT INTO t{version} SELECT generate_series(1, 10);"] * 4]
        if head:
            lines.append(f"CREATE INDEX CONCURRENTLY ON t{version} (id);")
        playground.write(version, "\n".join(lines), head=head)


@pytest.mark.parametrize(("head", "abrupt"), [("", False), ("", True), ("-- +goose NO TRANSACTION\n", False)])
def test_a_connection_that_is_cut_anywhere_ends_as_unavailable(playground: Playground, head: str, abrupt: bool) -> None:
    write(playground, head)
    codes = set()
    with FakeCut(playground.url) as cut:
        cut.abrupt = abrupt
        through = Playground(cut.url, playground.directory)
        for cut.after in (*range(40, 1_400, 340), *range(1_400, 9_000, 900)):
            playground.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            with pytest.raises(errors.Unavailable) as caught:
                through.run()
            codes.add(caught.value.code)
            assert caught.value.exit_code == 21
            playground.run()
            assert playground.versions() == list(range(_FILES + 1))
            for version in (1, _FILES // 2, _FILES):
                assert playground.sql(f"SELECT count(*) FROM t{version}") == [(40,)], f"after a cut at byte {cut.after}"
    assert codes == {"unavailable", "connection-lost"}  # within the login, and behind it
    assert playground.sql("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]


def test_what_the_server_said_before_it_closed_is_told(playground: Playground) -> None:
    playground.write(1, "SELECT pg_terminate_backend(pg_backend_pid());")
    with pytest.raises(errors.Unavailable, match="terminating connection due to administrator command"):
        playground.run()
    assert playground.versions() == [0]
