"""Plans: what would run, what is refused and why, and digests that an approval can be bound to."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from migrator import errors, verification
from migrator.planning import files, planner, plans
from migrator.planning.history import Fact, History, Outline, Row
from migrator.planning.plans import Policy
from migrator.targets import Direction, Engine, Mode, Target, Verb

MOMENT = datetime(2026, 11, 22, tzinfo=UTC)
UP = Target(Verb.UP)


def written(directory: Path, **contents: str) -> files.MigrationSet:
    """Writes VERSION_name.sql files (`v1_users="..."` becomes 1_users.sql) and loads them."""
    for key, text in contents.items():
        (directory / f"{key.removeprefix('v')}.sql").write_text(text)
    return files.load(directory)


def migration(up: str = "SELECT 1;", down: str = "SELECT 2;", head: str = "") -> str:
    return f"{head}-- +goose Up\n{up}\n\n-- +goose Down\n{down}\n"


def applied(migrations: files.MigrationSet, *versions: int, facts: bool = True, oldest_app: int | None = None) -> History:
    """The history after greylag (or goose, with facts=False) applied the versions in order."""
    rows = [Row(0, True, MOMENT, "0")] + [Row(version, True, MOMENT, str(version)) for version in versions]
    kept = []
    for version in versions if facts else ():
        file = migrations.by_version(version)
        checksum, size, name = (file.checksum(), file.size, file.name) if file else ("ff", 9, f"{version}_gone.sql")
        kept.append(Fact(version, str(version), name, checksum, size, "bundle", b"", "run", "me", MOMENT, 0.1, oldest_app))
    return History(Engine.POSTGRES, True, tuple(reversed(rows)), tuple(kept))


EMPTY = History(Engine.POSTGRES, False)


def test_good_flow_pending_files_are_planned_in_order_with_their_mode(tmp_path: Path) -> None:
    migrations = written(tmp_path, v1_a=migration(), v2_b=migration(head="-- +goose NO TRANSACTION\n"))
    plan = planner.plan(migrations, EMPTY, UP, engine=Engine.POSTGRES)
    assert [(step.version, step.direction, step.mode) for step in plan.steps] == [
        (1, Direction.UP, Mode.TRANSACTION),
        (2, Direction.UP, Mode.AUTOCOMMIT),
    ]
    assert plan.steps[0].statements[0].first_line == 2


def test_on_clickhouse_every_step_is_journalled(tmp_path: Path) -> None:
    plan = planner.plan(written(tmp_path, v1_a=migration()), EMPTY, UP, engine=Engine.CLICKHOUSE)
    assert [step.mode for step in plan.steps] == [Mode.CLICKHOUSE]


def test_bad_flow_an_error_in_the_last_file_stops_the_first(tmp_path: Path) -> None:
    migrations = written(tmp_path, v1_a=migration(), v2_b="-- +goose Up\nSELECT 1\n")
    with pytest.raises(errors.ParseError, match="missing semicolon") as caught:
        planner.plan(migrations, EMPTY, UP, engine=Engine.POSTGRES)
    assert caught.value.where is not None
    assert caught.value.where.path.endswith("2_b.sql")


def test_bad_flow_an_empty_directory_is_refused_with_gooses_words(tmp_path: Path) -> None:
    with pytest.raises(errors.FileError, match="no migration files found"):
        planner.plan(files.load(tmp_path), EMPTY, UP, engine=Engine.POSTGRES)


def test_bad_flow_changed_checksum_is_refused_when_something_would_run(tmp_path: Path) -> None:
    migrations = written(tmp_path, v1_a=migration("SELECT 1;"), v2_b=migration())
    past = applied(migrations, 1)
    changed = written(tmp_path, v1_a=migration("SELECT 3;"))
    with pytest.raises(errors.PlanRefused, match=r"1_a\.sql changed") as caught:
        planner.plan(changed, past, UP, engine=Engine.POSTGRES)
    assert caught.value.code == "checksum-changed"
    assert "repair -checksum 1" in caught.value.hint
    accepted = planner.plan(changed, past, UP, engine=Engine.POSTGRES, policy=Policy(accept_changed=True))
    assert [step.version for step in accepted.steps] == [2]


def test_a_changed_size_is_seen_even_when_nothing_would_run(tmp_path: Path) -> None:
    past = applied(written(tmp_path, v1_a=migration("SELECT 1;")), 1)
    with pytest.raises(errors.PlanRefused, match="changed after it was applied"):
        planner.plan(written(tmp_path, v1_a=migration("SELECT 1234;")), past, UP, engine=Engine.POSTGRES)


@pytest.mark.parametrize("raw", [False, True], ids=["the text's checksum", "an earlier version's, of the bytes"])
def test_line_ends_that_a_checkout_changed_are_no_change(tmp_path: Path, raw: bool) -> None:
    def converted(old: bytes, new: bytes) -> files.MigrationSet:
        for path in tmp_path.glob("*.sql"):
            path.write_bytes(path.read_bytes().replace(old, new))
        return files.load(tmp_path)

    for old, new in ((b"\n", b"\r\n"), (b"\r\n", b"\n")):
        before = written(tmp_path, v1_a=migration()) if old == b"\n" else files.load(tmp_path)
        checksum = hashlib.sha256((tmp_path / "1_a.sql").read_bytes()).hexdigest()
        past = applied(before, 1)
        if raw:
            past = replace(past, facts=(replace(past.facts[0], checksum=checksum),))
        after = converted(old, new)
        assert planner.plan(after, past, UP, engine=Engine.POSTGRES).steps == ()
        assert after.changed(past.living_facts) == ()
        assert verification.recorded_digest(past, after) == after.digest() == before.digest()


def test_versions_that_goose_applied_have_no_checksum_to_compare(tmp_path: Path) -> None:
    migrations = written(tmp_path, v1_a=migration(), v2_b=migration())
    plan = planner.plan(migrations, applied(migrations, 1, facts=False), UP, engine=Engine.POSTGRES)
    assert [step.version for step in plan.steps] == [2]


def test_bad_flow_missing_versions_are_refused_with_gooses_text(tmp_path: Path) -> None:
    migrations = written(tmp_path, v1_a=migration(), v2_b=migration(), v3_c=migration())
    with pytest.raises(errors.PlanRefused) as caught:
        planner.plan(migrations, applied(migrations, 1, 3), UP, engine=Engine.POSTGRES)
    path = migrations.migrations[1].path
    assert str(caught.value) == f"error: found 1 missing migrations before current version 3:\n\tversion 2: {path}"
    allowed = planner.plan(migrations, applied(migrations, 1, 3), Target(Verb.UP, allow_missing=True), engine=Engine.POSTGRES)
    assert [step.version for step in allowed.steps] == [2]


def test_good_flow_an_older_directory_on_a_newer_database_is_a_remark(tmp_path: Path) -> None:
    migrations = written(tmp_path, v1_a=migration())
    plan = planner.plan(migrations, applied(migrations, 1, 5), UP, engine=Engine.POSTGRES)
    assert plan.steps == ()
    assert [remark.code for remark in plan.remarks] == ["newer-database"]


@pytest.mark.parametrize("verb", [Verb.UP, Verb.UP_BY_ONE, Verb.UP_TO])
def test_an_outline_settles_only_what_the_whole_history_would_settle_too(verb: Verb, tmp_path: Path) -> None:
    migrations = written(tmp_path, v1_a=migration(), v2_b=migration())
    target = Target(verb, version=2)
    sizes = {item.version: item.size for item in migrations.migrations}
    names = {item.version: item.name for item in migrations.migrations}
    good = Outline(2, frozenset({0, 1, 2}), sizes, names, False)
    plan = planner.settled(migrations, good, target, engine=Engine.POSTGRES)
    whole = planner.plan(migrations, applied(migrations, 1, 2), target, engine=Engine.POSTGRES)
    assert plan == whole
    assert planner.settled(migrations, Outline(2, good.versions, {}, {}, False), target, engine=Engine.POSTGRES) == whole
    for doubt in (
        Outline(2, frozenset({0, 1}), {1: sizes[1]}, {1: names[1]}, False),
        Outline(3, frozenset({0, 1, 2, 3}), sizes, names, False),
        Outline(2, good.versions, {1: sizes[1] + 1}, names, False),
        Outline(2, good.versions, sizes, {**names, 2: "2_c.sql"}, False),
        Outline(2, good.versions, sizes, names, True),
    ):
        assert planner.settled(migrations, doubt, target, engine=Engine.POSTGRES) is None


def test_bad_flow_an_image_older_than_oldest_app_is_refused(tmp_path: Path) -> None:
    migrations = written(tmp_path, v1_a=migration())
    with pytest.raises(errors.PlanRefused, match="images older than 4") as caught:
        planner.plan(migrations, applied(migrations, 1, 5, oldest_app=4), UP, engine=Engine.POSTGRES)
    assert caught.value.code == "older-app"


def test_bad_flow_a_protected_environment_is_never_rolled_back(tmp_path: Path) -> None:
    migrations = written(tmp_path, v1_a=migration())
    for verb in (Verb.DOWN, Verb.DOWN_TO, Verb.REDO, Verb.RESET):
        with pytest.raises(errors.PlanRefused, match="protected"):
            planner.plan(migrations, applied(migrations, 1), Target(verb), engine=Engine.POSTGRES, policy=Policy(protected=True))


def test_bad_flow_a_go_migration_that_would_have_to_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "2_code.go").write_text("package migrations\n")
    migrations = written(tmp_path, v1_a=migration())
    with pytest.raises(errors.PlanRefused, match="failed to run Go migration"):
        planner.plan(migrations, EMPTY, UP, engine=Engine.POSTGRES)
    done = planner.plan(migrations, applied(migrations, 1, 2, facts=False), UP, engine=Engine.POSTGRES)
    assert done.steps == ()


def test_bad_flow_a_lossy_file_is_refused_unless_accepted(tmp_path: Path) -> None:
    cut = "-- +goose Up\nCREATE FUNCTION f() RETURNS int AS $$\nBEGIN\n  RETURN 1;\nEND;\n$$ LANGUAGE plpgsql;\n"
    migrations = written(tmp_path, v1_cut=cut)
    with pytest.raises(errors.PlanRefused, match="goose ends the statement of line 2 in line 4") as caught:
        planner.plan(migrations, EMPTY, UP, engine=Engine.POSTGRES)
    assert caught.value.where is not None
    assert caught.value.where.line is not None
    assert "-accept-hazards" in caught.value.hint
    accepted = planner.plan(migrations, EMPTY, UP, engine=Engine.POSTGRES, policy=Policy(accept_hazards=True))
    assert len(accepted.steps) == 1


def test_a_version_whose_file_is_gone_is_rolled_back_from_its_recorded_text(tmp_path: Path) -> None:
    migrations = written(tmp_path, v1_a=migration())
    plan = planner.plan(
        migrations,
        applied(migrations, 1, 5),
        Target(Verb.DOWN),
        engine=Engine.POSTGRES,
        recall=lambda version: migration(down=f"DROP TABLE gone_{version};").encode(),
    )
    assert [(step.version, step.statements[0].text) for step in plan.steps] == [(5, "DROP TABLE gone_5;")]


def test_the_plan_made_again_under_the_lock_may_be_shorter_but_not_other(tmp_path: Path) -> None:
    migrations = written(tmp_path, v1_a=migration(), v2_b=migration(), v3_c=migration())
    first = planner.plan(migrations, EMPTY, UP, engine=Engine.POSTGRES)
    assert [step.version for step in planner.remaining(first, applied(migrations, 1)).steps] == [2, 3]
    assert planner.remaining(first, applied(migrations, 1, 2, 3)).steps == ()
    second = planner.plan(migrations, applied(migrations, 1), UP, engine=Engine.POSTGRES)
    with pytest.raises(errors.PlanRefused) as caught:
        planner.remaining(second, EMPTY)
    assert caught.value.code == "plan-moved"


def test_an_up_by_one_that_another_runner_did_has_nothing_left(tmp_path: Path) -> None:
    migrations = written(tmp_path, v1_a=migration(), v2_b=migration())
    plan = planner.plan(migrations, EMPTY, Target(Verb.UP_BY_ONE), engine=Engine.POSTGRES)
    assert planner.remaining(plan, applied(migrations, 1)).steps == ()


def test_an_approval_covers_its_plan_and_what_is_left_of_it_and_nothing_else(tmp_path: Path) -> None:
    migrations = written(tmp_path, v1_a=migration(), v2_b=migration(), v3_c=migration())
    whole = planner.plan(migrations, EMPTY, UP, engine=Engine.POSTGRES)
    past = applied(migrations, 1)
    rest = planner.plan(migrations, past, UP, engine=Engine.POSTGRES)
    assert whole.digest != rest.digest
    assert plans.approves(whole.digest, whole, EMPTY)
    assert plans.approves(whole.digest, rest, past)
    assert not plans.approves(rest.digest, whole, EMPTY)
    changed = written(tmp_path, v3_c=migration("SELECT 4;"))
    assert not plans.approves(whole.digest, planner.plan(changed, past, UP, engine=Engine.POSTGRES), past)


def test_a_plan_is_json_and_shows_the_files_own_text_only(tmp_path: Path) -> None:
    text = migration("-- +goose ENVSUB ON\nCREATE USER app PASSWORD '${APP_PASSWORD}';")
    plan = planner.plan(written(tmp_path, v1_user=text), EMPTY, UP, engine=Engine.POSTGRES, env={"APP_PASSWORD": "hunter2"})
    assert "hunter2" in plan.steps[0].statements[0].text
    document = str(plan.document())
    assert "hunter2" not in document
    assert "${APP_PASSWORD}" in document
