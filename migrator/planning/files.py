"""A directory of migration files: names, versions, order, checksums and the digest of the bundle, by the rules of goose's CLI (goose.md §3).

The directory is flat. A file's version is the number before the first `_` of its name. `.go` files are listed, too, so that a run can say that it
can't execute them. An empty directory is no error here: the command decides whether it is one.
"""

from __future__ import annotations

import datetime
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from migrator import errors
from migrator.goose import file_names, goquote, gounicode

if TYPE_CHECKING:
    from migrator.planning.history import Fact

_CHUNK = 1024 * 1024
_CRLF = b"\r\n"

SQL_TEMPLATE = "-- +goose Up\nSELECT 'up SQL query';\n\n-- +goose Down\nSELECT 'down SQL query';\n"
"""The file that `goose create NAME sql` writes since v3.27.0."""

_GO_TEMPLATE = """package migrations

import (
	"context"
	"database/sql"
	"github.com/pressly/goose/v3"
)

func init() {
	goose.AddMigrationContext(up%(name)s, down%(name)s)
}

func up%(name)s(ctx context.Context, tx *sql.Tx) error {
	// Runs when the migration is applied.
	return nil
}

func down%(name)s(ctx context.Context, tx *sql.Tx) error {
	// Runs when the migration is rolled back.
	return nil
}
"""


@dataclass(frozen=True, slots=True)
class MigrationFile:
    """One migration file.

    Args:
        version: at least 1.
        name: the base name.
        path: the directory as given joined with the name, as goose prints it.
        size: in bytes, when the directory was read.
        kind: "sql" or "go".
    """

    version: int
    name: str
    path: str
    size: int
    kind: str = "sql"
    _known: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def read(self) -> bytes:
        """Returns the file's content, and updates `checksum` to it. Raises FileError when the file can't be read."""
        import hashlib

        content = b"".join(self._chunks())
        self._known.clear()
        self._known["sha256"] = hashlib.sha256(content.replace(_CRLF, b"\n")).hexdigest()
        return content

    def _chunks(self) -> Iterator[bytes]:
        try:
            with Path(self.path).open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk
        except OSError as error:
            raise _unreadable(self.path, self.name, error) from None

    def checksum(self) -> str:
        """Returns the sha256 of the text with CRLF read as LF, in hex, as it was at the last `read`, or at the first call of this method: goose ends a line
        at either, so a checkout's line ends change no statement."""
        if "sha256" not in self._known:
            import hashlib  # takes milliseconds to load, and a run with nothing to do hashes nothing

            digest = hashlib.sha256()
            for chunk in _with_lf(self._chunks()):
                digest.update(chunk)
            self._known["sha256"] = digest.hexdigest()
        return self._known["sha256"]

    def has(self, checksum: str) -> bool:
        """Tells whether a recorded checksum is this file's. Earlier versions recorded the sha256 of the raw bytes, so the file's own bytes and its text with
        every line end as CRLF are accepted, too; they are read only where `checksum` differs."""
        if checksum == self.checksum():
            return True
        if "raw" not in self._known:
            self._know_other_forms()
        return checksum in (self._known["raw"], self._known["crlf"])

    def _know_other_forms(self) -> None:
        import hashlib

        raw, crlf = hashlib.sha256(), hashlib.sha256()

        def chunks() -> Iterator[bytes]:
            for chunk in self._chunks():
                raw.update(chunk)
                yield chunk

        for chunk in _with_lf(chunks()):
            crlf.update(chunk.replace(b"\n", _CRLF))
        self._known.update(raw=raw.hexdigest(), crlf=crlf.hexdigest())


def _with_lf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the text with CRLF read as LF, also where a chunk ends between the two."""
    held = b""
    for chunk in chunks:
        text = held + chunk
        held = b"\r" if text.endswith(b"\r") else b""
        yield text[: len(text) - len(held)].replace(_CRLF, b"\n")
    yield held


@dataclass(frozen=True)
class MigrationSet:
    """The migrations of a directory, ascending by version."""

    directory: str
    migrations: tuple[MigrationFile, ...] = ()

    @property
    def newest(self) -> int:
        """The greatest version; 0 when there is none."""
        return self.migrations[-1].version if self.migrations else 0

    def by_version(self, version: int) -> MigrationFile | None:
        return self._index.get(version)

    def digest(self) -> str:
        """Returns the bundle digest: sha256 over the sorted lines `name sha256`, in hex. It identifies the content that is promoted between environments."""
        return self._digest

    def changed(self, facts: Mapping[int, Fact]) -> tuple[int, ...]:
        """Returns the versions whose file does not have the fact's checksum; reads every file that has a fact."""
        return tuple(item.version for item in self.migrations if item.version in facts and not item.has(facts[item.version].checksum))

    @cached_property
    def _index(self) -> dict[int, MigrationFile]:
        return {item.version: item for item in self.migrations}

    @cached_property
    def _digest(self) -> str:
        import hashlib

        lines = sorted(gounicode.encode(f"{item.name} {item.checksum()}\n") for item in self.migrations)
        return hashlib.sha256(b"".join(lines)).hexdigest()


def load(directory: str | os.PathLike[str]) -> MigrationSet:
    """Reads a directory; the files' contents are read later, when they are needed.

    Raises:
        FileError: missing directory, an `.sql` name without a version, or two files of one version; `str()` holds goose's message.
    """
    given = os.fspath(directory)
    sizes = _entries(given)
    prefix = posixpath.join(posixpath.normpath(given), "") if posixpath.normpath(given) != "." else ""
    names = sorted(sizes)
    migrations = [_migration(prefix, name, sizes[name]) for name in names if name.endswith(".sql")]
    for name in names:
        if name.endswith(".go") and not name.endswith("_test.go"):
            try:
                migrations.append(_migration(prefix, name, sizes[name]))
            except errors.FileError:
                continue  # for goose a Go file without a version is a helper
    seen: dict[int, MigrationFile] = {}
    for item in migrations:
        if item.version in seen:
            raise _duplicate(item, seen[item.version])
        seen[item.version] = item
    return MigrationSet(given, tuple(seen[version] for version in sorted(seen)))


def next_sequential(migrations: MigrationSet) -> int:
    """Returns the number after the last version that is no timestamp; 1 when there is none."""
    numbers = [item.version for item in migrations.migrations if file_names.is_sequential(item.version)]
    return max(numbers, default=0) + 1


def create(directory: str | os.PathLike[str], name: str, kind: str, sequential: bool, now: datetime.datetime) -> str:
    """Writes a new migration file and returns its path.

    Args:
        directory: must exist.
        name: the name in words; it becomes snake case.
        kind: the extension, usually "sql"; goose does not check it.
        sequential: number it after the last sequential version instead of by time.
        now: a time with its time zone.

    Raises:
        FileError: the directory is missing, the file exists or can't be written.
    """
    given = os.fspath(directory)
    version = f"{next_sequential(load(given)):05d}" if sequential else now.astimezone(datetime.UTC).strftime(file_names.TIMESTAMP)
    path = posixpath.normpath(posixpath.join(given, f"{version}_{file_names.snake_case(name)}.{kind}"))
    content = _GO_TEMPLATE % {"name": file_names.camel_case(name)} if kind == "go" else SQL_TEMPLATE
    try:
        with Path(path).open("x", encoding="utf-8") as stream:
            stream.write(content)
    except FileExistsError:
        raise errors.FileError(
            "failed to create migration file: %!w(<nil>)",  # goose's own slip, byte for byte
            code="file-exists",
            where=errors.Location(path),
            hint="choose another name, or wait a second for another timestamp",
        ) from None
    except OSError as error:
        raise errors.FileError(
            f"failed to create migration file: {failure(path, error)}",
            code="create-failed",
            where=errors.Location(path),
            hint=f"make the directory first: mkdir -p {given}" if isinstance(error, FileNotFoundError) else "",
        ) from None
    return path


def fix(migrations: MigrationSet) -> list[tuple[str, str]]:
    """Renames timestamped files to sequential numbers after the last one, and returns (old, new) base names (goose.md §3.5).

    The database is not changed: goose uses this before a branch is merged.

    Raises:
        FileError: nothing to rename from, or a target exists.
    """
    if not migrations.migrations:
        raise errors.FileError("no migration files found", code="no-migration-files", hint=f"look at -dir {migrations.directory}")
    number = next_sequential(migrations)
    renamed = []
    for item in migrations.migrations:
        if not file_names.is_timestamp(item.version):
            continue
        new = item.name.replace(str(item.version), f"{number:05d}", 1)
        target = Path(item.path).with_name(new)
        if target.exists():
            raise errors.FileError(
                f"rename {item.path} {target}: file exists",
                code="file-exists",
                where=errors.Location(item.path),
                hint=f"move {target} away first",
            )
        Path(item.path).rename(target)
        renamed.append((item.name, new))
        number += 1
    return renamed


def _entries(directory: str) -> dict[str, int]:
    """Returns the sizes of the `.sql` and `.go` entries by name. goose looks at names only: a directory or a dangling link with such a name is a migration,
    too, and reading it fails when its turn comes."""
    try:
        with os.scandir(directory) as entries:
            return {item.name: _size(item) for item in entries if item.name.endswith((".sql", ".go"))}
    except FileNotFoundError:
        raise errors.FileError(
            f"{directory} directory does not exist",
            code="missing-directory",
            where=errors.Location(directory),
            hint="name the directory of the migration files with -dir, or GOOSE_MIGRATION_DIR",
        ) from None
    except NotADirectoryError:
        return {}  # goose finds nothing in a file
    except OSError as error:
        raise errors.FileError(
            f"open {directory}: {_reason(error)}",
            code="unreadable-directory",
            where=errors.Location(directory),
            hint="check that the directory may be read",
        ) from None


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # reading it will say why
        return 0


def _migration(prefix: str, name: str, size: int) -> MigrationFile:
    path = prefix + name
    try:
        version = file_names.version_of(name)
    except ValueError as error:
        raise errors.FileError(
            f"could not parse SQL migration file {goquote.quote(path)}: {error}",
            code="bad-file-name",
            where=errors.Location(path),
            hint="name it VERSION_name.sql with a version of at least 1, for example 00001_create_users.sql, or move it out of the directory",
        ) from None
    return MigrationFile(version, name, path, size, "go" if name.endswith(".go") else "sql")


def _duplicate(item: MigrationFile, other: MigrationFile) -> errors.FileError:
    return errors.FileError(
        f"goose: duplicate version {item.version} detected:\n{item.path}\n{other.path}",
        code="duplicate-version",
        where=errors.Location(item.path),
        hint="give the newer of the two a version of its own",
    )


def _unreadable(path: str, name: str, error: OSError) -> errors.FileError:
    failed = "failed to open SQL migration file"
    if isinstance(error, IsADirectoryError):  # goose opens it and fails at the first line
        failed = "failed to parse SQL migration file: failed to scan migration"
    return errors.FileError(
        f"ERROR {name}: {failed}: {failure(path, error)}",
        code="unreadable-file",
        where=errors.Location(path),
        hint="check that the file is there and may be read",
    )


def failure(path: str, error: OSError) -> str:
    """Returns Go's text for a file that can't be read: the call that failed, the path, the operating system's message."""
    return f"{'read' if isinstance(error, IsADirectoryError) else 'open'} {path}: {_reason(error)}"


def _reason(error: OSError) -> str:
    """Returns the operating system's message, as Go writes it."""
    words = error.strerror or str(error)
    return words[:1].lower() + words[1:]
