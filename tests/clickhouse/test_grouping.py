"""Grouping: files give the same schema, data and `verify` in one run as in any split into several (docs/concepts/session.md).

`GREYLAG_FUZZ_GROUPS=1000` tries more sets of files than the usual 100.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import targets, verification
from migrator.planning import files
from sandbox.databases.clickhouse import ClickHouseServer
from tests import fuzzing
from tests.clickhouse.conftest import Playground
from tests.conftest import AWKWARD_PASSWORD

Verb = targets.Verb
NAMES = ("grouped_one", "grouped_two")

FIRST = (
    "CREATE TABLE stage (a UInt64) ENGINE = Memory;",
    "CREATE TABLE seen (version UInt64, block UInt64, zone String, elsewhere UInt8, staged UInt64) ENGINE = Memory;",
)
LEAVING = [
    "USE {place}_other;",
    "USE system;",
    "SET max_block_size = 7777;",
    "SET max_block_size = 7778, session_timezone = 'Asia/Seoul';",
    "SET session_timezone = 'Asia/Tokyo';",
    "CREATE TEMPORARY TABLE IF NOT EXISTS stage (a UInt64);",
    "/* c */ CREATE OR REPLACE TEMPORARY TABLE stage (a UInt64);",
    "SET ROLE NONE;",
]
WORKING = [
    "CREATE TABLE {place}_other.t{0}_{1} (a DateTime DEFAULT toDateTime('2026-01-01 00:00:00')) ENGINE = Log;",
    "CREATE TABLE {place}.u{0}_{1} ENGINE = Log AS SELECT toDateTime('2026-01-01 00:00:00') AS a, currentDatabase() = '{place}' AS b;",
    "CREATE VIEW {place}.v{0}_{1} AS SELECT count() AS n FROM {place}.stage;",
    "INSERT INTO {place}.stage VALUES ({0});",
]
HERE = ["CREATE TABLE w{0}_{1} (a UInt8) ENGINE = Log;", "INSERT INTO stage VALUES ({0}), ({1});"]
"""What relies on the run's own database; a file says it before it leaves anything."""

SEEN = (
    "INSERT INTO {place}.seen SELECT {0}, getSetting('max_block_size'), timezone(), currentDatabase() != '{place}',"
    " if(currentDatabase() = '{place}', (SELECT count() FROM {place}.stage), 0);"
)


@st.composite
def file_sets(draw: st.DrawFn) -> list[list[str]]:
    """Draws the statements of files: what shows the session, then what leaves something in it, and what shows that."""
    found = []
    for version in range(2, 2 + draw(st.integers(2, 4))):
        first = draw(st.lists(st.sampled_from([*HERE, SEEN]), min_size=1, max_size=2, unique=True))
        pieces = draw(st.lists(st.sampled_from(LEAVING + WORKING), min_size=1, max_size=3, unique=True))
        found.append(
            [piece.replace("{0}", str(version)).replace("{1}", str(number)) for number, piece in enumerate([*first, *pieces, SEEN])]
        )
    return found


@pytest.fixture(scope="module")
def pair(clickhouse_server: ClickHouseServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Playground, Playground]]:
    """Two databases, each with its own directory: the files name their database."""
    places = []
    for name in NAMES:
        url = clickhouse_server.url("migrator", AWKWARD_PASSWORD, name)
        places.append(Playground(url, clickhouse_server, name, tmp_path_factory.mktemp(name)))
    yield places[0], places[1]
    for place in places:
        _drop(place)


def _client(place: Playground) -> Playground:
    return Playground(place.url, place.server, "default", place.directory)


def _drop(place: Playground) -> None:
    for name in (place.name, f"{place.name}_other"):
        _client(place).do(f"DROP DATABASE IF EXISTS {name} SYNC")


def _described(place: Playground) -> list[object]:
    look = _client(place)
    found: list[object] = []
    for name in (place.name, f"{place.name}_other"):
        found += look.sql(
            f"SELECT replaceAll(database, '{place.name}', 'X'), name, engine, replaceAll(create_table_query, '{place.name}', 'X') FROM system.tables"
            f" WHERE database = '{name}' AND name NOT LIKE 'greylag%' AND name NOT LIKE 'goose%' ORDER BY name"
        )
    for (table,) in look.sql(
        f"SELECT name FROM system.tables WHERE database = '{place.name}' AND match(name, '^(seen|stage|u.*)$') ORDER BY name"
    ):
        found += look.sql(f"SELECT * FROM {place.name}.{table} ORDER BY ALL")
    with place.open() as database:
        found += verification.verify(database, files.load(place.directory)).findings
    return found


@fuzzing.drawn("GREYLAG_FUZZ_GROUPS", 100)
@given(texts=file_sets(), data=st.data())
def test_files_mean_the_same_however_many_run_together(
    pair: tuple[Playground, Playground], texts: list[list[str]], data: st.DataObject
) -> None:
    last = len(texts) + 1
    for place in pair:
        _drop(place)
        for name in (place.name, f"{place.name}_other"):
            _client(place).do(f"CREATE DATABASE {name}")
        shutil.rmtree(place.directory)
        place.directory.mkdir()
        place.write(1, *FIRST)
        for version, statements in enumerate(texts, start=2):
            place.write(version, *(item.replace("{place}", place.name) for item in statements))
    together, split = pair
    together.run()
    ends = sorted({*data.draw(st.sets(st.integers(2, last), min_size=1)), last})
    for version in ends:
        split.run(Verb.UP_TO, version)
    assert _described(together) == _described(split)
    assert together.versions() == split.versions() == list(range(last + 1))
    fuzzing.TALLY.update(cases=1, files=last, splits=len(ends))
