"""The byte sweep: a run of six files that is cut after every so many bytes of each direction, and what the next run makes of it.

python -m tests.faults.matrix.sweep [ENGINE ...]      every 500th byte (`make faults PART=sweep`); the suite takes larger steps
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from migrator.codes import ExitCode
from migrator.targets import Engine
from tests.faults.matrix.interruptions import Fault, Interruption, Way
from tests.faults.matrix.lanes import Lane
from tests.faults.matrix.mix import FileSet
from tests.faults.matrix.verdicts import Ending, Verdict

STEP = 500
"""Bytes between two cuts."""

_TABLE = {
    Engine.POSTGRES: "CREATE TABLE t{0} (id int PRIMARY KEY, n int);",
    Engine.CLICKHOUSE: "CREATE TABLE t{0} (id UInt64, n Int64) ENGINE = MergeTree ORDER BY id;",
}
_ROWS = {
    Engine.POSTGRES: "INSERT INTO t{0} SELECT n, n FROM generate_series(1, 100) AS n;\nUPDATE t{0} SET n = n + 1;",
    Engine.CLICKHOUSE: "INSERT INTO t{0} SELECT number, number FROM numbers(100);\nALTER TABLE t{0} UPDATE n = n + 1 WHERE 1;",
}


def six_files(engine: Engine) -> FileSet:
    """Returns six files, each a table, its rows, and a change of them."""
    files = tuple(
        (
            f"{number:05d}_t{number}.sql",
            f"-- +goose Up\n{_TABLE[engine]}\n{_ROWS[engine]}\n\n-- +goose Down\nDROP TABLE t{{0}};\n".replace("{0}", str(number)),
        )
        for number in range(1, 7)
    )
    return FileSet(engine, "six files", files)


def sweep(lane: Lane, step: int) -> Iterator[Ending]:
    """Cuts after every `step` bytes of each direction; yields how each ended."""
    files = six_files(lane.engine)
    usual = lane.undisturbed(files)
    for way, total in ((Way.SENT, usual.sent), (Way.RECEIVED, usual.received)):
        for after in range(step, total, step):
            yield lane.interrupt(after, files, Interruption(Fault.CUT, way, after, 0.0))


def faults_of(found: list[Ending]) -> list[Ending]:
    """Returns the endings that must not be: work missing or doubled after 0, neither done nor asked, an exit code that the table doesn't have."""
    codes = frozenset(ExitCode)
    return [item for item in found if item.verdict not in (Verdict.SETTLED, Verdict.ASKED) or not codes.issuperset(item.exits)]


def main() -> int:
    """Sweeps both engines, or those that are named; returns 1 if anything was wrong."""
    wrong = 0
    for engine in [Engine(name) for name in sys.argv[1:]] or [*Engine]:
        with tempfile.TemporaryDirectory(prefix="greylag-sweep-") as folder, Lane(engine, Path(folder) / "lane") as lane:
            Path(folder).chmod(0o711)
            found = []
            for ending in sweep(lane, STEP):
                found.append(ending)
                print(f"{engine} {len(found)}: {ending.fault}: {ending.exits} {ending.verdict}", file=sys.stderr)
        failed = faults_of(found)
        wrong += len(failed)
        asked = sum(item.verdict is Verdict.ASKED for item in found)
        print(f"{engine}: {len(found)} cuts, {len(failed)} wrong, {asked} asked")
        for item in failed:
            print(f"  {item}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
