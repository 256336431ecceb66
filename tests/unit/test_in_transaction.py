"""What PostgreSQL refuses inside a transaction, and psql's own commands: known from the file, before anything runs; a warning, never a refusal."""

from __future__ import annotations

import pytest

from migrator import errors
from migrator.goose import annotations, psql, transactions
from migrator.goose.hazards import HazardKind
from migrator.targets import Engine

NO_TRANSACTION = "-- +goose NO TRANSACTION\n"

REFUSED = {
    "VACUUM t;": "VACUUM",
    "VACUUM (FULL, ANALYZE) t;": "VACUUM",
    "CREATE UNIQUE INDEX /* c */ CONCURRENTLY IF NOT EXISTS i ON t (a);": "CREATE INDEX CONCURRENTLY",
    "create index concurrently on t (a);": "CREATE INDEX CONCURRENTLY",
    "DROP INDEX CONCURRENTLY IF EXISTS i;": "DROP INDEX CONCURRENTLY",
    "CREATE DATABASE x;": "CREATE DATABASE",
    "DROP DATABASE x;": "DROP DATABASE",
    "ALTER DATABASE x SET TABLESPACE y;": "ALTER DATABASE … SET TABLESPACE",
    "CREATE TABLESPACE x LOCATION '/x';": "CREATE TABLESPACE",
    "DROP TABLESPACE x;": "DROP TABLESPACE",
    "ALTER SYSTEM SET work_mem = '1MB';": "ALTER SYSTEM",
    "REINDEX DATABASE x;": "REINDEX DATABASE",
    "REINDEX (VERBOSE) SYSTEM x;": "REINDEX SYSTEM",
    "REINDEX SCHEMA app;": "REINDEX SCHEMA",
    "REINDEX TABLE CONCURRENTLY t;": "REINDEX CONCURRENTLY",
    "REINDEX (CONCURRENTLY) INDEX i;": "REINDEX CONCURRENTLY",
    "REINDEX (VERBOSE) INDEX CONCURRENTLY i;": "REINDEX CONCURRENTLY",
    "CREATE SUBSCRIPTION s CONNECTION 'dbname=x' PUBLICATION p;": "CREATE SUBSCRIPTION",
    "DROP SUBSCRIPTION s;": "DROP SUBSCRIPTION",
    "ALTER SUBSCRIPTION s REFRESH PUBLICATION;": "ALTER SUBSCRIPTION, which refreshes its publications,",
    "ALTER TABLE t DETACH PARTITION app.p CONCURRENTLY;": "DETACH PARTITION … CONCURRENTLY",
    "CLUSTER;": "CLUSTER without a table",
    "CLUSTER (VERBOSE);": "CLUSTER without a table",
    "DISCARD ALL;": "DISCARD ALL",
}

TAKEN = [
    "ANALYZE t;",
    "CREATE INDEX concurrently_built ON t (a);",
    "CREATE TABLE database (a int);",
    "ALTER DATABASE x SET work_mem = '1MB';",
    "REINDEX TABLE t;",
    "REINDEX (CONCURRENTLY off) TABLE t;",
    "CREATE SUBSCRIPTION s CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false);",
    "ALTER SUBSCRIPTION s SET (slot_name = NONE);\nDROP SUBSCRIPTION s;",
    "ALTER SUBSCRIPTION s SET PUBLICATION p WITH (refresh = false);",
    "ALTER TABLE t DETACH PARTITION p;",
    "ALTER TABLE t DETACH PARTITION p FINALIZE;",
    'CLUSTER "t";',
    "CLUSTER VERBOSE t USING i;",
    "DISCARD PLANS;",
    "CREATE DATABASE IF NOT EXISTS x ENGINE = Atomic;",
    "SELECT 'VACUUM t;', $$ CREATE DATABASE x; $$;",
]


def found(body: str, head: str = "") -> list[tuple[str, int, str]]:
    hazards = annotations.parse(f"{head}-- +goose Up\n{body}\n", "up", {}).hazards_for(Engine.POSTGRES)
    assert all(item.kind is HazardKind.MERGED for item in hazards)  # a warning: the server decides
    assert all(item.hint for item in hazards)
    first = 2 + head.count("\n")
    return [(item.code, item.line - first, item.message) for item in hazards]


@pytest.mark.parametrize(("text", "name"), REFUSED.items())
def test_a_command_that_a_transaction_refuses_is_warned_of(text: str, name: str) -> None:
    assert found(f"SELECT 1;\n{text}") == [("in-transaction", 1, f"PostgreSQL refuses {name} inside a transaction (line 3)")]
    assert found(text, NO_TRANSACTION) == []


@pytest.mark.parametrize("text", TAKEN)
def test_a_command_that_a_transaction_takes_is_not(text: str) -> None:
    assert found(text) == []


def test_a_files_own_transaction_is_one_too() -> None:
    assert [item[:2] for item in found("BEGIN;\nVACUUM t;\nCOMMIT;\nVACUUM t;", NO_TRANSACTION)] == [("in-transaction", 1)]


def test_the_hint_says_what_to_write() -> None:
    (hazard,) = annotations.parse("-- +goose Up\nVACUUM t;\n", "up", {}).hazards_for(Engine.POSTGRES)
    assert "`-- +goose NO TRANSACTION`" in hazard.hint
    assert annotations.parse("-- +goose Up\nVACUUM t;\n", "up", {}).hazards == (hazard,)  # `validate` knows no engine
    assert annotations.parse("-- +goose Up\nVACUUM t;\n", "up", {}).hazards_for(Engine.CLICKHOUSE) == ()


@pytest.mark.parametrize(
    ("use", "warned"),
    [
        ("INSERT INTO t VALUES ('x');", True),
        ("UPDATE t SET a = 'x';", True),
        ("ALTER TABLE t ALTER a SET DEFAULT 'x';", True),
        ("CREATE INDEX ON t (a) WHERE a = 'x';", True),
        ("COMMENT ON TABLE t IS 'x';", False),
        ("ALTER TYPE mood ADD VALUE 'z' AFTER 'x';", False),
        ("INSERT INTO t VALUES ('y');", False),
        ("CREATE FUNCTION f() RETURNS mood LANGUAGE plpgsql AS $$ BEGIN RETURN 'x'; END $$;", False),
    ],
)
def test_an_enums_value_is_used_after_the_transaction_that_adds_it(use: str, warned: bool) -> None:
    wrapped = f"-- +goose StatementBegin\n{use}\n-- +goose StatementEnd"
    add = "ALTER TYPE app.mood ADD VALUE IF NOT EXISTS 'x';\n"
    expected = [("enum-value-used", 2)] if warned else []
    assert [item[:2] for item in found(add + wrapped)] == expected
    assert found(add + wrapped, NO_TRANSACTION) == []
    assert found("CREATE TYPE Mood AS ENUM ('y');\n" + add + wrapped) == []


@pytest.mark.parametrize(
    ("body", "name", "line"),
    [
        ("\\restrict abc123\n\n-- Dumped by pg_dump\n\nSET statement_timeout = 0;", "\\restrict", 0),
        ("SELECT 1;\n\\connect shop\nSELECT 2;", "\\connect", 1),
        ("SELECT 'SELECT 1' \\gexec\n;", "\\gexec", 0),
        ("SELECT 1;\n\\.\nSELECT 2;", "\\.", 1),
        ("\\i other.sql\nSELECT 2;", "\\i", 0),
    ],
)
def test_a_meta_command_of_psql_is_told(body: str, name: str, line: int) -> None:
    ((code, at, message),) = found(body)
    assert (code, at) == ("psql-command", line)
    assert message.startswith(f"{name} in line ")


def test_the_data_of_a_copy_is_told() -> None:
    ((code, line, message),) = found("COPY t FROM stdin;\n1\t\\N\n\\.\nSELECT 1;")
    assert (code, line) == ("psql-command", 1) and "COPY … FROM stdin" in message


def test_a_backslash_in_quotes_and_comments_is_none() -> None:
    body = "SELECT E'\\\\a''\\d', 'b\\c', $$ \\d $$, $x$ \\e $x$, \"a\\b\", U&'\\0041' -- \\restrict\n/* \\connect */;"
    assert "\\" in body and found(body) == []
    assert psql.find("SELECT 'a\\'; \\d") == psql.MetaCommand("\\d", 13)


@pytest.mark.parametrize("last", ["\\unrestrict abc", "\\.", "\\connect shop"])
def test_a_meta_command_at_the_end_has_no_semicolon_and_is_told(last: str) -> None:
    with pytest.raises(errors.ParseError) as caught:
        annotations.parse(f"-- +goose Up\nSELECT 1;\n{last}\n-- +goose Down\nSELECT 1;\n", "up", {})
    assert caught.value.code == "missing-semicolon"  # as goose says it
    assert f"{last.split()[0]} in line 3 is a psql meta-command" in caught.value.hint


def test_the_value_of_a_variable_is_in_no_warning() -> None:
    text = "-- +goose Up\n-- +goose ENVSUB ON\nALTER TYPE ${T} ADD VALUE '${V}';\nINSERT INTO t VALUES ('${V}');\nSELECT 1\n\\d${V}\n;\n"
    hazards = annotations.parse(text, "up", {"T": "geheim", "V": "verdeckt"}).hazards_for(Engine.POSTGRES)
    assert {item.code for item in hazards} == {"enum-value-used", "psql-command"}
    assert not any(word in f"{item.message} {item.hint}" for item in hazards for word in ("geheim", "verdeckt"))


def test_only_names_that_a_transaction_refuses_have_a_name() -> None:
    assert transactions.refused((), "(SELECT 1)") == ""
    assert transactions.refused(("REINDEX",), "REINDEX") == ""
