"""`init`: the directory with a first, empty migration; in a checkout also a first fleet file, unless -dir says that only the directory is meant.

goose's own first file can't be read by goose (a comment in it mentions `+goose`); this one can.
"""

from __future__ import annotations

from pathlib import Path

from migrator import errors
from migrator.cli import create
from migrator.cli.session import Session

TEMPLATE = """\
-- The first migration. Rename it, write SQL, then: greylag up
--
-- A file has an Up section, which applies it, and a Down section, which takes it back.
-- A statement ends at a line that ends with a semicolon; bodies that hold semicolons stand between
-- StatementBegin and StatementEnd annotations. The NO TRANSACTION annotation runs a file without a transaction.

-- +goose Up
SELECT 'up SQL query';

-- +goose Down
SELECT 'down SQL query';
"""


def run(session: Session) -> int:
    """Creates the directory (`migrations` unless -dir names another) and the file. Raises FileError when there was nothing left to create."""
    directory = session.invocation.directory
    fleet_written = "dir" not in session.values.given and _write_fleet(session)
    if directory in ("", "."):
        directory = "migrations"
    path = Path(directory)
    if path.exists() and fleet_written:
        session.own(f"{directory} exists already and was left as it is")
        return 0
    if path.exists():
        raise errors.FileError(
            f"directory already exists: {directory}", code="directory-exists", hint=f"greylag -dir {directory} create NAME sql"
        )
    try:
        path.mkdir(parents=True, mode=0o755)
    except OSError as error:
        raise errors.FileError(
            f"mkdir {directory}: {(error.strerror or '').lower()}", code="not-created", hint="choose a writable place"
        ) from None
    Path(create.write(session, directory, "initial")).write_text(TEMPLATE, encoding="utf-8")
    return 0


def _write_fleet(session: Session) -> bool:
    """Writes a first fleet.yaml where there is none; False without a console, which is no part of the wheel."""
    from importlib import import_module

    try:
        module = import_module("deployments.console.init")
    except ModuleNotFoundError:
        return False
    path = module.fleet_path()
    if path.exists():
        return False
    module.write_fleet(path)
    session.own(f"wrote {path}: `GREYLAG_FLEET={path} greylag fleet` shows how it is understood")
    return True
