"""The verbs that write into a directory of migrations, as goose does: `create` a file, `fix` the numbers, `init` the directory. None needs a database.

goose's default type of a new file is a Go migration, which only a binary built with it can run: greylag writes SQL, and says so. goose's own first
file can't be read by goose (a comment in it mentions `+goose`); this one can.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from migrator import errors
from migrator.cli.engine_calls import EngineCall
from migrator.planning import files

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


def create(call: EngineCall) -> int:
    """Creates the file. Raises UsageError for a missing NAME or another type than sql, FileError when it can't be written."""
    words = call.invocation.arguments
    if not words:
        raise errors.UsageError(
            "create must be of form: goose DRIVER DBSTRING [OPTIONS] create NAME [go|sql]", hint="greylag create NAME sql"
        )
    kind = words[1] if len(words) == 2 else "sql"
    if kind != "sql":
        raise errors.UsageError(
            f'a migration of type "{kind}" is not created: greylag runs SQL only',
            code="unknown-type",
            hint=f"greylag -dir {call.invocation.directory} create {words[0]} sql",
        )
    _write(call, call.invocation.directory, words[0])
    if len(words) != 2 and not call.invocation.label:  # goose has no targets, and so no habit to break
        call.own("SQL was created; goose would have created a Go file, because no type was given [default-type]")
    return 0


def fix(call: EngineCall) -> int:
    """Renames time-stamped files to sequence numbers. Raises FileError when nothing is there, or a name is taken."""
    renamed = files.fix(call.load())
    for old, new in renamed:
        call.log(f"RENAMED {old} => {new}")
    call.document["renamed"] = [{"from": old, "to": new} for old, new in renamed]
    if renamed:
        call.own("databases that applied the old versions know them by their old numbers: run fix before a file is released")
    return 0


def init(call: EngineCall) -> int:
    """Creates the directory (`migrations` unless -dir names another) with a first, empty migration; in a checkout also a first fleet file, unless
    -dir says that only the directory is meant. Raises FileError when there was nothing left to create."""
    directory = call.invocation.directory
    fleet_written = "dir" not in call.values.given and _write_fleet(call)
    if directory in ("", "."):
        directory = "migrations"
    path = Path(directory)
    if path.exists() and fleet_written:
        call.own(f"{directory} exists already and was left as it is")
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
    Path(_write(call, directory, "initial")).write_text(TEMPLATE, encoding="utf-8")
    return 0


def _write(call: EngineCall, directory: str, name: str) -> str:
    """Writes a new migration, prints goose's line, returns the path."""
    path = files.create(directory, name, "sql", call.values.boolean("s"), datetime.now(UTC))
    call.log(f"Created new file: {path}")
    call.document["file"] = path
    return path


def _write_fleet(call: EngineCall) -> bool:
    """Writes a first fleet.yaml where there is none; False without a console, which is no part of the wheel."""
    from migrator.cli import extensions

    try:
        module = extensions.fleet("first_file")
    except errors.UsageError as error:
        if error.code == "not-installed":
            call.own(f"warning: {error.describe()}")
        return False
    path = module.fleet_path()
    if path.exists():
        return False
    module.write_fleet(path)
    call.own(f"wrote {path}: `GREYLAG_FLEET={path} greylag fleet` shows how it is understood")
    return True
