"""`version`: the current version, as goose walks its table. Reads only."""

from __future__ import annotations

from migrator.cli.session import Session
from migrator.planning import selection


def run(session: Session) -> int:
    """Prints the current version; with `-no-versioning` the newest file's."""
    if session.values.boolean("no-versioning"):
        session.error_prefix = "failed to collect migrations: "
        migrations = session.load()
        session.log(f"goose: file version {migrations.newest}")
        session.document["file_version"] = migrations.newest
        return 0
    with session.open() as database:
        history = database.read_history()
    selection.require_row(history)
    session.log(f"goose: version {history.current}")
    session.document.update({"current": history.current, "newest": history.newest, "table_exists": history.exists})
    return 0
