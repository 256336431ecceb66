"""goose's lines and greylag's: what is printed, and what never is."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from migrator import cli
from migrator.cli import flags, output, text, verbs
from migrator.goose import excerpts
from migrator.planning import events
from migrator.targets import Direction

ROOT = Path(__file__).parents[2]


def _greylag(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "migrator.cli", *arguments], cwd=ROOT, env=environ, capture_output=True, encoding="utf-8", check=False
    )


def test_times_are_printed_as_go_prints_ansic_whatever_the_locale() -> None:
    assert text.ansic(datetime(2026, 11, 2, 5, 8, 3)) == "Mon Nov  2 05:08:03 2026"


@pytest.mark.parametrize(
    ("statements", "seconds", "line"),
    [(1, 0.00266, "OK   00001_a.sql (2.66ms)"), (0, 0.00095752, "EMPTY 00001_a.sql (957.52µs)"), (3, 62.347, "OK   00001_a.sql (1m2.35s)")],
)
def test_a_finished_migration_is_goose_line(statements: int, seconds: float, line: str) -> None:
    assert text.finished_line(events.MigrationFinished(1, "00001_a.sql", Direction.UP, statements, seconds)) == line


def test_statements_are_quoted_without_comment_lines_and_blank_lines() -> None:
    assert excerpts.quoted_query("-- head\nSELECT 1\n\n-- inner\n  -- kept\n, 2;") == "SELECT 1\n  -- kept\n, 2;"


def test_json_survives_names_that_are_not_utf8() -> None:
    encoded = output.encode({"name": b"a\xff".decode("utf-8", "surrogateescape"), "at": datetime(2026, 1, 2)})
    assert encoded.isascii()
    assert json.loads(encoded)["at"] == "2026-01-02T00:00:00"


def test_an_error_before_any_database_is_json_too() -> None:
    done = _greylag("-json", "mysql", "postgres://u:s3cr3t@h/d", "up")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "unknown-driver"
    assert "s3cr3t" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["postgres", "postgres://u:s3cr3t/x@h/d", "status"],
        ["postgres", "postgres://u:s3cr3t@localhost:1/d", "version"],
        ["postgres", "postgres://u:s3cr3t@h/d", "nope"],
        ["nope", "postgres://u:s3cr3t@h/d", "up"],
        ["postgres", "postgres://u:s3cr3t@h/d"],
        ["postgres", "host=localhost port=1 user=u password=s3cr3t", "version"],
        ["clickhouse", "clickhouse://u:s3cr3t@localhost:77/d", "version"],
        ["env"],
    ],
)
@pytest.mark.parametrize("json_flag", [[], ["-json"]])
def test_no_password_is_printed_whatever_is_wrong(arguments: list[str], json_flag: list[str]) -> None:
    done = _greylag(*json_flag, *arguments, GOOSE_DBSTRING="postgres://u:s3cr3t@h/d" if arguments == ["env"] else "")
    assert "s3cr3t" not in done.stdout + done.stderr


def test_help_needs_no_engine_and_no_driver() -> None:
    code = (
        "import sys; from migrator.cli import main; main(['--help']);"
        "sys.exit(bool({'psycopg', 'dataclasses', 'json', 'argparse', 'migrator.databases'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_the_version_is_on_standard_output() -> None:
    done = _greylag("-version")
    assert done.returncode == 0
    assert done.stdout.startswith("greylag version: ")


def test_a_mistyped_flag_is_told_what_it_may_mean() -> None:
    done = _greylag("status", "-allow-mising")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "flag provided but not defined: -allow-mising",
        "greylag: hint: did you mean -allow-missing? greylag -h shows every flag",
    ]


def test_an_unknown_word_is_offered_to_the_console_and_then_refused() -> None:
    done = _greylag("definitely-no-verb")
    assert done.returncode == 2


@pytest.mark.parametrize("verb", list(verbs.ALL))
def test_help_of_a_command_says_how_it_is_called_and_which_options_are_its_own(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", verb]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Usage: greylag ") and verbs.ALL[verb].summary in told and f"docs/commands/{verb}.md" in told
    for flag in flags.OWN:
        if flag.verbs:
            assert (f"\n  -{flag.name}" in told) == (verb in flag.verbs), flag.name
    assert cli.main([verb, "-h"]) == 0
    longer = capsys.readouterr().out
    assert longer.startswith(told) and "\nCommands:\n" in longer, "goose's whole usage follows"


def test_help_of_the_checkouts_commands_is_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "targets"]) == 0
    assert capsys.readouterr().out.startswith("Usage: greylag targets [TARGET …] [OPTIONS]")


def test_bad_flow_help_of_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "statsu"]) == 2
    assert "did you mean status?" in capsys.readouterr().err
