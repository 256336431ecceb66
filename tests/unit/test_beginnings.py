"""A statement may begin with anything: every text has a plan, warnings and a shape, in both directions and both modes, on both engines."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from migrator import errors, targets
from migrator.clickhouse.reading import readings as clickhouse_readings
from migrator.clickhouse.reading import shapes as clickhouse_shapes
from migrator.planning import files, planner, plans
from migrator.planning.history import History, Row
from migrator.postgres.lint import examination
from migrator.postgres.reading import readings
from migrator.postgres.reading.lock_classes import LockClass
from migrator.targets import Engine, Mode

BEGINNINGS = (
    "(", "((", ")", "\\echo ", "\\restrict ", "<<<<<<< HEAD", ">>>>>>> x", "=======", "1", "-1", "1\t", "+", "$$x$$", "$1", "$", "@x", "@",
    "'x'", '"x" ', "`x`", "E'x' ", "U&'x'", "/**/(", "/*", "-- c\n(", "\ufeff", "\x00", "\udcff", "é", "‘x’", "%", "[", "{", "}", "<", "=", "~", "!",
    "?", ".", ",", ":", "::", "|", "#", "# ", "#!", "&", "^", "*", "\v", "\xa0", "", "SELECT ", "COPY t FROM stdin", "CREATE ", "COMMIT",
    "ROLLBACK ", "DO ",
)  # fmt: skip
RESTS = (
    "SELECT 1)",
    "hello",
    "x",
    "t (a int)",
    "TABLE t",
    "'",
    "$$",
    "INDEX CONCURRENTLY i ON t (a)",
    "set_config('lock_timeout', '1s', false)",
    "",
)

MOMENT = datetime(2026, 11, 22, tzinfo=UTC)

texts = st.one_of(
    st.builds("{}{}".format, st.sampled_from(BEGINNINGS), st.sampled_from(RESTS)),
    st.builds("{}{}".format, st.text(max_size=4), st.sampled_from(RESTS)),
)


@given(texts)
@example("(SELECT 1)")
def test_every_text_has_a_shape_on_both_engines(text: str) -> None:
    found = readings.of_text(text)
    assert list(readings.locks_in_order([readings.of_text("CREATE TABLE t (a int)"), found]))
    clickhouse_shapes.read(text, "default")
    clickhouse_readings.read(text)


@pytest.mark.parametrize(
    "text", ["(SELECT 1)", "\\echo hello", "<<<<<<< HEAD", "1", "$$x$$", "@x", "1\t2", '"x" y', "'x'", "(COMMIT)", "\x00", "-1"]
)
def test_what_begins_with_no_word_is_none_of_the_special_ones(text: str) -> None:
    found = readings.of_text(text)
    assert (found.commands, found.head, found.controls, found.pipelined, found.transactional) == (1, (), False, True, True)
    assert found.lock is LockClass.ROWS and found.returns


def test_a_query_in_parentheses_may_change_a_setting() -> None:
    found = readings.of_text("(SELECT set_config('lock_timeout', '1s', false))")
    assert found.touches and found.sets == {"lock_timeout"}
    assert not readings.of_text("(SELECT set_config('standard_conforming_strings', 'off', false))").pipelined


@given(texts, st.sampled_from(["up", "down"]), st.booleans(), st.booleans(), st.sampled_from(Engine))
@example("(SELECT 1)", "up", True, False, Engine.POSTGRES)
def test_every_text_has_a_plan_or_an_error_of_its_file(text: str, direction: str, transaction: bool, block: bool, engine: Engine) -> None:
    statement = f"-- +goose StatementBegin\n{text};\n-- +goose StatementEnd\n" if block else f"{text};\n"
    sections = {"up": "SELECT 1;\n", "down": "SELECT 1;\n", direction: statement}
    head = "" if transaction else "-- +goose NO TRANSACTION\n"
    content = f"{head}-- +goose Up\n{sections['up']}-- +goose Down\n{sections['down']}".encode("utf-8", "surrogateescape")
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "00001_step.sql").write_bytes(content)
        found = files.load(directory)
        applied = direction == "down"
        rows = History(engine, True, (Row(1, True, MOMENT, "2"), Row(0, True, MOMENT, "1"))) if applied else History(engine, False)
        verb = targets.Verb.DOWN if applied else targets.Verb.UP
        try:
            plan = planner.plan(found, rows, targets.Target(verb), engine=engine, policy=plans.Policy(accept_hazards=True))
        except errors.FileError:
            return
        examination.examine(plan)
    (step,) = plan.steps
    assert step.mode is (Mode.CLICKHOUSE if engine is Engine.CLICKHOUSE else Mode.TRANSACTION if transaction else Mode.AUTOCOMMIT)
    readings.of(step)
