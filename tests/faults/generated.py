"""`make faults PART=schemas` and `PART=grouping`: generated cases by the thousand; resumable, and their numbers are written to docs/faults.md.

python -m tests.faults.generated schemas|grouping [postgres clickhouse] [--cases 2000] [--minutes 45] [--state .sandbox/faults] [--out docs/faults.md]

The tests are the suite's own (test_generated_schemas, test_grouping), a batch of cases at a time; each batch draws from a seed of its own, which is its
number. A batch that fails is run again by the next call, so that what was mended is seen to be.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from migrator.targets import Engine
from tests.faults.matrix import report
from tests.faults.matrix.mix import PROJECT

_MOST_SECONDS = 900.0
"""A batch takes half a minute to two minutes; one that lasts longer hangs."""


@dataclass(frozen=True)
class Part:
    """What is generated: its test, how many cases there are to be and how many a batch has, and what is told of them."""

    name: str
    test: str
    variable: str
    cases: int
    batch: int
    told: str

    @property
    def marks(self) -> tuple[str, str]:
        """Returns what stands around its table in the page."""
        return f"<!-- {self.name}: written by `make faults PART={self.name}` -->", f"<!-- end of {self.name} -->"


PARTS = {
    "schemas": Part("schemas", "test_generated_schemas.py", "GREYLAG_FUZZ_SCHEMAS", 2000, 50, "schemas"),
    "grouping": Part("grouping", "test_grouping.py", "GREYLAG_FUZZ_GROUPS", 1000, 25, "sets of files"),
}


@dataclass(frozen=True)
class Batch:
    """How one batch ended: its number, which is its seed, what its test counted, and whether all of it held."""

    number: int
    counts: Mapping[str, int]
    held: bool


def main() -> int:
    """Runs what is missing, and returns 1 if a case failed or some are still missing."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help="postgres, clickhouse, or both")
    parser.add_argument("--cases", type=int, help="cases per engine (default 2000 schemas, 1000 groupings)")
    parser.add_argument(
        "--minutes", type=float, default=45.0, help="begin no batch after that; the same command goes on later (default 45)"
    )
    parser.add_argument("--state", type=Path, default=PROJECT / ".sandbox" / "faults", help="where the endings are kept")
    parser.add_argument("--out", type=Path, default=PROJECT / "docs" / "faults.md")
    arguments = parser.parse_args()
    part = PARTS[arguments.part]
    wanted = arguments.cases or part.cases
    until = time.monotonic() + arguments.minutes * 60
    arguments.state.mkdir(parents=True, exist_ok=True)
    engines = [Engine(name) for name in arguments.engines] or [*Engine]
    threads = [threading.Thread(target=_run, args=(part, engine, wanted, until, arguments.state)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {engine: read(_kept(arguments.state, part, engine)) for engine in Engine}
    page = arguments.out.read_text(encoding="utf-8")
    arguments.out.write_text(report.between(page, *part.marks, table(part, found)), encoding="utf-8")
    failed = [(engine, item.number) for engine in engines for item in found[engine] if not item.held]
    missing = [engine for engine in engines if cases(found[engine]) < wanted]
    for engine in engines:
        print(f"{engine}: {cases(found[engine])} of {wanted} {part.told}")
    for engine, number in failed:
        print(f"{engine}: batch {number} failed; its output is in {_output(arguments.state, part, engine, number)}")
    return 1 if failed or missing else 0


def cases(found: Sequence[Batch]) -> int:
    """Returns how many cases were run to their end, and held."""
    return sum(item.counts.get("cases", 0) for item in found)


def table(part: Part, found: Mapping[Engine, Sequence[Batch]]) -> str:
    """Returns the lines between the part's marks."""
    lines = [
        f"Measured {datetime.now(UTC):%Y-%m-%d}.",
        "",
        f"| engine | {part.told} that held | failed | counted in them |",
        "|---|---|---|---|",
    ]
    for engine, batches in found.items():
        counts: Counter[str] = Counter()
        for item in batches:
            counts.update(item.counts)
        failed = sum(not item.held for item in batches)
        other = ", ".join(f"{number:,} {name}" for name, number in sorted(counts.items()) if name != "cases")
        name = "PostgreSQL" if engine is Engine.POSTGRES else "ClickHouse"
        lines.append(f"| {name} | {counts['cases']:,} | {failed} | {other or 'not run'} |")
    return "\n".join(lines)


def read(kept: Path) -> list[Batch]:
    """Reads the batches of earlier runs, the last word on each."""
    if not kept.exists():
        return []
    lines = [Batch(**json.loads(line)) for line in kept.read_text(encoding="utf-8").splitlines()]
    return list({item.number: item for item in lines}.values())


def _kept(state: Path, part: Part, engine: Engine) -> Path:
    return state / f"{part.name}-{engine}.jsonl"


def _output(state: Path, part: Part, engine: Engine, number: int) -> Path:
    return state / f"{part.name}-{engine}-{number}.txt"


def _run(part: Part, engine: Engine, wanted: int, until: float, state: Path) -> None:
    """Runs batches until there are enough cases, or the time is over."""
    kept = _kept(state, part, engine)
    found = {item.number: item for item in read(kept)}
    numbers = iter([number for number, item in found.items() if not item.held])
    while time.monotonic() < until and cases([*found.values()]) < wanted:
        number = next(numbers, max(found, default=-1) + 1)
        batch = _batch(part, engine, number, state)
        found[number] = batch
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(batch)) + "\n")
        said = "" if batch.held else f"; batch {number} FAILED: {_output(state, part, engine, number)}"
        print(f"{engine}: {cases([*found.values()])} of {wanted} {part.told}{said}", file=sys.stderr, flush=True)


def _batch(part: Part, engine: Engine, number: int, state: Path) -> Batch:
    tally = state / f"{part.name}-{engine}.tally"
    tally.unlink(missing_ok=True)
    variables = {part.variable: str(part.batch), "GREYLAG_FUZZ_SEED": str(number), "GREYLAG_FUZZ_TALLY": str(tally)}
    command = [sys.executable, "-m", "pytest", f"tests/{engine}/{part.test}", "-q", "-n", "0", "-p", "no:cacheprovider"]
    output = _output(state, part, engine, number)
    with output.open("w", encoding="utf-8") as file:
        try:
            code = subprocess.run(
                command, cwd=PROJECT, env=os.environ | variables, stdout=file, stderr=subprocess.STDOUT, timeout=_MOST_SECONDS, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = 1
    counts = json.loads(tally.read_text(encoding="utf-8")) if tally.exists() else {}
    tally.unlink(missing_ok=True)
    if code == 0:
        output.unlink()
    return Batch(number, counts, code == 0 and bool(counts))


if __name__ == "__main__":
    sys.exit(main())
