"""`status`: every file and when it was applied, as goose prints it. Reads only: a database without goose's table keeps being one."""

from __future__ import annotations

from migrator import standing
from migrator.cli import text
from migrator.cli.session import Session
from migrator.errors import ExitCode
from migrator.planning import journal, selection
from migrator.planning.files import MigrationSet
from migrator.planning.history import History


def run(session: Session) -> int:
    """Prints the status. Returns 3 with `-exit-code` when migrations are pending, else 0."""
    session.error_prefix = "failed to collect migrations: "
    migrations = session.load()
    if session.values.boolean("no-versioning"):
        for line in text.STATUS_HEAD:
            session.log(line)
        for item in migrations.migrations:
            session.log(text.status_line("no versioning", item.name))
        session.document["migrations"] = [{"version": item.version, "name": item.name} for item in migrations.migrations]
        return 0
    session.error_prefix = "failed to ensure DB version: "
    with session.open() as database:
        history = database.read_history()
        entries = database.read_journal()
    selection.require_row(history)
    document = show(session, history, migrations)
    left = journal.unfinished(entries, history.applied)
    for part in left:
        doubt = ", the next one may be" if part.unknown else ""
        session.own(f"half-way {part.direction}: version {part.version}, {part.done} statement(s) are done{doubt} [half-applied]")
    document["half_applied"] = [
        {"version": part.version, "direction": str(part.direction), "done": part.done, "unknown": part.unknown} for part in left
    ]
    session.document.update(document)
    return int(ExitCode.PENDING) if document["pending"] and session.values.boolean("exit-code") else 0


def show(session: Session, history: History, migrations: MigrationSet) -> dict[str, object]:
    """Prints goose's status lines and returns the same as JSON-ready data."""
    found = standing.status(history, migrations)
    for line in text.STATUS_HEAD:
        session.log(line)
    for entry in found:
        session.log(text.status_line(text.ansic(entry.applied_at) if entry.applied_at else "Pending", entry.name))
    foreign = sorted(set(history.applied) - {entry.version for entry in found})
    if foreign:
        session.own(f"applied, but not in this directory: {', '.join(map(str, foreign))}")
    facts = history.living_facts
    changed = migrations.changed(facts)
    if changed:
        session.own(f"changed after they were applied: {', '.join(map(str, changed))} [checksum-changed]")
    return {
        "current": history.current,
        "pending": [entry.version for entry in found if entry.applied_at is None],
        "not_in_directory": foreign,
        "changed": list(changed),
        "migrations": [
            {
                "version": entry.version,
                "name": entry.name,
                "state": "applied" if entry.applied_at else "pending",
                "applied_at": entry.applied_at,
                "recorded": entry.version in facts,
            }
            for entry in found
        ],
    }
