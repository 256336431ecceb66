"""What is said about a file that can't be split: goose's words, the place, and what to type."""

from __future__ import annotations

import pytest

from migrator import errors
from migrator.goose import annotations as migration_text

UP = "-- +goose Up\n"
SEE = "see https://github.com/pressly/goose#sql-migrations"
BEGIN = "-- +goose StatementBegin\n"
END = "-- +goose StatementEnd\n"
DOWN = "-- +goose Down\n"


def unfinished(text: str, direction: str = "up", state: int = 1) -> str:
    return (
        f'failed to parse migration: state {state}, direction: {direction}: unexpected unfinished SQL query: "{text}": missing semicolon?'
    )


CASES = [
    ("", "up", f"failed to parse migration: must start with '-- +goose Up' annotation, {SEE}", 1, "`-- +goose Up`"),
    ("-- c\n\n", "up", f"failed to parse migration: must start with '-- +goose Up' annotation, {SEE}", 1, "`-- +goose Up`"),
    ("SELECT 1;\n" + UP, "up", f'failed to parse migration: unexpected state 0 on line "SELECT 1;", {SEE}', 1, "above this line"),
    ("\ufeff" + UP, "up", f'failed to parse migration: unexpected state 0 on line "\\ufeff-- +goose Up", {SEE}', 1, "without BOM"),
    ("/* c */\n" + UP, "up", f'failed to parse migration: unexpected state 0 on line "/* c */", {SEE}', 1, "only `--` comments"),
    (UP + "SELECT 1;\n" + UP, "up", f"duplicate '-- +goose Up' annotations; stateMachine=1, {SEE}", 3, "delete this line"),
    (UP + DOWN + UP, "down", f"duplicate '-- +goose Up' annotations; stateMachine=4, {SEE}", 3, "delete this line"),
    (DOWN, "up", f"must start with '-- +goose Up' annotation, stateMachine=0, {SEE}", 1, "before it"),
    (UP + DOWN + DOWN, "up", f"must start with '-- +goose Up' annotation, stateMachine=4, {SEE}", 3, "one Down section"),
    (UP + BEGIN + DOWN, "up", f"must start with '-- +goose Up' annotation, stateMachine=2, {SEE}", 3, "StatementEnd"),
    (
        BEGIN, "up",
        f"'-- +goose StatementBegin' must be defined after '-- +goose Up' or '-- +goose Down' annotation, stateMachine=0, {SEE}", 1, "Up",
    ),
    (
        UP + BEGIN + BEGIN, "up",
        f"'-- +goose StatementBegin' must be defined after '-- +goose Up' or '-- +goose Down' annotation, stateMachine=2, {SEE}", 3, "StatementEnd",
    ),
    (UP + END, "up", f"'-- +goose StatementEnd' must be defined after '-- +goose StatementBegin', {SEE}", 2, "StatementBegin"),
    (UP + "SELECT 1;\n" + BEGIN + "x\n", "up", "failed to parse migration: missing '-- +goose StatementEnd' annotation", 3, "StatementEnd"),
    (UP + "SELECT 1;\n\nSELECT\n 2\n", "up", unfinished("SELECT\\n 2"), 4, "end the statement of line 4"),
    (UP + "SELECT 1\n" + DOWN, "up", unfinished("SELECT 1"), 2, "end the statement of line 2"),
    (UP + DOWN + "SELECT 1", "down", unfinished("SELECT 1", "down", 4), 3, "end the statement of line 3"),
    (UP + "SELECT\n1;--c\n", "up", unfinished("SELECT\\n1;--c"), 2, "misses the semicolon in line 3: put a space"),
    (UP + "SELECT 1; /* c */\n", "up", unfinished("SELECT 1; /* c */"), 2, "move the comment"),
    (UP + "VALUES ('a -- b');\n", "up", unfinished("VALUES ('a -- b');"), 2, "even inside a string"),
    (UP + "SELECT 1;\n/* the end */\n", "up", unfinished("/* the end */"), 3, "block comment"),
    (UP + "SELECT 1;\n  \n-- the end\n", "up", unfinished("-- the end"), 4, "only spaces"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "direction", "message", "line", "hint"), CASES)
def test_bad_flow_the_message_is_gooses_and_place_and_remedy_are_ours(
    text: str, direction: str, message: str, line: int, hint: str
) -> None:
    with pytest.raises(errors.ParseError) as caught:
        migration_text.parse(text, direction, {}, path="db/7_x.sql")
    assert str(caught.value) == message
    assert caught.value.where == errors.Location("db/7_x.sql", line)
    assert hint in caught.value.hint
    assert caught.value.exit_code == errors.ExitCode.FILE


def test_bad_flow_a_file_in_utf_16_is_told_so() -> None:
    with pytest.raises(errors.ParseError) as caught:
        migration_text.parse((UP + "SELECT 1;\n").encode("utf-16-le"))
    assert "UTF-16" in caught.value.hint


def test_bad_flow_a_missing_semicolon_in_down_is_found_only_by_down() -> None:
    text = UP + "SELECT 1;\n" + DOWN + "SELECT 2\n"
    assert len(migration_text.parse(text, "up").statements) == 1
    with pytest.raises(errors.ParseError, match="direction: down"):
        migration_text.parse(text, "down")


@pytest.mark.parametrize(("size", "passes"), [(4194303, True), (4194304, False)])
def test_a_line_may_hold_4194303_bytes(size: int, passes: bool) -> None:
    line = b"SELECT '" + b"x" * (size - 10) + b"';"
    assert len(line) == size
    data = UP.encode() + b"SELECT 1;\n" + line + b"\n"
    if passes:
        assert len(migration_text.parse(data).statements) == 2
        return
    for whole in (data, data + DOWN.encode(), UP.encode() + DOWN.encode() + b"x;\n" + line):
        with pytest.raises(errors.ParseError) as caught:
            migration_text.parse(whole)
        assert str(caught.value) == "failed to scan migration: bufio.Scanner: token too long"
        assert caught.value.where is not None
        assert caught.value.where.line == 3 + whole.startswith(UP.encode() + DOWN.encode())


def test_bad_flow_a_substitution_that_fails_names_the_line_and_the_way_out() -> None:
    for text, reason, hint in (
        ("SELECT $1;", "Expected identifier to start with a letter, got 1", "ENVSUB OFF"),
        ("SELECT ${NAME?who};", "$NAME: who", "set NAME in the environment"),
    ):
        with pytest.raises(errors.ParseError) as caught:
            migration_text.parse(f"{UP}-- +goose ENVSUB ON\n\n{text}\n", env={})
        assert str(caught.value) == f"variable substitution failed: {reason}:\n{text}"
        assert caught.value.where == errors.Location("", 4)
        assert hint in caught.value.hint
