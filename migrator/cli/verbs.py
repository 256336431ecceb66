"""The verbs: which module runs each, what it takes, one line of help. Nothing is imported here: the help needs no more than this table."""

from __future__ import annotations


class Verb:
    """One verb. `standalone`: works without a database; `streams`: its JSON is a line per event; `writes`: it may change a database."""

    __slots__ = ("arguments", "goose", "module", "name", "standalone", "streams", "summary", "writes")

    def __init__(
        self,
        name: str,
        summary: str,
        *,
        arguments: str = "",
        goose: bool = False,
        standalone: bool = False,
        streams: bool = False,
        writes: bool = False,
    ) -> None:
        self.name = name
        self.module = "migrator.cli." + name.replace("-", "_")
        self.summary = summary
        self.arguments = arguments
        self.goose = goose
        self.standalone = standalone
        self.streams = streams
        self.writes = writes


GOOSE: tuple[Verb, ...] = (
    Verb("up", "Migrate the DB to the most recent version available", goose=True, streams=True, writes=True),
    Verb("up-by-one", "Migrate the DB up by 1", goose=True, streams=True, writes=True),
    Verb("up-to", "Migrate the DB to a specific VERSION", arguments="VERSION", goose=True, streams=True, writes=True),
    Verb("down", "Roll back the version by 1", goose=True, streams=True, writes=True),
    Verb("down-to", "Roll back to a specific VERSION", arguments="VERSION", goose=True, streams=True, writes=True),
    Verb("redo", "Re-run the latest migration", goose=True, streams=True, writes=True),
    Verb("reset", "Roll back all migrations", goose=True, streams=True, writes=True),
    Verb("status", "Dump the migration status for the current DB", goose=True),
    Verb("version", "Print the current version of the database", goose=True),
    Verb("create", "Creates new migration file with the current timestamp", arguments="NAME [sql]", goose=True, standalone=True),
    Verb("fix", "Apply sequential ordering to migrations", goose=True, standalone=True),
    Verb("validate", "Check migration files without running them", goose=True, standalone=True),
    Verb("init", "Create the directory `migrations` with a first file", goose=True, standalone=True),
    Verb("env", "Print the environment variables in effect", goose=True, standalone=True),
)

OWN: tuple[Verb, ...] = (
    Verb("plan", "Show what a verb (up unless given) would run, by file and line, and run nothing", arguments="[VERB]"),
    Verb("verify", "Check that what the versions made is as it was then, and that the files' checksums were recorded"),
    Verb("wait", "Wait until the database has the directory's newest version"),
    Verb("history", "Show who applied what, when, how long it took, and from which bundle"),
    Verb("baseline", "Record checksums of versions that goose applied; with -to, mark versions as applied", writes=True),
    Verb("repair", "Answer an open question: -done V:I, -not-done V:I, -checksum VERSION", writes=True),
)

ALL: dict[str, Verb] = {verb.name: verb for verb in (*GOOSE, *OWN)}

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
