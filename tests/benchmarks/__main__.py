"""`make bench`: every row of docs/benchmarks.md, measured in interleaved runs on this machine.

python -m tests.benchmarks [ROW ...] [--rounds N] [--blocker-seconds S] [--out docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import compileall
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from sandbox.databases.clickhouse import ClickHouseServer
from sandbox.databases.postgres import PostgresServer
from tests.benchmarks import rows
from tests.benchmarks.bench import Bench

PROJECT = Path(__file__).resolve().parents[2]
COMPILED = ("migrator", "psycopg", "postgast", "google.protobuf", "urllib3", "clickhouse_connect", "lz4", "backports.zstd")
"""What the wheel brings, compiled as in an image, and what the bare loop on ClickHouse brings; PYTHONDONTWRITEBYTECODE may be set here."""

START = """**What an even smaller start would cost.** An `up` of 20 files on PostgreSQL spends more than half of its processor time on being imported.
Of all of it, the interpreter takes a twentieth, psycopg a fifth (as the command imports it: without asyncio, ssl and package metadata, which took
another fifth), the making of some 90 frozen dataclasses a fifth, compiling regular expressions a fourteenth. To go below that costs typed plans and
events (tuples and dictionaries start quicker), or psycopg itself: its part in C can't be imported without its part in Python."""
"""Shares of processor time as `-X importtime` and `time.thread_time` around `dataclass` and `re.compile` tell them."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"rows to measure, all by default: {', '.join(rows.ROWS)}")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per row (default 5)")
    parser.add_argument("--blocker-seconds", type=float, default=30.0, help="how long the reader of the user-pause row holds its table")
    parser.add_argument("--out", type=Path, default=PROJECT / "docs" / "benchmarks.md")
    arguments = parser.parse_args()
    chosen = arguments.rows or list(rows.ROWS)
    unknown = [name for name in chosen if name not in rows.ROWS]
    if unknown:
        parser.error(f"unknown row: {', '.join(unknown)}")
    for package in COMPILED:
        for place in _places(package):
            compileall.compile_dir(place, quiet=2)
    with tempfile.TemporaryDirectory(prefix="greylag-bench-") as folder:
        results = _measure(Path(folder), chosen, arguments)
    text = _page(results, arguments)
    print(text)
    whole = set(chosen) == set(rows.ROWS)
    if whole or arguments.out.exists():
        arguments.out.write_text(text if whole else _with_rows(arguments.out.read_text(), results))
        _say(f"written to {arguments.out}")
    return 0


def _places(package: str) -> list[str]:
    """The directories of an installed package; none where it, or what it lies in, is not there."""
    try:
        found = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # a child's parent is imported; Python 3.14 has zstd itself and needs no `backports`
        return []
    return list(found.submodule_search_locations or ()) if found else []


def _with_rows(page: str, results: list[rows.Result]) -> str:
    """A page with the rows of some results in place of the older rows about the same work."""
    lines = page.splitlines()
    measured = [line for result in results for line in result.table]
    for work in dict.fromkeys(line.split("|")[1] for line in measured):
        places = [number for number, line in enumerate(lines) if line.startswith(f"|{work}|")]
        fresh = [line for line in measured if line.startswith(f"|{work}|")]
        if places:
            lines[places[0] : places[-1] + 1] = fresh
    return "\n".join(lines) + "\n"


def _measure(folder: Path, chosen: list[str], arguments: argparse.Namespace) -> list[rows.Result]:
    goose = _goose()
    folder.chmod(0o755)  # the embedded PostgreSQL runs as another user
    with PostgresServer(folder / "postgres", durable=True) as postgres, ClickHouseServer(folder / "clickhouse") as clickhouse:
        bench = Bench(folder, postgres, clickhouse, goose, arguments.rounds, arguments.blocker_seconds, _say)
        found = []
        for name in chosen:
            _say(f"{name}:")
            found.append(rows.ROWS[name](bench))
    return found


def _goose() -> str:
    found = os.environ.get("GREYLAG_TEST_GOOSE") or shutil.which("goose") or str(Path.home() / ".cache" / "greylag" / "bin" / "goose")
    if not Path(found).exists():
        raise SystemExit("goose v3.27.3 is needed as the baseline: go install github.com/pressly/goose/v3/cmd/goose@v3.27.3")
    return found


def _page(results: list[rows.Result], arguments: argparse.Namespace) -> str:
    table = [line for result in results for line in result.table]
    notes = [line for result in results for line in result.notes]
    return "\n".join(
        [
            "# Benchmarks",
            "",
            f"Measured {datetime.now(UTC):%Y-%m-%d} by `make bench` on {os.cpu_count()} cores, Python {platform.python_version()}, "
            f"{arguments.rounds} interleaved rounds per row; ratios are medians of the rounds' own ratios, with their spread. "
            "Bytecode is compiled, as an image ships it; goose is v3.27.3, its own binary. Both write to PostgreSQL with fsync on.",
            "",
            "| work | what / baseline | ratio | bar | | what | baseline |",
            "|---|---|---|---|---|---|---|",
            *table,
            "",
            START,
            "",
            *notes,
            "",
        ]
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
