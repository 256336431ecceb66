"""`.env` files as godotenv reads them, proven against the real goose where it can show the value."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from migrator import errors
from migrator.cli import dotenv

VALUES = [
    ("GOOSE_TABLE=plain", "plain"),
    ("export GOOSE_TABLE=exported", "exported"),
    ("GOOSE_TABLE: yaml", "yaml"),
    ("  GOOSE_TABLE =  spaced  ", "spaced"),
    ("# comment\n\nGOOSE_TABLE=after", "after"),
    ("GOOSE_TABLE=a # comment", "a"),
    ("GOOSE_TABLE=a#b", "a#b"),
    ("GOOSE_TABLE='a # b'", "a # b"),
    ('GOOSE_TABLE="a\\nb"', "a\nb"),
    ("GOOSE_TABLE='a\\nb'", "a\\nb"),
    ("X=1\nGOOSE_TABLE=$X-${X}", "1-1"),
    ("X=1\nGOOSE_TABLE='$X'", "$X"),
    ('X=1\nGOOSE_TABLE="$X"', "1"),
    ("GOOSE_TABLE=\\$X", "$X"),
    ("GOOSE_TABLE=$UNSET.", "."),
    ("X=1\nGOOSE_TABLE=$(X)", "1)"),
    ('GOOSE_TABLE="two\nlines"', "two\nlines"),
    ("GOOSE_TABLE=crlf\r\nY=2\r\n", "crlf"),
    ("GOOSE_TABLE=", ""),
    ("GOOSE_TABLE='it\\'s'", "it\\'s"),
    ("GOOSE_TABLE=first\nGOOSE_TABLE=second", "second"),
    ("GOOSE_TABLE=é", "é"),
    ("A.B=x\nGOOSE_TABLE=dotted", "dotted"),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_a_value_is_read_as_goose_reads_it(text: str, value: str, tmp_path: Path, goose_binary: Path) -> None:
    (tmp_path / "settings").write_bytes(text.encode())
    assert dotenv.parse(text)["GOOSE_TABLE"] == value
    told = subprocess.run([goose_binary, "-env", "settings", "env"], cwd=tmp_path, capture_output=True, encoding="utf-8", check=True).stdout
    shown = next(line for line in told.splitlines() if line.startswith("GOOSE_TABLE="))
    assert shown.removeprefix("GOOSE_TABLE=").strip('"').encode().decode("unicode_escape" if value.isascii() else "utf-8") == value


@pytest.mark.parametrize("text", ["A B\nC=1", "A-B=1", 'A="open', "A='open\nB=1", 'A=""open""'])
def test_a_bad_file_is_refused_with_its_line_and_without_its_text(text: str, tmp_path: Path, goose_binary: Path) -> None:
    (tmp_path / "settings").write_text(text)
    told = subprocess.run([goose_binary, "-env", "settings", "env"], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert told.returncode == 1
    with pytest.raises(errors.UsageError) as refusal:
        dotenv.parse(text, "settings")
    assert str(refusal.value.where) == "settings:1"
    assert "open" not in refusal.value.describe()


def test_what_is_set_is_never_overridden(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=file\nB=file\n")
    environ = {"A": "set"}
    dotenv.load(str(tmp_path / ".env"), environ)
    assert environ == {"A": "set", "B": "file"}
    assert "B" not in os.environ
