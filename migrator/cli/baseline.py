"""`baseline`: makes what another tool applied provable, or adopts a database that never had a version table.

Without `-to`: records the checksums of the present files for versions that goose applied. With `-to VERSION`: first writes the history rows of
all files up to VERSION that have none, running nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from migrator import errors, planning
from migrator.cli.session import Session
from migrator.history import Fact, History
from migrator.targets import Target, Verb

if TYPE_CHECKING:
    from datetime import datetime

    from migrator import databases, files


def run(session: Session) -> int:
    """Records. Raises FileError when the directory is empty, LockUnavailable while another run works on the database."""
    migrations = session.load()
    limit = session.values.integer("to") if "to" in session.values.given else None
    if limit is not None and migrations.by_version(limit) is None:
        raise errors.UsageError(
            f"no file has the version {limit}",
            code="unknown-version",
            hint=f"the newest file is {migrations.newest}; look for a typing error",
        )
    with session.open() as database:
        marked: list[int] = []
        if limit is not None:
            marked = _mark(session, database, migrations, limit)
        with database.lock(session.listen):
            history = database.ensure_history() if marked else database.read_history()
            facts = _facts(history, migrations)
            if facts:
                database.record_facts(facts)
        history = database.read_history()
    recorded = sorted({fact.version for fact in facts} | set(marked))
    without_file = sorted(set(history.unproven))
    session.document.update({"marked_as_applied": marked, "recorded": recorded, "unproven": without_file, "current": history.current})
    session.own(f"recorded {len(recorded)} version(s)" + (f", {len(marked)} of them newly marked as applied" if marked else ""))
    if without_file:
        session.own(f"not recorded, because this directory lacks their files: {', '.join(map(str, without_file))}")
    return 0


def _mark(session: Session, database: databases.Database, migrations: files.MigrationSet, limit: int) -> list[int]:
    """Writes history rows without running anything: the plan of `up-to`, its steps emptied. One path for real and for marked versions."""
    target = Target(Verb.UP_TO, version=limit, allow_missing=True)
    with database.lock(session.listen):
        history = database.ensure_history()
        plan = planning.plan(
            migrations,
            history,
            target,
            engine=database.engine,
            policy=replace(session.policy, accept_hazards=True, accept_changed=True),
            env=session.invocation.env,
        )
        empty = tuple(replace(step, statements=(), hazards=()) for step in plan.steps)
        if empty:
            database.execute(replace(plan, steps=empty), empty, lambda event: None)
    return [step.version for step in empty]


def _facts(history: History, migrations: files.MigrationSet) -> list[Fact]:
    """Facts for applied versions that have a file and no fact yet; the name of who records them comes from the database's options."""
    from migrator import databases

    found = []
    for version in history.unproven:
        file = migrations.by_version(version)
        if file is None or file.kind == "go":
            continue
        found.append(fact_of(history, file, migrations.digest(), databases.default_actor()))
    return found


def fact_of(history: History, file: files.MigrationFile, bundle: str, actor: str) -> Fact:
    """The fact that ties a version's living row to the present content of its file."""
    row = history.newest_rows[file.version]
    moment: datetime = row.tstamp
    content = file.read()
    return Fact(
        version=file.version,
        row_identity=row.identity,
        name=file.name,
        checksum=file.checksum(),
        size=len(content),
        bundle=bundle,
        down_text=content,
        run_id="baseline",
        applied_by=actor,
        applied_at=moment,
        seconds=0.0,
    )
