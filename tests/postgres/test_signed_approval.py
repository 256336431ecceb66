"""`greylag up` with the variables of a Job that demands a signed approval: the chart's `approval: required`, on a real database."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

import migrator
from migrator import cli
from migrator.targets import Target, Verb
from tasks.approval import documents
from tasks.approval.documents import Part
from tests.unit.approval_stage import IMAGE, Stage

FIRST = "-- +goose Up\nCREATE TABLE a (id int);\n-- +goose Down\nDROP TABLE a;\n"
SECOND = "-- +goose Up\nCREATE TABLE b (id int);\n-- +goose Down\nDROP TABLE b;\n"

Up = Callable[..., str]


@pytest.fixture
def people(tmp_path: Path) -> Stage:
    (tmp_path / "people").mkdir()
    return Stage.made(tmp_path / "people")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "00001_a.sql").write_text(FIRST, encoding="utf-8")
    return tmp_path / "migrations"


@pytest.fixture
def up(people: Stage, directory: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Up:
    """Runs `greylag up` as the Job does; gives the error's code, or the versions in the history."""

    def run(approval: str = "", image: str = IMAGE) -> str:
        given = {"GREYLAG_APPROVERS": str(people.place), "GREYLAG_IMAGE": image, "GREYLAG_SERVICE": "auth", "GREYLAG_APPROVAL": approval}
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        code = cli.main(["-dir", str(directory), "-json", "postgres", postgres_url, "up"])
        found = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert bool(code) == ("error" in found)
        if code:
            return f"{code} {found['error']['code']}"
        with migrator.open_database("postgres", postgres_url) as database:
            return str(sorted(version for version in database.read_history().versions if version))

    return run


def signed(people: Stage, directory: Path, url: str) -> str:
    """What ada signs of what is there now."""
    with migrator.open_database("postgres", url) as database:
        plan = migrator.plan(migrator.load(directory), database.read_history(), Target(Verb.UP), engine=database.engine)
        part = Part(service="auth", database=database.identity(), bundle=plan.bundle, plan=plan.digest, image=IMAGE)
    now, rules = datetime.now(UTC), people.policy()
    times = {"made": documents.moment(now), "expires": documents.moment(now + timedelta(hours=1))}
    (envelope,) = people.signed(people.approval(rules, services=(part,), **times), rules, ["ada"])
    return envelope.packed()


def test_a_job_applies_what_was_signed_and_nothing_else(up: Up, people: Stage, directory: Path, postgres_url: str) -> None:
    genuine = signed(people, directory, postgres_url)
    assert up() == "11 approval-unsigned"
    assert up(genuine, image=IMAGE.replace("1", "2")) == "11 approval-other-run"
    assert up(genuine) == "[1]"
    assert up(genuine) == up() == "[1]"  # nothing is to be applied, so nothing has to be approved

    (directory / "00002_b.sql").write_text(SECOND, encoding="utf-8")
    assert up(genuine) == "11 approval-other-run"  # other files
    assert up() == "11 approval-unsigned"
    assert up(signed(people, directory, postgres_url)) == "[1, 2]"


def test_bad_flow_a_used_approval_applies_nothing_though_its_history_row_has_gone(
    up: Up, people: Stage, directory: Path, postgres_url: str
) -> None:
    genuine = signed(people, directory, postgres_url)
    assert up(genuine) == "[1]"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP TABLE a")
        connection.execute("DELETE FROM goose_db_version WHERE version_id = 1")
    assert up(genuine) == "11 approval-used"
