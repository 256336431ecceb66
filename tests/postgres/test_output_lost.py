"""Output that can't be written changes neither what is done nor the exit code: a full disk, closed pipes and descriptors, a terminal that has gone."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "migrator.cli"]
COUNT = 30

Run = Callable[..., subprocess.CompletedProcess[bytes]]


def shell(redirection: str) -> Run:
    """Runs the command behind a shell's redirection."""

    def run(words: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["sh", "-c", f'exec "$0" "$@" {redirection}', *COMMAND, *words], env=environ, capture_output=True, check=False
        )

    return run


def closed_pipe(words: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Nobody reads either stream."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run([*COMMAND, *words], env=environ, stdout=writing, stderr=writing, check=False)
    finally:
        os.close(writing)


def gone_terminal(words: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    """The terminal's other end is closed before the first line."""
    ours, theirs = pty.openpty()
    os.close(ours)
    try:
        return subprocess.run([*COMMAND, *words], env=environ, stdin=theirs, stdout=theirs, stderr=theirs, check=False)
    finally:
        os.close(theirs)


WAYS: dict[str, Run] = {
    "full disk": shell(">/dev/full 2>/dev/full"),
    "full disk for standard output": shell(">/dev/full"),
    "full disk for standard error": shell("2>/dev/full"),
    "closed descriptors": shell(">&- 2>&-"),
    "closed standard error": shell("2>&-"),
    "all three closed": shell("<&- >&- 2>&-"),
    "closed pipe": closed_pipe,
    "gone terminal": gone_terminal,
}


@pytest.fixture
def environ(postgres_url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOOSE_", "GREYLAG_", "PG"))}
    return kept | {"GOOSE_DRIVER": "postgres", "GOOSE_DBSTRING": postgres_url, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for version in range(1, COUNT + 1):
        text = f"-- +goose Up\nCREATE TABLE t{version} (id integer);\n-- +goose Down\nDROP TABLE t{version};\n"
        (tmp_path / f"{version:05d}_{'long_name_' * 12}.sql").write_text(text)
    return tmp_path


def versions(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT version_id FROM goose_db_version WHERE version_id > 0 ORDER BY id")]


def silent(done: subprocess.CompletedProcess[bytes]) -> bool:
    told = (done.stdout or b"") + (done.stderr or b"")
    return b"Traceback" not in told and b"Exception ignored" not in told and b"internal error" not in told


@pytest.mark.parametrize("flags", [[], ["-json"], ["-v"]], ids=["text", "json", "verbose"])
@pytest.mark.parametrize("way", list(WAYS))
def test_bad_flow_a_run_whose_output_is_lost_applies_everything(
    environ: dict[str, str], directory: Path, postgres_url: str, way: str, flags: list[str]
) -> None:
    done = WAYS[way]([*flags, "-dir", str(directory), "up"], environ)
    assert (done.returncode, silent(done)) == (0, True), done
    assert versions(postgres_url) == list(range(1, COUNT + 1))


@pytest.mark.parametrize("way", list(WAYS))
def test_bad_flow_a_failure_keeps_its_exit_code(environ: dict[str, str], directory: Path, postgres_url: str, way: str) -> None:
    (directory / "00020_bad.sql").write_text("-- +goose Up\nCREATE TABLE bad (id no_such_type);\n")
    for file in directory.glob("00020_long*"):
        file.unlink()
    done = WAYS[way](["-json", "-dir", str(directory), "up"], environ)
    assert (done.returncode, silent(done)) == (14, True), done
    assert versions(postgres_url) == list(range(1, 20))


@pytest.mark.parametrize("way", ["full disk", "closed descriptors", "closed pipe"])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["-h"], 0),
        (["-version"], 0),
        (["help", "up"], 0),
        (["env"], 0),
        (["env", "-json"], 0),
        (["status"], 0),
        (["status", "-exit-code"], 3),
        (["plan"], 0),
        (["history"], 0),
        (["validate", "-v"], 0),
        (["no-such-verb"], 2),
        (["-no-such-flag"], 2),
        (["fleet"], 0),
        (["fleet", "-h"], 0),
        (["fleet", "-json"], 0),
        (["privileges", "no-such-thing"], 2),
        (["deploy", "-no-such-flag"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_flow_every_verb_ends_as_it_would_have(environ: dict[str, str], directory: Path, way: str, words: list[str], code: int) -> None:
    done = WAYS[way]([*words, "-dir", str(directory)] if words[0] in ("status", "plan", "validate") else words, environ)
    assert (done.returncode, silent(done)) == (code, True), done


@pytest.mark.parametrize("words", [["env"], ["-h"], ["plan"], ["fleet"], ["fleet", "-json"], ["deploy", "-h"]], ids=" ".join)
def test_a_reader_that_has_seen_enough_ends_the_output_silently(environ: dict[str, str], directory: Path, words: list[str]) -> None:
    call = [*COMMAND, *words, *(["-dir", str(directory)] if words == ["plan"] else [])]
    script = 'set -o pipefail; "$@" | head -1 >/dev/null'
    done = subprocess.run(["bash", "-c", script, "bash", *call], env=environ, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_closed_descriptor_is_never_a_connection_to_the_database(environ: dict[str, str], directory: Path) -> None:
    """What a migration's `RAISE NOTICE`, a library or a child writes to standard error would else be written into the connection."""
    program = (
        "import os, sys; from migrator.cli import output; output.prepare(); "
        "assert all(os.readlink(f'/proc/self/fd/{n}') == '/dev/null' for n in (0, 1, 2)); print('x'); sys.stderr.write('y'); sys.stdin.read()"
    )
    done = subprocess.run(["sh", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, program], env=environ, check=False)
    assert done.returncode == 0
