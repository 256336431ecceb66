"""`create NAME [sql]`: a new migration file, named and filled as goose does.

goose's default type is a Go migration, which only a binary built with it can run. greylag writes SQL, and says so.
"""

from __future__ import annotations

from pathlib import Path

from migrator import errors
from migrator.cli import names
from migrator.cli.session import Session


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
    write(session, session.invocation.directory, words[0], names.SQL_TEMPLATE)
    if len(words) != 2:
        session.own("SQL was created; goose would have created a Go file, because no type was given [default-type]")
    return 0


def write(session: Session, directory: str, name: str, content: str) -> None:
    """Writes a new migration and prints goose's line."""
    base = f"{_version(session, directory)}_{names.snake_case(name)}.sql"
    path = names.join(directory, base)
    try:
        with Path(path).open("x", encoding="utf-8", newline="\n") as file:
            file.write(content)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise errors.FileError(
            f"failed to create migration file: open {path}: {reason}",
            code="not-created",
            hint="the directory must exist and be writable: `greylag init` makes one",
        ) from None
    session.log(f"Created new file: {path}")
    session.document["file"] = path


def _version(session: Session, directory: str) -> str:
    if not session.values.boolean("s"):
        return names.timestamp()
    from migrator import files

    return f"{names.next_sequential(item.version for item in files.load(directory).migrations):05d}"
