"""Verbs: which function runs each, what it takes, one line of help; the engine's own in one table. Nothing is imported here: the help needs no
more. Other packages bring theirs as entry points (`migrator.cli.extensions`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrator.cli.go_flags import Flag


class VerbEntry:
    """A verb, as an entry of the command's table.

    `function` runs it: `module:function` of this package, or the function itself; it is given the call (an engine's verb: an `EngineCall`) and
    returns the exit code. `arguments` are its words, `[X]` may be left out, `X …` may be several.

    `flags`: those of a verb of another package; the engine's flags say themselves whose they are. `standalone`: works without a database;
    `streams`: its JSON is a line per event; `writes`: it may change a database.
    """

    __slots__ = ("arguments", "flags", "function", "goose", "name", "standalone", "streams", "summary", "writes")

    def __init__(
        self,
        name: str,
        function: str | Callable[[Any], int],
        summary: str,
        *,
        arguments: str = "",
        flags: tuple[Flag, ...] = (),
        goose: bool = False,
        standalone: bool = False,
        streams: bool = False,
        writes: bool = False,
    ) -> None:
        self.name = name
        self.function = function
        self.summary = summary
        self.arguments = arguments
        self.flags = flags
        self.goose = goose
        self.standalone = standalone
        self.streams = streams
        self.writes = writes

    def load(self) -> Callable[[Any], int]:
        """Returns the function that runs the verb; imports its module."""
        if not isinstance(self.function, str):
            return self.function
        from importlib import import_module

        module, _, name = self.function.partition(":")
        found: Callable[[Any], int] = getattr(import_module(f"migrator.cli.{module}"), name)
        return found


GOOSE: tuple[VerbEntry, ...] = (
    VerbEntry("up", "migrating:run", "Migrate the DB to the most recent version available", goose=True, streams=True, writes=True),
    VerbEntry("up-by-one", "migrating:run", "Migrate the DB up by 1", goose=True, streams=True, writes=True),
    VerbEntry("up-to", "migrating:run", "Migrate the DB to a specific VERSION", arguments="VERSION", goose=True, streams=True, writes=True),
    VerbEntry("down", "migrating:run", "Roll back the version by 1", goose=True, streams=True, writes=True),
    VerbEntry("down-to", "migrating:run", "Roll back to a specific VERSION", arguments="VERSION", goose=True, streams=True, writes=True),
    VerbEntry("redo", "migrating:run", "Re-run the latest migration", goose=True, streams=True, writes=True),
    VerbEntry("reset", "migrating:run", "Roll back all migrations", goose=True, streams=True, writes=True),
    VerbEntry("status", "reports:status", "Dump the migration status for the current DB", goose=True),
    VerbEntry("version", "reports:version", "Print the current version of the database", goose=True),
    VerbEntry(
        "create",
        "directory:create",
        "Creates new migration file with the current timestamp",
        arguments="NAME [sql]",
        goose=True,
        standalone=True,
    ),
    VerbEntry("fix", "directory:fix", "Apply sequential ordering to migrations", goose=True, standalone=True),
    VerbEntry("validate", "validate:run", "Check migration files without running them", goose=True, standalone=True),
    VerbEntry("init", "directory:init", "Create the directory `migrations` with a first file", goose=True, standalone=True),
    VerbEntry("env", "reports:env", "Print the environment variables in effect", goose=True, standalone=True),
)

OWN: tuple[VerbEntry, ...] = (
    VerbEntry("plan", "plan:run", "Show what a verb (up unless given) would run, by file and line, and run nothing", arguments="[VERB]"),
    VerbEntry(
        "verify", "reports:verify", "Check that what the versions made is as it was then, and that the files' checksums were recorded"
    ),
    VerbEntry("wait", "wait:run", "Wait until the database has the directory's newest version"),
    VerbEntry("history", "reports:history", "Show who applied what, when, how long it took, and from which bundle"),
    VerbEntry(
        "baseline", "baseline:run", "Record checksums of versions that goose applied; with -to, mark versions as applied", writes=True
    ),
    VerbEntry(
        "repair", "repair:run", "Answer an open question: -done V:I, -not-done V:I, -checksum VERSION, -renamed OLD:NEW", writes=True
    ),
)

ALL: dict[str, VerbEntry] = {verb.name: verb for verb in (*GOOSE, *OWN)}

DRIVERS = ("postgres", "pgx", "clickhouse")

REFUSED_DRIVERS = {
    "redshift": "Redshift speaks PostgreSQL's protocol but has neither its locks nor its catalogue",
    **dict.fromkeys(
        (
            "azuresql",
            "mssql",
            "sqlserver",
            "mysql",
            "tidb",
            "sqlite",
            "sqlite3",
            "spanner",
            "starrocks",
            "turso",
            "libsql",
            "vertica",
            "ydb",
        ),
        "greylag drives PostgreSQL and ClickHouse only",
    ),
}
"""goose's other drivers, and why each is refused."""
