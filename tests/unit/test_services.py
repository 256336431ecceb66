"""The six example services follow the recipe's DO column (docs/recipe.md), and every file reads as one would expect of goose.

That they run, and that Down really undoes Up, is proven on real servers elsewhere; here nothing is started.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import postgast
import pytest

from migrator import databases
from migrator.goose import annotations
from migrator.goose.annotations import ParsedMigration
from migrator.house.sections import Source
from migrator.house_rules import NONE
from migrator.targets import Direction, Engine

SERVICES = Path(__file__).resolve().parents[2] / "services"
POSTGRES = {
    "auth-service": "migrations",
    "personal-service": "migrations",
    "authorization-service": "migrations",
    "identity-service": "migrations/postgres",
}
CLICKHOUSE = {"audit-service": "migrations", "analytics-service": "migrations"}

# Fewer would leave the shapes that the engine knows (triggers, partitions, mutations, views, ...) unexercised.
AT_LEAST = {Engine.POSTGRES: 8, Engine.CLICKHOUSE: 6}
NAME = re.compile(r"(?P<version>[0-9]{14})_[a-z0-9]+(?:_[a-z0-9]+)*\.sql")
ANNOTATIONS = frozenset({"Up", "Down", "StatementBegin", "StatementEnd", "NO TRANSACTION", "ENVSUB ON"})
PROBE = {"CLICKHOUSE_DATABASE": "probe_dev", "CLICKHOUSE_CLUSTER": "probe_cluster"}


def directory(service: str) -> Path:
    return SERVICES / service / {**POSTGRES, **CLICKHOUSE}[service]


def files(service: str) -> list[Path]:
    return sorted(directory(service).iterdir())


def every_file(services: dict[str, str]) -> list[object]:
    return [pytest.param(path, id=f"{service}/{path.name}") for service in services for path in files(service)]


def parsed(path: Path, direction: Direction) -> ParsedMigration:
    return annotations.parse(path.read_bytes(), direction, PROBE)


def annotation_lines(path: Path) -> list[str]:
    return [line.removeprefix("-- +goose ") for line in path.read_text(encoding="utf-8").splitlines() if "+goose" in line]


def statements(path: Path) -> Iterator[str]:
    for direction in Direction:
        for statement in parsed(path, direction).statements:
            yield statement.text


def without_literals(statement: str) -> str:
    """The statement without string literals and comments, so that a character inside one is never taken for syntax."""
    return re.sub(r"'(?:[^'\\]|\\.|'')*'|--[^\n]*", " ", statement)


# Structure: what the recipe's tools table and its naming of files promise.


def test_there_are_exactly_the_services_of_the_recipe() -> None:
    assert {entry.name for entry in SERVICES.iterdir() if entry.is_dir()} == {*POSTGRES, *CLICKHOUSE}


@pytest.mark.parametrize("service", [*POSTGRES, *CLICKHOUSE])
def test_every_service_has_enough_migrations_to_be_realistic(service: str) -> None:
    engine = Engine.POSTGRES if service in POSTGRES else Engine.CLICKHOUSE
    assert len(files(service)) >= AT_LEAST[engine]


@pytest.mark.parametrize("service", [*POSTGRES, *CLICKHOUSE])
def test_names_are_a_real_time_and_words_and_each_version_is_used_once(service: str) -> None:
    versions = []
    for path in files(service):
        match = NAME.fullmatch(path.name)
        assert match, f"{path.name} is not YYYYMMDDHHMMSS_words.sql"
        moment = datetime.strptime(match["version"], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        assert moment < datetime.now(UTC), f"{path.name} is from the future"
        versions.append(match["version"])
    assert len(set(versions)) == len(versions)
    assert versions == sorted(versions, key=int)


@pytest.mark.parametrize("path", every_file({**POSTGRES, **CLICKHOUSE}))
def test_bytes_are_plain_utf8_lines(path: Path) -> None:
    raw = path.read_bytes()
    text = raw.decode("utf-8")
    assert not text.startswith("\ufeff"), "goose does not read a byte-order mark"
    assert "\r" not in text and "\t" not in text
    assert text.endswith("\n") and not text.endswith("\n\n")
    blank = [number for number, line in enumerate(text.split("\n"), 1) if line != line.rstrip()]
    assert blank == [], f"white space at the end of lines {blank}"


# Annotations.


@pytest.mark.parametrize("path", every_file({**POSTGRES, **CLICKHOUSE}))
def test_annotations_are_spelt_exactly_and_mentioned_nowhere_else(path: Path) -> None:
    assert set(annotation_lines(path)) <= ANNOTATIONS


@pytest.mark.parametrize("path", every_file({**POSTGRES, **CLICKHOUSE}))
def test_every_file_has_one_up_and_one_down_with_statements_in_both(path: Path) -> None:
    lines = annotation_lines(path)
    assert (lines.count("Up"), lines.count("Down")) == (1, 1)
    for direction in Direction:
        assert parsed(path, direction).statements, f"nothing to do {direction}"


@pytest.mark.parametrize("path", every_file({**POSTGRES, **CLICKHOUSE}))
def test_no_file_holds_what_goose_would_drop_or_glue(path: Path) -> None:
    for direction in Direction:
        assert tuple(parsed(path, direction).hazards) == ()


@pytest.mark.parametrize("path", every_file(POSTGRES))
def test_each_chunk_of_a_postgresql_file_is_one_statement_of_its_grammar(path: Path) -> None:
    for statement in statements(path):
        assert len(postgast.parse(statement).stmts) == 1, statement


@pytest.mark.parametrize("path", every_file(CLICKHOUSE))
def test_each_chunk_of_a_clickhouse_file_is_one_statement(path: Path) -> None:
    for statement in statements(path):
        assert without_literals(statement).rstrip().rstrip(";").count(";") == 0, statement


@pytest.mark.parametrize("path", every_file(POSTGRES))
def test_bodies_of_functions_and_blocks_are_wrapped(path: Path) -> None:
    for body in re.finditer(r"AS \$\$|DO \$\$", path.read_text(encoding="utf-8")):
        before = path.read_text(encoding="utf-8")[: body.start()]
        assert before.count("StatementBegin") == before.count("StatementEnd") + 1


@pytest.mark.parametrize("service", POSTGRES)
def test_one_file_of_each_postgresql_service_runs_outside_a_transaction_and_builds_one_index(service: str) -> None:
    outside = [path for path in files(service) if "NO TRANSACTION" in annotation_lines(path)]
    assert len(outside) == 1
    for direction, beginning in ((Direction.UP, "CREATE INDEX CONCURRENTLY"), (Direction.DOWN, "DROP INDEX CONCURRENTLY")):
        migration = parsed(outside[0], direction)
        assert not migration.use_transaction
        assert [statement.text.startswith(beginning) for statement in migration.statements] == [True]


@pytest.mark.parametrize("path", every_file(POSTGRES))
def test_concurrently_is_only_used_outside_a_transaction(path: Path) -> None:
    if parsed(path, Direction.UP).use_transaction:
        assert not any("CONCURRENTLY" in without_literals(statement) for statement in statements(path))


# The DO column: types, identifiers, names of databases.


@pytest.mark.parametrize("service", [*POSTGRES, *CLICKHOUSE])
def test_no_file_stands_against_a_house_rule_and_none_is_excepted(service: str) -> None:
    engine = Engine.POSTGRES if service in POSTGRES else Engine.CLICKHOUSE
    sources = [Source(path.name, path.read_bytes()) for path in files(service)]
    assert [f"{item.place}: {item.text}" for item in databases.examine_files(sources, engine, NONE.with_all_on())] == []
    assert [path.name for path in files(service) if parsed(path, Direction.UP).notes.ignored] == []


@pytest.mark.parametrize("path", every_file(POSTGRES))
def test_times_have_microseconds(path: Path) -> None:
    assert re.findall(r"(?i)\btimestamp(?:tz)?\b(?!\(6\))", "\n".join(map(without_literals, statements(path)))) == []


@pytest.mark.parametrize("path", every_file(POSTGRES))
def test_identifiers_are_text_made_by_uuid_generate_v7(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    made = re.findall(r"^    id (.*?),?$", text, flags=re.MULTILINE)
    assert all(re.fullmatch(r"TEXT (PRIMARY KEY|NOT NULL) DEFAULT uuid_generate_v7\(\)::text", definition) for definition in made)
    assert "gen_random_bytes" not in without_literals(text), "that would need the pgcrypto extension"


@pytest.mark.parametrize("service", POSTGRES)
def test_uuid_generate_v7_is_of_the_first_file_and_other_files_use_it(service: str) -> None:
    first, *others = files(service)
    assert "CREATE FUNCTION uuid_generate_v7()" in first.read_text(encoding="utf-8")
    assert any("DEFAULT uuid_generate_v7()" in path.read_text(encoding="utf-8") for path in others)


def test_the_shared_functions_are_the_same_in_every_service() -> None:
    assert len({files(service)[0].read_bytes() for service in POSTGRES}) == 1


@pytest.mark.parametrize("path", every_file({**POSTGRES, **CLICKHOUSE}))
def test_no_database_name_is_mentioned_in_a_file(path: Path) -> None:
    assert re.findall(r"\b[a-z_]+_db(?:_dev|_release)?\b", path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", every_file(POSTGRES))
def test_a_postgresql_file_names_no_schema_either(path: Path) -> None:
    relations = [
        relation
        for statement in statements(path)
        for relation in postgast.find_nodes(postgast.parse(statement), postgast.pg_query_pb2.RangeVar)
    ]
    assert [relation.relname for relation in relations if relation.schemaname or relation.catalogname] == []
    assert "ENVSUB ON" not in annotation_lines(path), "a substitution would eat the dollars of a function's body"


@pytest.mark.parametrize("path", every_file(CLICKHOUSE))
def test_a_clickhouse_file_takes_its_database_from_the_environment(path: Path) -> None:
    assert annotation_lines(path)[0] == "ENVSUB ON"
    named = re.compile(r"\b(?:TABLE|VIEW|DICTIONARY|INTO|FROM|JOIN|TO)(?: IF(?: NOT)? EXISTS)? (?!IF\b)(\S+)| AS (\S+)\nENGINE")
    for statement in statements(path):
        names = [first or second for first, second in named.findall(without_literals(statement))]
        assert names, statement
        assert [name for name in names if not name.startswith("probe_dev.")] == [], statement


@pytest.mark.parametrize("path", every_file(CLICKHOUSE))
def test_an_unset_database_name_is_a_syntax_error_and_never_another_database(path: Path) -> None:
    for direction in Direction:
        for statement in annotations.parse(path.read_bytes(), direction, {}).statements:
            assert re.search(r"\s\.[a-z_]+", without_literals(statement.text)), statement.text


@pytest.mark.parametrize("service", CLICKHOUSE)
def test_every_distributed_table_is_made_after_the_local_one_that_it_reads(service: str) -> None:
    made: set[str] = set()
    distributed = 0
    for path in files(service):
        for statement in parsed(path, Direction.UP).statements:
            created = re.match(r"CREATE (?:TABLE|MATERIALIZED VIEW) IF NOT EXISTS probe_dev\.(\w+)", statement.text)
            over = re.search(r"ENGINE = Distributed\('probe_cluster', 'probe_dev', '(\w+)'", statement.text)
            if over:
                distributed += 1
                assert over[1].endswith("_local") and over[1] in made, statement.text
            if created:
                made.add(created[1])
    assert distributed >= 2
    assert any(name.endswith("_mv") for name in made)
