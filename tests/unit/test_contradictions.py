"""What a history and a directory say that can't both be true: two files of one version, an applied file under another number."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from migrator import errors
from migrator.cli import against
from migrator.planning import contradictions, files, planner
from migrator.planning.history import Elsewhere, History
from migrator.planning.plans import Policy
from migrator.targets import Engine, Target, Verb
from tests.unit.test_planning import UP, applied, migration, written


def _refused(migrations: files.MigrationSet, past: History, verb: Verb = Verb.UP, policy: Policy | None = None) -> errors.PlanRefused:
    with pytest.raises(errors.PlanRefused) as caught:
        planner.plan(migrations, past, Target(verb), engine=Engine.POSTGRES, policy=policy or Policy())
    return caught.value


def _branches(tmp_path: Path, ours: str = "SELECT 3;") -> tuple[files.MigrationSet, History]:
    """The database applied one branch's second file, the directory has another's; both have one size."""
    first = tmp_path / "first"
    first.mkdir()
    past = applied(written(first, v1_x=migration(), v2_b=migration("SELECT 2;")), 1, 2)
    return written(tmp_path, v1_x=migration(), v2_a=migration(ours)), past


@pytest.mark.parametrize("verb", [Verb.UP, Verb.UP_BY_ONE, Verb.DOWN, Verb.REDO, Verb.RESET])
def test_bad_flow_two_files_of_one_version_are_told_apart_though_nothing_would_run(tmp_path: Path, verb: Verb) -> None:
    migrations, past = _branches(tmp_path)
    refusal = _refused(migrations, past, verb)
    assert refusal.code == "version-taken"
    assert refusal.message == "version 2 was applied from 2_b.sql; 2_a.sql never ran: give it a new number"
    assert "repair" not in refusal.hint
    assert _refused(migrations, past, verb, Policy(accept_changed=True)).code == "version-taken"


def test_two_files_of_one_version_are_told_by_every_reader(tmp_path: Path) -> None:
    migrations, past = _branches(tmp_path)
    (found,) = [item for item in against.compare(migrations, past, "@dev/auth") if item.level == "error"]
    assert (found.code, found.path) == ("version-taken", migrations.migrations[1].path)
    with pytest.raises(errors.PlanRefused, match="never ran"):
        contradictions.require_none(migrations, past)


def test_a_file_of_the_same_name_has_changed_and_one_of_the_same_content_is_only_called_otherwise(tmp_path: Path) -> None:
    past = applied(written(tmp_path, v2_b=migration()), 2)
    (tmp_path / "2_b.sql").rename(tmp_path / "2_a.sql")
    assert planner.plan(files.load(tmp_path), past, UP, engine=Engine.POSTGRES).steps == ()
    (tmp_path / "2_a.sql").unlink()
    (tmp_path / "0002_b.sql").write_text(migration("SELECT 33;"))
    assert _refused(files.load(tmp_path), past).code == "checksum-changed"


def test_a_version_that_goose_applied_says_nothing_of_its_file(tmp_path: Path) -> None:
    migrations, past = _branches(tmp_path)
    assert contradictions.find(migrations, replace(past, facts=())) == {}


@pytest.mark.parametrize("verb", [Verb.UP, Verb.UP_BY_ONE])
@pytest.mark.parametrize(("old", "new"), [(97, 99), (97, 96), (97, 98)])
def test_bad_flow_an_applied_file_under_another_number_is_refused(tmp_path: Path, verb: Verb, old: int, new: int) -> None:
    written(tmp_path, v95_x=migration(), v97_y=migration("SELECT 97;"))
    past = applied(files.load(tmp_path), 95, 97)
    (tmp_path / f"{old}_y.sql").rename(tmp_path / f"{new}_other_words.sql")
    refusal = _refused(files.load(tmp_path), past, verb)
    assert refusal.code == "file-renamed"
    assert refusal.message == f"{new}_other_words.sql was applied already, as version 97 (97_y.sql): as version {new} it would run again"
    assert "rename it back to 97_y.sql" in refusal.hint


def test_a_renamed_file_is_known_by_an_earlier_versions_record_of_other_line_ends(tmp_path: Path) -> None:
    written(tmp_path, v97_y=migration())
    past = applied(files.load(tmp_path), 97)
    raw = hashlib.sha256((tmp_path / "97_y.sql").read_bytes().replace(b"\n", b"\r\n")).hexdigest()
    past = replace(past, facts=(replace(past.facts[0], checksum=raw),))
    (tmp_path / "97_y.sql").rename(tmp_path / "99_y.sql")
    assert _refused(files.load(tmp_path), past).code == "file-renamed"


def test_a_copy_beside_the_old_file_runs(tmp_path: Path) -> None:
    past = applied(written(tmp_path, v97_y=migration()), 97)
    plan = planner.plan(written(tmp_path, v99_y=migration()), past, UP, engine=Engine.POSTGRES)
    assert [step.version for step in plan.steps] == [99]


def test_a_file_that_was_rolled_back_may_come_back_under_another_number(tmp_path: Path) -> None:
    past = applied(written(tmp_path, v96_x=migration("SELECT 96;"), v97_y=migration()), 96, 97)
    past = replace(past, rows=tuple(row for row in past.rows if row.version != 97))
    (tmp_path / "97_y.sql").rename(tmp_path / "99_y.sql")
    assert [step.version for step in planner.plan(files.load(tmp_path), past, UP, engine=Engine.POSTGRES).steps] == [99]


def test_a_new_file_at_the_old_number_does_not_hide_the_renamed_one(tmp_path: Path) -> None:
    past = applied(written(tmp_path, v97_y=migration()), 97)
    (tmp_path / "97_y.sql").rename(tmp_path / "99_y.sql")
    migrations = written(tmp_path, v97_new=migration("SELECT 1, 2;"))
    assert {version: item.code for version, item in contradictions.find(migrations, past).items()} == {
        97: "version-taken",
        99: "file-renamed",
    }


def test_two_applied_files_that_swapped_their_numbers_are_named(tmp_path: Path) -> None:
    past = applied(written(tmp_path, v1_a=migration("SELECT 1;"), v2_b=migration("SELECT 2;")), 1, 2)
    (tmp_path / "1_a.sql").rename(tmp_path / "3")
    (tmp_path / "2_b.sql").rename(tmp_path / "1_b.sql")
    (tmp_path / "3").rename(tmp_path / "2_a.sql")
    refusal = _refused(files.load(tmp_path), past)
    assert refusal.message == "version 1 was applied from 1_a.sql; 1_b.sql is what was applied as version 2 (2_b.sql)"


def test_an_older_image_on_a_newer_database_contradicts_nothing(tmp_path: Path) -> None:
    past = applied(written(tmp_path, v1_a=migration(), v2_b=migration("SELECT 2;")), 1, 2)
    (tmp_path / "2_b.sql").unlink()
    assert contradictions.find(files.load(tmp_path), past) == {}


def test_bad_flow_an_empty_place_is_refused_while_another_schema_may_have_these_files(tmp_path: Path) -> None:
    migrations = written(tmp_path, v1_a=migration(), v2_b=migration("SELECT 2;"))
    ours = {1: "other", 2: migrations.migrations[1].checksum()}
    for checksums in (ours, {1: "other"}, {}):
        elsewhere = Elsewhere("app.goose_db_version", frozenset({1, 2}), checksums)
        past = History(Engine.POSTGRES, False, elsewhere=(elsewhere,))
        refusal = _refused(migrations, past)
        assert refusal.code == "history-elsewhere"
        assert "-table app.goose_db_version" in refusal.hint
        assert [item.code for item in against.compare(migrations, past, "@dev/auth")] == ["history-elsewhere"]
    for versions, checksums in ((frozenset({1, 2}), {1: "other", 2: "other"}), (frozenset(), {})):
        past = History(Engine.POSTGRES, False, elsewhere=(Elsewhere("app.goose_db_version", versions, checksums),))
        assert len(planner.plan(migrations, past, UP, engine=Engine.POSTGRES).steps) == 2
