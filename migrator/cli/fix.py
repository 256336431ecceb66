"""`fix`: renames time-stamped files to sequence numbers, as goose does. Touches files only, never a database."""

from __future__ import annotations

from migrator.cli.session import Session
from migrator.planning import files


def run(session: Session) -> int:
    """Renames the files. Raises FileError when nothing is there, or a name is taken."""
    renamed = files.fix(session.load())
    for old, new in renamed:
        session.log(f"RENAMED {old} => {new}")
    session.document["renamed"] = [{"from": old, "to": new} for old, new in renamed]
    if renamed:
        session.own("databases that applied the old versions know them by their old numbers: run fix before a file is released")
    return 0
