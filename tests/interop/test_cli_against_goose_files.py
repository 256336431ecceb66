"""The commands that need no database: goose and greylag do the same to the same directory and say the same."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.interop.runner import Tools

UP = "-- +goose Up\nSELECT 1;\n-- +goose Down\nSELECT 2;\n"


def _both(tools: Tools, files: dict[str, str]) -> tuple[Path, Path]:
    """The same files in two directories."""
    for name in ("theirs", "ours"):
        shutil.rmtree(tools.cwd / name, ignore_errors=True)
        (tools.cwd / name).mkdir()
        for file, text in files.items():
            (tools.cwd / name / file).write_text(text, encoding="utf-8")
    return tools.cwd / "theirs", tools.cwd / "ours"


def _contents(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(directory.iterdir())}


@pytest.mark.parametrize("name", ["add users", "Foo-Bar.baz", "foo!", "ÄÖ ü", "!!"])
@pytest.mark.parametrize("existing", [[], ["00007_x.sql"], ["00002_a.sql", "20240101000000_b.sql"]])
def test_create_writes_the_same_file_and_says_the_same(name: str, existing: list[str], tools: Tools) -> None:
    theirs, ours = _both(tools, dict.fromkeys(existing, UP))
    told = tools.goose("-dir", "theirs", "-s", "create", name, "sql")
    said = tools.greylag("-dir", "ours", "-s", "create", name, "sql")
    assert (said.code, said.text) == (told.code, told.text.replace("theirs/", "ours/"))
    assert _contents(ours) == _contents(theirs)


def test_create_with_a_timestamp_names_the_file_by_utc(tools: Tools) -> None:
    theirs, ours = _both(tools, {})
    assert tools.goose("-dir", "theirs", "create", "x", "sql").code == tools.greylag("-dir", "ours", "create", "x", "sql").code == 0
    (their_name,), (our_name,) = _contents(theirs), _contents(ours)
    assert re.fullmatch(r"\d{14}_x\.sql", our_name)
    assert abs(int(our_name[:14]) - int(their_name[:14])) < 100


def test_create_without_a_type_writes_sql_and_says_so(tools: Tools) -> None:
    said = tools.greylag("-dir", "m", "create", "x")
    assert said.code == 0
    assert [path.suffix for path in (tools.cwd / "m").iterdir()] == [".sql"]
    assert any("default-type" in line for line in said.own)


@pytest.mark.parametrize("kind", ["go", "py"])
def test_create_refuses_what_could_never_run(kind: str, tools: Tools) -> None:
    said = tools.greylag("-dir", "m", "create", "x", kind)
    assert said.code == 2
    assert list((tools.cwd / "m").iterdir()) == []


@pytest.mark.parametrize("arguments", [["create"], ["-dir", "absent", "create", "x", "sql"]])
def test_create_fails_in_gooses_words(arguments: list[str], tools: Tools) -> None:
    told, said = tools.goose(*arguments), tools.greylag(*arguments)
    assert told.code == 1
    assert said.code in (2, 10)
    assert re.sub(r"\d{14}", "N", said.text) == re.sub(r"\d{14}", "N", told.text)


@pytest.mark.parametrize(
    "names",
    [
        ["20240101000000_b.sql", "20240102000000_c.sql"],
        ["00003_a.sql", "20240101000000_b.sql"],
        ["20241301000000_a.sql", "20240101000000_b.sql"],
        ["00001_a.sql"],
        [],
        ["20240101000000_20240101000000.sql"],
    ],
)
def test_fix_renames_the_same_files(names: list[str], tools: Tools) -> None:
    theirs, ours = _both(tools, dict.fromkeys(names, UP))
    told, said = tools.goose("-dir", "theirs", "fix"), tools.greylag("-dir", "ours", "fix")
    assert said.text == told.text
    assert _contents(ours) == _contents(theirs)
    assert (said.code == 0) == (told.code == 0)


VALIDATED = {
    "good": ({"00001_a.sql": UP, "00002_b.sql": "-- +goose NO TRANSACTION\n" + UP}, 0),
    "no down": ({"00001_a.sql": "-- +goose Up\nSELECT 1;\n"}, 0),
    "no annotation": ({"00001_a.sql": "SELECT 1;\n"}, 10),
    "no version": ({"a.sql": UP}, 10),
    "no semicolon": ({"00001_a.sql": "-- +goose Up\nSELECT 1\n"}, 10),
    "bad down": ({"00001_a.sql": "-- +goose Up\nSELECT 1;\n-- +goose Down\nSELECT 1\n"}, 10),
    "empty": ({}, 0),
}


@pytest.mark.parametrize("case", VALIDATED)
def test_validate_says_the_same_first(case: str, tools: Tools) -> None:
    content, code = VALIDATED[case]
    _both(tools, content)
    told, said = tools.goose("-dir", "theirs", "-v", "validate"), tools.greylag("-dir", "ours", "-v", "validate")
    their_text = "\n".join(line for line in told.text.replace("theirs/", "ours/").split("\n") if "StateMachine" not in line)
    assert said.text == their_text
    assert said.out == told.out
    assert (said.code, told.code) == (code, 1 if code else 0)


@pytest.mark.parametrize("kind", ["directory", "dangling link"])
def test_validate_says_the_same_of_what_cannot_be_read(kind: str, tools: Tools) -> None:
    for directory in _both(tools, {"00001_a.sql": UP}):
        if kind == "directory":
            (directory / "00002_x.sql").mkdir()
        else:
            (directory / "00002_x.sql").symlink_to("nowhere")
    told, said = tools.goose("-dir", "theirs", "validate"), tools.greylag("-dir", "ours", "validate")
    assert (said.text, said.code, told.code) == (told.text.replace("theirs/", "ours/"), 10, 1)


def test_validate_finds_duplicates_that_goose_overlooks(tools: Tools) -> None:
    _both(tools, {"00001_a.sql": UP, "1_b.sql": UP})
    assert tools.goose("-dir", "theirs", "validate").code == 0
    said = tools.greylag("-dir", "ours", "validate")
    assert said.code == 10
    assert any("duplicate-version" in line for line in said.own)


def test_validate_names_every_finding_with_its_line(tools: Tools) -> None:
    swallowed = "-- +goose Up\n-- +goose StatementBegin\n-- +goose StatementEnd\nSELECT 1;\nSELECT 2;\n"
    _both(tools, {"00001_a.sql": swallowed, "00002_b.sql": "-- +goose Up\nSELECT 1;\n", "b.sql": UP, "00003_c.go": "package m\n"})
    said = tools.greylag("-dir", "ours", "validate")
    assert said.code == 10
    text = "\n".join(said.own)
    assert "error: ours/00001_a.sql:4:" in text
    assert "warning: ours/00002_b.sql: no statement takes this migration back [missing-down]" in text
    assert "error: ours/b.sql" in text
    assert "[go-migration]" in text


def test_init_makes_a_directory_whose_file_can_be_read(tools: Tools) -> None:
    assert tools.greylag("init").code == 0
    assert tools.greylag("-dir", "migrations", "validate").code == 0
    assert tools.goose("-dir", "migrations", "validate").code == 0
    told, said = tools.goose("-dir", "migrations", "init"), tools.greylag("-dir", "migrations", "init")
    assert (said.text, said.code, told.code) == (told.text, 10, 1)


def test_env_prints_the_same_settings_without_the_password(tools: Tools) -> None:
    (tools.cwd / ".env").write_text("GOOSE_TABLE=t\nGOOSE_DRIVER=ignored\n")
    environ = {"GOOSE_DRIVER": "postgres", "GOOSE_DBSTRING": "postgres://u:p@h/d", "GOOSE_MIGRATION_DIR": 'a "b"'}
    assert tools.greylag("env", **environ).out == tools.goose("env", **environ).out.replace(":p@", ":***@")
    named = {"GOOSE_TABLE": ""}
    assert tools.greylag("-env", "none", "env", **named).out == tools.goose("-env", "none", "env", **named).out


def test_a_named_env_file_must_exist(tools: Tools) -> None:
    told, said = tools.goose("-env", "absent", "env"), tools.greylag("-env", "absent", "env")
    assert (said.text, said.code, told.code) == (told.text, 2, 1)
    told, said = tools.goose("-env", "m", "env"), tools.greylag("-env", "m", "env")  # a directory
    assert (said.text, said.code, told.code) == (told.text, 2, 1)


@pytest.mark.parametrize("words", [["postgres", "URL", "up"], ["URL", "up"]])
def test_an_address_beside_one_of_the_environment_is_told_to_be_left_out(words: list[str], tools: Tools) -> None:
    url = "postgres://u:p@h/d"
    environ = {"GOOSE_DBSTRING": url} | ({"GOOSE_DRIVER": "postgres"} if len(words) == 2 else {})
    words = [url if word == "URL" else word for word in words]
    told, said = tools.goose(*words, **environ), tools.greylag(*words, **environ)
    assert (said.text, said.code, told.code) == (told.text.replace(":p@", ":***@"), 2, 1)
    assert any("GOOSE_DBSTRING is set" in line for line in said.own)


@pytest.mark.parametrize("arguments", [["-nope"], ["-timeout", "5", "up"], ["-dir"]])
def test_bad_flags_end_with_2_in_both(arguments: list[str], tools: Tools) -> None:
    told, said = tools.goose(*arguments), tools.greylag(*arguments)
    assert said.code == told.code == 2
    assert said.err.splitlines()[0] == told.err.splitlines()[0]


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["up", "-h"]])
def test_help_ends_with_0_and_names_every_command_and_flag(arguments: list[str], tools: Tools) -> None:
    told, said = tools.goose(*arguments), tools.greylag(*arguments)
    assert said.code == told.code == 0
    for pattern in (r"^    ([a-z-]+)(?= +[A-Z]| VERSION| NAME)", r"^  (-[a-z-]+)"):
        theirs = set(re.findall(pattern, told.out + told.err, re.MULTILINE))
        assert theirs
        assert theirs <= set(re.findall(pattern, said.out, re.MULTILINE)) | {"spanner"}


def test_nothing_to_do_at_all_prints_the_usage(tools: Tools) -> None:
    said = tools.greylag()
    assert said.code == 2
    assert "Usage: greylag DRIVER DBSTRING" in said.err
