"""`baseline`: makes what another tool applied provable, or adopts a database that never had a version table.

Without `-to`: records the checksums of the present files for versions that goose applied, and the objects that are there (PostgreSQL). With `-to
VERSION`: first writes the history rows of all files up to VERSION that have none, running nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator import errors
from migrator.cli.engine_calls import EngineCall
from migrator.planning import planner
from migrator.planning.history import Fact, History

if TYPE_CHECKING:
    from datetime import datetime

    from migrator import databases
    from migrator.planning import files


def run(call: EngineCall) -> int:
    """Records. Raises FileError when the directory is empty, LockUnavailable while another run works on the database."""
    migrations = call.load()
    limit = call.values.integer("to") if "to" in call.values.given else None
    if limit is not None and migrations.by_version(limit) is None:
        raise errors.UsageError(
            f"no file has the version {limit}",
            code="unknown-version",
            hint=f"the newest file is {migrations.newest}; look for a typing error",
        )
    marked: list[int] = []
    with call.open() as database:
        with database.lock(call.listen):
            if limit is not None:
                marked = _mark(database, migrations, limit)
            history = database.read_history()
            facts = _facts(history, migrations)
            database.record_facts(facts)
            schema = database.record_schema() if history.exists else ""
        history = database.read_history()
    recorded = sorted({fact.version for fact in facts} | set(marked))
    go = [item.version for item in migrations.migrations if item.kind == "go" and item.version in history.applied]
    without_file = sorted(history.unproven)
    call.document.update(
        {"marked_as_applied": marked, "recorded": recorded, "go": go, "unproven": without_file, "current": history.current}
    )
    call.own(f"recorded {len(recorded)} version(s)" + (f", {len(marked)} of them newly marked as applied" if marked else ""))
    if schema:
        call.own(schema)
    if not history.applied and limit is None:
        call.own("nothing is applied according to the version table; a schema that another tool made is adopted with -to VERSION")
    for version in go:
        file = migrations.by_version(version)
        call.own(f"{file.path if file else version}: a Go migration: its file is recorded, what it did can't be checked or taken back")
    if without_file:
        call.own(f"not recorded, because this directory lacks their files: {', '.join(map(str, without_file))}")
    return 0


def _mark(database: databases.Database, migrations: files.MigrationSet, limit: int) -> list[int]:
    """Writes history rows without running anything: one path for what ran and for what is marked."""
    plan = planner.adopting(migrations, database.ensure_history(), limit, engine=database.engine)
    if plan.steps:
        database.execute(plan, plan.steps, lambda event: None)
    return [step.version for step in plan.steps]


def _facts(history: History, migrations: files.MigrationSet) -> list[Fact]:
    """Facts for applied versions that have a file and no fact yet; the name of who records them comes from the database's options."""
    from migrator import databases

    found = (migrations.by_version(version) for version in history.unproven)
    return [fact_of(history, file, migrations.digest(), databases.default_actor()) for file in found if file is not None]


def fact_of(history: History, file: files.MigrationFile, bundle: str, actor: str) -> Fact:
    """The fact that ties a version's living row to the present content of its file. Raises ParseError for a note that can't be read."""
    from migrator.goose import notes

    row = history.newest_rows[file.version]
    moment: datetime = row.tstamp
    content = file.read()
    is_go = file.kind == "go"  # its text could never be run, so it isn't kept
    return Fact(
        version=file.version,
        row_identity=row.identity,
        name=file.name,
        checksum=file.checksum(),
        size=len(content),
        bundle=bundle,
        down_text=b"" if is_go else content,
        run_id="baseline",
        applied_by=actor,
        applied_at=moment,
        seconds=0.0,
        oldest_app=None if is_go else notes.parse(content, path=file.path).oldest_app,
    )
