"""`create [@/service] NAME [sql]`: a new migration file, named and filled as goose does.

goose's default type is a Go migration, which only a binary built with it can run. greylag writes SQL, and says so.
"""

from __future__ import annotations

from datetime import UTC, datetime

from migrator import errors
from migrator.cli.session import Session
from migrator.planning import files


def run(session: Session) -> int:
    """Creates the file. Raises UsageError for a missing NAME or another type than sql, FileError when it can't be written."""
    words = session.invocation.arguments
    if not words:
        raise errors.UsageError(
            "create must be of form: goose DRIVER DBSTRING [OPTIONS] create NAME [go|sql]", hint="greylag create NAME sql"
        )
    kind = words[1] if len(words) == 2 else "sql"
    if kind != "sql":
        raise errors.UsageError(
            f'a migration of type "{kind}" is not created: greylag runs SQL only',
            code="unknown-type",
            hint=f"greylag -dir {session.invocation.directory} create {words[0]} sql",
        )
    write(session, session.invocation.directory, words[0])
    if len(words) != 2 and not session.invocation.label:  # goose has no targets, and so no habit to break
        session.own("SQL was created; goose would have created a Go file, because no type was given [default-type]")
    return 0


def write(session: Session, directory: str, name: str) -> str:
    """Writes a new migration, prints goose's line, returns the path."""
    path = files.create(directory, name, "sql", session.values.boolean("s"), datetime.now(UTC))
    session.log(f"Created new file: {path}")
    session.document["file"] = path
    return path
