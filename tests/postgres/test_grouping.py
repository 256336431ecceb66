"""Grouping: files give the same schema, owners, data and `verify` in one run as in any split into several (docs/concepts/session.md).

`GREYLAG_FUZZ_GROUPS=1000` tries more sets of files than the usual 100.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import targets, verification
from migrator.planning import events, files
from sandbox.databases.postgres import PostgresServer
from tests import fuzzing
from tests.postgres.conftest import Playground

Verb = targets.Verb
ROLE = "grouping_another"

FIRST = """CREATE SCHEMA one;
CREATE SCHEMA two;
CREATE SEQUENCE public.numbers CACHE 5;
CREATE TABLE public.stage (a int);
CREATE TABLE public.seen (version int, number bigint DEFAULT nextval('public.numbers'), path text, who text, zone text, memory text, staged bigint);
CREATE FUNCTION public.leave() RETURNS void LANGUAGE plpgsql AS 'BEGIN SET work_mem = ''55MB''; CREATE TEMP TABLE IF NOT EXISTS stage (a int); END';
CREATE FUNCTION public.leaving() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM set_config(''search_path'', ''two, public'', false); RETURN NEW; END';
CREATE TABLE public.trap (a int);
CREATE TRIGGER t AFTER INSERT ON public.trap FOR EACH ROW EXECUTE FUNCTION public.leaving();"""

LEAVING = [
    "SET search_path TO one, public;",
    "SET search_path = two, public;",
    "SELECT pg_catalog.set_config('search_path', 'one, public', false);",
    f"SET ROLE {ROLE};",
    f"SET SESSION AUTHORIZATION {ROLE};",
    "SET TIME ZONE 'Asia/Seoul';",
    "SET work_mem = '77MB';",
    "SET SESSION work_mem TO '78MB';",
    "DO $$ BEGIN SET work_mem = '79MB'; END $$;",
    "SELECT public.leave();",
    "INSERT INTO public.trap VALUES (1);",
    "CREATE TEMP TABLE IF NOT EXISTS stage (a int);",
    "CREATE TEMPORARY TABLE t{0}_{1} (a int);",
    "PREPARE p{1} AS SELECT 1;\nEXECUTE p{1};",
    "LISTEN news;",
    "SET default_transaction_isolation = 'serializable';",
    "SET standard_conforming_strings = off;",
    "SET client_encoding = 'SQL_ASCII';",
    "RESET ALL;",
    "RESET ROLE;",
    "SET LOCAL work_mem = '80MB';",
]
WORKING = [
    "CREATE TABLE IF NOT EXISTS t{0}_{1} (a int, b timestamptz DEFAULT '2026-01-01 00:00', c text DEFAULT 'a\\b');",
    "CREATE TABLE u{0}_{1} (id serial PRIMARY KEY, at timestamptz DEFAULT '2026-06-01 12:00');\nINSERT INTO u{0}_{1} DEFAULT VALUES;",
    "CREATE VIEW v{0}_{1} AS SELECT count(*) AS n FROM stage;",
    "INSERT INTO stage VALUES ({0});",
    "CREATE FUNCTION f{0}_{1}() RETURNS text LANGUAGE sql AS 'SELECT current_user::text';",
    "COPY (SELECT 1) TO STDOUT;",
]
SEEN = (
    "INSERT INTO public.seen (version, path, who, zone, memory, staged) VALUES ({0}, current_setting('search_path'), current_user,"
    " current_setting('TimeZone'), current_setting('work_mem'), (SELECT count(*) FROM stage));"
)


@st.composite
def file_sets(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Draws heads and bodies of files: what leaves something, what shows it, in any order."""
    found = []
    for version in range(2, 2 + draw(st.integers(2, 5))):
        pieces = draw(st.lists(st.sampled_from(LEAVING + WORKING + [SEEN]), min_size=1, max_size=4, unique=True))
        head = draw(st.sampled_from(["", "", "-- +goose NO TRANSACTION\n"]))
        found.append((head, "\n".join(piece.format(version, number) for number, piece in enumerate([*pieces, SEEN]))))
    return found


@pytest.fixture(scope="module")
def pair(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Playground, Playground]]:
    """Two databases with one directory, as a superuser sees them: files become another role."""
    postgres_server.execute(f"CREATE ROLE {ROLE}; GRANT pg_read_all_data, pg_write_all_data TO {ROLE}")
    directory = tmp_path_factory.mktemp("grouped")
    places = [Playground(postgres_server.create_database(name), directory) for name in ("grouped_one", "grouped_two")]
    postgres_server.execute(f"GRANT TEMPORARY ON DATABASE grouped_one, grouped_two TO {ROLE}")
    yield places[0], places[1]
    for name in ("grouped_one", "grouped_two"):
        postgres_server.drop_database(name)
    postgres_server.execute(f"DROP ROLE {ROLE}")


def _emptied(place: Playground) -> None:
    place.sql(
        "DROP SCHEMA IF EXISTS one CASCADE; DROP SCHEMA IF EXISTS two CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public;"
        f"GRANT CREATE, USAGE ON SCHEMA public TO {ROLE}"
    )


def _described(place: Playground) -> list[object]:
    """Returns what the files have made: objects with owners, what a version's facts say, what statements saw; and what `verify` finds."""
    found: list[object] = place.sql(
        "SELECT n.nspname, c.relname, c.relkind::text, pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname IN ('one', 'two', 'public') UNION ALL SELECT n.nspname, p.proname, 'f', pg_get_userbyid(p.proowner)"
        " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('one', 'two', 'public') ORDER BY 1, 2"
    )
    found += place.sql("SELECT * FROM public.seen ORDER BY version, number")
    found += place.sql("SELECT * FROM public.stage ORDER BY 1")
    found += place.sql(
        "SELECT version, kind, identity, definition, owner FROM greylag_fact WHERE kind NOT IN ('home', 'note') ORDER BY kind, identity, version"
    )
    with place.open() as database:
        found += verification.verify(database, files.load(place.directory), strict=True).findings
    return found


@fuzzing.drawn("GREYLAG_FUZZ_GROUPS", 100)
@given(texts=file_sets(), data=st.data())
def test_files_mean_the_same_however_many_run_together(
    pair: tuple[Playground, Playground], texts: list[tuple[str, str]], data: st.DataObject
) -> None:
    together, split = pair
    shutil.rmtree(together.directory)
    together.directory.mkdir()
    for place in pair:
        _emptied(place)
    grants = f"\nGRANT CREATE, USAGE ON SCHEMA one, two TO {ROLE};\nGRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE};"
    together.write(1, f"-- +goose StatementBegin\n{FIRST}{grants}\n-- +goose StatementEnd")
    for version, (head, text) in enumerate(texts, start=2):
        together.write(version, text, head=head)
    last = len(texts) + 1
    for place in pair:
        place.run(Verb.UP_TO, version=1)
        place.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}")
    together.run()
    assert together.of(events.Note) == []
    ends = sorted({*data.draw(st.sets(st.integers(2, last), min_size=1)), last})
    for version in ends:
        split.run(Verb.UP_TO, version=version)
    assert _described(together) == _described(split)
    assert together.versions() == split.versions() == list(range(last + 1))
    fuzzing.TALLY.update(cases=1, files=last, splits=len(ends))
