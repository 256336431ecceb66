"""Before a protected environment is changed: its preflight commands, and a restore point in PostgreSQL's log."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from migrator import cli, databases, errors
from migrator.planning import events
from sandbox.databases.postgres import PostgresServer, identifier
from tasks import database_url, fleet, migration
from tasks.credentials import sources
from tasks.credentials.mounted import Variables
from tasks.credentials.source import Source
from tasks.fleet.models import Check, Target
from tasks.request import Request
from tasks.settings import Settings
from tests.flows.test_tasks_migration import located

UP = "-- +goose Up\nCREATE TABLE users (id bigint);\n-- +goose Down\nDROP TABLE users;\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "00001_users.sql").write_text(UP)
    return tmp_path / "migrations"


def check(code: str) -> Check:
    return Check(run=(sys.executable, "-c", code))


def ran(
    url: str, directory: Path, *checks: Check, protected: bool = True, source: Source = sources.VAULT
) -> tuple[Target, list[events.Note], int]:
    """Runs the migrations; gives the notes and how many were applied."""
    target, secret = located(url, directory, protected=protected, preflight=checks, root=str(directory.parent), source=source)
    seen: list[events.Event] = []
    done = migration.run(Request(target, database_url.encode(secret, target), settings=Settings(), run_id="ab" * 16), listener=seen.append)
    return target, [item for item in seen if isinstance(item, events.Note)], len(done.applied)


def test_bad_flow_no_command_of_fleet_yaml_runs_for_a_plan_that_nobody_approved(postgres_url: str, directory: Path, tmp_path: Path) -> None:
    """Who can merge could run anything with the worker's rights otherwise, by starting a run that is refused a moment later."""
    marker = tmp_path / "marker"
    touch = check(f"import pathlib; pathlib.Path({str(marker)!r}).touch()")
    target, secret = located(postgres_url, directory, protected=True, preflight=(touch,), root=str(directory.parent))
    seen: list[events.Event] = []
    with pytest.raises(errors.PlanRefused) as caught:
        migration.run(
            Request(target, database_url.encode(secret, target), settings=Settings(), run_id="ab" * 16, plan="0" * 64), seen.append
        )
    assert caught.value.code == "approval-mismatch"
    assert not marker.exists()
    assert not [item for item in seen if isinstance(item, events.Note)], "no restore point either"


def allow(server: PostgresServer, url: str) -> None:
    name = url.rpartition("/")[2].partition("?")[0]
    server.execute(f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_create_restore_point(text) TO {identifier(name)}", name)


def test_a_protected_environment_gets_a_restore_point_named_after_the_run(
    postgres_server: PostgresServer, postgres_url: str, directory: Path
) -> None:
    allow(postgres_server, postgres_url)
    _, notes, applied = ran(postgres_url, directory)
    assert applied == 1
    assert [item.code for item in notes] == ["restore-point"]
    assert notes[0].message.startswith("restore point greylag_abababababab at ")


def test_without_the_permission_a_note_says_what_to_grant_and_the_run_goes_on(postgres_url: str, directory: Path) -> None:
    _, notes, applied = ran(postgres_url, directory)
    assert applied == 1
    assert [item.code for item in notes] == ["no-restore-point"]
    assert "GRANT EXECUTE ON FUNCTION pg_catalog.pg_create_restore_point" in notes[0].message


def test_other_environments_get_none_and_a_run_with_nothing_to_do_neither(postgres_url: str, directory: Path) -> None:
    assert ran(postgres_url, directory, protected=False)[1] == []
    _, notes, applied = ran(postgres_url, directory, check("raise SystemExit(1)"))
    assert (notes, applied) == ([], 0)


def test_a_preflight_command_sees_references_and_no_password(postgres_url: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    code = "import json, os; open('seen', 'w').write(json.dumps(dict(os.environ)))"
    target, notes, applied = ran(postgres_url, directory, check(code))
    seen = (directory.parent / "seen").read_text()
    assert applied == 1 and notes[0].code == "preflight"
    assert f'"GREYLAG_PREFLIGHT_DATABASE": "{target.database}"' in seen
    assert '"GREYLAG_PREFLIGHT_SECRET": "secret/apps/my-girok/dev/auth-service/postgres"' in seen
    assert "DATABASE_URL" not in seen


def test_a_preflight_command_does_not_see_the_password_among_the_workers_variables(
    postgres_url: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AUTH_POSTGRES_PASSWORD", "VAULT_TOKEN", "GREYLAG_VAULT_TOKEN"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("AUTH_POSTGRES_HOST", "db.example")
    code = "import json, os; open('seen', 'w').write(json.dumps(dict(os.environ)))"
    ran(postgres_url, directory, check(code), source=Variables(place="AUTH_"))
    seen = (directory.parent / "seen").read_text()
    assert "hunter2" not in seen
    assert '"GREYLAG_PREFLIGHT_SECRET": "AUTH_POSTGRES_*"' in seen and "db.example" in seen


@pytest.mark.parametrize(
    ("failing", "words"),
    [(check("print('no backup'); raise SystemExit(3)"), "ended with exit code 3"), (Check(run=("no-such-program",)), "can't be run")],
)
def test_bad_flow_a_failing_preflight_refuses_and_changes_nothing(failing: Check, words: str, postgres_url: str, directory: Path) -> None:
    with pytest.raises(errors.PlanRefused) as caught:
        ran(postgres_url, directory, failing, check("open('never', 'w')"))
    assert caught.value.code == "preflight-failed" and words in caught.value.message
    assert caught.value.detail in ("", "no backup")
    assert not (directory.parent / "never").exists()
    with databases.open_database("postgres", postgres_url) as database:
        assert not database.read_history().exists


def test_the_command_makes_one_too(
    postgres_server: PostgresServer, postgres_url: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    allow(postgres_server, postgres_url)
    assert cli.main(["-dir", str(directory), "-protected", "postgres", postgres_url, "up"]) == 0
    assert "restore point greylag_" in capsys.readouterr().err


def test_the_words_of_a_preflight_command_are_filled_in(tmp_path: Path) -> None:
    text = (
        "environments: {prod: {protected: true, preflight: [{run: [check-backup, '{service}-{environment}']}]}, dev: {suffix: _dev}}\n"
        "services: {shop: {engine: postgres, database: shop, migrations: m}}\n"
    )
    found = fleet.parse(text, tmp_path / "fleet.yaml")
    assert [item.run for item in found.target("shop", "prod").preflight] == [("check-backup", "shop-prod")]
    assert found.target("shop", "dev").preflight == ()
    with pytest.raises(errors.UsageError) as caught:
        fleet.parse(text.replace("run:", "command:"), tmp_path / "fleet.yaml")
    assert caught.value.code == "bad-fleet"
