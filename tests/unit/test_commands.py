"""Commands after a migration: they see the URL in their environment only, and can't fail a migration that is applied."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from tasks import commands, fleet
from tasks.fleet.models import AfterMigrate, Target

URL = SecretStr("postgres://u:geheim@h/d")


def ran(tmp_path: Path, *given: tuple[str, ...]) -> tuple[bool, list[tuple[str, str]]]:
    told: list[tuple[str, str]] = []
    target: Target = fleet.load().target("auth-service", "dev")
    changed = target.model_copy(update={"root": str(tmp_path), "after_migrate": tuple(AfterMigrate(run=item) for item in given)})
    return commands.follow_up(changed, URL, lambda level, text: told.append((level, text))), told


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_a_command_runs_in_the_fleets_root_and_sees_the_url(tmp_path: Path) -> None:
    succeeded, told = ran(tmp_path, python("import os, pathlib; pathlib.Path('seen').write_text(os.environ['DATABASE_URL'])"))
    assert succeeded and told[0][0] == "info"
    assert (tmp_path / "seen").read_text() == URL.get_secret_value()
    assert "geheim" not in told[0][1]


def test_bad_flow_a_failing_command_is_a_warning_and_stops_the_rest(tmp_path: Path) -> None:
    succeeded, told = ran(tmp_path, python("print('why'); raise SystemExit(3)"), python("open('never', 'w')"))
    assert not succeeded
    assert [level for level, _ in told] == ["warning"]
    assert "exit code 3:\nwhy" in told[0][1]
    assert not (tmp_path / "never").exists()


def test_bad_flow_a_program_that_is_not_installed(tmp_path: Path) -> None:
    succeeded, told = ran(tmp_path, ("no-such-program", "generate"))
    assert not succeeded
    assert told == [("warning", "after_migrate: no-such-program is not installed here: no-such-program generate was not run")]


def test_bad_flow_a_command_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "LONGEST_SECONDS", 0.2)
    succeeded, told = ran(tmp_path, python("import time; time.sleep(60)"))
    assert not succeeded
    assert "was ended after 0.2 s" in told[0][1]


def test_a_service_without_commands_needs_nothing(tmp_path: Path) -> None:
    assert ran(tmp_path) == (True, [])


def test_a_command_gets_nothing_of_the_workers_logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "GREYLAG_VAULT_SECRET_ID_FILE",
        "VAULT_TOKEN",
        "BAO_TOKEN",
        "PREFECT_API_AUTH_STRING",
        "PREFECT_API_URL",
        "GREYLAG_POLICY",
    ):
        monkeypatch.setenv(name, "kept back")
    monkeypatch.setenv("GREYLAG_FLEET", str(fleet.load().path))
    monkeypatch.setenv("PAGER_TOKEN", "the machine's own")
    succeeded, _ = ran(tmp_path, python("import os, pathlib; pathlib.Path('seen').write_text('\\n'.join(os.environ))"))
    seen = (tmp_path / "seen").read_text().split("\n")
    assert succeeded
    assert {"DATABASE_URL", "PATH", "PAGER_TOKEN", "GREYLAG_FLEET"} <= set(seen)
    assert [name for name in seen if name.startswith(commands.LOGINS) and name not in commands.REFERENCES] == []
