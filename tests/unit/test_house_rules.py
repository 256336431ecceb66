"""The house rules (`migrator.house`, the engines' rooms `house`): what each finds, what it leaves alone,
how a file is excepted, and where they are shown or refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from migrator import cli, databases, errors, house_rules
from migrator.goose import annotations, notes
from migrator.house.sections import Source
from migrator.house_rules import RULES, Settings
from migrator.planning import files, planner
from migrator.planning.history import History
from migrator.planning.plans import Plan
from migrator.targets import Engine, Target, Verb
from tasks import fleet

ROOT = Path(__file__).resolve().parents[2]
ON = Settings(tuple(RULES))
DOWN = "-- +goose Down\nSELECT 1;\n"


def of(*texts: str, engine: Engine = Engine.POSTGRES, head: str = "", settings: Settings = ON) -> list[str]:
    """Ids and lines (of the statement from 1) of the findings in files with these Ups."""
    sources = [Source(f"{index}_x.sql", f"{head}-- +goose Up\n{text}\n{DOWN}".encode()) for index, text in enumerate(texts, 1)]
    first = 1 + head.count("\n")
    return [f"{item.rule.id}:{(item.line or first) - first}" for item in databases.examine_files(sources, engine, settings)]


def wrapped(text: str) -> str:
    return f"-- +goose StatementBegin\n{text}\n-- +goose StatementEnd"


BODY = "CREATE FUNCTION f() RETURNS int AS $$ BEGIN RETURN 1; END $$ LANGUAGE plpgsql;"

WRONG = {
    "CREATE TABLE t (id text DEFAULT gen_random_uuid()::text);": "H01:1",
    "CREATE TABLE t (\n  a int,\n  id text DEFAULT public.uuid_generate_v4());": "H01:3",
    "ALTER TABLE t ALTER COLUMN id SET DEFAULT gen_random_uuid();": "H01:1",
    "ALTER TABLE t ADD id text DEFAULT (uuidv4())::text;": "H01:1",
    "CREATE DOMAIN d AS text DEFAULT gen_random_uuid()::text;": "H01:1",
    "CREATE TABLE t (\n  id UUID\n);": "H02:2",
    "ALTER TABLE t ADD COLUMN owner uuid[];": "H02:1",
    "ALTER TABLE t ALTER COLUMN owner TYPE pg_catalog.uuid USING owner::uuid;": "H02:1",
    "CREATE TYPE pair AS (a uuid);": "H02:1",
    "CREATE DOMAIN key AS uuid;": "H02:1",
    "CREATE TABLE t (at TIMESTAMP);": "H03:1",
    "CREATE TABLE t (at timestamp(6) without time zone);": "H03:1",
    "CREATE TABLE t (at TIMESTAMPTZ);": "H03:1",
    "ALTER TABLE t ADD at timestamp with time zone DEFAULT now();": "H03:1",
    BODY: "H05:1",
    BODY.replace("FUNCTION", "OR REPLACE FUNCTION"): "H05:1",
    "CREATE PROCEDURE p() LANGUAGE plpgsql AS 'BEGIN NULL; END';": "H05:1",
    "DO $$ BEGIN NULL; END $$;": "H05:1",
    "CREATE FUNCTION f() RETURNS int AS $$\nBEGIN\n  RETURN 1;\nEND;\n$$ LANGUAGE plpgsql;": "H05:1",
    "GRANT CONNECT ON DATABASE auth_db TO app;": "H06:1",
    "ALTER DATABASE auth_db SET timezone TO 'UTC';": "H06:1",
    "COMMENT ON DATABASE \"auth_db\" IS 'x';": "H06:1",
    "CREATE DATABASE auth_db;": "H06:1",
    "SELECT 1 FROM auth_db.public.users;": "H06:1",
    "INSERT INTO auth_db.public.users VALUES (1);": "H06:1",
    wrapped("DO $$ BEGIN\n EXECUTE 'ALTER DATABASE auth_db SET timezone TO 0';\nEND $$;"): "H06:3",
}

RIGHT = [
    "CREATE TABLE t (id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text, at TIMESTAMPTZ(6) NOT NULL DEFAULT now());",
    "CREATE TABLE t (uuid text, timestamp int, database text);",
    "COMMENT ON TABLE t IS 'id UUID DEFAULT gen_random_uuid(), at TIMESTAMP; DROP DATABASE auth_db';",
    "-- a column of type UUID, TIMESTAMP; ALTER DATABASE auth_db\nSELECT 1;",
    "INSERT INTO t SELECT gen_random_uuid()::text, now()::timestamp;",
    "CREATE TABLE t (id app.uuid);",
    "SELECT * FROM jsonb_to_recordset('[]') AS t(id uuid, at timestamp);",
    "CREATE FUNCTION f(a uuid, at timestamp) RETURNS uuid LANGUAGE sql AS $$ SELECT a $$;",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1;",
    wrapped(BODY),
    wrapped(
        "DO $$ BEGIN\nEXECUTE format('ALTER DATABASE %I SET timezone TO 0', current_database()); -- not ALTER DATABASE auth_db\nEND $$;"
    ),
    "SELECT app.users.id FROM app.users;",
]


@pytest.mark.parametrize("text", WRONG)
def test_bad_flow_what_stands_against_a_rule_on_postgresql_is_found_with_its_line(text: str) -> None:
    assert of(text) == [WRONG[text]]


@pytest.mark.parametrize("text", RIGHT)
def test_good_flow_what_only_looks_so_is_left_alone_on_postgresql(text: str) -> None:
    assert of(text) == []


CLICKHOUSE_WRONG = {
    "CREATE TABLE IF NOT EXISTS analytics_db.events (id UUID) ENGINE = MergeTree ORDER BY id;": ["H06:1"],
    "CREATE TABLE a AS analytics_db.b\nENGINE = Distributed('default', 'analytics_db', 'b', rand());": ["H06:1", "H06:2"],
    "CREATE TABLE a (x Int8) ENGINE = Buffer('analytics_db', 'b', 1, 1, 1, 1, 1, 1, 1);": ["H06:1"],
    "CREATE MATERIALIZED VIEW m TO `analytics_db`.a AS SELECT x\nFROM analytics_db.b;": ["H06:1", "H06:2"],
    "ALTER TABLE analytics_db.events ADD COLUMN a String;": ["H06:1"],
    "INSERT INTO analytics_db.a SELECT 1;": ["H06:1"],
    "RENAME TABLE a TO b, analytics_db.c TO d;": ["H06:1"],
    "RENAME TABLE analytics_db.a TO b;": ["H06:1"],
    "EXCHANGE TABLES a AND analytics_db.b;": ["H06:1"],
    "CREATE DATABASE IF NOT EXISTS analytics_db;": ["H06:1"],
    "USE analytics_db;": ["H06:1"],
    "GRANT SELECT ON analytics_db.* TO reader;": ["H06:1"],
    "SELECT dictGet('analytics_db.d', 'a', 1);": ["H06:1"],
    "CREATE DICTIONARY d (id UInt64) PRIMARY KEY id SOURCE(CLICKHOUSE(TABLE 't' DB 'analytics_db')) LAYOUT(FLAT()) LIFETIME(1);": ["H06:1"],
    "SELECT * FROM remote('host', analytics_db.a);": ["H06:1"],
    "CREATE TABLE a (id UUID DEFAULT generateUUIDv4(), b Int8) ENGINE = Memory;": ["H01:1"],
    "ALTER TABLE a ADD COLUMN id String DEFAULT toString(generateUUIDv4());": ["H01:1"],
}

CLICKHOUSE_RIGHT = [
    "CREATE TABLE events (id UUID DEFAULT generateUUIDv7(), at DateTime64(3), database String, db String) ENGINE = MergeTree ORDER BY id;",
    "SELECT e.id AS a, count() FROM events AS e ARRAY JOIN e.tags JOIN other ON other.id = e.id WHERE extract(YEAR FROM e.at) = 1 AND e.x = 1;",
    "SELECT * FROM system.tables WHERE name = 'analytics_db.events' AND database = currentDatabase() -- FROM analytics_db.x\n;",
    "CREATE TABLE a AS b ENGINE = Distributed('default', currentDatabase(), 'b', rand());",
    "ALTER TABLE a UPDATE x = 1 WHERE a.x IS DISTINCT FROM a.y;",
    "INSERT INTO a SELECT generateUUIDv4();",
]


@pytest.mark.parametrize("text", CLICKHOUSE_WRONG)
def test_bad_flow_what_stands_against_a_rule_on_clickhouse_is_found(text: str) -> None:
    assert of(text, engine=Engine.CLICKHOUSE) == CLICKHOUSE_WRONG[text]


@pytest.mark.parametrize("text", CLICKHOUSE_RIGHT)
def test_good_flow_what_only_looks_so_is_left_alone_on_clickhouse(text: str) -> None:
    assert of(text, engine=Engine.CLICKHOUSE) == []


ENVSUB = "-- +goose ENVSUB ON\n"


def test_a_name_from_the_environment_is_not_hard_coded_and_its_fallback_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKHOUSE_DATABASE", "analytics_db")
    local = "CREATE TABLE ${CLICKHOUSE_DATABASE}.a (x Int8) ENGINE = Memory;\nSELECT 1 FROM ${CLICKHOUSE_DATABASE}_old.a;"
    fallback = (
        "CREATE TABLE a (x Int8)\nENGINE = Distributed('${CLICKHOUSE_CLUSTER:-default}', '${CLICKHOUSE_DATABASE:-analytics_db}', 'b', 1);"
    )
    assert of(local, engine=Engine.CLICKHOUSE, head=ENVSUB) == []
    assert of(fallback, engine=Engine.CLICKHOUSE, head=ENVSUB) == ["H06:2"]
    assert of("GRANT CONNECT ON DATABASE ${POSTGRES_DATABASE} TO app;", head=ENVSUB) == []


def test_an_altered_column_is_named() -> None:
    text = "ALTER TABLE t ADD a int, ALTER b TYPE uuid USING b::uuid, ALTER c TYPE timestamp;"
    found = databases.examine_files([Source("1_x.sql", f"-- +goose Up\n{text}\n{DOWN}".encode())], Engine.POSTGRES, ON)
    assert [item.message.split(" is ")[0] for item in found] == ["column b", "column c"]


def test_a_file_without_a_down_is_found_and_one_without_any_statement_is_not() -> None:
    bare = [Source("1_a.sql", b"-- +goose Up\nSELECT 1;\n"), Source("2_b.sql", b"-- +goose Up\nSELECT 1;\n-- +goose Down\n-- nothing\n")]
    assert [(item.rule.id, item.path, item.line) for item in databases.examine_files(bare, Engine.CLICKHOUSE, ON)] == [
        ("H04", "1_a.sql", None),
        ("H04", "2_b.sql", None),
    ]
    assert databases.examine_files([Source("1_a.sql", b"-- +goose Up\n-- +goose Down\n")], Engine.POSTGRES, ON) == ()


def test_down_may_bring_back_old_columns_but_names_no_database() -> None:
    source = Source("1_a.sql", b"-- +goose Up\nSELECT 1;\n-- +goose Down\nALTER TABLE t ADD id uuid;\nSELECT 1 FROM d.s.t;\n")
    assert [(item.rule.id, item.line) for item in databases.examine_files([source], Engine.POSTGRES, ON)] == [("H06", 5)]


V7 = wrapped("CREATE OR REPLACE FUNCTION uuid_generate_v7() RETURNS uuid AS $$ BEGIN RETURN uuidv7(); END $$ LANGUAGE plpgsql;")
USES = [
    "CREATE TABLE t (\n  id text DEFAULT uuid_generate_v7()::text);",
    "CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW\nEXECUTE FUNCTION uuid_generate_v7();",
    wrapped("DO $$ BEGIN\nPERFORM uuid_generate_v7();\nEND $$;"),
    "CREATE FUNCTION g() RETURNS uuid LANGUAGE sql\nAS $$ SELECT uuid_generate_v7() $$;",
]


@pytest.mark.parametrize("use", USES)
def test_a_function_is_called_only_after_it_exists(use: str) -> None:
    line = 3 if use.startswith("--") else 2
    assert of(use, V7) == [f"H07:{line}"]
    assert of(f"{use}\n{V7}") == [f"H07:{line}"]
    assert of(V7, use) == of(f"{V7}\n{use}") == of(use) == []


def test_a_body_that_runs_later_and_a_name_that_is_only_mentioned_call_nothing() -> None:
    later = wrapped("CREATE FUNCTION g() RETURNS uuid AS $$ BEGIN RETURN uuid_generate_v7(); END $$ LANGUAGE plpgsql;")
    assert of(later, "DROP FUNCTION IF EXISTS uuid_generate_v7();", "SELECT 'uuid_generate_v7()';", V7) == []


def test_a_function_of_an_extension_is_called_after_the_extension_exists() -> None:
    use, extension = "SELECT gen_random_bytes(10);", "CREATE EXTENSION IF NOT EXISTS pgcrypto;"
    assert of(use, extension) == ["H07:1"]
    assert of(extension, use) == []


def test_clickhouses_own_functions_too() -> None:
    made, use = "CREATE FUNCTION IF NOT EXISTS twice AS (x) -> x * 2;", "SELECT twice(2);"
    assert of(use, made, engine=Engine.CLICKHOUSE) == ["H07:1"]
    assert of(made, use, engine=Engine.CLICKHOUSE) == []


def test_what_is_deep_long_or_no_sql_at_all_raises_nothing() -> None:
    deep = f"CREATE TABLE t (id uuid, a text DEFAULT {'||'.join(['x'] * 3000)});"
    strange = [
        "CREATE TABLE (uuid",
        "ALTER TABLE t ALTER id DROP DEFAULT, ALTER uuid TYPE text;",
        "DO LANGUAGE plpgsql 'uuid';",
        "GRANT ON DATABASE",
        "\udcff uuid",
    ]
    for engine in Engine:
        for text in (
            deep,
            *strange,
            "CREATE TABLE p PARTITION OF t (uuid WITH OPTIONS NOT NULL) DEFAULT;",
            "RENAME TABLE",
            "USE",
            "ALTER (",
            ")",
        ):
            source = Source("1_x.sql", f"-- +goose Up\n{text}\n{DOWN}".encode("utf-8", "surrogateescape"))
            databases.examine_files([source], engine, ON)
    assert of(deep.replace("||x" * 2980, "")) == ["H02:1"]
    assert of("INSERT INTO a (x) VALUES ('FROM b.c');", "INSERT INTO a.b (x) VALUES (1);", engine=Engine.CLICKHOUSE) == ["H06:1"]


# Exceptions.


def test_a_file_is_excepted_from_one_rule_with_a_reason() -> None:
    text = "-- greylag: ignore H02 the identifiers come from another system\nCREATE TABLE t (id uuid, at timestamp);"
    assert of(text) == ["H03:2"]
    assert annotations.parse(f"-- +goose Up\n{text}\n").notes.ignored == (notes.Ignored("H02", "the identifiers come from another system"),)


@pytest.mark.parametrize(
    ("note", "message"),
    [
        ("ignore", "begins with the id of a house rule"),
        ("ignore H99 because", "begins with the id of a house rule"),
        ("ignore h02 because", "begins with the id of a house rule"),
        ("ignore H02", "H02 gives no reason"),
        ("ignore H02 --", "H02 gives no reason"),
        ("ignored H02 because", 'unknown note "ignored"'),
        ("ignore H02 one\n-- greylag: ignore H02 two", "the note ignore H02 stands in this file twice"),
    ],
)
def test_bad_flow_an_exception_without_rule_or_reason_is_an_error(note: str, message: str) -> None:
    with pytest.raises(errors.ParseError, match=message) as caught:
        annotations.parse(f"-- +goose Up\n-- greylag: {note}\n", path="1_x.sql")
    assert caught.value.hint


# Where they are shown.


def plan_of(directory: Path, *texts: str) -> Plan:
    for index, text in enumerate(texts, 1):
        (directory / f"{index:05}_x.sql").write_text(f"-- +goose Up\n{text}\n{DOWN}", encoding="utf-8")
    found = files.load(str(directory))
    return planner.plan(found, History(Engine.POSTGRES, exists=False), Target(Verb.UP), engine=Engine.POSTGRES)


def test_a_plan_warns_of_the_rules_that_are_on_and_refuses_none(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "CREATE TABLE t (id uuid);", "CREATE TABLE u (at timestamp);")
    assert databases.warnings(plan) == ()
    found = databases.warnings(plan, ON)
    assert [(item.code, item.message.split(": ")[0]) for item in found] == [
        ("H02", f"{tmp_path}/00001_x.sql:2"),
        ("H03", f"{tmp_path}/00002_x.sql:2"),
    ]
    assert "-- greylag: ignore H02 REASON" in found[0].hint
    assert [item.code for item in databases.warnings(plan, Settings(("H03",)))] == ["H03"]
    databases.require_house_rules(plan, ON)


def test_bad_flow_a_plan_is_refused_where_the_fleet_says_so(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "CREATE TABLE t (id uuid);", "CREATE TABLE u (id uuid, at timestamp);")
    databases.require_house_rules(plan, Settings(tuple(RULES), ("H06",)))
    with pytest.raises(errors.PlanRefused) as caught:
        databases.require_house_rules(plan, Settings(tuple(RULES), ("H02",)))
    assert (caught.value.code, caught.value.where) == ("house-rule", errors.Location(f"{tmp_path}/00001_x.sql", 2))
    assert caught.value.detail == f"{tmp_path}/00002_x.sql:2: column id is of type UUID (uuid-column) [H02]"


def test_a_function_of_an_applied_file_exists(tmp_path: Path) -> None:
    plan_of(tmp_path, V7, USES[0], V7)
    found = files.load(str(tmp_path))
    history = History(Engine.POSTGRES, exists=False)
    whole = planner.plan(found, history, Target(Verb.UP), engine=Engine.POSTGRES)
    rest = Plan(found, whole.target, Engine.POSTGRES, whole.steps[1:], 1)
    assert databases.warnings(rest, ON) == ()
    (tmp_path / "00001_x.sql").write_text(f"-- +goose Up\nSELECT 1;\n{DOWN}", encoding="utf-8")
    again = Plan(files.load(str(tmp_path)), whole.target, Engine.POSTGRES, whole.steps[1:], 1)
    assert [item.code for item in databases.warnings(again, ON)] == ["H07"]


def validate(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[tuple[str, str, int | None]], str]:
    code = cli.main(["-json", *words])
    document = json.loads(capsys.readouterr().out)
    document = document[0] if isinstance(document, list) else document
    return (
        code,
        [(item["level"], item["code"], item["line"]) for item in document["findings"]],
        (document.get("error") or {}).get("code", ""),
    )


def test_validate_shows_them_with_rules_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1_a.sql").write_text("-- +goose Up\nCREATE TABLE t (\n  id uuid);\n", encoding="utf-8")
    (tmp_path / "10_b.sql").write_text(f"-- +goose Up\n{V7}\n{DOWN}", encoding="utf-8")
    (tmp_path / "9_c.sql").write_text(f"-- +goose Up\nSELECT uuid_generate_v7();\n{DOWN}", encoding="utf-8")
    assert validate(capsys, "-dir", str(tmp_path), "validate") == (0, [("warning", "missing-down", None)], "")
    expected = [("warning", "H02", 3), ("warning", "H04", None), ("warning", "H07", 2)]
    assert validate(capsys, "-dir", str(tmp_path), "-rules", "validate") == (0, expected, "")
    monkeypatch.setenv("GREYLAG_RULES", "true")
    assert validate(capsys, "-dir", str(tmp_path), "validate") == (0, expected, "")


def test_validate_knows_clickhouses_files_by_their_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"-- +goose Up\nCREATE TABLE audit_db.t (id UUID) ENGINE = MergeTree ORDER BY id;\n{DOWN}"
    (tmp_path / "1_a.sql").write_text(text, encoding="utf-8")
    assert validate(capsys, "-dir", str(tmp_path), "validate", "-rules") == (0, [("warning", "H06", 2)], "")


FLEET = "root: .\n{}environments: {{dev: {{suffix: _dev}}}}\nservices:\n  auth: {{engine: postgres, database: auth, migrations: m}}\n"


def test_validate_of_a_service_takes_the_fleets_rules_and_refuses_what_the_fleet_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "1_a.sql").write_text(f"-- +goose Up\nCREATE TABLE t (id uuid, at timestamp);\n{DOWN}", encoding="utf-8")
    monkeypatch.setenv("GREYLAG_FLEET", str(tmp_path / "fleet.yaml"))
    for rules, expected in (
        ("", (0, [], "")),
        ("rules: warn\n", (0, [("warning", "H02", 2), ("warning", "H03", 2)], "")),
        ("rules: {off: [H02], refuse: [H03]}\n", (errors.ExitCode.REFUSED, [("error", "H03", 2)], "house-rule")),
    ):
        (tmp_path / "fleet.yaml").write_text(FLEET.format(rules), encoding="utf-8")
        assert validate(capsys, "validate", "@/auth") == expected


@pytest.mark.parametrize(
    ("written", "settings"),
    [
        ("", house_rules.NONE),
        ("rules: warn\n", ON),
        ("rules: refuse\n", Settings(tuple(RULES), tuple(RULES))),
        ("rules: {refuse: [H06]}\n", Settings(tuple(RULES), ("H06",))),
        ("rules: {off: [H01, H02, H03, H04, H05, H06]}\n", Settings(("H07",))),
    ],
)
def test_the_fleet_says_which_rules_are_on(written: str, settings: Settings, tmp_path: Path) -> None:
    assert fleet.parse(FLEET.format(written), tmp_path / "fleet.yaml").target("auth", "dev").rules == settings


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("rules: refused\n", '"refused" is neither `warn` nor `refuse`'),
        ("rules: {refuse: [H99]}\n", 'there is no house rule "H99"'),
        ("rules: {refuse: [H02], off: [H02]}\n", "H02 can't be refused and off"),
        ("rules: {refuses: [H02]}\n", 'rules has no "refuses"'),
    ],
)
def test_bad_flow_a_slip_in_the_fleets_rules_is_an_error_with_its_line(written: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match=message) as caught:
        fleet.parse(FLEET.format(written), tmp_path / "fleet.yaml")
    assert caught.value.where is not None and caught.value.where.line == 2


def test_the_rules_are_on_in_the_example_fleet_and_its_files_follow_them() -> None:
    found = fleet.load(ROOT / "deployments" / "fleet.yaml")
    assert {target.rules for target in found.targets()} == {ON}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_each_rule_is_on_the_pages(rule: house_rules.Rule) -> None:
    assert f"| `{rule.id}` `{rule.name}` |" in (ROOT / "docs" / "commands" / "validate.md").read_text(encoding="utf-8")
    assert rule.id in (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
