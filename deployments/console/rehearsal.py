"""All of a directory's migrations up, down and up again on an embedded server, and what that proves about them.

A file without a Down can't be taken back, so the way down ends above the newest one of those. What the way down leaves behind is a fault: it
is looked for migration by migration then, on a second server, so that the message can name the file and the line of its Down section.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from deployments.console import embedded
from migrator import applying, databases, errors, targets, verification
from migrator.goose import annotations as migration_text
from migrator.planning import files, planner
from migrator.targets import Direction, Target, Verb

if TYPE_CHECKING:
    from deployments.console.embedded import Difference, Embedded
    from tasks import fleet

FIRST_DIFFERENCES = 20
"""Differences that a message lists: the first ones lead to the cause, a hundred more hide it."""


@dataclass(frozen=True)
class Subject:
    """What is rehearsed. `target` is the service of a fleet, None for a plain directory, whose ENVSUB reads the process environment."""

    label: str
    engine: targets.Engine
    directory: str
    database: str
    version: int = 0
    target: fleet.Target | None = None

    @property
    def owner_role(self) -> str:
        """Returns the role that runs take after login."""
        return self.target.owner_role if self.target else ""


@dataclass(frozen=True, slots=True)
class Phase:
    """One leg of the way: how many migrations it ran, and how long it took."""

    name: str
    migrations: int
    seconds: float
    result: str = ""


@dataclass
class Record:
    """What happened so far; complete when no error was raised."""

    subject: Subject
    server: str = ""
    migrations: int = 0
    irreversible: list[str] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)

    def document(self) -> dict[str, object]:
        """Returns the record as JSON-ready data."""
        return {
            "target": self.subject.label,
            "engine": str(self.subject.engine),
            "server": self.server,
            "directory": self.subject.directory,
            "migrations": self.migrations,
            "without_down": self.irreversible,
            "phases": [
                {"name": item.name, "migrations": item.migrations, "seconds": round(item.seconds, 3), "result": item.result}
                for item in self.phases
            ],
        }


def load(subject: Subject) -> files.MigrationSet:
    """Loads the subject's files. Raises FileError, also when there are none."""
    found = files.load(subject.directory)
    if not found.migrations:
        raise errors.FileError(
            "no migration files found",
            code="no-migration-files",
            where=errors.Location(subject.directory),
            hint=f"`greylag -dir {subject.directory} create NAME sql` writes a first one",
        )
    return found


@contextmanager
def opened(subject: Subject) -> Iterator[tuple[Embedded, databases.Database, Mapping[str, str] | None]]:
    """Starts a fresh server, its database opened as a run would, and what ENVSUB reads there."""
    from tasks import migration

    with embedded.started(subject.engine, subject.database, version=subject.version, owner_role=subject.owner_role) as server:
        env = migration.substitutions(subject.target, server.credentials) if subject.target else None
        options = databases.Options(service=subject.target.service if subject.target else "greylag", owner_role=subject.owner_role)
        with databases.open_database(server.driver, server.url, options) as database:
            yield server, database, env


def migrate(database: databases.Database, migrations: files.MigrationSet, wanted: Target, env: Mapping[str, str] | None) -> int:
    """Plans and applies; how many migrations were run. Raises as both do."""
    made = planner.plan(migrations, database.read_history(), wanted, engine=database.engine, env=env, recall=database.read_down_text)
    return len(applying.apply(database, made, env=env).finished)


def rehearse(subject: Subject, record: Record) -> None:
    """Runs up, verify, down, up again; fills the record as it goes.

    Raises:
        VerificationFailed: `down-incomplete` (something is left behind or missing after the way down), `schema-differs`, or as `verify`.
        And whatever a run raises: ParseError, PlanRefused, StatementRejected with file and line.
    """
    migrations = load(subject)
    record.migrations = len(migrations.migrations)
    base = _bottom(migrations, record)
    with opened(subject) as (server, database, env):
        record.server = server.version
        if base:
            _leg(record, f"up to {base}", database, migrations, Target(Verb.UP_TO, version=base), env)
        bottom = server.snapshot()
        _leg(record, "up", database, migrations, Target(Verb.UP), env)
        top = server.snapshot()
        _verify(record, database, migrations)
        if base == migrations.newest:
            return
        _leg(record, f"down to {base}", database, migrations, Target(Verb.DOWN_TO, version=base), env)
        left = embedded.differences(bottom, server.snapshot())
        _told(record, f"{len(left)} object(s) not as before" if left else "nothing left behind")
        if not left:
            _leg(record, "up again", database, migrations, Target(Verb.UP), env)
            other = embedded.differences(top, server.snapshot())
            _told(record, "another schema" if other else "the same schema")
            if other:
                raise _differs(other)
            return
    raise _incomplete(subject, migrations, base, left)


def _bottom(migrations: files.MigrationSet, record: Record) -> int:
    """Finds the newest version without a statement in Down, 0 where every file has one. Raises ParseError."""
    for file in migrations.migrations:
        if file.kind != "go" and not migration_text.parse(file.read(), Direction.DOWN, path=file.path).statements:
            record.irreversible.append(file.path)
    names = set(record.irreversible)
    return max((file.version for file in migrations.migrations if file.path in names), default=0)


def _leg(
    record: Record, name: str, database: databases.Database, migrations: files.MigrationSet, wanted: Target, env: Mapping[str, str] | None
) -> None:
    began = time.monotonic()
    count = migrate(database, migrations, wanted, env)
    record.phases.append(Phase(name, count, time.monotonic() - began))


def _told(record: Record, result: str) -> None:
    """Records what the last leg led to."""
    record.phases[-1] = replace(record.phases[-1], result=result)


def _verify(record: Record, database: databases.Database, migrations: files.MigrationSet) -> None:
    began = time.monotonic()
    found = verification.verify(database, migrations)
    found.raise_for_failure()
    record.phases.append(Phase("verify", 0, time.monotonic() - began, f"{found.checked} object(s) as recorded"))


_WORDS = {"added": "left behind", "removed": "missing afterwards", "changed": "changed"}


def _listed(found: list[Difference], words: Mapping[str, str]) -> str:
    lines: list[str] = []
    for item in found[:FIRST_DIFFERENCES]:
        lines += [f"{words[item.kind]}: {item.subject}", *(f"    {line}" for line in item.lines)]
    if len(found) > FIRST_DIFFERENCES:
        lines.append(f"… and {len(found) - FIRST_DIFFERENCES} more")
    return "\n".join(lines)


def _differs(found: list[Difference]) -> errors.VerificationFailed:
    words = {"added": "only the second time", "removed": "only the first time", "changed": "otherwise"}
    return errors.VerificationFailed(
        f"the second way up makes another schema than the first: {found[0].subject} (objects that differ: {len(found)})",
        code="schema-differs",
        hint="a migration depends on what was there before, or on time or chance: name what it makes",
        detail=_listed(found, words),
    )


def _incomplete(subject: Subject, migrations: files.MigrationSet, base: int, left: list[Difference]) -> errors.VerificationFailed:
    """Returns the error for what the way down did not take back, with the first migration that is to blame."""
    file, own = _culprit(subject, migrations, base) or (None, left)
    first = own[0]
    name = file.name if file else "the way down"
    told = {
        "added": f"the Down of {name} leaves {first.subject} behind",
        "removed": f"the Down of {name} takes {first.subject} away, which was there before its Up",
        "changed": f"the Down of {name} leaves {first.subject} changed",
    }[first.kind]
    return errors.VerificationFailed(
        told if file else told.replace("the Down of ", ""),
        code="down-incomplete",
        where=_down_of(file) if file else errors.Location(subject.directory),
        hint="Down must take back what Up did, no more and no less; if nothing can, leave Down without statements",
        detail=_listed(left, _WORDS),
    )


def _culprit(subject: Subject, migrations: files.MigrationSet, base: int) -> tuple[files.MigrationFile, list[Difference]] | None:
    """Finds the first migration whose own Down does not lead back to where its Up began; None when only several together don't."""
    with opened(subject) as (server, database, env):
        if base:
            migrate(database, migrations, Target(Verb.UP_TO, version=base), env)
        before = server.snapshot()
        for file in migrations.migrations:
            if file.version <= base:
                continue
            one = Target(Verb.UP_BY_ONE)
            migrate(database, migrations, one, env)
            above = server.snapshot()
            migrate(database, migrations, Target(Verb.DOWN), env)
            found = embedded.differences(before, server.snapshot())
            if found:
                return file, found
            migrate(database, migrations, one, env)
            before = above
    return None


def _down_of(file: files.MigrationFile) -> errors.Location:
    statements = migration_text.parse(file.read(), Direction.DOWN, path=file.path).statements
    return errors.Location(file.path, statements[0].first_line if statements else None)
