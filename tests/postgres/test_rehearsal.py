"""`greylag test` and `greylag codegen` on PostgreSQL: every test starts the embedded server that a developer gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deployments.console import embedded
from migrator import cli

UP_DOWN = "-- +goose Up\nCREATE TABLE {name} (id bigint PRIMARY KEY);\n-- +goose Down\nDROP TABLE {name};\n"


def directory(tmp_path: Path, **more: str) -> Path:
    (tmp_path / "00001_a.sql").write_text(UP_DOWN.format(name="a"))
    for name, text in more.items():
        (tmp_path / f"{name.removeprefix('v')}.sql").write_text(text)
    return tmp_path


def test_migrations_that_can_be_taken_back_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = directory(tmp_path, v00002_b=UP_DOWN.format(name="b"))
    assert cli.main(["-dir", str(where), "test", "postgres"]) == 0
    told = capsys.readouterr().out
    assert "2 migration(s) on PostgreSQL" in told
    assert "nothing left behind" in told and "the same schema" in told


def test_bad_flow_what_down_leaves_behind_is_named_with_the_file_to_blame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "-- +goose Up\nCREATE TABLE b (id int);\nCREATE TYPE mood AS ENUM ('x');\n-- +goose Down\nDROP TABLE b;\n"
    where = directory(tmp_path, v00002_b=text, v00003_c=UP_DOWN.format(name="c"))
    assert cli.main(["test", "-dir", str(where), "postgres", "--json"]) == 16
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["code"] == "down-incomplete"
    assert (Path(document["error"]["file"]).name, document["error"]["line"]) == ("00002_b.sql", 5)
    assert "leaves TYPE public.mood behind" in document["error"]["message"]
    assert [item["name"] for item in document["phases"]] == ["up", "verify", "down to 0"]


def test_a_missing_down_ends_the_way_down_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    once = "-- +goose Up\nCREATE TABLE b (id int);\n-- +goose Down\n-- the rows can't be made again\n"
    where = directory(tmp_path, v00002_b=once, v00003_c=UP_DOWN.format(name="c"))
    assert cli.main(["test", "-dir", str(where), "postgres"]) == 0
    captured = capsys.readouterr()
    assert "down to 2" in captured.out
    assert "00002_b.sql: no statement takes this migration back" in captured.err and "[missing-down]" in captured.err


def test_bad_flow_a_rejected_statement_is_underlined_at_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = directory(tmp_path, v00002_b="-- +goose Up\nSELECT 1;\nSELEC 2;\n-- +goose Down\n")
    assert cli.main(["test", "-dir", str(where), "postgres"]) == 14
    told = capsys.readouterr().err
    assert "00002_b.sql:3: " in told
    assert "greylag: 3 | SELEC 2;\ngreylag:   | ^^^^^\n" in told


def test_bad_flow_a_second_way_up_that_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = (
        "-- +goose Up\n-- +goose StatementBegin\n"
        "DO $$ BEGIN EXECUTE format('CREATE TABLE %I (id int)', 'part_' || txid_current()); END $$;\n"
        "-- +goose StatementEnd\n-- +goose Down\n-- +goose StatementBegin\n"
        "DO $$ DECLARE found text; BEGIN FOR found IN SELECT tablename FROM pg_tables WHERE tablename LIKE 'part_%' "
        "LOOP EXECUTE 'DROP TABLE ' || found; END LOOP; END $$;\n-- +goose StatementEnd\n"
    )
    assert cli.main(["test", "-dir", str(directory(tmp_path, v00002_b=chance)), "postgres"]) == 16
    assert "[schema-differs]" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["mysql"], ["postgres", "postgres://u@h/d"]])
def test_bad_flow_what_is_to_be_tested_must_be_said(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["test", *words]) == 2
    assert "greylag test @/service" in capsys.readouterr().err


def fleet_file(tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m").mkdir()
    directory(tmp_path / "m")
    file = tmp_path / "fleet.yaml"
    file.write_text(
        "environments: {dev: {suffix: _dev}}\nservices:\n  shop:\n    engine: postgres\n    database: shop\n    migrations: m\n"
        f"    after_migrate:\n      - run: [sh, -c, {json.dumps(command)}]\n"
    )
    monkeypatch.setenv("GREYLAG_FLEET", str(file))


def test_codegen_runs_the_services_commands_against_a_migrated_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet_file(tmp_path, 'echo "$DATABASE_URL" > {service}.url', monkeypatch)
    assert cli.main(["codegen", "@/shop"]) == 0
    url = (tmp_path / "shop.url").read_text()
    assert url.startswith("postgres://postgres:") and "/shop_dev?" in url


def test_bad_flow_codegen_ends_with_16_when_a_command_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fleet_file(tmp_path, "echo seen; exit 3", monkeypatch)
    assert cli.main(["codegen", "@/shop"]) == 16
    captured = capfd.readouterr()
    assert "seen" in captured.out
    assert "failed with exit code 3" in captured.err and "[after-migrate-failed]" in captured.err


def test_bad_flow_codegen_without_a_command_says_where_to_write_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["codegen", "@/audit-service"]) == 2
    assert "after_migrate" in capsys.readouterr().err


def test_a_dump_is_read_object_by_object() -> None:
    dump = (
        "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nSET default_tablespace = '';\n\n"
        "--\n-- Name: a; Type: TABLE; Schema: public; Owner: x\n--\n\nCREATE TABLE public.a (\n    id integer\n);\n\n\n"
        "--\n-- Name: pgcrypto; Type: EXTENSION; Schema: -; Owner: -\n--\n\nCREATE EXTENSION pgcrypto;\n\n\\unrestrict abc\n"
    )
    found = embedded.dump_entries(dump)
    assert found == {
        "TABLE public.a": "CREATE TABLE public.a (\n    id integer\n);\n",
        "EXTENSION pgcrypto": "CREATE EXTENSION pgcrypto;\n",
    }
    changed = {**found, "TABLE public.a": "CREATE TABLE public.a (\n    id bigint\n);\n", "VIEW v": ""}
    del changed["EXTENSION pgcrypto"]
    assert [(item.subject, item.kind) for item in embedded.differences(found, changed)] == [
        ("EXTENSION pgcrypto", "removed"),
        ("TABLE public.a", "changed"),
        ("VIEW v", "added"),
    ]
