"""`make faults PART=engine`: the whole kill matrix; resumable, and its table is written to docs/faults.md.

python -m tests.faults.matrix [postgres clickhouse] [--kills 800] [--minutes 45] [--seed 1] [--lanes 2] [--state .sandbox/faults] [--out docs/faults.md]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from migrator.targets import Engine
from tests.faults.matrix import mix, report, verdicts
from tests.faults.matrix.lanes import Lane
from tests.faults.matrix.mix import PROJECT


def main() -> int:
    """Runs what is missing, and returns 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help="postgres, clickhouse, or both")
    parser.add_argument("--kills", type=int, default=800, help="interruptions per engine (default 800)")
    parser.add_argument("--minutes", type=float, default=45.0, help="stop then; the same command goes on later (default 45)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lanes", type=int, default=2, help="servers side by side, of each engine (default 2)")
    parser.add_argument("--state", type=Path, default=PROJECT / ".sandbox" / "faults", help="where the endings are kept")
    parser.add_argument("--out", type=Path, default=PROJECT / "docs" / "faults.md")
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.minutes * 60
    engines = [Engine(name) for name in arguments.engines] or [*Engine]
    found = run(engines, arguments, until)
    page = arguments.out.read_text(encoding="utf-8")
    page = report.replace(page, found, arguments.seed)
    arguments.out.write_text(page, encoding="utf-8")
    text, met = report.summary(found)
    print(text)
    return 0 if met else 1


def run(engines: list[Engine], arguments: argparse.Namespace, until: float) -> dict[Engine, list[verdicts.Ending]]:
    """Runs the interruptions that no kept file has yet; returns all endings of each engine."""
    arguments.state.mkdir(parents=True, exist_ok=True)
    found: dict[Engine, list[verdicts.Ending]] = {}
    threads: list[threading.Thread] = []
    problems: list[BaseException] = []
    with tempfile.TemporaryDirectory(prefix="greylag-faults-") as folder:
        Path(folder).chmod(0o711)
        for engine in engines:
            kept = arguments.state / f"{engine}-{arguments.seed}.jsonl"
            found[engine] = read(kept)
            work = _missing(engine, arguments, {item.number for item in found[engine]})
            save = _saver(kept, found[engine])
            for lane in range(arguments.lanes):
                place = Path(folder) / f"{engine}-{lane}"
                threads.append(threading.Thread(target=_work, args=(engine, place, work, save, until, problems)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if problems:
        raise problems[0]
    return found


def read(kept: Path) -> list[verdicts.Ending]:
    """Reads the endings of an earlier run."""
    if not kept.exists():
        return []
    lines = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    return [verdicts.Ending(**{**line, "exits": tuple(line["exits"])}) for line in lines]


class _Numbers:
    """Gives out the numbers of what is missing, one at a time, to several threads."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        self._lock = threading.Lock()

    def next(self) -> int | None:
        with self._lock:
            return next(self._numbers, None)


def _missing(engine: Engine, arguments: argparse.Namespace, done: set[int]) -> _Numbers:
    return _Numbers(iter([number for number in range(arguments.kills) if number not in done]))


def _saver(kept: Path, found: list[verdicts.Ending]) -> Callable[[verdicts.Ending], None]:
    lock = threading.Lock()

    def save(ending: verdicts.Ending) -> None:
        with lock:
            found.append(ending)
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(dataclasses.asdict(ending)) + "\n")
            if ending.verdict is not verdicts.Verdict.SETTLED or len(found) % 50 == 0:
                print(
                    f"{kept.stem} {len(found)}: {ending.kind}: {ending.fault}: {ending.exits} {ending.verdict} {ending.detail[-300:]}",
                    file=sys.stderr,
                )

    return save


def _work(
    engine: Engine,
    place: Path,
    numbers: _Numbers,
    save: Callable[[verdicts.Ending], None],
    until: float,
    problems: list[BaseException],
) -> None:
    sets = mix.of(engine)
    try:
        with Lane(engine, place) as lane:
            while time.monotonic() < until and not problems and (number := numbers.next()) is not None:
                save(lane.drawn(number, sets[number % len(sets)], random.Random(f"{engine} {number}")))
    except BaseException as problem:  # noqa: BLE001  the other lanes stop, and the command fails with it
        problems.append(problem)


if __name__ == "__main__":
    sys.exit(main())
