"""`version`: the current version, as goose walks its table. Reads only."""

from __future__ import annotations

from migrator import errors
from migrator.cli.session import Session


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
    if history.current < 0:
        raise errors.AsGoose(
            "no next version found",
            code="no-row",
            hint=f"table {history.table} has no applied row, not even version 0: restore row 0 "
            f"(INSERT INTO {history.table} (version_id, is_applied) VALUES (0, true))",
        )
    session.log(f"goose: version {history.current}")
    session.document.update({"current": history.current, "newest": history.newest, "table_exists": history.exists})
    return 0
