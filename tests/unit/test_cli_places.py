"""`@/service` for verbs that need files and no database: directories come from fleet.yaml, and nobody is asked for a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator import cli

FLEET = """\
environments: {dev: {suffix: _dev}, prod: {protected: true}}
services:
  shop: {engine: postgres, database: shop, migrations: shop}
  cart: {engine: clickhouse, database: cart, migrations: cart}
"""


@pytest.fixture(autouse=True)
def fleet_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    for name in ("shop", "cart"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("GREYLAG_FLEET", str(tmp_path / "fleet.yaml"))
    return tmp_path


@pytest.mark.parametrize(
    "words", [["create", "@/shop", "add_users"], ["@dev/shop", "create", "add_users", "sql"], ["create", "@*/shop", "add_users"]]
)
def test_create_writes_into_the_services_directory(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    assert [path.name.partition("_")[2] for path in (tmp_path / "shop").iterdir()] == ["add_users.sql"]
    assert "[default-type]" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "code"), [("@/*", "bad-target"), ("@/shp", "unknown-service"), ("@staging/shop", "unknown-environment")]
)
def test_bad_flow_create_needs_one_service_that_exists(target: str, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["create", target, "add_users"]) == 2
    assert f"[{code}]" in capsys.readouterr().err
    assert not list((tmp_path / "shop").iterdir())


def test_validate_looks_at_every_services_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cart" / "00001_a.sql").write_text("-- +goose Up\nSELECT 1;\n")
    (tmp_path / "shop" / "x.sql").write_text("")
    assert cli.main(["validate", "@/*"]) == 10
    told = capsys.readouterr().err
    assert "cart/00001_a.sql" in told and "[missing-down]" in told
    assert "shop/x.sql" in told and "[bad-file-name]" in told


def test_bad_flow_init_has_no_use_for_a_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", "@/shop"]) == 2
    assert "init has no use for @/shop" in capsys.readouterr().err
