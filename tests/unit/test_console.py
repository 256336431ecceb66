"""The console's verbs as far as they need no server: the grammar of targets, tables, a first fleet file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.console import edge, init, targets
from migrator import cli, errors
from migrator.cli import extensions
from tasks import fleet


def labels(expression: str) -> list[str]:
    return [target.label for target in targets.select(fleet.load(), expression)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("@dev/auth-service", ["dev/auth-service"]),
        ("@production/auth-service", ["prod/auth-service"]),
        ("@/audit-service", ["dev/audit-service"]),
        ("@*/audit-service", ["dev/audit-service", "release/audit-service", "prod/audit-service"]),
        ("@release/a*-service", [f"release/{name}-service" for name in ("auth", "audit", "authorization", "analytics")]),
        ("@pro*/auth-service", ["prod/auth-service"]),
    ],
)
def test_a_target_names_its_databases(expression: str, expected: list[str]) -> None:
    assert labels(expression) == expected


def test_a_missing_environment_is_the_developers_own(tmp_path: Path) -> None:
    text = "environments: {dev: {suffix: _dev}, local: {suffix: _local}}\nservices: {shop: {engine: postgres, database: shop, migrations: m}}\n"
    found = fleet.parse(text, tmp_path / "fleet.yaml")
    assert [target.label for target in targets.select(found, "@/shop")] == ["local/shop"]
    assert {target.environment for target in targets.select(fleet.load(), "@/*")} == {"dev"}


@pytest.mark.parametrize("expression", ["@prod/*", "@prod", "@prod/", "@production/*"])
def test_a_whole_environment_comes_dependencies_first(expression: str) -> None:
    found = labels(expression)
    assert len(found) == 6
    assert found.index("prod/auth-service") < found.index("prod/personal-service")
    assert found.index("prod/audit-service") < found.index("prod/analytics-service")


def test_everything_comes_in_the_order_of_promotion() -> None:
    found = [label.split("/")[0] for label in labels("@*/*")]
    assert found == ["dev"] * 6 + ["release"] * 6 + ["prod"] * 6


@pytest.mark.parametrize(
    ("expression", "code", "hint"),
    [
        ("@devv/auth-service", "unknown-environment", 'did you mean "dev"?'),
        ("@dev/auth-servce", "unknown-service", 'did you mean "auth-service"?'),
        ("@dev/x*", "bad-target", "greylag targets"),
        ("@x*/auth-service", "bad-target", "greylag targets"),
        ("dev/auth-service", "bad-target", "@environment/service"),
        ("@dev/a/b", "bad-target", "@environment/service"),
        ("", "bad-target", "@environment/service"),
    ],
)
def test_bad_flow_a_target_that_names_nothing(expression: str, code: str, hint: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        labels(expression)
    assert caught.value.code == code
    assert hint in caught.value.hint


@given(st.text(max_size=30))
def test_any_text_is_a_target_or_a_usage_error(text: str) -> None:
    try:
        assert targets.select(fleet.load(), "@" + text)
    except errors.UsageError as error:
        assert error.hint


def test_listing_targets_asks_no_secrets_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["targets", "@*/audit-service", "-json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verb"], found["exit_code"]) == ("targets", 0)
    assert [item["database"] for item in found["targets"]] == ["audit_db_dev", "audit_db_release", "audit_db"]
    assert found["targets"][0]["secret"] == "secret/apps/my-girok/dev/audit-service/clickhouse"


def test_the_fleet_is_printed_as_it_was_understood(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fleet"]) == 0
    told = capsys.readouterr().out
    assert "identity-service" in told and "services/identity-service/migrations/postgres" in told
    assert "prod (production)" in told
    assert cli.main(["fleet", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["services"]) == 6
    assert [item["work_pool"] for item in found["environments"]] == ["greylag-dev", "greylag-release", "greylag-prod"]


def test_a_bad_fleet_file_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("environments:\n  dev: {sufix: _dev}\nservices: {}\n", encoding="utf-8")
    monkeypatch.setenv("GREYLAG_FLEET", str(path))
    assert cli.main(["fleet"]) == 2
    told = capsys.readouterr().err
    assert f'greylag: {path}:2:9: environments.dev has no "sufix" [bad-fleet]' in told
    assert 'hint: did you mean "suffix"?' in told


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["targets", "@nowhere/*"], 2),
        (["test"], 2),
        (["codegen", "@/no-such-service"], 2),
        (["deploy", "@nowhere"], 2),
        (["promote", "-until", "nowhere"], 2),
        (["approve", "dev", "-reason", "x"], 2),
        (["privileges", "postgres", "@nowhere"], 2),
        (["chart", "values", "@nowhere"], 2),
        (["doctor", "@nowhere"], 2),
        (["fleet", "-nope"], 2),
    ],
)
def test_bad_flow_with_json_every_verb_tells_its_error_as_one_document(
    words: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words, "-json"]) == code
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert (found["verb"], found["exit_code"], found["error"]["exit_code"]) == (words[0], code, code)
    assert found["error"]["message"] and found["error"]["hint"] and found["error"]["message"] in told.err


def test_privileges_are_one_document_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["privileges", "postgres", "@dev/auth-service"]) == 0
    text = capsys.readouterr().out
    assert cli.main(["privileges", "postgres", "@dev/auth-service", "-json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"verb": "privileges", "part": "postgres", "text": text.rstrip(), "exit_code": 0}


@pytest.mark.parametrize("verb", extensions.names())
def test_every_verb_has_a_summary_and_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["help", verb], [verb, "-h"], [verb, "--help"], ["-h", verb], [verb, "-json", "-help"]):
        assert cli.main(words) == 0
        told = capsys.readouterr().out
        usage, _, rest = told.partition("\n")
        assert usage.startswith(f"Usage: greylag {verb} ") and "\n  -json\n" in rest and f"docs/commands/{verb}.md" in rest
        assert len(rest.strip().splitlines()[0]) > 20, "a line that says what it does"


@pytest.mark.parametrize(
    "words",
    [
        ["fleet", "--jsn"],
        ["targets", "--target"],
        ["approve", "a", "b"],
        ["promote", "--timeout", "soon"],
        ["deploy", "-mode", "x"],
    ],
)
def test_bad_flow_a_command_line_that_is_not_understood(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert f"hint: greylag {words[0]} -h" in capsys.readouterr().err


def test_a_first_fleet_file_can_be_read_and_is_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "My Shop"
    directory.mkdir()
    monkeypatch.chdir(directory)
    path = init.write_fleet()
    found = fleet.load(path)
    assert list(found.environments) == ["dev", "release", "prod"]
    target = found.target("my-shop", "dev")
    assert (target.database, target.vault_path) == ("my_shop_db_dev", "apps/my-shop/dev/my-shop/postgres")
    assert target.directory == str(directory / "migrations")
    with pytest.raises(errors.FileError) as caught:
        init.write_fleet()
    assert caught.value.code == "fleet-exists"


@given(st.text(max_size=60))
def test_a_first_fleet_file_is_readable_whatever_its_directory_is_called(name: str) -> None:
    label = init._label(name)
    text = init.TEMPLATE.format(
        project=label, service=label, database=f"{label.replace('-', '_')}_db", migrations=init._quoted("migrations")
    )
    fleet.parse(text, Path("fleet.yaml"))


def test_init_writes_a_fleet_where_greylag_fleet_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GREYLAG_FLEET", str(tmp_path / "ours.yaml"))
    assert cli.main(["init"]) == 0
    assert list((tmp_path / "migrations").glob("*.sql"))
    assert cli.main(["fleet"]) == 0
    assert "ours.yaml" in capsys.readouterr().out
    assert cli.main(["init"]) == 10


def test_init_in_a_directory_with_migrations_only_adds_the_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "migrations").mkdir()
    assert cli.main(["init"]) == 0
    assert sorted(item.name for item in tmp_path.iterdir()) == ["fleet.yaml", "migrations"]


def test_tables_align_their_columns() -> None:
    assert edge.table(("A", "Long head"), [("value", 1), ("v", "x")]) == "A      Long head\nvalue  1\nv      x"
