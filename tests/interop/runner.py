"""Runs the real goose and greylag side by side, and makes their texts comparable."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Result:
    """What a command did. `text` is standard error without greylag's own lines, times and durations masked."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return comparable(self.err)

    @property
    def own(self) -> list[str]:
        """greylag's own lines."""
        return [line.removeprefix("greylag: ") for line in self.err.splitlines() if line.startswith("greylag: ")]


def comparable(text: str) -> str:
    lines = [line for line in text.split("\n") if not line.startswith("greylag:")]
    masked = re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", "TIME ", "\n".join(lines), flags=re.MULTILINE)
    masked = re.sub(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}", "A TIME WHEN IT WAS APPLIED", masked)
    return re.sub(r"\((?:\d+m)?[\d.]+(?:s|ms|µs|ns)\)", "(DURATION)", masked)


def _run(command: list[str], cwd: Path, environ: dict[str, str], timeout: float) -> Result:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GOOSE_", "GREYLAG_"))}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment | environ,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
        timeout=timeout,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Tools:
    """Both commands in one working directory."""

    goose_binary: Path
    cwd: Path

    def goose(self, *arguments: str | Path, **environ: str) -> Result:
        return _run([str(self.goose_binary), *map(str, arguments)], self.cwd, environ, 120)

    def greylag(self, *arguments: str | Path, **environ: str) -> Result:
        return _run([sys.executable, "-m", "migrator.cli", *map(str, arguments)], self.cwd, {"PYTHONPATH": str(ROOT), **environ}, 120)


def files(directory: Path, contents: dict[str, str]) -> None:
    """Writes migration files, replacing what was there."""
    directory.mkdir(exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    for name, text in contents.items():
        (directory / name).write_text(text, encoding="utf-8")


def table(number: int, down: bool = True) -> str:
    """A migration that creates table t<number>."""
    return f"-- +goose Up\nCREATE TABLE t{number} (id int);\n" + (f"-- +goose Down\nDROP TABLE t{number};\n" if down else "")


def tables(*numbers: int) -> dict[str, str]:
    """Several of them, by file name."""
    return {f"{number:05d}_t{number}.sql": table(number) for number in numbers}
