"""What is applied: for each class of statement a set of files whose interesting statement is among others. Fixed, so that a seed means the same kills on
every machine; without volatile values, so that two databases can be compared.

A set is one text under `mix/ENGINE/`: `-- class:` names it, `-- asks:` says why a question may be the right end, each `-- file` begins a file's Up, and
`{db}` is the database's name (what belongs to the whole server, as a function, carries it in its name). The services' own files are sets, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from migrator.targets import Engine

PROJECT = Path(__file__).resolve().parents[3]
_TEXTS = Path(__file__).with_name("mix")
_SERVICES = {
    Engine.POSTGRES: ("auth-service", "authorization-service"),
    Engine.CLICKHOUSE: ("analytics-service", "audit-service"),
}
_FILE = re.compile(r"^-- file(: no transaction)?\n", re.MULTILINE)


@dataclass(frozen=True)
class FileSet:
    """One set of files.

    Args:
        kind: the class of statement it stands for.
        files: name and text of each.
        asks: whether a question is the right end where it is killed in the wrong moment, and why; empty if every kill must be settled.
        counts_only: whether its data hold the time, so that rows are counted and not compared.
    """

    engine: Engine
    kind: str
    files: tuple[tuple[str, str], ...]
    asks: str = ""
    counts_only: bool = False


def of(engine: Engine) -> list[FileSet]:
    """Returns the mix of an engine, in a fixed order."""
    sets = [_read(engine, path.read_text(encoding="utf-8")) for path in sorted((_TEXTS / engine).glob("*.sql"))]
    return sets + [_service(engine, name) for name in _SERVICES[engine]]


def _read(engine: Engine, text: str) -> FileSet:
    head, *parts = _FILE.split(text)
    notes = dict(line.removeprefix("-- ").split(": ", 1) for line in head.splitlines() if line)
    files = []
    for number, (alone, body) in enumerate(zip(parts[::2], parts[1::2], strict=True), start=1):
        note = "-- +goose NO TRANSACTION\n" if alone else ""
        files.append((f"{number:05d}_step_{number}.sql", f"{note}-- +goose Up\n{body.strip()}\n\n-- +goose Down\nSELECT {number};\n"))
    return FileSet(engine, notes["class"], tuple(files), notes.get("asks", ""))


def _service(engine: Engine, name: str) -> FileSet:
    folder = PROJECT / "services" / name / "migrations"
    files = tuple((path.name, path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.sql")))
    return FileSet(engine, f"files of {name}", files, counts_only=True)
