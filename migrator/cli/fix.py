"""`fix`: renames time-stamped files to sequence numbers, as goose does. Touches files only, never a database."""

from __future__ import annotations

from pathlib import Path

from migrator import errors
from migrator.cli import names
from migrator.cli.session import Session


def run(session: Session) -> int:
    """Renames the files. Raises FileError when nothing is there, or a name is taken."""
    migrations = session.load().migrations
    if not migrations:
        raise errors.FileError("no migration files found", code="no-migration-files", hint="check -dir")
    number = names.next_sequential(item.version for item in migrations)
    renamed = []
    for item in migrations:
        if not names.is_timestamp(item.version):
            continue
        old = Path(item.path)
        # goose replaces the first occurrence in the whole path, so a directory that bears the number would be renamed; here it is the name's.
        new = old.with_name(item.name.replace(str(item.version), f"{number:05d}", 1))
        if new.exists():
            raise errors.FileError(
                f"rename {old} {new}: file exists", code="name-taken", where=errors.Location(str(old)), hint="rename one of them"
            )
        old.rename(new)
        session.log(f"RENAMED {old.name} => {new.name}")
        renamed.append({"from": old.name, "to": new.name})
        number += 1
    session.document["renamed"] = renamed
    if renamed:
        session.own("databases that applied the old versions know them by their old numbers: run fix before a file is released")
    return 0
