"""`validate -against @environment/service`: files beside what a real database has applied, its password from a secrets server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from migrator import cli
from migrator.address import addresses
from sandbox.vault import secrets_server as sandbox

TEXT = "-- +goose Up\nCREATE TABLE {name} (id int);\n-- +goose Down\nDROP TABLE {name};\n"


@pytest.fixture
def shop(secrets_server: sandbox.SecretsServer, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fleet of one service whose database has versions 1 and 3 applied; returns its directory."""
    parsed = addresses.parse_postgres(postgres_url)
    words = dict(part.split("=", 1) for part in parsed.conninfo.split() if part.startswith(("host=", "port=")))
    (tmp_path / "fleet.yaml").write_text(
        "environments: {release: {parameters: {postgres: {sslmode: disable}}}}\n"
        f"services: {{shop: {{engine: postgres, database: {parsed.database}, migrations: sql}}}}\n"
    )
    secret: dict[str, Any] = {key: words[key].strip("'") for key in ("host", "port")}
    secrets_server.write_secret(
        "release/shop/postgres", {**secret, "username": parsed.user, "password": parsed.password, "database": parsed.database}
    )
    monkeypatch.setenv("GREYLAG_FLEET", str(tmp_path / "fleet.yaml"))
    monkeypatch.setenv("VAULT_ADDR", secrets_server.url)
    monkeypatch.setenv("VAULT_TOKEN", secrets_server.root_token)
    directory = tmp_path / "sql"
    directory.mkdir()
    for version, name in ((1, "a"), (3, "c")):
        (directory / f"0000{version}_{name}.sql").write_text(TEXT.format(name=name))
    assert cli.main(["up", "@release/shop"]) == 0
    return directory


def findings(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[tuple[str, str, str, int | None]]]:
    capsys.readouterr()
    code = cli.main(["validate", "-json", *words])
    document = json.loads(capsys.readouterr().out)
    return code, [(item["level"], item["code"], Path(item["file"]).name, item["line"]) for item in document["findings"]]


@pytest.mark.parametrize("target", ["@release/shop", "@release/*"])
def test_files_that_are_newer_than_everything_applied_pass(shop: Path, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "00004_d.sql").write_text(TEXT.format(name="d"))
    assert findings(capsys, "-against", target) == (0, [])


def test_bad_flow_a_pending_file_older_than_what_is_applied_is_an_error(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "00002_b.sql").write_text(TEXT.format(name="b"))
    assert findings(capsys, "-against", "@release/*") == (11, [("error", "missing-versions", "00002_b.sql", 1)])
    assert findings(capsys, "-dir", str(shop), "-against", "@release/shop")[0] == 11
    assert findings(capsys, "@/shop", "-against", "@*/*", "-allow-missing") == (0, [("warning", "missing-versions", "00002_b.sql", 1)])


def test_bad_flow_a_changed_file_is_an_error_and_a_lacking_one_a_warning(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "00001_a.sql").write_text(TEXT.format(name="a") + "-- more\n")
    (shop / "00003_c.sql").unlink()
    code, found = findings(capsys, "-against", "@release/shop")
    assert code == 11
    assert found == [("error", "checksum-changed", "00001_a.sql", 1), ("warning", "unknown-version", "sql", None)]


def test_bad_flow_errors_of_the_files_themselves_come_first(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "00002_b.sql").write_text("-- +goose Up\n-- +goose StatementBegin\nSELECT 1;\n")
    code, found = findings(capsys, "-against", "@release/shop")
    assert code == 10
    assert [item[1] for item in found] == ["missing-statement-end", "missing-versions"]


def test_bad_flow_one_directory_is_not_compared_with_several_services(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", "-dir", str(shop), "-against", "@release/*"]) == 2
    assert "[bad-target]" in capsys.readouterr().err
    assert cli.main(["validate", "-against", "postgres"]) == 2
