"""`greylag test`: the migrations of a service, up, down and up again, on a server that needs no installation and is gone afterwards."""

from __future__ import annotations

import os

from deployments.console import edge, rehearsal, targets
from migrator import errors
from migrator.cli import calls, interruption, invocation
from migrator.cli.calls import Call
from migrator.cli.go_flags import Flag
from migrator.cli.verbs import VerbEntry
from migrator.targets import Engine
from tasks import fleet

ENGINES = {"postgres": Engine.POSTGRES, "pgx": Engine.POSTGRES, "clickhouse": Engine.CLICKHOUSE}

DATABASE = "greylag_test"
"""The database of a plain directory, which has no name of its own."""


SERVER = (
    Flag("server", "integer", 0, "major version of PostgreSQL, 16 or 18 (default 18)"),
    Flag("timeout", "duration", 0.0, "for the whole command, e.g. 5m"),
)
"""What `test` and `codegen` are told of their server."""


def run(call: Call) -> int:
    """Tests each target; returns the first failure's exit code."""
    subjects = _subjects(call)
    documents, codes = [], []
    with interruption.guard(call.values.seconds("timeout")):
        for subject in subjects:
            code, document = _one(subject, quiet=call.json)
            documents.append(document)
            codes.append(code)
    calls.note(**(documents[0] if len(subjects) == 1 else {"targets": documents}))
    return next((code for code in codes if code), 0)


def _subjects(call: Call) -> list[rehearsal.Subject]:
    directory, database, version = call.values.string("dir"), call.values.string("database"), call.values.integer("server")
    given = list(call.arguments) or [word for word in (invocation.configured(os.environ, "DRIVER"),) if word]
    if not given:
        raise errors.UsageError("what is to be tested?", hint="greylag test @/service, or greylag -dir DIR test postgres")
    if not given[0].startswith("@"):
        return [_plain(given, directory, database, version)]
    found = fleet.load()
    chosen = {target.label: target for expression in given for target in targets.select(found, expression)}
    if directory and len(chosen) > 1:
        raise errors.UsageError("-dir is of one service", code="bad-target", hint="name one: @/service")
    return [subject_of(target, directory, database, version) for target in chosen.values()]


def subject_of(target: fleet.Target, directory: str, database: str, version: int) -> rehearsal.Subject:
    """Returns a service of the fleet, as it is in its environment."""
    where = directory or targets.near(target.directory)
    return rehearsal.Subject(f"@{target.label}", target.engine, where, database or target.database, version, target)


def _plain(words: list[str], directory: str, database: str, version: int) -> rehearsal.Subject:
    if len(words) > 1 or words[0] not in ENGINES:
        raise errors.UsageError(
            f'"{" ".join(words)}" is neither a target nor a driver',
            hint="greylag test @/service, or greylag -dir DIR test postgres (or clickhouse); no address: the server is an embedded one",
        )
    directory = directory or invocation.configured(os.environ, "MIGRATION_DIR") or invocation.DEFAULT_DIRECTORY
    return rehearsal.Subject(directory, ENGINES[words[0]], directory, database or DATABASE, version)


def _one(subject: rehearsal.Subject, *, quiet: bool) -> tuple[int, dict[str, object]]:
    record = rehearsal.Record(subject)
    failure: errors.GreylagError | None = None
    try:
        rehearsal.rehearse(subject, record)
    except (errors.Interrupted, errors.TimedOut):
        raise
    except errors.GreylagError as error:
        failure = error
    code = int(failure.exit_code) if failure else 0
    document: dict[str, object] = {"verb": "test", **record.document(), "exit_code": code}
    if not quiet:
        edge.show(_text(record))
    for path in record.irreversible:
        edge.say(f"warning: {path}: no statement takes this migration back, so the way down ends above it [missing-down]")
    if failure:
        document["error"] = failure.document()
        edge.say(failure.describe())
    return code, document


def _text(record: rehearsal.Record) -> str:
    server = {Engine.POSTGRES: "PostgreSQL", Engine.CLICKHOUSE: "ClickHouse"}[record.subject.engine]
    head = f"{record.subject.label}: {record.migrations} migration(s) on {server} {record.server}".rstrip()
    rows = [
        (f"  {item.name}", str(item.migrations) if item.name != "verify" else "", f"{item.seconds:.2f} s", item.result)
        for item in record.phases
    ]
    return f"{head}\n{edge.table(rows[0], rows[1:])}" if rows else head


VERB = VerbEntry(
    "test",
    run,
    "runs all migrations up, down and up again on an embedded server and compares the schemas",
    arguments="[@/SERVICE …|DRIVER]",
    flags=(
        Flag("dir", "string", "", "directory of migration files, instead of a service's; with a driver in place of a target"),
        Flag("database", "string", "", f"name of the database (default: the service's, or {DATABASE})"),
        *SERVER,
    ),
)
