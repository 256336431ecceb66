"""`make faults PART=flows`: forty kills around a real worker; resumable, and the table is written to docs/faults.md.

python -m tests.faults.flows [postgres clickhouse] [--minutes 45] [--seed 1] [--state .sandbox/faults] [--out docs/faults.md]

Cases that ended otherwise than recovered are run again by the next call.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path

from migrator.targets import Engine
from sandbox import processes
from tests.faults.flows import cases, report
from tests.faults.flows.cases import Ending, Verdict
from tests.faults.flows.ground import Ground
from tests.faults.matrix.mix import PROJECT


def main() -> int:
    """Runs what is missing, and returns 1 if a case did not recover or was not run."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help="postgres, clickhouse, or both")
    parser.add_argument("--minutes", type=float, default=45.0, help="begin no case after that; the same command goes on later (default 45)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", type=Path, default=PROJECT / ".sandbox" / "faults", help="where the endings are kept")
    parser.add_argument("--out", type=Path, default=PROJECT / "docs" / "faults.md")
    arguments = parser.parse_args()
    processes.exit_on_signals()
    until = time.monotonic() + arguments.minutes * 60
    arguments.state.mkdir(parents=True, exist_ok=True)
    for engine in [Engine(name) for name in arguments.engines] or [*Engine]:
        run(engine, arguments.state, arguments.seed, until)
    found = {engine: read(kept(arguments.state, engine, arguments.seed)) for engine in Engine}
    page = arguments.out.read_text(encoding="utf-8")
    arguments.out.write_text(report.replace(page, found, arguments.seed), encoding="utf-8")
    text, met = report.summary(found)
    print(text)
    return 0 if met else 1


def run(engine: Engine, state: Path, seed: int, until: float) -> None:
    """Plays the cases of an engine that are missing, as long as there is time."""
    file = kept(state, engine, seed)
    left = cases.missing(cases.draw(engine, seed), read(file))
    if not left or time.monotonic() > until:
        return
    with tempfile.TemporaryDirectory(prefix="greylag-faults-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        with Ground(engine, Path(name)) as ground:
            for case in left:
                if time.monotonic() > until:
                    return
                ending = ground.play(case)
                with file.open("a", encoding="utf-8") as kept_file:
                    kept_file.write(json.dumps(dataclasses.asdict(ending)) + "\n")
                _tell(engine, ending)


def _tell(engine: Engine, ending: Ending) -> None:
    times = f"first word after {ending.said} s, longest silence {ending.silence} s, done after {ending.seconds} s"
    line = f"{engine} {ending.number}: {ending.victim} at {ending.step}: {ending.ended or 'not ended'}, it took {ending.recovery}; {times}"
    well = ending.verdict is Verdict.RECOVERED
    print(f"{line}: {ending.verdict}{'' if well else ' ' + ending.detail[-1500:]}", file=sys.stderr, flush=True)


def kept(state: Path, engine: Engine, seed: int) -> Path:
    """Returns the file of an engine's endings."""
    return state / f"flows-{engine}-{seed}.jsonl"


def read(file: Path) -> list[Ending]:
    """Reads the endings of earlier calls, the last word on each case."""
    if not file.exists():
        return []
    lines = [Ending(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
    return list({item.number: item for item in lines}.values())


if __name__ == "__main__":
    sys.exit(main())
