"""The truth table of what the catalogue's tables don't show: users, roles, quotas, profiles, policies, grants, named collections (test_truth_table).

Their statements are done or not by the query log; where it is missing, by what executing them again means; else somebody is asked. Never a guess.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrator.planning import events
from sandbox.databases import clickhouse_releases
from sandbox.databases.clickhouse import ClickHouseServer
from sandbox.databases.clickhouse_releases import Release
from tests.clickhouse.conftest import Playground, refusal, wait_until
from tests.clickhouse.test_truth_table import Place, Row, T, killed, write

BOTH = frozenset({"before", "after"})
USER = "CREATE USER {db}_u;"
ROLE = "CREATE ROLE {db}_r;"


ROWS = [
    Row("CREATE USER {db}_u IDENTIFIED WITH no_password;", (T,), asks=BOTH),
    Row("CREATE USER IF NOT EXISTS {db}_u;", (T,), again=True),
    Row("CREATE USER IF NOT EXISTS {db}_u SETTINGS max_threads = 3;", (T, USER), again=True),
    Row("CREATE USER OR REPLACE {db}_u SETTINGS max_threads = 3;", (T, USER), again=True),
    Row("ALTER USER {db}_u SETTINGS max_threads = 4;", (T, USER), again=True),
    Row("ALTER USER {db}_u RENAME TO {db}_w;", (T, USER), asks=BOTH),
    Row("ALTER USER IF EXISTS {db}_u DEFAULT ROLE NONE;", (T, USER), again=True),
    Row("DROP USER {db}_u;", (T, USER), asks=BOTH),
    Row("DROP USER IF EXISTS {db}_u;", (T, USER), again=True),
    Row("CREATE ROLE {db}_r SETTINGS max_threads = 5;", (T,), asks=BOTH),
    Row("DROP ROLE {db}_r;", (T, ROLE), asks=BOTH),
    Row("GRANT SELECT ON {db}.t TO {db}_u;", (T, USER), again=True),
    Row("GRANT INSERT ON {db}.* TO {db}_u WITH GRANT OPTION;", (T, USER), again=True),
    Row("GRANT {db}_r TO {db}_u;", (T, USER, ROLE), again=True),
    Row("REVOKE SELECT ON {db}.t FROM {db}_u;", (T, USER, "GRANT SELECT, INSERT ON {db}.t TO {db}_u;"), again=True),
    Row("CREATE QUOTA {db}_q FOR INTERVAL 1 hour MAX queries = 9 TO {db}_u;", (T, USER), asks=BOTH),
    Row("ALTER QUOTA {db}_q FOR INTERVAL 1 hour MAX queries = 8;", (T, "CREATE QUOTA {db}_q FOR INTERVAL 1 hour MAX queries = 9;"), again=True),
    Row("DROP QUOTA {db}_q;", (T, "CREATE QUOTA {db}_q FOR INTERVAL 1 hour MAX queries = 9;"), asks=BOTH),
    Row("CREATE SETTINGS PROFILE {db}_s SETTINGS max_threads = 6 TO {db}_u;", (T, USER), asks=BOTH),
    Row("ALTER SETTINGS PROFILE {db}_s SETTINGS max_threads = 7;", (T, "CREATE SETTINGS PROFILE {db}_s SETTINGS max_threads = 6;"), again=True),
    Row("DROP SETTINGS PROFILE IF EXISTS {db}_s;", (T, "CREATE SETTINGS PROFILE {db}_s SETTINGS max_threads = 6;"), again=True),
    Row("CREATE ROW POLICY {db}_p ON {db}.t USING id > 1 TO {db}_u;", (T, USER), asks=BOTH),
    Row("CREATE ROW POLICY OR REPLACE {db}_p ON {db}.t USING id > 2 TO ALL;", (T, USER), again=True),
    Row("ALTER ROW POLICY {db}_p ON {db}.t USING id > 3;", (T, "CREATE ROW POLICY {db}_p ON {db}.t USING id > 1 TO ALL;"), again=True),
    Row("DROP ROW POLICY {db}_p ON {db}.t;", (T, "CREATE ROW POLICY {db}_p ON {db}.t USING id > 1 TO ALL;"), asks=BOTH),
    Row("CREATE NAMED COLLECTION {db}_n AS a = 1, b = 'two';", (T,), asks=BOTH),
    Row("ALTER NAMED COLLECTION {db}_n SET a = 2;", (T, "CREATE NAMED COLLECTION {db}_n AS a = 1;"), asks=BOTH),
    Row("DROP NAMED COLLECTION {db}_n;", (T, "CREATE NAMED COLLECTION {db}_n AS a = 1;"), asks=BOTH),
]  # fmt: skip
"""`asks`: what a run that was killed there asks where no query log is."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if clickhouse_releases.library() is None:  # the current release has no access storage that can be written to in the sandbox's build
        pytest.skip(clickhouse_releases.missing())
    directory = tmp_path_factory.mktemp("truth-of-access")
    with ClickHouseServer(directory / "server", query_log=True, release=Release.LONG_TERM) as server:
        wait_until(lambda: int(server.execute("SELECT uptime()")) > 3)  # a log is evidence only if the server was up since then
        yield Place(server, directory)


def access(playground: Playground) -> list[str]:
    """What the server says of everything of this database's name, without the name."""
    found = [str(row[0]) for row in playground.sql("SHOW ACCESS")]
    found += [str(row) for row in playground.sql("SELECT name, collection FROM system.named_collections ORDER BY name")]
    return sorted(line.replace(playground.name, "DB") for line in found if f"{playground.name}_" in line)


def _undisturbed(place: Place, row: Row) -> list[str]:
    playground = place.playground(log=True)
    write(playground, row, together=True)
    playground.run()
    return access(playground)


IN_THE_SUITE = ("CREATE USER {db}_u IDENT", "ALTER USER {db}_u SETT", "DROP ROLE", "GRANT SELECT")
"""How rows begin that stand for the others; those run with `make test-cluster`, which has the time."""


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=() if row.statement.startswith(IN_THE_SUITE) else pytest.mark.cluster) for row in ROWS], ids=str
)
def test_killed_at_a_statement_that_only_the_access_storage_shows(place: Place, row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _undisturbed(place, row)
    for log in (True, False):
        for when in ("before", "after"):
            playground = place.playground(log=log)
            write(playground, row, together=True)
            killed(playground, 2, 1, when, monkeypatch)
            if row.asks and not log:
                assert refusal(playground.run).code == "statement-unknown", (log, when)
                playground.answer(2, 1, done=when == "after")
                playground.run()
            else:
                playground.run()
                (settled,) = playground.of(events.StatementSettled)
                assert settled.outcome == ("done" if log and when == "after" else "not-done"), (log, when)
            assert access(playground) == expected, (log, when)


REFUSED = [
    ("CREATE ROLE {db}_r;", "CREATE ROLE {db}_r;"),
    ("", "DROP QUOTA {db}_missing;"),
]


@pytest.mark.parametrize(("before", "statement"), REFUSED, ids=[item[1] for item in REFUSED])
def test_bad_flow_a_refused_statement_about_access_is_never_taken_for_done(place: Place, before: str, statement: str) -> None:
    playground = place.playground(log=True)
    texts = [item.replace("{db}", playground.name) for item in (T, before, statement) if item]
    playground.write(1, *texts[:-1])
    playground.write(2, texts[-1])
    assert refusal(playground.run).code == "sql-rejected"
    assert refusal(playground.run).code == "statement-unknown"
    playground.answer(2, 1, done=False)
    assert refusal(playground.run).code == "sql-rejected"


def test_a_grant_that_may_have_been_executed_is_asked_about_when_its_text_is_another(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for log in (True, False):
        playground = place.playground(log=log)
        playground.write(1, T, USER.replace("{db}", playground.name))
        playground.write(2, f"GRANT SELECT ON {playground.name}.t TO {playground.name}_u;", "SELECT 1;")
        killed(playground, 2, 1, "after", monkeypatch)
        playground.write(2, f"GRANT INSERT ON {playground.name}.t TO {playground.name}_u;", "SELECT 1;")
        assert refusal(playground.run).code == "statement-changed"
